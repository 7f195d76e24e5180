# A crash at a named point of each verb (test/stop_points only).
#
#  1. Killed before its commit, wherever that is, a verb leaves nothing: tokens,
#     cutoffs, blocks, trail and verdicts are what they were, and the same call
#     then does what it should.
#  2. Killed after its commit and before the acknowledgement, it leaves
#     everything: the change, its audit row and the verdicts.
#  3. After each crash: every token has the one audit row that tells of its birth,
#     no token has two successors, and the cache is empty.
#  4. A replay that is recorded and not answered is handed out by the next call.
#     Killed in a validation, nothing changes.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

# No worker: nothing but the verbs changes anything.
my $node = new_node('kill', conf => "synchronous_commit = off\nwal_writer_delay = 10s\n");
workers_at_next_start($node, 0);
$node->restart;
$node->safe_psql('postgres', q{
	SET synchronous_commit = on;
	INSERT INTO token_rotation.policy (name, overlap_starts) VALUES ('waits', 'first_use');
	INSERT INTO token_rotation.policy (name, delivery) VALUES ('sealed', 'sealed')});

my @held;     # first tokens; looking at their successors would be to use them
my $kills = 0;

# Everything that is stored, and what all tokens are worth.
sub state
{
	my $tokens = join(', ', map { literal($_) } @held, 'none');

	return value($node, qq(
		SELECT coalesce(string_agg(t::text, E'\n' ORDER BY token_id), '') FROM token_rotation.token t;
		SELECT coalesce(string_agg(w::text, E'\n' ORDER BY token_id), '') FROM token_rotation.pending w;
		SELECT coalesce(string_agg(c::text, E'\n' ORDER BY c), '') FROM token_rotation.cutoff c;
		SELECT coalesce(string_agg(b::text, E'\n' ORDER BY b), '') FROM token_rotation.blocked_client b;
		SELECT coalesce(string_agg(d::text, E'\n' ORDER BY d), '') FROM token_rotation.delivery d;
		SELECT coalesce(string_agg(a::text, E'\n' ORDER BY seq), '') FROM token_rotation.audit a;
		SELECT string_agg(reason, ' ' ORDER BY ord) FROM tr_validate_many(ARRAY[$tokens])));
}

# Run a statement that dies at a point, and wait until the server is back.
sub dies_at
{
	my ($point, $sql) = @_;
	my $checkpointer = pid_of($node, 'checkpointer');
	my ($status) = $node->psql('postgres', "SET token_rotation.kill_at = '$point'; $sql");

	$kills++;
	return 0 if $status == 0;
	return $node->poll_query_until('postgres',
		"SELECT pid <> $checkpointer FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
}

# What must hold after every crash.
sub sound
{
	return value($node, q{
		SELECT concat_ws(', ',
			(SELECT count(*) || ' tokens without one birth' FROM token_rotation.token t
			 WHERE (SELECT count(*) FROM token_rotation.audit a
					WHERE a.event = 'issued' AND a.token_ref = sha256(uuid_send(t.token_id))
					   OR a.event = 'rotated' AND a.successor_ref = sha256(uuid_send(t.token_id))) <> 1
			 HAVING count(*) > 0),
			(SELECT count(*) || ' with two successors' FROM (
				SELECT FROM token_rotation.token WHERE predecessor_id IS NOT NULL
				GROUP BY predecessor_id HAVING count(*) > 1) d HAVING count(*) > 0),
			(SELECT count(*) || ' rotations for delivery without one' FROM token_rotation.audit a
			 JOIN token_rotation.token t ON a.successor_ref = sha256(uuid_send(t.token_id))
			 WHERE a.reason = 'sealed' AND NOT EXISTS (SELECT FROM token_rotation.delivery d WHERE d.token_id = t.token_id)
			 AND NOT EXISTS (SELECT FROM token_rotation.cutoff c WHERE c.before > t.issued_at)
			 HAVING count(*) > 0),
			(SELECT count(*) || ' in the cache' FROM token_rotation.token_cache HAVING count(*) > 0))});
}

# The verbs.  prepare makes what the verb needs, in the hash that is handed in;
# then the statement, with :key for a value of that hash; what the trail then has
# of this client; the verdicts of the tokens in the hash.
my $one = sub { my ($h) = @_; $h->{old} = issue($node, "'$h->{client}', 'internal'"); };
my $two = sub {
	my ($h, $more) = @_;
	$one->($h);
	$h->{new} = rotate($node, $h->{old}{token}, $more);
};
my $waits = sub {
	my ($h) = @_;
	$h->{old} = issue($node, "'$h->{client}', 'waits'");
	$h->{new} = rotate($node, $h->{old}{token});
};
my $ended = sub { $two->($_[0], "overlap => '0'"); };
my $lost = sub { $two->($_[0]); $node->safe_psql('postgres', 'DELETE FROM token_rotation.token_cache'); };
my $blocked = sub { my ($h) = @_; $one->($h); value($node, "SELECT tr_block_client('$h->{client}')"); };
my $dead = sub { my ($h) = @_; $one->($h); value($node, "SELECT tr_revoke('$h->{old}{token}')"); };
my $due = sub {
	my ($h) = @_;
	$one->($h);
	$node->safe_psql('postgres', "SET synchronous_commit = on; UPDATE token_rotation.token SET refresh_at = issued_at WHERE token_id = '$h->{old}{token_id}'");
};
my $public_key = literal(slurp_file("$FindBin::RealBin/../../public_key.asc"));
my $sealed = sub {
	my ($h) = @_;
	$h->{old} = issue($node, "'$h->{client}', 'sealed'");
	$node->safe_psql('postgres', "SET synchronous_commit = on; SELECT tr_set_delivery_key('$h->{client}', $public_key);"
		. " UPDATE token_rotation.token SET refresh_at = issued_at WHERE token_id = '$h->{old}{token_id}'");
};
my $started = sub { my ($h) = @_; $due->($h); value($node, 'SELECT tr_rotate_due()'); };
my %verb = (
	issue => [ sub { }, "tr_issue(':client')", 'issued', {} ],
	rotate => [ $one, "tr_rotate(':old')", 'issued rotated', { old => 'ok' } ],
	start => [ $due, 'tr_rotate_due()', 'issued rotation_started', { old => 'ok' } ],
	claim => [ $started, "tr_rotate(':old')", 'issued rotation_started rotated', { old => 'ok' } ],
	use => [ $waits, "tr_rotate(':new')", 'issued rotated first_used rotated', { old => 'ok', new => 'ok' } ],
	deliver => [ $sealed, 'tr_rotate_due()', 'issued delivery_key_changed rotated', { old => 'ok' } ],
	rotate_id => [ $one, "tr_rotate_id(':old_id', '0')", 'issued rotated', { old => 'overlap_ended' } ],
	reissue => [ $lost, "tr_rotate(':old')", 'issued rotated reissued', { old => 'ok', new => 'bad_secret' } ],
	revoke => [ $one, "tr_revoke(':old')", 'issued revoked', { old => 'revoked' } ],
	revoke_family => [
		$two, "tr_revoke_id(':old_id', NULL, true)",
		'issued rotated revoked revoked', { old => 'revoked', new => 'revoked' }
	],
	revoke_client => [ $one, "tr_revoke_client(':client')", 'issued cutoff', { old => 'cutoff' } ],
	block => [ $one, "tr_block_client(':client')", 'issued blocked', { old => 'blocked' } ],
	unblock => [ $blocked, "tr_block_client(':client', false)", 'issued blocked unblocked', { old => 'ok' } ],
	cancel => [
		$two, "tr_cancel_rotation(':old_id')", 'issued rotated rotation_cancelled',
		{ old => 'ok', new => 'revoked' }
	],
	extend => [ $two, "tr_extend_overlap(':old_id', '1 minute')", 'issued rotated overlap_extended', { old => 'ok' } ],
	finish => [ $two, "tr_finish_overlap(':old_id')", 'issued rotated overlap_finished', { old => 'overlap_ended', new => 'ok' } ],
	sweep => [ $ended, 'tr_sweep()', 'issued rotated overlap_ended', { old => 'overlap_ended', new => 'ok' } ],
	prune => [ $dead, "tr_prune(clock_timestamp())", 'issued revoked', { old => 'unknown' } ],
	revoke_policy => [ $one, "tr_revoke_policy('internal')", 'issued', { old => 'cutoff' } ],
	revoke_before => [ $one, 'tr_revoke_before(clock_timestamp())', 'issued', { old => 'cutoff' } ],
);

# A verb with what it needs prepared.
my $clients = 0;

sub prepared
{
	my ($name) = @_;
	my ($prepare, $sql, $events, $verdicts) = @{ $verb{$name} };
	my $h = { client => "$name " . $clients++ };

	$prepare->($h);
	push @held, $h->{old}{token} if $h->{old};
	$sql =~ s/:old_id/$h->{old}{token_id}/;
	$sql =~ s/:old/$h->{old}{token}/;
	$sql =~ s/:new/$h->{new}{token}/;
	$sql =~ s/:client/$h->{client}/;
	return ($h, "SELECT * FROM $sql", $events, $verdicts);
}

# Is what the verb does done, and recorded?
sub done_is
{
	my ($name, $h, $events, $verdicts) = @_;

	is( value($node, qq(SELECT string_agg(event, ' ' ORDER BY seq) FROM token_rotation.audit
			WHERE client_id = '$h->{client}')),
		$events, "$name: the trail tells of it");
	verdicts_are($node, "$name: the verdicts",
		[ map { [ $h->{$_}{token}, $verdicts->{$_} ] } sort keys %$verdicts ])
	  if %$verdicts;
	return;
}

# 1. Before the commit

my %before = (
	before_commit => [
		qw(rotate revoke issue rotate_id reissue revoke_family block unblock cancel extend finish sweep prune
		  revoke_client revoke_policy revoke_before start claim use deliver)
	],
	window_half => ['start'],
	first_use_half => ['use'],
	rotate_half => [qw(rotate rotate_id claim use deliver)],
	rotate_made => [qw(rotate rotate_id claim use deliver)],
	deliver_half => ['deliver'],
	revoke_half => [qw(revoke revoke_family)],
	sweep_selected => ['sweep'],
	sweep_half => ['sweep'],
	reissue_half => ['reissue'],
	precommit_locked => [qw(rotate issue)],
	cutoff_locked => [qw(revoke_client revoke_policy revoke_before)],
);
my %after = (
	after_commit => $before{before_commit},
	cutoff_in_doubt => [qw(revoke_client block unblock revoke_policy revoke_before)],
);
if ($ENV{TR_QUICK})
{
	splice @{ $before{$_} }, $_ eq 'before_commit' ? 2 : 1 for keys %before;
	splice @{ $after{$_} }, $_ eq 'after_commit' ? 2 : 1 for grep { $_ ne 'after_commit' } keys %after;
}

for my $point (sort keys %before)
{
	for my $name (@{ $before{$point} })
	{
		my ($h, $sql, $events, $verdicts) = prepared($name);
		my $state = state();

		ok(dies_at($point, $sql), "$name: killed at $point, and the server is back");
		is(state(), $state, "$name: nothing of it is left");
		is(sound(), '', "$name: everything is sound");
		$node->safe_psql('postgres', $sql);
		done_is($name, $h, $events, $verdicts);
	}
}

# 2. After the commit

for my $point (sort keys %after)
{
	for my $name (@{ $after{$point} })
	{
		my ($h, $sql, $events, $verdicts) = prepared($name);

		ok(dies_at($point, $sql), "$name: killed at $point, and the server is back");
		is(sound(), '', "$name: everything is sound");
		done_is($name, $h, $events, $verdicts);
	}
}

# 4. A replay and a validation

my ($h) = prepared('cancel');
my $state = state();
ok(dies_at('replay_recorded', "SELECT * FROM tr_rotate('$h->{old}{token}')"),
	'a replay: killed at replay_recorded, and the server is back');
is(state(), $state, 'nothing of it is left');
my $again = rotate($node, $h->{old}{token});
ok($again->{reason} eq 'ok' && $again->{token_id} eq $h->{new}{token_id}, 'the next call gets the same successor');
verdicts_are($node, 'which is good', [ [ $again->{token}, 'ok' ] ]);
for my $point (qw(validate_found cutoff_generation_read))
{
	$state = state();
	ok(dies_at($point, "SELECT * FROM tr_validate('$h->{old}{token}')"),
		"a validation: killed at $point, and the server is back");
	is(state(), $state, 'nothing has changed');
}

note("tried: $kills crashes at stop points, "
	  . scalar(keys %before) . ' points before a commit, '
	  . scalar(keys %after) . ' after one');
done_testing();

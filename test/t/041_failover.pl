# What a failover to a standby does to those who are at work.
#
#  1. Promotion under load: clients that validate without a break, on sessions
#     that outlive it, get no wrong answer before, meanwhile and after; a cutoff,
#     a block and a revocation that the new primary acknowledges hold for these
#     sessions, too; so do tokens that it issues and rotates.
#  2. Synchronous failover, with synchronous_commit = on, remote_apply, and off in
#     the session: the primary is stopped in the midst of issuing, rotating and
#     revoking; all that was acknowledged is there after the promotion, with one
#     successor each and an audit row for everything.
#  3. With remote_apply an acknowledged revocation holds on the standby at once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $quick = $ENV{TR_QUICK} // 0;
my $acknowledged = 0;

sub standby_of
{
	my ($from, $name) = @_;

	$from->backup($name);
	my $standby = PostgreSQL::Test::Cluster->new($name);
	$standby->init_from_backup($from, $name, has_streaming => 1);
	$standby->start;
	# a commit, so that the standby knows how far it is
	value($from, 'SELECT pg_current_xact_id()');
	$from->wait_for_catchup($standby, 'replay', $from->lsn('insert'));
	return $standby;
}

# 1. Promotion under load

my $primary = new_node('primary', streaming => 1, conf => "token_rotation.worker_nap = '500ms'\n");
my %token = map { $_ => issue($primary, "'$_'") } qw(live revoked blocked cut ended later stopped held);
value($primary, "SELECT tr_revoke('$token{revoked}{token}')");
value($primary, "SELECT tr_block_client('blocked')");
value($primary, "SELECT tr_revoke_client('cut')");
rotate($primary, $token{ended}{token}, "overlap => '0'");
my $standby = standby_of($primary, 'standby');

# A wrong answer is a division by zero, which ends the client.
my %expected = (live => 'ok', revoked => 'revoked', blocked => 'blocked', cut => 'cutoff', ended => 'overlap_ended');
my $script = $standby->basedir . '/validate.pgbench';
append_to_file($script, join('',
	map { "SELECT 1 / (reason = '$expected{$_}')::int FROM tr_validate('$token{$_}{token}');\n" } sort keys %expected));
my ($out, $err) = ('', '');
my $load = IPC::Run::start(
	[ 'pgbench', '-n', '-h', $standby->host, '-p', $standby->port, '-c', 4, '-j', 1,
		'-T', $quick ? 5 : 10, '-f', $script, 'postgres' ],
	'<', \undef, '>', \$out, '2>', \$err,
	IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

# a session with an old snapshot, and one that has looked, too
my %session = map { $_ => $standby->background_psql('postgres') } qw(old new);
$session{old}->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM token_rotation.token');
my $look = 'SELECT string_agg(reason, \' \' ORDER BY ord) FROM tr_validate_many(ARRAY['
  . join(', ', map { literal($token{$_}{token}) } qw(live revoked later stopped held)) . '])';
is($session{$_}->query_safe($look), 'ok revoked ok ok ok', "$_: before") for sort keys %session;
poll($standby, 'the clients are at work',
	"SELECT count(*) = 4 FROM pg_stat_activity WHERE query LIKE 'SELECT 1 /%'");

$primary->stop('immediate');
$standby->promote;
is($session{$_}->query_safe($look), 'ok revoked ok ok ok', "$_: after the promotion") for sort keys %session;
value($standby, "SELECT tr_revoke('$token{later}{token}')");
is($session{$_}->query_safe($look), 'ok revoked revoked ok ok', "$_: a revocation holds") for sort keys %session;
value($standby, "SELECT tr_block_client('stopped')");
is($session{$_}->query_safe($look), 'ok revoked revoked blocked ok', "$_: a block") for sort keys %session;
value($standby, "SELECT tr_revoke_client('held')");
is($session{$_}->query_safe($look), 'ok revoked revoked blocked cutoff', "$_: a cutoff") for sort keys %session;
value($standby, "SELECT tr_block_client('stopped', false)");
is($session{$_}->query_safe($look), 'ok revoked revoked ok cutoff', "$_: a block is taken back") for sort keys %session;
wait_trusted($standby, $token{live}{token}, 'the cache is filled');
is($session{$_}->query_safe($look), 'ok revoked revoked ok cutoff', "$_: with the cache") for sort keys %session;
my $new = issue($standby, "'new'");
my $next = rotate($standby, $new->{token}, "overlap => '0'");
for my $name (sort keys %session)
{
	is($session{$name}->query_safe("SELECT reason FROM tr_validate('$new->{token}')"), 'overlap_ended',
		"$name: a new token that was rotated");
	is($session{$name}->query_safe("SELECT reason FROM tr_validate('$next->{token}')"), 'ok', "$name: its successor");
}
$session{old}->query_safe('COMMIT');
$_->quit for values %session;
$load->finish;
my ($transactions) = $out =~ /transactions actually processed: (\d+)/;
ok($load->result == 0 && $err !~ /ERROR|aborted/, 'no client got a wrong answer or an error') or diag("$out\n$err");
cmp_ok($transactions // 0, '>', 0, 'and they did validate');
$transactions = ($transactions // 0) * keys %expected;
$standby->stop;

# 2. Synchronous failover

my $n = $quick ? 300 : 1000;
for my $level ('on', 'remote_apply', 'off')
{
	# nobody but who is acknowledged flushes the WAL
	my $first = new_node("first_$level", streaming => 1,
		conf => "token_rotation.worker_nap = '1h'\nwal_writer_delay = '10s'\n");
	my $held = $first->safe_psql('postgres', qq{
		SELECT 'revoke', token FROM generate_series(1, $n) g, tr_issue('revoke ' || g);
		SELECT 'rotate', token FROM generate_series(1, $n) g, tr_issue('rotate ' || g)});
	my %held = (revoke => [ $held =~ /^revoke\|(\S+)$/mg ], rotate => [ $held =~ /^rotate\|(\S+)$/mg ]);
	my $second = standby_of($first, "second_$level");

	set_conf($first, synchronous_standby_names => "second_$level");
	poll($first, "$level: the standby is synchronous",
		"SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication");

	# one client for each verb; what it has printed was acknowledged
	my %sql = (
		revoke => [ map { "SELECT 'revoke', '$_', tr_revoke('$_');" } @{ $held{revoke} } ],
		rotate => [ map { "SELECT 'rotate', '$_', token FROM tr_rotate('$_');" } @{ $held{rotate} } ],
		issue => [ map { "SELECT 'issue', '', token FROM tr_issue('issued $_');" } 1 .. $n ]);
	my (%client, %answer);
	for my $verb (sort keys %sql)
	{
		my $file = $first->basedir . "/$verb.sql";
		append_to_file($file, "SET synchronous_commit = $level;\n" . join("\n", @{ $sql{$verb} }) . "\n");
		$answer{$verb} = '';
		$client{$verb} = IPC::Run::start(
			[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $first->connstr('postgres'), '-f', $file ],
			'<', \undef, '>', \$answer{$verb}, '2>', \my $ignored,
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	}
	$first->poll_query_until('postgres', q{
		SELECT count(*) FILTER (WHERE event = 'revoked') > 40 AND count(*) FILTER (WHERE event = 'rotated') > 40
		FROM token_rotation.audit}) or die 'the clients do not work';
	$first->stop('immediate');
	eval { $_->finish } for values %client;
	$second->promote;

	my (@expected, @bad);
	for my $line (grep { /\|/ } map { split /\n/ } values %answer)
	{
		my ($verb, $old, $new) = split /\|/, $line;
		push @expected, $verb eq 'revoke' ? [ $old, 'revoked' ] : [ $new, 'ok' ];
	}
	my @reasons = split / /, value($second,
		"SELECT string_agg(reason, ' ' ORDER BY ord) FROM tr_validate_many(ARRAY["
		  . join(', ', map { literal($_->[0]) } @expected) . '])');
	$expected[$_][1] eq $reasons[$_] or push @bad, "$expected[$_][1]: $reasons[$_]" for 0 .. $#expected;
	cmp_ok(scalar(@expected), '>', 80, "$level: many were acknowledged");
	is_deeply(\@bad, [], "$level: everything that was acknowledged is there");
	$acknowledged += @expected;
	is( value($second, q{
			SELECT count(*) FROM token_rotation.token t
			WHERE (SELECT count(*) FROM token_rotation.audit a
				   WHERE a.event = 'issued' AND a.token_ref = sha256(uuid_send(t.token_id))
					  OR a.event = 'rotated' AND a.successor_ref = sha256(uuid_send(t.token_id))) <> 1
				OR (status = 'revoked') <> EXISTS (SELECT FROM token_rotation.audit a
				   WHERE a.event = 'revoked' AND a.token_ref = sha256(uuid_send(t.token_id)))}),
		'0', "$level: every change has its audit row, and every row its change");
	is( value($second, q{
			SELECT count(*) FROM token_rotation.token p WHERE (p.status IN ('rotating', 'expired'))
				<> ((SELECT count(*) FROM token_rotation.token s WHERE s.predecessor_id = p.token_id) = 1)}),
		'0', "$level: every rotation is whole");
	$second->stop;
}

# 3. remote_apply

my $third = new_node('third', streaming => 1);
my @tokens = map { issue($third, "'app'") } 1 .. 40;
my $fourth = standby_of($third, 'fourth');
set_conf($third, synchronous_standby_names => 'fourth');
poll($third, 'the standby is synchronous', "SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication");
my ($writer, $reader) = map { $_->background_psql('postgres') } $third, $fourth;
$writer->query_safe('SET synchronous_commit = remote_apply');
my %seen;
for my $token (@tokens)
{
	$writer->query_safe("SELECT tr_revoke('$token->{token}')");
	$seen{ $reader->query_safe("SELECT reason FROM tr_validate('$token->{token}')") }++;
}
is_deeply(\%seen, { revoked => scalar @tokens }, 'remote_apply: acknowledged here, revoked there');
$_->quit for $writer, $reader;

note("tried: $transactions validations through a promotion, $acknowledged acknowledged changes through a failover");
done_testing();

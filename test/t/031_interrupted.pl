# Every verb interrupted while it waits for a lock that it needs.
#
#  1. Each verb, and each edit of a policy or a risk rule, by each lock that makes it wait: of a
#     table, of rows, and, where a new token has to look at the cutoffs again, of
#     the cutoffs at COMMIT.  Ended there by lock_timeout, statement_timeout,
#     pg_cancel_backend and pg_terminate_backend: an error, nothing is written,
#     nothing stays locked, and the same call works then.
#  2. What changes something waits for the trail, so it was interrupted with
#     everything but its audit row written; each of the locks was waited for.
#  3. A session that idles in the middle of a rotation: ended, and the token can
#     be rotated again.
#  4. All of them are done at last, and the server never restarted.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Hostile;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use TokenRotation;

# The cache is filled by a worker; then none comes between.
my $node = new_node('interrupted', conf => "token_rotation.leeway = 0\n");
$node->poll_query_until('postgres',
	'SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL')
  or die 'the cache was not filled';
workers_at_next_start($node, 0);
$node->restart;
my $started = value($node, 'SELECT pg_postmaster_start_time()');

$node->safe_psql('postgres', q{
	CREATE ROLE shop;
	CREATE ROLE elsewhere;
	CREATE ROLE app LOGIN;
	SELECT tr_grant('app', p, 'shop') FROM unnest('{validator,issuer,operator,auditor}'::text[]) p;
	ALTER ROLE app SET token_rotation.realm = shop;
	INSERT INTO token_rotation.policy (name) VALUES ('edited'), ('unused');
	INSERT INTO token_rotation.policy (name, min_ttl) VALUES ('weighed', '1 hour');
	INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES
		('weighed', 'history', 'refusals', 30), ('weighed', 'history', 'dormancy', 30);
	INSERT INTO token_rotation.policy (name, delivery) VALUES ('sealed', 'sealed')});

# Tokens of the realm.
sub made
{
	my ($query) = @_;

	return row($node, $query, undef, q(SET token_rotation.realm = 'shop'));
}
my $plain = made(q{SELECT * FROM tr_issue('plain')});
my $keyed = made(q{SELECT * FROM tr_issue('keyed', 'partner')});
my $family = made(q{SELECT i.* FROM tr_issue('family') i, tr_rotate(i.token) r});
my $open = made(q{SELECT i.* FROM tr_issue('open') i, tr_rotate(i.token) r});
my $dead = made(q{SELECT i.* FROM tr_issue('dead') i, tr_revoke(i.token) x});
made(q{SELECT tr_block_client('blocked'), tr_issue('due', ttl => '1 second')});
my $public_key = literal(slurp_file("$FindBin::RealBin/../public_key.asc"));
made(qq{SELECT tr_set_delivery_key('keyed', $public_key), tr_issue('keyed', 'sealed')});
$node->safe_psql('postgres', "UPDATE token_rotation.token SET refresh_at = issued_at WHERE policy = 'sealed'");
made(q{SELECT * FROM tr_rotate_due()});
made(q{SELECT tr_issue('to start')});
$node->safe_psql('postgres', "UPDATE token_rotation.token SET refresh_at = issued_at WHERE client_id = 'to start'");
poll($node, 'a token is due',
	"SELECT expires_at < clock_timestamp() FROM token_rotation.token WHERE client_id = 'due'");

# The verbs: what to call, as whom, and the answer.
my @verbs = (
	[ tr_validate => "SELECT reason FROM tr_validate('$plain->{token}')", 'app', 'ok' ],
	[ tr_validate_many => "SELECT string_agg(reason, ' ') FROM tr_validate_many('{$plain->{token},$dead->{token}}')",
		'app', 'ok revoked' ],
	[ tr_effective_status => "SELECT status FROM token_rotation.tokens WHERE client_id = 'plain'", 'app', 'active' ],
	[ tr_issue => q{SELECT owner FROM tr_issue('new', 'partner')}, 'app', 'shop' ],
	[ 'tr_issue, weighed' => q{SELECT owner FROM tr_issue('plain', 'weighed')}, 'app', 'shop' ],
	[ tr_explain_ttl => q{SELECT count(*) FROM tr_explain_ttl('plain', 'weighed')}, 'app', '3' ],
	[ tr_rotate => "SELECT reason, replayed FROM tr_rotate('$keyed->{token}', '$keyed->{rotation_key}')", 'app', 'ok|f' ],
	[ 'tr_rotate, again' => "SELECT reason, replayed FROM tr_rotate('$open->{token}')", 'app', 'ok|t' ],
	[ tr_rotate_id => "SELECT reason FROM tr_rotate_id('$plain->{token_id}')", 'app', 'ok' ],
	[ tr_rotate_due => 'SELECT coalesce(sum(started), 0) FROM tr_rotate_due()', 'app', '1' ],
	[ tr_revoke => "SELECT tr_revoke('$plain->{token}')", 'app', 't' ],
	[ 'tr_revoke, family' => "SELECT tr_revoke('$family->{token}', 'all', true)", 'app', 't' ],
	[ tr_revoke_id => "SELECT tr_revoke_id('$family->{token_id}', 'all', true)", 'app', '2' ],
	[ tr_revoke_client => q{SELECT tr_revoke_client('plain') IS NOT NULL}, 'app', 't' ],
	[ tr_revoke_policy => q{SELECT tr_revoke_policy('internal') IS NOT NULL}, 'app', 't' ],
	[ tr_revoke_before => q{SELECT tr_revoke_before('2001-01-01') IS NOT NULL}, 'app', 't' ],
	[ tr_block_client => q{SELECT tr_block_client('plain')}, 'app', 't' ],
	[ 'tr_block_client, off' => q{SELECT tr_block_client('blocked', false)}, 'app', 't' ],
	[ tr_extend_overlap => "SELECT tr_extend_overlap('$open->{token_id}', '1 minute') IS NOT NULL", 'app', 't' ],
	[ tr_finish_overlap => "SELECT tr_finish_overlap('$family->{token_id}')", 'app', 't' ],
	[ tr_cancel_rotation => "SELECT tr_cancel_rotation('$open->{token_id}')", 'app', 't' ],
	[ tr_set_delivery_key => "SELECT tr_set_delivery_key('plain', $public_key) IS NOT NULL", 'app', 't' ],
	[ tr_drop_delivery_key => "SELECT tr_drop_delivery_key('keyed')", 'app', 't' ],
	[ tr_deliveries => 'SELECT count(*) FROM tr_deliveries()', 'app', '1' ],
	[ tr_sweep => 'SELECT tr_sweep()', 'app', '1' ],
	[ tr_prune => 'SELECT tr_prune(clock_timestamp())', 'app', '1' ],
	[ tr_grant => q{SELECT tr_grant('elsewhere', 'operator', 'shop')}, undef, '' ],
	[ tr_ungrant => q{SELECT tr_ungrant('app', 'auditor')}, undef, '' ],
	[ tr_set_owner => q{SELECT tr_set_owner('shop', 'elsewhere') > 5}, undef, 't' ],
	[ 'insert a policy' => q{INSERT INTO token_rotation.policy (name) VALUES ('inserted') RETURNING name}, undef, 'inserted' ],
	[ 'update a policy' => q{UPDATE token_rotation.policy SET ttl = '2 hours' WHERE name = 'edited' RETURNING name},
		undef, 'edited' ],
	[ 'delete a policy' => q{DELETE FROM token_rotation.policy WHERE name = 'unused' RETURNING name}, undef, 'unused' ],
	[ 'insert a rule' => q{INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score)
		VALUES ('edited', 'scope', 'a', 1) RETURNING policy}, undef, 'edited' ],
	[ 'update a rule' => q{UPDATE token_rotation.risk_rule SET score = 20 WHERE pattern = 'refusals' RETURNING policy},
		undef, 'weighed' ],
	[ 'delete a rule' => q{DELETE FROM token_rotation.risk_rule WHERE pattern = 'dormancy' RETURNING policy}, undef,
		'weighed' ]);
my %reads = map { $_ => 1 } qw(tr_validate tr_validate_many tr_effective_status tr_explain_ttl), 'tr_rotate, again';
# tr_sweep records an expired token without an audit row
my %no_trail = (%reads, tr_sweep => 1);
# what somebody else holds is left for the next time
my %skips_locked = map { $_ => 1 } qw(tr_sweep tr_prune tr_rotate_due);
my %looks_again = map { $_ => 1 } qw(tr_issue tr_rotate tr_rotate_id), 'tr_issue, weighed';

# The locks.
my %locks = (
	'token' => 'LOCK TABLE token_rotation.token',
	'token_cache' => 'LOCK TABLE token_rotation.token_cache',
	'audit' => 'LOCK TABLE token_rotation.audit',
	'cutoff' => 'LOCK TABLE token_rotation.cutoff, token_rotation.blocked_client',
	'policy' => 'LOCK TABLE token_rotation.policy',
	'risk_rule' => 'LOCK TABLE token_rotation.risk_rule',
	'rows of token' => 'SELECT count(*) FROM (SELECT 1 FROM token_rotation.token FOR UPDATE) x',
	'rows of token_cache' => 'SELECT count(*) FROM (SELECT 1 FROM token_rotation.token_cache FOR UPDATE) x',
	'the cutoffs at COMMIT' => q{SELECT tr_revoke_client('somebody else')});
my $at_commit = 'the cutoffs at COMMIT';

# A call of a verb in a transaction, the settings before it.
sub script
{
	my ($verb, $end, $settings) = @_;
	my (undef, $sql, $role) = @$verb;

	return "SET application_name = 'victim';"
	  . ($role ? "SET SESSION AUTHORIZATION $role; SET token_rotation.realm = shop;" : '')
	  . ($settings // '') . "BEGIN; $sql; $end;";
}

# Run it to its end; its SQLSTATE, or what it answered.
sub run
{
	my ($verb, $end, $settings) = @_;
	my ($status, $out, $err) = $node->psql('postgres', script($verb, $end, $settings),
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);

	return $status == 0 ? $out : $err =~ /(?:ERROR|FATAL):\s+(\w{5})/ ? $1 : $err;
}

# Start it, and when it waits for a lock, end it by this function.
sub run_and_end
{
	my ($verb, $function) = @_;
	my ($in, $out, $err) = (script($verb, 'COMMIT') . "\n\\q\n", '', '');
	my $waits = "SELECT count($function(pid)) FROM pg_stat_activity"
	  . " WHERE application_name = 'victim' AND wait_event_type = 'Lock'";
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres') ],
		'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	while (value($node, $waits) eq '0')
	{
		$psql->pump_nb;
		last unless $psql->pumpable;
		Time::HiRes::usleep(5_000);
	}
	$psql->finish;
	return $err =~ /(?:ERROR|FATAL):\s+(\w{5})/ ? $1 : "$out$err";
}

# 1. Every verb, every lock, every end

my ($interrupted, %waited, %waited_for) = (0);
my $before = digest($node);
for my $lock (sort keys %locks)
{
	my $locker = $node->background_psql('postgres');

	for my $verb (@verbs)
	{
		my ($name, undef, undef, $answer) = @$verb;
		my $end = $lock eq $at_commit && $looks_again{$name} ? 'COMMIT' : 'ROLLBACK';
		my %state;

		$locker->query_safe("BEGIN; $locks{$lock}");
		$state{lock_timeout} = run($verb, $end, q(SET lock_timeout = '20ms';));
		if ($state{lock_timeout} ne '55P03')
		{
			# it needs no such lock
			$locker->query_safe('ROLLBACK');
			is($state{lock_timeout}, $lock eq 'rows of token' && $skips_locked{$name} ? '0' : $answer,
				"$name passes by $lock");
			next;
		}
		$waited{$name}{$lock} = $waited_for{$lock} = 1;
		# (it is not certain to wait for the lock by then)
		# (the server stops the clock of statement_timeout before it commits)
		$state{statement_timeout} =
		  $end eq 'COMMIT' ? '57014' : run($verb, 'COMMIT', q(SET statement_timeout = '50ms';));
		$state{$_} = run_and_end($verb, $_) for qw(pg_cancel_backend pg_terminate_backend);
		$locker->query_safe('ROLLBACK');
		$interrupted += 4;
		is_deeply(
			\%state,
			{
				lock_timeout => '55P03',
				statement_timeout => '57014',
				pg_cancel_backend => '57014',
				pg_terminate_backend => '57P01'
			},
			"$name waits for $lock: an error at every end");
		is(digest($node), $before, "$name at $lock: nothing is written");
		is(run($verb, 'ROLLBACK', q(SET lock_timeout = '60s';)), $answer, "$name works after $lock");
	}
	$locker->quit;
}
is(digest($node), $before, 'nothing has changed');

# 2. Where they waited

ok($waited{ $_->[0] }{audit}, "$_->[0] was interrupted at its audit row") for grep { !$no_trail{ $_->[0] } } @verbs;
ok($waited{ $_->[0] }, "$_->[0] was interrupted") for @verbs;
ok($waited{$_}{$at_commit}, "$_ was interrupted at COMMIT") for sort keys %looks_again;
ok($waited_for{$_}, "something waited for $_") for sort keys %locks;

# 3. Idle in the middle of a rotation

my $idle = $node->background_psql('postgres', on_error_stop => 0);
$idle->query_safe("SET idle_in_transaction_session_timeout = '100ms'");
$idle->query_until(qr/ok/, "BEGIN; SELECT reason FROM tr_rotate('$plain->{token}');\n");
poll($node, 'the idle session is ended',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'");
is(digest($node), $before, 'idle in the middle of a rotation: nothing is written');
is(rotate($node, $plain->{token})->{replayed}, JSON::PP::false, 'and the token is rotated by the next one');
eval { $idle->quit };

# 4. All are done at last

# Plain is rotating by now, and family is revoked by its token first, so that
# some have nothing left to do, and one has more.
my %last = (tr_rotate_id => 'replay_ended', tr_revoke_id => '0', tr_finish_overlap => 'f');
my %more = (tr_effective_status => "rotating\nactive", tr_prune => '4');
for my $verb (@verbs)
{
	my ($name, undef, undef, $answer) = @$verb;
	my $state = digest($node);

	is(run($verb, 'COMMIT'), $last{$name} // $more{$name} // $answer, "$name at last");
	isnt(digest($node), $state, "$name changes something") unless $reads{$name} || exists $last{$name};
}
is(value($node, 'SELECT pg_postmaster_start_time()'), $started, 'the server has not restarted');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC/, 'and no process crashed');
note("tried: $interrupted calls interrupted, of " . @verbs . ' verbs at ' . keys(%locks) . ' locks');
done_testing();

# A streaming standby, its promotion, and what leaves the server.
#
#  1. The standby validates, also in READ ONLY and from an old snapshot, by the
#     table: the cache does not exist there.  It runs no launcher.
#  2. Every writing verb is refused there with 25006, and in a READ ONLY
#     transaction on the primary.
#  3. A revocation on the primary holds there once replayed, also for an old
#     REPEATABLE READ snapshot.
#  4. With replay paused the answer is `stale` after max_staleness, and only
#     for well-formed tokens; -1 switches that off; the primary's heartbeat
#     keeps a standby of an idle primary fresh.
#  5. Refused validations are logged there where the setting asks for it, with
#     the token's id and without its secret.  tr_authenticate binds there, too, for
#     the transaction; that it is another client, and a scope that is missing, are
#     logged likewise.
#  6. A synchronous standby is waited for although the session says local or
#     off, by what changes tokens.
#  7. Neither nonces nor secrets are in WAL (also after CREATE DATABASE with the
#     database as its template), in a base backup, in the standby or in a dump,
#     raw or as hex; what must be there is found by the same search.
#  8. After promotion: verdicts hold, the launcher runs, the worker fills the
#     cache and ends windows, tokens are issued, rotated and revoked; a replay
#     across the failover gets the same successor with a new secret, or
#     replay_ended when it was used.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use File::Find ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $primary = new_node('primary',
	streaming => 1,
	conf => "shared_buffers = '16MB'\ntoken_rotation.worker_nap = '1s'\nautovacuum = off\n");

# windows that are open stay so, however slow the machine is
value($primary, q{
	UPDATE token_rotation.policy SET overlap = '2 hours', replay_window = '2 hours'
	WHERE name IN ('default', 'partner');
	INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score, within)
	SELECT 'default', 'history', k, 10, '100 years' FROM unnest('{dormancy,refusals}'::text[]) k});

my $live = issue($primary, "'needle-client', scopes => '{read}', metadata => '{\"a\": 1}'");
my $rotated = issue($primary, "'rotated'");
my $unused = rotate($primary, $rotated->{token});
my $old = issue($primary, "'old', 'partner'");
my $used = rotate($primary, $old->{token}, "'$old->{rotation_key}'");
my $revoked = issue($primary, "'revoked'");
value($primary, "SELECT tr_revoke('$revoked->{token}')");
my $blocked = issue($primary, "'blocked'");
value($primary, "SELECT tr_block_client('blocked')");
my @many = map { issue($primary, "'many'") } 1 .. 20;
my @next = map { rotate($primary, $_->{token}) } @many;
is(verdict($primary, $used->{token}), 'ok', 'a successor is used');
poll($primary, 'and its first use stored',
	"SELECT first_used_at IS NOT NULL FROM token_rotation.token WHERE token_id = '$used->{token_id}'");
my @nonces = split /\n/, value($primary, q{
	SELECT encode(nonce, 'hex') FROM token_rotation.token_cache WHERE nonce IS NOT NULL});
is(scalar @nonces, 22, 'so many nonces are open');

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# a commit after the backup, so that the standby knows the primary's time
my $late = issue($primary, "'late'");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

# 1. The standby validates

my @verdicts = (
	[ $live->{token}, 'ok' ],
	[ $rotated->{token}, 'ok' ],
	[ $unused->{token}, 'ok' ],
	[ $used->{token}, 'ok' ],
	[ $late->{token}, 'ok' ],
	[ $revoked->{token}, 'revoked' ],
	[ $blocked->{token}, 'blocked' ],
	[ $old->{rotation_key}, 'bad_secret' ],
	[ 'trk_none', 'malformed' ]);
verdicts_are($standby, 'the standby says what the primary says', \@verdicts);
is_deeply(validate($standby, $live->{token}), validate($primary, $live->{token}),
	'down to every column');
is( $standby->safe_psql('postgres',
		"BEGIN READ ONLY; SELECT reason FROM tr_validate('$live->{token}'); COMMIT"),
	'ok', 'also in READ ONLY');
level_is($standby, $live->{token}, 'token', 'by the table');
is(sqlstate_of($standby, 'SELECT * FROM token_rotation.token_cache'), '0A000', 'there is no cache');
is(pid_of($standby, 'token_rotation launcher'), '0', 'and no launcher');
is(sqlstate_of($standby, 'SELECT * FROM token_rotation.audit, token_rotation.policy'), '00000',
	'the trail and the policies can be read');
is(value($standby, q{SELECT string_agg(concat_ws(' ', pattern, matched), ', ') FROM tr_explain_ttl('rotated') WHERE kind = 'history'}),
	'dormancy f, refusals f', 'and risk is explained');

# 2. Writing verbs

my @writing = (
	"tr_issue('c')", "tr_rotate('$live->{token}')",
	"tr_rotate('junk')", "tr_rotate_id('$live->{token_id}')",
	"tr_revoke('$live->{token}')", "tr_revoke('junk')",
	"tr_revoke_id('$live->{token_id}')", "tr_revoke_client('c')",
	"tr_revoke_policy('default')", 'tr_revoke_before(now())',
	"tr_block_client('c')", "tr_extend_overlap('$rotated->{token_id}', '1 second')",
	"tr_finish_overlap('$rotated->{token_id}')", "tr_cancel_rotation('$rotated->{token_id}')",
	'tr_sweep()', 'tr_prune(now())',
	"tr_grant('postgres', 'issuer')", "tr_ungrant('postgres', 'issuer')",
	"tr_set_owner('a', 'b')");
my $before = value($primary, 'SELECT count(*) FROM token_rotation.audit');
for my $call (@writing)
{
	like(error_of($standby, "SELECT * FROM $call"),
		qr/^25006: cannot execute tr_\w+\(\) during recovery/, "standby: $call");
	like(error_of($primary, "BEGIN READ ONLY; SELECT * FROM $call"),
		qr/^25006: cannot execute tr_\w+\(\) in a read-only transaction/, "READ ONLY: $call");
}
is(value($primary, 'SELECT count(*) FROM token_rotation.audit'), $before, 'nothing was written');

# 3. A revocation

my $session = $standby->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM token_rotation.token');
is($session->query_safe("SELECT reason FROM tr_validate('$late->{token}')"), 'ok',
	'an old snapshot on the standby: valid');
value($primary, "SELECT tr_revoke('$late->{token}')");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(verdict($standby, $late->{token}), 'revoked', 'revoked on the primary: the standby says so');
is($session->query_safe("SELECT reason FROM tr_validate('$late->{token}')"), 'revoked',
	'also to the old snapshot');
$session->query_safe('COMMIT');
$session->quit;
$verdicts[4] = [ $late->{token}, 'revoked' ];

# 4. Staleness

$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
poll($standby, 'replay is paused', "SELECT pg_get_wal_replay_pause_state() = 'paused'");
value($primary, "SELECT tr_revoke('$live->{token}')");
is(verdict($standby, $live->{token}), 'ok', 'not stale yet');
set_conf($standby, 'token_rotation.max_staleness' => '1s');
poll($standby, 'stale after max_staleness',
	"SELECT reason = 'stale' AND NOT valid FROM tr_validate('$live->{token}')");
my $stale = validate($standby, $live->{token});
is_deeply(
	[ map { $stale->{$_} } qw(client_id owner policy scopes metadata status valid_until) ],
	[ (undef) x 7 ],
	'which tells nothing of the token');
verdicts_are($standby, 'malformed stays malformed',
	[ [ 'trk_none', 'malformed' ], [ $revoked->{token}, 'stale' ] ]);
set_conf($standby, 'token_rotation.max_staleness' => '-1');
is(verdict($standby, $live->{token}), 'ok', 'switched off: the last state that is known');
set_conf($standby, 'token_rotation.max_staleness' => '5min');
is(verdict($standby, $live->{token}), 'ok', 'or a longer one');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
poll($standby, 'replay goes on, and the revocation is there',
	"SELECT reason = 'revoked' FROM tr_validate('$live->{token}')");
$verdicts[0] = [ $live->{token}, 'revoked' ];

# nothing happens on the primary but its heartbeat, every 10 seconds
my $newest = value($standby, 'SELECT pg_last_xact_replay_timestamp()');
poll($standby, 'a heartbeat arrives', "SELECT pg_last_xact_replay_timestamp() > '$newest'");
$newest = value($standby, 'SELECT pg_last_xact_replay_timestamp()');
poll($standby, 'and the next one within 20 seconds', qq{
	SELECT pg_last_xact_replay_timestamp() BETWEEN '$newest'::timestamptz + '1 second'
		AND '$newest'::timestamptz + '20 seconds'});

# 5. Refused validations

my $offset = log_position($standby);
verdict($standby, $revoked->{token});
is(scalar(grep { /token refused/ } logged($standby, $offset)), 0, 'refusals are not logged by default');
set_conf($standby, 'token_rotation.audit_validations' => 'failures');
verdict($standby, $revoked->{token});
verdict($standby, 'trk_none');
like(join("\n", logged($standby, $offset)),
	qr/token refused on a standby: revoked\n.*The token id is $revoked->{token_id}/,
	'they are where the setting asks for it');
unlike(slurp_file($standby->logfile, $offset), qr/\Q$revoked->{token}\E/, 'without the secret');

my ($first, $second) = map { issue($primary, "'$_', scopes => '{read}'") } qw(first second);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$offset = log_position($standby);
is($standby->safe_psql('postgres', qq{
		BEGIN;
		SELECT client_id FROM tr_authenticate('$first->{token}', 'read');
		SELECT tr_client(), tr_has_scope('read'), tr_has_scope('write'), tr_introspect('$first->{token}') ->> 'sub';
		SELECT client_id FROM tr_authenticate('$second->{token}');
		COMMIT;
		SELECT tr_client() IS NULL}), "first\nfirst|t|f|first\nsecond\nt", 'a client is bound for the transaction');
is(sqlstate_of($standby, "SELECT tr_authenticate('$first->{token}', 'write')"), '42501', 'not without the scope');
is(sqlstate_of($standby, "SELECT tr_authenticate('$revoked->{token}')"), '28000', 'and not by a revoked token');
like(join("\n", logged($standby, $offset)),
	qr/identity_changed on a standby: first\n.*$second->{token_id}.*scope_refused on a standby: write\n.*$first->{token_id}/s,
	'logged: another client, a scope that is missing');
unlike(slurp_file($standby->logfile, $offset), qr/\Q@{[substr($first->{token}, 26)]}\E/, 'without the secret');

# 6. A synchronous standby

set_conf($primary, synchronous_standby_names => 'standby');
poll($primary, 'the standby is synchronous',
	"SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication");
my $synced = issue($primary, "'synced'");
$standby->stop;
$session = $primary->background_psql('postgres');
$session->query_safe('SET synchronous_commit = local; CREATE TABLE not_waited_for ()');
my $out = $session->query_until(
	qr/begun/, qq(
	\\echo begun
	BEGIN;
	SELECT tr_revoke('$synced->{token}');
	SET LOCAL synchronous_commit = off;
	COMMIT;
	\\echo ended
));
poll($primary, 'a revocation waits for the standby',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT%'");
$standby->start;
$out .= $session->query_until(qr/ended/, '');
like($out, qr/^t$/m, 'until it is there');
$session->quit;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(verdict($standby, $synced->{token}), 'revoked', 'where the token is revoked');
set_conf($primary, synchronous_standby_names => '');

# 7. What leaves the server

# The secret part of a token text, which follows prefix and id.
sub secret
{
	my ($token) = @_;
	my ($secret) = $token =~ /^[a-z0-9]+_.{22}(.{43})/;
	return $secret;
}

# Which of these byte strings are in the files of a folder?
sub found
{
	my ($folder, @strings) = @_;
	my %found;
	my $any = join('|', map { quotemeta } @strings);

	File::Find::find(
		sub {
			return unless -f $_;
			my $bytes = slurp_file($_);
			$found{$1}++ while $bytes =~ /($any)/g;
		},
		$folder);
	return sort keys %found;
}

my @bytes = map { pack('H*', $_) } @nonces;
my @secrets = map { secret($_) } map { ($_->{token}, $_->{rotation_key} // ()) }
  $live, $rotated, $unused, $old, $used, $revoked, @many, @next;
my @secret_things = (@nonces, @bytes, @secrets);
is(scalar(grep { !defined || length($_) < 32 } @secret_things), 0, 'what is searched for has its length');

# the copy of files also makes the server write the cache's buffers
$primary->safe_psql('postgres', "CREATE DATABASE copied TEMPLATE postgres STRATEGY $_; DROP DATABASE copied")
  for qw(wal_log file_copy);
$primary->safe_psql('postgres', 'VACUUM FULL token_rotation.token_cache');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is_deeply([ found($primary->data_dir . '/base', @bytes) ], [ sort @bytes ],
	'the search finds every nonce where it is: in the file of the cache');
$standby->safe_psql('postgres', 'CHECKPOINT');

my $dump = $primary->basedir . '/dumps';
mkdir $dump;
$primary->command_ok([ 'pg_dump', '-d', $primary->connstr('postgres'), '-f', "$dump/plain" ], 'pg_dump');
$primary->command_ok(
	[ 'pg_dump', '-d', $primary->connstr('postgres'), '-Fc', '-Z0', '-f', "$dump/custom" ], 'pg_dump -Fc');
for my $place (
	[ 'WAL', $primary->data_dir . '/pg_wal' ],
	[ 'a base backup', $primary->backup_dir . '/backup' ],
	[ 'the standby', $standby->data_dir ],
	[ 'a dump', $dump ])
{
	my ($name, $folder) = @$place;

	is_deeply([ found($folder, 'needle-client') ], ['needle-client'], "$name: what must be there is found");
	is_deeply([ found($folder, @secret_things) ], [], "$name: no nonce, no secret");
}
is_deeply([ found($primary->data_dir . '/base', @secrets) ], [], 'the tables: no secret');

# 8. Promotion

my $ending = issue($primary, "'ending'");
set_conf($standby, 'token_rotation.leeway' => '0');
rotate($primary, $ending->{token}, "overlap => '1 second'");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$primary->stop('immediate');
$standby->promote;
verdicts_are($standby, 'promoted: verdicts hold', \@verdicts);
poll($standby, 'the launcher runs',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'token_rotation launcher'");
wait_trusted($standby, $rotated->{token}, 'the cache is filled and answers');
is(nonces($standby), '0', 'without nonces');
verdicts_are($standby, 'verdicts still hold', \@verdicts);
poll($standby, 'the worker ends windows',
	"SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'ending'");

my $again = rotate($standby, $many[0]->{token});
ok($again->{token_id} eq $next[0]->{token_id} && $again->{token} ne $next[0]->{token} && !$again->{replayed},
	'a lost answer across the failover: the same successor, a new secret');
is(audit_count($standby, "event = 'reissued' AND client_id = 'many'"), '1', 'audited');
is(rotate($standby, $old->{token}, "'$old->{rotation_key}'")->{reason},
	'replay_ended', 'unless it was used: replay_ended');
my $made = issue($standby, "'made'");
my $made_next = rotate($standby, $made->{token});
value($standby, "SELECT tr_revoke('$made->{token}')");
verdicts_are($standby, 'issue, rotate and revoke work',
	[ [ $made->{token}, 'revoked' ], [ $made_next->{token}, 'ok' ] ]);

done_testing();

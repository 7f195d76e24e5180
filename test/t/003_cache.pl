# The cache may vanish at any moment, and the nonces with it.
#
#  1. Emptied by TRUNCATE, by DELETE, and row by row behind its back: verdicts
#     are unchanged, on every kind of token; which level answered is asserted
#     through the scans of token_cache_pkey and token_pkey.
#  2. The worker fills it again; what ended meanwhile does not come back.
#  3. While filling is under way and tokens are locked, nothing is revived.
#     A token that a superuser inserts, not yet committed while the worker fills,
#     gets into the cache afterwards.
#     What was left out because it was locked is looked for again, although the
#     worker naps for an hour and nobody asks for it.
#  4. Emptied by a crash: the table answers until the worker has been there.
#  5. A nonce lost inside the replay window, successor unused: the same
#     successor, a new secret, replayed = false, audited as `reissued`; the lost
#     text is dead; asked again it is replayed.  Also with a rotation key.
#  6. The same, successor used: replay_ended, and the successor stays valid.
#  7. A nonce lost through TRUNCATE: likewise.
#  8. A superuser's UPDATE, DELETE and TRUNCATE of token count at once, whatever the
#     cache said; the worker fills what is missing.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $node = new_node('cache',
	conf => "token_rotation.worker_nap = '1h'\ntoken_rotation.leeway = 0\nautovacuum = off\n");

my $complete = q{
	SELECT count(*) = 1 FROM token_rotation.token_cache
	WHERE token_id = '00000000-0000-0000-0000-000000000000'};

# windows that are open stay so, however slow the machine is
value($node, q{
	UPDATE token_rotation.policy SET overlap = '2 hours', replay_window = '2 hours'
	WHERE name IN ('default', 'partner')});

# One token of each kind, first uses stored so that nothing asks for the worker.

my $active = issue($node, "'active', 'partner'");
my $rotated = issue($node, "'rotated'");
my $successor = rotate($node, $rotated->{token});
my $ended = issue($node, "'ended'");
rotate($node, $ended->{token}, "overlap => '0'");
my $revoked = issue($node, "'revoked'");
value($node, "SELECT tr_revoke('$revoked->{token}')");
my $expired = issue($node, "'expired', ttl => '1 second'");
my $cut = issue($node, "'cut'");
value($node, "SELECT tr_revoke_client('cut')");
my $blocked = issue($node, "'blocked'");
value($node, "SELECT tr_block_client('blocked')");
(my $damaged = $active->{token}) =~ s/(.)$/$1 eq 'A' ? 'B' : 'A'/e;

my @verdicts = (
	[ $active->{token}, 'ok' ],
	[ $rotated->{token}, 'ok' ],
	[ $successor->{token}, 'ok' ],
	[ $ended->{token}, 'overlap_ended' ],
	[ $revoked->{token}, 'revoked' ],
	[ $expired->{token}, 'expired' ],
	[ $cut->{token}, 'cutoff' ],
	[ $blocked->{token}, 'blocked' ],
	[ $active->{rotation_key}, 'bad_secret' ],
	[ $damaged, 'malformed' ]);

poll($node, 'a token has expired',
	"SELECT status = 'expired' FROM token_rotation.tokens WHERE client_id = 'expired'");
verdicts_are($node, 'verdicts, cache filled', \@verdicts);
worker_comes($node);
poll($node, 'first uses are stored', q{
	SELECT count(*) = 3 FROM token_rotation.token
	WHERE first_used_at IS NOT NULL AND client_id IN ('active', 'rotated')});
wait_trusted($node, $active->{token}, 'the cache answers for an active token');
level_is($node, $rotated->{token}, 'cache', 'and for a rotating one');
level_is($node, $revoked->{token}, 'cache+token', 'the table for a dead one');

# 1. and 2. Emptied

for my $empty ('TRUNCATE token_rotation.token_cache', 'DELETE FROM token_rotation.token_cache')
{
	my ($how) = $empty =~ /^(\w+)/;

	worker_stays_away($node, $revoked);
	$node->safe_psql('postgres', $empty);
	verdicts_are($node, "verdicts after $how", \@verdicts);
	level_is($node, $active->{token}, 'cache+token', "$how: the table answers");
	is(value($node, 'SELECT count(*) FROM token_rotation.token_cache'),
		'0', "$how: validation fills nothing");
	worker_comes($node);
	poll($node, "$how: the worker fills the cache", $complete);
	level_is($node, $active->{token}, 'cache', "$how: it answers again");
	is( value($node,
			"SELECT string_agg(client_id, ' ' ORDER BY client_id, issued_at) FROM token_rotation.token_cache"),
		'active blocked cut ended rotated rotated',
		"$how: the live ones are there, nobody else");
	verdicts_are($node, "$how: verdicts are the same", \@verdicts);
}
worker_stays_away($node, $revoked);
$node->safe_psql('postgres',
	"DELETE FROM token_rotation.token_cache WHERE token_id = '$active->{token_id}'");
verdicts_are($node, 'verdicts when one row is gone', \@verdicts);
level_is($node, $active->{token}, 'cache+token', 'the table answers for it');
level_is($node, $rotated->{token}, 'cache', 'the cache for the others');

# a change of the token brings its row back, as it is then
my $fresh = rotate($node, $active->{token}, "'$active->{rotation_key}'");
level_is($node, $active->{token}, 'cache', 'a rotation puts the row in again');
value($node, "SELECT tr_revoke_id('$active->{token_id}')");
is(verdict($node, $active->{token}), 'revoked', 'and a revocation takes it out');
is(verdict($node, $fresh->{token}), 'ok', 'the successor lives');

# 3. Filling while tokens are locked

worker_stays_away($node, $revoked);
my $locked = issue($node, "'locked'");
$node->safe_psql('postgres', 'TRUNCATE token_rotation.token_cache');
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN; SELECT tr_revoke('$locked->{token}')");
worker_comes($node);
poll($node, 'the others are filled', q{
	SELECT count(*) = 3 FROM token_rotation.token_cache WHERE client_id IN ('rotated', 'cut')});
is(value($node, $complete), 'f', 'the cache does not count as complete');
is(verdict($node, $locked->{token}), 'ok', 'what is not committed counts for nobody');
$session->query_safe('COMMIT');
$session->quit;
is(verdict($node, $locked->{token}), 'revoked', 'from the commit on it does');
poll($node, 'then the cache is complete', $complete);
is(value($node, "SELECT count(*) FROM token_rotation.token_cache WHERE client_id = 'locked'"),
	'0', 'without the revoked one');
is(verdict($node, $locked->{token}), 'revoked', 'which is not revived');

worker_stays_away($node, $revoked);
$session = $node->background_psql('postgres');
$session->query_safe("BEGIN; SELECT FROM token_rotation.token WHERE client_id = 'rotated' FOR UPDATE");
$node->safe_psql('postgres', 'TRUNCATE token_rotation.token_cache');
worker_stays_away($node, $revoked);
poll($node, 'what nobody holds is filled',
	"SELECT count(*) = 1 FROM token_rotation.token_cache WHERE client_id = 'cut'");
is(value($node, $complete), 'f', 'the cache does not count as complete');
$session->query_safe('ROLLBACK');
$session->quit;
poll($node, 'the worker looks again by itself', $complete);

worker_stays_away($node, $revoked);
$node->safe_psql('postgres', 'TRUNCATE token_rotation.token_cache');
$session = $node->background_psql('postgres');
$session->query_safe(q{
	BEGIN;
	INSERT INTO token_rotation.token (token_id, family_id, prefix, generation, client_id, policy, owner,
		status, secret_hash, scopes, metadata, issued_at, expires_at, refresh_at)
	SELECT id, id, prefix, 0, 'inserted', policy, owner, status, secret_hash, scopes, metadata, issued_at,
		expires_at, refresh_at
	FROM token_rotation.token, gen_random_uuid() id WHERE client_id = 'cut'});
worker_comes($node);
poll($node, 'the worker fills what it sees', $complete);
$session->query_safe('COMMIT');
$session->quit;
poll($node, 'and what was committed afterwards',
	"SELECT count(*) = 1 FROM token_rotation.token_cache WHERE client_id = 'inserted'");
poll($node, 'then it is complete again', $complete);
worker_stays_away($node, $revoked);

# 4. to 6. A crash, after which there is no worker at first.

my $unused = issue($node, "'unused'");
my $unused_next = rotate($node, $unused->{token});
my $keyed = issue($node, "'keyed', 'partner'");
my $keyed_next = rotate($node, $keyed->{token}, "'$keyed->{rotation_key}'");
my $used = issue($node, "'used'");
my $used_next = rotate($node, $used->{token});
is(verdict($node, $used_next->{token}), 'ok', 'a successor is used');
my $cancelled = issue($node, "'cancelled'");
my $cancelled_next = rotate($node, $cancelled->{token});
value($node, "SELECT tr_revoke('$cancelled_next->{token}')");
poll($node, 'its first use is stored',
	"SELECT first_used_at IS NOT NULL FROM token_rotation.token WHERE token_id = '$used_next->{token_id}'");
worker_stays_away($node, $revoked);
cmp_ok(nonces($node), '>=', 4, 'there are nonces');

$node->stop('immediate');
workers_at_next_start($node, 0);
$node->start;
is(value($node, 'SELECT count(*) FROM token_rotation.token_cache'), '0', 'a crash empties the cache');
level_is($node, $rotated->{token}, 'token', 'the table answers');
$verdicts[0] = [ $active->{token}, 'revoked' ];
verdicts_are($node, 'and says the same', \@verdicts);

my $again = rotate($node, $unused->{token});
is($again->{reason}, 'ok', 'unused successor: asked again, an answer');
is($again->{token_id}, $unused_next->{token_id}, 'it is the same successor');
isnt($again->{token}, $unused_next->{token}, 'with a new secret');
ok(!$again->{replayed}, 'which is not called a replay');
is($again->{$_}, $unused_next->{$_}, "$_ is as it was")
  for qw(issued_at expires_at family_id previous_valid_until);
verdicts_are($node, 'the new text is valid, the lost one dead, the old token valid',
	[ [ $again->{token}, 'ok' ], [ $unused_next->{token}, 'bad_secret' ], [ $unused->{token}, 'ok' ] ]);
is(audit_count($node, "client_id = 'unused' AND event = 'reissued' AND successor_ref IS NOT NULL"),
	'1', 'audited as reissued');
is(value($node, "SELECT count(*) FROM token_rotation.tokens WHERE client_id = 'unused'"),
	'2', 'there is one successor');

my $keyed_again = rotate($node, $keyed->{token}, "'$keyed->{rotation_key}'");
ok($keyed_again->{token_id} eq $keyed_next->{token_id}
	  && $keyed_again->{token} ne $keyed_next->{token}
	  && $keyed_again->{rotation_key} ne $keyed_next->{rotation_key},
	'with a rotation key: both are new');
is(rotate($node, $keyed_next->{token}, "'$keyed_next->{rotation_key}'")->{reason},
	'bad_secret', 'the lost pair is dead');
my $keyed_replay = rotate($node, $keyed->{token}, "'$keyed->{rotation_key}'");
ok( $keyed_replay->{replayed}
	  && $keyed_replay->{token} eq $keyed_again->{token}
	  && $keyed_replay->{rotation_key} eq $keyed_again->{rotation_key},
	'asked again it is replayed');
is(rotate($node, $keyed_again->{token}, "'$keyed_again->{rotation_key}'")->{reason},
	'ok', 'and the pair rotates');

my $refused = rotate($node, $used->{token});
is($refused->{reason}, 'replay_ended', 'used successor: replay_ended');
is($refused->{token}, undef, 'and no token');
verdicts_are($node, 'both stay valid', [ [ $used->{token}, 'ok' ], [ $used_next->{token}, 'ok' ] ]);
is(rotate($node, $cancelled->{token})->{reason}, 'revoked', 'revoked successor: revoked');

# with a worker again, the reissued one is used
workers_at_next_start($node, 1);
$node->restart;
worker_comes($node);
wait_trusted($node, $rotated->{token}, 'with a worker the cache answers again');
is(verdict($node, $again->{token}), 'ok', 'the reissued one is used');
poll($node, 'its first use is stored',
	"SELECT first_used_at IS NOT NULL FROM token_rotation.token WHERE token_id = '$again->{token_id}'");
my $replay = rotate($node, $unused->{token});
ok($replay->{replayed} && $replay->{token} eq $again->{token}, 'reissued, then used: still replayed');

# 7. A nonce lost through TRUNCATE

my $emptied = issue($node, "'emptied'");
my $emptied_next = rotate($node, $emptied->{token});
worker_stays_away($node, $revoked);
$node->safe_psql('postgres', 'TRUNCATE token_rotation.token_cache');
$again = rotate($node, $emptied->{token});
ok( $again->{token_id} eq $emptied_next->{token_id}
	  && $again->{token} ne $emptied_next->{token}
	  && !$again->{replayed},
	'TRUNCATE: the same successor, a new secret');
is(rotate($node, $unused->{token})->{reason}, 'replay_ended', 'TRUNCATE: used successor, replay_ended');
$replay = rotate($node, $emptied->{token});
ok($replay->{replayed} && $replay->{token} eq $again->{token}, 'TRUNCATE: asked again, replayed');

# 8. A superuser's hand

worker_comes($node);
poll($node, 'the cache is complete', $complete);
my $hand = issue($node, "'hand'");
my $gone = issue($node, "'hand'");
verdicts_are($node, 'valid', [ [ $hand->{token}, 'ok' ], [ $gone->{token}, 'ok' ] ]);
poll($node, 'first uses are stored', q{
	SELECT count(*) = 2 FROM token_rotation.token
	WHERE first_used_at IS NOT NULL AND client_id = 'hand'});
worker_stays_away($node, $revoked);
$node->safe_psql('postgres', qq{
	UPDATE token_rotation.token SET status = 'revoked', revoked_at = now()
	WHERE token_id = '$hand->{token_id}';
	DELETE FROM token_rotation.token WHERE token_id = '$gone->{token_id}'});
verdicts_are($node, 'revoked and deleted by hand: at once',
	[ [ $hand->{token}, 'revoked' ], [ $gone->{token}, 'unknown' ] ]);
$node->safe_psql('postgres', qq{
	UPDATE token_rotation.token SET status = 'active', revoked_at = NULL
	WHERE token_id = '$hand->{token_id}'});
is(verdict($node, $hand->{token}), 'ok', 'set back by hand: at once');
poll($node, 'the worker is asked to fill what is missing',
	"SELECT count(*) = 1 FROM token_rotation.token_cache WHERE client_id = 'hand'");
level_is($node, $hand->{token}, 'cache', 'and the cache answers');

# emptied and loaded again, as from a backup, with another end
my $reloaded = issue($node, "'reloaded'");
is(verdict($node, $reloaded->{token}), 'ok', 'a token to be reloaded');
$node->safe_psql('postgres', q{
	BEGIN;
	CREATE TEMP TABLE backup AS SELECT * FROM token_rotation.token;
	UPDATE backup SET status = 'revoked', revoked_at = clock_timestamp() WHERE client_id = 'reloaded';
	TRUNCATE token_rotation.token;
	INSERT INTO token_rotation.token SELECT * FROM backup;
	COMMIT});
is(verdict($node, $reloaded->{token}), 'revoked', 'reloaded as revoked: at once');
poll($node, 'the cache is filled again', $complete);
is(verdict($node, $reloaded->{token}), 'revoked', 'and does not revive it');
$node->safe_psql('postgres', 'TRUNCATE token_rotation.token');
is(verdict($node, $hand->{token}), 'unknown', 'what was truncated is unknown at once');

done_testing();

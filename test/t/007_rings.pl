# What reaches the audit trail through shared memory.
#
#  1. A refused rotation and a replay are recorded although the caller rolls
#     back, with what the caller said; everything that a transaction did itself
#     is gone with it.
#  2. Junk is aggregated: one row for each event, reason and role of a round,
#     with the count; no flood of it takes room from proven events.
#  3. A full ring: what did not fit is counted in an events_lost row, proven and
#     junk apart, nothing else is lost, and a replay is refused with 53400; the
#     kinds of junk are bounded too.
#  4. audit_overflow = fail: a refusal that cannot be recorded raises 53400, and
#     is not counted as lost; junk never raises.
#  5. audit_validations: none records none, failures the refused ones (junk
#     aggregated), all also the accepted ones, counted.
#  6. Events of one database are recorded there, and nowhere else.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $size = 64;
my $node = new_node('rings',
	conf => "token_rotation.ring_size = $size\ntoken_rotation.worker_nap = '500ms'\n");

# Rows of the trail, by event and reason, with the sum of their counts.
sub trail
{
	my ($where) = @_;

	return value($node, qq{
		SELECT coalesce(string_agg(event || ' ' || reason || ' ' || n, ', ' ORDER BY event, reason), '')
		FROM (SELECT event, reason, sum(coalesce((detail ->> 'count')::bigint, 1)) AS n
			FROM token_rotation.audit WHERE $where GROUP BY 1, 2) x});
}

# All that is recorded from here on.
sub now_on
{
	return 'seq > ' . value($node, 'SELECT coalesce(max(seq), 0) FROM token_rotation.audit');
}

# A query that calls a function so many times.
sub often
{
	my ($n, $verb, $token) = @_;

	return "SELECT count(r) FROM generate_series(1, $n) g,"
	  . " LATERAL $verb(CASE WHEN g > 0 THEN '$token' END) r";
}

my $dead = issue($node, "'dead'");
my $live = issue($node, "'live'");
value($node, "SELECT tr_revoke('$dead->{token}')");
my $replayed = issue($node, "'replayed'");
my $next = rotate($node, $replayed->{token});
poll($node, 'the cache is complete',
	'SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL');

# 1. The caller rolls back

my $since = now_on();
$node->safe_psql('postgres', qq{
	SET application_name = 'the app';
	BEGIN;
	SELECT tr_rotate('$dead->{token}', origin => '10.0.0.1 trk_012345678901234567890123456789012345');
	SELECT tr_rotate('$replayed->{token}', origin => 'again');
	SELECT tr_rotate('$live->{token}'), tr_issue('never');
	ROLLBACK});
poll($node, 'both are recorded', qq{
	SELECT count(*) = 2 FROM token_rotation.audit WHERE $since AND event IN ('rotation_refused', 'replayed')});
my $superuser = value($node, 'SELECT current_user');
is_deeply(
	row($node, qq{
		SELECT event, client_id, reason, origin, application_name, actor, role, owner,
			token_ref = sha256(uuid_send('$dead->{token_id}')) AS ref
		FROM token_rotation.audit WHERE $since AND event = 'rotation_refused'}),
	{
		event => 'rotation_refused',
		client_id => 'dead',
		reason => 'revoked',
		origin => '10.0.0.1 trk_0123456789012345678901_[redacted]',
		application_name => 'the app',
		actor => $superuser,
		role => $superuser,
		owner => $superuser,
		ref => JSON::PP::true
	},
	'a refusal with who, what, whence and why, masked');
is_deeply(
	row($node, qq{
		SELECT client_id, reason, origin, token_ref = sha256(uuid_send('$replayed->{token_id}')) AS ref,
			successor_ref = sha256(uuid_send('$next->{token_id}')) AS successor
		FROM token_rotation.audit WHERE $since AND event = 'replayed'}),
	{
		client_id => 'replayed',
		reason => 'ok',
		origin => 'again',
		ref => JSON::PP::true,
		successor => JSON::PP::true
	},
	'a replay with its successor');
is(trail($since), 'replayed ok 1, rotation_refused revoked 1', 'and nothing of what was rolled back');

# 2. Junk

(my $bad_secret = $live->{token}) =~ s/^(trk_.{22}).*/$1/;
my $other = issue($node, "'other'");
# the id of one token with the secret of another has a wrong check: malformed
my $malformed = $bad_secret . substr($other->{token}, 26);
my $keyed = issue($node, "'keyed', 'partner'");
my $unknown = value($node, q{
	BEGIN; SELECT token FROM tr_issue('gone'); ROLLBACK});
$node->safe_psql('postgres', q{
	CREATE ROLE issuer; SELECT tr_grant('issuer', 'issuer')});
my $held = hold_audit($node);
$since = now_on();
value($node, often(300, 'tr_rotate', $malformed));
value($node, often(200, 'tr_rotate', $unknown));
value($node, often(100, 'tr_rotate', $keyed->{rotation_key}));
value($node, often(50, 'tr_revoke', $unknown));
value($node, 'SET ROLE issuer; ' . often(7, 'tr_rotate', $unknown));
rotate($node, $dead->{token});
release($held);
# a worker that waited for the lock may have looked before the last of a kind came
poll($node, 'junk is recorded', qq{
	SELECT sum((detail ->> 'count')::integer) = 657 FROM token_rotation.audit WHERE $since AND detail ? 'count'});
is( trail($since),
	'revocation_refused unknown 50, rotation_refused bad_secret 100, rotation_refused malformed 300,'
	  . ' rotation_refused revoked 1, rotation_refused unknown 207',
	'in full count, and the proven event beside it');
is_deeply(
	[ rows($node, qq{
		SELECT role, sum((detail ->> 'count')::integer)::text AS count, client_id, token_ref
		FROM token_rotation.audit WHERE $since AND event = 'rotation_refused' AND reason = 'unknown'
		GROUP BY role, client_id, token_ref ORDER BY role}) ],
	[
		{ role => 'issuer', count => '7', client_id => undef, token_ref => undef },
		{ role => $superuser, count => '200', client_id => undef, token_ref => undef }
	],
	'a row for each role, which names no token');

# 3. A full ring

$held = hold_audit($node);
$since = now_on();
value($node, often($size + 36, 'tr_rotate', $dead->{token}));
like(error_of($node, "SELECT tr_rotate('$replayed->{token}')"),
	qr/^53400: audit ring is full.*DETAIL: .*HINT: .*ring_size/s, 'full: a replay is refused');
value($node, often(1000, 'tr_rotate', $malformed));
is(verdict($node, $live->{token}), 'ok', 'validation goes on');
release($held);
poll($node, 'the losses are recorded',
	"SELECT count(*) = 1 FROM token_rotation.audit WHERE $since AND event = 'events_lost'");
is_deeply(
	row($node, "SELECT detail FROM token_rotation.audit WHERE $since AND event = 'events_lost'"),
	{ detail => { proven => 36, junk => 0, usage => 0 } },
	'as many as did not fit');
is(trail("$since AND event <> 'events_lost'"),
	"rotation_refused malformed 1000, rotation_refused revoked $size", 'all others are there');
my $again = rotate($node, $replayed->{token});
ok($again->{replayed} && $again->{token} eq $next->{token}, 'with room again, the replay is answered');

# more kinds of junk than there is room for
$node->safe_psql('postgres', q{
	DO $$ BEGIN FOR i IN 1 .. 12 LOOP
		EXECUTE format('CREATE ROLE issuer%s', i);
		PERFORM tr_grant('issuer' || i, 'issuer');
	END LOOP; END $$});
$held = hold_audit($node);
$since = now_on();
my $roles = join('', map {
		"SET ROLE issuer$_; SELECT tr_rotate('$malformed'), tr_rotate('$unknown'), tr_revoke('$malformed'),"
		  . " tr_revoke('$unknown'), tr_rotate('$live->{token}'), tr_revoke('$live->{token}');"
} 1 .. 12);
value($node, $roles);
release($held);
# of another realm, a live token is unknown, too: four kinds for each role
value($node, "SET ROLE issuer1; SELECT tr_rotate('$malformed')");
poll($node, 'the kinds of junk are recorded', qq{
	SELECT count(DISTINCT role) = 12 AND count(*) >= 48
	FROM token_rotation.audit WHERE $since AND detail ? 'count'});

$node->safe_psql('postgres', q{
	DO $$ BEGIN FOR i IN 13 .. 20 LOOP
		EXECUTE format('CREATE ROLE issuer%s', i);
		PERFORM tr_grant('issuer' || i, 'issuer');
	END LOOP; END $$});
$held = hold_audit($node);
$since = now_on();
value($node, join('', map {
	"SET ROLE issuer$_; SELECT tr_rotate('$malformed'), tr_rotate('$unknown'),"
	  . " tr_revoke('$malformed'), tr_revoke('$unknown');"
} 1 .. 20));
release($held);
poll($node, 'those without room are counted', qq{
	SELECT sum((detail ->> 'junk')::int) = 80 - $size FROM token_rotation.audit
	WHERE $since AND event = 'events_lost'});
is(value($node, "SELECT count(*) FROM token_rotation.audit WHERE $since AND detail ? 'count'"),
	$size, 'the others recorded');

# 4. audit_overflow = fail

set_conf($node, 'token_rotation.audit_overflow' => 'fail');
$held = hold_audit($node);
$since = now_on();
value($node, often($size, 'tr_rotate', $dead->{token}));
like(error_of($node, "SELECT tr_rotate('$dead->{token}')"),
	qr/^53400: audit ring is full/, 'fail: the call raises');
is(rotate($node, $malformed)->{reason}, 'malformed', 'junk does not');
release($held);
poll($node, 'with room again', qq{
	SELECT count(*) = $size FROM token_rotation.audit WHERE $since AND reason = 'revoked'});
is(rotate($node, $dead->{token})->{reason}, 'revoked', 'it answers again');
poll($node, 'and records', qq{
	SELECT count(*) = $size + 1 FROM token_rotation.audit WHERE $since AND reason = 'revoked'});
is(audit_count($node, "$since AND event = 'events_lost'"), '0', 'nothing was lost');

# 5. audit_validations

sub look_at_all
{
	verdicts_are($node, 'verdicts', [
		[ $live->{token}, 'ok' ],
		[ $live->{token}, 'ok' ],
		[ $dead->{token}, 'revoked' ],
		[ $unknown, 'unknown' ],
		[ $unknown, 'unknown' ],
		[ $malformed, 'malformed' ] ]);

	# whatever else there is has been recorded before this one
	rotate($node, $dead->{token}, "origin => 'mark $_[0]'");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM token_rotation.audit WHERE origin = 'mark $_[0]'");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'");
	return;
}

$since = now_on();
look_at_all(1);
is(trail($since), 'rotation_refused revoked 1', 'none: no validation is recorded');
set_conf($node, 'token_rotation.audit_validations' => 'failures');
$since = now_on();
look_at_all(2);
poll($node, 'failures: junk is recorded',
	"SELECT sum((detail ->> 'count')::integer) = 3 FROM token_rotation.audit WHERE $since AND detail ? 'count'");
is( trail($since),
	'rotation_refused revoked 1, validation_refused malformed 1, validation_refused revoked 1,'
	  . ' validation_refused unknown 2',
	'failures: the refused ones are');
is(audit_count($node, "$since AND event = 'validated'"), '0', 'failures: accepted ones are not');
set_conf($node, 'token_rotation.audit_validations' => 'all');
$since = now_on();
look_at_all(3);
# acceptances of the stage before may still have been waiting
poll($node, 'all: the accepted ones, counted', qq{
	SELECT sum((detail ->> 'count')::int) BETWEEN 2 AND 6 AND bool_and(client_id = 'live')
	FROM token_rotation.audit WHERE $since AND event = 'validated'});
set_conf($node, 'token_rotation.audit_validations' => 'none', 'token_rotation.audit_overflow' => 'drop');

# 6. Two databases

$node->safe_psql('postgres', 'CREATE DATABASE other');
install($node, 'other');
my $there = issue($node, "'there'", 'other');
value($node, "SELECT tr_revoke('$there->{token}')", 'other');
$since = now_on();
rotate($node, $there->{token}, undef, 'other');
rotate($node, $there->{token});
poll($node, 'the event is recorded in its database', q{
	SELECT count(*) = 1 FROM token_rotation.audit
	WHERE event = 'rotation_refused' AND reason = 'revoked'}, 'other');
poll($node, 'what is unknown in the other one as junk there',
	"SELECT count(*) = 1 FROM token_rotation.audit"
	  . " WHERE $since AND event = 'rotation_refused' AND reason = 'unknown'");
is(audit_count($node, "$since AND reason = 'revoked'"), '0', 'nowhere else');

done_testing();

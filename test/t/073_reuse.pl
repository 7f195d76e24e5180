# A crowd of honest clients is never taken for thieves, and thieves are found
# whatever they do to the transaction.
#
#  1. Honest clients under a policy that ends families: they retry, race with
#     themselves, lose answers, restart from what they stored last, come late with
#     a successor that nobody used.  No reuse, and no token of theirs ends.
#  2. The same crowd with one dishonest copy of each store among them: each is found.
#  3. A thief whose call is rolled back while another session holds the family: the
#     worker does it as soon as it can, and nothing else waits for that.
#     So do events of many tokens that one session holds, and one locked member
#     of a family.
#  4. A backend that is killed in the transaction: the attempt is lost, the next one
#     is found.
#
#   TR_QUICK    1: 2,000 rotations instead of 10,000

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $rotations = $ENV{TR_QUICK} ? 2_000 : 10_000;
my $node = new_node('reuse', conf => "token_rotation.worker_nap = '500ms'\ntoken_rotation.ring_size = 8192\nfsync = off\n");

$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, on_reuse)
	VALUES ('strict', '1 day', '1 hour', '1 hour', 'revoke_family'), ('at once', '1 day', '0', '0', 'revoke_family');
} =~ s/at once/at_once/r);

# --- 1. Honest clients ----------------------------------------------------

# A client is a row: what it has stored.  It stores a successor before it uses it,
# and forgets what it did not store.
$node->safe_psql('postgres', q{
	CREATE TABLE client (n int PRIMARY KEY, token text NOT NULL, before text);
	INSERT INTO client SELECT n, i.token FROM generate_series(1, 40) n, LATERAL tr_issue('honest ' || n, 'strict') i;
	CREATE SEQUENCE rotations;
	CREATE TABLE surprise (n int, what text, reason text);

	-- One thing that a client does.
	CREATE PROCEDURE act(who int, what int) LANGUAGE plpgsql AS $$
	DECLARE
		mine text;
		old text;
		answer record;
		again record;
	BEGIN
		SELECT token, before INTO mine, old FROM client WHERE n = who;
		IF what < 50 THEN
			-- rotate; now and then ask twice, because the answer got lost
			SELECT * INTO answer FROM tr_rotate(mine, origin => 'client ' || who);
			PERFORM nextval('rotations');
			COMMIT;
			IF what < 15 THEN
				SELECT * INTO again FROM tr_rotate(mine, origin => 'client ' || who);
				COMMIT;
				IF answer.reason = 'ok' AND again.reason = 'ok' AND again.token <> answer.token THEN
					INSERT INTO surprise VALUES (who, 'two answers', again.reason);
				END IF;
			END IF;
			IF what BETWEEN 15 AND 20 THEN
				RETURN;    -- it died before it stored the answer, and starts with what it had
			END IF;
			IF answer.reason = 'ok' THEN
				UPDATE client SET before = token, token = answer.token WHERE n = who AND token = mine;
				COMMIT;
				PERFORM tr_validate(answer.token);
			ELSE
				INSERT INTO surprise VALUES (who, 'rotation', answer.reason);
			END IF;
		ELSIF what < 85 THEN
			-- use what is stored, and what was stored before while its window lasts
			SELECT * INTO answer FROM tr_validate(mine);
			IF answer.reason <> 'ok' THEN
				INSERT INTO surprise VALUES (who, 'validation', answer.reason);
			END IF;
			PERFORM tr_validate(old);
		ELSIF what < 92 THEN
			-- roll back whatever it was
			SELECT * INTO answer FROM tr_rotate(mine, origin => 'client ' || who);
			ROLLBACK;
		ELSE
			-- come late, from a long sleep in which the answer got lost
			SELECT * INTO answer FROM tr_issue('late ' || who, 'at_once');
			PERFORM tr_rotate(answer.token);
			COMMIT;
			SELECT * INTO again FROM tr_rotate(answer.token);
			PERFORM nextval('rotations');
			IF again.reason <> 'overlap_ended' THEN
				INSERT INTO surprise VALUES (who, 'late', again.reason);
			END IF;
		END IF;
		COMMIT;
	END $$;
});
my $script = $node->basedir . '/act.sql';
append_to_file($script, "\\set who random(1, 40)\n\\set what random(0, 99)\nCALL act(:who, :what);\n");
my $calls = 0;
while (value($node, 'SELECT last_value FROM rotations') < $rotations && $calls < 100)
{
	$calls++;
	my ($out, $err) = run_command([ 'pgbench', '-n', '-c', 8, '-t', 250, '-f', $script, $node->connstr('postgres') ]);
	like($out, qr/number of failed transactions: 0 /, 'nothing failed') if $calls == 1;
}
my $made = value($node, 'SELECT last_value FROM rotations');
cmp_ok($made, '>=', $rotations, 'so many rotations were asked for');
is(audit_count($node, "event = 'reuse'"), 0, 'no honest client is taken for a thief');
is(value($node, "SELECT count(*) FROM token_rotation.tokens WHERE status = 'revoked'"), 0, 'and no token ends');
is(value($node, 'SELECT string_agg(DISTINCT what || reason, $$, $$) FROM surprise'), '', 'nor does anything else surprise them');
cmp_ok(value($node, 'SELECT max(generation) FROM token_rotation.token'), '>', 5, 'families are long');
cmp_ok(audit_count($node, "event LIKE 'replayed%'"), '>', 50, 'answers were lost');
note("tried: $made rotations of 40 honest clients, 0 taken for reuse");

# --- 2. Copies ------------------------------------------------------------

# Each store is copied, its owner goes on, and the copy comes when the window is
# over: here by an operator, who ends it.
my @stores = rows($node, 'SELECT n, token FROM client ORDER BY n');
for my $store (@stores)
{
	my $next = rotate($node, $store->{token});

	is($next->{reason}, 'ok', "store $store->{n}: its owner goes on") if $store->{n} == 1;
	validate($node, $next->{token});
	value($node, "SELECT tr_finish_overlap('$next->{previous_token_id}')");
	$store->{next} = $next->{token};
}
# the replay window is open, and answers
is(rotate($node, $stores[0]{token})->{replayed}, JSON::PP::true, 'inside the replay window the copy gets the same');
$node->safe_psql('postgres', "UPDATE token_rotation.token SET replay_ends_at = now() WHERE replay_ends_at > now()");
is(rotate($node, $_->{token}, "origin => 'copy'")->{reason}, 'reuse', "the copy of store $_->{n} is found") for @stores;
is(audit_count($node, "event = 'reuse' AND origin = 'copy' AND reason = 'revoke_family'"), scalar @stores, 'each is one event');
verdicts_are($node, 'and its family has ended', [ map { [ $_->{next}, 'revoked' ] } @stores ]);

# --- 3. Rolled back while the family is held --------------------------------

my $held = issue($node, "'held', 'at_once'");
my $used = rotate($node, $held->{token});
is(verdict($node, $used->{token}), 'ok', 'a successor is used');
my $dead = issue($node, "'dead'");
value($node, "SELECT tr_revoke('$dead->{token}')");

# no worker until the family is held
my $launcher = pid_of($node, 'token_rotation launcher');
kill 'STOP', $launcher;
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'");
$node->safe_psql('postgres', "BEGIN; SELECT tr_rotate('$held->{token}', origin => 'held'); ROLLBACK");
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT 1 FROM token_rotation.token WHERE token_id = '$held->{token_id}' FOR UPDATE");
is(rotate($node, $dead->{token})->{reason}, 'revoked', 'something else is refused');
kill 'CONT', $launcher;
poll($node, 'which is recorded meanwhile', q{SELECT count(*) = 1 FROM token_rotation.audit WHERE client_id = 'dead' AND event = 'rotation_refused'});
is(audit_count($node, "client_id = 'held' AND event = 'reuse'"), 0, 'the reuse is not');
is(verdict($node, $used->{token}), 'ok', 'nor acted upon');
$holder->query_safe('ROLLBACK');
$holder->quit;
poll($node, 'the reuse is recorded at last', q{SELECT count(*) = 1 FROM token_rotation.audit WHERE client_id = 'held' AND event = 'reuse'});
is(verdict($node, $used->{token}), 'revoked', 'and the successor has ended');

# One session holds the families of more tokens than the worker looks at at once,
# and rolls the reuse of each back.
$node->safe_psql('postgres', q{
	CREATE TABLE stuck AS SELECT i.token, r.token AS next FROM generate_series(1, 150) g, LATERAL tr_issue('stuck ' || g, 'at_once') i,
		LATERAL tr_rotate(i.token) r;
	SELECT count(*) FROM stuck, tr_validate(next);
	CREATE PROCEDURE hold() LANGUAGE plpgsql AS $$
	DECLARE
		t record;
	BEGIN
		FOR t IN SELECT token FROM stuck LOOP
			PERFORM 1 FROM token_rotation.token k JOIN tr_validate(t.token) v USING (token_id) FOR UPDATE OF k;
			BEGIN
				PERFORM tr_rotate(t.token);
				RAISE EXCEPTION 'undone';
			EXCEPTION WHEN raise_exception THEN
			END;
		END LOOP;
	END $$;
});
my $idle = $node->background_psql('postgres');
$idle->query_safe('BEGIN; CALL hold()');
is(rotate($node, $dead->{token})->{reason}, 'revoked', 'something else is refused');
poll($node, 'and recorded', q{SELECT count(*) = 2 FROM token_rotation.audit WHERE client_id = 'dead' AND event = 'rotation_refused'});
is(audit_count($node, "client_id LIKE 'stuck%' AND event = 'reuse'"), 0, 'while what is held waits');
$idle->query_safe('ROLLBACK');
$idle->quit;
poll($node, 'until it is let go', q{SELECT count(*) = 150 FROM token_rotation.audit WHERE client_id LIKE 'stuck%' AND event = 'reuse'});
is(value($node, 'SELECT count(*) FROM stuck, tr_validate(next) v WHERE v.valid'), 0, 'and their families end');

# A member is held, not the first one.
my $first = issue($node, "'member', 'at_once'");
my $middle = rotate($node, $first->{token});
my $newest = rotate($node, $middle->{token});
is(verdict($node, $newest->{token}), 'ok', 'a family of three');
kill 'STOP', $launcher;
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'");
my $lost = audit_count($node, "event = 'events_lost'");
$node->safe_psql('postgres', "BEGIN; SELECT tr_rotate('$first->{token}'); ROLLBACK") for 1 .. 3;
$idle = $node->background_psql('postgres');
$idle->query_safe("BEGIN; SELECT 1 FROM token_rotation.token WHERE token_id = '$newest->{token_id}' FOR UPDATE");
is(rotate($node, $dead->{token})->{reason}, 'revoked', 'something else is refused');
kill 'CONT', $launcher;
poll($node, 'and recorded while a member is held', q{SELECT count(*) = 3 FROM token_rotation.audit WHERE client_id = 'dead' AND event = 'rotation_refused'});
$idle->query_safe('ROLLBACK');
$idle->quit;
poll($node, 'then the family ends', q{SELECT count(*) = 1 FROM token_rotation.audit WHERE client_id = 'member' AND event = 'reuse'});
is(verdict($node, $newest->{token}), 'revoked', 'all of it');
is(audit_count($node, "event = 'events_lost'"), $lost, 'that it was seen again while it waited is no loss');

# --- 4. Killed --------------------------------------------------------------

my $killed = issue($node, "'killed', 'at_once'");
my $theirs = rotate($node, $killed->{token});
is(verdict($node, $theirs->{token}), 'ok', 'a successor is used');
poll($node, 'which is stored', "SELECT first_used_at IS NOT NULL FROM token_rotation.token WHERE token_id = '$theirs->{token_id}'");
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
is($session->query_safe("BEGIN; SELECT reason FROM tr_rotate('$killed->{token}')"), 'reuse', 'found, and not committed');
kill_and_wait($node, $pid);
$session->{run}->finish;
is(verdict($node, $theirs->{token}), 'ok', 'a crash loses the attempt');
is(rotate($node, $killed->{token})->{reason}, 'reuse', 'the next one is found');
is(verdict($node, $theirs->{token}), 'revoked', 'and ends the family');

# --- 5. What the trail has forgotten ------------------------------------------

my $handed = issue($node, "'handed', 'at_once'");
my $given = row($node, "SELECT * FROM tr_rotate_id('$handed->{token_id}')");
is(verdict($node, $given->{token}), 'ok', 'what an operator rotated is used');
is(rotate($node, $handed->{token})->{reason}, 'overlap_ended', 'whoever comes with the old one has not heard of it');
poll($node, 'all is sealed', 'SELECT valid AND unsealed = 0 FROM tr_audit_verify()');
cmp_ok(value($node, 'SELECT tr_audit_prune(clock_timestamp())'), '>', 0, 'and pruned');
is(rotate($node, $handed->{token})->{reason}, 'overlap_ended', 'nor has he when nobody knows any more');
is(verdict($node, $given->{token}), 'ok', 'and nothing is ended');

done_testing();

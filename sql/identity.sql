-- Who a transaction acts for: tr_authenticate and the functions that tell.
SET search_path = tr, public;
CREATE ROLE regress_identity_realm;
SET token_rotation.realm = regress_identity_realm;
SELECT token AS acme, token_id AS acme_id, refresh_at AS acme_refresh, expires_at AS acme_ends
FROM tr_issue('identity acme', 'default', '{orders:read,orders:write}') \gset
SELECT token AS again FROM tr_issue('identity acme', 'default', '{}') \gset
SELECT token AS bolt FROM tr_issue('identity bolt', 'default', '{orders:read}') \gset
SELECT token AS dead FROM tr_issue('identity dead') \gset
SELECT tr_revoke(:'dead');
CREATE VIEW regress.identity AS
    SELECT tr.tr_client() AS client, tr.tr_realm() AS realm, tr.tr_scopes() AS scopes, tr.tr_has_scope('orders:read') AS reads,
           tr.tr_has_scope('orders:write') AS writes, tr.tr_token_id() IS NOT NULL AS has_id;

-- Nobody, to begin with.
TABLE regress.identity;
SELECT tr_token_id(), tr_has_scope(NULL), tr_has_scope('');

-- Bound for the transaction, no longer.
BEGIN;
SELECT client_id, owner, token_id = :'acme_id' AS id_right, policy, scopes,
       valid_until = :'acme_ends' AS end_right, refresh_at = :'acme_refresh' AS refresh_right
FROM tr_authenticate(:'acme');
TABLE regress.identity;
SELECT tr_token_id() = :'acme_id' AS id_right, tr_has_scope('orders'), tr_has_scope('ORDERS:READ'), tr_has_scope(NULL);
COMMIT;
TABLE regress.identity;
BEGIN;
SELECT client_id FROM tr_authenticate(:'acme');
ROLLBACK;
TABLE regress.identity;
-- A statement of its own is a transaction of its own.
SELECT client_id FROM tr_authenticate(:'acme');
TABLE regress.identity;
-- Also where it only reads, and in every isolation level.
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT client_id FROM tr_authenticate(:'acme', 'orders:read', '192.0.2.1');
TABLE regress.identity;
COMMIT;

-- Savepoints: what was bound within one goes with it, and what was bound before comes back.
BEGIN;
SAVEPOINT a;
SELECT client_id FROM tr_authenticate(:'acme');
ROLLBACK TO a;
SELECT client FROM regress.identity;
SELECT client_id FROM tr_authenticate(:'acme');
SAVEPOINT b;
SELECT client FROM regress.identity;
SELECT client_id FROM tr_authenticate(:'bolt');
SAVEPOINT c;
SELECT client_id FROM tr_authenticate(:'again');
SELECT client, scopes FROM regress.identity;
ROLLBACK TO c;
SELECT client FROM regress.identity;
RELEASE c;
SELECT client FROM regress.identity;
ROLLBACK TO b;
SELECT client FROM regress.identity;
SAVEPOINT d;
SELECT client_id FROM tr_authenticate(:'bolt');
RELEASE d;
SELECT client FROM regress.identity;
ROLLBACK TO a;
SELECT client FROM regress.identity;
COMMIT;
-- Released over levels that had nothing of their own.
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SAVEPOINT c;
SELECT client_id FROM tr_authenticate(:'acme');
RELEASE a;
SELECT client FROM regress.identity;
COMMIT;

-- Refused: nobody is bound, also where somebody was and the error is caught.
SELECT * FROM regress.try(format('SELECT tr.tr_authenticate(%L)', :'dead'));
SELECT state, message, detail FROM unnest(ARRAY[NULL, '', 'nonsense', regress.guess(:'acme'),
    regress.token_text('trk', repeat('0', 21) || '1' || regress.secret_of(:'acme'))]) t (token),
    regress.try(format('SELECT tr.tr_authenticate(%L)', t.token));
SELECT * FROM regress.try(format('SELECT tr.tr_authenticate(%L, %L)', :'bolt', 'orders:write'));
SELECT state, message FROM regress.try(format('SELECT tr.tr_authenticate(%L, %L)', :'bolt', 'no scope'));
BEGIN;
SELECT client_id FROM tr_authenticate(:'acme');
SAVEPOINT a;
SELECT state FROM regress.try(format('SELECT tr.tr_authenticate(%L)', :'dead'));
SELECT client FROM regress.identity;
ROLLBACK TO a;
SELECT client FROM regress.identity;
SELECT client_id FROM tr_authenticate(:'bolt');
SELECT state FROM regress.try(format('SELECT tr.tr_authenticate(%L, %L)', :'bolt', 'orders:write'));
SELECT client FROM regress.identity;
SELECT client_id FROM tr_authenticate(:'bolt');
SELECT state FROM regress.try(format('SELECT tr.tr_authenticate(%L, %L)', :'bolt', 'no scope'));
SELECT client FROM regress.identity;
COMMIT;

-- What was bound holds to the end of the transaction; the next one asks anew.
BEGIN;
SELECT client_id FROM tr_authenticate(:'again');
SELECT tr_revoke(:'again');
SELECT client FROM regress.identity;
COMMIT;
SELECT detail FROM regress.try(format('SELECT tr.tr_authenticate(%L)', :'again'));

-- A prepared transaction takes nobody along.
BEGIN;
SELECT client_id FROM tr_authenticate(:'acme');
PREPARE TRANSACTION 'regress_identity';
TABLE regress.identity;
ROLLBACK PREPARED 'regress_identity';

-- No setting makes one.
SELECT state, message FROM unnest(ARRAY['client', 'identity', 'token_id', 'scopes']) s,
    regress.try(format('SET token_rotation.%s = %L', s, 'identity acme'));
SELECT set_config('request.jwt.claims', '{"client_id": "identity acme", "role": "postgres"}', false),
       set_config('request.client', 'identity acme', false);
TABLE regress.identity;
RESET "request.jwt.claims";
RESET "request.client";

-- A scope is needed: an error says so.
SELECT * FROM regress.try('SELECT tr.tr_require_scope(''orders:read'')');
BEGIN;
SELECT client_id FROM tr_authenticate(:'bolt');
SELECT tr_require_scope('orders:read');
SELECT * FROM regress.try('SELECT tr.tr_require_scope(''orders:write'')');
SELECT state, message FROM unnest(ARRAY[NULL, '', 'a b']) s, regress.try(format('SELECT tr.tr_require_scope(%L)', s));
COMMIT;

-- Row security: once a statement, however many rows there are, and whatever the
-- reader's plan.
CREATE TABLE regress.orders (id int PRIMARY KEY, client_id text NOT NULL, item text);
INSERT INTO regress.orders
SELECT n, (ARRAY['identity acme', 'identity bolt'])[n % 2 + 1], 'item ' || n FROM generate_series(1, 1000) n;
CREATE INDEX ON regress.orders (client_id);
ANALYZE regress.orders;
ALTER TABLE regress.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON regress.orders FOR SELECT
    USING (client_id = (SELECT tr.tr_client()) AND (SELECT tr.tr_has_scope('orders:read')));
CREATE POLICY write ON regress.orders FOR INSERT
    WITH CHECK (client_id = (SELECT tr.tr_client()) AND (SELECT tr.tr_has_scope('orders:write')));
-- (how a plan shows a subquery's value differs between versions)
CREATE FUNCTION regress.plan_of(query text, OUT once boolean, OUT for_each_row boolean) LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    once := false;
    for_each_row := false;
    FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || query LOOP
        once := once OR line ~ '^ +Output: .*tr_client\(\)';
        for_each_row := for_each_row OR line ~ 'Filter: .*tr_client\(\)';
    END LOOP;
END $$;
CREATE ROLE regress_identity_app;
SELECT tr_grant('regress_identity_app', 'validator', 'regress_identity_realm');
GRANT USAGE ON SCHEMA tr TO regress_identity_app;
GRANT SELECT, INSERT ON regress.orders TO regress_identity_app;
SET ROLE regress_identity_app;
SELECT count(*) FROM regress.orders;
BEGIN;
SELECT client_id FROM tr_authenticate(:'acme');
SELECT count(*), min(client_id), max(client_id) FROM regress.orders;
SELECT * FROM regress.plan_of('SELECT * FROM regress.orders');
INSERT INTO regress.orders VALUES (2001, 'identity acme', 'own');
SELECT state, message FROM regress.try('INSERT INTO regress.orders VALUES (2002, ''identity bolt'', ''theirs'')');
COMMIT;
BEGIN;
SELECT client_id FROM tr_authenticate(:'bolt');
SELECT count(*), min(client_id), max(client_id) FROM regress.orders;
SELECT state, message FROM regress.try('INSERT INTO regress.orders VALUES (2003, ''identity bolt'', ''no scope'')');
ROLLBACK;
-- In one statement there is no order to rely on but that of a join: so join.
SELECT count(*) FROM tr_validate(:'acme') v JOIN regress.orders o USING (client_id) WHERE v.valid;
RESET ROLE;
SELECT count(*), min(o.client_id), max(o.client_id)
FROM tr_validate(:'acme') v JOIN regress.orders o USING (client_id) WHERE v.valid;
SELECT count(*) FROM tr_validate(:'dead') v JOIN regress.orders o USING (client_id) WHERE v.valid;
-- The calls are counted: one for the subquery, one for each row without it.
SET track_functions = 'all';
SET enable_indexscan = off;
SET enable_bitmapscan = off;
CREATE FUNCTION regress.calls_of(what text, OUT before bigint) LANGUAGE sql VOLATILE AS
    'SELECT coalesce(pg_stat_get_xact_function_calls(what::regprocedure), 0)';
CREATE FUNCTION regress.calls_in(what text, query text, OUT calls bigint, OUT rows bigint) LANGUAGE plpgsql AS $$
BEGIN
    calls := -(regress.calls_of(what));
    EXECUTE query INTO rows;
    calls := calls + regress.calls_of(what);
END $$;
GRANT EXECUTE ON FUNCTION regress.calls_in(text, text) TO regress_identity_app;
BEGIN;
SET LOCAL ROLE regress_identity_app;
SELECT client_id FROM tr_authenticate(:'acme');
SELECT calls, rows FROM regress.calls_in('tr.tr_client()', 'SELECT count(*) FROM regress.orders');
SELECT calls, rows FROM regress.calls_in('tr.tr_has_scope(text)', 'SELECT count(*) FROM regress.orders');
ROLLBACK;
ALTER POLICY read ON regress.orders USING (client_id = tr.tr_client());
BEGIN;
SET LOCAL ROLE regress_identity_app;
SELECT client_id FROM tr_authenticate(:'acme');
SELECT calls, rows FROM regress.calls_in('tr.tr_client()', 'SELECT count(*) FROM regress.orders');
SELECT * FROM regress.plan_of('SELECT * FROM regress.orders');
ROLLBACK;
RESET track_functions;
RESET enable_indexscan;
RESET enable_bitmapscan;

-- A parallel plan asks the leader.
BEGIN;
SELECT client_id FROM tr_authenticate(:'acme');
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SELECT count(*) FROM regress.orders o WHERE o.client_id = tr.tr_client();
ROLLBACK;

-- Another client in the same transaction is recorded, although it is rolled back,
-- and also where a savepoint was rolled back in between.
SET application_name = 'regress_identity';
BEGIN;
SELECT client_id FROM tr_authenticate(:'acme');
SELECT client_id FROM tr_authenticate(:'acme');
SAVEPOINT a;
SELECT client_id FROM tr_authenticate(:'bolt');
ROLLBACK TO a;
SELECT client_id FROM tr_authenticate(:'acme');
ROLLBACK;
SELECT regress.wait_for($$SELECT count(*) = 2 FROM token_rotation.audit
    WHERE event = 'identity_changed' AND application_name = 'regress_identity'$$);
SELECT client_id, reason, token_ref IS NOT NULL AS has_ref FROM token_rotation.audit
WHERE event = 'identity_changed' AND application_name = 'regress_identity' ORDER BY seq;
RESET application_name;
-- Another realm's client of the same name is another client.
CREATE ROLE regress_identity_rival;
SET token_rotation.realm = regress_identity_rival;
SELECT token AS rival FROM tr_issue('identity acme') \gset
SET token_rotation.realm = regress_identity_realm;
SET application_name = 'regress_identity_rival';
BEGIN;
SELECT owner FROM tr_authenticate(:'acme');
SELECT owner FROM tr_authenticate(:'rival');
SELECT tr_client(), tr_realm();
COMMIT;
SELECT regress.wait_for($$SELECT count(*) = 1 FROM token_rotation.audit
    WHERE event = 'identity_changed' AND application_name = 'regress_identity_rival'$$);
RESET application_name;
DELETE FROM token_rotation.token WHERE owner = 'regress_identity_rival';
DROP ROLE regress_identity_rival;
-- Recorded is a scope that was missing, too, where validations are.
ALTER SYSTEM SET token_rotation.audit_validations = 'failures';
SELECT pg_reload_conf();
\set ECHO none
\o /dev/null
SELECT format('SELECT pg_sleep(%s) WHERE current_setting(''token_rotation.audit_validations'') = ''none''', 0.01 * i)
FROM generate_series(1, 240) i \gexec
\o
\set ECHO all
SELECT state FROM regress.try(format('SELECT tr.tr_authenticate(%L, %L, %L)', :'bolt', 'orders:write', '192.0.2.7'));
SELECT regress.wait_for($$SELECT EXISTS (SELECT FROM token_rotation.audit WHERE event = 'scope_refused')$$);
SELECT client_id, reason, origin FROM token_rotation.audit WHERE event = 'scope_refused' ORDER BY seq;
ALTER SYSTEM RESET token_rotation.audit_validations;
SELECT pg_reload_conf();

-- Introspection, after RFC 7662.
SELECT tr_introspect(:'acme') = jsonb_build_object('active', true, 'client_id', 'identity acme', 'sub', 'identity acme',
    'token_type', 'Bearer', 'jti', :'acme_id', 'scope', 'orders:read orders:write',
    'iat', floor(extract(epoch FROM t.issued_at)), 'exp', floor(extract(epoch FROM t.expires_at))) AS as_it_should_be
FROM token_rotation.tokens t WHERE t.token_id = :'acme_id';
SELECT token AS bare FROM tr_issue(E'identity "quoted"\\\u00e9') \gset
SELECT tr_introspect(:'bare') - '{iat,exp,jti}'::text[];
SELECT tr_introspect(t) FROM unnest(ARRAY[NULL, '', 'nonsense', :'dead', regress.guess(:'acme')]) t;
SET ROLE regress_identity_app;
SELECT tr_introspect(:'acme') -> 'active' AS of_a_realm_of_its_own;
RESET ROLE;
SELECT tr_ungrant('regress_identity_app', 'validator', 'regress_identity_realm');
GRANT USAGE ON SCHEMA tr TO regress_identity_app;
SET ROLE regress_identity_app;
SELECT state, message FROM unnest(ARRAY['tr_client()', 'tr_realm()', 'tr_scopes()', 'tr_token_id()', 'tr_has_scope(''a'')',
    'tr_require_scope(''a'')', 'tr_introspect(''a'')', 'tr_authenticate(''a'')', 'tr_pre_request()']) f,
    regress.try('SELECT tr.' || f);
RESET ROLE;
DROP TABLE regress.orders;
DROP VIEW regress.identity;
DROP FUNCTION regress.calls_in, regress.calls_of, regress.plan_of;
REVOKE USAGE ON SCHEMA tr FROM regress_identity_app;
DELETE FROM token_rotation.token WHERE owner = 'regress_identity_realm';
RESET token_rotation.realm;
DROP ROLE regress_identity_app, regress_identity_realm;

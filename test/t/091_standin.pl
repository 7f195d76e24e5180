# test/http/standin.mjs stands in for PostgREST in the other tests: does it do what
# PostgREST does, as far as a token's way goes?  It is a stand-in all the same.
#
#  1. It logs in as the authenticator, which may do nothing by itself.
#  2. What follows Bearer is a JWT, or refused before the database is asked; other schemes
#     are the anonymous role's.
#  3. A request is one READ COMMITTED transaction, READ ONLY by method and volatility.
#  4. One statement with bound parameters sets everything, in PostgREST's order; headers
#     in lower case, without the cookies; the role is in the claims.
#  5. The hook is a statement of its own.
#  6. Calls take their arguments by name, from JSON, a form or the URL, and are prepared
#     statements with what was set for the answer in the same SELECT.
#  7. COMMIT, or an error with PostgREST's status and challenge.
#  8. An object, an array, a value or nothing; headers and the status that were set.
#  9. OPTIONS opens no transaction; in a pool of one the next request finds nothing of
#     the last one.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Digest::SHA ();
use MIME::Base64 qw(encode_base64url);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;
use Web;

plan skip_all => Web::missing() if Web::missing();

my $node = new_node('standin', extension => 0);
$node->safe_psql('postgres', <<'END');
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE anon;
CREATE ROLE member;
GRANT anon, member TO authenticator;
ALTER ROLE authenticator SET log_statement = 'all';
ALTER ROLE anon SET statement_timeout = '71s';
ALTER ROLE member SET default_transaction_isolation = 'repeatable read';
CREATE SCHEMA api;
GRANT USAGE ON SCHEMA api TO anon, member;
CREATE TABLE api.notes (id int GENERATED ALWAYS AS IDENTITY, note text);
GRANT SELECT ON api.notes TO anon, member;
GRANT INSERT ON api.notes TO member;
CREATE TABLE api.closed (id int);
CREATE SCHEMA hooks;
GRANT USAGE ON SCHEMA hooks TO anon, member;
CREATE FUNCTION hooks.before() RETURNS void LANGUAGE sql AS
	$$SELECT set_config('hook.role', current_user, true)$$;

CREATE TYPE api.seen AS (what text, n int);
CREATE FUNCTION api.told() RETURNS json LANGUAGE sql AS $$SELECT json_build_object(
	'user', current_user, 'session', session_user, 'read_only', current_setting('transaction_read_only'),
	'level', current_setting('transaction_isolation'), 'path', current_setting('search_path'),
	'timeout', current_setting('statement_timeout'), 'claims', current_setting('request.jwt.claims')::json,
	'method', current_setting('request.method'), 'request_path', current_setting('request.path'),
	'headers', current_setting('request.headers')::json, 'cookies', current_setting('request.cookies')::json,
	'setting', current_setting('app.settings.colour', true), 'hook', current_setting('hook.role', true),
	'left', current_setting('left.over', true), 'response', current_setting('response.headers', true))$$;
CREATE FUNCTION api.told_stable() RETURNS json STABLE LANGUAGE sql AS 'SELECT api.told()';
CREATE FUNCTION api.told_slow() RETURNS json LANGUAGE sql SET statement_timeout = '97s' AS 'SELECT api.told()';
CREATE FUNCTION api.add(a int, b int DEFAULT 10) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a + b';
CREATE FUNCTION api.one(what text) RETURNS api.seen STABLE LANGUAGE sql AS $$SELECT (what, length(what))::api.seen$$;
CREATE FUNCTION api.many(n int) RETURNS SETOF api.seen STABLE LANGUAGE sql AS $$SELECT ('x', i)::api.seen FROM generate_series(1, n) i$$;
CREATE FUNCTION api.none() RETURNS void LANGUAGE sql AS $$SELECT set_config('left.over', 'here', true)$$;
CREATE FUNCTION api.write(note text) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO api.notes (note) VALUES (note) RETURNING id';
CREATE FUNCTION api.answers(headers text, status text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('response.headers', headers, true), set_config('response.status', status, true);
	RETURN 'said';
END $$;
CREATE FUNCTION api.fails(state text, message text DEFAULT 'no', detail text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, DETAIL = coalesce(detail, 'why'), HINT = 'how';
END $$;
END

my $web = Web->new($node, 'postgres');
END
{
	my $status = $?;

	$web->stop if $web;
	$? = $status;
}
my $conf = <<'END';
db-schemas = "api"
db-anon-role = "anon"
db-pre-request = "hooks.before"
app.settings.colour = "red"
END
my $secret = 'a secret of at least thirty-two characters';
$web->standin($conf, PGRST_DB_POOL => 1, PGRST_JWT_SECRET => $secret);

sub jwt
{
	my ($claims, $key) = @_;
	my $text = join '.', map { encode_base64url($_) } '{"alg":"HS256","typ":"JWT"}', $claims;

	return "$text." . encode_base64url(Digest::SHA::hmac_sha256($text, $key // $secret));
}

sub bearer
{
	return { Authorization => "Bearer $_[0]" };
}

# What the server was asked while this ran, as its log says: statements without parameters.
sub statements
{
	my ($run) = @_;
	my $from = log_position($node);

	$run->();
	return map { /(?:statement|execute [^:]+): (.*)/s ? $1 =~ s/\s+/ /gr : () }
	  split /\n(?!\t)/, slurp_file($node->logfile, $from);
}

# --- 1. Who it is --------------------------------------------------------------

my $told = $web->ask(rpc => 'told')->{data};
is("$told->{session} $told->{user}", 'authenticator anon', '1: it logs in as the authenticator, and is the anonymous role');
is(value($node, 'SET SESSION AUTHORIZATION authenticator; SELECT has_schema_privilege($$api$$, $$USAGE$$)'), 'f',
	'1: which may do nothing by itself');

# --- 2. Authorization -----------------------------------------------------------

my $trk = 'trk_' . 'a' x 71;
for (
	[ 'an opaque token', $trk, 'PGRST301', 'Expected 3 parts in JWT; got 1' ],
	[ 'nothing', '', 'PGRST301', 'Empty JWT is sent in Authorization header' ],
	[ 'a wrong signature', jwt('{"role":"member"}', 'x' x 40), 'PGRST301', 'JWT cryptographic operation failed' ],
	[ 'a JWT of the past', jwt('{"role":"member","exp":1}'), 'PGRST303', 'JWT expired' ])
{
	my ($what, $token, $code, $message) = @$_;
	my $answer;
	my @asked = statements(sub {
		$answer = $web->ask(method => 'GET', path => '/rpc/told', headers => { Authorization => "Bearer $token" }) });

	is("$answer->{status} $answer->{json}{code} $answer->{json}{message}", "401 $code $message", "2: Bearer and $what is refused");
	is($answer->{headers}{'www-authenticate'}, qq(Bearer error="invalid_token", error_description="$message"), '2: with a challenge');
	is("@asked", '', '2: and the database is not asked');
}
$told = $web->ask(rpc => 'told', headers => bearer(jwt('{"role":"member","sub":"x"}')))->{data};
is($told->{user}, 'member', '2: a good JWT names the role');
is_deeply($told->{claims}, { role => 'member', sub => 'x' }, '2: its claims are told');
for my $scheme ("Token $trk", 'Basic YTpi', "Bearer_$trk")
{
	is($web->ask(rpc => 'told', headers => { Authorization => $scheme })->{data}{user}, 'anon', "2: the scheme of $scheme is nobody's");
}
$web->standin($conf, PGRST_DB_POOL => 1);
my $answer = $web->ask(rpc => 'told', headers => bearer($trk));
is("$answer->{status} $answer->{error}{code}", '500 PGRST300', '2: without a secret no JWT can be checked');
$web->standin($conf =~ s/db-anon-role.*\n//r, PGRST_DB_ANON_ROLE => 'anon', PGRST_DB_POOL => 1, PGRST_JWT_SECRET => $secret);

# --- 3. The transaction -----------------------------------------------------------

for ([ 'told', {}, 'off' ], [ 'told', { get => 1 }, 'on' ], [ 'told_stable', {}, 'on' ], [ 'told_stable', { get => 1 }, 'on' ])
{
	my ($rpc, $more, $read_only) = @$_;

	$told = $web->ask(rpc => $rpc, %$more)->{data};
	is("$told->{read_only}, $told->{level}", "$read_only, read committed", "3: $rpc by $told->{method}");
}
is($web->ask(rpc => 'told', headers => bearer(jwt('{"role":"member"}')))->{data}{level}, 'repeatable read', '3: a role may have another level');
is($web->ask(from => 'notes', insert => { note => 'a' }, headers => bearer(jwt('{"role":"member"}')))->{status}, 201, '3: POST to a relation writes');
is_deeply($web->ask(from => 'notes')->{data}, [ { id => 1, note => 'a' } ], '3: GET reads');
$answer = $web->ask(rpc => 'write', args => { note => 'b' }, get => 1);
is("$answer->{status} $answer->{error}{code}", '405 25006', '3: what writes cannot be got');

# --- 4, 5, 6. Its statements ---------------------------------------------------------

my @asked = statements(sub {
	$answer = $web->ask(method => 'POST', path => '/rpc/told_slow', body => '{}', headers => {
			'Content-Type' => 'application/json', 'X-Mixed-Case' => 'Caf\u00e9', Cookie => 'a=b; c=d' }) });
is($answer->{status}, 200, '4: a request');
is(scalar @asked, 5, '3: is one transaction') or diag(join "\n", @asked);
is($asked[0], 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE', '3: which begins');
is(join(' ', $asked[1] =~ /set_config\('([^']+)', \$\d+, true\)/g),
	'search_path statement_timeout role request.jwt.claims request.method request.path request.headers request.cookies statement_timeout app.settings.colour',
	'4: one statement sets everything, in order');
like($asked[1], qr/^select (set_config\('[^']+', \$\d+, true\)(, |$)){10}$/, '4: every value is a parameter');
is($asked[2], 'select "hooks"."before"()', '5: the hook is a statement of its own');
my $set = join ', ', map { "nullif(current_setting('response.$_', true), '') AS response_$_" } qw(headers status);
like($asked[3], qr/^WITH pgrst_source AS .*"api"\."told_slow"\(\).* \Q$set\E FROM /, '6: the call comes with what was set for the answer');
is($asked[4], 'COMMIT', '7: and it ends');
my @prepared = slurp_file($node->logfile) =~ /execute (s\d+): WITH pgrst_source/g;
cmp_ok(scalar @prepared, '>', 0, '6: by a prepared statement with a name');
$told = $answer->{json};
is($told->{path}, '"api", "public"', '4: the path is the exposed schema and what is added');
is($told->{timeout}, '97s', "4: a function's hoisted setting goes before the role's");
is($web->ask(rpc => 'told')->{data}{timeout}, '71s', '4: the role has its own');
is("$told->{method} $told->{request_path} $told->{setting} $told->{hook}", 'POST /rpc/told_slow red anon', '4: the rest is told');
is_deeply($told->{cookies}, { a => 'b', c => 'd' }, '4: cookies are apart');
is($told->{headers}{'x-mixed-case'}, 'Caf\u00e9', '4: names of headers are in lower case');
is(join(' ', grep { $_ eq 'cookie' || /[A-Z]/ } keys %{ $told->{headers} }), '', '4: no other, and no cookie');
is_deeply($told->{claims}, { role => 'anon' }, '4: the role is in the claims');

# --- 6. Arguments -----------------------------------------------------------------------

is($web->ask(rpc => 'add', args => { b => 2, a => 1 })->{data}, 3, '6: by name, in any order');
is($web->ask(rpc => 'add', args => { a => 1 })->{data}, 11, '6: a default');
is($web->ask(rpc => 'add', args => { a => 1, b => 5 }, get => 1)->{data}, 6, '6: in the URL');
is($web->ask(method => 'POST', path => '/rpc/add', body => 'a=4&b=5', headers => { 'Content-Type' => 'application/x-www-form-urlencoded' })->{body},
	'9', '6: as a form');
for ([ 'add', { b => 1 } ], [ 'add', { a => 1, c => 1 } ], [ 'nothing', {} ])
{
	$answer = $web->ask(rpc => $_->[0], args => $_->[1]);
	is("$answer->{status} $answer->{error}{code}", '404 PGRST202', '6: what does not fit is not found');
}
is($web->ask(from => 'nothing')->{error}{code}, 'PGRST205', '6: nor is a relation that is not there');
$answer = $web->ask(method => 'POST', path => '/rpc/add', body => '{"a": trk_secret', headers => { 'Content-Type' => 'application/json' });
is("$answer->{status} $answer->{json}{code}", '400 PGRST102', '6: what is no JSON is refused');
is($web->ask(method => 'DELETE', path => '/rpc/add')->{json}{code}, 'PGRST101', '6: functions are called with GET and POST');

# --- 7. Errors ----------------------------------------------------------------------------

for (
	[ '22012', 400 ], [ '23505', 409 ], [ '23503', 409 ], [ '25006', 405 ], [ '28000', 403 ], [ '40001', 500 ], [ '42883', 404 ],
	[ '42P01', 404 ], [ '53400', 500 ], [ '53300', 503 ], [ '54000', 500 ], [ '55000', 500 ], [ '57P01', 503 ], [ '57014', 500 ],
	[ 'P0001', 400 ], [ 'P0002', 500 ], [ 'XX000', 500 ], [ '08006', 503 ], [ 'PT402', 402 ], [ 'PT401', 401 ], [ '0P000', 403 ])
{
	my ($state, $status) = @$_;

	$answer = $web->ask(rpc => 'fails', args => { state => $state });
	is($answer->{status}, $status, "7: $state is $status");
	is_deeply($answer->{error}, { code => $state, message => 'no', details => 'why', hint => 'how' }, '7: with what the server says');
	is($answer->{headers}{'www-authenticate'}, $status == 401 ? 'Bearer' : undef, '7: 401, and nothing else, has a challenge');
}
my $closed = sub { $answer = $web->ask(from => 'closed', headers => $_[0]); "$answer->{status} " . ($answer->{headers}{'www-authenticate'} // '-') };
is($closed->({}), '401 Bearer', '7: a privilege that the anonymous role has not is 401');
is($closed->(bearer(jwt('{"role":"member"}'))), '403 -', '7: one that another role has not is 403');
is($web->ask(rpc => 'told', headers => bearer(jwt('{"role":"nobody"}')))->{status}, 401, '7: a role that is not there');
$answer = $web->ask(rpc => 'fails', args => { state => 'PGRST', message => '{"code":"c","message":"m","details":"d"}',
	detail => '{"status":418,"headers":{"X-Own":"own"}}' });
is("$answer->{status} $answer->{headers}{'x-own'}", '418 own', '7: PGRST says status and headers');
is_deeply($answer->{error}, { code => 'c', message => 'm', details => 'd', hint => undef }, '7: and the body');
$answer = $web->ask(rpc => 'fails', args => { state => 'PGRST', message => 'no JSON' });
is("$answer->{status} $answer->{error}{code}", '500 PGRST121', '7: in JSON only');
is_deeply($web->ask(from => 'notes')->{data}, [ { id => 1, note => 'a' } ], '7: what failed is rolled back');

# --- 8. Answers ------------------------------------------------------------------------------

is_deeply($web->ask(rpc => 'one', args => { what => 'abc' })->{data}, { what => 'abc', n => 3 }, '8: a composite is an object');
is_deeply($web->ask(rpc => 'many', args => { n => 2 })->{data}, [ map { { what => 'x', n => $_ } } 1, 2 ], '8: a set is an array');
is_deeply($web->ask(rpc => 'many', args => { n => 0 })->{data}, [], '8: also an empty one');
is_deeply($web->ask(from => 'notes', select => 'note')->{data}, [ { note => 'a' } ], '8: some columns');
$answer = $web->ask(rpc => 'none');
is("$answer->{status} '$answer->{body}'", "204 ''", '8: nothing is 204');
$answer = $web->ask(rpc => 'answers', args => { headers => '[{"X-A": "1"}, {"X-B": "2"}]', status => '202' });
is("$answer->{status} $answer->{headers}{'x-a'} $answer->{headers}{'x-b'}", '202 1 2', '8: headers and status that were set');
for ('{"X-A": "1"}', '[{"X-A": 1}]', '[{"X-A": "1", "X-B": "2"}]', 'x')
{
	is($web->ask(rpc => 'answers', args => { headers => $_ })->{error}{code}, 'PGRST111', "8: headers cannot be $_");
}
is($web->ask(rpc => 'answers', args => { headers => '[]', status => 'x' })->{error}{code}, 'PGRST112', '8: a status is a number');
is($web->ask(method => 'HEAD', path => '/notes')->{body}, '', '8: HEAD has no body');

# --- 9. OPTIONS, and the next one ----------------------------------------------------------------

@asked = statements(sub { $answer = $web->ask(method => 'OPTIONS', path => '/notes') });
is("$answer->{status} @asked", '200 ', '9: OPTIONS asks for nothing');
$web->ask(rpc => 'answers', args => { headers => '[{"X-A": "1"}]' });
$web->ask(rpc => 'none');
$told = $web->ask(rpc => 'told')->{data};
is("'$told->{left}' '$told->{response}'", "'' ''", '9: settings of the last request are empty in the next one');
is($web->ask(rpc => 'none')->{headers}{'x-a'}, undef, '9: and its headers are gone');
unlike($web->logs, qr/\Q$trk\E/, 'its log has no token');
done_testing();

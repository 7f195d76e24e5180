# Tokens over HTTP: doc/examples/api.sql behind a stand-in for PostgREST
# (test/http/standin.mjs; it is not PostgREST, and 091_standin.pl says how near it is),
# asked by the real @supabase/postgrest-js and by curl.
#
#  1. What doc/http.md has a new user type leads to a protected endpoint, word by word.
#  2. Whole stories: a client uses its key, rotates, the connection is cut after the
#     commit and before the answer, it asks again, uses both, the window ends, the old key
#     is refused and told why; a lost answer can still be had after the window.
#  3. Who presents nothing, what is no token or a dead one, one without the scope, and one
#     of which nothing can be said: 401, 403, 503, each with its challenge and body.
#  4. What runs in a request: the role of the policy, no key in the headers, READ ONLY.
#  5. Row security: everybody sees and makes his own rows only, also when many ask at once.
#  6. The endpoints: issue, rotate, introspect (RFC 7662), revoke (RFC 7009), authorize;
#     who may not, and what is not exposed.
#  7. The server goes and comes back.  A standby answers as long as it may.
#  8. No token is in an error, in a header or in a log, however much the server logs.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use TokenRotation;
use Web;

plan skip_all => Web::missing() if Web::missing();

my $top = "$FindBin::RealBin/../..";
my $doc = slurp_file("$top/doc/http.md");
my %block;
push @{ $block{ $1 || 'plain' } }, $2 while $doc =~ /^```(\w*)\n(.*?)^```$/msg;

my $node = new_node('http', extension => 0, streaming => 1, conf => q{
log_statement = 'all'
log_parameter_max_length_on_error = -1
token_rotation.worker_nap = '500ms'
token_rotation.leeway = 0
});
my $web = Web->new($node, 'demo');
my $near;    # the same before a standby
END
{
	my $status = $?;

	$_->stop for grep { $_ } $web, $near;
	$? = $status;
}

# --- 1. The document ------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE demo');
my $sql = join('', @{ $block{sql} }) =~ s{\\i doc/}{\\i $top/doc/}r;
my ($status, $out, $err) = $node->psql('demo', $sql, on_error_stop => 1);
is($status, 0, 'the SQL runs') or diag($err);
my ($first) = $out =~ /^(trk_\w+)$/m;
my ($conf) = grep { /^db-schemas/m } @{ $block{plain} };
$web->standin($conf);

# A line with "$ " and those indented below it are what is typed; the rest is said.
my $session = join '', @{ $block{sh} };
my ($shown) = $block{text}[0] =~ /(trk_\w+)/;
my @steps = $session =~ /^\$ (.*\n(?: .*\n)*)((?:[^\$].*\n)*)/mg;
my $script = "set -o pipefail\n";
for (my $i = 0; $i < @steps; $i += 2)
{
	$script .= "$steps[$i]echo\necho '== $i'\n";
}
$script =~ s/\Q$shown\E/$first/g;
$script =~ s/localhost:3000/127.0.0.1:$web->{port}/g;
{
	local %ENV = (%ENV, NO_PROXY => '*', PGHOST => $node->host, PGPORT => $node->port, PGUSER => getpwuid($<) // 'postgres',
		PATH => $node->config_data('--bindir') . ":$ENV{PATH}");
	my $typed = '';

	IPC::Run::run([ 'bash', '-c', $script ], '>', \$typed, '2>', \my $said);
	is($said, '', 'the session runs');
	for (my $i = 0; $i < @steps; $i += 2)
	{
		my ($got) = $typed =~ s/^(.*?)^== $i\n//ms ? $1 =~ s/\n+\z/\n/r : 'nothing';

		$got = '' if $got eq "\n";
		is($got, $steps[ $i + 1 ], 'it says what is shown: ' . (split /\n/, $steps[$i])[0]);
	}
}

# --- what the other parts need ------------------------------------------------------

my $realm = "SET token_rotation.realm = 'shop'";
my %secrets = ($first => 1);

sub keep
{
	my ($issued) = @_;

	$secrets{ $issued->{token} } = 1 if $issued->{token};
	return $issued->{token};
}

sub issued
{
	my ($client, $policy, $scopes) = @_;

	return keep(row($node, "SELECT * FROM tr.tr_issue('$client', '$policy', '{$scopes}')", 'demo', $realm));
}

# Status, challenge and body of a refusal.
sub refused
{
	my ($answer, $status, $challenge, $code, $details, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($answer->{status}, $status, "$name: $status");
	is($answer->{headers}{'www-authenticate'}, $challenge, "$name: challenge");
	return is_deeply([ @{ $answer->{error} // $answer->{json} }{qw(code details hint)} ], [ $code, $details, undef ], "$name: body");
}

my $clerk = issued('back office', 'clerks', 'tokens:issue');
my $gateway = issued('gateway', 'gateways', 'tokens:introspect');
my $nobody = 'Bearer realm="api"';
my $invalid = "$nobody, error=\"invalid_token\"";
my $form = { 'Content-Type' => 'application/x-www-form-urlencoded' };

sub lacks
{
	return "$nobody, error=\"insufficient_scope\", scope=\"$_[0]\"";
}

# --- 2. Stories -----------------------------------------------------------------------

my $answer = $web->ask(rpc => 'issue', args => { client_id => 'acme', scopes => [ 'orders:read', 'orders:write' ] }, key => $clerk);
is($answer->{status}, 200, 'a clerk issues a token');
is($answer->{headers}{'cache-control'}, 'no-store', 'which nobody is to store');
is_deeply([ sort keys %{ $answer->{data} } ], [ qw(client_id expires_at refresh_at rotation_key scopes token token_id) ], 'one object');
my $old = keep($answer->{data});
is($web->ask(from => 'orders', insert => { item => 'anvil' }, key => $old)->{status}, 201, 'its client writes');
$answer = $web->ask(from => 'orders', select => 'item', key => $old);
is_deeply($answer->{data}[-1], { item => 'anvil' }, 'and reads');
like($answer->{headers}{'x-token-refresh-at'}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00$/, 'and hears when to rotate');
is($answer->{headers}{sunset} // $answer->{headers}{deprecation}, undef, 'and of no end');

$answer = $web->ask(rpc => 'rotate', args => { token => $old }, cut => 1);
is($answer->{status}, 0, 'it rotates, and the connection is cut before the answer');
is(audit_count($node, "event = 'rotated' AND client_id = 'acme'
	AND token_ref = (SELECT sha256(uuid_send(token_id)) FROM tr.tr_validate('$old'))", 'demo'), '1', 'after the commit');
$answer = $web->ask(rpc => 'rotate', args => { token => $old });
is($answer->{status}, 200, 'it asks again');
my $new = keep($answer->{data});
ok($answer->{data}{replayed}, 'and gets the answer that was lost');
is($web->ask(rpc => 'rotate', args => { token => $old })->{data}{token}, $new, 'each time the same');
is($answer->{headers}{'cache-control'}, 'no-store', 'which nobody is to store');
like($answer->{headers}{'x-token-refresh-at'}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00$/, 'with the time to rotate');
like($answer->{headers}{deprecation}, qr/^@\d{10}$/, 'the old one is deprecated');
like($answer->{headers}{sunset}, qr/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/, 'and has an end');
my %said = %{ $answer->{headers} };
for ([ 'the new', $new ], [ 'the old', $old ])
{
	$answer = $web->ask(from => 'orders', key => $_->[1]);
	is($answer->{status}, 200, "$_->[0] one works");
}
is($answer->{headers}{sunset}, $said{sunset}, 'the old one is told the same end');
is($answer->{headers}{deprecation}, $said{deprecation}, 'and since when');
is($web->ask(from => 'orders', key => $new)->{headers}{sunset}, undef, 'the new one nothing of it');
value($node, "SELECT tr.tr_finish_overlap(token_id) FROM tr.tr_validate('$old')", 'demo');
refused($web->ask(from => 'orders', key => $old), 401, $invalid, 'invalid_token', 'overlap_ended', 'the window ended, the old one');
is($web->ask(from => 'orders', key => $new)->{status}, 200, 'the new one works');

# A window that ends by the clock, and an answer that is fetched after it.
$node->safe_psql('demo', q{UPDATE token_rotation.policy SET overlap = '1 second' WHERE name = 'customers'});
$old = issued('late', 'customers', 'orders:read');
is($web->ask(rpc => 'rotate', args => { token => $old }, cut => 1)->{status}, 0, 'another answer is lost');
Web::wait_until('the end of its window', sub { ($answer = $web->ask(from => 'orders', key => $old))->{status} != 200 });
refused($answer, 401, $invalid, 'invalid_token', 'overlap_ended', 'its window ended');
$answer = $web->ask(rpc => 'rotate', args => { token => $old });
ok($answer->{data}{replayed}, 'the holder still gets what was lost');
is($web->ask(from => 'orders', key => keep($answer->{data}))->{status}, 200, 'and it works');
refused($web->ask(rpc => 'rotate', args => { token => $old }, key => $old), 401, $invalid, 'invalid_token', 'overlap_ended',
	'but not with the dead token in the header');
$node->safe_psql('demo', q{UPDATE token_rotation.policy SET overlap = '5 minutes' WHERE name = 'customers'});

# --- 3. Who is refused ------------------------------------------------------------------

my $reader = issued('reader', 'customers', 'orders:read');
my $writer = issued('writer', 'customers', 'orders:write');
my $dead = issued('dead', 'customers', 'orders:read');
value($node, "SELECT tr.tr_revoke('$dead')", 'demo');
my $forged = $reader =~ s/(.{43})$/reverse $1/er;
for my $method (qw(GET POST))
{
	my %ask = $method eq 'GET' ? (from => 'orders') : (from => 'orders', insert => { item => 'x' });

	refused($web->ask(%ask), 401, $nobody, 'token_required', undef, "$method, no token");
	refused($web->ask(%ask, key => $dead), 401, $invalid, 'invalid_token', 'revoked', "$method, a dead token");
	refused($web->ask(%ask, key => $_), 401, $invalid, 'invalid_token', undef, "$method, no token of ours")
	  for 'nonsense', $forged, "trk_$reader";
}
refused($web->ask(from => 'orders', headers => { Authorization => "Bearer $reader" }), 500, undef, 'PGRST300', undef, 'a token as a JWT');
is($web->ask(from => 'orders', headers => { Authorization => "Token $reader" })->{status}, 200, 'the scheme Token does');
refused($web->ask(from => 'orders', insert => { item => 'x' }, key => $reader),
	403, lacks('orders:write'), 'insufficient_scope', undef, 'no scope to write');
refused($web->ask(from => 'orders', key => $writer), 403, lacks('orders:read'), 'insufficient_scope', undef, 'no scope to read');
set_conf($node, 'token_rotation.key_file' => '/nonexistent');
refused($web->ask(from => 'orders', key => $reader), 503, undef, 'unavailable', 'disabled', 'the server has lost its key');
refused($web->ask(rpc => 'rotate', args => { token => $reader }), 503, undef, 'unavailable', 'disabled', 'and cannot rotate');
refused($web->ask(rpc => 'revoke', args => { token => $reader }), 503, undef, 'unavailable', undef, 'nor revoke');
set_conf($node, 'token_rotation.key_file' => '', 'token_rotation.rotation_enabled' => 'off');
is($web->ask(from => 'orders', key => $reader)->{status}, 200, 'it has found it again');
refused($web->ask(rpc => 'rotate', args => { token => $reader }), 503, undef, 'unavailable', 'disabled', 'rotation is switched off');
set_conf($node, 'token_rotation.rotation_enabled' => 'on');

# --- 4. In the request --------------------------------------------------------------------

$node->safe_psql('demo', q{
	CREATE FUNCTION api.probe() RETURNS json LANGUAGE sql STABLE AS $$SELECT json_build_object('user', current_user,
		'client', tr.tr_client(), 'headers', current_setting('request.headers'), 'read_only', current_setting('transaction_read_only'))$$;
	GRANT EXECUTE ON FUNCTION api.probe() TO PUBLIC;
	GRANT USAGE ON SCHEMA tr TO customer, clerk, gateway;
	GRANT EXECUTE ON FUNCTION tr.tr_client() TO clerk, gateway});
$web->standin($conf, PGRST_DB_POOL => 1);
for ([ $reader, 'customer', 'reader' ], [ $clerk, 'clerk', 'back office' ], [ $gateway, 'gateway', 'gateway' ])
{
	my ($key, $role, $client) = @$_;
	my $probe = $web->ask(rpc => 'probe', key => $key)->{data};

	is("$probe->{user}, $probe->{client}, $probe->{read_only}", "$role, $client, on", "a request of $client");
	unlike($probe->{headers}, qr/trk_|x-api-key/i, 'its headers have no key');
	like($probe->{headers}, qr/"user-agent": "/, 'but the others');
}
unlike($web->ask(rpc => 'probe', headers => { Authorization => "Token $reader" })->{data}{headers}, qr/trk_|authorization/i, 'nor where it was another one');

# --- 5. Rows ---------------------------------------------------------------------------------

my $bolt = issued('bolt', 'customers', 'orders:read,orders:write');
$answer = $web->ask(from => 'orders', insert => [ { item => 'nut' }, { item => 'bolt' } ], select => 'client_id,item', key => $bolt);
is_deeply($answer->{data}, [ { client_id => 'bolt', item => 'nut' }, { client_id => 'bolt', item => 'bolt' } ], 'rows are whose they are');
is_deeply($web->ask(from => 'orders', select => 'client_id,item', key => $bolt)->{data}, $answer->{data}, 'and nobody else is seen');
is_deeply([ grep { $_->{client_id} ne 'acme' } @{ $web->ask(from => 'orders', key => $new)->{data} } ], [], 'by anybody');
refused($web->ask(from => 'orders', insert => { item => 'x', client_id => 'acme' }, key => $bolt),
	401, 'Bearer', '42501', undef, "another's name");
is_deeply($web->ask(from => 'orders', key => $reader)->{data}, [], 'who has no rows sees none');
my %sees = (bolt => [ $bolt, '200 bolt bolt' ], acme => [ $new, '200 acme acme' ], reader => [ $reader, '200 ' ], nobody => [ undef, '401 ' ],
	writer => [ $writer, '403 ' ], dead => [ $dead, '401 ' ]);
my @who = map { sort keys %sees } 1 .. ($ENV{TR_QUICK} ? 20 : 500);
my @seen = @{ $web->ask(all => [ map { { from => 'orders', key => $sees{$_}[0] } } @who ]) };
is_deeply([ map { "$_->{status} " . join ' ', map { $_->{client_id} } @{ $_->{data} // [] } } @seen ], [ map { $sees{$_}[1] } @who ],
	'many at once on one connection: everybody sees his own');

# --- 6. Endpoints -------------------------------------------------------------------------------

refused($web->ask(rpc => 'issue', args => { client_id => 'x' }), 401, $nobody, 'token_required', undef, 'issue, nobody');
refused($web->ask(rpc => 'issue', args => { client_id => 'x' }, key => $reader), 401, 'Bearer', '42501', undef, 'issue, a customer');
refused($web->ask(rpc => 'issue', args => { client_id => 'x' }, key => issued('new', 'clerks', '')),
	403, lacks('tokens:issue'), 'insufficient_scope', undef,
	'issue, a clerk without the scope');
is($web->ask(rpc => 'issue', args => { client_id => 'x', scopes => ['tokens:issue'] }, key => $clerk)->{status}, 400, 'issue, no scope for customers');
is($web->ask(rpc => 'issue', args => { client_id => 'x', policy => 'clerks' }, key => $clerk)->{status}, 404, 'issue, no other policy');
value($node, "$realm; SELECT tr.tr_block_client('x')", 'demo');
is($web->ask(rpc => 'issue', args => { client_id => 'x' }, key => $clerk)->{status}, 409, 'issue, a client that is blocked');
refused($web->ask(rpc => 'rotate', args => { token => $_ }),
	401, $invalid, 'invalid_token', undef, 'rotate, no token of ours') for 'nonsense', $forged, '';
refused($web->ask(rpc => 'rotate', args => { token => $dead }), 401, $invalid, 'invalid_token', 'revoked', 'rotate, a dead one');

$answer = $web->ask(rpc => 'introspect', args => { token => $reader }, key => $gateway);
my $state = row($node, "SELECT client_id, client_id AS sub, 'Bearer' AS token_type, token_id AS jti, 'orders:read' AS scope,
	floor(extract(epoch FROM issued_at))::int AS iat, floor(extract(epoch FROM expires_at))::int AS exp
	FROM token_rotation.tokens WHERE client_id = 'reader'", 'demo');
my $active = delete $answer->{data}{active};
ok($active, 'introspect: active');
is_deeply($answer->{data}, $state, 'introspect: and what it is');
is($answer->{headers}{'cache-control'}, 'no-store', 'introspect: nobody is to store it');
for ('nonsense', $dead, $forged, '', $old)
{
	is($web->ask(rpc => 'introspect', args => { token => $_ }, key => $gateway)->{body}, '{"active": false}', 'introspect: not active, and nothing else');
}
is($web->ask(method => 'POST', path => '/rpc/introspect', key => $gateway, headers => $form, body => "token=$reader&token_type_hint=access_token")
	  ->{json}{client_id}, 'reader', 'introspect: with a form');
refused($web->ask(rpc => 'introspect', args => { token => $reader }), 401, $nobody, 'token_required', undef, 'introspect, nobody');
refused($web->ask(rpc => 'introspect', args => { token => $reader }, key => $reader),
	401, 'Bearer', '42501', undef, 'introspect, a customer');
refused($web->ask(rpc => 'introspect', args => { token => $reader }, key => issued('g2', 'gateways', '')),
	403, lacks('tokens:introspect'), 'insufficient_scope',
	undef, 'introspect, without the scope');
$answer = $web->ask(method => 'GET', path => '/rpc/introspect?token=nonsense', key => $gateway);
is("$answer->{status} $answer->{headers}{allow}", '405 POST', 'introspect: not with GET');

my $spare = issued('spare', 'customers', 'orders:read');
$answer = $web->ask(method => 'POST', path => '/rpc/revoke', headers => $form, body => "token=$spare&token_type_hint=refresh_token");
is("$answer->{status} '$answer->{body}'", "200 ''", 'revoke: with a form');
refused($web->ask(from => 'orders', key => $spare), 401, $invalid, 'invalid_token', 'revoked', 'revoke: it has ended');
for ($spare, 'nonsense', $forged, '')
{
	$answer = $web->ask(rpc => 'revoke', args => { token => $_ });
	is("$answer->{status} '$answer->{body}'", "200 ''", 'revoke: the same, whatever it was');
}
is($web->ask(from => 'orders', key => $reader)->{status}, 200, 'revoke: who knows an id only ends nothing');
is($web->ask(rpc => $_, args => { token => 'nonsense' }, get => 1)->{status}, 405, "$_: not with GET") for qw(revoke rotate);

$answer = $web->ask(rpc => 'authorize', key => issued("b\xc3\xb6lt & co\r\nX: y", 'customers', 'orders:read'));
is("$answer->{status} $answer->{headers}{'x-client-id'}", '204 b%C3%B6lt%20%26%20co%0D%0AX%3A%20y', 'authorize: any name fits a header');
$answer = $web->ask(method => 'GET', path => '/rpc/authorize?scope=orders:read', key => $reader);
is("$answer->{status} $answer->{headers}{'x-client-id'} $answer->{headers}{'x-token-id'}", "204 reader $state->{jti}", 'authorize: with the scope');
refused($web->ask(rpc => 'authorize', args => { scope => 'orders:write' }, key => $reader),
	403, lacks('orders:write'), 'insufficient_scope', undef, 'authorize, without it');
refused($web->ask(rpc => 'authorize'), 401, $nobody, 'token_required', undef, 'authorize, nobody');

# Exposed is what is meant to be.
$node->safe_psql('demo', 'DROP FUNCTION api.probe()');
is(value($node, q{SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'api'::regnamespace}, 'demo'),
	'authorize introspect issue revoke rotate', 'these functions are there');
is(value($node, q{SELECT string_agg(proname || ' ' || r, ', ' ORDER BY proname, r)
	FROM pg_proc, unnest(ARRAY['anon', 'customer', 'clerk', 'gateway']) r
	WHERE pronamespace = 'api'::regnamespace AND has_function_privilege(r, pg_proc.oid, 'EXECUTE')}, 'demo'),
	'authorize clerk, authorize customer, authorize gateway, introspect gateway, issue clerk, revoke anon, revoke clerk, revoke customer, revoke gateway, '
	  . 'rotate anon, rotate clerk, rotate customer, rotate gateway', 'these roles may call them');
is(value($node, q{SELECT count(*) FROM pg_proc, unnest(ARRAY['authenticator', 'anon', 'customer', 'clerk', 'gateway']) r
	WHERE pronamespace IN ('tr'::regnamespace, 'api_private'::regnamespace) AND has_function_privilege(r, pg_proc.oid, 'EXECUTE')
	AND proname IN ('tr_issue', 'tr_rotate', 'tr_revoke', 'tr_revoke_id', 'add_headers', 'refuse', 'http_date')}, 'demo'),
	'0', 'and none of them an issuer of its own');
is(value($node, q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'api'::regnamespace
	AND (NOT prosecdef OR proconfig[1] <> 'search_path=pg_catalog, pg_temp')}, 'demo'), '0', 'each has its search_path');
is($web->ask(rpc => $_, key => $clerk)->{error}{code}, 'PGRST202', "$_ is none") for qw(tr_issue tr_revoke_client refuse add_headers);

# --- 7. A server that goes -------------------------------------------------------------------------

$node->stop('immediate');
is($web->ask(from => 'orders', key => $reader)->{status}, 503, 'without the server it is 503');
$node->start;
for (1 .. 100)
{
	$answer = $web->ask(from => 'orders', key => $reader);
	last if $answer->{status} == 200;
	Time::HiRes::sleep(0.1);
}
is($answer->{status}, 200, 'with it all goes on');

$node->backup('near');
my $standby = PostgreSQL::Test::Cluster->new('near');
$standby->init_from_backup($node, 'near', has_streaming => 1);
$standby->append_conf('postgresql.conf', "token_rotation.max_staleness = '2s'\n");
$standby->start;
$near = Web->new($standby, 'demo');
$near->standin($conf);

# Asks the standby until it answers so.
sub near_until
{
	my ($status) = @_;

	Web::wait_until("$status of the standby", sub { ($answer = $near->ask(from => 'orders', key => $bolt))->{status} == $status });
	return $answer;
}

is(near_until(200)->{status}, 200, 'a standby answers a good token');
is_deeply([ map { $_->{item} } @{ $answer->{data} } ], [qw(nut bolt)], 'with what is its client\'s');
refused($near->ask(from => 'orders', key => $dead), 401, $invalid, 'invalid_token', 'revoked', 'and a dead one');
is($near->ask(rpc => 'rotate', args => { token => $bolt })->{error}{code}, '0A000', 'but it writes nothing');
$standby->safe_psql('demo', 'SELECT pg_wal_replay_pause()');
refused(near_until(503), 503, undef, 'unavailable', 'stale', 'one that is too far behind cannot tell');
refused($near->ask(from => 'orders', key => $dead), 503, undef, 'unavailable', 'stale', 'of a dead one, either');
$standby->safe_psql('demo', 'SELECT pg_wal_replay_resume()');
is(near_until(200)->{status}, 200, 'until it has caught up');

# --- 8. Secrets -----------------------------------------------------------------------------------------

$secrets{$_} = 1 for $web->{answered} =~ /(trk_[0-9A-Za-z]{71})/g;
cmp_ok(scalar keys %secrets, '>', 12, 'there were many tokens');
my $hidden = join '|', map { substr $_, -49 } keys %secrets;
unlike($web->logs . $near->logs, qr/$hidden/, 'the log of the stand-in has none');
unlike(slurp_file($_->logfile), qr/$hidden/, 'nor has that of ' . $_->name) for $node, $standby;
like(slurp_file($node->logfile), qr/parameters: .*orders/, 'although it logs parameters');
my @answers = map { @{ $_->{answers} } } $web, $near;
is(scalar(grep { $_->{status} >= 400 && ($_->{body} // '') =~ /$hidden/ } @answers), 0, 'no error has one');
is(scalar(grep { join(' ', %{ $_->{headers} // {} }) =~ /$hidden/ } @answers), 0, 'no header has one');
done_testing();

# Debian's nginx, configured as doc/http.md shows, before the stand-in for PostgREST
# (test/http/standin.mjs; it is not PostgREST) and before another service.
#
#  1. A token behind Bearer, Token or in X-API-Key gets to the database; what is no token is
#     401, with its challenge; Bearer alone would not get there.
#  2. auth_request lets a valid token through to the service, with the client's name and
#     without the token, whatever the client says itself; it passes 401 and 403 on, and
#     says when to rotate.
#  3. Where nobody can tell whether a token is good, the answer is 503, not 401; the
#     service's own errors pass.
#  4. A token that is revoked is refused by the next request.
#  5. No log has a token.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Receiver;
use Test::More;
use TokenRotation;
use Web;

plan skip_all => Web::missing() if Web::missing();
plan skip_all => Web::no_nginx() if Web::no_nginx();

my $top = "$FindBin::RealBin/../..";
my $doc = slurp_file("$top/doc/http.md");
my ($http) = $doc =~ /^```nginx\n(.*?)^```$/ms or die 'doc/http.md shows no nginx';
my ($conf) = $doc =~ /^```\n(db-uri = .*?)^```$/ms or die 'doc/http.md shows no postgrest.conf';

my $node = new_node('nginx', extension => 0, conf => "token_rotation.leeway = 0\n");
my $web = Web->new($node, 'demo');
my $service = Receiver->start;
END
{
	my $status = $?;

	$web->stop if $web;
	$service->stop if $service;
	$? = $status;
}
$node->safe_psql('postgres', 'CREATE DATABASE demo');
$node->safe_psql('demo', 'CREATE SCHEMA tr; CREATE EXTENSION token_rotation SCHEMA tr CASCADE');
my ($status, $out, $err) = $node->psql('demo', slurp_file("$top/doc/examples/api.sql"), on_error_stop => 1);
is($status, 0, 'the recipe runs') or diag($err);
$web->standin($conf);

my $port = PostgreSQL::Test::Cluster::get_free_port();
$http =~ s/listen 8080;/listen 127.0.0.1:$port;/ or die 'it listens elsewhere';
$http =~ s/127\.0\.0\.1:3000/127.0.0.1:$web->{port}/g;
$http =~ s/127\.0\.0\.1:8000/127.0.0.1:$service->{port}/g;
$web->nginx($http);
my $url = "http://127.0.0.1:$port";

sub issued
{
	my ($client, $scopes) = @_;

	return row($node, "SELECT * FROM tr.tr_issue('$client', 'customers', '{$scopes}')", 'demo', "SET token_rotation.realm = 'shop'")->{token};
}

# Through nginx: the status, and the challenge if there is one.
my $answer;

sub get
{
	my ($path, %headers) = @_;

	$answer = $web->ask(url => $url, method => 'GET', path => $path, headers => \%headers);
	return join ' ', $answer->{status}, $answer->{headers}{'www-authenticate'} // ();
}

my $token = issued('acme', 'orders:read');
my $other = issued('bolt', 'orders:write');
my $invalid = '401 Bearer realm="api", error="invalid_token"';

# --- 1. Where the token travels ---------------------------------------------------

is($web->ask(method => 'GET', path => '/orders', headers => { Authorization => "Bearer $token" })->{status}, 500, 'Bearer does not get to the database');
for ('Bearer ', 'bearer  ', 'Token ')
{
	is(get('/orders', Authorization => "$_$token"), '200', "nginx moves what follows $_");
	is(get('/orders', Authorization => "${_}nonsense"), $invalid, 'also what is no token');
}
is(get('/orders', 'X-API-Key' => $token), '200', 'X-API-Key stays');
is(get('/orders'), '401 Bearer realm="api"', 'no token');
is(get('/orders', Authorization => 'Basic YTpi'), '401 Bearer realm="api"', 'nor another scheme');
is($web->ask(url => $url, rpc => 'authorize', headers => { Authorization => "Bearer $token" })->{headers}{'x-client-id'}, 'acme',
	'postgrest-js comes through');

# --- 2. Before another service -------------------------------------------------------

is(get('/reports/1', Authorization => "Bearer $token", 'X-Client-Id' => 'root'), '204', 'a valid token is let through');
like($answer->{headers}{'x-token-refresh-at'}, qr/^\d{4}-/, 'the client hears when to rotate');
my ($request) = $service->got_raw;
is($request->{headers}{'x-client-id'}, 'acme', "the service hears the client's name");
is(join(' ', grep { $request->{headers}{$_} =~ /trk_/ || /^(?:x-api-key|authorization)$/ } sort keys %{ $request->{headers} }), '', 'and not its token');
is(get('/reports/1'), '401 Bearer realm="api"', 'nobody is not');
is(get('/reports/1', 'X-Client-Id' => 'root'), '401 Bearer realm="api"', 'whatever he says');
is(get('/reports/1', 'X-API-Key' => 'nonsense'), $invalid, 'nor what is no token');
is(get('/reports/1', 'X-API-Key' => $other), '403', 'nor a token without the scope');
is(get('/authorize-reports', 'X-API-Key' => $token), '404', 'what nginx asks is not for others');
is(scalar(() = $service->got_raw), 1, 'the service has heard of one request');

# --- 3. Who cannot tell -----------------------------------------------------------------

set_conf($node, 'token_rotation.key_file' => '/nonexistent');
is(get('/reports/1', 'X-API-Key' => $token), '503', 'the server has lost its key');
is($answer->{headers}{'retry-after'}, '5', 'and the client is to ask later');
is(get('/orders', 'X-API-Key' => $token), '503', 'as without nginx');
set_conf($node, 'token_rotation.key_file' => '');
is(get('/reports/1', 'X-API-Key' => $token), '204', 'it has found it again');
$service->mode('fail');
is(get('/reports/1', 'X-API-Key' => $token), '500', "the service's own errors pass");
$service->mode('ok');
$web->end('standin');
is(get('/reports/1', 'X-API-Key' => $token), '503', 'without the stand-in it is 503, too');
$web->standin($conf);

# --- 4. The end ---------------------------------------------------------------------------

is(get('/reports/1', 'X-API-Key' => $token), '204', 'it goes on');
is($web->ask(url => $url, rpc => 'revoke', args => { token => $token })->{status}, 200, 'its holder ends it');
is(get('/reports/1', 'X-API-Key' => $token), $invalid, 'the next request is refused');
is(get('/orders', Authorization => "Bearer $token"), $invalid, 'here, too');

# --- 5. Logs --------------------------------------------------------------------------------

my $logs = $web->logs;
like($logs, qr/GET \/reports\/1 .* 204/, 'nginx logs');
unlike($logs, qr/\Q$token\E|\Q$other\E/, 'but no token');
done_testing();

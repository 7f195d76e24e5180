# Behind PgBouncer nobody's identity gets into another client's transaction.
#
#  1. Transaction pooling, nothing prepared: 50 clients share 2 server connections.
#     They commit, roll back, fail, have statements cancelled, and disconnect in the
#     midst, with savepoints before it that are rolled back or released.  Each
#     transaction begins as nobody's, and is then exactly whose token it has shown.
#  2. Session pooling likewise, with clients that come and go; with statements that
#     are prepared and kept, and without.
#  3. Prepared statements in transaction pooling: where PgBouncer follows them
#     (max_prepared_statements, since 1.21), likewise; where it does not, a name is
#     taken by whoever had the connection before, as doc/drivers.md says.
#  4. Statement pooling has no transactions; the join on tr_validate serves there, and
#     a client is not bound beyond its statement.
#  5. In each, every way to end a transaction was followed by another client's on the
#     same connection, as far as the pooler keeps the connection.
#
#   TR_QUICK    1: 2,000 transactions of each kind instead of 100,000 of the first and
#               10,000 of the others

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use Pooler;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

plan skip_all => Pooler->missing if Pooler->missing;

my $clients = 50;
my ($most, $some) = $ENV{TR_QUICK} ? (2_000, 2_000) : (100_000, 10_000);
my $node = new_node('poolers', conf => "token_rotation.worker_nap = '500ms'\ntoken_rotation.ring_size = 8192\nfsync = off\n");
my $follows = Pooler->version >= 1021;

# The folder of libpq's headers is where Debian has it, or the server's.
my $load = PostgreSQL::Test::Utils::tempdir() . '/pooled';
my ($include, $lib) = map { $node->config_data($_) } '--includedir', '--libdir';
system($ENV{CC} // 'cc', '-O2', '-Wall', '-Wextra', '-pthread', "-I$include", '-o', $load, "$FindBin::RealBin/lib/pooled.c",
	"-L$lib", "-Wl,-rpath,$lib", '-lpq') == 0
  or die 'pooled.c does not compile';

# Each client has a row, and so has the second one that it sometimes speaks for.
$node->safe_psql('postgres', q{
	CREATE ROLE shop;
	CREATE ROLE app LOGIN;
	SELECT tr_grant('app', 'issuer', 'shop'), tr_grant('app', 'validator', 'shop');
	ALTER ROLE app SET token_rotation.realm = shop;
	CREATE TABLE orders (client_id text PRIMARY KEY, n bigint NOT NULL DEFAULT 0) WITH (fillfactor = 20);
	ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON orders USING (client_id = (SELECT tr_client()) AND (SELECT tr_has_scope('orders')));
	GRANT SELECT, UPDATE ON orders TO app});
my $tokens = $node->basedir . '/tokens';
append_to_file($tokens, value($node, qq{
	SET ROLE app; SET token_rotation.realm = shop;
	CREATE TEMPORARY TABLE t AS SELECT g, i.* FROM generate_series(1, $clients * 3) g,
		LATERAL tr_issue('client_' || g, scopes => CASE WHEN g > 0 THEN '{orders}'::text[] END) i;
	SELECT count(tr_revoke(token)) FROM t WHERE g > $clients * 2;
	RESET ROLE;
	INSERT INTO orders SELECT client_id FROM t WHERE g <= $clients * 2;
	SELECT concat_ws(' ', o.client_id, o.token, o.token_id, s.client_id, s.token, s.token_id, d.token)
	FROM t o JOIN t s ON s.g = o.g + $clients JOIN t d ON d.g = o.g + $clients * 2}) =~ s/^\d+\n//r . "\n");

# Let the clients work behind a pooler, up to so many transactions on one connection.
sub load
{
	my ($name, $transactions, $each, $prepared, %option) = @_;
	my $pooler = Pooler->start($node, %option);
	my $sum = 'SELECT sum(n) FROM orders';
	my $before = value($node, $sum);
	my $out = '';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(IPC::Run::run([ $load, 'host=' . $pooler->host . ' port=' . $pooler->port . ' dbname=postgres user=app',
			$tokens, $transactions, $each, $prepared ], '>&', \$out, IPC::Run::timeout(20 * $PostgreSQL::Test::Utils::timeout_default)),
		"$name: nobody met another's identity");
	diag($_) for $out =~ /^wrong: .*/mg;
	my %did = $out =~ /^(\w+) (\d+)$/mg;
	is(value($node, $sum) - $before, $did{worked}, "$name: what was committed is there, no more");
	cmp_ok($did{$_}, '>', 0, "$name: $_") for
	  qw(committed rolled_back failed failed_committed cancelled gone alone rolled_back_to released refused unbound),
	  map { "after_$_" } qw(committed rolled_back failed failed_committed cancelled);
	my $ended = 0;
	$ended += $did{$_} for qw(committed rolled_back failed failed_committed cancelled gone alone);
	cmp_ok($ended, '>=', $transactions * 0.99, "$name: all came to their end");
	my $others = 0;
	$others += $did{"after_$_"} for qw(committed rolled_back failed failed_committed cancelled gone);
	cmp_ok($others, '>', $did{servers}, "$name: on connections that were others' before");
	note("tried: $name: $ended transactions of $clients clients over $did{connected} connections to the pooler, $did{servers} to the server, "
		. "$others right after another client's; ", join ', ', map { "$_ $did{$_}" } sort keys %did);
	$pooler->stop;
	return;
}

# --- 1. and 2. Transaction and session pooling ------------------------------------

load('transaction pooling', $most, 40, 0, pool_mode => 'transaction');
load('session pooling', $some, 4, 0, pool_mode => 'session');
load('session pooling, prepared', $some, 4, 1, pool_mode => 'session');

# --- 3. Prepared statements in transaction pooling --------------------------------

# Two clients that prepare the same name, on the only connection to the server.
sub prepare_twice
{
	my (%option) = @_;
	my $pooler = Pooler->start($node, pool_mode => 'transaction', default_pool_size => 1, %option);
	my @lines = map {
		my ($out, $err) = run_command([ 'pgbench', '-n', '-M', 'prepared', '-t', 1, '-f', $_,
				'-h', $pooler->host, '-p', $pooler->port, '-U', 'app', 'postgres' ]);
		$err =~ /prepared statement "\w+" already exists/ ? 'taken' : $out =~ /processed: 1\/1/ ? 'done' : "$out$err"
	} ($node->basedir . '/prepare.sql') x 2;

	$pooler->stop;
	return "@lines";
}
append_to_file($node->basedir . '/prepare.sql', "SELECT tr_client();\n");
if ($follows)
{
	load('transaction pooling, prepared', $some, 40, 1, pool_mode => 'transaction', max_prepared_statements => 100);
	is(prepare_twice(max_prepared_statements => 100), 'done done', 'each client has its own prepared statements');
	is(prepare_twice(max_prepared_statements => 0), 'done taken', 'but for max_prepared_statements = 0');
}
else
{
	is(prepare_twice(), 'done taken', 'prepared statements of one client are in the way of another');
}

# --- 4. Statement pooling -------------------------------------------------------------

my $pooler = Pooler->start($node, pool_mode => 'statement', default_pool_size => 1);
my ($token) = slurp_file($tokens) =~ /^client_1 (\S+)/m;
my ($out, $err) = run_command([ 'psql', '-X', '-q', '-A', '-t', '-h', $pooler->host, '-p', $pooler->port, '-U', 'app', 'postgres',
	'-c', "SELECT v.valid, t.name FROM tr_validate('$token') v JOIN (VALUES ('client_1', 'own'), ('client_2', 'other')) t (client_id, name) USING (client_id)",
	'-c', "SELECT client_id FROM tr_authenticate('$token')", '-c', 'SELECT tr_client() IS NULL', '-c', 'BEGIN' ]);
is($out, "t|own\nclient_1\nt", 'statement pooling: a join, and nobody is bound afterwards');
like($err, qr/transaction blocks not allowed in statement pooling mode/, 'there are no transactions');
$pooler->stop;

is(audit_count($node, "event = 'events_lost'"), 0, 'no event was lost');
unlike(join('', logged($node)), qr/PANIC:|TRAP:|terminated by signal/, 'no server process crashed');
done_testing();

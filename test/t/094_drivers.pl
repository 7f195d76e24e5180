# The same short story through six drivers, straight and behind PgBouncer in
# transaction pooling.
#
#  1. Each program of test/drivers is issued a token, authenticates, works under row
#     security, rotates, repeats the rotation and gets the identical answer, uses
#     both, and is refused with SQLSTATE 28000 after a revocation.  All tell the
#     same, but for the types of what they got, which are those of the driver.
#  2. Behind PgBouncer each needs what doc/drivers.md says: where that does not follow
#     prepared statements, those that prepare fail without their setting, and do not
#     with it; where it does, they need none.  There each transaction gets a new
#     connection to the server.
#  3. The server's log, with every statement in it, has no token: also not of the
#     driver that writes parameters into the statement.
#  4. What doc/drivers.md shows stands in these programs.
#
# A driver that is not there is skipped.  Debian's are in the folder that TR_DRIVERS
# names (test/drivers/programs), npm's in that of TR_HTTP (test/http/modules).

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use JSON::PP ();
use Pooler;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $here = "$FindBin::RealBin/../drivers";
my $work = PostgreSQL::Test::Utils::tempdir();
my $modules = ($ENV{TR_HTTP} // "$FindBin::RealBin/../http") . '/node_modules';
my $python = defined $ENV{TR_DRIVERS} ? "$ENV{TR_DRIVERS}/python" : '';
my $jar = defined $ENV{TR_DRIVERS} ? "$ENV{TR_DRIVERS}/postgresql.jar" : '/usr/share/java/postgresql.jar';

# JDBC has no Unix sockets.
my $node = new_node('drivers', conf => "listen_addresses = '127.0.0.1'\nlog_statement = all\ntoken_rotation.worker_nap = '500ms'\n");
$node->safe_psql('postgres', q{
	CREATE ROLE shop;
	CREATE ROLE app LOGIN;
	SELECT tr_grant('app', 'issuer', 'shop'), tr_grant('app', 'validator', 'shop');
	ALTER ROLE app SET token_rotation.realm = shop;
	CREATE TABLE orders (id uuid NOT NULL, client_id text NOT NULL DEFAULT tr_client(), placed_at timestamptz NOT NULL,
		tags text[] NOT NULL, body jsonb NOT NULL, note text);
	ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON orders USING (client_id = (SELECT tr_client()) AND (SELECT tr_has_scope('orders')));
	GRANT SELECT, INSERT ON orders TO app;
	INSERT INTO orders VALUES (gen_random_uuid(), 'somebody else', now(), '{}', '{}', 'not for others')});

# --- the programs ------------------------------------------------------------------

# A copy of a program beside the modules that it finds there.
sub beside_modules
{
	my ($file) = @_;

	symlink $modules, "$work/node_modules" unless -e "$work/node_modules";
	append_to_file("$work/$file", slurp_file("$here/$file"));
	return "$work/$file";
}

# Is there such a command, and does it succeed?
sub works
{
	my (@command) = @_;

	return eval { IPC::Run::run(\@command, '<', \undef, '&>', '/dev/null') };
}

# How a program is run, or [why it is not].
sub libpq
{
	my ($include, $lib) = map { $node->config_data($_) } '--includedir', '--libdir';

	system($ENV{CC} // 'cc', '-O2', '-Wall', '-Wextra', "-I$include", '-o', "$work/libpq", "$here/libpq.c",
		"-L$lib", "-Wl,-rpath,$lib", '-lpq') == 0
	  or die 'libpq.c does not compile';
	return "$work/libpq";
}

sub npm
{
	my ($module, $file) = @_;

	return [ 'no node: see test/http/modules' ] unless works('node', '--version');
	return [ "no $modules/$module: see test/http/modules" ] unless -e "$modules/$module";
	return ('node', beside_modules($file));
}

sub python
{
	my ($module) = @_;
	my @command = ('env', "PYTHONPATH=$python", '/usr/bin/python3');

	return [ "no $module: see test/drivers/programs" ] unless works(@command, '-c', "import $module");
	return (@command, "$here/with_$module.py");
}

# A program of one file is compiled where it is started, which needs a compiler.
sub jdbc
{
	return [ "no $jar: see test/drivers/programs" ] unless -e $jar;
	return [ 'no JDK, which test/drivers/programs has only in a full run' ] unless works('java', '--list-modules')
	  && (run_command([ 'java', '--list-modules' ]))[0] =~ /^jdk\.compiler\b/m;
	return ('java', '-Dfile.encoding=UTF-8', '-cp', $jar, "$here/Jdbc.java");
}

# The types that users of a driver expect: of libpq by their numbers.
my $numbers = { token => 25, rotation_key => 25, token_id => 2950, scopes => 1009, metadata => 3802, expires_at => 1184,
	id => 2950, placed_at => 1184, tags => 1009, body => 3802, note => 25, replayed => 16 };

sub types
{
	my ($string, $null, $uuid, $array, $json, $time, $bool) = @_;

	return { token => $string, rotation_key => $null, token_id => $uuid, scopes => $array, metadata => $json, expires_at => $time,
		id => $uuid, placed_at => $time, tags => $array, body => $json, note => $null, replayed => $bool };
}

# Name, types, does it prepare by itself?, the program.
my @drivers = (
	[ 'libpq', $numbers, 0, libpq() ],
	[ 'node-postgres', types(qw(string null string Array Object Date boolean)), 0, npm('pg', 'pg.mjs') ],
	[ 'postgres.js', types(qw(string null string Array Object Date boolean)), 1, npm('postgres', 'postgres.mjs') ],
	[ 'psycopg', types(qw(str NoneType UUID list dict datetime bool)), 1, python('psycopg') ],
	[ 'psycopg2', types(qw(str NoneType UUID list dict datetime bool)), 0, python('psycopg2') ],
	[ 'JDBC', types(qw(String null UUID Array String OffsetDateTime Boolean)), 1, jdbc() ]);

# --- 1. and 2. The story -------------------------------------------------------------------

my $json = JSON::PP->new->utf8;
my ($true, $false) = ($json->decode('[true, false]')->@*);

# What each must tell of a client.
sub story
{
	my ($client) = @_;
	my @scopes = ('orders', 'odd,{scope}');

	return {
		issued => { client_id => $client, owner => 'shop', status => 'active', rotation_key => undef, scopes => \@scopes,
			metadata => { team => "Zo\x{eb}", seats => 3, none => undef }, own_family => $true, life => 24 * 60 * 60 * 1000,
			just_now => $true },
		bound => { client => $client, same_id => $true, scopes => \@scopes },
		orders => [ { id => '5f3b1c2e-7a90-4d1e-8c55-0123456789ab', client_id => $client, placed_at => '2026-02-03T04:05:06.789Z',
			tags => [ 'plain', 'with space', 'comma, {brace} "quote" \\', undef ],
			body => { n => 1.5, deep => { list => [ 1, 'two', undef ] }, on => $true }, note => undef } ],
		after => { client => undef, rows => 0 },
		rotated => { other => $true, replayed => $false, reason => 'ok', client_id => $client, previous => $true, overlap => $true },
		again => { same => $true, replayed => $true, reason => 'ok' },
		both => [ { valid => $true, status => 'rotating' }, { valid => $true, status => 'active' } ],
		refused => { sqlstate => '28000', detail => 'The reason is revoked.' },
		usable => { rows => 1 },
		requests => 10,
		nothing => { valid => $false, reason => 'malformed', map { $_ => undef } qw(client_id scopes metadata valid_until token_id) },
	};
}

# Run a program of a name: what it told, decoded, and what it said besides.
sub told
{
	my ($client, $port, $pooled, @command) = @_;
	my $bytes = $client;
	utf8::encode($bytes);
	my %env = (PGHOST => '127.0.0.1', PGPORT => $port, PGUSER => 'app', PGDATABASE => 'postgres', TR_CLIENT => $bytes,
		LC_ALL => 'C.UTF-8', TZ => 'America/Lima', ($pooled ? (TR_POOLED => 1) : ()));
	my ($out, $err) = ('', '');

	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err,
		init => sub { delete $ENV{TR_POOLED}; @ENV{ keys %env } = values %env },
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return ({ map { /^(\w+) (.*)$/ ? ($1 => $json->decode($2)) : () } split /\n/, $out }, $out . $err);
}

# It tells the whole story.
sub tells
{
	my ($name, $port, $types, $pooled, @command) = @_;
	my $client = "Caf\x{e9} \x{2615} $name";
	my ($said, $output) = told($client, $port, $pooled, @command);
	my $got = delete $said->{types};
	my $expected = story($client);

	$expected->{orders}[0]{tags}[3] = 'NULL' if $name =~ /^postgres\.js/;    # it reads arrays so
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply($said, $expected, "$name: the story") or diag($output);
	is_deeply({ map { $_ => $got->{$_} } keys %$types }, $types, "$name: the types");
	return;
}

my @told;
my $follows = !Pooler->missing && Pooler->version >= 1021;
my %option = (pool_mode => 'transaction', ignore_startup_parameters => 'extra_float_digits', server_lifetime => 0);
my $pooler = Pooler->missing ? undef : Pooler->start($node, %option, $follows ? (max_prepared_statements => 0) : ());
my $following = $follows ? Pooler->start($node, %option, max_prepared_statements => 100) : undef;
for (@drivers)
{
	my ($name, $types, $prepares, @command) = @$_;

	SKIP:
	{
		skip "$name: $command[0][0]", 1 if ref $command[0];
		tells("$name, straight", $node->port, $types, 0, @command);
		push @told, $name;
		skip "$name: " . Pooler->missing, 1 unless $pooler;
		tells("$name, pooled", $pooler->port, $types, 1, @command);
		tells("$name, pooled by who follows", $following->port, $types, 0, @command) if $follows;
		next unless $prepares;
		my ($said, $output) = told('nobody', $pooler->port, 0, @command);
		ok(!defined $said->{types}, "$name, pooled without the setting: it fails");
		like($output, qr/prepared statement "\S+" does not exist/, 'because it has prepared');
	}
}
note('tried: the story through ' . join(', ', @told) . ($pooler ? ', each also behind PgBouncer' : ''));

# --- 3. The log ---------------------------------------------------------------------------

my $log = slurp_file($node->logfile);
like($log, qr/tr_rotate/, 'the log has the statements');
unlike($log, qr/trk_[0-9A-Za-z]{71}/, 'and no token');
like($log, qr/trk_/, 'but that there was one') if grep { $_ eq 'psycopg2' } @told;

# --- 4. The documentation --------------------------------------------------------------------

my %in_programs = map { (s/^\s+|\s+$//gr => 1) } map { split /\n/, slurp_file($_) } glob "$here/*.{c,mjs,py,java}";
my @blocks = slurp_file("$here/../../doc/drivers.md") =~ /^```(?:c|js|python|java)\n(.*?)^```$/msg;
cmp_ok(scalar @blocks, '>=', @drivers, 'doc/drivers.md shows each driver');
is_deeply([ grep { /\S/ && !$in_programs{ s/^\s+|\s+$//gr } } map { split /\n/ } @blocks ], [], 'what it shows stands in the programs');

done_testing();

# Nothing of a secret in any file of the server, its archive and its backups.
#
# Clients issue, validate, rotate, replay and revoke, and have successors delivered,
# under the noisiest settings, with literals and with bound values, in savepoints that roll back
# and in statements that fail.  Then everything that is on disk is searched for
# any 20 consecutive characters of what they held, and for any 20 consecutive
# bytes of the nonces:
#
#  1. the data directory, also after a crash and after a clean stop: tables,
#     indexes, WAL, logs, statistics
#  2. the archive of the WAL, a base backup, a dump
#
# A nonce may be in the files of token_cache in the data directory, and nowhere
# else: it is UNLOGGED.  The search is shown to find what is there.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use File::Basename qw(basename);
use Gnupg;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Secrets;
use TokenRotation;

my $node = new_node('leaks', extension => 0, initdb => ['--wal-segsize=1'], conf => qq(
	shared_preload_libraries = 'pg_stat_statements, auto_explain, token_rotation'
	log_destination = 'stderr, csvlog, jsonlog'
	logging_collector = on
	log_statement = all
	log_min_duration_statement = 0
	log_parameter_max_length = -1
	log_parameter_max_length_on_error = -1
	log_min_messages = debug1
	log_min_error_statement = debug1
	auto_explain.log_min_duration = 0
	auto_explain.log_verbose = on
	token_rotation.audit_validations = all
	token_rotation.worker_nap = '500ms'
	wal_level = logical
	autovacuum_naptime = '1s'
), streaming => 1);
$node->append_conf('postgresql.conf', "archive_mode = on\narchive_command = 'cp \"%p\" \"@{[$node->archive_dir]}/%f\"'\n");
$node->restart;
install($node);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements; CREATE EXTENSION IF NOT EXISTS pgcrypto');
$node->safe_psql('postgres', "UPDATE token_rotation.policy SET rotation_proof = 'rotation_key' WHERE name = 'partner'");

my (@held, @nonces);

sub held
{
	push @held, grep { defined && length } @_;
	return $_[0];
}

# Nonces, as far as the worker has not erased them yet.
sub note_nonces
{
	push @nonces, map { pack 'H*', $_ } split /\n/,
	  value($node, "SELECT encode(nonce, 'hex') FROM token_rotation.token_cache WHERE nonce IS NOT NULL");
	return;
}

# --- What clients do ------------------------------------------------------

# One family, with literals.
sub life
{
	my ($policy) = @_;
	my $row = issue($node, "'client', '$policy'");
	my ($token, $key) = @$row{qw(token rotation_key)};
	my $proof = literal($key // $token);
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	held($token, $key);
	$session->query("BEGIN; SAVEPOINT s; SELECT valid FROM tr_validate('$token'); ROLLBACK TO s; COMMIT");
	$session->query("SELECT 1/0, '$token'");
	$session->quit;
	my $next = row($node, "SELECT * FROM tr_rotate('$token', $proof)");
	held($next->{token}, $next->{rotation_key});
	row($node, "SELECT * FROM tr_rotate('$token', $proof)");
	row($node, "SELECT * FROM tr_rotate('$next->{token}', '$next->{token}')");
	note_nonces();
	value($node, "SELECT count(*) FROM tr_validate_many(ARRAY['$token', '$next->{token}', '" . ($token =~ s/.$/~/r) . "'])");
	value($node, "SELECT tr_revoke('$next->{token}', 'leaked: $next->{token}')");
	rotate($node, $next->{token}, "origin => 'from $token'");
	return;
}
life($_) for qw(default partner internal) x 3;

# Delivered, and opened by GnuPG.
gnupg_home();
make_key('leaks', 'rsa2048');
add_subkey('leaks', 'rsa2048');
$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, rotation_proof, delivery) VALUES ('sealed', 'rotation_key', 'sealed')});
value($node, q{SELECT tr_set_delivery_key('sealed', } . literal(public_key('leaks')) . ')');
for (1 .. 3)
{
	my $old = issue($node, "'sealed', 'sealed'");

	held(@$old{qw(token rotation_key)});
	$node->safe_psql('postgres', "UPDATE token_rotation.token SET refresh_at = issued_at WHERE token_id = '$old->{token_id}'");
	$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM tr_rotate_due()') or die 'nothing was delivered';
}
my @opened = map { JSON::PP->new->decode(decrypt($_->{message})) } rows($node, q{SELECT * FROM tr_deliveries('sealed')});
is(@opened, 3, 'successors are delivered');
held(@$_{qw(token rotation_key)}) for @opened;

# Bound values, and many tokens at once.
for my $script ('SELECT valid FROM tr_validate(:token)', 'SELECT reason FROM tr_rotate(:token)',
	'SELECT 1 / (length(:token) - length(:token))')
{
	my $file = $node->basedir . '/bound.sql';
	my $token = held(issue($node, "'bound'")->{token});

	unlink $file;
	append_to_file($file, "$script;\n");
	run_command([ 'pgbench', '-n', '-t', 2, '-M', 'prepared', '-D', "token=$token", '-f', $file, $node->connstr('postgres') ]);
}
my $many = $node->safe_psql('postgres', "SELECT token FROM generate_series(1, 50) g, LATERAL tr_issue('many' || g) i");
held($_) for split /\n/, $many;
note_nonces();
isnt(scalar @nonces, 0, 'there are nonces to look for');

# What is shown to find: the same bytes in a table of somebody's.
my $planted = 'planted_' . join '', map { (('a' .. 'z'), (0 .. 9))[ ($_ * 7) % 36 ] } 1 .. 40;
$node->safe_psql('postgres', "CREATE TABLE careless AS SELECT '$planted'::text AS t; CHECKPOINT");

# --- Where it may be --------------------------------------------------------

my $cache = value($node, "SELECT pg_relation_filenode('token_rotation.token_cache')");
my @strings = windows(@held);
my @nonce_bytes = map { my $n = $_; map { substr $n, $_, 20 } 0 .. 12 } @nonces;
my ($all_bytes, $all_files) = (0, 0);

sub nothing_in
{
	my ($name, @folders) = @_;
	my ($hits, $bytes, $files) = files_with([ @strings, @nonce_bytes ], @folders);
	my @hits = grep { basename($_) !~ /^$cache(?:\.\d+)?$/ || $name !~ /^data/ } @$hits;

	$all_bytes += $bytes;
	$all_files += $files;
	is("@hits", '', "nothing in the $name");
	return $hits;
}

$node->safe_psql('postgres', 'VACUUM; ANALYZE; CHECKPOINT; SELECT pg_switch_wal()');
my $hits = nothing_in('data directory of a running server', $node->data_dir);
ok((grep { basename($_) eq $cache } @$hits), 'but the nonces in token_cache, where they are');
my ($careless) = files_with([ substr $planted, 8, 20 ], $node->data_dir);
cmp_ok(scalar @$careless, '>=', 3, 'what is stored is found: in a table, the WAL and the log');

$node->backup('base');
nothing_in('base backup', $node->backup_dir . '/base');
my ($dump) = $node->basedir . '/dump.sql';
run_command([ 'pg_dumpall', '-d', $node->connstr('postgres'), '-f', $dump ]);
nothing_in('dump', $dump);

$node->stop('immediate');
nothing_in('data directory after a crash', $node->data_dir);
$node->start;
note_nonces();
$node->stop('fast');
nothing_in('data directory after a stop', $node->data_dir);
nothing_in('archive', $node->archive_dir);
cmp_ok(-s $dump, '>', 10_000, 'the dump is one');
note("tried: $all_bytes bytes in $all_files files searched for pieces of " . @held . ' tokens and keys, and of ' . @nonces . ' nonces');

done_testing();

# Databases come and go while the worker is awake.  "Awake": naps of 200 ms, and
# events for each database until right before it is wanted.
#
#  1. The extension in two databases: both are served; tokens of one are unknown
#     in the other.
#  2. ALTER DATABASE RENAME, CREATE DATABASE ... TEMPLATE, plain DROP DATABASE
#     and DROP DATABASE ... WITH (FORCE) succeed, again and again, with the
#     extension inside, although the worker visits.
#  3. A database made from a template that has the extension is served without
#     being told of; so is a renamed one, and one that was a template and is not
#     any more.
#  4. A template is looked at, not worked on; one that accepts no connections is
#     left alone.
#  5. CREATE EXTENSION, DROP EXTENSION in turn: never an error, and each new
#     installation is served; one that was rolled back leaves nothing.
#  6. ALTER DATABASE SET TABLESPACE and VACUUM FULL of its tables meanwhile.
#  7. Nothing keeps failing: the log has no error and, when all is over, not a
#     line any more.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

# (the ring holds all the replays at once, however slow the worker is)
my $node = new_node('databases',
	conf => "token_rotation.worker_nap = '200ms'\ntoken_rotation.leeway = 0\ntoken_rotation.ring_size = 8192\n");

# Give the worker of a database something to do, so much that it is still at it
# when the next statement comes; or wait until it is seen there.
sub stir
{
	my ($db, $much) = @_;

	value($node, q{
		SELECT count(v) FROM generate_series(1, } . ($much ? 1500 : 200) . q{) g,
			LATERAL tr_issue('stir' || g) i, LATERAL tr_rotate(i.token, overlap => '0') r,
			LATERAL tr_rotate(i.token) a, LATERAL tr_validate(r.token) v}, $db);
	return unless $much;
	$node->poll_query_until('postgres', qq{
		SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'token_rotation worker' AND datname = '$db'});
	return;
}

# Does the worker do its work there?  A window that ends tells.
my $windows = 0;

sub is_served
{
	my ($db, $name) = @_;
	my $client = 'window ' . $windows++;

	rotate($node, issue($node, "'$client'", $db)->{token}, "overlap => '0'", $db);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return poll($node, $name, qq{
		SELECT count(*) = 1 FROM token_rotation.audit
		WHERE event = 'overlap_ended' AND client_id = '$client'}, $db);
}

# 1. Two databases

$node->safe_psql('postgres', 'CREATE DATABASE one');
install($node, 'one');
my $here = issue($node, "'here'");
my $there = issue($node, "'there'", 'one');
is_served('postgres', 'the first database is served');
is_served('one', 'the second one too');
is(verdict($node, $here->{token}, 'one'), 'unknown', 'tokens of one are unknown in the other');
is(verdict($node, $there->{token}), 'unknown', 'and the other way round');

# 2. and 3. Rename, copy, drop

my $rounds = 3;
my ($renamed, $copied, $dropped, $forced) = (0) x 4;
for my $round (1 .. $rounds)
{
	my $much = $round == $rounds;

	stir('one', $much);
	$renamed++ if error_of($node, 'ALTER DATABASE one RENAME TO two') eq '';
	for my $strategy ('wal_log', 'file_copy')
	{
		stir('two', $much);
		$copied++ if error_of($node, "CREATE DATABASE copy_$strategy TEMPLATE two STRATEGY $strategy") eq '';
	}
	stir('two');
	$renamed++ if error_of($node, 'ALTER DATABASE two RENAME TO one') eq '';
	stir('copy_wal_log', $much);
	$dropped++ if error_of($node, "DROP DATABASE copy_wal_log") eq '';
	stir('copy_file_copy', $much);
	$forced++ if error_of($node, "DROP DATABASE copy_file_copy WITH (FORCE)") eq '';
}
is($renamed, 2 * $rounds, 'every RENAME succeeds');
is($copied, 2 * $rounds, 'every CREATE DATABASE TEMPLATE');
is($dropped, $rounds, 'every DROP DATABASE');
is($forced, $rounds, 'every DROP DATABASE WITH (FORCE)');
is_served('one', 'a database that was renamed is served');
is(verdict($node, $there->{token}, 'one'), 'ok', 'and has its tokens');

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one');
poll($node, 'a copy is served before anybody has been there', q{
	SELECT count(*) = 0 FROM token_rotation.token WHERE status = 'rotating'}, 'copy');
is_served('copy', 'and afterwards');
is(verdict($node, $there->{token}, 'copy'), 'ok', 'with the tokens of its template');
value($node, "SELECT tr_revoke('$there->{token}')", 'copy');
is(verdict($node, $there->{token}, 'one'), 'ok', 'of which it has its own');

# 4. Templates

$node->safe_psql('postgres', 'ALTER DATABASE copy IS_TEMPLATE true');
my $waiting = issue($node, "'waiting'", 'copy');
rotate($node, $waiting->{token}, "overlap => '0'", 'copy');
is(verdict($node, $waiting->{token}, 'copy'), 'overlap_ended', 'a template: verdicts need no worker');
is_served('one', 'others are served') for 1 .. 4;
is(audit_count($node, "event = 'overlap_ended' AND client_id = 'waiting'", 'copy'), '0', 'a template is not');
$node->safe_psql('postgres', 'CREATE DATABASE from_template TEMPLATE copy');
poll($node, 'what is made from it is', q{
	SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'waiting'},
	'from_template');
$node->safe_psql('postgres', 'ALTER DATABASE copy ALLOW_CONNECTIONS false');
$node->safe_psql('postgres',
	'CREATE DATABASE from_closed TEMPLATE copy; ALTER DATABASE from_closed IS_TEMPLATE false');
is_served('from_closed', 'also while it accepts no connections');
$node->safe_psql('postgres',
	'ALTER DATABASE copy ALLOW_CONNECTIONS true; ALTER DATABASE copy IS_TEMPLATE false');
poll($node, 'a template no more: it is served', q{
	SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'waiting'},
	'copy');

# 5. CREATE and DROP EXTENSION

my $failed = 0;
for my $round (1 .. 5)
{
	stir('from_template', 1);
	$failed++ if error_of($node, 'DROP EXTENSION token_rotation', 'from_template') ne '';
	$failed++ if error_of($node, 'CREATE EXTENSION token_rotation', 'from_template') ne '';
}
is($failed, 0, 'DROP and CREATE EXTENSION in turn: never an error');
is_served('from_template', 'the last installation is served');
$node->safe_psql('postgres', 'CREATE DATABASE empty');
$node->safe_psql('empty',
	'SET client_min_messages = warning; BEGIN; CREATE EXTENSION token_rotation CASCADE; ROLLBACK');
is(value($node, q{SELECT count(*) FROM pg_proc WHERE proname = 'tr_issue'}, 'empty'),
	'0', 'an installation that was rolled back');
$node->safe_psql('from_template', 'DROP EXTENSION token_rotation');
is( value($node, q{
		SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'token_rotation')
			+ (SELECT count(*) FROM pg_proc WHERE proname LIKE 'tr\_%')}, 'from_template'),
	'0', 'DROP EXTENSION leaves nothing');

# 6. Other people's heavy locks

$failed = 0;
for my $round (1 .. 3)
{
	stir('copy');
	for my $table (qw(token token_cache audit))
	{
		$failed++ if error_of($node, "VACUUM FULL token_rotation.$table", 'copy') ne '';
	}
}
is($failed, 0, 'VACUUM FULL of the tables: never an error');
my $space = $node->basedir . '/space';
mkdir $space;
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
stir('copy');
is(error_of($node, 'ALTER DATABASE copy SET TABLESPACE space'), '', 'SET TABLESPACE');
is_served('copy', 'and it is served there');

# 7. The end

for my $db (qw(one copy from_template from_closed empty))
{
	is(error_of($node, "DROP DATABASE $db"), '', "DROP DATABASE $db");
}
is_served('postgres', 'the first database is served');
my $offset = log_position($node);
my $reads = q{
	SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_all_tables
	WHERE schemaname = 'token_rotation' AND relname = 'token_cache'};
my $seen = value($node, $reads);
poll($node, 'the worker comes and goes', "SELECT ($reads) > $seen + 8");
is_deeply([ logged($node, $offset) ], [], 'when all is over, nothing is logged');
my @errors = grep { /ERROR: |FATAL: |PANIC: |WARNING: / } logged($node);
is_deeply(\@errors, [], 'no error meanwhile');

done_testing();

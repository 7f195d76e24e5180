# The sealed audit trail in a file, for a SIEM.
#
#  1. Each sealed row is a line of JSON, once, in the order of the seals, and each
#     seal is one; what they say is what the tables say.
#  2. logrotate moves the file away: what comes is in a new one.
#  3. The folder is missing, the file is no file, the disk is full: each is in the
#     log, is counted, holds nothing else up, and nothing is skipped afterwards; a
#     rest of a line stays alone on its line.
#  4. The server crashes after the write, before the position is stored: what was
#     written comes again, and nothing is missing.
#  5. Several databases share a file.  A restored one goes on where it was.
#  6. The setting: an absolute path, for superusers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $file = "$folder/audit.json";
my $node = new_node('file', conf => "token_rotation.worker_nap = '500ms'\ntoken_rotation.audit_file = '$file'\n");
my $clients = 0;

# Something to write, and when it is sealed.
sub happens
{
	my ($db) = @_;
	my $client = 'client ' . ++$clients;

	value($node, "SELECT tr_revoke(token) FROM tr_issue('$client')", $db);
	poll($node, "$client is sealed", sealed($client), $db);
	return $client;
}

sub sealed
{
	my ($client) = @_;

	return "SELECT count(*) = 2 FROM token_rotation.audit a WHERE client_id = '$client'"
	  . ' AND EXISTS (SELECT FROM token_rotation.audit_seal s WHERE a.seq = ANY (s.seqs))';
}

# The file has everything that is sealed.
my $caught_up = q{SELECT (SELECT array_agg((segment, seal) ORDER BY segment) FROM token_rotation.audit_sink)
	= (SELECT array_agg((segment, seal) ORDER BY segment) FROM (SELECT segment, max(seal) AS seal FROM token_rotation.audit_seal GROUP BY 1) s)};

# The lines of a file, as hashes.
sub lines_of
{
	my ($path) = @_;
	my $json = JSON::PP->new->utf8;

	return map { $json->decode($_) } split /\n/, slurp_file($path // $file);
}

# Which rows are in the file, in order, the seals left out.
sub rows_of
{
	return map { $_->{seq} } grep { exists $_->{seq} } lines_of(@_);
}

# --- 1. Lines --------------------------------------------------------------

value($node, "SELECT token FROM tr_issue(E'a \"quoted\" \\\\\\\\ cl\xc3\xafent\\n2')");
happens();
happens();
poll($node, 'the file has it all', $caught_up);
my @all = split /\n/, value($node, q{SELECT u.seq FROM token_rotation.audit_seal s, unnest(s.seqs) WITH ORDINALITY u (seq, n)
	ORDER BY s.segment, s.seal, u.n});
is_deeply([ rows_of() ], \@all, 'each sealed row is there once, in order');
my @expected = rows($node, q{
	SELECT current_database() AS database, s.segment, s.seal, a.seq,
		to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at, a.event, a.client_id, a.owner,
		encode(a.token_ref, 'hex') AS token_ref, encode(a.successor_ref, 'hex') AS successor_ref, a.actor, a.role,
		a.application_name, a.client_addr, a.origin, a.reason, a.detail, a.xid::text AS xid,
		encode(substr(s.row_hashes, (u.n - 1)::int * 32 + 1, 32), 'hex') AS row_hash
	FROM token_rotation.audit_seal s, unnest(s.seqs) WITH ORDINALITY u (seq, n), token_rotation.audit a
	WHERE a.seq = u.seq ORDER BY s.segment, s.seal, u.n});
is_deeply([ grep { exists $_->{seq} } lines_of() ], \@expected, 'with all that the trail says');
is_deeply(
	[ map { [ @$_{qw(seal rows hash)} ] } grep { !exists $_->{seq} } lines_of() ],
	[ map { [ @$_{qw(seal rows hash)} ] } rows($node,
		q{SELECT s.seal, s.rows, encode(s.hash, 'hex') AS hash FROM token_rotation.audit_seal s ORDER BY segment, seal}) ],
	'and each seal, after its rows');
is((stat $file)[2] & 0777, 0600, 'the file is for the server only');

# --- 2. Rotated ------------------------------------------------------------

rename $file, "$file.1";
my $rotated = happens();
poll($node, 'the file has it', $caught_up);
is_deeply([ map { $_->{client_id} } grep { exists $_->{seq} } lines_of() ], [ $rotated, $rotated ], 'a new file has what is new');
is_deeply([ rows_of("$file.1") ], \@all, 'and the old one stays as it was');

# --- 3. What goes wrong -----------------------------------------------------

my $failed = "SELECT count FROM tr_stat WHERE event = 'audit_file' AND reason = 'failed'";
my $warned = qr/could not write the audit file/;

# Something is wrong; it is seen; nothing else waits; it is set right.
sub goes_wrong
{
	my ($what, $wrong, $right) = @_;
	my $before = value($node, $failed);
	my $from = log_position($node);
	my @had = rows_of();

	$wrong->();
	my $token = issue($node, "'$what'")->{token};
	value($node, "SELECT tr_revoke('$token')");
	poll($node, "$what: it is sealed", sealed($what));
	poll($node, "$what: it is counted", "SELECT ($failed) > $before");
	ok($node->log_contains($warned, $from), "$what: it is in the log");
	is(value($node, "SELECT audit_file_lag > '0' FROM tr_health()"), 't', "$what: tr_health knows how long it waits");
	my $other = issue($node, "'other'");
	poll($node, "$what: other work goes on", 'SELECT count(*) = 1 FROM token_rotation.token WHERE first_used_at IS NOT NULL'
		. " AND token_id = '$other->{token_id}' AND (SELECT valid FROM tr_validate('$other->{token}'))");
	$right->();
	poll($node, "$what: the file has it at last", $caught_up);
	poll($node, "$what: and nothing waits", "SELECT audit_file_lag = '0' FROM tr_health()");
	return @had;
}

goes_wrong('no folder', sub { rename $folder, "$folder.away" or die }, sub { rename "$folder.away", $folder or die });
goes_wrong('no file', sub { rename $file, "$file.2"; mkdir $file or die }, sub { rmdir $file or die });
is_deeply([ rows_of("$file.1"), rows_of("$file.2"), rows_of() ],
	[ split /\n/, value($node, q{SELECT u.seq FROM token_rotation.audit_seal s, unnest(s.seqs) WITH ORDINALITY u (seq, n)
		ORDER BY s.segment, s.seal, u.n}) ], 'nothing was skipped, nothing is there twice');

SKIP:
{
	my $small = $ENV{TR_SMALL_DISK} or skip 'there is no small disk to fill', 1;
	my $there = "$small/audit.json";
	my $rest = "$small/rest";

	set_conf($node, 'token_rotation.audit_file' => $there);
	happens();
	poll($node, 'another file has it', $caught_up);
	$file = $there;
	# more than what is left of the file's last page
	goes_wrong('full disk',
		sub {
			fill_disk($rest);
			value($node, q{SELECT count(tr_revoke(token)) FROM generate_series(1, 40) g, LATERAL tr_issue('many ' || g)});
		},
		sub { unlink $rest or die });
	my @lines = split /\n/, slurp_file($file);
	my $broken = grep { !eval { JSON::PP->new->utf8->decode($_) } } @lines;
	cmp_ok($broken, '<=', value($node, $failed), 'a line that was cut off is alone');
	my %seen = map { $_->{seq} => 1 } grep { exists $_->{seq} } map { my $l = $_; eval { JSON::PP->new->utf8->decode($l) } // () } @lines;
	my @missing = grep { !$seen{$_} } split /\n/, value($node, "SELECT seq FROM token_rotation.audit WHERE (client_id IN ('full disk', 'other') OR client_id LIKE 'many%')"
		. " AND seq > (SELECT max(seq) FROM token_rotation.audit WHERE client_id = 'client $clients')"
		. ' AND EXISTS (SELECT FROM token_rotation.audit_seal s WHERE seq = ANY (s.seqs))');
	is("@missing", '', 'and nothing is missing');
	$file = "$folder/audit.json";
	set_conf($node, 'token_rotation.audit_file' => $file);
}

# --- 4. A crash --------------------------------------------------------------

my $last = happens();
poll($node, 'the file has it', $caught_up);
my @before = rows_of();
# as it is when the server crashed before the position was stored
$node->safe_psql('postgres', 'UPDATE token_rotation.audit_sink SET seal = seal - 1');
$node->stop('immediate');
$node->start;
poll($node, 'after a crash the file has it', $caught_up);
my @after = rows_of();
is_deeply([ @after[ 0 .. $#before ] ], \@before, 'what was there stays');
my %times;
$times{ $_->{client_id} }++ for grep { exists $_->{seq} && defined $_->{client_id} } lines_of();
is($times{$last}, 4, 'what was written before the crash comes again');

# --- 5. Databases ------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE second');
install($node, 'second');
my $second = happens('second');
poll($node, 'the second one is in the file', $caught_up, 'second');
is_deeply([ map { $_->{database} } grep { ($_->{client_id} // '') eq $second } lines_of() ], [ 'second', 'second' ],
	'each line names its database');
my $dump = $node->basedir . '/second.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('second'), '-f', $dump ], 'it is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'and restored');
my $new = happens('restored');
poll($node, 'the restored one has a file of its own', $caught_up, 'restored');
is_deeply([ map { $_->{client_id} // '' } grep { $_->{database} eq 'restored' && exists $_->{seq} && $_->{event} ne 'granted' } lines_of() ],
	[ $second, $second, $new, $new ], 'with what was restored, too');

# a segment that somebody brings from elsewhere, of a later installation
$node->command_ok([ 'pg_dump', '-d', $node->connstr('restored'), '-a', '-t', 'token_rotation.audit', '-t', 'token_rotation.audit_seal', '-f', $dump ],
	'the newer trail is dumped');
my $mixed = happens();
poll($node, 'the older one has sealed', $caught_up);
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $dump ], 'and gets into an older one');
$mixed = happens();
poll($node, 'which goes on', $caught_up);
is(scalar(grep { $_->{database} eq 'postgres' && ($_->{client_id} // '') eq $mixed } lines_of()), 2, 'and is in the file with what is new');

# texts that UTF-8 lacks
for ([ 'SQL_ASCII', q{E'evil \\303\\274 \\377'} ], [ 'WIN1252', q{E'evil \\201'} ], [ 'LATIN1', q{E'caf\\351'} ])
{
	my ($encoding, $origin) = @$_;
	my $db = lc $encoding;

	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	install($node, $db);
	value($node, "SET client_encoding = $encoding; SELECT reason FROM tr_issue('$db') i, tr_rotate(i.token, origin => $origin)", $db);
	poll($node, "$encoding: the file has it", $caught_up, $db);
	my ($line) = grep { $_->{database} eq $db && ($_->{event} // '') eq 'rotated' } lines_of();
	is($line->{origin}, { sql_ascii => "evil \xc3\xbc \xff", win1252 => "evil \x81", latin1 => "caf\xe9" }->{$db},
		"$encoding: what UTF-8 lacks is there byte by byte, anything else as it is");
}

# --- 6. The setting -----------------------------------------------------------

like(error_of($node, "ALTER SYSTEM SET token_rotation.audit_file = 'audit.json'"), qr/^22023: .*invalid value for parameter.*absolute path/s,
	'no relative path');
$node->safe_psql('postgres', 'CREATE ROLE nobody');
is(sqlstate_of($node, 'SET ROLE nobody; SHOW token_rotation.audit_file'), '42501', 'which superusers see');

done_testing();

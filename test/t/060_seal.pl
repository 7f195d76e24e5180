# The sealed audit trail.
#
#  1. What happens is sealed, within a nap, each row in one seal; two verifiers,
#     the extension's and doc/examples/verify_audit.pl, say the same. They say it
#     in READ ONLY transactions, too.
#  2. More rows than one seal takes.  Rows of a transaction that was open while
#     others were sealed come later, and in a seal of their own.
#  3. kill -9 at any time, and a restart: every row is in one seal, nothing is
#     lost, nothing twice.
#  4. A standby makes no seals and can check them; promoted, it goes on.
#  5. Restored from a dump into another cluster, whose transaction numbers are
#     others, serially, in parallel and as a script: it verifies; a head of before
#     is in it; what was not sealed is sealed there; it goes on in a segment that
#     names the head.  Rows that come without their seals, and the seals later.
#  6. CREATE DATABASE TEMPLATE: copy and original go on.
#  7. An update from 0.2: the old rows are sealed.
#  8. Databases that are not in UTF-8, and texts that have no form in UTF-8.
#  9. A superuser tampers: changes any column of rows and seals, removes rows,
#     adds some, exchanges some, cuts off the end, makes all seals anew.  Both
#     verifiers see each of it and say the same; what only a saved head shows, it
#     shows.
# 10. Pruning: rows go by whole seals, all verifies, old heads are known, it is
#     told in the trail; what was pruned cannot come back.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $nap = "token_rotation.worker_nap = '200ms'\n";
my $program = "$FindBin::RealBin/../../doc/examples/verify_audit.pl";
my $verdicts = 0;

# What both verifiers say, which must be the same.
sub verify
{
	my ($node, $db, $head) = @_;
	my $arg = defined $head ? "'\\x$head'" : '';
	my $ours = value($node, "SELECT * FROM tr_audit_verify($arg)", $db);
	my ($theirs, $error) =
	  run_command([ $^X, $program, ($head ? ('--head', $head) : ()), '-d', $node->connstr($db) ]);

	$verdicts++;
	$ours =~ s/\|\d+$// if $ours =~ /^f/;    # how much is not sealed is not counted then
	$theirs =~ s/\|\d+$// if $theirs =~ /^f/;
	return $ours eq $theirs ? $ours : "verify_audit.pl differs: $theirs $error\n   tr_audit_verify: $ours";
}

sub verifies
{
	my ($node, $db, $name, $head) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like(verify($node, $db, $head), qr/^t\|/, $name);
}

# Wait until every row has its seal, then verify.
sub sealed
{
	my ($node, $db, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll($node, "$name: all is sealed", 'SELECT valid AND unsealed = 0 AND seals > 0 FROM tr_audit_verify()', $db);
	verifies($node, $db, $name);
	return is(value($node, q{
		SELECT count(*), count(DISTINCT seq) - count(*), count(*) - (SELECT count(*) FROM token_rotation.audit)
		FROM (SELECT unnest(seqs) AS seq FROM token_rotation.audit_seal) x}, $db) =~ s/^\d+\|//r,
		'0|0', "$name: each row in one seal");
}

sub head
{
	my ($node, $db) = @_;
	return value($node, q{SELECT encode(hash, 'hex') FROM tr_audit_head()}, $db);
}

sub events
{
	my ($node, $db, $client, $count) = @_;
	value($node, "SELECT count(i) FROM generate_series(1, $count) g, LATERAL tr_issue('$client' || g % 1) i", $db);
	return;
}

my $old = new_node('old', conf => $nap, streaming => 1);

# 1. What happens is sealed

is(value($old, 'SELECT segment IS NULL, hash IS NULL FROM tr_audit_head()'), 't|t', 'nothing is sealed yet');
is(value($old, 'SELECT valid, seals, rows, unsealed FROM tr_audit_verify()'), 't|0|0|0', 'nor wrong');
for my $n (1 .. 3)
{
	my $token = issue($old, "'app', metadata => '{\"a b\": 1.50}'");
	rotate($old, $token->{token}, q{origin => 'ünknown'});
	value($old, "SELECT tr_revoke('$token->{token}', 'because')");
	sealed($old, 'postgres', "round $n");
}
my $first_head = head($old, 'postgres');
is(value($old, 'SELECT valid FROM tr_audit_verify((SELECT hash FROM tr_audit_head()))'), 't', 'a head');
is(value($old, 'BEGIN READ ONLY; SELECT valid FROM tr_audit_verify(); SELECT hash IS NOT NULL FROM tr_audit_head(); COMMIT'),
	"t\nt", 'in a READ ONLY transaction');
like(verify($old, 'postgres', '00' x 32), qr/^f\|saved head missing\|\|\|\|/, 'a head of another trail');
value($old, q{SELECT tr_audit_prune('2001-01-01')});

# 2. Many rows, and a transaction that is held open

my $held = $old->background_psql('postgres');
$held->query_safe(q{BEGIN; SELECT token_id FROM tr_issue('held')});
events($old, 'postgres', 'many', 12000);
my $seal_of = q{SELECT s.seal FROM token_rotation.audit a JOIN token_rotation.audit_seal s ON a.seq = ANY (s.seqs)
	WHERE a.client_id = '%s' ORDER BY 1 DESC LIMIT 1};
poll($old, 'a batch is sealed', 'SELECT unsealed = 0 AND rows > 12000 FROM tr_audit_verify()');
is(value($old, 'SELECT count(*) FROM token_rotation.audit_seal WHERE NOT complete'), '1', 'in two seals');
is(value($old, sprintf($seal_of, 'held')), '', 'what is not committed is not');
verifies($old, 'postgres', 'and that is right');
my $while_held = head($old, 'postgres');
release($held);
sealed($old, 'postgres', 'committed');
is(value($old, sprintf("SELECT ($seal_of) > ($seal_of), (SELECT seq FROM token_rotation.audit WHERE client_id = 'held')"
			. " < (SELECT min(seq) FROM token_rotation.audit WHERE client_id = 'many0')", 'held', 'many0')),
	't|t', 'it is in a later seal, though its number is lower');
verifies($old, 'postgres', 'which changes nothing for a head of before', $while_held);

# 3. Crashes

for my $round (1 .. 4)
{
	my $busy = $old->background_psql('postgres', on_error_stop => 0);
	$busy->query_until(qr/begun/, "\\echo begun\nDO \$\$ BEGIN LOOP PERFORM tr_issue('crash'); COMMIT; END LOOP; END \$\$;\n");
	my $seen = value($old, 'SELECT max(seal) FROM token_rotation.audit_seal');
	poll($old, "crash $round: seals are made", "SELECT max(seal) > $seen FROM token_rotation.audit_seal");
	ok(kill_and_wait($old, pid_of($old, 'walwriter')), 'killed');
	eval { $busy->quit };
	sealed($old, 'postgres', "crash $round");
}
verifies($old, 'postgres', 'a head of before all crashes', $first_head);
$old->restart;
events($old, 'postgres', 'restarted', 1);
sealed($old, 'postgres', 'restarted');

# 4. A standby

$old->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($old, 'base', has_streaming => 1);
$standby->start;
events($old, 'postgres', 'streamed', 3);
sealed($old, 'postgres', 'streaming');
$old->wait_for_catchup($standby);
verifies($standby, 'postgres', 'verified on the standby', head($old, 'postgres'));
my $seals = value($standby, 'SELECT count(*) FROM token_rotation.audit_seal');
is(sqlstate_of($standby, 'SELECT tr_audit_prune(now())'), '25006', 'nothing is pruned there');
$standby->promote;
events($standby, 'postgres', 'promoted', 3);
sealed($standby, 'postgres', 'promoted');
verifies($standby, 'postgres', 'a head of before', $while_held);
is(value($standby, 'SELECT count(DISTINCT segment), max(seal) = count(*) FROM token_rotation.audit_seal'),
	'1|t', 'the segment goes on');
$standby->stop;

# 5. Dump and restore

my $head = head($old, 'postgres');
set_conf($old, 'token_rotation.worker_nap' => '1h');
poll($old, 'no worker is there', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'});
my $open = $old->background_psql('postgres');
$open->query_safe(q{BEGIN; SELECT token_id FROM tr_issue('open')});
events($old, 'postgres', 'late', 5);
my ($waiting) = verify($old, 'postgres') =~ /(\d+)$/;
cmp_ok($waiting, '>=', 1, 'something is not sealed yet');
my $dump = $old->basedir . '/dump';
mkdir $dump;
my $connstr = $old->connstr('postgres');
$old->command_ok([ 'pg_dump', '-Fc', '-d', $connstr, '-f', "$dump/custom" ], 'dumped');
$old->command_ok([ 'pg_dump', '-Fd', '-d', $connstr, '-f', "$dump/dir" ], 'as a directory');
$old->command_ok([ 'pg_dump', '-Fp', '-d', $connstr, '-f', "$dump/plain" ], 'as a script');
release($open);

my $new = new_node('new', conf => $nap, extension => 0);
my %restore = (
	serial => sub { [ 'pg_restore', '--exit-on-error', '-d', shift, "$dump/custom" ] },
	parallel => sub { [ 'pg_restore', '--exit-on-error', '-j', 2, '-d', shift, "$dump/dir" ] },
	plain => sub { [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', shift, '-f', "$dump/plain" ] });
for my $how (sort keys %restore)
{
	$new->safe_psql('postgres', "CREATE DATABASE $how TEMPLATE template0");
	$new->command_ok($restore{$how}->($new->connstr($how)), "restored: $how");
	sealed($new, $how, $how);
	verifies($new, $how, "$how: the old head is in it", $head);
	events($new, $how, 'here', 3);
	sealed($new, $how, "$how, going on");
	is(value($new, q{SELECT count(DISTINCT segment), count(restored), count(*) FILTER (WHERE covers <> segment AND rows > 0),
		sum(rows) FILTER (WHERE covers <> segment) FROM token_rotation.audit_seal}, $how),
		"2|1|1|$waiting", "$how: a segment that names the head, and has what had no seal");
}
set_conf($old, 'token_rotation.worker_nap' => '200ms');
sealed($old, 'postgres', 'the original goes on');
like(verify($new, 'serial', head($old, 'postgres')), qr/^f\|saved head missing/, 'its later head is not in the copy');

# a dump of what was restored, in a third place
$new->command_ok([ 'pg_dump', '-Fc', '-d', $new->connstr('serial'), '-f', "$dump/again" ], 'dumped again');
$old->safe_psql('postgres', 'CREATE DATABASE again TEMPLATE template0');
$old->command_ok([ 'pg_restore', '--exit-on-error', '-d', $old->connstr('again'), "$dump/again" ], 'and restored');
events($old, 'again', 'again', 3);
sealed($old, 'again', 'again');
is(value($old, 'SELECT count(DISTINCT segment), count(restored) FROM token_rotation.audit_seal', 'again'), '3|2', 'three segments');
verifies($old, 'again', 'the first head is in it', $first_head);

# rows without their seals: they are sealed here, and the seals come too late
$new->safe_psql('postgres', 'CREATE DATABASE rows_only TEMPLATE template0');
install($new, 'rows_only');
$new->command_ok([ 'pg_restore', '--exit-on-error', '--data-only', '-n', 'token_rotation', '-t', 'audit', '-d',
	$new->connstr('rows_only'), "$dump/custom" ], 'rows only');
sealed($new, 'rows_only', 'rows only');
$new->command_fails_like([ 'pg_restore', '--exit-on-error', '--data-only', '-n', 'token_rotation', '-t', 'audit_seal', '-d',
	$new->connstr('rows_only'), "$dump/custom" ], qr/have been sealed again/, 'their seals are refused afterwards');

# 6. A copy of the database

$old->safe_psql('postgres', 'CREATE DATABASE template_copy TEMPLATE again');
for my $db (qw(again template_copy))
{
	events($old, $db, "of $db", 3);
	sealed($old, $db, "copied: $db");
}
like(verify($old, 'again', head($old, 'template_copy')), qr/^f\|saved head missing/, 'the copy has a chain of its own');

# 7. From 0.2

$old->safe_psql('postgres', 'CREATE DATABASE older');
$old->safe_psql('older', q{SET client_min_messages = warning; CREATE EXTENSION token_rotation VERSION '0.2' CASCADE});
# (this library does not serve it: its rows are put in by hand)
$old->safe_psql('older', q{
	ALTER TABLE token_rotation.audit DISABLE TRIGGER USER;
	INSERT INTO token_rotation.audit (seq, at, event, client_id, actor, role, xid)
	SELECT nextval('token_rotation.audit_seq'), clock_timestamp(), 'issued', 'before', 'postgres', 'postgres', pg_current_xact_id()
	FROM generate_series(1, 30);
	ALTER TABLE token_rotation.audit ENABLE ALWAYS TRIGGER audit_guard;
	ALTER TABLE token_rotation.audit ENABLE ALWAYS TRIGGER audit_guard_statement;
	ALTER EXTENSION token_rotation UPDATE});
events($old, 'older', 'after', 3);
sealed($old, 'older', 'updated');
is(value($old, q{SELECT count(*) FILTER (WHERE covers IS NULL), sum(rows) FILTER (WHERE covers IS NULL) FROM token_rotation.audit_seal},
		'older'), '1|30', 'the rows of before in one, without a segment');

# 8. Encodings

for (
	[ 'LATIN1', q{E'caf\351'} ],
	[ 'WIN1252', q{E'caf\351 \201'} ],
	[ 'SQL_ASCII', q{E'\303\274 \377'} ])
{
	my ($encoding, $text) = @$_;
	my $db = lc "in_$encoding";
	$old->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	install($old, $db);
	value($old, "SET client_encoding = $encoding; SELECT reason FROM tr_issue('x') i, tr_rotate(i.token, origin => $text)", $db);
	poll($old, "$encoding: sealed", 'SELECT valid AND unsealed = 0 AND rows = 2 FROM tr_audit_verify()', $db);
	verifies($old, $db, "$encoding: verified");
}
$old->command_ok([ 'pg_dump', '-Fc', '-d', $old->connstr('in_latin1'), '-f', "$dump/latin1" ], 'dumped from LATIN1');
$new->safe_psql('postgres', 'CREATE DATABASE in_utf8 TEMPLATE template0');
$new->command_ok([ 'pg_restore', '--exit-on-error', '--no-owner', '-d', $new->connstr('in_utf8'), "$dump/latin1" ], 'restored in UTF-8');
verifies($new, 'in_utf8', 'the hashes are the same');

# 9. Tampering.  On copies of a small trail of two segments, marked as templates, so
# that no worker seals there; each with a seal that somebody computes anew.

$old->safe_psql('postgres', 'CREATE DATABASE small TEMPLATE template0');
install($old, 'small');
for my $n (1 .. 3)
{
	events($old, 'small', "first $n ", 4);
	sealed($old, 'small', "small $n");
}
$old->command_ok([ 'pg_dump', '-Fc', '-d', $old->connstr('small'), '-f', "$dump/small" ], 'a small one');
$new->safe_psql('postgres', 'CREATE DATABASE base TEMPLATE template0');
$new->command_ok([ 'pg_restore', '--exit-on-error', '-d', $new->connstr('base'), "$dump/small" ], 'restored');
for my $n (1 .. 3)
{
	events($new, 'base', "second $n ", 4);
	sealed($new, 'base', "base $n");
}
my $saved = head($new, 'base');
$new->safe_psql('postgres', q{ALTER DATABASE base IS_TEMPLATE true});
poll($new, 'nobody is in it', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'base'});
$new->safe_psql('base', q{
	CREATE FUNCTION f(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
		$$ SELECT CASE WHEN $1 IS NULL THEN '\x00' ELSE '\x01' || int4send(octet_length($1)) || $1 END $$;
	CREATE FUNCTION t(text) RETURNS bytea LANGUAGE sql AS $$ SELECT f(convert_to($1, 'UTF8')) $$;
	CREATE FUNCTION row_hash(a token_rotation.audit) RETURNS bytea LANGUAGE sql AS $$
		SELECT sha256(t('token_rotation audit row v1') || f(int8send(a.seq)) || f(timestamptz_send(a.at)) || t(a.event)
			|| t(a.client_id) || t(a.owner) || f(a.token_ref) || f(a.successor_ref) || t(a.actor) || t(a.role)
			|| t(a.application_name) || t(a.client_addr::text) || t(a.origin) || t(a.reason) || t(a.detail::text)
			|| f(xid8send(a.xid)) || f(int8send(a.segment))) $$;
	CREATE FUNCTION seal_hash(s token_rotation.audit_seal) RETURNS bytea LANGUAGE sql AS $$
		SELECT sha256(t('token_rotation audit seal v1') || f(int8send(s.segment)) || f(int8send(s.seal)) || f(int8send(s.version))
			|| f(timestamptz_send(s.at)) || f(s.previous) || f(s.restored) || f(int8send(s.covers)) || t(s.snapshot::text)
			|| f(int8send(s.complete::int)) || f(int8send(s.rows)) || f(int8send(s.first_seq)) || f(int8send(s.last_seq))
			|| f(timestamptz_send(s.newest_at)) || f(s.list_hash)) $$;
	-- make lists anew, then their hashes, then seals from one on, with the links between them
	CREATE FUNCTION forge(lists bool, list_hashes bool, seals bool, links bool) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE s token_rotation.audit_seal; before token_rotation.audit_seal; old_hash bytea;
	BEGIN
		FOR s IN SELECT * FROM token_rotation.audit_seal ORDER BY segment, seal LOOP
			IF lists THEN
				SELECT array_agg(a.seq ORDER BY a.seq), coalesce(string_agg(row_hash(a), '' ORDER BY a.seq), ''), count(*),
					min(a.seq), max(a.seq), max(a.at) INTO s.seqs, s.row_hashes, s.rows, s.first_seq, s.last_seq, s.newest_at
				FROM token_rotation.audit a WHERE a.seq = ANY (s.seqs);
			END IF;
			IF list_hashes THEN
				SELECT sha256(t('token_rotation audit list v1') || string_agg(int8send(u.seq) || substr(s.row_hashes, 32 * u.n::int - 31, 32), '' ORDER BY u.n))
				INTO s.list_hash FROM unnest(s.seqs) WITH ORDINALITY u (seq, n);
			END IF;
			IF links AND before.segment = s.segment THEN s.previous := before.hash; END IF;
			IF links AND s.restored = old_hash THEN s.restored := before.hash; END IF;
			old_hash := s.hash;
			IF seals THEN s.hash := seal_hash(s); END IF;
			UPDATE token_rotation.audit_seal u SET previous = s.previous, restored = s.restored, rows = s.rows, first_seq = s.first_seq,
				last_seq = s.last_seq, newest_at = s.newest_at, list_hash = s.list_hash, hash = s.hash, seqs = s.seqs, row_hashes = s.row_hashes
			WHERE (u.segment, u.seal) = (s.segment, s.seal);
			before := s;
		END LOOP;
	END $$;
	-- rows and seals by their place
	CREATE VIEW sealed AS SELECT row_number() OVER (ORDER BY s.segment, s.seal, a.seq) AS n, s.segment, s.seal, a.seq
		FROM token_rotation.audit a JOIN token_rotation.audit_seal s ON a.seq = ANY (s.seqs);
	CREATE VIEW chain AS SELECT row_number() OVER (ORDER BY segment, seal) AS n, segment, seal FROM token_rotation.audit_seal;
});
is(value($new, q{SELECT bool_and(seal_hash(s) = hash) FROM token_rotation.audit_seal s}, 'base'), 't', 'the third program agrees');
my @rows = split /\n/, value($new, 'SELECT segment, seal, seq FROM sealed ORDER BY n', 'base');
is(scalar @rows, 24, 'rows to tamper with');
my @chain = split /\n/, value($new, 'SELECT segment, seal FROM chain ORDER BY n', 'base');
my $row = sub { "WHERE seq = " . (split /\|/, $rows[ $_[0] - 1 ])[2] };
my $seal = sub { "WHERE (segment, seal) = (SELECT segment, seal FROM chain WHERE n = $_[0])" };
my $audit = 'token_rotation.audit';
my $table = 'token_rotation.audit_seal';

# [ statement, problem, which row is named (by its place) or which seal ]
my @cases;
my %other = (
	seq => 'seq - 1000000', at => q{at + interval '1 microsecond'}, event => q{event || ' '}, client_id => 'NULL', owner => q{owner || 'x'},
	token_ref => 'sha256(token_ref)', successor_ref => 'token_ref', actor => q{'x'}, role => q{'x'}, application_name => 'NULL',
	client_addr => q{'127.0.0.1'}, origin => q{''}, reason => q{''}, detail => q{detail || '{"x": 1}'},
	xid => '(xid::text::bigint + 1)::text::xid8', segment => 'segment + 1');
for my $column (split /\n/, value($new, q{SELECT attname FROM pg_attribute WHERE attrelid = 'token_rotation.audit'::regclass
	AND attnum > 0 ORDER BY attnum}, 'base'))
{
	my $n = 1 + @cases % 24;
	push @cases, [ "UPDATE $audit SET $column = $other{$column} " . $row->($n),
		$column eq 'seq' ? 'row missing' : 'row changed', row => $n ];
}
%other = (
	segment => 'segment + 1', seal => 'seal + 100', version => '2', at => q{at - interval '1 microsecond'}, previous => 'hash', restored => 'hash',
	covers => 'NULL', snapshot => q{'1:1:'}, complete => 'NOT complete', rows => 'rows + 1', first_seq => 'first_seq + 1',
	last_seq => 'last_seq + 1', newest_at => q{newest_at + interval '1 microsecond'}, list_hash => 'hash', hash => 'list_hash',
	seqs => 'seqs[2:]', row_hashes => q{row_hashes || '\x00'});
my %says = (segment => 'seal missing', version => 'seal of an unknown version', seqs => 'list changed', row_hashes => 'list changed');
for my $column (split /\n/, value($new, q{SELECT attname FROM pg_attribute WHERE attrelid = 'token_rotation.audit_seal'::regclass
	AND attnum > 0 ORDER BY attnum}, 'base'))
{
	next if $column eq 'seal';
	push @cases, [ "UPDATE $table SET $column = $other{$column} " . $seal->(2), $says{$column} // 'seal changed',
		seal => $column eq 'segment' ? 3 : 2 ];
}
my $swap = sub { "UPDATE $audit SET seq = -1 @{[$row->($_[0])]}; UPDATE $audit SET seq = (SELECT seq FROM one) @{[$row->($_[1])]};"
	. " UPDATE $audit SET seq = (SELECT seq FROM two) WHERE seq = -1" };
my $swapped = sub { my ($x, $y) = @_; "CREATE TABLE one AS SELECT seq FROM $audit @{[$row->($x)]}; CREATE TABLE two AS SELECT seq FROM $audit @{[$row->($y)]};"
	. $swap->($x, $y) };
my $copy = sub { my ($n, $set) = @_; "INSERT INTO $audit SELECT (jsonb_populate_record(a, jsonb_build_object($set))).* FROM $audit a @{[$row->($n)]}" };
my $cut = sub { "DELETE FROM $audit a USING sealed x WHERE a.seq = x.seq AND (x.segment, x.seal) IN (SELECT segment, seal FROM chain WHERE $_[0]);"
	. " DELETE FROM $table WHERE (segment, seal) IN (SELECT segment, seal FROM chain WHERE $_[0])" };
push @cases,
  # rows
  [ "DELETE FROM $audit " . $row->(1), 'row missing', row => 1 ],
  [ "DELETE FROM $audit " . $row->(14), 'row missing', row => 14 ],
  [ "DELETE FROM $audit " . $row->(24), 'row missing', row => 24 ],
  [ $copy->(5, q{'seq', seq + 1000000000000}), 'row added' ],
  [ $copy->(22, q{'seq', seq - 1000000}), 'row added' ],
  [ $copy->(22, q{'seq', 1, 'segment', 7}) . "; UPDATE $audit SET segment = (SELECT min(segment) FROM $table) WHERE seq = 1", 'row added' ],
  [ $swapped->(2, 3), 'row changed', row => 2 ],
  [ $swapped->(6, 20), 'row changed', row => 6 ],
  # seals
  [ "DELETE FROM $table " . $seal->(1), 'seal missing', seal => 2 ],
  [ "DELETE FROM $table " . $seal->(2), 'seal missing', seal => 3 ],
  [ "DELETE FROM $table WHERE segment = (SELECT min(segment) FROM $table)", 'restored head missing' ],
  [ $cut->('n = 3'), 'restored head missing' ],
  [ "UPDATE $table SET seqs = NULL, row_hashes = NULL " . $seal->(2), 'rows removed without an event', seal => 2 ],
  # step by step: whoever changes a row must change all that comes after it
  [ "UPDATE $audit SET reason = 'forged' @{[$row->(5)]}; SELECT forge(true, false, false, false)", 'list changed' ],
  [ "UPDATE $audit SET reason = 'forged' @{[$row->(5)]}; SELECT forge(true, true, false, false)", 'seal changed' ],
  [ "UPDATE $audit SET reason = 'forged' @{[$row->(5)]}; SELECT forge(true, true, true, false)", 'link broken' ],
  # what only a saved head shows
  [ "UPDATE $audit SET reason = 'forged' @{[$row->(5)]}; SELECT forge(true, true, true, true)", '' ],
  [ "DELETE FROM $audit @{[$row->(5)]}; SELECT forge(true, true, true, true)", '' ],
  [ $cut->('n = 6'), '' ],
  [ $cut->('n > 3'), '' ],
  [ "DELETE FROM $table; DELETE FROM $audit", '' ];

my %caught;
for my $case (@cases)
{
	my ($sql, $problem, $kind, $n) = @$case;
	my ($name) = $sql =~ /^(.{1,90})/s;
	my ($segment, $number, $seq) = ('\d*', '\d*', '-?\d*');

	$new->safe_psql('postgres', 'CREATE DATABASE tampered TEMPLATE base IS_TEMPLATE true');
	$new->safe_psql('tampered', "ALTER TABLE $audit DISABLE TRIGGER ALL; ALTER TABLE $table DISABLE TRIGGER ALL; $sql");
	($segment, $number, $seq) = split /\|/, $rows[ $n - 1 ] if ($kind // '') eq 'row';
	($segment, $number, $seq) = (split(/\|/, $chain[ $n - 1 ]), '') if ($kind // '') eq 'seal';
	if ($problem eq '')
	{
		verifies($new, 'tampered', "$name: by itself it looks good");
		like(verify($new, 'tampered', $saved), qr/^f\|saved head missing/, 'the saved head shows it');
		$caught{'saved head missing'}++;
	}
	else
	{
		like(verify($new, 'tampered'), qr/^f\|\Q$problem\E\|$segment\|$number\|$seq\|/, "$name: $problem");
		$caught{$problem}++;
	}
	$new->safe_psql('postgres', 'ALTER DATABASE tampered IS_TEMPLATE false');
	$new->safe_psql('postgres', 'DROP DATABASE tampered WITH (FORCE)');
}
verifies($new, 'base', 'the base is what it was', $saved);

# 10. Pruning

$new->safe_psql('postgres', 'CREATE DATABASE pruned TEMPLATE base');
my ($before, $moment) = split /\|/, value($new, q{
	SELECT count(*), min(at) FROM token_rotation.audit WHERE client_id LIKE 'second 2 %'}, 'pruned');
my $gone = value($new, "SELECT tr_audit_prune('$moment')", 'pruned');
is($gone, '16', 'what is older is removed');
is(value($new, q{SELECT min(client_id), count(*) FILTER (WHERE event = 'audit_pruned') FROM token_rotation.audit}, 'pruned'),
	'second 2 0|1', 'what is younger stays, and an event tells of it');
is(value($new, "SELECT tr_audit_prune('$moment')", 'pruned'), '0', 'again: nothing');
sealed_after_prune('pruned');
like(verify($new, 'pruned', $saved), qr/^t\|.*\|16\|0$/, 'the saved head is known, the rows that are gone are counted');
is(sqlstate_of($new, "DELETE FROM $audit", 'pruned'), '42501', 'nothing else removes');
is(sqlstate_of($new, "DELETE FROM $table", 'pruned'), '42501', 'nor seals');
is(sqlstate_of($new, "UPDATE $table SET seqs = NULL", 'pruned'), '42501', 'nor lists');
$new->safe_psql('pruned', "ALTER TABLE $audit DISABLE TRIGGER ALL; INSERT INTO $audit SELECT (jsonb_populate_record(a,"
	. " jsonb_build_object('seq', (SELECT min(first_seq) FROM $table), 'segment', (SELECT min(segment) FROM $table), 'xid', '3'))).*"
	. " FROM $audit a LIMIT 1");
like(verify($new, 'pruned'), qr/^f\|row added\|/, 'what was pruned cannot come back');

sub sealed_after_prune
{
	my ($db) = @_;
	return poll($new, 'pruned: all is sealed', 'SELECT valid AND unsealed = 0 FROM tr_audit_verify()', $db);
}
# all of it, event after event
$new->safe_psql('postgres', 'CREATE DATABASE emptied TEMPLATE base');
for (1 .. 3)
{
	cmp_ok(value($new, 'SELECT tr_audit_prune(clock_timestamp())', 'emptied'), '>', 0, 'all is removed');
	is(audit_count($new, "event <> 'audit_pruned'", 'emptied'), '0', 'but the event');
	sealed_after_prune('emptied');
	verifies($new, 'emptied', 'and verifies', $saved);
}

# what somebody has changed before is not gone without a trace
$new->safe_psql('postgres', 'CREATE DATABASE blurred TEMPLATE base');
$new->safe_psql('blurred', "ALTER TABLE $audit DISABLE TRIGGER ALL; DELETE FROM $audit WHERE seq = (SELECT min(first_seq) FROM $table);"
	. " UPDATE $audit SET actor = 'nobody' WHERE seq = (SELECT min(last_seq) FROM $table);"
	. " UPDATE $audit SET actor = 'nobody' WHERE seq = (SELECT max(last_seq) FROM $table);"
	. " ALTER TABLE $audit ENABLE ALWAYS TRIGGER audit_guard; ALTER TABLE $audit ENABLE ALWAYS TRIGGER audit_guard_statement");
my ($stdout, $stderr);
$new->psql('blurred', 'SELECT tr_audit_prune(clock_timestamp())', stdout => \$stdout, stderr => \$stderr);
like($stderr, qr/WARNING:  2 of \d+ seals had other rows than those that were sealed/m, 'pruning tells of rows that were changed');
is(value($new, "SELECT detail ->> 'changed' FROM $audit WHERE event = 'audit_pruned'", 'blurred'), '2', 'and the trail of it');
sealed_after_prune('blurred');

note("tried: " . @cases . " kinds of tampering, each seen by two programs: "
	  . join(', ', map { "$caught{$_} $_" } sort keys %caught) . "; $verdicts verdicts compared");
done_testing();

# No secret of a token reaches the log, on any way into it.
#
#  1. Each way on its own, with a token of its own: every destination has the
#     line, with the token masked.
#  2. All ways again under the noisiest settings, with pgaudit and auto_explain
#     where they are there: no 20 consecutive characters of a secret in any file.
#  3. The statement goes on as it was written, and the next one's line is its own.
#  4. pg_stat_activity: a function that takes a token masks it in its own line,
#     and query_id stays.
#  5. A hook that was there before sees masked messages; of one that came later
#     the log warns.
#  6. The setting: on by default, a reload switches it.  Without redaction each
#     of these ways leads into the log.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Secrets;
use TokenRotation;

my $libdir = run_simple('pg_config', '--pkglibdir');
my @others = grep { -e "$libdir/$_.so" } qw(auto_explain pgaudit);
my $libraries = join ', ', @others, 'token_rotation';

my $node = new_node('redaction', extension => 0, conf => qq(
	shared_preload_libraries = '$libraries'
	logging_collector = on
	log_destination = 'stderr, csvlog, jsonlog'
	log_rotation_age = 0
	log_rotation_size = 0
	track_activity_query_size = 400
	deadlock_timeout = '100ms'
	compute_query_id = on
));
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE EXTENSION token_rotation CASCADE;
	CREATE TABLE kept (t text PRIMARY KEY CHECK (t NOT LIKE '%no%such%'), i int);
	CREATE TABLE few (t text CHECK (length(t) < 10));
	INSERT INTO kept VALUES ('one', 1), ('two', 2);
	CREATE FUNCTION raises(level text, token text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF level = 'hint' THEN
			RAISE EXCEPTION 'told' USING HINT = token;
		ELSIF level = 'detail' THEN
			RAISE EXCEPTION 'told' USING DETAIL = token;
		ELSIF level = 'warning' THEN
			RAISE WARNING '%', token;
		ELSIF level = 'log' THEN
			RAISE LOG '%', token;
		ELSIF level = 'query' THEN
			EXECUTE 'SELEC ' || token;
		ELSIF level = 'context' THEN
			EXECUTE 'SELECT 1/0 AS ' || token;
		END IF;
	END $$;
});

sub run_simple
{
	my ($out) = run_command([@_]);
	return $out;
}

# A token and what the log may show of it.
my @tokens;

sub fresh
{
	my $token = issue($node, "'client'")->{token};

	push @tokens, $token;
	return $token;
}

sub masked
{
	my ($token) = @_;

	return $token =~ s/(_\w{22})\w{49}$/$1_[redacted]/r;
}

# Run statements in a session with settings; what they answer.
sub run
{
	my ($settings, $sql) = @_;
	my $set = join '', map { "SET $_ = '$settings->{$_}';\n" } sort keys %$settings;
	my ($status, $out, $err) = $node->psql('postgres', $set . $sql, on_error_stop => 0);

	return ($out, $err);
}

# The same in the extended protocol, with a token as a bound value: by pgbench,
# which 15's psql cannot do.
sub bind_to
{
	my ($settings, $sql, $token) = @_;
	my $script = $node->basedir . '/bound.sql';

	append_to_file($script, '');
	unlink $script;
	append_to_file($script, "$sql;\n");
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_=$settings->{$_}" } sort keys %$settings;
	run_command([ 'pgbench', '-n', '-t', 1, '-M', 'extended', '-D', "token=$token", '-f', $script,
		$node->connstr('postgres') ]);
	return;
}

# What logs nothing but what is under test.
my %quiet = (log_min_error_statement => 'panic');

# Name, settings, a statement with the token T, and what each destination must
# have: <M> stands for the masked token.
# Trees of nodes hold a text as the list of its bytes, its length in front.
my %trees = (%quiet, client_min_messages => 'error');
my $space = '(?:\\s|\\\\[nt])+';
my $bytes_of_79 = "(?s:.*?)constvalue${space}79${space}\\[redacted\\]";

my @ways = (
	[ 'log_statement', { log_statement => 'all' }, "SELECT valid FROM tr_validate('T')", 'statement: SELECT valid .*<M>' ],
	[ 'log_min_duration_statement', { log_min_duration_statement => 0 }, "SELECT reason FROM tr_validate('T')",
		'duration: .* statement: SELECT reason .*<M>' ],
	[ 'statement of an error', {}, "SELECT 1/0, 'T'", 'SELECT 1/0, ..?<M>' ],
	[ 'statement that does not parse', {}, "SELEC 'T'", 'SELEC ..?<M>' ],
	[ 'statement of a warning', { log_min_error_statement => 'warning' }, "SELECT raises('warning', 'said'), 'T'",
		q{raises\(..?warning..?, ..?said..?\), ..?<M>} ],
	[ 'cancelled', { statement_timeout => '20ms' }, "SELECT pg_sleep(60), 'T'", 'pg_sleep\(60\), ..?<M>' ],
	[ 'message', \%quiet, "SELECT 'T'::int", 'invalid input syntax for type integer: .*<M>' ],
	[ 'identifier', \%quiet, 'SELECT "T"', 'column .*trk_\w{22}_\[redacted\].* does not exist' ],
	[ 'detail', \%quiet, "SELECT raises('detail', 'T')", '<M>' ],
	[ 'key', \%quiet, "INSERT INTO kept VALUES ('T'); INSERT INTO kept VALUES ('T')", 'Key \(t\)=\(<M>\)' ],
	[ 'row', \%quiet, "INSERT INTO few VALUES ('T')", 'Failing row contains \((?:\w+)_\w{22}_\[redacted\]' ],
	[ 'hint', \%quiet, "SELECT raises('hint', 'T')", '<M>' ],
	[ 'raised', { %quiet, client_min_messages => 'error' }, "SELECT raises('log', 'T')", '<M>' ],
	[ 'internal query', \%quiet, "SELECT raises('query', 'T')", 'SELEC <M>' ],
	[ 'context', \%quiet, "SELECT raises('context', 'T')", 'SELECT 1/0 AS <M>' ],
	[ 'DO block', { log_statement => 'all' }, "DO \$\$ BEGIN PERFORM tr_validate('T'); END \$\$", q{PERFORM tr_validate\(..?<M>} ],
	[ 'PREPARE', { log_statement => 'all' }, "PREPARE p AS SELECT 1, 'T'", 'PREPARE p AS SELECT 1, ..?<M>' ],
	[ 'EXECUTE', { log_statement => 'all' }, "PREPARE p(text) AS SELECT valid FROM tr_validate(\$1); EXECUTE p('T')",
		'EXECUTE p\(..?<M>' ],
	[ 'detail of EXECUTE', { log_statement => 'all' }, "PREPARE p AS SELECT 2, 'T'; EXECUTE p", 'prepare: PREPARE p AS SELECT 2, ..?<M>' ],
	[ 'COPY', \%quiet, "COPY kept (i) FROM STDIN;\nT\n\\.\n", 'COPY kept, line 1, column i: .*<M>' ],
	[ 'parse tree', { %trees, debug_print_parse => 'on' }, "SELECT 3, 'T'", "parse tree:$bytes_of_79" ],
	[ 'parse tree, plain', { %trees, debug_print_parse => 'on', debug_pretty_print => 'off' }, "SELECT 4, 'T'", "parse tree:$bytes_of_79" ],
	[ 'rewritten tree', { %trees, debug_print_rewritten => 'on', debug_pretty_print => 'off' }, "SELECT 5, 'T'",
		"rewritten parse tree:$bytes_of_79" ],
	[ 'plan', { %trees, debug_print_plan => 'on' }, "SELECT 6, 'T' || i FROM kept", "plan:$bytes_of_79" ],
	[ 'tree of a function call', { %trees, debug_print_parse => 'on' },
		"DO \$\$ BEGIN PERFORM public.raises('nothing', 'T'); END \$\$", "parse tree:$bytes_of_79" ],
	[ 'tree of a statement in a function', { %trees, debug_print_plan => 'on' },
		"CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT max(i) || 'T' FROM kept; END; SELECT pg_temp.f()",
		"plan:$bytes_of_79" ],
);

for my $cut (1, 4, 8, 12, 16)
{
	my $pad = 'x' x $cut;
	push @ways, [ "JSON, cut in front of $cut", \%quiet, qq(SELECT '{"a": "T", "b": "$pad" x}'::json), 'JSON data, line 1: \.\.\.' ];
}

# What the log would hold without redaction, by name.
my @bound = (
	[ 'bound values', { log_min_duration_statement => 0, log_parameter_max_length => -1 },
		'SELECT valid FROM tr_validate(:token)', '[Pp]arameters: \$1 = ..?<M>' ],
	[ 'bound values of an error', { log_parameter_max_length_on_error => -1 },
		'SELECT 1 / (length(:token) - length(:token))', '[Pp]arameters: \$1 = ..?<M>' ],
	[ 'bound values, cut off', { log_statement => 'all', log_parameter_max_length => 60 },
		'SELECT valid FROM tr_validate(:token)', '[Pp]arameters: \$1 = ..?(?:\w+)_\w{22}_\[redacted\]\.\.\.' ],
);

# --- files ---------------------------------------------------------------

# The destinations, by name, and what they hold from now on.
sub destinations
{
	my $data = $node->data_dir;
	my %file = map { split / /, $_, 2 } split /\n/, slurp_file("$data/current_logfiles");

	return map { $_ => "$data/$file{$_}" } keys %file;
}

my %from;

sub from_here
{
	my %path = destinations();

	%from = map { $_ => -s $path{$_} } keys %path;
	return;
}

sub new_in
{
	my ($destination) = @_;
	my %path = destinations();

	return slurp_file($path{$destination}, $from{$destination});
}

# Wait until every destination has a line, which the collector writes in order.
my $marks = 0;

sub written
{
	my $mark = 'mark ' . ++$marks . ' is there';

	$node->safe_psql('postgres', "SET client_min_messages = error; DO \$\$ BEGIN RAISE LOG '$mark'; END \$\$");
	for my $destination (qw(stderr csvlog jsonlog))
	{
		for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
		{
			last if new_in($destination) =~ /$mark/;
			Time::HiRes::usleep(100_000);
		}
	}
	return;
}

sub do_way
{
	my ($way, $token, $settings) = @_;
	my (undef, $own, $sql) = @$way;

	$settings = { %{ $settings // {} }, %$own };
	return bind_to($settings, $sql, $token) if $sql =~ /:token/;
	run($settings, $sql =~ s/\bT\b/$token/gr);
	return;
}

# --- 1. Each way on its own ----------------------------------------------

my %token_of;
from_here();
for my $way (@ways, @bound)
{
	$token_of{ $way->[0] } = fresh();
	do_way($way, $token_of{ $way->[0] });
}

# Two sessions that wait for each other: the detail for the log has both statements.
sub deadlock
{
	my ($token) = @_;
	my @sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 0, 1;

	$_->query_safe('SET deadlock_timeout = \'100ms\'; SET log_lock_waits = on; BEGIN') for @sessions;
	$sessions[0]->query_safe("UPDATE kept SET i = 0 WHERE t = 'one'");
	$sessions[1]->query_safe("UPDATE kept SET i = 0 WHERE t = 'two'");
	$sessions[0]->query_until(qr/begins/, "\\echo begins\nUPDATE kept SET i = 0 WHERE t IN ('two', '$token');\n");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
	$sessions[1]->query("UPDATE kept SET i = 0 WHERE t IN ('one', '$token');");
	$_->quit for @sessions;
	return;
}
$token_of{deadlock} = fresh();
deadlock($token_of{deadlock});
push @ways, [ 'deadlock', {}, undef, 'UPDATE kept SET i = 0 WHERE t IN \(..?one..?, ..?<M>' ];

# The names of a connection are masked in messages.  As fields of a line, which
# are no part of the message, they are not, so these two are nobody's tokens.
set_conf($node, log_connections => 'on');
for my $name (qw(application_name user))
{
	my $token = fresh();

	pop @tokens;
	$token_of{$name} = $token;
	run_command([ 'psql', '-XqAt', '-c', 'SELECT 1', '-d', $node->connstr('postgres') . " $name=$token" ]);
}
push @ways, [ 'application_name', {}, undef, 'connection authorized: .*application_name=trk_\w{22}_\[redacted' ],
  [ 'user', {}, undef, 'role .*trk_\w{22}_\[redacted\].* does not exist' ];

# The postmaster's line about a process that was killed: the statement comes from
# shared memory, cut off.
$token_of{killed} = fresh();
my $parked = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $parked->query_safe('SELECT pg_backend_pid()');
$parked->query_until(qr/begins/, "\\echo begins\nSELECT pg_sleep(600), '$token_of{killed}';\n");
$node->poll_query_until('postgres', "SELECT query LIKE '%600%' FROM pg_stat_activity WHERE pid = $pid");
kill_and_wait($node, $pid);
$parked->{run}->finish;
push @ways, [ "the postmaster's line", {}, undef, 'Failed process was running: SELECT pg_sleep\(600\), ..?<M>' ];
$token_of{"the postmaster's line"} = $token_of{killed};

written();
for my $destination (qw(stderr csvlog jsonlog))
{
	my $text = new_in($destination);

	for my $way (@ways, @bound)
	{
		my ($name, undef, undef, $line) = @$way;
		my $masked = quotemeta masked($token_of{$name});

		$line =~ s/<M>/$masked/;
		ok($text =~ qr/$line/, "$destination: $name");
	}
	unlike($text, secret_pattern(@tokens), "$destination: nothing of a secret");
}
note('tried: ' . (@ways + @bound) . ' ways into the log, each in 3 destinations, with ' . join(', ', 'token_rotation', @others));

# --- 2. The noisiest settings --------------------------------------------

set_conf($node,
	log_statement => 'all', log_min_duration_statement => 0, log_parameter_max_length => -1,
	log_parameter_max_length_on_error => -1, log_min_messages => 'debug1', log_min_error_statement => 'debug5',
	log_error_verbosity => 'verbose', log_duration => 'on', log_lock_waits => 'on', log_temp_files => 0,
	log_statement_stats => 'on', debug_print_parse => 'on', debug_print_rewritten => 'on', debug_print_plan => 'on',
	(map { ("auto_explain.$_->[0]" => $_->[1]) } (grep { $_ eq 'auto_explain' } @others)
		? ([ log_min_duration => 0 ], [ log_analyze => 'on' ], [ log_verbose => 'on' ], [ log_nested_statements => 'on' ]) : ()),
	(map { ("pgaudit.$_->[0]" => $_->[1]) } (grep { $_ eq 'pgaudit' } @others)
		? ([ log => 'all' ], [ log_parameter => 'on' ], [ log_rows => 'on' ], [ log_relation => 'on' ]) : ()));
do_way($_, fresh()) for grep { defined $_->[2] } @ways, @bound;
for my $format ($libraries =~ /auto_explain/ ? qw(json xml yaml) : ())
{
	set_conf($node, 'auto_explain.log_format' => $format);
	do_way($_, fresh()) for @ways[ 0 .. 2 ], @bound;
}
deadlock(fresh());
{
	my $walsender = $node->connstr('postgres') . ' replication=database';
	my $token = fresh();
	run_command([ 'psql', '-XqAt', '-c', "SELECT valid FROM tr_validate('$token')", '-d', $walsender ]);
}
my $first = fresh();
my $next = rotate($node, $first)->{token};
push @tokens, $next;
run({}, "SELECT reason FROM tr_validate_many(ARRAY['$first', '$next']); SELECT tr_revoke('$next'); SELECT tr_rotate('$next')");
written();
my %path = destinations();
my ($hits, $bytes, $files) = files_with([ windows(@tokens) ], $node->data_dir . '/log');
is("@$hits", '', 'nothing of a secret under the noisiest settings');
cmp_ok($bytes, '>', 1_000_000, 'which are noisy');
my $everything = new_in('stderr');
like($everything, qr/\Q@{[masked($next)]}\E/, 'and the tokens are there, masked');
like($everything, qr/AUDIT: SESSION.*_\[redacted\]/, 'in the lines of pgaudit') if $libraries =~ /pgaudit/;
like($everything, qr/Query Text: .*_\[redacted\]/, 'in those of auto_explain') if $libraries =~ /auto_explain/;
note("tried: $bytes bytes of the log searched for pieces of " . @tokens . ' tokens');

# --- 3. The statement itself ---------------------------------------------

set_conf($node, log_statement => 'none', log_min_duration_statement => -1, log_duration => 'off',
	log_min_messages => 'warning', log_min_error_statement => 'error', log_statement_stats => 'off',
	map { ("debug_print_$_" => 'off') } qw(parse rewritten plan));
set_conf($node, 'auto_explain.log_min_duration' => -1) if $libraries =~ /auto_explain/;
set_conf($node, 'pgaudit.log' => 'none') if $libraries =~ /pgaudit/;
from_here();
{
	my $token = fresh();
	my $warned = { log_min_error_statement => 'warning', client_min_messages => 'error' };
	my $text = "SELECT raises('warning', 'one'); SELECT raises('warning', 'two'); SELECT valid, '$token' FROM tr_validate('$token')";
	my ($out) = run($warned, $text =~ s/; /\\; /gr);

	is($out, "\n\nt|$token", 'a statement that was logged goes on as it was written');
	run($warned, "SELECT raises('warning', 'three'), 'not a token'");
	written();
	my @lines = new_in('stderr') =~ /STATEMENT:  (.*)/g;
	is(scalar(grep { /three.*not a token/ } @lines), 1, 'and the next one has its own line');
	is(scalar(grep { /\Q@{[masked($token)]}\E/ } @lines), 2, 'each line of the first one is masked');
	unlike(new_in('stderr'), secret_pattern($token), 'wholly');
}

# --- 4. pg_stat_activity -------------------------------------------------

for my $call ('valid FROM tr_validate(%s)', 'valid FROM tr_validate_many(ARRAY[%s])', 'replayed FROM tr_rotate(%s)', 'tr_revoke(%s)')
{
	my $token = fresh();
	my $statement = $call =~ /FROM/ ? "SELECT pg_advisory_lock(1), $call" : "SELECT $call, pg_advisory_lock(1)";
	my $holder = $node->background_psql('postgres');
	my $parked = $node->background_psql('postgres');
	my $pid = $parked->query_safe('SELECT pg_backend_pid()');
	my $line = "SELECT query, query_id FROM pg_stat_activity WHERE pid = $pid";

	# it waits after the call, in the same statement
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	$statement =~ s/%s/'$token'/;
	my $id = value($node, "EXPLAIN (VERBOSE, FORMAT json) $statement") =~ /"Query Identifier": (-?\d+)/ ? $1 : 0;
	$parked->query_until(qr/begins/, "\\echo begins\n$statement;\n");
	$node->poll_query_until('postgres', "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $pid");
	my ($row) = rows($node, $line);
	my $masked = masked($token);
	is($row->{query} =~ s/;$//r, $statement =~ s/$token/$masked/r, "$call masks its line");
	cmp_ok($row->{query_id}, '==', $id, 'and keeps query_id');
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$_->quit for $parked, $holder;
}

# --- 5. Other hooks ------------------------------------------------------

# A library beside the server's own: built here, as an extension would be.
my $module = $node->basedir . '/other_hook.so';
my $include = run_simple('pg_config', '--includedir-server');
system_or_bail('cc', '-shared', '-fPIC', '-O1', "-I$include", '-o', $module, "$FindBin::RealBin/modules/other_hook.c");
for my $order ('before', 'after')
{
	my $seen = $node->basedir . "/seen_$order";
	my $token = fresh();
	my $from = log_position($node);

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '"
		. join(', ', $order eq 'before' ? ($module, 'token_rotation') : ('token_rotation', $module)) . "'\n"
		. "other_hook.file = '$seen'\nlogging_collector = off\nlog_destination = stderr\n");
	$node->restart;
	run({}, "SELECT '$token'::int");
	my $text = slurp_file($seen);
	my $warning = qr/another library's log hook sees messages before/;
	if ($order eq 'before')
	{
		like($text, qr/\Q@{[masked($token)]}\E/, 'a hook that was there before sees masked messages');
		unlike($text, secret_pattern($token), 'only');
		ok(!$node->log_contains($warning, $from), 'no warning');
	}
	else
	{
		like($text, qr/\Q$token\E/, 'one that came later sees them as they are');
		ok($node->log_contains($warning, $from), 'of which the log warns');
	}
}

# --- 6. The setting ------------------------------------------------------

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'token_rotation'\nlogging_collector = on\n"
	. "log_destination = 'stderr, csvlog, jsonlog'\n");
$node->restart;
is(value($node, 'SHOW token_rotation.log_redaction'), 'on', 'redaction is on by default');
set_conf($node, 'token_rotation.log_redaction' => 'off');
from_here();
for my $way (grep { defined $_->[2] } @ways, @bound)
{
	my $token = fresh();

	$token_of{ $way->[0] } = $token;
	do_way($way, $token);
}
written();
my $plain = new_in('stderr');
my $run_together = $plain =~ s/\s+//gr;
for my $way (grep { defined $_->[2] } @ways, @bound)
{
	my ($name) = @$way;
	my $bytes = join '', map { ord } split //, $token_of{$name};

	ok($plain =~ secret_pattern($token_of{$name}) || $run_together =~ /$bytes/, "without redaction: $name");
}
set_conf($node, 'token_rotation.log_redaction' => 'on');
from_here();
run({}, "SELECT '$first'::int");
written();
unlike(new_in('stderr'), secret_pattern($first), 'and on again');

done_testing();

#!/usr/bin/perl
#
# Calls the extension's functions with arguments of all kinds, one transaction
# after another, and looks at what comes back.  test/fuzz/sql runs it and says
# what it is for.
#
# It keeps account of each token whose text it was given: of whose realm it is,
# whether its transaction was committed, and whether somebody ended it.  What
# was rolled back is a ghost, what was ended is dead; neither may ever be valid
# again.
#
# Usage: sql_calls.pl CALLS SEED LOGFILE; the server is the environment's.
use strict;
use warnings FATAL => 'all';

use DBI;
use FindBin;
use lib $FindBin::RealBin;

use FuzzPool;
use FuzzReport qw(%now %found %states $pool finding look_at_error look_at_log look_at_relations look_at_rules
  look_at_wal);
use FuzzValues qw(value pick chance array_of);

my ($calls, $seed, $logfile) = @ARGV;
my @callers = qw(fuzz_nothing fuzz_validator fuzz_issuer fuzz_issuer fuzz_operator fuzz_auditor fuzz_all fuzz_all
  fuzz_all fuzz_owner);

# A session-level setting, of this or a later version; what is not to be set
# stays as it is.
my @settings = (
	[ search_path => 'fuzz_hostile, pg_catalog', 'fuzz_hostile, pg_temp, pg_catalog, tr', '', 'pg_temp', 'no_such_schema' ],
	[ row_security => 'off' ],
	[ DateStyle => 'German', 'SQL, DMY', 'Postgres, MDY', 'ISO, YMD' ],
	[ IntervalStyle => 'iso_8601', 'sql_standard', 'postgres_verbose' ],
	[ TimeZone => 'Pacific/Kiritimati', 'America/St_Johns', '+15:59', 'Etc/GMT+12' ],
	[ bytea_output => 'escape' ],
	[ client_encoding => 'LATIN1', 'SQL_ASCII', 'EUC_JP', 'UTF8' ],
	[ lc_time => 'C', 'C.UTF-8' ], [ lc_numeric => 'C.UTF-8' ], [ lc_monetary => 'POSIX' ], [ lc_messages => 'C.UTF-8' ],
	[ client_min_messages => 'debug5', 'error' ],
	[ 'token_rotation.realm' => 'fuzz_realm', 'fuzz_foreign', 'no such role', 'pg_monitor', 'x' x 100, 'TOKEN' ],
	[ 'token_rotation.leeway' => '1h' ],
	[ application_name => "fuzz \xc3\xa9", 'TOKEN' ],
	[ 'request.headers' => '{"x-api-key": "TOKEN"}', '{"authorization": "token  TOKEN"}', '{"x-api-key": "TOKEN"', '{"x-api-key": [1]}' ],
	[ role => 'fuzz_realm', 'token_rotation_worker', 'fuzz_owner' ],
	[ session_replication_role => 'replica' ],
	[ synchronous_commit => 'off', 'remote_apply' ],
	[ default_transaction_isolation => 'serializable' ], [ default_transaction_read_only => 'on' ],
	[ default_transaction_deferrable => 'on' ],
	[ statement_timeout => '1ms', '20ms' ], [ lock_timeout => '1ms' ],
	[ work_mem => '64kB' ], [ extra_float_digits => '-15' ], [ array_nulls => 'off' ],
	[ standard_conforming_strings => 'off' ], [ escape_string_warning => 'off' ], [ transform_null_equals => 'on' ], [ quote_all_identifiers => 'on' ], [ xmloption => 'document' ],
	[ plan_cache_mode => 'force_generic_plan', 'force_custom_plan' ],
	[ debug_parallel_query => 'on' ], [ force_parallel_mode => 'on' ], [ parallel_setup_cost => '0' ],
	[ enable_indexscan => 'off' ], [ enable_seqscan => 'off' ], [ jit_above_cost => '0' ],
	[ default_toast_compression => 'lz4' ], [ check_function_bodies => 'off' ]);

my @isolation = ('', '', 'ISOLATION LEVEL READ COMMITTED', 'ISOLATION LEVEL REPEATABLE READ', 'ISOLATION LEVEL SERIALIZABLE');
my @access = ('', '', '', '', '', 'READ WRITE', 'READ ONLY', 'READ ONLY DEFERRABLE');

my (%dbh, @functions);
my %allowed;     # role, function: may it call it?
my %answered;    # function: rows that it answered

# --- sessions -----------------------------------------------------------

# A session of a role, made where there is none.  What it gives and takes are
# bytes.
sub session
{
	my ($role) = @_;

	return $dbh{$role} if $dbh{$role};
	for (1 .. 600)
	{
		$dbh{$role} = DBI->connect('dbi:Pg:', $role, '',
			{ AutoCommit => 1, RaiseError => 0, PrintError => 0, PrintWarn => 0, pg_enable_utf8 => 0,
				pg_placeholder_dollaronly => 1 });
		last if $dbh{$role};
		select undef, undef, undef, 0.1;
	}
	$dbh{$role} or die "cannot connect as $role: $DBI::errstr\n";
	$dbh{$role}->do('CREATE TEMP TABLE fuzz_arg (n int, "text" text, "text[]" text[], "jsonb" jsonb)');
	return $dbh{$role};
}

# Run a statement; its rows as hashes, or undef after an error.
sub run
{
	my ($sql, @values) = @_;
	my $dbh = session($now{caller});
	my ($sth, $rows);

	@now{qw(sql values)} = ($sql, \@values);
	# the values are bound, in either protocol: at once, or to a prepared statement
	$sth = $dbh->prepare($sql, { pg_switch_prepared => pick(1, 2) });
	$rows = $sth->{NUM_OF_FIELDS} ? $sth->fetchall_arrayref({}) : [] if $sth && $sth->execute(@values);
	return $rows if $rows && !$dbh->err;

	if ($dbh->ping)
	{
		look_at_error($dbh->state, join ' ', map { $_ // '' } $dbh->errstr,
			map { $dbh->pg_error_field($_) } qw(detail hint context internal_query));
		return;
	}
	look_at_error($dbh->state, $dbh->errstr // '');
	finding('a lost connection', $dbh->errstr // '');
	delete $dbh{ $now{caller} };
	return;
}

# --- what comes back ----------------------------------------------------

# The arguments of a call by their names.
sub named
{
	my ($f, $values) = @_;

	return map { $f->{args}[$_]{name} => $values->[$_] } 0 .. $#$values;
}

# A row that holds a new token: keep it.
sub take_token
{
	my ($row, $effects, $policy) = @_;
	my $before = $pool->by_id($row->{previous_token_id});
	my $token = $pool->take(
		text => $row->{token}, key => $row->{rotation_key}, id => $row->{token_id}, family => $row->{family_id},
		client => $row->{client_id}, owner => $row->{owner},
		policy => $before ? $before->{policy} : $policy, predecessor => $row->{previous_token_id});

	# once only: what comes again, as a replay does, may be rolled back alone
	return if $token->{state} ne 'new' || $token->{counted}++;
	if ($row->{replayed}) { $token->{state} = 'held' }
	else { push @{ $effects->{new} }, $token }
	return;
}

# A row of a function that answers with one value, or with one that is a row.
sub take_apart
{
	my ($row) = @_;
	my ($value) = values %$row;

	# the text of a row of one column, from fuzz.caught
	return { value => { t => 1, f => 0 }->{$1} // $1 } if defined $value && $value =~ /^\(([^,]+)\)$/;
	return { value => undef } if defined $value && $value eq '()';
	$value =~ s/^\("\(/(/ if defined $value;
	my $replayed = ($value // '') =~ /,t,ok\)/ ? 1 : 0;
	return { token => $1, rotation_key => $2 eq '' ? undef : $2, token_id => $3, family_id => $4, replayed => $replayed }
	  if defined $value && $value =~ /^\(([a-z0-9]+_\w{71}),(\w*),([0-9a-f-]{36}),([0-9a-f-]{36}),/;
	return { valid => 1, token_id => $1 } if defined $value && $value =~ /^\((?:\d+,)?t,ok,([0-9a-f-]{36}),/;
	return $row;
}

# A token was accepted: may it be?
sub look_at_accepted
{
	my ($row, $presented) = @_;
	my $token = $pool->by_id($row->{token_id});

	return finding('an unknown token was accepted', $row->{token_id}) unless $token;
	finding("a $token->{state} token was accepted", $token->{text}) if $token->{state} =~ /^(?:dead|ghost|foreign)$/;
	finding('a wrong secret was accepted', $token->{text})
	  if defined $presented && !$token->{bodies}{ FuzzPool::body($presented) };
	return;
}

# Whom a call ended, by what it answered; tr_report_leak answers nothing.
sub ended_by
{
	my ($f, $values, $answer) = @_;
	my %arg = named($f, $values);
	my $family = ($arg{family} // '') =~ /^(?:t|true)$/;
	my $token = $f->{name} eq 'tr_revoke'
	  ? ($pool->those(sub { $_[0]{bodies}{ FuzzPool::body($arg{token} // '') } }))[0] : $pool->by_id($arg{token_id});

	return unless $answer;
	return grep { $_->{family} eq $token->{family} } $pool->those(sub { $_[0]{state} ne 'ghost' })
	  if $token && $family && $f->{name} =~ /^tr_revoke(?:_id)?$/;
	return $token // () if $f->{name} =~ /^tr_(?:revoke|revoke_id|finish_overlap)$/;
	return $pool->those(sub { ($_[0]{predecessor} // '') eq ($arg{token_id} // '') && $_[0]{state} ne 'ghost' })
	  if $f->{name} eq 'tr_cancel_rotation';
	# a cutoff speaks for the caller's realm, which all have unless they set another
	my ($of) = $f->{name} =~ /^tr_revoke_(client|policy)$/;
	return if !$of || $now{realm};
	# with array_nulls off, the NULL in the array that fuzz.caught() takes is a word
	my $whose = $arg{client_id} // $arg{policy} // 'NULL';
	return $pool->those(sub {
		($_[0]{$of} // '') eq $whose && ($_[0]{owner} // '') eq 'fuzz_realm' });
}

# All rows of one call.
sub look_at_rows
{
	my ($f, $values, $list, $rows, $effects) = @_;
	my $of_token = $f->{args}[0] && $f->{args}[0]{name} eq 'token' ? $values->[0] : undef;

	for my $plain (@$rows)
	{
		my $row = keys %$plain == 1 ? take_apart($plain) : $plain;
		my ($single) = values %$row;
		my $presented = $list && $row->{ord} ? $list->[ $row->{ord} - 1 ] : $of_token;

		if (keys %$row == 1 && ($single // '') =~ /^caught (.....): (.*)/s) { look_at_error($1, $2); next }
		# the planner itself answers NULL to a NULL for a strict function, whoever asks
		next if keys %$row == 1 && !defined $single && $f->{strict};
		$answered{ $f->{name} }++;
		finding('a call without the privilege', $f->{name}) unless $allowed{ $now{caller} }{ $f->{name} };
		take_token($row, $effects, { named($f, $values) }->{policy}) if ($row->{token} // '') ne '' && defined $row->{token_id};
		# (tr_audit_verify says so of the trail)
		look_at_accepted($row, $presented) if $row->{valid} && $f->{name} ne 'tr_audit_verify';
		push @{ $effects->{dead} }, ended_by($f, $values, $single) if keys %$row == 1;
	}
	return;
}

# --- one call -----------------------------------------------------------

# The functions and their arguments as the catalog has them, and who may call
# them.
sub read_catalog
{
	my $dbh = session('fuzz_owner');
	my $rows = $dbh->selectall_arrayref(q{
		SELECT p.oid, p.proname AS name, p.pronamespace::regnamespace::text AS schema,
			array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, n)
				ORDER BY n), ',') AS types,
			array_to_string(p.proargnames[1:p.pronargs], ',') AS names, p.proisstrict AS strict,
			p.prorettype IN ('trigger'::regtype, 'void'::regtype) AS plain
		FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
		WHERE e.extname = 'token_rotation' AND p.prokind = 'f' ORDER BY p.proname, p.oid},
		{ Slice => {} }) or die 'no functions: ', $dbh->errstr;

	for my $f (@$rows)
	{
		my @names = split /,/, $f->{names} // '';
		my @types = split /,/, $f->{types};

		$f->{args} = [ map { { type => $types[$_], name => $names[$_] // '' } } 0 .. $#types ];
		# what ends many tokens at once must not leave too few to go on with
		my $weight = { tr_issue => 24, tr_rotate => 24, tr_rotate_id => 8, tr_extend_overlap => 8 }->{ $f->{name} } // ($f->{args}[0] ? 4 : 1);
		$weight = 1 if $f->{name} =~ /^tr_(?:revoke_(?:client|policy|before)|block_client)$/;
		push @functions, ($f) x $weight;
		for my $role (@callers)
		{
			($allowed{$role}{ $f->{name} }) = $dbh->selectrow_array(
				'SELECT has_function_privilege($1::name, $2::oid, $3)', undef, $role, $f->{oid}, 'EXECUTE');
		}
	}
	return scalar @$rows;
}

# A function for the caller: mostly one that it may call.  The owner's turns are
# for what no preset gives.
sub choose
{
	my $role = $now{caller};
	my @mine = grep { $allowed{$role}{ $_->{name} } } @functions;

	return pick(grep { !$allowed{fuzz_all}{ $_->{name} } } @functions) if $role eq 'fuzz_owner';
	my $f = pick(@mine && !chance(5) ? @mine : @functions);
	# which reads the whole trail
	return $f->{name} eq 'tr_audit_verify' && !chance(10) ? choose() : $f;
}

# The statement for a call, in one of the shapes that people write.
sub shape
{
	my ($f, $args) = @_;
	my $call = "$f->{schema}.$f->{name}($args)";

	return "SELECT $call" if $f->{plain};
	return pick(
		"SELECT * FROM $call", "SELECT * FROM $call", "SELECT * FROM $call", "SELECT $call",
		"SELECT x.* FROM pg_catalog.generate_series(1, 2) g, LATERAL $call x",
		"WITH x AS MATERIALIZED (SELECT * FROM $call) SELECT * FROM x",
		"SELECT * FROM $call ORDER BY 1 DESC NULLS LAST LIMIT 1");
}

# Call a function with arguments of all kinds: bound, or out of a table, where
# they are packed, compressed or out of line; in a subtransaction or not.
sub call
{
	my ($effects) = @_;
	my $f = choose();
	my (@values, @written, $list, $rows);
	my $from_table = chance(6);
	my $sensible = !chance(3);

	$now{calls}++;
	run('DELETE FROM pg_temp.fuzz_arg') // return if $from_table;
	for my $n (0 .. $#{ $f->{args} })
	{
		my ($name, $type) = @{ $f->{args}[$n] }{qw(name type)};

		($values[$n], my $texts) = value($name, $type, $pool, $sensible);
		# the rules need the whole trail: what may be pruned is older
		$values[$n] = 'yesterday' if $f->{name} eq 'tr_audit_prune' && ($values[$n] // '') eq 'now';
		$list = $texts if $texts;
		$written[$n] = '$' . ($n + 1) . "::$type";
		if ($from_table && $type =~ /^(?:text|text\[\]|jsonb)$/)
		{
			run(qq{INSERT INTO pg_temp.fuzz_arg (n, "$type") VALUES ($n, \$1::$type)}, $values[$n]) // return;
			$written[$n] = qq{(SELECT a."$type" FROM pg_temp.fuzz_arg a WHERE a.n OPERATOR(pg_catalog.=) $n)};
		}
	}
	my $sql = shape($f, join(', ', @written));
	my @bound = grep { $sql =~ /\$$_\b/ } 1 .. @values;

	if (chance(6))
	{
		$sql =~ s/\$(\d+)::/(\$1)[$1]::/g;
		$rows = run("SELECT fuzz.caught(\$1::text, \$2::text[])", $sql, @values ? array_of(@values) : '{}');
	}
	else
	{
		my $n = 0;
		my %number = map { $_ => ++$n } @bound;
		$sql =~ s/\$(\d+)/\$$number{$1}/g;
		$rows = run($sql, map { $values[ $_ - 1 ] } @bound);
	}
	look_at_rows($f, \@values, $list, $rows, $effects) if $rows;
	return $rows;
}

# --- one transaction ----------------------------------------------------

# What was done from these marks on did not happen.
sub undo
{
	my ($effects, $new, $dead) = @_;

	$_->{state} = 'ghost' for splice @{ $effects->{new} }, $new;
	splice @{ $effects->{dead} }, $dead;
	return;
}

# It is committed.
sub done
{
	my ($effects) = @_;

	$_->{state} = 'held' for @{ $effects->{new} };
	$_->{state} eq 'foreign' or $_->{state} = 'dead' for @{ $effects->{dead} };
	return;
}

# Back to what the role has by default.  A statement_timeout of the last time may strike
# here, too.
sub plain
{
	1 until run('RESET ROLE') && run('RESET ALL');
	return;
}

# What the role has by default, then some odd settings.
sub settings
{
	@now{qw(serializable realm)} = (0, 0);
	plain();
	for (1 .. pick(0, 0, 0, 1, 1, 2, 4))
	{
		my ($name, @some) = @{ pick(@settings) };
		my $value = pick(@some);

		$value =~ s/TOKEN/($pool->any_token \/\/ { text => 'none' })->{text}/e;
		run('SELECT pg_catalog.set_config($1::text, $2::text, false)', $name, $value) or next;
		$now{realm} = 1 if $name =~ /realm|role/;
		$now{serializable} = 1 if $value eq 'serializable';
	}
	return;
}

# A call, perhaps within a savepoint that is perhaps rolled back.  False: the
# transaction is lost.
sub step
{
	my ($effects) = @_;
	my ($new, $dead) = map { scalar @{ $effects->{$_} } } qw(new dead);

	return call($effects) unless chance(3);
	run('SAVEPOINT s') or return;
	return run('RELEASE SAVEPOINT s') if call($effects) && !chance(4);
	undo($effects, $new, $dead);
	return run('ROLLBACK TO SAVEPOINT s');
}

# One transaction of one role.
sub transaction
{
	my $effects = { new => [], dead => [] };
	my $isolation = pick(@isolation);
	my $whole = 1;

	$now{caller} = pick(@callers);
	settings();
	if (chance(3))
	{
		call($effects) ? done($effects) : undo($effects, 0, 0);
		return;
	}
	$now{serializable} = 1 if $isolation =~ /SERIALIZABLE|REPEATABLE/;
	run("BEGIN $isolation " . pick(@access)) or return;
	$whole &&= step($effects) for 1 .. pick(1, 1, 2, 3, 5);
	if ($whole && !chance(4) && run('COMMIT')) { done($effects) }
	else
	{
		undo($effects, 0, 0);
		1 until run('ROLLBACK');
	}
	return;
}

# --- the run ------------------------------------------------------------

# Tokens of the realm that nobody is in.
sub issue_foreign
{
	$now{caller} = 'fuzz_owner';
	run('SELECT pg_catalog.set_config($1, $2, false)', 'token_rotation.realm', 'fuzz_foreign');
	for my $n (1 .. 20)
	{
		my $effects = { new => [], dead => [] };
		my $rows = run('SELECT * FROM tr.tr_issue($1::text, $2::text)', "client $n", pick('default', 'partner'));

		take_token($rows->[0], $effects, undef);
		$_->{state} = 'foreign' for @{ $effects->{new} };
	}
	return;
}

sub foreign
{
	return session('fuzz_owner')->selectrow_array(
		q{SELECT string_agg(t::text, ' ' ORDER BY token_id) FROM token_rotation.token t WHERE owner = 'fuzz_foreign'});
}

# Everybody whom somebody ended, asked once more, by a superuser.
sub ask_the_dead
{
	my @dead = $pool->those(sub { $_[0]{state} =~ /^(?:dead|ghost)$/ });

	@now{qw(caller realm)} = ('fuzz_owner', 0);
	plain();
	for my $token (@dead)
	{
		my $rows = run('SELECT * FROM tr.tr_validate($1::text)', $token->{text});
		look_at_accepted($rows->[0], $token->{text}) if $rows && $rows->[0]{valid};
	}
	return scalar @dead;
}

# End the sessions, so that none shows what its own user gave it to show, such as
# an application_name.
sub leave
{
	$_->disconnect for values %dbh;
	%dbh = ();
	for (1 .. 600)
	{
		my ($others) = session('fuzz_owner')->selectrow_array(q{
			SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'fuzz%' AND pid <> pg_backend_pid()});
		return if $others == 0;
		select undef, undef, undef, 0.1;
	}
	return;
}

$| = 1;
srand $seed;
$ENV{PGOPTIONS} = '-c client_min_messages=warning';
# notices and warnings come to the client, too
local $SIG{__WARN__} = sub {
	finding('a secret in a notice', $_[0]) if $pool->tells($_[0]);
	finding('a warning of this program', $_[0]) if $_[0] =~ / at \S+ line \d+/;
};

my $functions = read_catalog();
issue_foreign();
my $before = foreign();
my $transactions = 0;
while ($now{calls} < $calls)
{
	transaction();
	look_at_log($logfile) if ++$transactions % 200 == 0;
	look_at_rules(session('fuzz_owner')) if $transactions % 50 == 0;
}
my $dead = ask_the_dead();
finding('the realm that nobody is in was changed', '') if foreign() ne $before;
leave();
my $relations = look_at_relations(session('fuzz_owner'));
my $wal = look_at_wal(session('fuzz_owner'));
look_at_log($logfile);

my $errors = 0;
$errors += $_ for values %states;
my @silent = grep { !$answered{$_} && $_ !~ /_guard$|_audit$/ } sort keys %{ $allowed{fuzz_all} };
print "# tried: $now{calls} calls of $functions functions in $transactions transactions, $errors errors of ",
  scalar keys %states, ' kinds, ', scalar @{ $pool->{ids} }, " tokens, seed $seed\n";
print "# tried: $dead dead tokens asked again, $relations relations and $wal bytes of WAL searched for secrets\n";
my ($events) = session('fuzz_owner')->selectrow_array(q{
	SELECT string_agg(event || '=' || n, ' ' ORDER BY event)
	FROM (SELECT event, count(*) AS n FROM token_rotation.audit GROUP BY 1) x});
print "# events: $events\n";
print '# errors: ', join(' ', map { "$_=$states{$_}" } sort keys %states), "\n";
print "# answered: ", join(" ", map { "$_=$answered{$_}" } sort keys %answered), "\n";
print "# never answered: @silent\n" if @silent;
print "# $_: $found{$_} times\n" for sort keys %found;
exit(%found ? 1 : 0);

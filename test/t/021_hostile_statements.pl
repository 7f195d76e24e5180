# Who may do what to which object: role x verb x object, by doing it.
#
#  1. Statements, of each role on each relation: reading in every way that there
#     is shows the rows of its realms, or is refused; writing, locking, altering
#     and attaching something to it is refused.  Of each role on each column:
#     reading.
#  2. Calls, of each role of each function: refused without the preset; with it,
#     tokens of another realm are unknown.
#  3. Statements on the extension as a whole, the database and the server.
#  4. After all that, nothing has changed; and nothing that a role was shown has
#     a secret, or what belongs to another realm.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Hostile;
use HostileTable;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my ($node, $tokens) = hostile_node('hostile_statements');

# Everybody may use both schemas here: each object has to refuse by itself.
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA tr, token_rotation TO PUBLIC');
my $before = digest($node);

# 1. Statements

my $refused = '42501';
# which error is the first for another kind of object, and by version, is no matter
my $cannot = '42501|42809|42P16|42P17|42703|0A000|55000|23502|42P01|42830';
my @read = (
	[ select => 'SELECT * FROM %s' ],
	[ returning => 'WITH x AS (SELECT * FROM %s) SELECT * FROM x' ],
	[ copy_query => 'COPY (SELECT * FROM %s) TO STDOUT' ],
	[ cursor => 'DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM %s', 'FETCH ALL FROM c' ],
	[ prepared => 'PREPARE p AS SELECT * FROM %s', 'EXECUTE p' ],
	[ table_as => 'CREATE TEMP TABLE mine AS SELECT * FROM %s', 'TABLE mine' ],
	[ view => 'CREATE TEMP VIEW mine AS SELECT * FROM %s', 'TABLE mine' ],
	[ function => q{CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE plpgsql AS
		$$ BEGIN RETURN QUERY SELECT x::text FROM %s x; END $$}, 'SELECT * FROM pg_temp.f()' ],
	[ merge_from => 'CREATE TEMP TABLE mine (t text)',
		'MERGE INTO mine USING %s x ON false WHEN NOT MATCHED THEN INSERT VALUES (x::text)', 'TABLE mine' ]);
my @change = (
	[ insert => 'INSERT INTO %s DEFAULT VALUES' ],
	[ insert_conflict => 'INSERT INTO %s DEFAULT VALUES ON CONFLICT DO NOTHING' ],
	[ update => 'UPDATE %s SET #set' ],
	[ delete => 'DELETE FROM %s' ],
	[ merge => 'MERGE INTO %s USING (VALUES (1)) v ON true WHEN MATCHED THEN DELETE' ],
	[ copy_in => 'COPY %s FROM STDIN' ]);
my @never = (
	[ truncate => 'TRUNCATE %s CASCADE' ],
	[ for_update => 'SELECT * FROM %s FOR UPDATE' ],
	[ for_key_share => 'SELECT * FROM %s FOR KEY SHARE' ],
	[ row_security => 'ALTER TABLE %s DISABLE ROW LEVEL SECURITY' ],
	[ no_triggers => 'ALTER TABLE %s DISABLE TRIGGER ALL' ],
	[ rename => 'ALTER TABLE %s RENAME TO mine' ],
	[ own => 'ALTER TABLE %s OWNER TO CURRENT_USER' ],
	[ column => 'ALTER TABLE %s ADD COLUMN mine int' ],
	[ default => 'ALTER TABLE %s ALTER owner SET DEFAULT CURRENT_USER' ],
	[ inherit => 'CREATE TEMP TABLE mine () INHERITS (%s)' ],
	[ reference => 'CREATE TEMP TABLE mine (x text REFERENCES %s)' ],
	[ row_type => 'CREATE TEMP TABLE mine (x %s)' ],
	[ trigger => 'CREATE TRIGGER mine BEFORE INSERT ON %s EXECUTE FUNCTION suppress_redundant_updates_trigger()' ],
	[ rule => 'CREATE RULE mine AS ON INSERT TO %s DO INSTEAD NOTHING' ],
	[ row_policy => 'CREATE POLICY mine ON %s USING (true) WITH CHECK (true)' ],
	[ index => 'CREATE INDEX mine ON %s ((1))' ],
	[ statistics => 'CREATE STATISTICS public.mine ON #columns FROM %s' ],
	[ cluster => 'CLUSTER %s USING #pkey' ],
	[ reindex => 'REINDEX TABLE %s' ],
	[ comment => 'COMMENT ON TABLE %s IS NULL' ],
	[ publication => 'CREATE PUBLICATION mine FOR TABLE %s' ],
	[ drop => 'DROP TABLE %s' ],
	[ drop_cascade => 'DROP TABLE %s CASCADE' ],
	[ member => 'ALTER EXTENSION token_rotation DROP TABLE %s' ],
	[ move => 'ALTER TABLE %s SET SCHEMA public' ],
	[ logged => 'ALTER TABLE %s SET LOGGED' ]);

# How many rows a role sees of a relation; undef: it may not ask.
sub visible
{
	my ($role, $relation) = @_;
	my $r = $relations{$relation};
	my $where = $r->{sees}{$role} // '';

	return undef unless holds($role, $relation, 'SELECT');
	# the status is computed by a function that only presets give
	return undef if $r->{view} && !$r->{plain} && any($role, @readers);
	return value($node, "SELECT count(*) FROM " . named($relation) . ($where ? " WHERE $where" : ''));
}

# The regular expression of the outcome of a change by a role with the privilege
# for it: row security leaves nothing to change, and the audit trail's triggers
# say so.  Policies are there to be edited.
sub change
{
	my ($role, $relation, $verb) = @_;
	my $r = $relations{$relation};
	my %privilege = (insert => 'INSERT', insert_conflict => 'INSERT', copy_in => 'INSERT', update => 'UPDATE',
		delete => 'DELETE', merge => 'DELETE');

	# (to copy nothing into them is no error)
	return $verb eq 'copy_in' ? "$cannot|ok 0" : $cannot if $r->{view} || $r->{sequence};
	return $refused unless holds($role, $relation, $privilege{$verb});
	return $verb eq 'copy_in' ? 'ok 0' : $verb =~ /insert/ ? '23502' : 'ok [1-9]\d*|55006' if $r->{open};
	return $refused if $relation =~ /^audit(?:_seal)?$/ && $verb ne 'copy_in';
	# MERGE says that there are rows which may not be changed
	return $verb eq 'copy_in' ? '0A000' : $verb =~ /insert/ ? $refused : $verb eq 'merge' ? "$refused|ok 0" : 'ok 0';
}

my %printed;
for my $role (@ROLES)
{
	for my $relation (sort keys %relations)
	{
		my $r = $relations{$relation};
		my $rows = visible($role, $relation);
		my $selects = holds($role, $relation, 'SELECT');
		my (%expected, @names, @cases);

		for my $case (@read, @change, @never)
		{
			my ($name, @statements) = @$case;

			# a sequence has no row type
			next if $r->{sequence} && $name =~ /^(?:function|merge_from|row_type)$/;

			s/%s/named($relation)/e, s/#set/$r->{set}/, s/#pkey/${relation}_pkey/,
			  s/#columns/join ', ', @{$r->{columns}}[0, 1]/e
			  for @statements;
			push @names, $name;
			push @cases, \@statements;
		}
		my %of = ((map { $_->[0] => defined $rows ? "ok $rows" : $refused } @read),
			(map { $_->[0] => change($role, $relation, $_->[0]) } @change), map { $_->[0] => $cannot } @never);
		# the type of a row tells nothing: who may use the schema can name it
		$of{row_type} = 'ok 0';
		# psql does not count what it copies
		$of{copy_query} = 'ok \d+' if defined $rows;
		$expected{$_} = $of{$_} for @names;
		push @names, map { "column $_" } @{ $r->{columns} };
		push @cases, map { ["SELECT $_ FROM " . named($relation)] } @{ $r->{columns} };
		$expected{"column $_"} = defined $rows ? "ok $rows" : $refused for @{ $r->{columns} };

		# what needs the privilege only, and reads no rows
		my @table = $r->{sequence} ? () : (
			[ lock_share => "LOCK TABLE @{[named($relation)]} IN ACCESS SHARE MODE" ],
			[ lock => "LOCK TABLE @{[named($relation)]} IN ACCESS EXCLUSIVE MODE" ],
			[ like => "CREATE TEMP TABLE mine (LIKE @{[named($relation)]} INCLUDING ALL)" ]);
		push @names, map { $_->[0] } @table;
		push @cases, map { [ $_->[1] ] } @table;
		if (@table)
		{
			$expected{lock} = $role eq 'writer' ? 'ok 0' : $refused;
			# from 16 on, the privilege for a strong lock is one for a weak lock, too
			$expected{lock_share} =
			  $selects ? 'ok 0' : holds($role, $relation, 'INSERT') ? "$refused|ok 0" : $refused;
			$expected{like} = $selects ? 'ok 0' : $refused;
		}

		my ($outcomes, $text) = cases_as($node, $role, @cases);
		my %got;
		@got{@names} = @$outcomes;
		$printed{$role} .= $text;
		all_as_expected("statements of $role on $relation", \%expected, \%got);
	}
}

# 2. Calls

my $public_key = slurp_file("$FindBin::RealBin/../public_key.asc");

for my $role (@ROLES)
{
	my (%expected, @cases, %got);
	my $shop = $tokens->{shop};
	my %argument = (1 => $shop->{token}, 2 => $shop->{token_id}, 3 => $shop->{keyed}, 4 => $shop->{rotation_key},
		5 => $public_key);

	for my $function (sort keys %functions)
	{
		my ($callers, $sql) = @{ $functions{$function} };

		$sql =~ s/%([1-5])/$argument{$1}/g;
		push @cases, [$sql];
		# of his own realm, a member gets answers: the other tests' business
		$expected{$function} = !any($role, @$callers) ? $refused : $role eq 'rival' ? 'ok 0' : 'ok [0-3]';
		$expected{$function} .= '|55000' if $function eq 'tr_cancel_rotation' && $role eq 'operator';
		# nobody is bound, and in another's realm nobody can be
		$expected{$function} = '28000' if $function eq 'tr_require_scope' && any($role, @$callers);
		$expected{$function} = '28000' if $function eq 'tr_authenticate' && $role eq 'rival';
		$expected{$function} = 'PGRST' if $function eq 'tr_pre_request' && $role eq 'rival';
		# there is no pg_cron
		$expected{$function} = '55000' if $function =~ /^tr_(?:un)?schedule$/ && any($role, @$callers);
	}
	my ($outcomes, $text) = cases_as($node, $role, @cases);
	@got{ sort keys %functions } = @$outcomes;
	$printed{$role} .= $text;
	all_as_expected("calls by $role", \%expected, \%got);
}

# 3. The extension, the database, the server

my @whole = (
	'DROP EXTENSION token_rotation CASCADE',
	'ALTER EXTENSION token_rotation UPDATE',
	'ALTER EXTENSION token_rotation SET SCHEMA public',
	'ALTER EXTENSION token_rotation DROP FUNCTION tr.tr_validate(text, text)',
	'DROP SCHEMA token_rotation CASCADE',
	'ALTER SCHEMA token_rotation RENAME TO mine',
	'DROP SCHEMA tr CASCADE',
	'CREATE TABLE token_rotation.mine ()',
	'CREATE FUNCTION tr.tr_validate(text) RETURNS bool LANGUAGE sql AS $$ SELECT true $$',
	'CREATE OR REPLACE FUNCTION tr.tr_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$',
	'DROP FUNCTION tr.tr_audit_guard() CASCADE',
	'ALTER FUNCTION tr.tr_validate(text, text) SECURITY DEFINER',
	'GRANT EXECUTE ON FUNCTION tr.tr_revoke_before(timestamptz, text) TO CURRENT_USER',
	'GRANT ALL ON ALL TABLES IN SCHEMA token_rotation TO CURRENT_USER',
	'GRANT shop, rivals TO CURRENT_USER',
	q(UPDATE pg_class SET relrowsecurity = false WHERE relname = 'token'),
	'CREATE PUBLICATION mine FOR ALL TABLES',
	'CREATE PUBLICATION mine FOR TABLES IN SCHEMA token_rotation',
	'SET session_replication_role = replica',
	'SET SESSION AUTHORIZATION shop',
	'SET ROLE shop',
	'SET ROLE token_rotation_worker',
	'SET token_rotation.rotation_enabled = off',
	q(ALTER ROLE CURRENT_USER SET token_rotation.leeway = '1h'),
	q(ALTER DATABASE postgres SET token_rotation.max_staleness = '-1'),
	q(LOAD 'token_rotation'),
	q(SELECT setval('token_rotation.audit_seq', 1)),
	q(SELECT nextval('token_rotation.audit_seq')),
	q(SELECT pg_read_file('postgresql.conf')),
	'SELECT pg_terminate_backend(' . pid_of($node, 'token_rotation launcher') . ')');
# What some may by what the server itself gives them; the docs say so.
my %may = (
	'GRANT shop, rivals TO CURRENT_USER' => { creator => $node->pg_version < 16 ? 'ok 0' : undef },
	'SET ROLE shop' => { map { $_ => 'ok 0' } qw(validator issuer operator) },
	'SET ROLE token_rotation_worker' => { map { $_ => 'ok 0' } @workers },
	q(SELECT setval('token_rotation.audit_seq', 1)) => { writer => 'ok 1' },
	q(SELECT nextval('token_rotation.audit_seq')) => { writer => 'ok 1' });
my $no_setting = '42501|55P02';
my $sequence = value($node, q{SELECT nextval('token_rotation.audit_seq')});
for my $role (@ROLES)
{
	my ($outcomes, $text) = cases_as($node, $role, map { [$_] } @whole);
	my (%expected, %got);

	@got{@whole} = @$outcomes;
	$printed{$role} .= $text;
	for (@whole)
	{
		$expected{$_} = $may{$_}{$role} // (/token_rotation\.\w+ = / ? $no_setting : "$cannot|3F000");
	}
	# no privileges were granted: a warning where one has some
	$expected{$_} .= '|ok 0' for grep { /^GRANT (?:ALL|EXECUTE)/ } @whole;
	all_as_expected("at large: $role", \%expected, \%got);

	# in no transaction
	my (undef, $error) = run_as($node, $role, 'ALTER SYSTEM SET token_rotation.overlap_enforcement = off');
	like($error, qr/ERROR:  42501/, "ALTER SYSTEM: $role");
	# a sequence is outside of transactions
	value($node, "SELECT setval('token_rotation.audit_seq', $sequence)") if $role eq 'writer';
}

# 4. Nothing has changed, and nothing was seen

is(digest($node), $before, 'nothing has changed');
my @secrets = secrets($node, $tokens);
my %others = map { $_ => [ others_of($node, $_) ] } 'shop', 'rivals';
ok(@secrets > 12 && @{ $others{shop} } > 12, 'there are secrets');
my %text = %printed;
for my $role (@ROLES)
{
	my @must_not_see = $role eq 'allseeing' ? map { /_.{22}(.{43})/ ? $1 : () } map { $_->{token} } values %$tokens
	  : @secrets;

	# a member of the realm, and an auditor, may read what it has written
	push @must_not_see, @{ $others{shop} } unless any($role, qw(validator issuer operator auditor allseeing));
	push @must_not_see, @{ $others{rivals} } unless any($role, qw(rival auditor allseeing));
	# what the script itself said comes back in errors
	$printed{$role} =~ s/^LINE \d+:.*\n.*//mg;
	my @seen = grep { index($printed{$role}, $_) >= 0 } @must_not_see;
	is("@seen", '', "$role has seen nothing of others");
}
note('tried: ' . cases() . ' cases of ' . @ROLES . ' roles');
done_testing();

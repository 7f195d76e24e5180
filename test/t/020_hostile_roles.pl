# Who may do what to which object: every object of the extension by the catalogs,
# and what each role has been given.
#
#  1. Every object of the extension (schema, relations and their columns,
#     sequence, row types, functions) is in lib/HostileTable.pm, and nothing else
#     is there; one that nobody listed fails here.
#  2. Privileges, of each role on each object and column: those of its presets
#     and no other, though default privileges would have given everything.

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

my ($node, $tokens) = hostile_node('hostile_roles');
my $roles = join(',', @ROLES);

# 1. Every object is listed

my @members_of_extension = rows($node, q{
	SELECT d.classid::regclass::text AS kind, coalesce(c.relname, p.proname, n.nspname, t.typname,
		pg_describe_object(d.classid, d.objid, 0)) AS name
	FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
	LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
	LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
	LEFT JOIN pg_namespace n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
	LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
	WHERE d.deptype = 'e' AND e.extname = 'token_rotation' ORDER BY 1, 2});
my %listed = (
	pg_namespace => { token_rotation => 1 },
	pg_class => \%relations,
	pg_proc => \%functions,
	# an answer's type; the row types, and the arrays where the server counts them in
	pg_type => { map { $_ => 1, "_$_" => 1 } 'validation', keys %relations });
ok($listed{ $_->{kind} }{ $_->{name} }, "listed: $_->{kind} $_->{name}") for @members_of_extension;
for my $kind (qw(pg_class pg_proc))
{
	is_deeply(
		[ sort map { $_->{name} } grep { $_->{kind} eq $kind } @members_of_extension ],
		[ sort keys %{ $listed{$kind} } ],
		"each of $kind once, and all that is listed");
}
is_deeply([ rows($node, qq{
		SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'token_rotation'::regnamespace
		AND c.relkind NOT IN ('i', 't', 'c') AND c.relname NOT IN (@{[join ', ', map { "'$_'" } keys %relations]})}) ],
	[], 'no relation in the schema that is no member');
for my $relation (sort keys %relations)
{
	is( value($node, qq{
			SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
			WHERE attrelid = '@{[named($relation)]}'::regclass AND attnum > 0 AND NOT attisdropped}),
		join(' ', @{ $relations{$relation}{columns} }), "listed: the columns of $relation");
}

# 2. Privileges

my $maintain = $node->pg_version >= 17 ? ',MAINTAIN' : '';
for my $relation (sort keys %relations)
{
	my $r = $relations{$relation};
	my (%expected, %got);
	my @privileges = $r->{sequence} ? qw(SELECT UPDATE) : qw(SELECT INSERT UPDATE DELETE);
	my $has = $r->{sequence} ? 'has_sequence_privilege' : 'has_table_privilege';
	my $others = $r->{sequence} ? 'USAGE' : "TRUNCATE,REFERENCES,TRIGGER$maintain";
	my $list = join(', ', map { "'$_'" } @privileges, split /,/, $others);

	$got{"$_->{role} $_->{p}"} = $_->{has} for rows($node, qq{
		SELECT role, p, $has(role, '@{[named($relation)]}', p)::text AS has
		FROM unnest('{$roles}'::text[]) role, unnest(ARRAY[$list]) p});
	for my $role (@ROLES)
	{
		$expected{"$role $_"} = holds($role, $relation, $_) ? 'true' : 'false' for @privileges;
		$expected{"$role $_"} = 'false' for split /,/, $others;
	}
	all_as_expected("privileges on $relation", \%expected, \%got);
	next if $r->{sequence};

	# on columns: as on the relation, for each that the catalog has
	(%expected, %got) = ();
	$got{"$_->{role} $_->{attname} $_->{p}"} = $_->{has} for rows($node, qq{
		SELECT role, attname, p, has_column_privilege(role, attrelid, attnum, p)::text AS has
		FROM unnest('{$roles}'::text[]) role,
			unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p, pg_attribute
		WHERE attrelid = '@{[named($relation)]}'::regclass AND NOT attisdropped});
	for my $case (keys %got)
	{
		my ($role, undef, $privilege) = split / /, $case;

		$expected{$case} = holds($role, $relation, $privilege) ? 'true' : 'false';
	}
	all_as_expected("privileges on the columns of $relation", \%expected, \%got);
}
{
	my (%expected, %got);

	$got{"$_->{role} $_->{proname}"} = $_->{has} for rows($node, qq{
		SELECT role, proname, has_function_privilege(role, p.oid, 'EXECUTE')::text AS has
		FROM unnest('{$roles}'::text[]) role, pg_proc p WHERE pronamespace IN ('tr'::regnamespace, 'token_rotation'::regnamespace)});
	for my $function (keys %functions)
	{
		$expected{"$_ $function"} = any($_, @{ $functions{$function}[0] }) ? 'true' : 'false' for @ROLES;
	}
	all_as_expected('privileges on functions', \%expected, \%got);

	(%expected, %got) = ();
	$got{"$_->{role} $_->{p}"} = $_->{has} for rows($node, qq{
		SELECT role, p, has_schema_privilege(role, 'token_rotation', p)::text AS has
		FROM unnest('{$roles}'::text[]) role, unnest('{USAGE,CREATE}'::text[]) p
		UNION ALL SELECT role, relname, has_type_privilege(role, reltype, 'USAGE')::text
		FROM unnest('{$roles}'::text[]) role, pg_class
		WHERE relnamespace = 'token_rotation'::regnamespace AND reltype <> 0});
	for my $role (@ROLES)
	{
		$expected{"$role USAGE"} = any($role, @in_schema) ? 'true' : 'false';
		$expected{"$role CREATE"} = 'false';
	}
	# types tell nothing, and only who may use the schema can name them
	$expected{$_} //= 'true' for keys %got;
	all_as_expected('privileges on the schema and the row types', \%expected, \%got);
}

note('tried: ' . cases() . ' privileges of ' . @ROLES . ' roles');
done_testing();

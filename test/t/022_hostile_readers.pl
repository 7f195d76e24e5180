# Ways around what may not be read: catalogs, statistics, plans, leaky functions,
# cached plans, replication.
#
#  1. Every catalog, statistics view and view of the information schema, read by
#     every role that may: no secret, and nothing that another realm has written.
#     (Statistics that row security hides; the queries of others, but for
#     pg_monitor, which may see them.)
#  2. Leaky functions, operators and casts, wherever a query can have them, on
#     every relation that a member of a realm reads: they see the rows of his
#     realm, and no other.
#  3. EXPLAIN (ANALYZE, VERBOSE) names nothing of another realm.
#  4. Plans that are kept (PREPARE, a cursor, a function) when the role changes:
#     each role gets its own rows.
#  5. A publication FOR ALL TABLES: it has hashes in it, but no nonce; the verbs go
#     on.  Decoding is for REPLICATION, which reads hashes so, and for nobody else.

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

my ($node, $tokens) = hostile_node('hostile_readers');
my @secrets = secrets($node, $tokens);
my %others = map { $_ => [ others_of($node, $_) ] } 'shop', 'rivals';
my @nonces = split /\n/,
  value($node, q{SELECT encode(nonce, 'hex') FROM token_rotation.token_cache WHERE nonce IS NOT NULL});

sub seen_in
{
	my ($text, @list) = @_;

	return join(' ', grep { index($text, $_) >= 0 } @list);
}

# 1. Catalogs and statistics

# There is something in them: statistics of the columns, and a session of
# another role that had a token in its statement.
$node->safe_psql('postgres', 'ANALYZE');
my $other = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'issuer' ]);
$other->query_until(qr/ok/, "SELECT reason FROM tr.tr_rotate('$tokens->{shop}{token}');\n");
cmp_ok(value($node, q{SELECT count(*) FROM pg_stats WHERE schemaname = 'token_rotation'}),
	'>', 50, 'there are statistics');
my @catalogs = split /\n/, value($node, q{
	SELECT oid::regclass FROM pg_class
	WHERE relkind IN ('r', 'v', 'm', 'p', 'f')
	AND relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1});
my $tried = 0;
for my $role (@ROLES)
{
	# the information schema is slow, and made of the catalogs
	my @read = grep { !/^information_schema/ || $role =~ /^(?:nobody|rival|reader)$/ } @catalogs;
	my ($out, $err) = run_as($node, $role, join('', map { "COPY (SELECT x FROM $_ x) TO STDOUT;\n" } @read));
	my @must_not = @secrets;

	$tried += @read;
	# doc/security.md: pg_read_all_data reads the samples in pg_statistic, of no
	# hash and no nonce; the statements of others, and one's own
	push @must_not, @{ $others{shop} } unless any($role, qw(validator issuer operator), @readers);
	push @must_not, @{ $others{rivals} } unless any($role, 'rival', @readers);
	@must_not = grep { index($tokens->{shop}{token}, $_) < 0 } @must_not if $role eq 'issuer';
	@must_not = grep { !/^\w{43}$/ } @must_not if $role eq 'monitor';
	is(seen_in($out . $err, @must_not), '', "catalogs as $role");
	cmp_ok(length $out, '>', 100_000, "$role reads catalogs");
}
# (its timer may have run out meanwhile)
eval { $other->quit };

# 2. Leaky functions

$node->safe_psql('postgres', q{
	GRANT CREATE ON SCHEMA public TO rival});
my $leaks = q{
	SET search_path = public, tr;
	CREATE FUNCTION leak(x text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
		$$ BEGIN RAISE NOTICE 'seen %', x; RETURN true; END $$;
	CREATE FUNCTION leak(x text, y text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
		$$ BEGIN RAISE NOTICE 'seen %', x; RAISE NOTICE 'and %', y; RETURN x = y; END $$;
	CREATE FUNCTION keep(state text, x text) RETURNS text LANGUAGE plpgsql COST 0.0000001 AS
		$$ BEGIN RAISE NOTICE 'seen %', x; RETURN x; END $$;
	CREATE OPERATOR === (FUNCTION = leak, LEFTARG = text, RIGHTARG = text, RESTRICT = eqsel, JOIN = eqjoinsel);
	CREATE AGGREGATE keep(text) (SFUNC = keep, STYPE = text);
	CREATE DOMAIN leaky AS text CHECK (leak(VALUE));
	CREATE VIEW mine AS SELECT * FROM #r;
	SELECT count(*) FROM #r x WHERE leak(x::text);
	SELECT count(*) FROM #r x WHERE leak(x::text) AND owner = 'rivals';
	SELECT count(*) FROM #r x WHERE owner === 'rivals';
	SELECT count(*) FROM #r x WHERE #c = 'rivals client' OR leak(x::text);
	SELECT count(*) FROM #r x WHERE CASE WHEN leak(x::text) THEN true END;
	SELECT count(*) FROM #r x WHERE length(#c) / (leak(x::text))::int > 0;
	SELECT count(*) FROM #r x WHERE EXISTS (SELECT FROM generate_series(1, 1) WHERE leak(x::text));
	SELECT count(*) FROM #r x JOIN #r y ON x.#c === y.#c;
	SELECT count(*) FROM #r x RIGHT JOIN (VALUES ('rivals client')) v (c) ON leak(x::text);
	SELECT count(*) FROM (VALUES ('shop'), ('rivals')) v (o) LEFT JOIN #r x ON leak(x::text) AND x.owner = v.o;
	SELECT count(*) FROM #r x, LATERAL (SELECT leak(x::text)) l;
	SELECT count(*) FROM #r x GROUP BY leak(x::text) HAVING keep(#c) IS NULL;
	SELECT keep(x::text) FILTER (WHERE leak(#c)) FROM #r x;
	SELECT row_number() OVER (ORDER BY leak(x::text)) FROM #r x;
	SELECT DISTINCT ON (leak(x::text)) 1 FROM #r x ORDER BY leak(x::text);
	SELECT #c::leaky FROM #r;
	SELECT count(*) FROM #r x WHERE #c::int > 0;
	SELECT count(*) FROM #r x WHERE x::text::json IS NULL;
	SELECT 1 / (owner = 'rivals')::int FROM #r;
	SELECT count(*) FROM mine x WHERE leak(x::text) AND owner <> 'shop';
	SELECT count(*) FROM (SELECT * FROM #r OFFSET 0) x WHERE leak(x::text);
	WITH x AS NOT MATERIALIZED (SELECT * FROM #r) SELECT count(*) FROM x WHERE leak(x::text);
	SELECT count(*) FROM #r x WHERE leak(x::text) LIMIT 1;
	SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_material = off;
	SELECT count(*) FROM #r x WHERE leak(x::text) AND #c === 'shop client' OR owner === 'shop';
	SET enable_nestloop = off; SET enable_indexscan = off;
	SELECT count(*) FROM #r x JOIN #r y USING (owner) WHERE leak(y::text) AND leak(x::text);
	DROP VIEW mine; DROP DOMAIN leaky; DROP AGGREGATE keep(text); DROP OPERATOR === (text, text);
	DROP FUNCTION leak(text), leak(text, text), keep(text, text);
};
my %column = (tokens => 'client_id', audit => 'client_id', cutoff => 'subject', blocked_client => 'client_id',
	deliveries => 'client_id', delivery_key => 'client_id');
my @shops = grep { $_ ne 'shop client' } @{ $others{shop} };
for my $relation (sort keys %column)
{
	(my $script = $leaks) =~ s/#r/token_rotation.$relation/g;
	$script =~ s/#c/$column{$relation}/g;
	# what the script itself says is not seen; 'shop client' is in it
	my ($out, $err) = run_as($node, 'rival', $script, '-v', 'SHOW_CONTEXT=never');
	$err =~ s/^LINE \d+:.*\n.*//mg;
	$tried += () = $script =~ /;$/mg;
	is(seen_in($out . $err, @shops, @secrets), '', "leaks of $relation: nothing of another realm");
	is(join("\n", $err =~ /seen ([^\n]*\bshop\b[^\n]*)/g), '', "leaks of $relation: not a row of it");
	cmp_ok(scalar(() = $err =~ /seen [^\n]*rivals/g), '>', 20, "leaks of $relation: but one's own");
	is(join("\n", $err =~ /ERROR:  (?:42|0A)[^\n]*/g), '', "leaks of $relation: all of them ran");
}

# 3. EXPLAIN

for my $relation (sort keys %column)
{
	my $c = $column{$relation};
	my ($out, $err) = run_as($node, 'rival', join('', map {
		"EXPLAIN (ANALYZE, VERBOSE, BUFFERS, SETTINGS, WAL) SELECT * FROM token_rotation.$relation $_;\n"
	} '', "WHERE $c LIKE 's%'", "WHERE $c > 'a' ORDER BY $c", "x JOIN token_rotation.$relation y USING ($c)",
		"WHERE $c IN (SELECT client_id FROM token_rotation.tokens)"));

	is($err, '', "EXPLAIN of $relation: plans");
	is(seen_in($out, @{ $others{shop} }, @secrets), '', "EXPLAIN of $relation: nothing of another realm");
}

# 4. Plans that are kept

$node->safe_psql('postgres', q{
	CREATE ROLE switcher LOGIN NOINHERIT;
	GRANT operator, rival TO switcher;
	GRANT CREATE ON SCHEMA public TO switcher;
	GRANT USAGE ON SCHEMA tr, token_rotation TO switcher});
my $kept = q{
	SET plan_cache_mode = force_generic_plan;
	CREATE FUNCTION public.owners() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT
		string_agg(DISTINCT owner, ',') FROM token_rotation.audit); END $$;
	GRANT EXECUTE ON FUNCTION public.owners() TO PUBLIC;
	SET ROLE operator;
	PREPARE p1 AS SELECT DISTINCT 'tokens ' || owner FROM token_rotation.tokens;
	PREPARE p2 AS SELECT DISTINCT 'audit ' || owner FROM token_rotation.audit;
	PREPARE p3 AS SELECT DISTINCT 'cutoff ' || owner FROM token_rotation.cutoff WHERE owner <> '';
	EXECUTE p1; EXECUTE p2; EXECUTE p3; SELECT public.owners();
	\echo switched
	SET ROLE rival;
	EXECUTE p1; EXECUTE p2; EXECUTE p3; SELECT public.owners();
};
my ($out, $err) = run_as($node, 'switcher', $kept);
is($out, "tokens shop\naudit shop\ncutoff shop\nshop\nswitched\ntokens rivals\naudit rivals\ncutoff rivals\nrivals",
	'plans of one role serve another its own rows');
$tried += 8;

# 5. Replication

$node->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
is( value($node, q{SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables
		WHERE schemaname = 'token_rotation'}),
	'audit audit_seal audit_sink blocked_client consumer cutoff delivery delivery_key pending policy risk_rule token told',
	'FOR ALL TABLES: not the cache');
my $create = q{SELECT count(*) FROM pg_create_logical_replication_slot('of_' || current_user, 'pgoutput')};
for my $role (@ROLES)
{
	my (undef, $error) = run_as($node, $role, $create);
	is($error =~ /ERROR:\s+(\w{5})/ ? $1 : $error, $role eq 'replicator' ? '' : '42501', "a slot of $role");
}
my $decoded = issue($node, q{'decoded', 'partner'});
my $next = rotate($node, $decoded->{token}, "'$decoded->{rotation_key}'");
my $more = issue($node, q{'more'});
is(rotate($node, $more->{token})->{reason}, 'ok', 'the verbs go on');
is(value($node, "SELECT tr_cancel_rotation('$more->{token_id}')"), 't', 'all of them');
is(value($node, q{SELECT tr_block_client('decoded'), tr_block_client('decoded', false)}), 't|t', 'also what deletes');
($out, $err) = run_as($node, 'replicator', q{
	SELECT encode(data, 'escape') FROM pg_logical_slot_get_binary_changes('of_replicator', NULL, NULL,
		'proto_version', '1', 'publication_names', 'everything')});
is($err, '', 'replicator reads the changes');
like($out, qr/decoded/, 'they are there');
my $hash = value($node, "SELECT encode(secret_hash, 'hex') FROM token_rotation.token WHERE token_id = '$next->{token_id}'");
like($out, qr/$hash/, 'with hashes, as doc/security.md says of REPLICATION');
@nonces = split /\n/,
  value($node, q{SELECT encode(nonce, 'hex') FROM token_rotation.token_cache WHERE nonce IS NOT NULL});
cmp_ok(scalar(@nonces), '>', 1, 'there are nonces');
is(seen_in($out, @nonces, map { substr($_, 26, 43) } $decoded->{token}, $next->{token}, $more->{token}),
	'', 'without a nonce, and without a secret');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('of_replicator')});

note("tried: $tried readings by " . @ROLES . ' roles, of ' . @catalogs . ' catalogs among others');
done_testing();

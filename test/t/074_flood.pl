# A flood of refused tokens from many connections hides nothing and fills nothing.
#
#  1. What the flood refuses is counted, exactly, in few rows.
#  2. Proven events of the same time are recorded, each one.
#  3. Nothing is lost, and the trail does not grow with the flood.
#
#   TR_QUICK    1: 100,000 refusals instead of a million

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $connections = 16;
my $at_once = 250;    # refusals in one statement
my $turns = ($ENV{TR_QUICK} ? 100_000 : 1_000_000) / $connections / $at_once / 4;
my $node = new_node('flood', conf => "token_rotation.worker_nap = '500ms'\ntoken_rotation.audit_validations = failures\nfsync = off\n");
my $revoked = issue($node, "'revoked'");
my $known = issue($node, "'known'");

value($node, "SELECT tr_revoke('$revoked->{token}')");
$node->safe_psql('postgres', 'CREATE ROLE flood_' . $_ . '; GRANT USAGE ON SCHEMA token_rotation TO flood_' . $_
	. "; SELECT tr_grant('flood_$_', 'validator'); GRANT flood_$_ TO CURRENT_USER") for 1 .. 4;

# A token whose id nobody has, and one whose secret is another's: well-formed both.
my $other = issue($node, "'other'", 'postgres');
$node->safe_psql('postgres', "DELETE FROM token_rotation.token WHERE token_id = '$other->{token_id}'");
my @junk = ("'$other->{token}'", "''", 'NULL', "'trk_nonsense'");
my $script = $node->basedir . '/flood.sql';
append_to_file($script, join '', "\\set role random(1, 4)\nSET ROLE flood_:role;\n",
	map { "SELECT count(*) FROM tr_validate_many(array_fill($_\::text, ARRAY[$at_once])) WHERE NOT valid;\n" } @junk);

my $rows = audit_count($node, 'true');
my $flood = IPC::Run::start([ 'pgbench', '-n', '-c', $connections, '-t', int $turns, '-f', $script, $node->connstr('postgres') ],
	'>', \my $out, '2>', \my $err);
my $proven = 0;
while ($flood->pumpable && $proven < 40)
{
	is(verdict($node, $revoked->{token}), 'revoked', 'a proven refusal in the flood') if $proven == 0;
	$node->safe_psql('postgres', "SELECT reason FROM tr_validate('$revoked->{token}')") if $proven > 0;
	$proven++;
}
$flood->finish;
like($out, qr/number of failed transactions: 0 /, 'the flood came to its end');
my $refused = $connections * int($turns) * @junk * $at_once;
my $sum = q{SELECT coalesce(sum((detail->>'count')::bigint), 0) FROM token_rotation.audit
	WHERE event = 'validation_refused' AND client_id IS NULL AND role LIKE 'flood%'};
poll($node, 'every one is counted', "SELECT ($sum) >= $refused");
is(value($node, $sum), $refused, 'once');
poll($node, 'each proven refusal is recorded',
	"SELECT count(*) >= $proven FROM token_rotation.audit WHERE event = 'validation_refused' AND client_id = 'revoked'");
is(audit_count($node, "event = 'validation_refused' AND client_id = 'revoked'"), $proven, 'once');
is(audit_count($node, "event = 'events_lost'"), 0, 'nothing was lost');
is(value($node, q{SELECT string_agg(DISTINCT reason, ' ' ORDER BY reason) FROM token_rotation.audit
	WHERE event = 'validation_refused' AND role LIKE 'flood%'}), 'malformed unknown', 'of both kinds');
my $grown = audit_count($node, 'true') - $rows - $proven;
cmp_ok($grown, '<', 500, 'the trail has grown by few rows');
note("tried: $refused refusals from $connections connections, in $grown rows, and $proven proven ones among them");

done_testing();

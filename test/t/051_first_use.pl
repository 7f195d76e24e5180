# The first use that opens a window, where something comes between.
#
#  1. A use that a crash took before it was stored opens nothing; the next
#     validation tells it again, and the window opens.
#  2. So does a use that the full table of usage had no room for.
#  3. A use on a standby opens nothing; after the promotion it does.
#  4. With overlap_enforcement off the window opens and ends nothing.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $node = new_node('primary',
	streaming => 1,
	conf => "token_rotation.worker_nap = '200ms'\ntoken_rotation.leeway = 0\ntoken_rotation.usage_size = 512\n");
$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, overlap, overlap_starts)
	VALUES ('waits', '5 minutes', 'first_use'), ('waits_zero', '0', 'first_use')});

sub pair
{
	my ($client, $policy) = @_;
	my $old = issue($node, "'$client', '$policy'");

	return ($old, rotate($node, $old->{token}));
}

sub state_is
{
	my ($on, $client, $state, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(value($on, "SELECT string_agg(status || CASE WHEN overlap_ends_at < expires_at THEN ' until then' ELSE '' END, ', '"
			. " ORDER BY generation) FROM token_rotation.tokens WHERE client_id = '$client'"), $state, $name);
}

sub opens
{
	my ($on, $client, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return poll($on, $name, "SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'first_used' AND client_id = '$client'");
}

# 1. A crash

my ($old, $new) = pair('crash', 'waits');
my ($zero_old, $zero_new) = pair('crash zero', 'waits_zero');
workers_at_next_start($node, 0);
$node->restart;
verdicts_are($node, 'used while no worker is there', [ [ $new->{token}, 'ok' ], [ $zero_new->{token}, 'ok' ] ]);
workers_at_next_start($node, 1);
$node->stop('immediate');
$node->start;
verdicts_are($node, 'the old ones live on', [ [ $old->{token}, 'ok' ], [ $zero_old->{token}, 'ok' ] ]);
state_is($node, 'crash', 'rotating, pending', 'nothing has opened');
verdicts_are($node, 'used again', [ [ $new->{token}, 'ok' ], [ $zero_new->{token}, 'ok' ] ]);
opens($node, $_, "$_: the window opens") for ('crash', 'crash zero');
state_is($node, 'crash', 'rotating until then, active', 'and is open');
verdicts_are($node, 'no overlap ends at once', [ [ $old->{token}, 'ok' ], [ $zero_old->{token}, 'overlap_ended' ] ]);

# 2. No room

($old, $new) = pair('no room', 'waits');
my $crowd = $node->basedir . '/crowd';
$node->safe_psql('postgres', "COPY (SELECT token FROM generate_series(1, 1500) g, LATERAL tr_issue('crowd' || g % 1000) i) TO '$crowd'");
my $held = hold_audit($node);
value($node, "SELECT count(v) FROM regexp_split_to_table(pg_read_file('$crowd'), '\n') token, LATERAL tr_validate(token) v");
is(verdict($node, $new->{token}), 'ok', 'used while nothing more fits');
cmp_ok(value($node, 'SELECT usage_lost FROM tr_health()'), '>', 0, 'uses are lost');
release($held);
poll($node, 'the crowd is stored', 'SELECT usage_waiting = 0 FROM tr_health()');
is(verdict($node, $new->{token}), 'ok', 'used again');
opens($node, 'no room', 'and the window opens');

# 3. A standby

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
($old, $new) = pair('standby', 'waits');
$node->wait_for_catchup($standby);
is(verdict($standby, $new->{token}), 'ok', 'used on the standby');
my $other = issue($node, "'other'");
verdict($node, $other->{token});
poll($node, 'the worker was here', "SELECT first_used_at IS NOT NULL FROM token_rotation.token WHERE client_id = 'other'");
state_is($node, 'standby', 'rotating, pending', 'that opens nothing');
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
state_is($standby, 'standby', 'rotating, pending', 'nor does the promotion');
is(verdict($standby, $new->{token}), 'ok', 'used on what is the primary now');
opens($standby, 'standby', 'the window opens');

# 4. Not enforced

$node = $standby;
set_conf($node, 'token_rotation.overlap_enforcement' => 'off');
($old, $new) = pair('not enforced', 'waits_zero');
verdict($node, $new->{token});
opens($node, 'not enforced', 'not enforced: the window opens');
is(verdict($node, $old->{token}), 'ok', 'and the old token lives on');
set_conf($node, 'token_rotation.overlap_enforcement' => 'on');
is(verdict($node, $old->{token}), 'overlap_ended', 'until it is enforced');

done_testing();

# doc/examples/client.mjs, the client that refreshes itself.
#
#  1. Stories (test/http/client_stories.mjs): it rotates when it should and at once
#     where the server has started; several processes have one file; the circuit
#     breaker, Retry-After; a file that cannot be written; a clock that is wrong, and
#     moved; a successor that the server has made anew; a token that ended.
#  2. Clients call without a pause and rotate every second, while the API cuts
#     connections after the COMMIT, answers late, half or not at all, the server is
#     restarted and crashes, the clients are killed and their clocks moved: none of
#     their calls is refused, and in the end each has a good token in its file.  They
#     run in three programs, whose clocks (lib/clock.c) are right, a day ahead and a
#     day behind, and change places; two files have a client in two programs each.
#  3. The command line.
#  4. No log has a secret.
#
#   TR_QUICK    1: 40 rotations instead of 1,000
#
# The API is test/http/client_api.mjs.  Node is Debian's; pg is in the folder that
# TR_HTTP names, or in test/http.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Clock;
use File::Copy qw(copy);
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use TokenRotation;

my $http = "$FindBin::RealBin/../http";
my $modules = ($ENV{TR_HTTP} // $http) . '/node_modules';
plan skip_all => 'no node: see test/http/modules' if system('node --version > /dev/null 2>&1') != 0;
plan skip_all => "no $modules/pg: see test/http/modules" unless -e "$modules/pg";

my ($clients, $target, $between, $cuts) = $ENV{TR_QUICK} ? (8, 40, 8, 4) : (16, 1000, 25, 100);
my $node = new_node('client', conf => "token_rotation.worker_nap = '500ms'\n");
$node->safe_psql('postgres', q{
	CREATE ROLE shop;
	CREATE ROLE app LOGIN;
	SELECT tr_grant('app', 'issuer', 'shop'), tr_grant('app', 'validator', 'shop');
	INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, rotate_after, rotation_proof) VALUES
		('brief', '60 s', '30 s', '60 s', '1 s', 'token'), ('calm', '1 h', '10 min', '10 min', NULL, 'token'),
		('started', '1 h', '10 min', '10 min', NULL, 'token'), ('sharp', '1 h', '0', '10 min', NULL, 'token'),
		('keyed', '1 h', '10 min', '10 min', NULL, 'rotation_key');
	CREATE TABLE orders (client_id text, item text);
	ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON orders USING (client_id = (SELECT tr_client()));
	GRANT SELECT ON orders TO app});

# A folder where the programs find their modules, and each other.
my $folder = PostgreSQL::Test::Utils::tempdir();
copy($_, $folder) or die "$_: $!" for "$http/client_api.mjs", "$http/client_load.mjs", "$http/client_stories.mjs",
  "$FindBin::RealBin/../../doc/examples/client.mjs";
symlink $modules, "$folder/node_modules" or die "$modules: $!";

# Programs, as processes of their own; what they say goes to files.
my @running;

my %env = (PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'app', PGDATABASE => 'postgres',
	SUPERUSER => scalar getpwuid($<));

sub program
{
	my ($name, @args) = @_;
	my $run = IPC::Run::start([ 'node', "$folder/$name.mjs", @args ], '<', \undef, '>>', "$folder/$name.out",
		'2>>', "$folder/$name.err", init => sub { @ENV{ keys %env } = values %env });

	push @running, $run;
	return $run;
}

sub ends
{
	my ($run, $signal) = @_;

	$run->signal($signal) if $signal;
	# (killed: there is no exit code)
	eval { $run->finish };
	@running = grep { $_ != $run } @running;
	return $run->full_result(0) >> 8;
}

END
{
	my $status = $?;

	$_->kill_kill for @running;
	$? = $status;
}

sub wait_for
{
	my ($name, $so) = @_;

	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if $so->();
		$_->pumpable or BAIL_OUT("$name: a program has ended") for @running;
		Time::HiRes::sleep(0.05);
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($so->(), $name);
}

sub faults
{
	my (%faults) = @_;

	open my $out, '>', "$folder/faults.new" or die "faults: $!";
	print $out JSON::PP->new->encode(\%faults);
	close $out;
	rename "$folder/faults.new", "$folder/faults" or die "faults: $!";
	return;
}

faults();
append_to_file("$folder/$_", '') for 'log', 'calls';
my $api = program('client_api', $folder);
wait_for('the API is there', sub { -e "$folder/port" });
my $url = 'http://127.0.0.1:' . slurp_file("$folder/port");

# --- 1. Stories --------------------------------------------------------------

is(ends(program('client_stories', $folder)), 0, 'the stories come to their ends');
my $told = slurp_file("$folder/client_stories.out");
ok(!$1, $2) while $told =~ /^(not )?ok - (.*)$/mg;
like($told, qr/^done$/m, 'all of them');

# --- 2. Everything goes wrong ---------------------------------------------------

for my $client (1 .. $clients)
{
	my $answer = value($node, "SET token_rotation.realm = shop; INSERT INTO orders VALUES ('client $client', 'anvil');
		SELECT to_jsonb(i) FROM tr_issue('client $client', 'brief', '{orders:read}') i");

	append_to_file("$folder/token.$client", $answer);
	chmod 0600, "$folder/token.$client";
}
append_to_file("$folder/log", '-') if unlink "$folder/log";
faults(orders => [ ('ok') x 20, 'cut', ('ok') x 10, 'half', ('ok') x 20, 'busy' ],
	rotate => [qw(cut ok half ok cut slow ok early cut ok torn ok late cut ok fail ok)]);

sub rotations
{
	return value($node, "SELECT count(*) FROM token_rotation.audit WHERE event = 'rotated' AND client_id LIKE 'client %'");
}

my @clocks = map { Clock->new("$folder/clock.$_") } 0 .. 2;
my @moved = map { 86_400 * 1_000_000 * $_ } 0, 1, -1;
my @load;

sub move_clocks
{
	$clocks[$_]->set($moved[$_], 0) for 0 .. $#clocks;
	push @moved, shift @moved;
	return;
}

sub begin_load
{
	my @numbers = (1 .. $clients, 1, 2);

	for my $i (0 .. $#clocks)
	{
		local %ENV = (%ENV, $clocks[$i]->env);
		push @load, program('client_load', $folder, @numbers[ grep { $_ % @clocks == $i } 0 .. $#numbers ]);
	}
	return;
}

move_clocks();
begin_load();
my %done = map { $_ => 0 } qw(fast immediate kill clocks rotating);
my %event = (
	fast => sub { $node->restart },
	immediate => sub { $node->stop('immediate'); $node->start },
	clocks => \&move_clocks,
	kill => sub
	{
		ends($_, 'KILL') for splice @load;
		$done{rotating} += grep { slurp_file($_) =~ /"rotating": true/ } glob "$folder/token.*";
		begin_load();
	});
my @events = qw(fast kill immediate clocks);
my $count = 0;
while ((my $next = $count + $between) <= $target)
{
	last unless wait_for("$next rotations", sub { ($count = rotations()) >= $next });
	my $what = $events[0];
	push @events, shift @events;
	$event{$what}->();
	$done{$what}++;
}
wait_for("$target rotations", sub { ($count = rotations()) >= $target });
faults();
is(join(' ', map { ends($_, 'TERM') } @load), '0 0 0', 'the clients end when they are told to');
my %calls;
$calls{$_}++ for slurp_file("$folder/calls") =~ /^\d+ (\w+)$/mg;
is($calls{401} // 0, 0, 'no call was refused');
is(join(' ', grep { !/^(?:200|503|error|broken)$/ } sort keys %calls), '', 'nor answered strangely');
cmp_ok($calls{200}, '>', 0, 'calls were answered');
my %seen;
$seen{$_}++ for slurp_file("$folder/log") =~ /^rotate (\w+ \w+) /mg;
cmp_ok($seen{'cut rotated'} // 0, '>=', $cuts, 'connections were cut between the COMMIT and the answer');
cmp_ok($seen{"$_ rotated"} // 0, '>', 0, "what is $_ was a rotation") for qw(half torn slow);
my %days = map { $_ => 1 } slurp_file("$folder/client_load.err") =~ /^(\d{4}-\d\d-\d\d)T/mg;
cmp_ok(scalar keys %days, '>=', 3, 'by their clocks it was yesterday, today and tomorrow');
my @tokens = map { JSON::PP->new->decode(slurp_file("$folder/token.$_"))->{token} } 1 .. $clients;
verdicts_are($node, 'each has a good token', [ map { [ $_ => 'ok' ] } @tokens ]);
is(join(' ', glob "$folder/.token.*.tmp"), '', 'no half file is left');
my $anew = audit_count($node, "event = 'reissued' AND client_id LIKE 'client %'");
note("tried: $count rotations by $clients clients, $seen{'cut rotated'} of them cut between COMMIT and answer, $anew made anew");
note('tried: requests for a rotation: ' . join(', ', map { "$_ $seen{$_}" } sort keys %seen));
note('tried: calls: ' . join(', ', map { "$_ $calls{$_}" } sort keys %calls));
note("tried: $done{fast} restarts, $done{immediate} crashes, $done{kill} kills ($done{rotating} clients in a rotation), "
  . "$done{clocks} moves of the clocks");

# --- 3. The command line -----------------------------------------------------------

my %line = (TOKEN_FILE => "$folder/line", API_URL => $url);

sub client
{
	my (@args) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'node', "$folder/client.mjs", @args ], '<', \undef, '>', \$out, '2>', \$err,
		init => sub { @ENV{ keys %line } = values %line });
	append_to_file("$folder/line.err", $err);
	return ($? >> 8, $out, $err);
}

my $first = value($node, q{SET token_rotation.realm = shop; INSERT INTO orders VALUES ('line', 'anvil');
	SELECT token FROM tr_issue('line', 'calm', '{orders:read}')});
is((client('status'))[0], 1, 'without a file it fails');
append_to_file("$folder/line", JSON::PP->new->encode({ token => $first }));
chmod 0600, "$folder/line";
my ($status, $out) = client('get', 'orders?select=item');
is_deeply([ $status, JSON::PP->new->decode($out) ], [ 0, [ { client_id => 'line', item => 'anvil' } ] ], 'a call is made');
is((client('rotate'))[0], 0, 'it rotates');
my $second = JSON::PP->new->decode(slurp_file("$folder/line"))->{token};
isnt($second, $first, 'the file has the new token');
($status, $out) = client('status');
is(JSON::PP->new->decode($out)->{lost}, undef, 'status tells');
unlike($out, qr/\Q$second\E/, 'but not the token');
$node->safe_psql('postgres', 'SELECT tr_revoke(' . literal($second) . ')');
is((client('get', 'orders'))[0], 1, 'a refused call fails');
is((client('rotate'))[0], 1, 'as does a refused rotation');
like((client('nonsense'))[2], qr/usage/, 'what it does not know it says');
append_to_file("$folder/killed", JSON::PP->new->encode({ token => $first, rotating => JSON::PP::true }));
chmod 0600, "$folder/killed";
{
	local @line{qw(TOKEN_FILE API_URL)} = ("$folder/killed", 'http://127.0.0.1:1');

	is((client('get', 'orders'))[0], 1, 'without a server a call fails, and ends, whatever a rotation still waits for');
}

# --- 4. Logs -------------------------------------------------------------------------

ends($api, 'TERM');
my $said = join '', map { slurp_file($_) } glob "$folder/*.err";
cmp_ok(length $said, '>', 0, 'they have said something');
unlike($said, qr/trk_[0-9A-Za-z]{22}/, 'nothing secret');
unlike($said, qr/^\s+at .*\d:\d+\)?$/m, 'and nothing went wrong that they did not expect');
done_testing();

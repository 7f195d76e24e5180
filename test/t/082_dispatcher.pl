# doc/examples/dispatch_webhooks.mjs against a receiver that misbehaves.
#
#  1. Each event of the realm arrives once, with what tr_events says of it, signed so
#     that an implementation of our own of Standard Webhooks agrees, with one secret
#     and with two; nothing of a token and nothing of the secret is in it, or in the log.
#  2. The receiver fails, hangs, answers late, in part or not at all; the dispatcher is
#     killed, the server crashes, both in the midst: each event arrives at least once,
#     under the same id and with the same body each time; those of one client arrive
#     for the first time in their order.  All of it is acknowledged.
#  3. Of two dispatchers one works; the other takes its place.
#  4. A pause that the receiver asks for is kept.  SIGTERM ends it with 0, and nothing
#     is lost; 410 with 3.
#  5. What it cannot work with is refused at once.
#
# Node is Debian's; pg is in the folder that TR_HTTP names, or in test/http.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Digest::SHA ();
use File::Copy qw(copy);
use IPC::Run ();
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Receiver;
use Test::More;
use Time::HiRes ();
use TokenRotation;

my $modules = ($ENV{TR_HTTP} // "$FindBin::RealBin/../http") . '/node_modules';
my $program = "$FindBin::RealBin/../../doc/examples/dispatch_webhooks.mjs";
plan skip_all => 'no node: see test/http/modules' if system('node --version > /dev/null 2>&1') != 0;
plan skip_all => "no $modules/pg: see test/http/modules" unless -e "$modules/pg";

my $node = new_node('dispatcher', conf => "token_rotation.worker_nap = '400ms'\n");
$node->safe_psql('postgres', q{
	CREATE ROLE shop;
	CREATE ROLE hooks LOGIN;
	SELECT tr_grant('hooks', 'operator', 'shop')});
my $receiver = Receiver->start;

# A folder where the program finds its modules.
my $folder = PostgreSQL::Test::Utils::tempdir();
copy($program, "$folder/dispatch.mjs") or die "$program: $!";
symlink $modules, "$folder/node_modules" or die "$modules: $!";

my @keys = map { Digest::SHA::sha256("secret $_ of this test") } 1, 2;
my @secrets = map { 'whsec_' . encode_base64($_, '') } @keys;

sub write_secrets
{
	open my $out, '>', "$folder/secret" or die "secret: $!";
	print $out join("\n", @_), "\n";
	close $out;
	return;
}
write_secrets($secrets[0]);

# A dispatcher, as a process of its own; what it says goes to a file.
my $started = 0;
my %running;

sub dispatcher
{
	my (%more) = @_;
	my %env = (PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'hooks', PGDATABASE => 'postgres',
		DISPATCH_URL => $receiver->url, DISPATCH_SECRET_FILE => "$folder/secret", DISPATCH_POLL_MS => 500,
		DISPATCH_TIMEOUT_MS => 1000, DISPATCH_BACKOFF_MS => 50, DISPATCH_BACKOFF_MAX_MS => 300, %more);
	my $log = "$folder/log." . ++$started;
	my $run = IPC::Run::start([ 'node', "$folder/dispatch.mjs" ], '<', \undef, '>', '/dev/null', '2>', $log,
		init => sub { @ENV{ keys %env } = values %env });

	return $running{$started} = { run => $run, log => $log, number => $started };
}

# It ends by itself, or after a signal; its exit code.
sub ends
{
	my ($dispatcher, $signal) = @_;

	$dispatcher->{run}->signal($signal) if $signal;
	# (killed: there is no exit code)
	eval { $dispatcher->{run}->finish };
	delete $running{ $dispatcher->{number} };
	return $dispatcher->{run}->full_result(0) >> 8;
}

# However the test ends, none goes on.
END
{
	my $status = $?;

	$_->{run}->kill_kill for values %running;
	$receiver->stop if $receiver;
	$? = $status;
}

# Wait for something on this side.
sub wait_for
{
	my ($name, $so) = @_;

	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if $so->();
		Time::HiRes::sleep(0.05);
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($so->(), $name);
}

# Everything of the realm that is in the trail is sealed and acknowledged.
sub all_acknowledged
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return poll($node, $name, q{SELECT (SELECT unsealed = 0 FROM tr_audit_verify())
		AND NOT EXISTS (SELECT FROM token_rotation.consumers c, token_rotation.audit_seal s, unnest(s.seqs) WITH ORDINALITY u (seq, n),
			token_rotation.audit a WHERE c.name = 'webhooks' AND a.seq = u.seq AND a.owner = 'shop'
			AND s.segment + (s.seal - 1) * 10000 + u.n > c.position)
		AND EXISTS (SELECT FROM token_rotation.consumers WHERE name = 'webhooks')});
}

# What clients do: each is issued tokens, rotates and loses them.
sub something_happens
{
	my (@clients) = @_;

	$node->safe_psql('postgres', "SET token_rotation.realm = shop;
		SELECT tr_revoke(r.token) FROM tr_issue('$_') i, tr_rotate(i.token, origin => 'h\xc3\xa9re') r;") for @clients;
	return;
}

# The signatures of a request that are right, by the numbers of their secrets.
sub signed_by
{
	my ($request) = @_;
	my $h = $request->{headers};
	my @good;

	for my $given (split / /, $h->{'webhook-signature'})
	{
		for my $i (0 .. $#keys)
		{
			my $mac = Digest::SHA::hmac_sha256("$h->{'webhook-id'}.$h->{'webhook-timestamp'}.$request->{body}", $keys[$i]);
			push @good, $i + 1 if $given eq 'v1,' . encode_base64($mac, '');
		}
	}
	return "@good";
}

# What the trail has of the realm, in the order of the seals, as a list of seqs by client.
sub trail
{
	my %trail;

	push @{ $trail{ $_->{client_id} // '' } }, $_->{seq} for rows($node, q{
		SELECT a.client_id, a.seq FROM token_rotation.audit_seal s, unnest(s.seqs) WITH ORDINALITY u (seq, n), token_rotation.audit a
		WHERE a.seq = u.seq AND a.owner = 'shop' ORDER BY s.segment, s.seal, u.n});
	return \%trail;
}

# What arrived for the first time, likewise.
sub arrived
{
	my (%trail, %seen);

	for ($receiver->got)
	{
		my $id = $_->{headers}{'webhook-id'};

		push @{ $trail{ $_->{event}{data}{client_id} // '' } }, $id =~ /^tr_(\d+)_/ unless $seen{$id}++;
	}
	return \%trail;
}

# --- 1. What arrives ---------------------------------------------------------

value($node, 'SET ROLE hooks; SELECT tr_ack($$webhooks$$, 0)');
my $one = dispatcher();
something_happens('acme');
all_acknowledged('it is delivered');
is_deeply(arrived(), trail(), 'each event of the realm arrives, in order');
my @got = $receiver->got;
is(scalar @got, scalar(map { @$_ } values %{ trail() }), 'once');
is(join(' ', map { signed_by($_) } @got), join(' ', map { 1 } @got), 'each is signed');
is(scalar(grep { $_->{headers}{'content-type'} ne 'application/json' } @got), 0, 'each is JSON');
my ($rotated) = grep { $_->{event}{type} eq 'token_rotation.rotated' } @got;
my $expected = row($node, q{SELECT e.client_id, e.owner, e.actor, e.role, e.origin, e.reason, e.detail, e.position::text,
	encode(e.token_ref, 'hex') AS token_ref, encode(e.successor_ref, 'hex') AS successor_ref
	FROM tr_events('all', 10000) e WHERE e.event = 'rotated'});
is_deeply($rotated->{event}{data}, $expected, 'with what tr_events says');
like($rotated->{event}{timestamp}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, 'and when it was');
unlike(slurp_file($receiver->{kept}), qr/trk_[0-9A-Za-z]{22}/, 'no token is in it');
write_secrets(@secrets);
is(ends($one, 'TERM'), 0, 'SIGTERM ends it');
$one = dispatcher();
something_happens('acme');
all_acknowledged('with two secrets, too, it is delivered');
my @more = $receiver->got;
is(join(' ', map { signed_by($_) } @more[ @got .. $#more ]), join(' ', map { '1 2' } @got .. $#more), 'each is signed with both');

# --- 2. What goes wrong -------------------------------------------------------

my @clients = map { "client $_" } 1 .. 6;
$receiver->mode('mixed');
for my $round (1 .. 4)
{
	something_happens(@clients);
	my $before = () = $receiver->got;
	wait_for("round $round: something arrives", sub { (() = $receiver->got) >= $before + 5 });
	ends($one, 'KILL') if $round == 2 || $round == 4;
	if ($round >= 3)
	{
		$node->stop('immediate');
		$node->start;
	}
	$one = dispatcher() if $round == 2 || $round == 4;
}
$receiver->mode('ok');
all_acknowledged('at last all of it is delivered');
is_deeply(arrived(), trail(), 'each event, those of each client in their order');
my (%bodies, %times);
for ($receiver->got)
{
	my $id = $_->{headers}{'webhook-id'};

	$bodies{$id}{ $_->{body} } = 1;
	$times{$id}++;
}
is(scalar(grep { keys %$_ != 1 } values %bodies), 0, 'with the same body each time');
cmp_ok(scalar(grep { $_ > 1 } values %times), '>', 0, 'some came again');
is(scalar(grep { signed_by($_) ne '1 2' } ($receiver->got)[ $#got + 1 .. $#got + keys %times ]), 0, 'all were signed');
my %modes = map { $_->{mode} => 1 } $receiver->got;
is(join(' ', sort keys %modes), 'close fail half hang late moved ok', 'everything went wrong that can');

# --- 3. Two of them --------------------------------------------------------------

my $sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dispatch_webhooks'";
my $working = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
my $two = dispatcher();
poll($node, 'two are there', "SELECT ($sessions) = 2");
something_happens('two');
all_acknowledged('it is delivered');
is(value($node, $working), '1', 'one works');
unlike(slurp_file($two->{log}), qr/dispatching/, 'which is the first one');
ends($one, 'KILL');
wait_for('the second one takes its place', sub { slurp_file($two->{log}) =~ /dispatching/ });
something_happens('two');
all_acknowledged('and delivers');
is_deeply(arrived(), trail(), 'all of it in order');

# --- 4. Pauses and ends -------------------------------------------------------------

$receiver->mode('busy');
my $before = () = $receiver->got;
something_happens('busy');
wait_for('it is asked to wait', sub { (() = $receiver->got) > $before });
$receiver->mode('ok');
all_acknowledged('it is delivered later');
my @busy = $receiver->got;
splice @busy, 0, $before;
my ($again) = grep { $_->{headers}{'webhook-id'} eq $busy[0]{headers}{'webhook-id'} } @busy[ 1 .. $#busy ];
cmp_ok($again->{at} - $busy[0]{at}, '>=', 1.9, 'not before the time that was asked for');
$receiver->mode('fail');
$before = () = $receiver->got;
something_happens('stopped');
wait_for('it fails', sub { (() = $receiver->got) > $before });
is(ends($two, 'TERM'), 0, 'SIGTERM ends it in the midst of retries');
$receiver->mode('gone');
$one = dispatcher();
is(ends($one), 3, '410 ends it');
$receiver->mode('ok');
$one = dispatcher();
all_acknowledged('nothing is lost');
is_deeply(arrived(), trail(), 'all of it arrived in order');
is(ends($one, 'TERM'), 0, 'and it ends');

# --- 5. Settings ------------------------------------------------------------------------

for ([ 'no URL', DISPATCH_URL => 'here' ], [ 'no number', DISPATCH_PAGE => '0' ], [ 'no secret', DISPATCH_SECRET_FILE => '' ],
	[ 'no good secret', DISPATCH_SECRET_FILE => '', DISPATCH_SECRET => 'whsec_c2hvcnQ=' ])
{
	my ($what, %env) = @$_;

	is(ends(dispatcher(%env)), 2, "$what: it does not begin");
}
my $logs = join '', map { slurp_file("$folder/log.$_") } 1 .. $started;
unlike($logs, qr/\Q$secrets[0]\E|\Q$secrets[1]\E|not-to-be-logged|trk_[0-9A-Za-z]{22}/, 'no log has a secret');
done_testing();

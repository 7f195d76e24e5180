# Something that webhooks are sent to, which answers as it is told, and keeps
# what it got.
#
#   my $receiver = Receiver->start;
#   $receiver->url; $receiver->mode('ok'); $receiver->got; $receiver->got_raw; $receiver->stop
#
# Each connection is a process of its own: one that hangs holds nobody up.  What
# arrived is kept before it is answered, in the order of arrival.
package Receiver;

use strict;
use warnings FATAL => 'all';

use IO::Socket::INET ();
use JSON::PP ();
use PostgreSQL::Test::Utils;
use POSIX ();
use Time::HiRes ();

# Answers, by mode; "mixed" takes them in turn.
my %answer = (
	ok => sub { reply($_[0], '204 No Content') },
	fail => sub { reply($_[0], '500 Internal Server Error') },
	moved => sub { reply($_[0], '302 Found', "Location: /elsewhere\r\n") },
	busy => sub { reply($_[0], '503 Service Unavailable', "Retry-After: 2\r\n") },
	gone => sub { reply($_[0], '410 Gone') },
	close => sub { },
	half => sub { syswrite $_[0], "HTTP/1.1 2" },
	hang => sub { sleep 3600 },
	late => sub { Time::HiRes::sleep(2); reply($_[0], '200 OK') });
my @mixed = qw(ok fail close ok hang half ok late moved ok);

sub reply
{
	my ($client, $status, $headers) = @_;

	syswrite $client, "HTTP/1.1 $status\r\n" . ($headers // '') . "Content-Length: 0\r\nConnection: close\r\n\r\n";
	return;
}

# One request: its headers and body; undef where it is none.
sub request
{
	my ($client) = @_;
	my $text = '';

	while ($text !~ /\r\n\r\n/)
	{
		return undef unless sysread $client, $text, 65536, length $text;
	}
	my ($head, $body) = split /\r\n\r\n/, $text, 2;
	my %header = map { /^([^:]+):\s*(.*)$/ ? (lc $1 => $2) : () } split /\r\n/, $head;
	while (length $body < ($header{'content-length'} // 0))
	{
		return undef unless sysread $client, $body, 65536, length $body;
	}
	return { at => Time::HiRes::time(), headers => \%header, body => $body };
}

sub serve
{
	my ($self, $client, $turn) = @_;
	my $request = request($client) or return;
	my $mode = slurp_file($self->{mode});

	$mode = $mixed[ $turn % @mixed ] if $mode eq 'mixed';
	$request->{mode} = $mode;
	open my $out, '>>', $self->{kept} or die "$self->{kept}: $!";
	syswrite $out, JSON::PP->new->canonical->encode($request) . "\n";
	close $out;
	$answer{$mode}->($client);
	return;
}

sub start
{
	my ($class) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $socket = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
	my $self = bless { kept => "$folder/kept", mode => "$folder/mode", port => $socket->sockport }, $class;

	append_to_file($self->{kept}, '');
	$self->mode('ok');
	$self->{pid} = fork() // die "fork: $!";
	return $self if $self->{pid};

	# who waits for the test's output to end does not wait for this
	open STDOUT, '>', '/dev/null';
	open STDERR, '>', '/dev/null';
	local $SIG{CHLD} = 'IGNORE';
	setpgrp;
	for (my $turn = 0; ; $turn++)
	{
		my $client = $socket->accept or next;
		my $child = fork() // next;
		close $client, next if $child;
		eval { $self->serve($client, $turn); 1 } or warn $@;
		close $client;
		POSIX::_exit(0);
	}
}

sub url
{
	my ($self) = @_;

	return "http://127.0.0.1:$self->{port}/hook?key=not-to-be-logged";
}

# From the next request on.
sub mode
{
	my ($self, $mode) = @_;

	open my $out, '>', "$self->{mode}.new" or die "$self->{mode}: $!";
	print $out $mode;
	close $out;
	rename "$self->{mode}.new", $self->{mode} or die "$self->{mode}: $!";
	return;
}

# What arrived, in order: the requests, and with got() what their bodies say.
sub got_raw
{
	my ($self) = @_;
	my $json = JSON::PP->new;

	return map { $json->decode($_) } split /\n/, slurp_file($self->{kept});
}

sub got
{
	my ($self) = @_;

	return map { { %$_, event => JSON::PP->new->utf8->decode($_->{body}) } } $self->got_raw;
}

sub stop
{
	my ($self) = @_;

	kill 'KILL', -$self->{pid} if $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;

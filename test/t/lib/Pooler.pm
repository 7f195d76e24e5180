# PgBouncer in front of a test's server: Debian's, in the folder that TR_DRIVERS
# names (test/drivers/programs), or the one that is installed.  It has a folder of
# its own for its files and its socket.
package Pooler;

use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes ();

# The program, or what to say where there is none.
sub program
{
	my ($class) = @_;

	return defined $ENV{TR_DRIVERS} ? "$ENV{TR_DRIVERS}/pgbouncer" : '/usr/sbin/pgbouncer';
}

sub missing
{
	my ($class) = @_;

	return -x $class->program ? '' : 'no pgbouncer: see test/drivers/programs';
}

# Its version as a number: 1018 for 1.18.
sub version
{
	my ($class) = @_;
	my ($out) = run_command([ $class->program, '--version' ]);
	my ($major, $minor) = $out =~ /^PgBouncer (\d+)\.(\d+)/m or die "pgbouncer's version: $out";

	return $major * 1000 + $minor;
}

# Start one for a server; options are lines of its [pgbouncer] section.
sub start
{
	my ($class, $node, %option) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my %line = (
		listen_addr => '127.0.0.1',
		listen_port => $port,
		unix_socket_dir => $dir,
		auth_type => 'any',
		log_connections => 0,
		log_disconnections => 0,
		default_pool_size => 2,
		max_client_conn => 200,
		query_wait_timeout => 0,
		%option);
	my $conf = join '', "[databases]\n",
	  'postgres = host=' . $node->host . ' port=' . $node->port . " dbname=postgres user=app\n",
	  "[pgbouncer]\n", map { "$_ = $line{$_}\n" } sort keys %line;

	append_to_file("$dir/ini", $conf);
	# (a file and no pipe: nobody reads while the test waits for something else)
	my $run = IPC::Run::start([ $class->program, "$dir/ini" ], '<', \undef, '>', "$dir/log", '2>&1');
	my $self = bless { dir => $dir, port => $port, run => $run }, $class;
	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if -S "$dir/.s.PGSQL.$port";
		die 'pgbouncer did not start: ' . $self->log unless $run->pumpable;
		Time::HiRes::sleep(0.05);
	}
	return $self;
}

sub port { return $_[0]{port} }
sub host { return $_[0]{dir} }
sub log  { return slurp_file("$_[0]{dir}/log") }

# However the test ends, it does not go on.
sub stop
{
	my ($self) = @_;
	my $run = delete $self->{run} or return;

	$run->kill_kill;
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local $?;
	$self->stop;
	return;
}

1;

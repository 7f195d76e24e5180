# Programs of test/http between a test and its server: the stand-in for PostgREST, a
# client, and nginx.  The stand-in is not PostgREST: test/http/standin.mjs says how far
# it goes.
#
#   Web::missing; my $web = Web->new($node, 'demo'); $web->standin($conf, PGRST_DB_POOL => 1);
#   $web->ask(rpc => 'rotate', args => {...}, key => $token); $web->nginx($conf); $web->logs
#
# Node is Debian's; its modules are in the folder that TR_HTTP names, or in test/http.
# nginx is the program that TR_NGINX names, or what is installed.
package Web;

use strict;
use warnings FATAL => 'all';

use FindBin;

use File::Copy qw(copy);
use IO::Socket::INET ();
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes ();

my $modules = ($ENV{TR_HTTP} // "$FindBin::RealBin/../http") . '/node_modules';
my $nginx = $ENV{TR_NGINX} // '/usr/sbin/nginx';
my $limit = $PostgreSQL::Test::Utils::timeout_default;

# Why this cannot be tested; undef where it can.
sub missing
{
	return 'no node: see test/http/modules' if system('node --version > /dev/null 2>&1') != 0;
	return "no $modules/pg: see test/http/modules" unless -e "$modules/pg";
	return;
}

sub no_nginx
{
	return -x $nginx ? undef : "no $nginx: see test/http/nginx";
}

# The modules are found from where the programs lie.
sub new
{
	my ($class, $node, $db) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();

	copy("$FindBin::RealBin/../http/$_", $folder) or die "$_: $!" for qw(standin.mjs agent.mjs);
	symlink $modules, "$folder/node_modules" or die "$modules: $!";
	return bless { folder => $folder, node => $node, db => $db, logs => [], runs => {} }, $class;
}

# Start a program that writes to a log of its own.
sub begin
{
	my ($self, $name, $env, @command) = @_;
	my $log = "$self->{folder}/$name." . @{ $self->{logs} } . '.log';

	push @{ $self->{logs} }, $log;
	append_to_file($log, '');
	$self->{runs}{$name} = IPC::Run::start(\@command, '<', '/dev/null', '>', $log, '2>&1',
		init => sub { @ENV{ keys %$env } = values %$env });
	return $log;
}

sub end
{
	my ($self, $name) = @_;
	my $run = delete $self->{runs}{$name} or return;

	$run->signal('TERM');
	eval { $run->finish };
	return;
}

sub wait_until
{
	my ($what, $so) = @_;

	for (1 .. 20 * $limit)
	{
		return if $so->();
		Time::HiRes::sleep(0.05);
	}
	die "$what: it does not come";
}

# Start the stand-in, or start it again, with this postgrest.conf; settings by
# environment go before.  It listens where the last one did.
sub standin
{
	my ($self, $conf, %env) = @_;
	my $node = $self->{node};

	$self->end('standin');
	$self->write('postgrest.conf', $conf);
	my $log = $self->begin('standin', {
			PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'authenticator', PGDATABASE => $self->{db},
			PGRST_SERVER_PORT => $self->{port} // 0, %env },
		'node', "$self->{folder}/standin.mjs", "$self->{folder}/postgrest.conf");
	wait_until('the stand-in', sub {
		$self->{runs}{standin}->pumpable or die slurp_file($log);
		($self->{port}) = slurp_file($log) =~ /^listening on (\d+)/m;
		return defined $self->{port} });
	$self->{url} = "http://127.0.0.1:$self->{port}";
	return;
}

# One request, and its answer (test/http/agent.mjs); with all => [...] many at once, and
# theirs.
sub ask
{
	my ($self, %request) = @_;

	if (!$self->{agent})
	{
		($self->{agent_in}, $self->{agent_out}) = ('', '');
		$self->{timer} = IPC::Run::timeout($limit);
		$self->{agent} = IPC::Run::start([ 'node', "$self->{folder}/agent.mjs" ],
			'<', \$self->{agent_in}, '>', \$self->{agent_out}, $self->{timer});
	}
	$self->{timer}->start($limit);
	$self->{agent_in} .= JSON::PP->new->ascii->encode({ url => $self->{url}, %request }) . "\n";
	$self->{agent}->pump until $self->{agent_out} =~ s/^(.*)\n//;
	my $line = $1;
	my $got = JSON::PP->new->utf8->decode($line);
	$self->{answered} .= $line;
	push @{ $self->{answers} }, ref $got eq 'ARRAY' ? @$got : $got;
	for (ref $got eq 'ARRAY' ? @$got : $got)
	{
		$_->{json} = JSON::PP->new->decode($_->{body}) if ($_->{body} // '') =~ /^[\[{]/;
	}
	return $got;
}

# Start nginx with this inside http { }, as the user that the test runs as.
sub nginx
{
	my ($self, $http) = @_;
	my $folder = $self->{folder};
	my $temporary = join("\n", map { "${_}_temp_path $folder/$_;" } qw(client_body proxy fastcgi uwsgi scgi));

	$self->write('nginx.conf', <<"END");
pid $folder/nginx.pid;
daemon off;
error_log $folder/nginx.error.log info;
events { }
http {
$temporary
access_log $folder/nginx.access.log;
$http
}
END
	push @{ $self->{logs} }, map { "$folder/nginx.$_.log" } qw(error access);
	$self->begin('nginx', {}, $nginx, '-e', "$folder/nginx.error.log", '-c', "$folder/nginx.conf");
	wait_until('nginx', sub {
		$self->{runs}{nginx}->pumpable or die join '', map { -e $_ ? slurp_file($_) : '' } @{ $self->{logs} };
		return -s "$folder/nginx.pid" });
	return;
}

sub write
{
	my ($self, $name, $text) = @_;

	open my $out, '>', "$self->{folder}/$name" or die "$name: $!";
	print $out $text;
	close $out;
	return;
}

# Everything that the programs have logged.
sub logs
{
	my ($self) = @_;

	return join '', map { -e $_ ? slurp_file($_) : '' } @{ $self->{logs} };
}

sub stop
{
	my ($self) = @_;

	$self->end($_) for sort keys %{ $self->{runs} };
	if (my $agent = delete $self->{agent})
	{
		$agent->kill_kill;
	}
	return;
}

1;

# doc/monitoring/ with the programs that it is for.
#
#  1. postgres_exporter with our queries, as a member of pg_monitor: every row of
#     tr_stat and every column of tr_health comes over HTTP as it is; what is done
#     meanwhile is there the next time.
#  2. sql_exporter with our configuration: likewise.
#  3. Alert rules: promtool accepts them, and plays a quiet database to them and
#     one where everything goes wrong; they name metrics that (1) has seen.
#  4. Neither exporter logs an error.
#
# The programs are those of test/exporters, whose folder TR_EXPORTERS names, or
# what is installed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use HTTP::Tiny ();
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use TokenRotation;

my $programs = $ENV{TR_EXPORTERS} // '/usr/bin';
my $docs = "$FindBin::RealBin/../../doc/monitoring";
for my $program (qw(prometheus-postgres-exporter prometheus-sql-exporter promtool))
{
	plan skip_all => "no $program: see test/exporters" unless -x "$programs/$program";
}

my $node = new_node('exporter', extension => 0, conf => "token_rotation.worker_nap = '500ms'\n");
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE DATABASE demo;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor});
$node->safe_psql('demo', q{
	SET client_min_messages = warning;
	CREATE SCHEMA tr;
	CREATE EXTENSION token_rotation SCHEMA tr CASCADE;
	GRANT USAGE ON SCHEMA tr TO monitor;
	ALTER DATABASE demo SET search_path = tr});

my $live = issue($node, "'live'", 'demo');
my $dead = issue($node, "'dead'", 'demo');
value($node, "SELECT tr_revoke('$dead->{token}')", 'demo');
verdicts_are($node, 'something happens', [ [ $live->{token}, 'ok' ], [ $dead->{token}, 'revoked' ], [ 'x', 'malformed' ] ], 'demo');

# Every series of a page, with the labels that we give in order: name, value.
sub series
{
	my ($page) = @_;
	my %series;

	for (split /\n/, $page)
	{
		my ($name, $labels, $value) = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/ or next;
		my %label = ($labels // '') =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;

		delete @label{qw(server driver host database user sql_job)};
		$series{ "$name " . join(',', map { "$_=$label{$_}" } sort keys %label) } = $value;
	}
	return \%series;
}

# Start a program on a free port; back with what stops it, and with what gets its page.
sub exporter
{
	my ($listen, @command) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $log = '';
	my $in = '';
	my $run = IPC::Run::start([ @command, sprintf($listen, $port) ], \$in, '>&', \$log);
	my $get = sub {
		my $answer;

		for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
		{
			$answer = HTTP::Tiny->new(timeout => 60)->get("http://127.0.0.1:$port/metrics");
			last if $answer->{success};
			Time::HiRes::usleep(100_000);
		}
		return $answer->{success} ? $answer->{content} : '';
	};

	return ($get, sub { $run->pump_nb; $run->signal('TERM'); $run->finish; return $log });
}

# What the page of an exporter must say: a name pattern and a query of labels
# and value for each.
sub stat_series
{
	my ($metric, $more) = @_;

	return { map { ("$metric ${more}datname=demo,event=$_->{event},policy=$_->{policy},reason=$_->{reason}" => $_->{count}) }
		rows($node, q{
			SELECT event, coalesce(policy, '') AS policy, coalesce(reason, '') AS reason, count FROM tr_stat
			WHERE event <> 'visit'}, 'demo') };
}

# The pages change with each visit of the worker, but for what this says.
sub says
{
	my ($name, $get, $expected, $of) = @_;
	my $got = series($get->());
	my %seen = map { $_ => $got->{$_} } grep { /$of/ && !/event=visit/ } keys %$got;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply(\%seen, $expected, $name);
	return $got;
}

# 1. postgres_exporter

my @seen;
{
	local $ENV{DATA_SOURCE_NAME} = 'user=monitor dbname=demo sslmode=disable host=' . $node->host . ' port=' . $node->port;
	my ($get, $stop) = exporter('--web.listen-address=127.0.0.1:%d', "$programs/prometheus-postgres-exporter",
		'--disable-default-metrics', '--disable-settings-metrics', "--extend.query-path=$docs/postgres_exporter.yaml");

	says('postgres_exporter: tr_stat is there', $get, stat_series('token_rotation_stat_total', ''), '^token_rotation_stat_total ');
	verdict($node, $live->{token}, 'demo') for 1 .. 3;
	rotate($node, $dead->{token}, undef, 'demo');
	my $got = says('and what happened since', $get, stat_series('token_rotation_stat_total', ''), '^token_rotation_stat_total ');
	is($got->{'token_rotation_stat_total datname=demo,event=validated,policy=default,reason=ok'}, 4, 'validations');
	is($got->{'token_rotation_stat_total datname=demo,event=rotation_refused,policy=default,reason=revoked'}, 1, 'a refused rotation');

	poll($node, 'all is well', "SELECT verdict = 'ok' FROM tr_health()", 'demo');
	$got = series($get->());
	is($got->{'token_rotation_health_status datname=demo'}, 0, 'tr_health is there, and well');
	is($got->{"token_rotation_health_$_ datname=demo"}, 1, $_) for qw(launcher_running cache_complete rotation_enabled overlap_enforcement);
	is($got->{'token_rotation_health_ring_size datname=demo'}, 1024, 'the size of the ring');
	is($got->{'token_rotation_health_staleness_seconds datname=demo'}, 'NaN', 'what a primary does not know is not a number');
	is_deeply(
		[ sort map { /^token_rotation_health_(\w+) datname=demo$/ ? $1 =~ s/_seconds$//r : () } keys %$got ],
		[ sort 'status', grep { !/^(?:verdict|reasons|last_visit|last_error|last_error_at|oldest_unrecorded_end)$/ } 'unrecorded_end',
			keys %{ row($node, 'SELECT * FROM tr_health()', 'demo') } ],
		'every number that it tells');

	set_conf($node, 'token_rotation.rotation_enabled' => 'off');
	$got = series($get->());
	is($got->{'token_rotation_health_status datname=demo'}, 1, 'a warning');
	is($got->{'token_rotation_health_reason_given datname=demo,reason=rotation_disabled'}, 1, 'and why');
	@seen = grep { /^token_rotation/ } map { (split / /)[0] } keys %$got;
	set_conf($node, 'token_rotation.rotation_enabled' => 'on');

	# 4. (an empty log says nothing of its having run: it says where it listens)
	my $log = $stop->();
	like($log, qr/listening|Starting/i, 'it has a log');
	unlike($log, qr/level=error|error (?:running|scraping)/i, 'without an error');
}

# 2. sql_exporter

{
	my $conf = $node->basedir . '/sql_exporter.yaml';
	my $text = slurp_file("$docs/sql_exporter.yaml");

	is($text =~ s/^( +- )'postgres:.*$/$1'postgres:\/\/monitor@\/demo?sslmode=disable&host=@{[$node->host]}&port=@{[$node->port]}'/m, 1,
		'its connection can be named');
	is($text =~ s/^( +interval: ).*$/$1'1s'/m, 1, 'and its interval');
	append_to_file($conf, $text);
	my ($get, $stop) = exporter('-web.listen-address=127.0.0.1:%d', "$programs/prometheus-sql-exporter", "-config.file=$conf");
	my $done = 0;

	# it asks by itself, each second
	rotate($node, $dead->{token}, undef, 'demo');
	my $expected = stat_series('sql_token_rotation_stat', 'col=total,');
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $got = series($get->());

		$done = !grep { ($got->{$_} // '') ne $expected->{$_} } keys %$expected;
		last if $done;
		Time::HiRes::usleep(100_000);
	}
	ok($done, 'sql_exporter: tr_stat is there, and what happened since');
	cmp_ok(scalar keys %$expected, '>', 20, 'in many rows');
	my $got = series($get->());
	is($got->{"sql_token_rotation_health col=$_->[0],datname=demo"}, $_->[1], "tr_health: $_->[0]")
	  for [ status => 0 ], [ ring_size => 1024 ], [ cache_complete => 1 ], [ staleness_seconds => 0 ];
	unlike($stop->(), qr/"?level"?[=:]"?(?:error|warn)/i, 'its log has no error');
}

# 3. Alert rules

my @rules = map { "$docs/$_" } 'alerts.yaml', 'sql_exporter.rules.yaml';
command_ok([ "$programs/promtool", 'check', 'rules', @rules ], 'promtool accepts the rules');
command_ok([ "$programs/promtool", 'test', 'rules', "$FindBin::RealBin/lib/alerts.yaml" ],
	'they are silent when all is quiet, and fire when it is not');
my %seen = map { $_ => 1 } @seen;
my $alerts = slurp_file($rules[0]) =~ s/^\s*#.*$//mgr;
is_deeply([ grep { !$seen{$_} } $alerts =~ /\b(token_rotation_\w+)\b(?=[ ){=>]|$)/mg ], [], 'they ask for metrics that are there');

done_testing();

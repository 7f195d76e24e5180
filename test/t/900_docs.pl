# Does the documentation tell the truth?
#
#  1. Every fenced sql block of README.md and doc/*.md runs, in order, in a new
#     database a file; so does every console block, which is a psql session.
#     What a text block after an sql block, or a console block, shows as the
#     output is the output, but for tokens, ids, times and the width of columns
#     (and, after an sql block, for what only says that a command was done).
#     A file that does not install the extension finds it installed.
#  2. A block that cannot run here says why in a comment before it, and there
#     are few of them:   <!-- not run: REASON -->
#  3. The reference is complete: functions, settings with their defaults,
#     reasons, events, columns.  It names no function that is not there, and
#     the tokens that it shows are well-formed.
#  4. Links lead to files, and to headings that exist.
#  5. README.md is short and shows SQL at once.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(basename dirname);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $max_not_run = 5;
my $prompt = qr/\w+[=-][#>] ?/;
my $install = 'SET client_min_messages = warning; CREATE EXTENSION token_rotation CASCADE';
my @files = ('README.md', sort glob 'doc/*.md');

my $node = PostgreSQL::Test::Cluster->new('docs');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'token_rotation'
log_statement = none
timezone = 'UTC'
END
$node->start;

# --- reading ------------------------------------------------------------

# The fenced blocks of a file: kind, line, text, why it is not run, and the
# output that the next block shows.
sub blocks
{
	my ($file) = @_;
	my (@blocks, $open);
	my ($skip, $number, $between) = (undef, 0, '');

	for (split /\n/, slurp_file($file))
	{
		$number++;
		if ($open && /^```$/)
		{
			my $last = $blocks[-1];
			if ($open->{kind} eq 'text' && $last && $last->{kind} eq 'sql' && $between eq '')
			{
				$last->{output} = $open->{text};
			}
			else
			{
				push @blocks, $open;
			}
			undef $open;
			$between = '';
		}
		elsif ($open)
		{
			$open->{text} .= "$_\n";
		}
		elsif (/^```(\w*)$/)
		{
			$open = { kind => $1, line => $number, text => '', not_run => $skip };
			undef $skip;
		}
		elsif (/^<!-- not run: (.+) -->$/)
		{
			$skip = $1;
		}
		else
		{
			$between .= $_;
		}
	}
	die "$file: a block is not closed" if $open;
	return @blocks;
}

# --- running ------------------------------------------------------------

# What differs from run to run, and how wide columns are.
sub normal
{
	my ($text) = @_;

	for ($text)
	{
		s/\b[a-z][a-z0-9]{0,15}_[0-9A-Za-z]{71}\b/<token>/g;
		s/\b[a-z][a-z0-9]{0,14}_[0-9A-Za-z]{22}\b/<display>/g;
		s/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/<uuid>/g;
		s/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\+00\b/<time>/g;
		s/\\x[0-9a-f]+/<bytes>/g;
		s/\b\d{16}\b/<seq>/g;
		s/-{2,}/-/g;
		s/[ \t]+/ /g;
		s/ $//gm;
		s/\n+/\n/g;
		s/^\n//;
	}
	return $text;
}

# A text block shows answers, not that a command was done.
sub answers
{
	my ($text) = @_;

	$text =~ s/^(?:NOTICE: .*|You are now connected .*|[A-Z]+(?: [A-Z]+)*(?: \d+)*)\n//mg;
	return $text;
}

# What psql is to read for a block, between marks that separate the outputs.
sub script_of
{
	my ($block, $i) = @_;
	my $text = $block->{text};

	$text = join("\n", $text =~ /^$prompt(.*)/mg) if $block->{kind} eq 'console';
	my @lines = (
		'\echo @begin ' . $i,
		# an error that is shown is no error
		'\set ON_ERROR_STOP ' . (shown($block) =~ /^ERROR: /m ? 'off' : 'on'),
		'\set ECHO ' . ($block->{kind} eq 'console' ? 'all' : 'none'),
		$text,
		'\set ECHO none',
		'\echo @end ' . $i);

	# the reload reaches this session a moment later
	push @lines, '\! sleep 1' if $text =~ /pg_reload_conf/;
	return join("\n", @lines) . "\n";
}

# The output that the document shows; a console block shows its input, too.
sub shown
{
	my ($block) = @_;

	return $block->{output} // '' if $block->{kind} eq 'sql';
	return $block->{text} =~ s/^$prompt//mgr;
}

sub run_file
{
	my ($file, @blocks) = @_;
	my $db = 'demo';
	my $output = '';
	my $i = 0;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, $install) unless grep { $_->{text} =~ /CREATE EXTENSION/ } @blocks;
	my $script = join('', map { script_of($_, $i++) } @blocks);
	my $psql = IPC::Run::start(
		[
			'psql', '--no-psqlrc', '--dbname', $node->connstr($db)
		],
		'<', \$script, '>&', \$output, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$psql->finish;

	for $i (0 .. $#blocks)
	{
		my $block = $blocks[$i];
		my $name = "$file, line $block->{line}";
		my ($got) = $output =~ /^\@begin $i\n(.*?)^\@end $i$/ms;

		if (!defined $got)
		{
			my ($rest) = $output =~ /^\@begin $i\n(.*)/ms;
			fail("$name runs");
			diag($rest // 'it was not reached');
			last;
		}
		$got =~ s/^\\set ECHO none\n//m;
		if ($block->{kind} eq 'sql' && !defined $block->{output})
		{
			unlike($got, qr/^(?:ERROR|FATAL|PANIC): /m, "$name runs");
		}
		elsif ($block->{kind} eq 'sql')
		{
			is(normal(answers($got)), normal(answers(shown($block))), "$name shows what happens");
		}
		else
		{
			is(normal($got), normal(shown($block)), "$name shows what happens");
		}
	}
	clean_up($db);
	return;
}

# The next file finds a new server.
sub clean_up
{
	my ($db) = @_;

	$node->safe_psql('postgres', "DROP DATABASE $db WITH (FORCE)");
	$node->safe_psql('postgres', "DROP ROLE $_")
	  for split /\n/, $node->safe_psql('postgres',
		"SELECT quote_ident(rolname) FROM pg_roles WHERE oid >= 16384");
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
	$node->restart;
	return;
}

my %blocks = map { $_ => [ blocks($_) ] } @files;
my @not_run;

for my $file (@files)
{
	my @runnable = grep { $_->{kind} =~ /^(?:sql|console)$/ } @{ $blocks{$file} };

	push @not_run, map { "$file, line $_->{line}: $_->{not_run}" }
	  grep { defined $_->{not_run} } @runnable;
	run_file($file, grep { !defined $_->{not_run} } @runnable);
}
note("not run: $_") for @not_run;
cmp_ok(scalar @not_run, '<=', $max_not_run, 'few blocks are not run');

# --- the reference is complete ------------------------------------------

$node->safe_psql('postgres', $install);

sub catalog
{
	return split /\n/, $node->safe_psql('postgres', $_[0]);
}

# Is each of these names there, in `code` or as a heading?
sub all_named
{
	my ($file, $what, @names) = @_;
	my $text = slurp_file($file);

	cmp_ok(scalar @names, '>', 0, "there are $what");
	is_deeply([ grep { $text !~ /(?:`|^## )\Q$_\E(?:[`(]|$)/m } @names ], [], "$file names all $what");
	return;
}

# The quoted names of a source file's definitions.
sub defined_in
{
	my ($file, $pattern) = @_;

	return slurp_file($file) =~ /$pattern/g;
}

my @functions = catalog(q{
	SELECT DISTINCT CASE p.pronamespace WHEN 'token_rotation'::regnamespace THEN 'token_rotation.' ELSE '' END || p.proname
	FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
	WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'token_rotation')});
all_named('doc/functions.md', 'functions', @functions);

my %is_function = map { $_ => 1 } @functions;
for my $file (@files)
{
	my @unknown = grep { !$is_function{$_} } slurp_file($file) =~ /\b(tr_[a-z_]+)\(/g;
	is_deeply(\@unknown, [], "$file names no function that is not there")
	  unless $file eq 'doc/design.md';
}

# | `setting` | default | ...
my $settings = slurp_file('doc/settings.md');
for (catalog("SELECT name, boot_val, coalesce(unit, '') FROM pg_settings WHERE name LIKE 'token\\_rotation.%'"))
{
	my ($name, $default, $unit) = split /\|/;
	$default = $unit eq 'ms' ? $default / 1000 . ' s' : "$default $unit";
	$default =~ s/ $//;
	$default = 'empty' if $default eq '';
	like($settings, qr/^\| `\Q$name\E` \| \Q$default\E \|/m, "doc/settings.md has $name and its default");
}

my ($reasons) = defined_in('src/frame/verdict.c', qr/ reason_texts\[\] = \{(.*?)^\};/ms);
all_named('doc/reasons.md', 'reasons', $reasons =~ /"(\w+)"/g);
all_named('doc/audit.md', 'events', defined_in('src/frame/event.h', qr/^#define TR_EVENT_\w+ "(\w+)"$/m));
for (
	[ 'doc/audit.md', 'audit' ],
	[ 'doc/audit.md', 'audit_seal' ],
	[ 'doc/policies.md', 'policy' ],
	[ 'doc/functions.md', 'tokens' ])
{
	my ($file, $relation) = @$_;
	all_named($file, "columns of $relation",
		catalog("SELECT attname FROM pg_attribute WHERE attrelid = 'token_rotation.$relation'::regclass"
			  . ' AND attnum > 0 AND NOT attisdropped'));
}

# Texts of tokens that are shown could have been issued: nobody made them up.
my @made_up;
for my $file (@files)
{
	my @tokens = slurp_file($file) =~ /\b([a-z][a-z0-9]{0,15}_[0-9A-Za-z]{71})\b/g;
	push @made_up, map { "$file: $_" }
	  grep { $node->safe_psql('postgres', "SELECT reason FROM tr_validate('$_')") ne 'unknown' } @tokens;
}
is_deeply(\@made_up, [], 'tokens that are shown are well-formed');

# --- links and the README -----------------------------------------------

# The anchor that a heading gets.
sub anchor
{
	my ($heading) = @_;

	$heading = lc $heading;
	$heading =~ s/[^\w\- ]//g;
	$heading =~ tr/ /-/;
	return $heading;
}

for my $file (@files)
{
	my $text = slurp_file($file) =~ s/^```.*?^```$//msgr;
	my @dead;

	for ($text =~ /\]\(([^)\s]+)\)/g)
	{
		next if /^https?:/;
		my ($path, $anchor) = /^([^#]*)(?:#(.*))?$/;
		my $target = $path eq '' ? $file : dirname($file) . "/$path";
		push @dead, $_ and next unless -e $target;
		push @dead, $_ if defined $anchor
		  && !grep { anchor($_) eq $anchor } slurp_file($target) =~ /^#+ (.*)$/mg;
	}
	is_deeply(\@dead, [], "the links of $file lead somewhere");
}

my $readme = slurp_file('README.md');
cmp_ok($readme =~ tr/\n//, '<', 180, 'README.md is short');
cmp_ok($blocks{'README.md'}[0]{line}, '<', 20, 'and shows SQL at once');
is_deeply([ grep { my $name = basename($_); $readme !~ /\(doc\/\Q$name\E\)/ } glob 'doc/*.md' ],
	[], 'it maps all of doc/');

done_testing();

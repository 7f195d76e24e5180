# doc/examples/find_tokens.pl, which secret scanners are made after, finds what
# the server makes and nothing else; and what it finds can be reported.
#
#  1. Tokens and rotation keys of several prefixes, in all kinds of text.
#  2. What only looks like one is none: a wrong check, one character more or
#     less, no prefix.
#  3. Reported to tr_report_leak, each family ends.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $node = new_node('scanner');
my $scanner = "$FindBin::RealBin/../../doc/examples/find_tokens.pl";

$node->safe_psql('postgres', q{INSERT INTO token_rotation.policy (name, prefix, rotation_proof)
	VALUES ('short', 'a', 'token'), ('long', 'a23456789012345', 'rotation_key')});
my @rows = map { issue($node, "'$_', '$_'") } qw(default partner short long);
my @tokens = grep { defined } map { @$_{qw(token rotation_key)} } @rows;

# What scan finds in a text.
sub scan
{
	my ($text, @args) = @_;
	my $out = '';

	IPC::Run::run([ $^X, $scanner, @args ], '<', \$text, '>', \$out);
	die 'the scanner failed' if $? >> 8 != ($out eq '' ? 0 : 1);
	return [ map { s/^-:\d+: //r } split /\n/, $out ];
}

# 1. Found
is_deeply(scan(join '', map { "$_\n" } @tokens), \@tokens, 'one a line');
is_deeply(scan("Authorization: Bearer $tokens[0]\r\n{\"key\":\"$tokens[1]\"},'$tokens[2]'"), [ @tokens[ 0 .. 2 ] ], 'in text');
is_deeply(scan("$tokens[0] $tokens[0]"), [ $tokens[0] ], 'twice is once');
is_deeply(scan(join(' ', @tokens), '--prefix', 'trk'), [ grep { /^trkr?_/ } @tokens ], 'of one prefix');

my $file = $node->basedir . '/leaky';
append_to_file($file, "nothing\nkey = $tokens[0]\n");
my ($found, $errors) = ('', '');
IPC::Run::run([ $^X, $scanner, $file, "$file.none" ], '<', \'', '>', \$found, '2>', \$errors);
is_deeply([ $found, $? >> 8 ], [ "$file:2: $tokens[0]\n", 2 ], 'in a file, and one that is not there is told');
like($errors, qr/leaky\.none: No such file/, 'by its name');
IPC::Run::run([ $^X, $scanner, 'trk', '--help' ], '<', \'', '>', \$found, '2>', \$errors);
is("$found" . ($? >> 8), '2', 'a name that is no file is no prefix');

# 2. Not found
my ($wrong) = map { substr($_, -1) eq '0' ? s/.$/1/r : s/.$/0/r } $tokens[0];
is_deeply(scan($_), [], 'not found') for $wrong, "$tokens[0]x", substr($tokens[0], 0, -1), $tokens[0] =~ s/^trk//r, "T$tokens[0]",
  $tokens[0] =~ s/^trk/3rk/r, 'x' x 200;

# 3. Reported
$node->safe_psql('postgres', join ';', map { "SELECT tr_report_leak('$_', 'scanner')" } @{ scan(join "\n", @tokens) });
is(verdict($node, $_->{token}), 'revoked', 'what is found and reported ends') for @rows;
is(audit_count($node, "event = 'leak' AND origin = 'scanner'"), scalar @tokens, 'each report is recorded');

done_testing();

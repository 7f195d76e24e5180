#!/usr/bin/perl
#
# equal_work.pl
#	  Do all refusals of a secret take the same hashing?
#
# An unknown id, a wrong secret, a token of another realm and one that is accepted
# are validated in a single-user server under callgrind, which counts the
# instructions of each call.  Those in the cryptographic library must be the same
# to the last one; those of the whole check may differ a little, by the length of
# client and scopes.  Look-ups differ, and are told.
#
# Without a server key, with one, and for tokens without a key beside one.
#
# Usage: equal_work.pl BINDIR FOLDER; speaks TAP
use strict;
use warnings;

my ($bindir, $folder) = @ARGV;
my $data = "$folder/data";
my @cases = ('accepted', 'wrong secret', 'unknown id', 'other realm');
my @reasons = ('ok', 'bad_secret', 'unknown', 'unknown');
my $rounds = 3;       # the last one counts: the first ones fill caches
my $tolerance = 0.05; # of a whole check
my $tests = 0;
my $failed = 0;

sub ok
{
	my ($held, $name) = @_;

	$tests++;
	$failed++ unless $held;
	print $held ? 'ok' : 'not ok', " $tests - $name\n";
	return;
}

sub run
{
	system(@_) == 0 or die "failed: @_\n";
	return;
}

sub server
{
	my (@command) = @_;

	run("$bindir/pg_ctl", '-D', $data, '-s', '-w', '-l', "$folder/log", @command);
	return;
}

sub psql
{
	my ($sql) = @_;

	open my $out, '-|', "$bindir/psql", '-XqAt', '-v', 'ON_ERROR_STOP=1', '-h', $folder, '-U', 'postgres', '-c', $sql, 'postgres'
	  or die $!;
	my $answer = do { local $/; <$out> };
	close $out or die "failed: $sql\n";
	chomp $answer;
	return $answer;
}

# CRC-32 as base62
sub check_of
{
	my ($body) = @_;
	my @digits = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');
	my ($crc, $text) = (0xffffffff, '');

	for my $byte (unpack 'C*', $body)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
	}
	$crc ^= 0xffffffff;
	for (1 .. 6)
	{
		$text = $digits[ $crc % 62 ] . $text;
		$crc = int($crc / 62);
	}
	return $text;
}

# The same token with another character at a place of id and secret.
sub altered
{
	my ($token, $place) = @_;
	my ($prefix, $body) = $token =~ /^(\w+)_(.{65})/;
	my $old = substr($body, $place, 1);

	substr($body, $place, 1) = $old eq 'x' ? 'y' : 'x';
	return "${prefix}_$body" . check_of($body);
}

# The four cases, in their order.
sub tokens
{
	my $own = psql(q{SET ROLE app; SELECT token FROM tr_issue('acme', scopes => '{orders:read}')});
	my $foreign = psql(q{SET ROLE other; SELECT token FROM tr_issue('a client of others', scopes => '{orders:read,orders:write}')});

	return ($own, altered($own, 64), altered($own, 5), $foreign);
}

# Instructions of the call that a dump is about: in libcrypto itself, and under
# the functions of ours.
sub counts
{
	my ($file) = @_;
	my (%object, %function, %count, $object, $callee);
	my $calls = 0;

	open my $in, '<', $file or die "$file: $!";
	while (<$in>)
	{
		if (/^ob=\((\d+)\)(?: (.*))?/)
		{
			$object{$1} = $2 if defined $2;
			$object = $object{$1};
		}
		elsif (/^cob=\((\d+)\)(?: (.*))?/)
		{
			$object{$1} = $2 if defined $2;
		}
		elsif (/^(c?)fn=\((\d+)\)(?: (.*))?/)
		{
			$function{$2} = $3 if defined $3;
			$callee = $function{$2} if $1;
		}
		elsif (/^calls=/)
		{
			$calls = 1;
		}
		elsif (/^[+\-*\d]\S* (\d+)$/)
		{
			my $spent = $1;

			# a line after a call is about what was called
			$count{$callee} += $spent if $calls;
			$count{all} += $spent unless $calls;
			$count{crypto} += $spent if !$calls && $object =~ /libcrypto/;
			$calls = 0;
		}
	}
	return \%count;
}

# Validate each case some times under callgrind, and compare.
sub compare
{
	my ($name, $settings, @tokens) = @_;
	my @statements = ('SET SESSION AUTHORIZATION app', map { ("SELECT reason FROM tr_validate('$_')") } (@tokens) x $rounds);
	my @got;

	unlink glob "$folder/cg.*";
	open my $in, '>', "$folder/statements" or die $!;
	print $in "$_\n" for @statements;
	close $in;
	system(join ' ', 'valgrind --tool=callgrind -q --toggle-collect=tr_validate --dump-after=tr_validate',
		"--callgrind-out-file=$folder/cg", "$bindir/postgres --single -D $data @$settings postgres",
		"< $folder/statements > $folder/answers 2> $folder/errors") == 0
	  or die "callgrind failed, see $folder/errors\n";
	open my $answers, '<', "$folder/answers" or die $!;
	@got = map { /reason = "(\w+)"/ ? $1 : () } <$answers>;
	ok("@got" eq "@{[ (@reasons) x $rounds ]}", "$name: verdicts");

	my @counts = map { counts("$folder/cg." . ($_ + 1 + @cases * ($rounds - 1))) } 0 .. $#cases;
	print "# tried: $name, instructions:", join(';', map {
		my $c = $counts[$_];
		" $cases[$_] $c->{crypto} hashing, $c->{tr_store_read} looking up, $c->{all} in all"
	} 0 .. $#cases), "\n";
	ok($counts[0]{crypto} > 1000, "$name: hashing was counted");
	for my $i (1 .. $#cases)
	{
		my ($a, $b) = map { $_->{tr_present} + $_->{tr_token_hash_check} } @counts[ 0, $i ];

		ok($counts[$i]{crypto} == $counts[0]{crypto}, "$name: hashing of $cases[$i]");
		ok(abs($a - $b) <= $tolerance * $a, "$name: the whole check of $cases[$i]");
	}
	return;
}

run("$bindir/initdb", '-D', $data, '-U', 'postgres', '-A', 'trust', '--encoding=UTF8', '--no-locale', '--no-sync');
open my $conf, '>>', "$data/postgresql.conf" or die $!;
print $conf "shared_preload_libraries = 'token_rotation'\nlisten_addresses = ''\nunix_socket_directories = '$folder'\nfsync = off\n";
close $conf;
open my $keys, '>', "$folder/keys" or die $!;
print $keys '1 ', 'a1' x 32, "\n", '2 ', 'b2' x 32, "\n";
close $keys;
chmod 0600, "$folder/keys";

my @no_key = ();
my @key = ("-c token_rotation.key_file=$folder/keys");
my @both = (@key, "-c token_rotation.accept_unkeyed_until='2200-01-01 00:00:00Z'");
server('start');
psql(q{SET client_min_messages = warning; CREATE EXTENSION token_rotation CASCADE; CREATE ROLE app; CREATE ROLE other;
	SELECT tr_grant('app', 'validator'), tr_grant('app', 'issuer'), tr_grant('other', 'issuer')});
my @plain = tokens();
server('stop');
server('-o', "@key", 'start');
my @keyed = tokens();
server('stop');
compare('no server key', \@no_key, @plain);
compare('a server key', \@key, @keyed);
compare('a token without a key beside one', \@both, @plain);
print "1..$tests\n";
exit($failed ? 1 : 0);

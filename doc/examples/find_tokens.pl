#!/usr/bin/perl
#
# Finds tokens and rotation keys in files: what a secret scanner has to know.
#
#   find_tokens.pl [--prefix PREFIX] [FILE ...]
#
# Reads the files, or standard input; finds tokens of any prefix, or of this one
# only.  Prints each, once, as "file:line number: token".  Exits with 0 where it found
# none, with 1 where it did, with 2 where a file could not be read.  A token is a prefix, a '_' and 71
# base62 characters, of which the last 6 are the CRC-32 (zlib's) of the 65 before
# them, in base62, most significant digit first.  One string in 2**32 that looks
# so is none.
use strict;
use warnings;
use Compress::Zlib qw(crc32);

my $prefix = '[a-z][a-z0-9]{0,15}';
if (@ARGV && $ARGV[0] =~ /^-/)
{
	my ($option, $value) = splice @ARGV, 0, 2;
	if ($option ne '--prefix' || ($value // '') !~ /^[a-z][a-z0-9]{0,14}$/)
	{
		print STDERR "usage: find_tokens.pl [--prefix PREFIX] [FILE ...]\n";
		exit 2;
	}
	$prefix = "${value}r?";
}
my @digits = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');
my %seen;

# The check of the characters of id and secret.
sub check
{
	my $crc = crc32(shift);
	my $text = '';

	for (1 .. 6)
	{
		$text = $digits[ $crc % 62 ] . $text;
		$crc = int($crc / 62);
	}
	return $text;
}

@ARGV = ('-') if !@ARGV;
my $status = 0;
for my $file (@ARGV)
{
	my $in = \*STDIN;
	if ($file ne '-' && !open $in, '<', $file)
	{
		print STDERR "$file: $!\n";
		$status = 2;
		next;
	}
	while (my $line = <$in>)
	{
		while ($line =~ /(?<![A-Za-z0-9])($prefix)_([0-9A-Za-z]{65})([0-9A-Za-z]{6})(?![0-9A-Za-z])/g)
		{
			next if $3 ne check($2) || $seen{"$1_$2$3"}++;
			print "$file:$.: $1_$2$3\n";
			$status ||= 1;
		}
	}
	close $in;
}
exit $status;

#!/usr/bin/perl
#
# Finds tokens and rotation keys in files: what a secret scanner has to know.
#
#   find_tokens.pl [PREFIX] < file        any prefix, or tokens of this one only
#
# Prints each, once, as "line number: token".  A token is a prefix, a '_' and 71
# base62 characters, of which the last 6 are the CRC-32 (zlib's) of the 65 before
# them, in base62, most significant digit first.  One string in 2**32 that looks
# so is none.
use strict;
use warnings;
use Compress::Zlib qw(crc32);

my $prefix = @ARGV ? quotemeta(shift) . 'r?' : '[a-z][a-z0-9]{0,15}';
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

while (my $line = <STDIN>)
{
	while ($line =~ /(?<![A-Za-z0-9])($prefix)_([0-9A-Za-z]{65})([0-9A-Za-z]{6})(?![0-9A-Za-z])/g)
	{
		print "$.: $1_$2$3\n" if $3 eq check($2) && !$seen{"$1_$2$3"}++;
	}
}

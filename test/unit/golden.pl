#!/usr/bin/perl
#
# golden.pl
#	  Expected values for golden_test.c.
#
# Shares nothing with the C code: numbers are Math::BigInt's, hashes
# Digest::SHA's, and the CRC-32 is made bit by bit from its polynomial.  One
# vector a line, the same for the same seed.
#
# Usage: golden.pl [seed [count]]
use strict;
use warnings;
use Digest::SHA qw(sha256 sha256_hex hmac_sha256);
use Math::BigInt;

my $seed = shift // 'token_rotation';
my $count = shift // 300;

my @digits = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');
my $drawn = 0;

# That many bytes, drawn from the seed.
sub draw
{
	my ($bytes) = @_;
	my $out = '';
	$out .= sha256("$seed:" . $drawn++) while length $out < $bytes;
	return substr $out, 0, $bytes;
}

# A number from 0 to less than that.
sub draw_below
{
	my ($end) = @_;
	return unpack('N', draw(4)) % $end;
}

# Bytes as base62, padded to that width.
sub base62
{
	my ($bytes, $width) = @_;
	my $number = Math::BigInt->from_hex(unpack 'H*', $bytes);
	my $text = '';
	until ($number->is_zero)
	{
		my (undef, $digit) = $number->bdiv(62);
		$text = $digits[$digit->numify] . $text;
	}
	return '0' x ($width - length $text) . $text;
}

# CRC-32 as in zlib: polynomial 0x04c11db7, bits reflected.
sub crc32
{
	my $crc = 0xffffffff;
	for my $byte (unpack 'C*', shift)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
	}
	return $crc ^ 0xffffffff;
}

# A policy's prefix.
sub prefix
{
	my @tail = @digits[ 0 .. 9, 36 .. 61 ];
	my $text = $digits[ 36 + draw_below(26) ];
	$text .= $tail[ draw_below(scalar @tail) ] for 2 .. 1 + draw_below(15);
	return $text;
}

# The text of a token.
sub text
{
	my ($prefix, $id, $secret) = @_;
	my $body = base62($id, 22) . $secret;
	return "${prefix}_$body" . base62(pack('N', crc32($body)), 6);
}

# A secret that is derived for a successor.
sub derive
{
	my ($label, $proof, $nonce, $predecessor, $successor) = @_;
	return base62(hmac_sha256($label . $nonce . $predecessor . $successor, $proof), 43);
}

# All that belongs to one prefix, id, secret, nonce and successor.
sub vector
{
	my ($prefix, $id, $raw, $nonce, $successor) = @_;
	my $secret = base62($raw, 43);
	my @derived = map { derive($_, $secret, $nonce, $id, $successor) }
	  ('token_rotation successor v1', 'token_rotation successor rotation key v1');
	my @bytes = map { unpack 'H*', $_ } ($id, $raw, $nonce, $successor);
	print join(' ',
		$prefix, @bytes, $secret,
		text($prefix, $id, $secret),
		text("${prefix}r", $id, $secret),
		$prefix . '_' . base62($id, 22),
		sha256_hex($secret), @derived), "\n";
}

# The edges of ids and secrets, then what the seed gives.
for my $byte ("\x00", "\x01", "\x7f", "\x80", "\xff")
{
	vector(prefix(), $byte x 16, $byte x 32, $byte x 32, $byte x 16);
	vector(prefix(), "\x00" x 15 . $byte, "\x00" x 31 . $byte, draw(32), draw(16));
	vector(prefix(), $byte . "\x00" x 15, $byte . "\x00" x 31, draw(32), draw(16));
}
vector('a', draw(16), draw(32), draw(32), draw(16));
vector('z23456789012345', draw(16), draw(32), draw(32), draw(16));
vector(prefix(), draw(16), draw(32), draw(32), draw(16)) for 1 .. $count;

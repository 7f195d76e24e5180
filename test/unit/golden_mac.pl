#!/usr/bin/perl
#
# golden_mac.pl
#	  Expected values for mac_test.c: subkeys and keyed hashes of tokens, written
#	  from doc/security.md alone and sharing nothing with the C code.  One vector a
#	  line, the same for the same seed.
#
# Usage: golden_mac.pl [seed [count]]
use strict;
use warnings;
use Digest::SHA qw(sha256 hmac_sha256);

my $seed = shift // 'token_rotation';
my $count = shift // 300;
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

# A field with its length before it.
sub field
{
	my ($bytes) = @_;
	return pack('N', length $bytes) . $bytes;
}

sub message
{
	my ($label, $secret, %row) = @_;
	my $text = join('',
		map { field($_) } $label, @row{qw(id family)}, pack('q>', $row{issued}), pack('q>', $row{expires}),
		chr($row{key}), $secret, $row{client});
	$text .= pack('N', scalar @{ $row{scopes} }) . join('', map { field($_) } @{ $row{scopes} });
	my $end = 247;
	$end += 64 while $end < length $text;
	return $text . "\0" x ($end - length $text);
}

# All that belongs to one server key, row and secret.
sub vector
{
	my (%row) = @_;
	my $server_key = draw(32);
	my $secret = draw(32);
	my @subkeys = map { hmac_sha256("token_rotation subkey $_ v1\001", $server_key) } 'secret', 'rotation key', 'row';
	my @macs = (
		hmac_sha256(message('token_rotation secret v1', $secret, %row), $subkeys[0]),
		hmac_sha256(message('token_rotation rotation key v1', $secret, %row), $subkeys[1]),
		hmac_sha256(message('token_rotation row v1', '', %row), $subkeys[2]));
	print join(' ',
		unpack('H*', $server_key),
		unpack('H*', $row{id}),
		unpack('H*', $row{family}),
		@row{qw(issued expires key)},
		unpack('H*', $secret),
		'x' . unpack('H*', $row{client}),
		'x' . join('', map { ',' . unpack 'H*', $_ } @{ $row{scopes} }),
		map { unpack 'H*', $_ } @subkeys, @macs), "\n";
}

sub row
{
	my ($client, @scopes) = @_;
	my $issued = unpack('q>', draw(8)) >> 8;
	return (
		id => draw(16), family => draw(16), issued => $issued, expires => $issued + draw_below(1 << 31),
		key => draw_below(2), client => $client, scopes => \@scopes);
}

# The edges: nothing, no scope, an empty one, every length around where one more
# block begins, and times before 2000.
vector(row(''));
vector(row('a', ''));
vector(row('a', '', ''));
vector(row('x' x $_)) for 1 .. 255;
vector(row("z\xc3\xa9", 'orders:read', "\xe2\x82\xac"));
vector(row('acme'), issued => -1, expires => 0);
vector(row('acme'), issued => '-946684800000000', expires => '252455615999999999');
vector(row(draw(1 + draw_below(255)), map { 's' . draw(draw_below(60)) } 1 .. draw_below(20))) for 1 .. $count;

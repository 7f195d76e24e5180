# Values for test/fuzz/sql, by type and by the name of the argument: good ones,
# edges and rubbish.
#
# Tokens that the fuzzer holds go into arguments of type text and text[] only,
# and never without the '_' before the id: an input function of the server's
# own may repeat in its error what it could not read, and nobody promises to
# recognise a secret that was torn out of its token.  Everything else that looks
# like a token was made up here.
package FuzzValues;

use strict;
use warnings FATAL => 'all';

use Compress::Zlib ();
use Exporter 'import';
use FindBin;

our @EXPORT_OK = qw(value pick chance array_of);

my @digits = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');

# One of these.
sub pick
{
	return $_[ int rand @_ ];
}

# True once in so many times.
sub chance
{
	return int(rand $_[0]) == 0;
}

# So many digits of base62.
sub digits
{
	return join('', map { pick(@digits) } 1 .. $_[0]);
}

# A text of the server's array type.
sub array_of
{
	return '{' . join(',', map {
		my $element = $_;
		if (defined $element) { $element =~ s/(["\\])/\\$1/g; $element = qq("$element") }
		$element // 'NULL';
	} @_) . '}';
}

# --- text ---------------------------------------------------------------

# Id and secret with the right check, so that they are looked up.
sub with_check
{
	my ($checked) = @_;
	my $crc = Compress::Zlib::crc32($checked);
	my $check = '';

	for (1 .. 6)
	{
		$check = $digits[ $crc % 62 ] . $check;
		$crc = int($crc / 62);
	}
	return $checked . $check;
}

# Nobody's token.
sub made_up
{
	return 'trk_' . with_check(digits(65)) if chance(4);
	return pick('trk', 'trkr', 'sk', 'TRK', 'a', 'abcdefghijklmnop', '') . '_' . digits(pick(22, 23, 65, 70, 71, 71, 72, 200));
}

# Something near a token that is held, and is not it.
sub bent
{
	my ($held, $other) = @_;
	my $text = $held->{text};
	my $id_end = index($text, '_') + 23;
	my $at = int rand length $text;
	my $what = int rand 12;

	# anything but a digit would tear the secret
	if ($what == 0) { substr($text, $at, 1) = pick(@digits) if $at >= $id_end }
	elsif ($what == 1) { $text = substr($text, 0, 1 + int rand length $text) }
	elsif ($what == 2) { $text =~ s/^[^_]*/pick('other', 'x', 'trkr', '', 'abcdefghijklmnop', 'TRK')/e }
	elsif ($what == 3) { $text .= $text }
	elsif ($what == 4) { $text = pick(' ', "\t", 'Bearer ') . $text . pick('', "\n", ' ', '...') }
	elsif ($what == 5) { $text = substr($text, 0, $id_end) . digits(49) }
	elsif ($what == 6) { $text = substr($text, 0, 60) }
	elsif ($what == 7) { $text = "'$text'; DROP TABLE x; --" }
	elsif ($what == 8) { $text .= 'x' x pick(1, 1000, chance(5) ? 1000000 : 9) }
	elsif ($what == 9) { $text = substr($text, 0, $id_end - 22) . with_check(substr($text, $id_end - 22, 22) . digits(43)) }
	elsif ($what == 10)
	{
		# one token's id with another's secret
		$text = substr($text, 0, $id_end - 22)
		  . with_check(substr($text, $id_end - 22, 22) . substr($other->{text}, -49, 43));
	}
	else { $text = $held->{key} if defined $held->{key} }
	return $text;
}

# A token: one that is held, in whatever state, most often; else near it.
sub token
{
	my ($pool) = @_;
	my $held = $pool->any_token;

	return made_up() if !$held || chance(12);
	return $held->{text} unless chance(3);
	return bent($held, $pool->any_token);
}

my @odd = (
	'', ' ', "\n", "\t", "a\nb", "\x01", "\x7f", '%s%n%d', '$1', q('), q("), '\\', "';--", '{', 'NULL', 'null',
	'_', '__', '-', '0', '-1', 'default', 'pg_catalog', 'PUBLIC', 'current_user',
	"\xc3\xa9", "\xe2\x80\xae", "e\xcc\x81", "\xef\xbb\xbfa", "\xef\xbf\xbf", "\xf0\x9f\x94\x91", "\xe2\x80\x8b",
	"\xc2\xa0", "\xf4\x8f\xbf\xbf", "\xc4\xb1\xc4\xb0\xc3\x9f",
	# no UTF-8 at all
	"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "a\xf0\x9f\x94", "\xf5\x80\x80\x80");

# Lengths around every limit there is, in bytes; a character cut in two among
# them.
sub long
{
	my $length = pick(15, 16, 62, 63, 64, 127, 128, 254, 255, 256, 257, 1000, 2047, 2048, 4096, 8192, chance(5) ? 1000000 : 70000);
	my $what = int rand 5;

	return pick('a', 'z', '_', '9') x $length if $what == 0;
	return substr("\xc3\xa9" x $length, 0, $length) if $what == 1;
	return "\xf0\x9f\x94\x91" x int($length / 4) if $what == 2;
	return 'a' . "\xc3\xa9" x int($length / 2) if $what == 3;
	return substr(join('', map { '_' . digits(23) } 1 .. $length / 24 + 1), 0, $length);
}

sub any_text
{
	my ($pool) = @_;
	my $what = int rand 11;
	my $held = $pool->any_token;

	return $odd[ int rand @odd ] if $what < 4;
	return long() if $what < 6;
	return made_up() if $what < 7;
	return token($pool) if $what < 9;
	# cut off to what fits into a name
	return substr($held->{text}, 0, 46 + int rand 18) if $what < 10 && $held;
	return pick('see ', '(', '=', 'x_') . token($pool) . pick('', ')', ' end', '&a=b');
}

# --- the other types ----------------------------------------------------

my $deep = 400;
my @json = (
	'{}', '{"team": "billing"}', '{"a": [1, 2, {"b": null}]}', '[]', '[{}]', 'null', 'true', '1', '"text"', '{"a": 1, "a": 2}',
	'{"": ""}', '{"a": "\u0000"}', '{"a": "\ud83d\udd11"}', '{"a": "\ud83d"}', '{"a": 1e400}', '{"a": ' . '9' x 3000 . '}',
	'{"a": "' . 'x' x 4000 . '"}', '{"a": "' . 'x' x 4100 . '"}', '{"a": "' . 'x' x 1000000 . '"}',
	'{"a":' x $deep . '1' . '}' x $deep, '{"a":' . '[' x 6000 . ']' x 6000 . '}', '[' x 100000,
	'', '{', '{"a"}', '{a: 1}', 'nul', "{\"\xff\": 1}", '{"a": "' . made_up() . '"}');

my %by_type = (
	text => \&any_text,
	boolean => sub { pick('t', 'f', 'true', 'no', 'maybe', '', '2') },
	integer => sub {
		pick(1, 1, 2, 10, 1000, 10000, 0, -1, 2147483647, -2147483648, 2147483648, '1.5', '', 'x', '1e3', ' 7 ');
	},
	bigint => sub { pick(0, 1, -1, '9223372036854775807', '-9223372036854775808', '9223372036854775808', 'x') },
	bytea => sub { pick('', '\\x', '\\x00', '\\x0', '\\xzz', '\\', 'x', '\\x' . '00' x 31, '\\x' . 'ff' x 33, '\\x' . 'ab' x 100000) },
	jsonb => sub { pick(@json) },
	interval => sub {
		pick(
			'0', '1 second', '5 seconds', '1 minute', '5 minutes', '1 hour', '1 microsecond', '-1 microsecond', '-1 second',
			'-1 mon +30 days', '1 mon -30 days', '-30 days 1 mon', '178000000 years', '-178000000 years',
			'2147483647 days', '-2147483648 days', '2147483647 months', '2562047788:00:54.775807', '-2562047788:00:54.775808',
			'2147483647 months 2147483647 days 2562047788:00:54', 'infinity', '-infinity', 'P1Y2M3DT4H', '1 fortnight', '',
			'1.5 days', 'x');
	},
	'timestamp with time zone' => sub {
		return pick('now', 'tomorrow') if chance(40);
		return pick(
			'infinity', '-infinity', 'epoch', 'yesterday', '2000-01-01', '1999-12-31 23:59:60+00', '4714-11-24 00:00:00+00 BC',
			'4714-11-23 23:59:59+00 BC', '294276-12-31 23:59:59.999999+00', '294277-01-01 00:00:00+00', '2020-02-30',
			'2024-02-29 12:00:00-15:59', 'now junk', '', 'x', '20200101T000000Z');
	},
	uuid => sub {
		my ($pool) = @_;
		return $pool->any_id if !chance(4);
		return pick(
			'00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff',
			'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', 'a0eebc999c0b4ef8bb6d6bb9bd380a11', '', 'x', '0');
	},
	'text[]' => sub {
		my ($pool) = @_;
		return pick(
			'{}', '{NULL}', '{NULL,a}', '{{a,b},{c,d}}', '{{{{{{a}}}}}}', '[5:6]={a,b}', '[-2147483648:-2147483647]={a,b}',
			'[0:0]={NULL}', '[2147483646:2147483646]={a}', '[1:2][3:3]={{a},{b}}', '{{},{}}', '{', '{{a},{b,c}}', '{a,}',
			'[1:0]={}', 'x', '', '{""}', '{"a b"}', "{\"\xff\"}", '{' . join(',', ('a') x 20000) . '}',
			'{' . 'x' x 1000000 . '}') if !chance(3);
		return array_of(map { chance(10) ? undef : any_text($pool) } 1 .. pick(1, 1, 2, 3, 20));
	});

# --- by the argument's name ---------------------------------------------

my @scopes = qw(orders:read orders:write users:read a:b x);
my $public_key = do { local (@ARGV, $/) = "$FindBin::RealBin/../public_key.asc"; <> };

# A value that makes sense there; undef where no name helps.  For a list of
# tokens their texts, too.
sub sensible
{
	my ($name, $pool) = @_;

	# of the arguments of one call, those that belong together do
	$pool->{last} = $pool->any_token if $name =~ /^tokens?$/;
	if ($name eq 'tokens')
	{
		my @list = map { chance(10) ? undef : token($pool) } 1 .. pick(0, 1, 2, 5, 50);
		return (array_of(@list), \@list);
	}
	return chance(3) || !$pool->{last} ? token($pool) : $pool->{last}{text} if $name eq 'token';
	return $pool->{last}{key} if $name eq 'rotation_key' && $pool->{last} && !chance(5);
	return token($pool) if $name eq 'rotation_key';
	return pick('f', 'f', 't') if $name =~ /^(?:family|blocked)$/;
	return pick(map { "client $_" } 1 .. 12) if $name eq 'client_id';
	return pick(qw(default internal partner mobile low_latency fuzz_short fuzz_key fuzz_aged fuzz_scoped fuzz_risk fuzz_sealed))
	  if $name eq 'policy';
	return $public_key if $name eq 'public_key';
	return array_of(grep { chance(3) } @scopes) if $name eq 'scopes';
	return pick(@scopes) if $name eq 'scope';
	return pick('{}', '{"team": "billing"}', '{"classification": "secret"}') if $name eq 'metadata';
	return pick('1 second', '1 minute', '10 minutes', '0') if $name eq 'by';
	return pick('1 second', '0', undef, undef, undef, undef) if $name =~ /^(?:ttl|overlap)$/;
	return pick('fuzz_spare_1', 'fuzz_spare_2', 'fuzz spare "3"') if $name =~ /^(?:role|realm|from|to)$/;
	return pick(qw(validator issuer operator auditor)) if $name eq 'preset';
	return pick(undef, undef, '\\x' . 'ab' x 32) if $name eq 'saved_head';
	return pick(qw(siem web-hooks siem_2)) if $name eq 'consumer';
	return pick('1 hour', '1 day') if $name eq 'within';
	return pick('trk', 'a1', 'abcdefghijklmno') if $name eq 'prefix';
	return pick(qw(active rotating revoked expired)) if $name eq 'status';
	return 'fuzz_realm' if $name eq 'owner';
	return pick('yesterday', 'now', 'tomorrow', undef) if $name =~ /^(?:issued|expires|rotated|overlap_ends)_at$/;
	return undef if $name =~ /^(?:reason|origin|source)$/ && chance(3);
	return pick('laptop stolen', '10.0.0.1', any_text($pool)) if $name =~ /^(?:reason|origin|source)$/;
	return;
}

# A value for an argument: undef is NULL.  The second, where there is one, is
# the list behind an array.
sub value
{
	my ($name, $type, $pool, $sensible) = @_;
	my $make = $by_type{$type} // sub { pick('', '0', '1', 'x', '{}', "\xff") };
	my @sensible = $sensible || !chance(3) ? sensible($name, $pool) : ();

	return undef if !$sensible && chance(6);
	return @sensible if @sensible;
	return $make->($pool);
}

1;

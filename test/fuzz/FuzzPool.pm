# The tokens that test/fuzz/sql was given, what it knows of each, and whether a
# text gives one of their secrets away.
#
# A token is `held` from its commit on; before that it is `new`, and when its
# transaction was rolled back a `ghost`.  It is `dead` once somebody's end of it
# was committed, `foreign` where it belongs to the realm that nobody is in.  Of
# those three none may be accepted.
package FuzzPool;

use strict;
use warnings FATAL => 'all';

# Any 20 characters in a row hold one of these windows, because there is one
# every 4 characters.
my $window = 17;
my $stride = 4;
my $id_chars = 22;

sub new
{
	return bless { tokens => {}, ids => [], windows => {} }, shift;
}

# Remember the secret of a text, the check included.
sub learn
{
	my ($self, $text) = @_;
	my $secret = substr($text, 1 + $id_chars + index $text, '_');

	for (my $at = 0; $at + $window <= length $secret; $at += $stride)
	{
		$self->{windows}{ substr($secret, $at, $window) } = 1;
	}
	return;
}

# Take a token in, by its columns: text, key, id, family, client, owner, policy.
# A text that is known by its id already (a replay, a new secret) joins it.
sub take
{
	my ($self, %token) = @_;
	my $old = $self->{tokens}{ $token{id} };

	$self->learn($_) for grep { defined } @token{qw(text key)};
	if ($old)
	{
		$old->{bodies}{ body($token{text}) } = 1;
		$old->{text} = $token{text};
		$old->{key} = $token{key};
		return $old;
	}
	$token{state} = 'new';
	$token{bodies}{ body($token{text}) } = 1;
	$self->{tokens}{ $token{id} } = \%token;
	push @{ $self->{ids} }, $token{id};
	$self->{tokens}{ $token{predecessor} }{rotated} = 1
	  if defined $token{predecessor} && $self->{tokens}{ $token{predecessor} };
	return \%token;
}

# What of a text takes part in validation.
sub body
{
	return substr($_[0], -71);
}

# One of these, mostly of the newest, and mostly one that is likely to be live:
# not rotated yet, or for windows just rotated.
sub some_id
{
	my ($self, $windows) = @_;
	my $ids = $self->{ids};
	my $from = rand() < 0.8 && @$ids > 40 ? @$ids - 40 : 0;
	my $tries = rand() < 0.7 ? 10 : 1;
	my $id;

	return unless @$ids;
	while ($tries-- > 0)
	{
		$id = $ids->[ $from + int rand(@$ids - $from) ];
		my $token = $self->{tokens}{$id};
		last if $token->{state} =~ /^(?:held|new)$/ && ($windows xor !$token->{rotated});
	}
	return $id;
}

sub any_token
{
	my ($self) = @_;
	my $id = $self->some_id(rand() < 0.2) // return;

	return $self->{tokens}{$id};
}

sub any_id
{
	return $_[0]->some_id(rand() < 0.6) // '00000000-0000-0000-0000-000000000001';
}

sub by_id
{
	my ($self, $id) = @_;
	return defined $id ? $self->{tokens}{$id} : undef;
}

# Those that fit.
sub those
{
	my ($self, $test) = @_;
	return grep { $test->($_) } values %{ $self->{tokens} };
}

# Does the text hold 20 characters in a row of a secret?  The characters of that
# secret then, else the empty text.
sub tells
{
	my ($self, $text) = @_;

	while ($text =~ /([0-9A-Za-z]{$window,})/g)
	{
		my $run = $1;
		for my $at (0 .. length($run) - $window)
		{
			my $part = substr($run, $at, $window);
			return $part if $self->{windows}{$part};
		}
	}
	return '';
}

1;

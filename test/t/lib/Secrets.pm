# Looks for what clients keep secret: any 20 consecutive characters of what
# follows the id in a token or rotation key.
package Secrets;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Find ();

our @EXPORT = qw(secret_pattern windows files_with);

my $telling = 20;

# All such pieces of these tokens.
sub windows
{
	my %windows;

	for my $token (@_)
	{
		my ($secret) = $token =~ /_[0-9A-Za-z]{22}([0-9A-Za-z]{49})$/ or die 'this is no token';
		$windows{ substr $secret, $_, $telling } = 1 for 0 .. length($secret) - $telling;
	}
	return sort keys %windows;
}

# A pattern that finds one.
sub secret_pattern
{
	my $any = join '|', windows(@_);

	return qr/$any/;
}

# The files below these folders that hold one of some byte strings of one length,
# and how many bytes were searched in how many files.
sub files_with
{
	my ($strings, @folders) = @_;
	my %have = map { $_ => 1 } @$strings;
	my $any = join '|', map { quotemeta } sort keys %have;
	my $pattern = qr/($any)/;
	my ($bytes, $files, @hits) = (0, 0);

	File::Find::find({ no_chdir => 1, wanted => sub {
		return unless -f;
		# what a running server removes meanwhile held nothing then
		open my $in, '<:raw', $_ or return;
		local $/;
		my $text = <$in> // '';
		$bytes += length $text;
		$files++;
		push @hits, $File::Find::name if $text =~ $pattern;
	} }, @folders);
	return (\@hits, $bytes, $files);
}

1;

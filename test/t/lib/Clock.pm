# A wall clock for one program, or several, that a test moves while they run: clock.c.
#
#   my $clock = Clock->new($file); { local %ENV = (%ENV, $clock->env); ... }
#   $clock->set($us, 0)    so many microseconds from the true time
#   $clock->set($us, 1)    it stands still there, so long after 1970
package Clock;

use strict;
use warnings FATAL => 'all';

use FindBin;

# The file holds the number that clock.c reads; the library lies beside it.
sub new
{
	my ($class, $file) = @_;
	my $self = bless { file => $file }, $class;

	system($ENV{CC} // 'cc', '-O2', '-Wall', '-Wextra', '-shared', '-fPIC', '-o', "$file.so",
		"$FindBin::RealBin/lib/clock.c") == 0
	  or die 'the clock does not compile';
	$self->set(0, 0);
	return $self;
}

# The environment of its programs.
sub env
{
	my ($self) = @_;

	return (LD_PRELOAD => "$self->{file}.so", TR_CLOCK => $self->{file});
}

# In place, for it is mapped.
sub set
{
	my ($self, $us, $still) = @_;

	open my $out, -e $self->{file} ? '+<' : '>', $self->{file} or die "$self->{file}: $!";
	syswrite $out, pack('q', $us * 2 + $still);
	close $out or die "$self->{file}: $!";
	return;
}

1;

# PGP keys of all kinds, made with GnuPG in a home of their own, and what was
# encrypted to them.
package Gnupg;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Temp qw(tempdir);
use IPC::Run qw(run);

our @EXPORT = qw(gnupg_home gpg make_key add_subkey fingerprint subkey_fingerprint public_key decrypt);

my $home;

# A home for keys, short enough for the sockets of gpg-agent.
sub gnupg_home
{
	$home = tempdir('gpgXXXXXX', DIR => '/tmp', CLEANUP => 1);
	$ENV{GNUPGHOME} = $home;
	open my $conf, '>', "$home/gpg.conf" or die "$home: $!";
	print $conf "allow-weak-key-signatures\n";
	close $conf or die "$home: $!";
	return $home;
}

END
{
	my $status = $?;
	run [ qw(gpgconf --kill all) ], \undef, \my $out, \my $err if $home;
	$? = $status;
}

# Run gpg with arguments and an input; what it answers.
sub gpg
{
	my ($input, @arguments) = @_;
	my ($out, $err);

	run [ qw(gpg --batch --yes --quiet --no-tty --pinentry-mode loopback --passphrase), '', @arguments ],
	  \$input, \$out, \$err or die "gpg @arguments: $err";
	return $out;
}

# A key for signing by a name of its own; how long it lives, at what time it is made.
sub make_key
{
	my ($name, $algorithm, $lives, @more) = @_;

	gpg('', @more, '--quick-generate-key', "$name <$name\@example.com>", $algorithm, 'sign,cert', $lives // 'never');
	return;
}

# A subkey for encryption.
sub add_subkey
{
	my ($name, $algorithm, $lives, @more) = @_;

	gpg('', @more, '--quick-add-key', fingerprint($name), $algorithm, 'encr', $lives // 'never');
	return;
}

sub fingerprint
{
	my ($name) = @_;

	return (gpg('', '--with-colons', '--list-keys', "$name\@example.com") =~ /^fpr:+([0-9A-F]{40}):/m)[0];
}

# Of the newest subkey, which is what messages are encrypted to.
sub subkey_fingerprint
{
	my ($name) = @_;
	my $list = gpg('', '--with-colons', '--with-subkey-fingerprint', '--list-keys', "$name\@example.com");

	return ($list =~ /^sub:[^\n]*\n(?:grp[^\n]*\n)?fpr:+([0-9A-F]{40}):/mg)[-1];
}

# What its owner would hand over.
sub public_key
{
	my ($name) = @_;

	return gpg('', '--armor', '--export', "$name\@example.com");
}

sub decrypt
{
	my ($message) = @_;

	return gpg($message, '--decrypt');
}

1;

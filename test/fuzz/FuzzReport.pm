# What test/fuzz/sql found and how it says so: things that must not be, in
# errors, in the server's log, in its relations and in its WAL.
package FuzzReport;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use FuzzPool;

our @EXPORT_OK =
  qw(%now %found %states $pool finding look_at_error look_at_log look_at_relations look_at_rules look_at_wal);

# The tokens that the fuzzer was given.
our $pool = FuzzPool->new;

# What is being done: calls so far, caller, statement and values; and of the
# transaction, whether it may meet a serialization failure and whether its realm is set.
our %now = (calls => 0, caller => '', sql => '', values => []);

our %states;    # errors by SQLSTATE
our %found;     # findings by kind

# Classes of SQLSTATE that say "you did it wrong", or "not now".
my $misuse = qr/^(?:0A|0L|0P|22|25|28|34|39P01|3D|3F|42|53|54|55|57014|PGRST)/;
my $crash =
  qr/PANIC: |TRAP: |terminated by signal|Sanitizer: |runtime error: |"token_rotation \w+".* exited with|reinitializing/;

# A value on one line.
sub shown
{
	my ($value) = @_;

	return 'NULL' unless defined $value;
	my $more = length $value > 200 ? sprintf('... (%d bytes)', length $value) : '';
	$value = substr($value, 0, 200);
	$value =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge;
	return "'$value'$more";
}

# Something that must not be; the first few of each kind are told with the call.
sub finding
{
	my ($kind, $what) = @_;

	return if $found{$kind}++ >= 3;
	print "# $kind: ", shown($what), "\n#   call $now{calls}, $now{caller}: $now{sql}\n";
	print '#   $', $_ + 1, ' = ', shown($now{values}[$_]), "\n" for 0 .. $#{ $now{values} };
	return;
}

# An error: is it one that the caller deserved, and does it keep secrets?
sub look_at_error
{
	my ($state, $text) = @_;

	$states{$state}++;
	finding('a secret in a message', $text) if $pool->tells($text);
	return if $state =~ $misuse || ($state eq '40001' && $now{serializable});
	finding($state =~ /^XX/ ? 'an internal error' : 'an error of the wrong kind', "$state $text");
	return;
}

# What is new in the server's log.
my $read = 0;

sub look_at_log
{
	my ($path) = @_;

	open my $log, '<:raw', $path or die "$path: $!\n";
	seek $log, $read, 0;
	@now{qw(sql values)} = ('or one before it', []);
	while (my $line = <$log>)
	{
		chomp $line;
		finding('a secret in the log', $line) if $pool->tells($line);
		finding('a crash', $line) if $line =~ $crash;
		finding('an internal error in the log', $line) if $line =~ /^\S+ \S+ \S+ \[\d+\] .* XX\w{3} /;
		$read = tell $log;
	}
	return;
}

# Whatever the server shows: statistics, settings, and the extension's tables.
# Returns how many relations that are.
sub look_at_relations
{
	my ($dbh) = @_;
	my $names = $dbh->selectcol_arrayref(q{
		SELECT oid::regclass::text FROM pg_class
		WHERE relkind IN ('r', 'v') AND (relname ~ '^pg_(stat|settings|prepared|cursors|locks)'
			OR relnamespace = 'token_rotation'::regnamespace)});

	for my $name (@$names)
	{
		my $sth = $dbh->prepare("SELECT x::text FROM $name x");

		@now{qw(sql values)} = ("SELECT * FROM $name", []);
		$sth->execute or next;
		while (my ($row) = $sth->fetchrow_array)
		{
			finding('a secret in a relation', "$name: $row") if $pool->tells($row // '');
		}
	}
	return scalar @$names;
}

# The rules of sql_after.sql, in the midst of it: what is wrong now may be put
# right when a window ends.
my $rules = do { local (@ARGV, $/) = "$FindBin::RealBin/sql_after.sql"; <> };

sub look_at_rules
{
	my ($dbh) = @_;
	my $rows;

	@now{qw(sql values)} = ('or one before it', []);
	# the session may be left with odd settings, a statement_timeout among them
	1 until $dbh->do('RESET ROLE') && $dbh->do('RESET ALL') && ($rows = $dbh->selectall_arrayref($rules));
	for my $row (@$rows)
	{
		finding('a broken rule', "$row->[0]: $row->[1] times") if $row->[1];
	}
	return;
}

# The write-ahead log, as it lies there.  Returns how many bytes that are.
sub look_at_wal
{
	my ($dbh) = @_;
	my ($dir) = $dbh->selectrow_array(q{SELECT current_setting('data_directory')});
	my $bytes = 0;

	@now{qw(sql values)} = ('the write-ahead log', []);
	for my $file (glob "$dir/pg_wal/0*")
	{
		open my $in, '<:raw', $file or next;
		my $content = do { local $/; <$in> };
		my $part = $pool->tells($content);

		finding('a secret in the write-ahead log', "$file: $part") if $part;
		$bytes += length $content;
	}
	return $bytes;
}

1;

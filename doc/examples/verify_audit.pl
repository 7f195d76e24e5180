#!/usr/bin/perl
#
# Checks the seals of an audit trail without the extension: reads the two tables
# with psql, and computes every hash itself, as doc/audit.md describes it.
#
#   verify_audit.pl [--head HEX] [PSQL-ARGUMENT ...]
#
# For example, as a role that has the preset auditor:
#
#   verify_audit.pl --head 5f3c... -h db.example.org -U auditor shop
#
# Prints one line, the columns of what tr_audit_verify() would answer with | between
# them: valid, problem, segment, seal, first_bad_seq, seals, rows, pruned, unsealed.
# Exits with 0 where the trail is what it was, with 1 where it is not, with 2 where it
# could not be read.
# The hashes of all rows are kept in memory, about 200 bytes a row.

use strict;
use warnings;
use Digest::SHA qw(sha256);
use Encode qw(encode find_encoding);

sub give_up
{
	print STDERR "verify_audit.pl: @_\n";
	exit 2;
}

give_up('usage: verify_audit.pl [--head HEX] [PSQL-ARGUMENT ...]') if grep { /^(?:-\?|--help|-V|--version)/ } @ARGV;
my $head = '';
if (@ARGV && $ARGV[0] eq '--head')
{
	(undef, $head) = splice @ARGV, 0, 2;
	give_up('a head has 64 hexadecimal digits') if ($head // '') !~ /^[0-9a-f]{64}$/i;
	$head = pack 'H*', $head;
}

# --- the format ---------------------------------------------------------

my %label = map { $_ => "token_rotation audit $_ v1" } qw(row list seal);

# One field: undef is NULL, a reference a text that has no form in UTF-8.
sub field
{
	my ($bytes) = @_;
	return "\x02" . pack('N', length $$bytes) . $$bytes if ref $bytes;
	return defined $bytes ? "\x01" . pack('N', length $bytes) . $bytes : "\x00";
}

sub int8 { return pack 'q>', shift }

sub hash_of
{
	my ($label, @fields) = @_;
	return sha256(join '', map { field($_) } $label, @fields);
}

sub list_hash
{
	my ($seqs, $hashes) = @_;
	return sha256(field($label{list}) . join '', map { int8($seqs->[$_]) . $hashes->[$_] } 0 .. $#$seqs);
}

# Does a snapshot show this transaction?
sub shows
{
	my ($snapshot, $xid) = @_;
	my (undef, $xmax, $in_progress) = split /:/, $snapshot;
	return $xid < $xmax && !grep { $_ == $xid } split /,/, $in_progress // '';
}

# --- reading ------------------------------------------------------------

# PostgreSQL's names of encodings, and Perl's where they differ by more than case.
my %perl_name = (LATIN5 => 'iso-8859-9', LATIN6 => 'iso-8859-10', LATIN7 => 'iso-8859-13', LATIN8 => 'iso-8859-14',
	LATIN9 => 'iso-8859-15', LATIN10 => 'iso-8859-16', KOI8R => 'koi8-r', KOI8U => 'koi8-u',
	EUC_JP => 'euc-jp', EUC_KR => 'euc-kr', EUC_CN => 'euc-cn');

# A text of the database in UTF-8, or a reference to its bytes where that cannot be.
sub utf8_of
{
	my ($bytes, $encoding) = @_;
	return $bytes if !defined $bytes || $bytes !~ /[\x80-\xff]/ || $encoding eq 'UTF8';
	my $name = $encoding eq 'SQL_ASCII' ? 'UTF-8'
	  : $perl_name{$encoding} // $encoding =~ s/^LATIN([1-4])$/iso-8859-$1/r =~ s/^ISO_8859_/iso-8859-/r =~ s/^WIN/cp/r;
	my $codes = find_encoding($name) or give_up("unknown encoding $encoding");
	my $text = eval { $codes->decode(my $copy = $bytes, Encode::FB_CROAK) };
	return \$bytes if !defined $text || ($name ne 'UTF-8' && $text =~ /\x{FFFD}/);
	return encode('UTF-8', $text);
}

# Each field in SQL, as its bytes; texts as they are.
sub text { return "convert_to($_[0], current_setting('server_encoding'))" }
my @row = (
	'int8send(seq)', 'timestamptz_send(at)', (map { text($_) } qw(event client_id owner)), 'token_ref', 'successor_ref',
	(map { text($_) } qw(actor role application_name client_addr::text origin reason detail::text)),
	'xid8send(xid)', 'int8send(segment)');
my @texts = grep { $row[$_] =~ /^convert_to/ } 0 .. $#row;
my @seal = (
	'int8send(segment)', 'int8send(seal)', 'int8send(version)', 'timestamptz_send(at)', 'previous', 'restored',
	'int8send(covers)', q{convert_to(snapshot::text, 'UTF8')}, 'int8send(complete::int)', 'int8send(rows)',
	(map { "CASE WHEN rows > 0 THEN $_ END" } 'int8send(first_seq)', 'int8send(last_seq)', 'timestamptz_send(newest_at)'),
	'list_hash');

sub hex_of
{
	return join ', ', map { "encode($_, 'hex')" } @_;
}

# One line a seal and a row: plain values, then fields; \N is NULL.
my $seals = 'SELECT segment, seal, version, covers, snapshot, complete, rows, '
  . "encode(timestamptz_send(newest_at), 'hex'), array_to_string(seqs, ','), encode(row_hashes, 'hex'), encode(hash, 'hex'), "
  . hex_of(@seal) . ' FROM token_rotation.audit_seal ORDER BY segment, seal';
my $rows = 'SELECT seq, segment, xid, CASE event WHEN \'audit_pruned\' THEN detail ->> \'before_us\' END, '
  . hex_of(@row) . ' FROM token_rotation.audit';

# One session, one snapshot; first comes the encoding, a line says where the rows begin.
sub read_tables
{
	open my $in, '-|', 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-c', 'SET search_path = pg_catalog',
	  '-c', 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', '-c', 'SHOW server_encoding', '-c', "COPY ($seals) TO STDOUT",
	  '-c', '\echo rows', '-c', "COPY ($rows) TO STDOUT", @ARGV
	  or give_up("psql: $!");
	my (@seals, %rows, $in_rows);
	chomp(my $encoding = <$in> // '');
	give_up('psql does not answer as expected') unless $encoding =~ /^\w+$/;
	while (<$in>)
	{
		chomp;
		if ($_ eq 'rows') { $in_rows = 1; next }
		my @columns = map { $_ eq '\N' ? undef : $_ } split /\t/, $_, -1;
		my @plain = splice @columns, 0, $in_rows ? 4 : 11;
		my @bytes = map { defined $_ ? pack('H*', $_) : undef } @columns;
		if ($in_rows)
		{
			$_ = utf8_of($_, $encoding) for @bytes[@texts];
			$rows{ $plain[0] } = { segment => $plain[1] // '', xid => $plain[2], before => $plain[3],
				hash => hash_of($label{row}, @bytes) };
			next;
		}
		my %seal;
		@seal{qw(segment seal version covers snapshot complete rows newest seqs row_hashes hash)} = @plain;
		@seal{qw(previous restored list_hash)} = @bytes[ 4, 5, 13 ];
		$seal{fields} = \@bytes;
		$seal{hash} = pack 'H*', $seal{hash};
		$seal{newest} = unpack 'q>', pack 'H*', $seal{newest} if defined $seal{newest};
		$seal{seqs} = [ split /,/, $seal{seqs} ] if defined $seal{seqs};
		$seal{row_hashes} = [ unpack '(a32)*', pack 'H*', $seal{row_hashes} ] if defined $seal{row_hashes};
		push @seals, \%seal;
	}
	close $in or exit 2;
	return (\@seals, \%rows);
}

# --- checking -----------------------------------------------------------

my ($all, $trail) = read_tables();
my %count = map { $_ => 0 } qw(seals rows pruned unsealed);
my %exists = map { $_->{hash} => 1 } @$all;
my ($pruned_before) = sort { $b <=> $a } map { $_->{before} =~ /^-?\d{1,18}$/ ? $_->{before} : () }
  grep { defined $_->{before} } values %$trail;

# What is wrong with a seal, and with which row; nothing: it is good.
sub check_seal
{
	my ($seal, $before) = @_;

	return 'seal of an unknown version' if $seal->{version} != 1;
	return 'seal changed' if $seal->{hash} ne hash_of($label{seal}, @{ $seal->{fields} });
	return 'seal missing' if $seal->{seal} != ($before ? $before->{seal} + 1 : 1);
	return 'link broken' if ($seal->{previous} // '') ne ($before ? $before->{hash} : '');
	return 'restored head missing' if defined $seal->{restored} && !$exists{ $seal->{restored} };
	$count{seals}++;

	if ($seal->{rows} > 0 && !defined $seal->{seqs} && !defined $seal->{row_hashes})
	{
		$count{pruned} += $seal->{rows};
		return if defined $pruned_before && $seal->{newest} < $pruned_before;
		return 'rows removed without an event';
	}
	my ($seqs, $hashes) = ($seal->{seqs} // [], $seal->{row_hashes} // []);
	return 'list changed'
	  if @$seqs != $seal->{rows} || @$hashes != $seal->{rows} || $seal->{list_hash} ne list_hash($seqs, $hashes);
	for my $i (0 .. $#$seqs)
	{
		my $row = $trail->{ $seqs->[$i] } or return ('row missing', $seqs->[$i]);
		return ('row changed', $seqs->[$i]) if $row->{hash} ne $hashes->[$i];
		$row->{sealed} = 1;
		$count{rows}++;
	}
	return;
}

# A row that no seal lists waits for one, unless its transaction was sealed.
sub check_unlisted
{
	my %last;    # by segment: what is sealed of it; undef is everything
	for my $seal (grep { $_->{complete} eq 't' } @$all)
	{
		my $covers = $seal->{covers} // '';
		$last{$covers} = $seal->{snapshot} unless exists $last{$covers} && !defined $last{$covers};
	}
	my @unlisted = sort { $a <=> $b } grep { !$trail->{$_}{sealed} } keys %$trail;
	$count{unsealed} = @unlisted;
	for my $seq (@unlisted)
	{
		my ($segment, $xid) = @{ $trail->{$seq} }{qw(segment xid)};
		next unless exists $last{$segment};
		return ('row added', $seq) if !defined $last{$segment} || shows($last{$segment}, $xid);
	}
	return;
}

my ($problem, $seq, $where, $before);
for my $seal (@$all)
{
	undef $before if $before && $before->{segment} != $seal->{segment};
	($problem, $seq) = check_seal($seal, $before);
	$where = $seal if $problem;
	last if $problem;
	$before = $seal;
}
($problem, $seq) = check_unlisted() unless $problem;
$problem = 'saved head missing' if !$problem && $head ne '' && !$exists{$head};

print join('|', $problem ? 'f' : 't', $problem // '', $where ? @$where{qw(segment seal)} : ('', ''), $seq // '',
	@count{qw(seals rows pruned unsealed)}), "\n";
exit($problem ? 1 : 0);

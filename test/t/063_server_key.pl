# The server key: what a database writer without it cannot do.
#
#  1. A key file that cannot be trusted or read is not: others' access, no file,
#     every kind of wrong text.  The server runs, the log says why and tells no
#     byte of a key; nothing is issued, and no keyed token accepted.  After a reload
#     with a good one all is well.  A reload with a bad one leaves the keys of before.
#  2. Tokens are made under the highest number, which key_id tells; after a new key
#     is added, successors too; the keys before it verify.
#  3. Who writes the tables neither mints nor widens: a hash copied, scopes, times,
#     client, family, id or key changed, the key dropped, the rotation key swapped,
#     dropped or taken from elsewhere; in token and in token_cache; each refused when
#     validated, rotated, revoked, rotated by id, and fetched again.
#  4. What may change does not matter: metadata, owner, an overlap that is extended,
#     a vanished cache, the encoding of another database.
#  5. A key that is gone: its tokens answer disabled, nothing is issued under it, one
#     line in the log for any number of refusals; revoking by id works; put back it
#     verifies again.
#  6. Tokens without a key: accepted until accept_unkeyed_until, as the setting says
#     now, not later; rotated into the key; refused without it.
#  7. key_command: run once at each start and reload, by no session; its failure; file
#     and command together.
#  8. Under load keys are added with reloads, and no call is refused.
#  9. After a crash the keys are there again.
# 10. A standby needs the keys, and so does the cluster that a dump is restored into.
# 11. Columns that an update adds behind those of somebody serve as any other.
# 12. The commands of doc/operations.md do what it says.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Digest::SHA qw(sha256_hex);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my %keys = map { $_ => sha256_hex("key $_ of this test") } 1 .. 40;
my $folder = PostgreSQL::Test::Utils::tempdir();
my $file = "$folder/keys";

# Write a key file: text, or a list of numbers.
sub write_file
{
	my ($text, $mode, $to) = @_;

	$text = join('', map { "$_ $keys{$_}\n" } @$text) if ref $text;
	$to //= $file;
	unlink $to;
	open my $out, '>', $to or die "$to: $!";
	print $out $text;
	close $out or die "$to: $!";
	chmod $mode // 0600, $to or die "$to: $!";
	return;
}

sub reload
{
	my ($node, %setting) = @_;

	set_conf($node, %setting);
	return;
}

# windows that are open stay so, however slow the machine is
my $long_windows = "UPDATE token_rotation.policy SET overlap = '1 hour', replay_window = '1 hour' WHERE name IN ('default', 'partner')";

# Everything that a server logged, over all of this test: no key may be in it.
my @nodes;

sub node
{
	my ($name, %option) = @_;
	my $node = new_node($name, %option);

	push @nodes, $node;
	return $node;
}

write_file([1]);
my $node = node('keyed', conf => "token_rotation.key_file = '$file'\ntoken_rotation.leeway = 0\nautovacuum = off\n");

sub key_of
{
	my ($token, $db) = @_;

	return value($node, "SELECT coalesce(key_id, 0) FROM token_rotation.token WHERE token_id = '$token->{token_id}'", $db);
}

# What tr_health says of keys.
sub told
{
	my ($of) = @_;

	return value($of, "SELECT coalesce(string_agg(r, ' '), '') FROM tr_health() h, unnest(h.reasons) r WHERE r LIKE '%key%'");
}

# Who ends a token in his hands must hear that it cannot be told whether it is one.
sub cannot_tell
{
	my ($token) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $call ("tr_revoke('$token')", "tr_report_leak('$token')")
	{
		like(error_of($node, "SELECT $call"), qr/^55000: .*the server key of this token is not at hand.*HINT: .*tr_revoke_id/s, "$call raises");
	}
	return;
}

# 1. Files
my $first = issue($node, "'first', scopes => '{read}'");
is(key_of($first), 1, 'a token is made under the key');
is(verdict($node, $first->{token}), 'ok', 'and verifies');

my $key = "1 $keys{1}\n";
for (
	[ 'no file', undef, undef, qr/could not be opened: No such file/ ],
	[ 'group access', $key, 0640, qr/has group or world access/ ],
	[ 'world access', $key, 0604, qr/has group or world access/ ],
	[ 'a folder', 'folder', undef, qr/not a regular file/ ],
	[ 'a pipe', 'pipe', undef, qr/not a regular file/ ],
	[ 'no key in it', "# nothing\n", 0600, qr/There is no key in it/ ],
	[ 'a short key', "$key\n2 " . substr($keys{2}, 1), 0600, qr/Line 3 is not a number from 1 on and 64 hexadecimal digits/ ],
	[ 'a number twice', "$key$key", 0600, qr/line 2 has the number of an earlier one/ ],
	[ 'no number', $keys{1}, 0600, qr/Line 1 is not/ ],
	[ 'too many keys', [ 1 .. 33 ], 0600, qr/more than 32 keys/ ],
	[ 'too much', $key . '#' x 8192, 0600, qr/more than 8192 bytes/ ])
{
	my ($name, $text, $mode, $why) = @$_;
	my $position = log_position($node);

	unlink $file;
	mkdir $file or die $! if ($text // '') eq 'folder';
	system('mkfifo', '-m', '600', $file) == 0 or die if ($text // '') eq 'pipe';
	write_file($text, $mode) if defined $mode;
	reload($node);
	like(join("\n", logged($node, $position)), $why, "$name: the log tells");
	is(verdict($node, $first->{token}), 'ok', 'and the key of before stays');
	is(issue($node, "'still'")->{client_id}, 'still', 'also for issuing');
	is(told($node), 'server_key_unread', 'tr_health warns');
	rmdir $file if -d $file;
}

write_file($key, 0644);
my $position = log_position($node);
$node->restart;
like(join("\n", logged($node, $position)), qr/could not read server keys from token_rotation\.key_file/, 'the server starts with a bad file');
is(verdict($node, $first->{token}), 'disabled', 'a keyed token is refused');
is(rotate($node, $first->{token})->{reason}, 'disabled', 'not rotated');
cannot_tell($first->{token});
is(told($node), 'server_key_missing', 'tr_health tells');
like(error_of($node, "SELECT tr_issue('x')"), qr/^55000: .*no server key is at hand.*HINT: /s, 'and none is issued');
chmod 0600, $file or die $!;
reload($node);
is(verdict($node, $first->{token}), 'ok', 'with a good one all is well');
is(told($node), '', 'also for tr_health');

# 2. A new key
write_file([ 1, 3, 2 ]);
reload($node);
my $third = issue($node, "'third'");
is(key_of($third), 3, 'the highest number issues');
my $next = rotate($node, $first->{token});
is(key_of($next), 3, 'and rotates');
is(key_of($first), 1, 'what was made before keeps its key');
verdicts_are($node, 'both verify', [ [ $first->{token}, 'ok' ], [ $next->{token}, 'ok' ], [ $third->{token}, 'ok' ] ]);
is(rotate($node, $first->{token})->{token}, $next->{token}, 'a rotation is replayed under it');
like(slurp_file("/proc/$node->{_pid}/smaps"),
	qr{^\S+ rw-s .*\n(?:[A-Z]\w+: .*\n)*?VmFlags:.* dd\b}m, 'the memory of the keys stays out of core dumps')
  if $^O eq 'linux';
my $session = $node->background_psql('postgres');
is($session->query_safe("SELECT reason FROM tr_validate('$third->{token}')"), 'ok', 'a session knows a key');

# 3. Changes by hand.  A victim's token with a rotation key, and the writer's own,
# whose secrets he knows.
value($node, $long_windows);

sub victim
{
	return issue($node, "'victim', 'partner', '{read,write}'");
}
my $own = issue($node, "'own', 'partner', '{read}'");
my $lower = issue($node, "'own', 'default', '{read}'");

my @changes = (
	[ 'the hash of another token', "secret_hash = (SELECT secret_hash FROM token_rotation.token WHERE token_id = '$own->{token_id}')" ],
	[ 'both hashes of another token', "(secret_hash, rotation_hash) = (SELECT secret_hash, rotation_hash FROM token_rotation.token WHERE token_id = '$own->{token_id}')" ],
	[ 'half of a hash', "secret_hash = substr(secret_hash, 1, 16) || substr((SELECT secret_hash FROM token_rotation.token WHERE token_id = '$own->{token_id}'), 17)" ],
	[ 'more scopes', "scopes = scopes || '{admin}'" ],
	[ 'fewer scopes', "scopes = '{read}'" ],
	[ 'no scopes', "scopes = '{}'" ],
	[ 'joined scopes', "scopes = '{readwrite}'" ],
	[ 'a later expiry', "expires_at = expires_at + interval '1 microsecond'" ],
	[ 'an earlier expiry', "expires_at = expires_at - interval '1 microsecond'" ],
	[ 'a later issue', "issued_at = issued_at + interval '1 microsecond'" ],
	[ 'another client', "client_id = 'boss'" ],
	[ 'another family', "family_id = '$own->{token_id}', generation = 1" ],
	[ 'no key', 'key_id = NULL' ],
	[ 'key 0', 'key_id = 0' ],
	[ 'another key', 'key_id = 1' ],
	[ 'no rotation key', 'rotation_hash = NULL' ],
	[ 'no key and a plain hash', sub { "key_id = NULL, rotation_hash = NULL, secret_hash = decode('" . sha256_hex(substr($_[0], -49, 43)) . "', 'hex')" } ]);
my $refused = 0;

for (@changes)
{
	my ($name, $set) = @$_;
	my $victim = victim();

	$set = $set->($victim->{token}) if ref $set;
	is(verdict($node, $victim->{token}), 'ok', "before: $name");
	$node->safe_psql('postgres', "UPDATE token_rotation.token SET $set WHERE token_id = '$victim->{token_id}'");
	is(verdict($node, $victim->{token}), 'bad_secret', 'not validated');
	is(rotate($node, $victim->{token}, "'$victim->{rotation_key}'")->{reason}, 'bad_secret', 'not rotated');
	is(value($node, "SELECT tr_revoke('$victim->{token}')"), 'f', 'not revoked');
	# who has no secret to show relies on the row: it is as it was where only the secret's half is not
	is(value($node, "SELECT reason FROM tr_rotate_id('$victim->{token_id}')"), $name =~ /half/ ? 'ok' : 'bad_secret', 'by id');
	$refused++;
}

# the rotation key alone: a request's token is not enough
my $guarded = victim();
for (
	[ 'that of another', "rotation_hash = (SELECT rotation_hash FROM token_rotation.token WHERE token_id = '$own->{token_id}')", $own->{rotation_key} ],
	[ 'the hash of the token', "rotation_hash = secret_hash", $guarded->{token} ],
	[ 'a plain hash', "rotation_hash = decode('" . sha256_hex(substr($own->{rotation_key}, -49, 43)) . "', 'hex')", $own->{rotation_key} ])
{
	my ($name, $set, $proof) = @$_;

	$node->safe_psql('postgres', "UPDATE token_rotation.token SET $set WHERE token_id = '$guarded->{token_id}'");
	is(rotate($node, $guarded->{token}, "'$proof'")->{reason}, 'bad_secret', "a rotation key that was swapped: $name");
	is(verdict($node, $guarded->{token}), 'ok', 'the token itself is as it was');
	$refused++;
}

# his own secret behind the victim's id
{
	my $victim = victim();
	my $body = substr($victim->{token}, -71, 22) . substr($own->{token}, -49, 43);

	for my $hash ('o.secret_hash', 'substr(v.secret_hash, 1, 16) || substr(o.secret_hash, 17)')
	{
		$node->safe_psql('postgres', "UPDATE token_rotation.token v SET secret_hash = $hash FROM token_rotation.token o"
			. " WHERE v.token_id = '$victim->{token_id}' AND o.token_id = '$own->{token_id}'");
		is(verdict($node, "trk_$body" . check_of($body)), 'bad_secret', 'his secret behind the id of another');
		$refused++;
	}
}

# made up from nothing
for (
	[ 'without a key', 'NULL', sha256_hex('0' x 43) ],
	[ 'under a key', '3', sha256_hex('0' x 43) ])
{
	my ($name, $key_id, $hash) = @$_;
	my $id = '00000000-0000-0000-0000-' . ($key_id eq 'NULL' ? '000000000001' : '000000000002');
	my $text = value($node, qq(
		INSERT INTO token_rotation.token (token_id, prefix, family_id, generation, client_id, policy, owner, status,
			secret_hash, scopes, metadata, issued_at, expires_at, refresh_at, key_id)
		SELECT '$id', prefix, '$id', 0, 'boss', policy, owner, status, decode('$hash', 'hex'), '{admin}', metadata,
			issued_at, expires_at, refresh_at, $key_id
		FROM token_rotation.token WHERE token_id = '$lower->{token_id}'
		RETURNING tr_token_display(prefix, token_id)));
	my $body = substr($text, 4) . '0' x 43;
	is(verdict($node, "trk_$body" . check_of($body)), 'bad_secret', "a token that was made up $name");
	$refused++;
}

# CRC-32 as base62
sub check_of
{
	my ($body) = @_;
	my $crc = 0xffffffff;
	my @digits = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');
	my $out = '';

	for my $byte (unpack 'C*', $body)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
	}
	$crc ^= 0xffffffff;
	for (1 .. 6)
	{
		$out = $digits[ $crc % 62 ] . $out;
		$crc = int($crc / 62);
	}
	return $out;
}

# a successor that is put in front of one's own token, to be issued anew
my $bait = issue($node, "'own', 'default', '{read}'");
my $heir = rotate($node, $bait->{token});
for (
	[ 'scopes', "scopes = '{admin}'" ],
	[ 'client', "client_id = 'boss'" ],
	[ 'expiry', "expires_at = expires_at + interval '1 day'" ],
	[ 'key', 'key_id = NULL' ])
{
	my ($name, $set) = @$_;
	my $old = issue($node, "'own', 'default', '{read}'");
	my $new = rotate($node, $old->{token});

	$node->safe_psql('postgres', "UPDATE token_rotation.token SET $set WHERE token_id = '$new->{token_id}';"
		. " UPDATE token_rotation.token_cache SET nonce = NULL WHERE token_id = '$old->{token_id}'");
	is(rotate($node, $old->{token})->{reason}, 'bad_secret', "a successor with another $name is not issued anew");
	$refused++;
}
$node->safe_psql('postgres', "UPDATE token_rotation.token_cache SET nonce = NULL WHERE token_id = '$bait->{token_id}'");
my $again = rotate($node, $bait->{token});
is("$again->{reason} $again->{replayed} $again->{token_id}", "ok 0 $heir->{token_id}", 'an honest one is');
is(verdict($node, $again->{token}), 'ok', 'and verifies');

# somebody else's successor, or an older token of the own family that could do more
$node->safe_psql('postgres', "INSERT INTO token_rotation.policy (name, overlap, replay_window) VALUES ('narrowed', '1 hour', '1 hour')");
my $boss = issue($node, "'boss', 'narrowed', '{read}'");
my $wide = issue($node, "'own', 'narrowed', '{read,admin}'");
my %theirs = ('another client' => rotate($node, $boss->{token}), 'an older one' => rotate($node, $wide->{token}));
$node->safe_psql('postgres', "UPDATE token_rotation.policy SET allowed_scopes = '{read}' WHERE name = 'narrowed'");
my $narrow = rotate($node, $theirs{'an older one'}{token});
is_deeply($narrow->{scopes}, ['read'], 'a token that can do less than those before');
for my $name (sort keys %theirs)
{
	my $id = $theirs{$name}{token_id};

	$node->safe_psql('postgres', qq{
		UPDATE token_rotation.token SET predecessor_id = NULL WHERE predecessor_id = '$narrow->{token_id}';
		UPDATE token_rotation.token SET predecessor_id = '$narrow->{token_id}', status = 'active', rotated_at = NULL, overlap_ends_at = NULL,
			replay_ends_at = NULL, first_used_at = NULL, last_used_at = NULL WHERE token_id = '$id';
		UPDATE token_rotation.token SET status = 'rotating', rotated_at = now(), overlap_ends_at = now() + '5 minutes',
			replay_ends_at = now() + '5 minutes' WHERE token_id = '$narrow->{token_id}';
		DELETE FROM token_rotation.token_cache WHERE token_id IN ('$id', '$narrow->{token_id}')});
	is(rotate($node, $narrow->{token})->{reason}, 'bad_secret', "$name as successor is not issued anew");
	is(verdict($node, $theirs{$name}{token}), 'ok', 'and its secret stays good');
	$refused++;
}

# the cache alone
my $cached = victim();
wait_trusted($node, $cached->{token}, 'the cache answers');
for (
	[ 'more scopes', "scopes = scopes || '{admin}'" ],
	[ 'a later expiry', "expires_at = expires_at + interval '1 day'" ],
	[ 'another client', "client_id = 'boss'" ],
	[ 'another family', "family_id = gen_random_uuid()" ],
	[ 'no rotation key', 'rotation_key = false' ],
	[ 'no key', 'key_id = NULL, family_id = NULL, rotation_key = NULL' ],
	[ 'the hash of another', "secret_hash = (SELECT secret_hash FROM token_rotation.token WHERE token_id = '$own->{token_id}')" ])
{
	my ($name, $set) = @$_;
	my $where = "WHERE token_id = '$cached->{token_id}'";

	$node->safe_psql('postgres', "CREATE TABLE kept AS SELECT * FROM token_rotation.token_cache $where;"
		. " UPDATE token_rotation.token_cache SET $set $where");
	is(verdict($node, $cached->{token}), 'bad_secret', "changed in the cache: $name");
	$node->safe_psql('postgres', "DELETE FROM token_rotation.token_cache $where;"
		. ' INSERT INTO token_rotation.token_cache SELECT * FROM kept; DROP TABLE kept');
	is(verdict($node, $cached->{token}), 'ok', 'and back');
	$refused++;
}
level_is($node, $cached->{token}, 'cache', 'the cache answered all the while');
note("tried: $refused forgeries, all refused");

# 4. What may change
$node->safe_psql('postgres', qq(
	CREATE ROLE others;
	UPDATE token_rotation.token SET metadata = '{"a": 1}', prefix = 'other', refresh_at = expires_at WHERE token_id = '$cached->{token_id}'));
value($node, "SELECT tr_set_owner('" . value($node, 'SELECT current_user') . "', 'others')");
is(verdict($node, $cached->{token}), 'ok', 'metadata, prefix, refresh_at and owner');
my $successor = rotate($node, $cached->{token}, "'$cached->{rotation_key}', overlap => '1 minute'");
is($successor->{reason}, 'ok', 'its rotation key is right');
value($node, "SELECT tr_extend_overlap('$cached->{token_id}', '10 minutes')");
verdicts_are($node, 'the overlap', [ [ $cached->{token}, 'ok' ], [ $successor->{token}, 'ok' ] ]);
$node->safe_psql('postgres', 'TRUNCATE token_rotation.token_cache');
verdicts_are($node, 'without the cache', [ [ $cached->{token}, 'ok' ], [ $successor->{token}, 'ok' ] ]);
wait_trusted($node, $successor->{token}, 'the worker fills it with keys');
verdicts_are($node, 'and from it', [ [ $cached->{token}, 'ok' ], [ $successor->{token}, 'ok' ] ]);

# 5. A key that is gone
write_file([ 2, 3 ]);
$position = log_position($node);
reload($node);
is(verdict($node, $first->{token}), 'disabled', 'a token under a key that is gone');
is(value($node, "SELECT DISTINCT reason FROM generate_series(1, 500) g, tr_validate(CASE WHEN g > 0 THEN '$first->{token}' END)"),
	'disabled', 'however often');
is(rotate($node, $first->{token})->{reason}, 'disabled', 'is not rotated');
is(value($node, "SELECT reason FROM tr_rotate_id('$first->{token_id}')"), 'disabled', 'by its id neither');
cannot_tell($first->{token});
is(told($node), 'server_key_missing', 'tr_health tells');
my @lines = grep { /tokens are refused because server key 1 is not at hand/ } logged($node, $position);
is(scalar @lines, 1, 'the log tells it once');
verdicts_are($node, 'others verify', [ [ $next->{token}, 'ok' ], [ $third->{token}, 'ok' ] ]);
is($session->query_safe("SELECT reason FROM tr_validate('$first->{token}')"), 'disabled', 'also in a session from before');
$session->quit;
is(key_of(issue($node, "'now'")), 3, 'nothing is issued under it');
write_file([ 1, 2 ]);
reload($node);
is(verdict($node, $first->{token}), 'ok', 'put back it verifies');
is(told($node), '', 'and tr_health is content');
is(verdict($node, $third->{token}), 'disabled', 'and of the newest, which is gone now, none');
is(key_of(issue($node, "'now'")), 2, 'the highest that is there issues');
is(value($node, "SELECT tr_revoke_id('$third->{token_id}')"), 1, 'an operator revokes what cannot be verified');
write_file([ 1, 2, 3 ]);
reload($node);
is(verdict($node, $third->{token}), 'revoked', 'which is final');

# 6. Tokens without a key
my $plain = node('plain', conf => "token_rotation.worker_nap = '500ms'\nautovacuum = off\n");
value($plain, $long_windows);
my @old = map { issue($plain, "'old $_', 'partner'") } 1 .. 4;
my $waiting = rotate($plain, $old[3]{token}, "'$old[3]{rotation_key}'");
is(value($plain, 'SELECT count(*) FROM token_rotation.token WHERE key_id IS NOT NULL'), 0, 'without a key there is none');
reload($plain, 'token_rotation.key_file' => $file);
is(verdict($plain, $old[0]{token}), 'bad_secret', 'with a key, and no more said, tokens without one are refused');
reload($plain, 'token_rotation.key_file' => "$file.away");
$plain->restart;
is(verdict($plain, $old[0]{token}), 'disabled', 'but not for good while no key could be read');
is(verdict($plain, $old[0]{rotation_key}), 'bad_secret', 'a wrong secret is that');
is(value($plain, "SELECT reason FROM tr_rotate_id('$old[0]{token_id}')"), 'disabled', 'likewise by id');
reload($plain, 'token_rotation.key_file' => $file);
is(rotate($plain, $old[0]{token}, "'$old[0]{rotation_key}'")->{reason}, 'bad_secret', 'not rotated');
is(value($plain, "SELECT tr_revoke('$old[0]{token}')"), 'f', 'not revoked');
is(value($plain, "SELECT reason FROM tr_rotate_id('$old[0]{token_id}')"), 'bad_secret', 'nor rotated by id');
reload($plain, 'token_rotation.accept_unkeyed_until' => '2200-01-01 00:00:00Z');
is(verdict($plain, $old[0]{token}), 'ok', 'until that moment they are accepted');
my $moved = rotate($plain, $old[0]{token}, "'$old[0]{rotation_key}'");
is($moved->{reason}, 'ok', 'and rotated');
is(value($plain, "SELECT key_id FROM token_rotation.token WHERE token_id = '$moved->{token_id}'"), 3, 'into the key');
is(rotate($plain, $old[0]{token}, "'$old[0]{rotation_key}'")->{token}, $moved->{token}, 'which is replayed');
value($plain, "UPDATE token_rotation.token_cache SET nonce = NULL WHERE token_id = '$old[3]{token_id}'");
my $anew = rotate($plain, $old[3]{token}, "'$old[3]{rotation_key}'");
is("$anew->{reason} $anew->{token_id}", "ok $waiting->{token_id}", 'a successor from before is issued anew');
is(value($plain, "SELECT key_id FROM token_rotation.token WHERE token_id = '$anew->{token_id}'"), 3, 'under the key');
verdicts_are($plain, 'all verify', [ map { [ $_->{token}, 'ok' ] } $moved, $anew, @old ]);
is(value($plain, "SELECT reason FROM tr_rotate_id('$old[1]{token_id}')"), 'ok', 'an operator rotates one');
is(value($plain, "SELECT tr_revoke('$old[2]{token}')"), 't', 'one is revoked');
reload($plain, 'token_rotation.accept_unkeyed_until' => '2020-01-01 00:00:00Z');
verdicts_are($plain, 'later they are not', [ [ $moved->{token}, 'ok' ], [ $anew->{token}, 'ok' ], map { [ $_->{token}, 'bad_secret' ] } @old ]);
reload($plain, 'token_rotation.key_file' => '');
like(error_of($plain, "SELECT tr_issue('x')"), qr/^55000: .*a token without a server key would be refused/, 'without a key none is issued then');
is(verdict($plain, $moved->{token}), 'disabled', 'and no keyed one verifies');
reload($plain, 'token_rotation.accept_unkeyed_until' => '');
is(issue($plain, "'x'")->{client_id}, 'x', 'unless nothing is asked for');
is(verdict($plain, $moved->{token}), 'disabled', 'keyed ones stay refused');

# 7. A command
my $command = "$folder/command";
my $calls = "$folder/calls";

sub calls
{
	return -s $calls // 0;
}
write_file("#!/bin/sh\nprintf x >> $calls\ncat $file\n", 0700, $command);
write_file([5]);
reload($plain, 'token_rotation.key_command' => $command);
is(calls(), 1, 'the command is run');
$moved = issue($plain, "'by command'");
is(value($plain, "SELECT key_id FROM token_rotation.token WHERE token_id = '$moved->{token_id}'"), 5, 'and its key issues');
is(verdict($plain, $moved->{token}), 'ok', 'and verifies') for 1 .. 3;
is(calls(), 1, 'no session has run it');
$position = log_position($plain);
reload($plain);
is(calls(), 2, 'a reload has, once');
unlike(join("\n", logged($plain, $position)), qr/server keys/, 'and what is as before is no news');
for ([ 'exit 3', qr/The command failed: child process exited with exit code 3/ ], [ 'echo nonsense', qr/Line 1 is not/ ],
	[ 'yes', qr/more than 8192 bytes|The command failed/ ],
	[ 'exec timeout -s KILL 1 sleep 1000', qr/The command failed: child process (?:was terminated by signal 9|exited with exit code 137)/ ])
{
	my ($what, $why) = @$_;

	write_file("#!/bin/sh\n$what\n", 0700, $command);
	$position = log_position($plain);
	reload($plain);
	like(join("\n", logged($plain, $position)), $why, "a command that does: $what");
	is(verdict($plain, $moved->{token}), 'ok', 'the keys of before stay');
}
write_file("#!/bin/sh\ncat $folder/printed\n", 0700, $command);
write_file([ 4, 9 ], 0600, "$folder/printed");
write_file([ 5, 6 ]);
reload($plain, 'token_rotation.key_file' => $file);
verdicts_are($plain, 'keys of both are taken', [ [ $moved->{token}, 'ok' ] ]);
my $both = issue($plain, "'both'");
is(value($plain, "SELECT key_id FROM token_rotation.token WHERE token_id = '$both->{token_id}'"), 9, 'the highest of both issues');
reload($plain, 'token_rotation.key_command' => '');
is(verdict($plain, $both->{token}), 'disabled', 'what only the command had is gone with it');
is(value($plain, "SHOW token_rotation.key_command"), '', 'it is shown to a superuser');
$plain->safe_psql('postgres', 'CREATE ROLE nobody');
like(error_of($plain, 'SET ROLE nobody; SHOW token_rotation.key_command'), qr/^42501/, 'and to nobody else');

# 8. Under load
write_file([ 1 .. 5 ]);
reload($node);
my $script = "$folder/load.sql";
write_file(q{
	\set n random(1, 1000000)
	INSERT INTO load (token) SELECT i.token FROM tr_issue('load') i;
	SELECT 1 / (count(*) FILTER (WHERE v.reason = 'ok') = count(*))::int FROM
		(SELECT token FROM load ORDER BY n DESC LIMIT 5) l, tr_validate(l.token) v;
	WITH r AS (SELECT r.token, r.reason FROM (SELECT token FROM load WHERE n <= :n % (SELECT max(n) FROM load) + 1 ORDER BY n DESC LIMIT 1) l, tr_rotate(l.token) r)
	SELECT 1 / (count(*) FILTER (WHERE r.reason = 'ok') = count(*))::int FROM r;
}, 0600, $script);
$node->safe_psql('postgres', "CREATE TABLE load (n serial PRIMARY KEY, token text); INSERT INTO load (token) SELECT token FROM tr_issue('load')");
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-t', '300', '-f', $script, $node->connstr('postgres') ],
	'>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
my $newest = 5;
while ($load->pumpable && $newest < 32)
{
	write_file([ 1 .. ++$newest ]);
	reload($node);
	is(key_of(issue($node, "'load'")), $newest, "key $newest issues");
	$load->pump_nb;
}
$load->finish;
is($err =~ /ERROR|abort/ ? $err : '', '', 'no call is refused while keys are added');
like($out, qr{number of transactions actually processed: 1200/1200}, 'and all were made');
is(value($node, "SELECT count(DISTINCT key_id) > 3 FROM token_rotation.token WHERE client_id = 'load'"), 't', 'under several keys');
note("tried: 1200 transactions, keys 5 to $newest");

# 9. A crash
my $pid = value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
ok(kill_and_wait($node, $pid), 'the server restarts itself');
is(verdict($node, $first->{token}), 'ok', 'and has its keys');
is(key_of(issue($node, "'after'")), $newest, 'the newest, too');

# 10. Standby and dump
my $primary = node('primary', streaming => 1, conf => "token_rotation.key_file = '$file'\n");
my $there = issue($primary, "'standby'");
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
push @nodes, $standby;
$standby->init_from_backup($primary, 'b', has_streaming => 1);
write_file([ 1 .. $newest ], 0600, "$folder/standby_keys");
$standby->append_conf('postgresql.conf', "token_rotation.key_file = '$folder/standby_keys'\n");
$standby->start;
# it is fresh once it has replayed a commit
issue($primary, "'another'");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(verdict($standby, $there->{token}), 'ok', 'a standby with the keys validates');
write_file([40]);
reload($primary);
my $newer = issue($primary, "'newer'");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(verdict($standby, $newer->{token}), 'disabled', 'one that the standby has not is refused there');
write_file([ 1 .. 5, 40 ], 0600, "$folder/standby_keys");
reload($standby);
is(verdict($standby, $newer->{token}), 'ok', 'until it has it');
is(verdict($standby, $there->{token}), $newest > 5 ? 'disabled' : 'ok', 'each key for itself');

my @now = map { [ $_->{token}, verdict($node, $_->{token}) ] } $first, $next, $own, $guarded, $successor;
for my $encoding ('utf8', 'latin1')
{
	$plain->safe_psql('postgres', "CREATE DATABASE r_$encoding TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
}
my $accent = issue($node, "'caf' || chr(233)");
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-Fp', '-f', "$folder/dump" ], 'a dump');
write_file([ 1 .. $newest ]);
for my $encoding ('utf8', 'latin1')
{
	reload($plain, 'token_rotation.key_file' => $file);
	$plain->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $plain->connstr("r_$encoding"), '-f', "$folder/dump" ],
		"it is restored with encoding $encoding");
	verdicts_are($plain, 'with the keys verdicts are the same', [ @now, [ $accent->{token}, 'ok' ] ], "r_$encoding");
	reload($plain, 'token_rotation.key_file' => '');
	is(verdict($plain, $first->{token}, "r_$encoding"), 'disabled', 'without them keyed tokens are refused');
}

# 11. Columns behind those of somebody
SKIP:
{
	my $earlier = value($node, q{
		SELECT version FROM pg_available_extension_versions WHERE name = 'token_rotation' AND version = '0.2'});

	skip 'there is no 0.2 to update from', 1 if $earlier eq '';
	$plain->safe_psql('postgres', 'CREATE DATABASE earlier');
	$plain->safe_psql('earlier', "SET client_min_messages = warning; CREATE EXTENSION token_rotation VERSION '0.2' CASCADE;"
		. ' ALTER TABLE token_rotation.token ADD COLUMN mine text; ALTER TABLE token_rotation.token_cache ADD COLUMN mine text;'
		. ' ALTER EXTENSION token_rotation UPDATE');
	my $old = issue($plain, "'old'", 'earlier');
	reload($plain, 'token_rotation.key_file' => $file, 'token_rotation.accept_unkeyed_until' => '2200-01-01 00:00:00Z');
	my $new = rotate($plain, $old->{token}, undef, 'earlier');
	verdicts_are($plain, 'updated, behind a column of somebody', [ [ $old->{token}, 'ok' ], [ $new->{token}, 'ok' ] ], 'earlier');
	is(value($plain, "SELECT key_id FROM token_rotation.token WHERE token_id = '$new->{token_id}'", 'earlier'), $newest, 'under the key');
}

# 12. The commands of doc/operations.md, in order, with another path.
{
	my ($text) = slurp_file('doc/operations.md') =~ /^## Server key\n(.*?)^## /ms;
	my @commands = map { s{/etc/postgresql}{$folder}gr } $text =~ /^```sh\n(.*?)^```$/msg;
	my $documented = node('documented');
	my $before = issue($documented, "'before'");
	my $path = "$folder/token_rotation.keys";
	my @made;

	local $ENV{PGHOST} = $documented->host;
	local $ENV{PGPORT} = $documented->port;
	local $ENV{PGDATABASE} = 'postgres';
	is(scalar @commands, 5, 'there are commands') or die;
	for my $i (0 .. $#commands)
	{
		command_ok([ 'bash', '-euo', 'pipefail', '-c', $commands[$i] ], "command $i runs");
		set_conf($documented);
		push @made, issue($documented, "'made'") if $i > 0;
	}
	is((stat $path)[2] & 0777, 0600, 'the file is for its owner only');
	is(join(' ', map { value($documented, "SELECT key_id FROM token_rotation.token WHERE token_id = '$_->{token_id}'") } @made),
		'1 1 2 2', 'tokens are made under the newest key');
	verdicts_are($documented, 'old ones are good until their key is taken away',
		[ [ $before->{token}, 'ok' ], [ $made[0]{token}, 'disabled' ], [ $made[2]{token}, 'ok' ], [ $made[3]{token}, 'ok' ] ]);
}

# No log has told a key.
my $all = join('', map { slurp_file($_->logfile) } @nodes);
is(scalar(grep { index($all, substr($keys{$_}, 1, 20)) >= 0 } keys %keys), 0, 'no log holds a byte of a key');

done_testing();

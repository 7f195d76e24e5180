# Sealed delivery, with real GnuPG at the other end.
#
#  1. What is encrypted in the server gpg decrypts: for RSA of 2048, 3072 and 4096
#     bits, Elgamal, a subkey of RSA under an elliptic key, the newest subkey of
#     several.  The decrypted token is valid and rotates with the decrypted key;
#     the old one is valid until its window ends.
#  2. Keys that are refused: too weak, elliptic curves only, for signing only,
#     expired, revoked, with a revoked subkey, private, several at once.
#  3. After the window's end the worker erases the message, also where the window is
#     opened by the first use.
#  4. A key that replaces another one is used only after the ttl: until then
#     deliveries go to the old one, and from then on to the new one.
#  5. A crash between the rotation and its commit leaves nothing of it: no
#     successor, no message, the old token as it was.  After the commit all stays.
#  6. A restored database delivers what waited, to the same keys.
#  7. No secret in any log or file, at the noisiest settings.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Gnupg;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Secrets;
use Test::More;
use TokenRotation;

gnupg_home();

my $libdir = (run_command([ 'pg_config', '--pkglibdir' ]))[0];
my $libraries = join ', ', (grep { -e "$libdir/$_.so" } qw(auto_explain pgaudit)), 'token_rotation';
my $node = new_node('sealed', extension => 0, conf => qq(
	shared_preload_libraries = '$libraries'
	logging_collector = on
	log_statement = all
	log_min_messages = debug1
	log_min_duration_statement = 0
	log_parameter_max_length = -1
	log_parameter_max_length_on_error = -1
	debug_print_plan = on
	token_rotation.worker_nap = '500ms'
));
if ($libraries =~ /auto_explain/)
{
	$node->append_conf('postgresql.conf', "auto_explain.log_min_duration = 0\nauto_explain.log_nested_statements = on\n");
}
if ($libraries =~ /pgaudit/)
{
	$node->append_conf('postgresql.conf', "pgaudit.log = all\npgaudit.log_parameter = on\npgaudit.log_catalog = on\n");
}
$node->restart;
install($node);
$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, ttl, overlap, refresh_before, rotation_proof, delivery) VALUES
		('sealed', '1 hour', '10 minutes', '10 minutes', 'token', 'sealed'),
		('sealed_key', '1 hour', '10 minutes', '10 minutes', 'rotation_key', 'sealed')});

my @held;

# A token that is due.
sub due
{
	my ($client, $policy) = @_;
	my $token = issue($node, literal($client) . ', ' . literal($policy // 'sealed'));

	push @held, $token->{token}, $token->{rotation_key} // ();
	$node->safe_psql('postgres',
		"UPDATE token_rotation.token SET refresh_at = issued_at WHERE token_id = '$token->{token_id}'");
	return $token;
}

# Start its rotation; the worker, who fills the cache again, may hold it at first.
sub start
{
	my $token = due(@_);

	$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM tr_rotate_due()')
	  or die 'the rotation was not started';
	return $token;
}

sub set_key
{
	my ($client, $armor) = @_;

	return value($node, 'SELECT tr_set_delivery_key(' . literal($client) . ', ' . literal($armor) . ')');
}

# What waits for a client, opened: a list.
sub opened
{
	my ($client, $on) = @_;
	my @opened = map { JSON::PP->new->decode(decrypt($_->{message})) }
	  rows($on // $node, 'SELECT * FROM tr_deliveries(' . literal($client) . ')');

	push @held, grep { defined } map { @$_{qw(token rotation_key)} } @opened;
	return @opened;
}

# 1. Round trips

make_key('rsa2048', 'rsa2048');
add_subkey('rsa2048', 'rsa2048');
make_key('rsa3072', 'rsa3072');
add_subkey('rsa3072', 'rsa3072', '1y');
make_key('rsa4096', 'rsa2048');
add_subkey('rsa4096', 'rsa4096');
make_key('elgamal', 'dsa2048');
add_subkey('elgamal', 'elg2048');
make_key('curve', 'ed25519');
add_subkey('curve', 'cv25519');
make_key('mixed', 'ed25519');
add_subkey('mixed', 'cv25519');
add_subkey('mixed', 'rsa2048');

for my $name (qw(rsa2048 rsa3072 rsa4096 elgamal mixed))
{
	set_key($name, public_key($name));
	is(value($node, "SELECT fingerprint FROM token_rotation.delivery_key WHERE client_id = '$name'"),
		subkey_fingerprint($name), "$name: the fingerprint is the one that gpg shows of the subkey");
	my $old = start($name, 'sealed_key');
	my ($got) = opened($name);
	is_deeply([ verdict($node, $old->{token}), verdict($node, $got->{token}) ], [ 'ok', 'ok' ],
		"$name: what gpg decrypts is valid, and so is the old one");
	is(rotate($node, $old->{token}, literal($old->{rotation_key}))->{reason}, 'replay_ended',
		"$name: the old token's holder is not told");
	my $next = rotate($node, $got->{token}, literal($got->{rotation_key}));
	is($next->{reason}, 'ok', "$name: and it rotates with its own key");
	push @held, $next->{token}, $next->{rotation_key};
	is_deeply([ opened($name) ], [$got], "$name: fetched again, it is the same");
}
is(value($node, q{SELECT expires_at - added_at BETWEEN '364 days' AND '366 days' FROM token_rotation.delivery_key
	WHERE client_id = 'rsa3072'}), 't', 'the end of a key is known');
is(value($node, q{SELECT count(*) FROM token_rotation.delivery_key WHERE expires_at IS NOT NULL}), 1, 'and that others have none');
make_key('several', 'rsa2048', undef, '--faked-system-time', '20240101T000000!');
add_subkey('several', 'rsa2048', undef, '--faked-system-time', '20240101T000000!');
add_subkey('several', 'rsa3072');
set_key('several', public_key('several'));
start('several');
is(verdict($node, (opened('several'))[0]->{token}), 'ok', 'of several subkeys the newest is taken');
is(value($node, q{SELECT octet_length(public_key) > 650 FROM token_rotation.delivery_key WHERE client_id = 'several'}), 't',
	'which is the longer one');

# 2. Refused

make_key('weak', 'rsa1024');
add_subkey('weak', 'rsa1024');
make_key('weak_subkey', 'rsa2048');
add_subkey('weak_subkey', 'rsa1024');
make_key('signs', 'rsa2048');
make_key('expired', 'rsa2048', '1d', '--faked-system-time', '20240101T000000!');
add_subkey('expired', 'rsa2048', '1d', '--faked-system-time', '20240101T000000!');
make_key('old_subkey', 'rsa2048', undef, '--faked-system-time', '20240101T000000!');
add_subkey('old_subkey', 'rsa2048', '1d', '--faked-system-time', '20240101T000000!');
make_key('revoked', 'rsa2048');
add_subkey('revoked', 'rsa2048');
my $revocation = slurp_file("$ENV{GNUPGHOME}/openpgp-revocs.d/" . fingerprint('revoked') . '.rev');
$revocation =~ s/^:---/---/m;
gpg($revocation, '--import');
make_key('revoked_subkey', 'rsa2048');
add_subkey('revoked_subkey', 'rsa2048');
gpg("key 1\nrevkey\ny\n0\n\ny\nsave\n", '--command-fd', 0, '--edit-key', 'revoked_subkey@example.com');

for my $case (
	[ 'weak', qr/less than 2048 bits/ ],
	[ 'weak_subkey', qr/less than 2048 bits/ ],
	[ 'curve', qr/elliptic curves/ ],
	[ 'signs', qr/no subkey for encryption/ ],
	[ 'expired', qr/has expired/ ],
	[ 'old_subkey', qr/has expired/ ],
	[ 'revoked', qr/was revoked/ ],
	[ 'revoked_subkey', qr/was revoked/ ],
	[ 'secret', qr/private key/, gpg('', '--armor', '--export-secret-keys', 'rsa2048@example.com') ],
	[ 'two', qr/more than one key/, gpg('', '--armor', '--export', 'rsa2048@example.com', 'rsa3072@example.com') ],
	[ 'message', qr/not one armored PGP public key/, gpg('x', qw(--armor --trust-model always --encrypt -r rsa2048@example.com)) ])
{
	my ($name, $why, $armor) = @$case;
	my $error = error_of($node, "SELECT tr_set_delivery_key('refused', " . literal($armor // public_key($name)) . ')');

	like($error, qr/^22023: public_key cannot be used\nDETAIL:  [^\n]*$why/, "refused: $name");
}
is(value($node, q{SELECT count(*) FROM token_rotation.delivery_key WHERE client_id = 'refused'}), 0, 'nothing of them is kept');

# 3. The end

my $ending = start('rsa2048');
is(scalar(opened('rsa2048')), 2, 'a message waits');
$node->safe_psql('postgres', qq{
	UPDATE token_rotation.delivery SET ends_at = clock_timestamp() + '1 second' WHERE predecessor_id = '$ending->{token_id}';
	UPDATE token_rotation.token SET issued_at = issued_at - '1 hour'::interval, rotated_at = rotated_at - '10 minutes'::interval,
		overlap_ends_at = clock_timestamp() + '1 second' WHERE token_id = '$ending->{token_id}'});
$node->safe_psql('postgres', q{SELECT tr_validate(token) FROM tr_issue('waker')});
poll($node, 'the worker erases it by itself',
	"SELECT count(*) = 0 FROM token_rotation.delivery WHERE predecessor_id = '$ending->{token_id}'");

# (where the overlap starts at first use, it waits for that, and then for the window)
$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, ttl, overlap, refresh_before, overlap_starts, delivery) VALUES
		('sealed_use', '1 hour', '2 minutes', '10 minutes', 'first_use', 'sealed')});
my $waiting = start('rsa4096', 'sealed_use');
my $end = 'SELECT d.ends_at = t.expires_at, d.ends_at = t.overlap_ends_at FROM token_rotation.delivery d'
  . " JOIN token_rotation.token t ON t.token_id = d.predecessor_id WHERE t.token_id = '$waiting->{token_id}'";
is(value($node, $end), 't|t', 'at first use: it waits until the old token expires');
is((grep { verdict($node, $_->{token}) eq 'ok' } opened('rsa4096')), 2, 'what is delivered is used');
poll($node, 'and then it waits until the window ends', "SELECT NOT x.e AND x.w FROM ($end) x (e, w)");

# 4. A key that replaces another

$node->safe_psql('postgres', q{UPDATE token_rotation.policy SET ttl = '1 hour' WHERE delivery = 'sealed'});
cmp_ok(value($node, 'SELECT extract(epoch FROM tr_set_delivery_key(\'rsa2048\', ' . literal(public_key('rsa3072')) . ') - clock_timestamp())'),
	'>', 3500, 'a new key waits for the ttl');
start('rsa2048');
my @to = map { $_->{fingerprint} } rows($node, q{SELECT fingerprint FROM tr_deliveries('rsa2048') ORDER BY made_at DESC LIMIT 1});
is($to[0], subkey_fingerprint('rsa2048'), 'and until then deliveries go to the old one');
$node->safe_psql('postgres', q{UPDATE token_rotation.policy SET ttl = '2 seconds', overlap = '1 second', refresh_before = '1 second'
	WHERE delivery = 'sealed'});
my $waits = set_key('rsa2048', public_key('elgamal'));
cmp_ok(value($node, "SELECT extract(epoch FROM '$waits'::timestamptz - clock_timestamp())"), '<=', 2, 'the wait starts anew');
is(value($node, q{SELECT count(*) FROM token_rotation.delivery_key WHERE client_id = 'rsa2048'}), 2, 'and the one that waited is gone');
poll($node, 'it has passed', "SELECT clock_timestamp() > '$waits'");
$node->safe_psql('postgres', q{UPDATE token_rotation.policy SET ttl = '1 hour', overlap = '10 minutes', refresh_before = '10 minutes'
	WHERE delivery = 'sealed'});
start('rsa2048');
@to = map { $_->{fingerprint} } rows($node, q{SELECT fingerprint FROM tr_deliveries('rsa2048') ORDER BY made_at DESC LIMIT 1});
is($to[0], subkey_fingerprint('elgamal'), 'then they go to the new one');
is(value($node, q{SELECT string_agg(detail ->> 'fingerprint', ' ' ORDER BY seq) FROM token_rotation.audit
		WHERE event = 'delivery_key_changed' AND client_id = 'rsa2048'}),
	join(' ', map { subkey_fingerprint($_) } qw(rsa2048 rsa3072 elgamal)), 'and the trail names each');

# 5. A crash

my $crashed = due('rsa3072');
my $open = $node->background_psql('postgres', on_error_stop => 0);
$open->query('BEGIN');
my $started = 0;
$started = $open->query('SELECT count(*) FROM tr_rotate_due()') until $started == 1;
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop('immediate');
$node->start;
eval { $open->quit };
my $after = q{SELECT (SELECT count(*) FROM token_rotation.token WHERE predecessor_id = '%s') AS successors,
	(SELECT count(*) FROM token_rotation.delivery WHERE predecessor_id = '%s') AS deliveries, status
	FROM token_rotation.tokens WHERE token_id = '%s'};
is_deeply(row($node, sprintf($after, ($crashed->{token_id}) x 3)),
	{ successors => 0, deliveries => 0, status => 'active' }, 'a crash before the commit leaves nothing of a rotation');
is(verdict($node, $crashed->{token}), 'ok', 'and the old token valid');
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM tr_rotate_due()') or die 'not started';
$node->stop('immediate');
$node->start;
is_deeply(row($node, sprintf($after, ($crashed->{token_id}) x 3)),
	{ successors => 1, deliveries => 1, status => 'rotating' }, 'one after it leaves all of it');
is((grep { verdict($node, $_->{token}) eq 'ok' } opened('rsa3072')), 2, 'and what gpg decrypts is valid');

# 6. Restored

my $dump = $node->basedir . '/dump.sql';
my $restored = new_node('restored', extension => 0);
run_command([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ]);
$node->command_ok([ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-d', $restored->connstr('postgres'), '-f', $dump ], 'restored');
my ($there) = grep { verdict($restored, $_->{token}) eq 'ok' } opened('rsa3072', $restored);
ok($there, 'what waited is delivered from a restored database, too');
is(value($restored, q{SELECT count(*) FROM token_rotation.delivery_key}),
	value($node, q{SELECT count(*) FROM token_rotation.delivery_key}), 'and its keys are there');

# 7. Logs and files

$node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_switch_wal()');
my ($hits, $bytes, $files) = files_with([ windows(@held) ], $node->data_dir, $node->basedir . '/dump.sql');
is("@$hits", '', 'no piece of a secret in the data directory, its logs included, and in the dump');
note("tried: $bytes bytes in $files files searched for pieces of " . @held . ' tokens and keys');

done_testing();

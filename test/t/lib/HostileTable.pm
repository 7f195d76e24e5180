# Every object of the extension, and who may do what to it: the expectations of
# the hostile tests.  An object that is missing here fails 020_hostile_roles.pl.
package HostileTable;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Test::More;

our @EXPORT = qw(%relations %functions @readers @workers @in_schema holds any named all_as_expected cases);

our @readers = qw(reader allseeing);    # of pg_read_all_data
our @workers = qw(token_rotation_worker creator);
my @members = qw(operator rival);

# Relations: their columns, who has SELECT, INSERT, and UPDATE and DELETE by
# privilege; which rows each of the readers sees ('' is every one).
my $realm = q(owner = '%s');
my %mine = (operator => sprintf($realm, 'shop'), issuer => sprintf($realm, 'shop'), rival => sprintf($realm, 'rivals'));
my %mine_and_global = (
	(map { $_ => "owner = ''" } 'auditor', @readers),
	map { $_ => "owner = '' OR $mine{$_}" } @members);
our %relations = (
	token => {
		columns => [ qw(token_id prefix family_id generation predecessor_id client_id policy owner status
			secret_hash rotation_hash scopes metadata ttl issued_at expires_at refresh_at rotated_at
			overlap_ends_at replay_ends_at first_used_at last_used_at revoked_at revoked_reason key_id) ],
		read => [],
		sees => { reader => 'false' },
		set => q(owner = 'x'),
	},
	token_cache => {
		columns => [ qw(token_id status secret_hash client_id policy owner scopes metadata issued_at
			expires_at refresh_at rotated_at overlap_ends_at replay_ends_at nonce first_used_at
			last_used_at use_count key_id family_id rotation_key) ],
		read => [],
		sees => { reader => 'false' },
		set => q(owner = 'x'),
	},
	tokens => {
		columns => [ qw(token_id display token_ref family_id generation predecessor_id client_id policy
			owner status scopes metadata issued_at expires_at refresh_at rotated_at overlap_ends_at
			replay_ends_at first_used_at last_used_at use_count revoked_at revoked_reason key_id) ],
		read => [ 'issuer', 'auditor', @members ],
		sees => { auditor => 'false', reader => 'false', allseeing => 'false', %mine },
		set => q(owner = 'x'),
		view => 1,
	},
	pending => {
		columns => [qw(token_id predecessor_id overlap)],
		read => [],
		sees => { reader => 'false' },
		set => q(overlap = '0'),
	},
	unclaimed => {
		columns => [ qw(token_id display token_ref client_id policy owner refresh_at expires_at overlap_ends_at
			last_used_at) ],
		read => [ 'issuer', 'auditor', @members ],
		sees => { auditor => 'false', reader => 'false', allseeing => 'false', %mine },
		set => q(owner = 'x'),
		view => 1,
	},
	schedules => {
		columns => [ qw(policy schedule active job_id database username last_run_at last_status last_message) ],
		read => [@members],
		sees => {},
		set => q(policy = 'x'),
		view => 1,
	},
	audit => {
		columns => [ qw(seq at event client_id owner token_ref successor_ref actor role application_name
			client_addr origin reason detail xid segment) ],
		read => [ 'auditor', @members ],
		insert => [@workers],
		sees => { reader => 'false', auditor => '', %mine },
		set => q(actor = 'x'),
	},
	audit_seal => {
		columns => [ qw(segment seal version at previous restored covers snapshot complete rows first_seq
			last_seq newest_at list_hash hash seqs row_hashes) ],
		read => ['auditor'],
		insert => [@workers],
		sees => { reader => 'false', auditor => '' },
		set => 'at = now()',
	},
	audit_seq => {
		columns => [qw(last_value log_cnt is_called)],
		read => ['auditor'],
		sees => {},
		set => 'last_value = 1',
		sequence => 1,
	},
	cutoff => {
		columns => [qw(kind subject owner before at reason)],
		read => [ 'auditor', @members ],
		sees => {%mine_and_global},
		set => 'before = now()',
	},
	blocked_client => {
		columns => [qw(client_id owner at)],
		read => [ 'auditor', @members ],
		sees => {%mine_and_global},
		set => 'at = now()',
	},
	policy => {
		columns => [ qw(name prefix ttl overlap replay_window refresh_before max_family_age rotation_proof
			allowed_scopes shipped on_reuse rotate_after overlap_starts warn_before min_ttl degraded_scopes delivery request_role) ],
		read => [ 'auditor', @members ],
		sees => {},
		set => q(ttl = '1 year'),
		open => 1,    # no row security: its privileges are all there is
	},
	risk_rule => {
		columns => [qw(policy kind pattern score within at_least)],
		read => [ 'auditor', @members ],
		sees => {},
		set => 'score = 100',
		open => 1,    # likewise
	},
);
$relations{delivery} = {
	columns => [ qw(token_id predecessor_id client_id owner fingerprint message made_at ends_at fetches fetched_at) ],
	read => [],
	sees => { reader => 'false' },
	set => 'fetches = 1',
};
$relations{deliveries} = {
	columns => [ qw(token_ref display client_id policy owner fingerprint made_at ends_at fetches fetched_at
		first_used_at) ],
	read => [ 'issuer', 'auditor', @members ],
	sees => { auditor => 'false', reader => 'false', allseeing => 'false', %mine },
	set => 'fetches = 1',
	view => 1,
};
$relations{delivery_key} = {
	columns => [qw(client_id owner public_key fingerprint added_at effective_at expires_at)],
	read => [ 'auditor', @members ],
	sees => {%mine_and_global},
	set => 'effective_at = now()',
};
$relations{audit_sink} = {
	columns => [qw(segment seal)],
	read => [],
	sees => { reader => 'false' },
	set => 'seal = 0',
};
$relations{consumer} = {
	columns => [qw(name owner position acked_at)],
	read => [],
	sees => { reader => 'false' },
	set => 'position = 0',
};
$relations{consumers} = {
	columns => [qw(name owner position acked_at waiting_since)],
	read => [ 'auditor', @members ],
	sees => { auditor => 'false', reader => 'false', allseeing => 'false', operator => q(name = 'mine'), rival => q(name = 'theirs') },
	set => 'position = 0',
	view => 1,
	plain => 1,    # no function in it
};
$relations{told} = {
	columns => [qw(event lead until key_id)],
	read => [],
	sees => { reader => 'false' },
	set => 'until = now()',
};
$relations{tr_stat} = {
	schema => 'tr',
	columns => [qw(policy event reason count stats_reset)],
	read => ['monitor'],
	sees => {},
	set => 'count = 1',
	view => 1,
};
# BYPASSRLS means what it says: doc/security.md
$relations{$_}{sees}{allseeing} = '' for qw(token token_cache pending audit audit_seal audit_sink consumer told cutoff blocked_client);
$relations{$_}{sees}{allseeing} = ''
  for qw(token token_cache pending audit audit_seal audit_sink cutoff blocked_client delivery delivery_key);

# Functions: who may call each, with what, and what a member of another realm
# is then told of tokens of the realm shop.  %1 is a token, %2 its id, %3 a
# token with a rotation key %4, %5 a PGP public key.
my @validate = qw(validator rival);
my @issue = qw(issuer rival);
my @operate = qw(operator rival);
my @view = qw(issuer operator auditor rival);
our %functions = (
	tr_validate => [ \@validate, q{SELECT 1 FROM tr_validate('%1') WHERE reason <> 'unknown'} ],
	tr_validate_many => [ \@validate, q{SELECT 1 FROM tr_validate_many('{%1,%3,%4}') WHERE reason <> 'unknown'} ],
	tr_authenticate => [ \@validate, q{SELECT tr_authenticate('%1')} ],
	tr_client => [ \@validate, 'SELECT 1 WHERE tr_client() IS NOT NULL' ],
	tr_realm => [ \@validate, 'SELECT 1 WHERE tr_realm() IS NOT NULL' ],
	tr_token_id => [ \@validate, 'SELECT 1 WHERE tr_token_id() IS NOT NULL' ],
	tr_scopes => [ \@validate, 'SELECT 1 WHERE tr_scopes() IS NOT NULL' ],
	tr_has_scope => [ \@validate, q{SELECT 1 WHERE tr_has_scope('shop-scope')} ],
	tr_require_scope => [ \@validate, q{SELECT tr_require_scope('shop-scope')} ],
	tr_introspect => [ \@validate, q{SELECT 1 WHERE tr_introspect('%1') <> '{"active": false}'} ],
	tr_pre_request => [ \@validate, q{SELECT tr_pre_request()
		FROM set_config('request.headers', '{"x-api-key": "%1"}', true)} ],
	tr_explain_ttl => [ [qw(issuer operator rival)], q{SELECT 1 FROM tr_explain_ttl('shop leaked', 'internal') WHERE matched} ],
	tr_issue => [ \@issue, q{SELECT 1 FROM tr_issue('own client') WHERE owner <> 'rivals'} ],
	tr_rotate => [ \@issue, q{SELECT 1 FROM tr_rotate('%3', '%4') WHERE reason <> 'unknown'} ],
	tr_revoke => [ \@issue, q{SELECT 1 WHERE tr_revoke('%1', NULL, true)} ],
	tr_rotate_id => [ \@operate, q{SELECT 1 FROM tr_rotate_id('%2') WHERE reason <> 'unknown'} ],
	tr_rotate_due => [ \@operate, 'SELECT 1 FROM tr_rotate_due()' ],
	tr_schedule => [ \@operate, q{SELECT tr_schedule('default', '* * * * *')} ],
	tr_unschedule => [ \@operate, q{SELECT tr_unschedule('default')} ],
	tr_schedules => [ \@operate, 'SELECT 1 FROM tr_schedules()' ],
	tr_revoke_id => [ \@operate, q{SELECT 1 WHERE tr_revoke_id('%2', NULL, true) <> 0} ],
	tr_revoke_client => [ \@operate, q{SELECT 1 WHERE tr_revoke_client('shop client') IS NULL} ],
	tr_revoke_policy => [ \@operate, q{SELECT 1 WHERE tr_revoke_policy('default') IS NULL} ],
	tr_revoke_before => [ \@operate, q{SELECT 1 WHERE tr_revoke_before('2001-01-01') IS NULL} ],
	tr_block_client => [ \@operate, q{SELECT 1 WHERE tr_block_client('shop blocked', false)} ],
	tr_extend_overlap => [ \@operate, q{SELECT 1 WHERE tr_extend_overlap('%2', '1 minute') IS NOT NULL} ],
	tr_finish_overlap => [ \@operate, q{SELECT 1 WHERE tr_finish_overlap('%2')} ],
	tr_cancel_rotation => [ \@operate, q{SELECT 1 WHERE tr_cancel_rotation('%2')} ],
	tr_set_delivery_key => [ \@operate, q{SELECT 1 WHERE tr_set_delivery_key('shop client', '%5') IS NULL} ],
	tr_drop_delivery_key => [ \@operate, q{SELECT 1 WHERE tr_drop_delivery_key('shop client')} ],
	tr_deliveries => [ \@issue, q{SELECT 1 FROM tr_deliveries() WHERE owner <> 'rivals'} ],
	tr_report_leak => [ \@operate, q{SELECT 1 FROM tr_report_leak('%1') r WHERE r IS NULL} ],
	tr_sweep => [ \@operate, q{SELECT 1 WHERE tr_sweep() <> 0} ],
	tr_prune => [ \@operate, q{SELECT 1 WHERE tr_prune(now()) > 2} ],    # its own revoked ones
	tr_effective_status => [ \@view, q{SELECT 1 WHERE tr_effective_status('active', 'shop', 'shop cut', 'default',
		now(), now() + '1 hour', NULL, NULL) IS NOT NULL} ],
	tr_token_display => [ \@view, q{SELECT 1 WHERE tr_token_display('trk', '%2') = ''} ],
	tr_stat_counters => [ ['monitor'], 'SELECT 1 FROM tr_stat_counters() LIMIT 1' ],
	tr_health => [ ['monitor'], 'SELECT 1 FROM tr_health()' ],
	tr_stat_reset => [ [], 'SELECT tr_stat_reset()' ],
	tr_events => [ [ 'operator', 'auditor', 'rival' ], q{SELECT 1 FROM tr_events('hostile', 10000) WHERE owner = 'shop' LIMIT 1} ],
	tr_ack => [ [ 'operator', 'auditor', 'rival' ], 'SELECT 1 WHERE tr_ack(current_user, 0) <> 0' ],
	tr_events_head => [ [ 'operator', 'auditor', 'rival' ], 'SELECT 1 WHERE tr_events_head() < 0' ],
	expiring => [ \@view, q{SELECT 1 FROM token_rotation.expiring('100 years') WHERE owner = 'shop' LIMIT 1} ],
	tr_audit_verify => [ ['auditor'], 'SELECT 1 FROM tr_audit_verify() WHERE NOT valid' ],
	tr_audit_head => [ ['auditor'], 'SELECT 1 FROM tr_audit_head() WHERE seal < 1' ],
	tr_audit_prune => [ [], 'SELECT tr_audit_prune(now())' ],
	tr_grant => [ [], q{SELECT tr_grant(current_user, 'operator', 'shop')} ],
	tr_ungrant => [ [], q{SELECT tr_ungrant('operator', 'operator', 'shop')} ],
	tr_set_owner => [ [], q{SELECT tr_set_owner('shop', 'rivals')} ],
	tr_risk_rule_guard => [ [], 'SELECT tr_risk_rule_guard()' ],
	tr_risk_rule_audit => [ [], 'SELECT tr_risk_rule_audit()' ],
	tr_policy_guard => [ [], 'SELECT tr_policy_guard()' ],
	tr_policy_audit => [ [], 'SELECT tr_policy_audit()' ],
	tr_token_guard => [ [], 'SELECT tr_token_guard()' ],
	tr_cutoff_guard => [ [], 'SELECT tr_cutoff_guard()' ],
	tr_audit_guard => [ [], 'SELECT tr_audit_guard()' ],
	tr_seal_guard => [ [], 'SELECT tr_seal_guard()' ],
);
our @in_schema = (qw(validator issuer operator auditor rival writer), @readers, @workers);

# Fewer lines than cases: one for each role and object, which names what differs.
my $cases = 0;

sub cases
{
	return $cases;
}

sub all_as_expected
{
	my ($name, $expected, $got) = @_;
	my @wrong = grep { ($got->{$_} // 'nothing') !~ /^(?:$expected->{$_})$/ } sort keys %$expected;

	$cases += keys %$expected;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong, $name)
	  or diag(map { "$_: " . ($got->{$_} // 'nothing') . ", not $expected->{$_}\n" } @wrong[ 0 .. (@wrong > 20 ? 19 : $#wrong) ]);
	return;
}

sub any
{
	my ($role, @list) = @_;

	return scalar grep { $_ eq $role } @list;
}

# A relation by its schema.
sub named
{
	my ($relation) = @_;

	return ($relations{$relation}{schema} // 'token_rotation') . ".$relation";
}

# Who has a privilege on a relation, through presets or the server's own roles.
sub holds
{
	my ($role, $relation, $privilege) = @_;
	my $r = $relations{$relation};

	return any($role, @readers, @{ $r->{read} }) if $privilege eq 'SELECT';
	return any($role, 'writer', @{ $r->{insert} // [] }) if $privilege eq 'INSERT';
	return $role eq 'writer' if $privilege eq 'UPDATE' || $privilege eq 'DELETE';
	return $r->{sequence} && any($role, @readers, @{ $r->{read} }) if $privilege eq 'USAGE';
	return 0;
}

1;

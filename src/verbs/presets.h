/*
 * presets.h
 *	  What the presets validator, issuer, operator and auditor give.
 */
#ifndef TR_PRESETS_H
#define TR_PRESETS_H

#include "postgres.h"

/*
 * The preset of this name; raises 22023 where there is none.
 */
extern int tr_preset_named(const char *name);

/*
 * Give a role what a preset needs, or take back what no other preset of the
 * role needs.  Inside a section.
 */
extern void tr_preset_change(bool give, int preset, const char *role_name, Oid role);

/*
 * Does the role have a preset, not counting what it inherits?
 */
extern bool tr_preset_any(Oid role);

/*
 * Run GRANT what TO role, or REVOKE what FROM role.  what and options are
 * keywords and quoted names, role is a bare name.  Inside a section.
 */
extern void tr_grant_run(bool give, const char *what, const char *role, const char *options);

#endif /* TR_PRESETS_H */

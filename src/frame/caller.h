/*
 * caller.h
 *	  Who called, what he may see, and whose rights the code uses meanwhile.
 *
 * The SQL functions are SECURITY INVOKER: current_user is the caller.  Inside a
 * section the code has the rights of the owner of the extension's tables, with
 * search_path and row_security pinned, and runs constant SQL on those tables
 * only.  An error leaves a section by itself: transaction and subtransaction
 * abort put back user, settings and depth.
 */
#ifndef TR_CALLER_H
#define TR_CALLER_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/array.h"

typedef struct TrSection
{
	Oid user;
	int security;
	int guc_level;
	MemoryContext context; /* current before it began, and again after it */
} TrSection;

/*
 * Enter and leave a section; they nest.  Between them SPI is connected.
 */
extern void tr_section_begin(TrSection *section);
extern void tr_section_end(TrSection *section);

/*
 * Is this backend inside a section?  Triggers ask it, to tell the extension's
 * own writes from others'.
 */
extern bool tr_section_active(void);

/*
 * The role that called the SQL function: current_user outside of sections.
 */
extern Oid tr_caller(void);

/*
 * Raise 42501 where the caller is neither the owner of the extension's tables
 * nor a superuser.
 */
extern void tr_require_owner(const char *verb);

/*
 * Take the rights of another role within a section (the audit trail is written
 * as token_rotation_worker) and give them back.
 */
extern void tr_act_as(Oid role);
extern void tr_act_as_owner(void);

/*
 * Does the caller see tokens of this realm?  Superusers see every realm,
 * others those of roles whose privileges they have.
 */
extern bool tr_realm_visible(const text *owner);

/*
 * The realm that tr_issue gives its tokens to: the setting token_rotation.realm
 * or the caller.  Raises 42704 for an unknown role, 42501 for one that the
 * caller is not a member of.
 */
extern char *tr_realm_of_caller(void);

/*
 * The realms that the caller's verbs by client or time speak for: the setting,
 * or every realm that he is a member of; a list of char *.  NIL stands for all
 * of them: a superuser without the setting.
 */
extern List *tr_realms_of_caller(void);

/*
 * The same as a text[], or NULL for all.
 */
extern ArrayType *tr_realm_array_of_caller(void);

/*
 * The realms whose rows of the trail the caller reads, as the policies of
 * token_rotation.audit have it, whatever the setting says; NULL for all of them: an
 * auditor or a superuser.
 */
extern ArrayType *tr_realms_readable(void);

/*
 * Is the statement a superuser's COPY, as a restore from a dump makes it?
 */
extern bool tr_is_restore(void);

#endif /* TR_CALLER_H */

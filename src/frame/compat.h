/*
 * compat.h
 *	  All differences between the PostgreSQL versions that are served.
 *
 * Each wrapper has the newest version's signature.
 */
#ifndef TR_COMPAT_H
#define TR_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "utils/timestamp.h"

/* 16: the macros of variable-length values left postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16: what a check hook leaves for its setting is freed with pfree, no longer with free. */
#if PG_VERSION_NUM < 160000
#define guc_malloc(elevel, size) malloc(size)
#endif

/* 18: a function that does not return is marked in front. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 17: intervals can be infinite. */
#if PG_VERSION_NUM < 170000
#define INTERVAL_NOT_FINITE(i) false
#endif

/* 16: whether a membership inherits is the membership's own, no longer the member's. */
#if PG_VERSION_NUM >= 160000
#define TR_MEMBERSHIP_OPTIONS " WITH INHERIT TRUE"
#else
#define TR_MEMBERSHIP_OPTIONS ""
#endif

/* 16: whether a member may SET ROLE is the membership's own, too. */
#if PG_VERSION_NUM < 160000
#define member_can_set_role(member, role) is_member_of_role(member, role)
#endif

/* 18: what this setting says is declared in a header. */
#if PG_VERSION_NUM >= 180000
#include "commands/tablespace.h"
#else
extern PGDLLIMPORT char *temp_tablespaces;
#endif

/* 18: index_beginscan takes room for instrumentation. */
#if PG_VERSION_NUM >= 180000
#define tr_index_beginscan(heap, index, snapshot, nkeys)                                           \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define tr_index_beginscan(heap, index, snapshot, nkeys)                                           \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

#endif /* TR_COMPAT_H */

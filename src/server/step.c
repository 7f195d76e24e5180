/*
 * step.c
 *	  What the steps of a worker's visit share: see step.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "server/step.h"

/* Milliseconds that a visit may last, and each of its steps. */
#define BUDGET 2000
#define STEP_BUDGET 250

/* In microseconds: visits that no event asks for need not be closer. */
#define TIMED_PAUSE USECS_PER_SEC

/* In microseconds: what is locked is looked at again so often, however long the nap is. */
#define AGAIN (10 * USECS_PER_SEC)

/* This visit. */
static instr_time begun;
static instr_time step_begun;
static TimestampTz next_visit;

/*
 * Have so many milliseconds passed since then?
 */
static bool
passed(instr_time since, double milliseconds)
{
	instr_time spent;

	INSTR_TIME_SET_CURRENT(spent);
	INSTR_TIME_SUBTRACT(spent, since);
	return INSTR_TIME_GET_MILLISEC(spent) >= milliseconds;
}

void
tr_step_visit_begins(void)
{
	INSTR_TIME_SET_CURRENT(begun);
	next_visit = TR_FOREVER;
}

void
tr_step_begins(void)
{
	INSTR_TIME_SET_CURRENT(step_begun);
}

bool
tr_step_go_on(void)
{
	/* told to leave: whatever has caught the first cancel does not catch this one */
	if (ShutdownRequestPending)
		QueryCancelPending = InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
	if (!passed(step_begun, STEP_BUDGET) && !passed(begun, BUDGET))
		return true;
	tr_step_visit_by(GetCurrentTimestamp() + TR_VISIT_PAUSE);
	return false;
}

void
tr_step_visit_by(TimestampTz when)
{
	next_visit = Min(next_visit, when);
}

void
tr_step_visit_by_clock(TimestampTz when, TimestampTz step_began)
{
	tr_step_visit_by(when > step_began ? Max(when, GetCurrentTimestamp() + TIMED_PAUSE)
									   : tr_step_again());
}

TimestampTz
tr_step_again(void)
{
	return GetCurrentTimestamp() + Min(AGAIN, tr_worker_nap * INT64CONST(1000));
}

TimestampTz
tr_step_next_visit(void)
{
	return next_visit;
}

/*
 * Keep the extension as it is until the end of the transaction.  DROP EXTENSION
 * locks all tables before it removes anything, so one is enough.  A lock on the
 * extension itself would be no better, and anybody who owns a function could keep
 * it from us (ALTER FUNCTION ... DEPENDS ON EXTENSION).
 */
static void
hold_extension(void)
{
	Oid token;

	/* it may be dropped and made again while we wait */
	do
	{
		token = tr_catalog()->token;
		LockRelationOid(token, AccessShareLock);
	} while (tr_catalog()->token != token);
}

void
tr_step_begin(TrSection *section)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	hold_extension();
	tr_section_begin(section);
}

void
tr_step_commit(TrSection *section)
{
	tr_section_end(section);
	HOLD_INTERRUPTS();
	CommitTransactionCommand();
}

void
tr_step_settled(void)
{
	RESUME_INTERRUPTS();
}

/*
 * redact.h
 *	  Masks the tokens in what goes to the server's log.
 */
#ifndef TR_REDACT_H
#define TR_REDACT_H

/*
 * Install the log hook; called from _PG_init while the postmaster preloads.
 */
extern void tr_redact_install(void);

/*
 * Say in the log, once, when a library that was loaded later sees messages
 * before they are masked.  For the launcher, at the start.
 */
extern void tr_redact_check_order(void);

#endif /* TR_REDACT_H */

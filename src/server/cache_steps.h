/*
 * cache_steps.h
 *	  What a worker does to keep token_cache.
 */
#ifndef TR_CACHE_STEPS_H
#define TR_CACHE_STEPS_H

/*
 * Bring the cache into order: compare it with token once after each start of
 * the server, and fill it where its mark is missing.
 */
extern void tr_cache_keep(void);

#endif /* TR_CACHE_STEPS_H */

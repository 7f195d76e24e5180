/*
 * shmem.h
 *	  The shared memory of all parts.
 */
#ifndef TR_SHMEM_H
#define TR_SHMEM_H

/*
 * Hook into the start of the server; from _PG_init while the postmaster
 * preloads.
 */
extern void tr_shmem_install(void);

#endif /* TR_SHMEM_H */

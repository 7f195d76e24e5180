/*
 * stats_file.h
 *	  Statistics over a restart of the server.
 */
#ifndef TR_STATS_FILE_H
#define TR_STATS_FILE_H

/*
 * From the startup of shared memory, in the postmaster: take over what the last
 * clean shutdown has written, and have the next one write again.  Never raises:
 * statistics are no reason not to start.
 */
extern void tr_stats_file_begin(void);

#endif /* TR_STATS_FILE_H */

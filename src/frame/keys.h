/*
 * keys.h
 *	  The server's keys, as all processes of the server share them.
 *
 * They come from the file token_rotation.key_file and from what
 * token_rotation.key_command prints; where both are set both count, and a number
 * that both have is the file's.  The postmaster reads them, as it does the key
 * of its TLS certificate: at the start of the server, after a crash, and with
 * each reload of the configuration.  Sessions open no file and run no command.
 */
#ifndef TR_KEYS_H
#define TR_KEYS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/keyring.h"

/* Where keys come from. */
typedef enum TrKeySource
{
	TR_KEYS_FROM_FILE,
	TR_KEYS_FROM_COMMAND,
} TrKeySource;
#define TR_KEY_SOURCES (TR_KEYS_FROM_COMMAND + 1)

extern Size tr_keys_shmem_size(void);
extern void tr_keys_shmem_init(void);

/*
 * A setting got this value, also the same again with a reload: read the keys
 * anew.  Where they cannot be read the log says why, and those from before stay.
 * Does nothing but in the postmaster.
 */
extern void tr_keys_reload(TrKeySource source, const char *value);

/*
 * Is a key asked for, whether or not one could be read?
 */
extern bool tr_keys_configured(void);

/*
 * Copy the key with this number; 0: the newest.  false: it is not at hand.
 */
extern bool tr_keys_find(int32 number, TrKey *key);

/* How the keys are. */
typedef struct TrKeysState
{
	bool wanted;  /* a setting names a source */
	bool any;	  /* there is one at hand */
	bool unread;  /* a source could not be read the last time */
	bool missing; /* tokens were refused for want of theirs, not two minutes ago */
} TrKeysState;

extern TrKeysState tr_keys_state(void);

/*
 * Say in the log that the key of a token is not at hand, once a minute at most
 * for the whole server.
 */
extern void tr_keys_missing(int32 number);

#endif /* TR_KEYS_H */

/*
 * keyring.h
 *	  The server's keys: their text, and what is derived from each.
 *
 * A key file (or the output of a key command) has a line for each key, its
 * number and 64 hexadecimal digits:
 *
 *	# 2026-01-31, made with openssl rand -hex 32
 *	1 8d0c...
 *	2 41f7...
 *
 * Empty lines and lines that begin with '#' are passed over; blanks and tabs may
 * stand around both words.  The order of lines means nothing: what is made is
 * made under the highest number.
 */
#ifndef TR_KEYRING_H
#define TR_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TR_KEY_BYTES 32
#define TR_KEYS_MAX 32
#define TR_KEYS_TEXT_MAX 8192 /* bytes that the text may have */

/* What a key is used for; each use has a subkey of its own. */
typedef enum TrKeyUse
{
	TR_KEY_SECRET,	 /* the secret of a token */
	TR_KEY_ROTATION, /* that of its rotation key */
	TR_KEY_ROW,		 /* its row alone */
} TrKeyUse;
#define TR_KEY_USES (TR_KEY_ROW + 1)

typedef struct TrKey
{
	int32_t number; /* 1 or more */
	uint8_t subkeys[TR_KEY_USES][TR_KEY_BYTES];
} TrKey;

/* In the order of their numbers: the last one is the newest. */
typedef struct TrKeyring
{
	int32_t count;
	TrKey keys[TR_KEYS_MAX];
} TrKeyring;

/* What can be wrong with a text. */
typedef enum TrKeyFault
{
	TR_KEYS_GOOD,
	TR_KEYS_TOO_LONG, /* more than TR_KEYS_TEXT_MAX bytes */
	TR_KEYS_EMPTY,	  /* no key in it */
	TR_KEYS_LINE,	  /* a line that is none of the above */
	TR_KEYS_TWICE,	  /* a number that an earlier line has */
	TR_KEYS_TOO_MANY, /* more than TR_KEYS_MAX keys */
	TR_KEYS_CRYPTO,	  /* OpenSSL failed */
} TrKeyFault;

/*
 * Read a text, which need not end with a zero, into subkeys: the keys themselves
 * are kept nowhere.  Anything wrong leaves an empty ring; *line is then the
 * line's number, from 1, where it is a line's fault, else 0.
 */
extern TrKeyFault tr_keyring_read(const char *text, size_t len, TrKeyring *ring, int *line);

/*
 * The key with this number; 0: the newest.  NULL: there is none.
 */
extern const TrKey *tr_keyring_find(const TrKeyring *ring, int32_t number);

#endif /* TR_KEYRING_H */

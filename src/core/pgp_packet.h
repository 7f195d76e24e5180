/*
 * pgp_packet.h
 *	  The packets that OpenPGP data (RFC 4880) is made of.
 *
 * Each function takes something off the front of what is left, or answers false
 * and leaves undefined what is left.
 */
#ifndef TR_PGP_PACKET_H
#define TR_PGP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that are left to read. */
typedef struct TrPgpBytes
{
	const uint8_t *at;
	size_t left;
} TrPgpBytes;

/* A packet; what lengths of unknown size and partial ones make up is none. */
typedef struct TrPgpPacket
{
	int tag;
	TrPgpBytes whole; /* header and body */
	TrPgpBytes body;
} TrPgpPacket;

/*
 * A number of so many bytes (up to 4), the highest first.
 */
extern bool tr_pgp_take_number(TrPgpBytes *bytes, size_t len, uint32_t *number);

/*
 * So many bytes.
 */
extern bool tr_pgp_take_bytes(TrPgpBytes *bytes, size_t len, TrPgpBytes *taken);

/*
 * A packet.
 */
extern bool tr_pgp_take_packet(TrPgpBytes *bytes, TrPgpPacket *packet);

/*
 * Something that a signature says, without the length in front of it.
 */
extern bool tr_pgp_take_statement(TrPgpBytes *bytes, TrPgpBytes *statement);

/*
 * A large number; how many bits it has, from 1 on.
 */
extern bool tr_pgp_take_large(TrPgpBytes *bytes, uint32_t *bits, bool *odd);

#endif /* TR_PGP_PACKET_H */

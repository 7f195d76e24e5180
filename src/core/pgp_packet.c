/*
 * pgp_packet.c
 *	  The packets that OpenPGP data is made of: see pgp_packet.h.
 */
#include "core/pgp_packet.h"

bool
tr_pgp_take_number(TrPgpBytes *bytes, size_t len, uint32_t *number)
{
	size_t i;

	if (bytes->left < len)
		return false;
	*number = 0;
	for (i = 0; i < len; i++)
		*number = *number << 8 | bytes->at[i];
	bytes->at += len;
	bytes->left -= len;
	return true;
}

bool
tr_pgp_take_bytes(TrPgpBytes *bytes, size_t len, TrPgpBytes *taken)
{
	if (bytes->left < len)
		return false;
	taken->at = bytes->at;
	taken->left = len;
	bytes->at += len;
	bytes->left -= len;
	return true;
}

/*
 * Take a length as packets of the new form and statements have it.  partial: in
 * packets some of its forms mean that more parts follow, which no key has.
 */
static bool
take_length(TrPgpBytes *bytes, bool partial, uint32_t *len)
{
	uint32_t second;

	if (!tr_pgp_take_number(bytes, 1, len))
		return false;
	if (*len < 192)
		return true;
	if (*len == 255)
		return tr_pgp_take_number(bytes, 4, len);
	if ((partial && *len >= 224) || !tr_pgp_take_number(bytes, 1, &second))
		return false;
	*len = ((*len - 192) << 8) + second + 192;
	return true;
}

bool
tr_pgp_take_packet(TrPgpBytes *bytes, TrPgpPacket *packet)
{
	uint32_t first;
	uint32_t len;

	packet->whole = *bytes;
	if (!tr_pgp_take_number(bytes, 1, &first) || (first & 0x80) == 0)
		return false;
	if ((first & 0x40) != 0)
	{
		packet->tag = (int) (first & 0x3f);
		if (!take_length(bytes, true, &len))
			return false;
	}
	else
	{
		packet->tag = (int) (first >> 2 & 0x0f);
		/* 3 is a length that is not told */
		if ((first & 3) == 3 || !tr_pgp_take_number(bytes, (size_t) 1 << (first & 3), &len))
			return false;
	}
	if (!tr_pgp_take_bytes(bytes, len, &packet->body))
		return false;
	packet->whole.left -= bytes->left;
	return true;
}

bool
tr_pgp_take_statement(TrPgpBytes *bytes, TrPgpBytes *statement)
{
	uint32_t len;

	return take_length(bytes, false, &len) && tr_pgp_take_bytes(bytes, len, statement);
}

/*
 * Leading zeros would make it look larger than it is.
 */
bool
tr_pgp_take_large(TrPgpBytes *bytes, uint32_t *bits, bool *odd)
{
	TrPgpBytes taken;

	if (!tr_pgp_take_number(bytes, 2, bits) || *bits == 0 ||
		!tr_pgp_take_bytes(bytes, (*bits + 7) / 8, &taken) || taken.at[0] >> ((*bits - 1) & 7) != 1)
		return false;
	*odd = (taken.at[taken.left - 1] & 1) != 0;
	return true;
}

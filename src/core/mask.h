/*
 * mask.h
 *	  Hides the secrets of tokens in text that is to be shown or kept.
 *
 * Pure functions over bytes; nothing here needs a server or memory, because the
 * log's hook calls them where neither may be had.  A masked text is never
 * longer than it was, so masking works in place.
 */
#ifndef TR_MASK_H
#define TR_MASK_H

#include <stddef.h>

/*
 * Copy text to out with everything token-shaped masked, whether or not its
 * check is right:
 *
 *	  - a run of more than 22 base62 characters that follows a '_' keeps its
 *		first 22, the public id, and the rest becomes "_[redacted]": cut off
 *		wherever the rest is shorter than the mark
 *	  - a run of 20 or more that follows "..." becomes "[redacted]": it may be
 *		the end of a token whose beginning was left out
 *
 * out has room for len + 1 bytes, or is text itself, which then ends with a
 * zero.  Returns the length written, without the terminating zero.  Text that
 * holds no such run comes out byte for byte, and in place is not written to;
 * text that is masked comes out as it is.
 */
extern size_t tr_token_mask(const char *text, size_t len, char *out);

/*
 * Mask a tree of nodes, in place, as the server logs it for debug_print_parse
 * and its kin.  Beyond what tr_token_mask() does: a run goes on over a line
 * break and the spaces after it, since such a text is broken into lines
 * anywhere; and a list "[ 44 1 0 ... ]" of 20 or more numbers, the bytes of a
 * constant, becomes "[redacted]".  text ends with a zero after len bytes.
 * Returns the length.
 */
extern size_t tr_nodes_mask(char *text, size_t len);

#endif /* TR_MASK_H */

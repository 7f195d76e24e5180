/*
 * fuzz.h
 *	  What the fuzzing targets share: properties, and reading the input.
 *
 * A target is one file with LLVMFuzzerTestOneInput.  libFuzzer drives it with
 * inputs that it makes up, replay.c with those of the corpus.  A property that
 * does not hold ends the process, so that the input is kept.
 */
#ifndef TR_FUZZ_H
#define TR_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Named by libFuzzer. */
extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * This must hold for every input.
 */
#define HOLDS(property)                                                                            \
	do                                                                                             \
	{                                                                                              \
		if (!(property))                                                                           \
		{                                                                                          \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #property);          \
			abort();                                                                               \
		}                                                                                          \
	} while (0)

/* The input that is not read yet.  At its end there are only zeros. */
typedef struct Input
{
	const uint8_t *at;
	size_t left;
} Input;

/*
 * The next byte.
 */
static inline uint8_t
input_byte(Input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

/*
 * The next bytes.
 */
static inline void
input_bytes(Input *in, void *out, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		((uint8_t *) out)[i] = input_byte(in);
}

/*
 * Memory of exactly this size, so that the address sanitizer sees one byte too
 * many.
 */
static inline void *
exactly(size_t len)
{
	void *memory = malloc(len);

	if (memory == NULL && len > 0)
		abort();
	return memory;
}

#endif /* TR_FUZZ_H */

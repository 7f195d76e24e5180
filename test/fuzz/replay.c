/*
 * replay.c
 *	  Runs a fuzzing target over files: the corpus, or an input that was found.
 *
 * Needs no fuzzer, so that any compiler's sanitizers can watch.  Each input
 * lies in memory of exactly its length.
 */
#include "fuzz.h"

/*
 * Run the target over one file.
 */
static void
replay(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
	{
		perror(path);
		exit(2);
	}
	rewind(file);
	data = exactly((size_t) size);
	if (fread(data, 1, (size_t) size, file) != (size_t) size)
	{
		perror(path);
		exit(2);
	}
	fclose(file);

	/* said before, because a property that does not hold says nothing more */
	printf("# %s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, (size_t) size);
	free(data);
}

int
main(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		replay(argv[i]);
	return 0;
}

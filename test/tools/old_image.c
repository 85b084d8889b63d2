/*
 * old_image IN OUT: the image IN as version 0.1.0 wrote it.  OUT may be IN.
 */
#include "tools/old_image.h"

int main(int argc, char **argv)
{
    size_t n;
    unsigned char *bytes = argc == 3 ? old_image(argv[1], &n) : NULL;
    FILE *f = bytes == NULL ? NULL : fopen(argv[2], "wb");
    if (f == NULL || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        fprintf(stderr, "old_image IN OUT: IN must be an image of this version\n");
        return 1;
    }
    free(bytes);
    return 0;
}

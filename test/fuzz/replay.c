/*
 * Runs a fuzz target over files and folders without libFuzzer: replay FILE|FOLDER...  Prints "name: N passed, 0 failed"; a
 * broken input ends the program.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long n_inputs;

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        fprintf(stderr, "cannot open %s\n", path);
        return 1;
    }
    fseek(f, 0, SEEK_END);
    size_t n = (size_t) ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(n > 0 ? n : 1); /* exactly as large as the input: a read beyond it is seen */
    int bad = bytes == NULL || fread(bytes, 1, n, f) != n;
    fclose(f);
    if (!bad) {
        fprintf(stderr, "%s\r", path);
        LLVMFuzzerTestOneInput(bytes, n);
        n_inputs++;
    }
    free(bytes);
    return bad;
}

static int replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return replay_file(path);
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort), bad = n < 0;
    for (int i = 0; i < n; i++) {
        char full[4096];
        snprintf(full, sizeof full, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            bad |= replay_file(full);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    return bad;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    int bad = 0;
    for (int i = 1; i < argc; i++)
        bad |= replay(argv[i]);
    printf("%s: %lu passed, %d failed\n", slash != NULL ? slash + 1 : argv[0], n_inputs, bad + (n_inputs == 0));
    return bad || n_inputs == 0;
}

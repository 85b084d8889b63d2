/*
 * The corpus of a fuzz target, replayed under the ordinary compiler: a broken promise traps.
 */
#ifndef SLM_TEST_REPLAY_H
#define SLM_TEST_REPLAY_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>

#include "slm_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every file of folder to the target; there are at least `least` of them. */
static void test_replay(const char *folder, int least)
{
    static uint8_t data[1 << 16];
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int inputs = 0;
    CHECK(dir != NULL, "%s is absent: run from the root of the tree", folder);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[600];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "rb");
        size_t n = file != NULL ? fread(data, 1, sizeof data, file) : 0;
        if (file != NULL)
            fclose(file);
        CHECK(n > 0 && LLVMFuzzerTestOneInput(data, n) == 0, "%s", entry->d_name);
        inputs++;
    }
    if (dir != NULL)
        closedir(dir);
    CHECK(inputs >= least, "%s has only %d inputs", folder, inputs);
}

#endif

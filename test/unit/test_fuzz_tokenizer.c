/*
 * Replays the corpus of the tokenizers' fuzz target (test/fuzz/corpus_tokenizer) under the ordinary compiler; a broken promise traps.
 */
#include "../fuzz/fuzz_tokenizer.c"

#include <dirent.h>

#include "slm_test.h"

int main(void)
{
    static const char folder[] = "test/fuzz/corpus_tokenizer";
    static uint8_t data[1 << 16];
    DIR *dir = opendir(folder);
    struct dirent *entry;
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
    }
    if (dir != NULL)
        closedir(dir);
    CHECK(slm_test_passed > 50, "the corpus has only %d inputs", slm_test_passed - 1);
    TEST_MAIN_END("fuzz_tokenizer");
}

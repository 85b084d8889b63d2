/*
 * Replays the corpus of the tokenizers' fuzz target under the ordinary compiler; a broken promise traps.
 */
#include "../fuzz/fuzz_tokenizer.c"

#include "replay.h"

int main(void)
{
    test_replay("test/fuzz/corpus_tokenizer", 50);
    TEST_MAIN_END("fuzz_tokenizer");
}

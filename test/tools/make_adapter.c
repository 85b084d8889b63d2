/*
 * make_adapter MODEL.gguf OUT SEED RANK ALPHA SIZE [PART]: a LoRA adapter with random weights for a model's projections (those with
 * PART in their
 * names), to OUT.gguf or, where OUT does not end so, as a PEFT directory.  For tests and fixtures; SIZE is that of the entries of B.
 */
#include <unistd.h>

#include "adapter_maker.h"
#include "engine/slm.h"
#include "engine/model/model.h"

static int fail(const char *what)
{
    fprintf(stderr, "make_adapter: %s\n", what);
    return 1;
}

int main(int argc, char **argv)
{
    slm_error err;
    slm_gguf *g;
    slm_source *source = NULL;
    if (argc < 7)
        return fail("usage: make_adapter MODEL.gguf OUT SEED RANK ALPHA SIZE [PART]");
    adapter_recipe r = {.seed = strtoull(argv[3], NULL, 10), .rank = (uint32_t) atoi(argv[4]), .alpha = strtof(argv[5], NULL),
                        .size = strtof(argv[6], NULL), .only = argc > 7 ? argv[7] : NULL};
    if (slm_gguf_open(argv[1], &g, &err) != SLM_OK || slm_gguf_source(argv[1], NULL, NULL, &source, &err) != SLM_OK)
        return fail(err.message);
    size_t n = strlen(argv[2]);
    bool gguf = n > 5 && strcmp(argv[2] + n - 5, ".gguf") == 0;
    if (!gguf)
        mkdir(argv[2], 0755);
    int result = gguf ? make_gguf_adapter(g, source->hparams.family, &r, argv[2]) : make_peft_adapter(g, &source->hparams, &r, argv[2], "");
    source->close(source);
    slm_gguf_close(g);
    return result == 0 ? 0 : fail("cannot write");
}

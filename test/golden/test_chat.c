/*
 * Exact token ids of a two-turn conversation with a system message, on the vocabularies whose control tokens a format needs.
 *
 * The ids come from the Hugging Face tokenizers library, set up with the same vocabularies and fed with the whole string that the
 * published template makes (rendered by Jinja where the vocabulary's file holds the template).
 */
#include "engine/text/chat.h"
#include "golden_vocab.h"
#include "slm_test.h"

typedef struct conversation {
    const char *vocab, *forced, *format;
    size_t n;
    int32_t ids[96];
} conversation;

static const conversation conversations[] = {
    {"smollm2", NULL, "smollm", 47,
        {
         1, 9690, 198, 6077, 5453, 30, 2, 198, 1, 4093, 198, 4898, 314, 260, 6376, 4461, 47, 2, 198, 1, 520, 9531, 198, 30300,
         43464, 24484, 30, 2, 198, 1, 4093, 198, 3528, 2388, 20702, 28, 281, 216, 35, 1924, 47, 2, 198, 1, 520, 9531, 198}},
    {"qwen2", NULL, "qwen2", 45,
        {
         151644, 8948, 198, 3430, 9814, 13, 151645, 198, 151644, 872, 198, 10234, 374, 279, 12884, 6303, 30, 151645, 198,
         151644, 77091, 198, 29187, 62969, 71816, 13, 151645, 198, 151644, 872, 198, 3036, 7015, 4917, 11, 304, 220, 18, 4244,
         30, 151645, 198, 151644, 77091, 198}},
    {"llama-bpe", "llama3", "llama3", 47,
        {
         128000, 128006, 9125, 128007, 271, 3513, 10015, 13, 128009, 128006, 882, 128007, 271, 10445, 374, 279, 13180, 6437, 30,
         128009, 128006, 78191, 128007, 271, 30287, 64069, 72916, 13, 128009, 128006, 882, 128007, 271, 3112, 7160, 5022, 11,
         304, 220, 18, 4339, 30, 128009, 128006, 78191, 128007, 271}},
    {"phi-3", NULL, "phi3", 34,
        {
         1, 32006, 1522, 11473, 29889, 32007, 32010, 3750, 338, 278, 14744, 7254, 29973, 32007, 32001, 9596, 280, 1141, 14801,
         292, 29889, 32007, 32010, 1126, 6575, 7224, 29892, 297, 29871, 29941, 3838, 29973, 32007, 32001}},
    {"llama-spm", "mistral-v1", "mistral-v1", 42,
        {
         1, 518, 25580, 29962, 1522, 11473, 29889, 13, 13, 11008, 338, 278, 14744, 7254, 29973, 518, 29914, 25580, 29962, 9596,
         280, 1141, 14801, 292, 29889, 2, 518, 25580, 29962, 1126, 6575, 7224, 29892, 297, 29871, 29941, 3838, 29973, 518,
         29914, 25580, 29962}},
    {"llama-spm", "llama2", "llama2", 55,
        {
         1, 518, 25580, 29962, 3532, 14816, 29903, 6778, 13, 3629, 11473, 29889, 13, 29966, 829, 14816, 29903, 6778, 13, 13,
         11008, 338, 278, 14744, 7254, 29973, 518, 29914, 25580, 29962, 9596, 280, 1141, 14801, 292, 29889, 29871, 2, 1, 518,
         25580, 29962, 1126, 6575, 7224, 29892, 297, 29871, 29941, 3838, 29973, 518, 29914, 25580, 29962}},
    {"llama-spm", "zephyr", "zephyr", 70,
        {
         1, 529, 29989, 5205, 29989, 29958, 13, 3629, 11473, 29889, 2, 29871, 13, 29966, 29989, 1792, 29989, 29958, 13, 11008,
         338, 278, 14744, 7254, 29973, 2, 29871, 13, 29966, 29989, 465, 22137, 29989, 29958, 13, 29934, 388, 280, 1141, 14801,
         292, 29889, 2, 29871, 13, 29966, 29989, 1792, 29989, 29958, 13, 2855, 6575, 7224, 29892, 297, 29871, 29941, 3838,
         29973, 2, 29871, 13, 29966, 29989, 465, 22137, 29989, 29958, 13}},
};

static void run(const conversation *c)
{
    static const char *const texts[] = {"Be brief.", "Why is the sky blue?", "Rayleigh scattering.", "And sunsets, in 3 words?"};
    static const slm_role roles[] = {SLM_ROLE_SYSTEM, SLM_ROLE_USER, SLM_ROLE_ASSISTANT, SLM_ROLE_USER};
    slm_segment segments[4];
    for (size_t i = 0; i < 4; i++)
        segments[i] = (slm_segment){roles[i], 0, texts[i], strlen(texts[i])};
    void *blob = NULL;
    size_t bytes = 0, bad = 0;
    slm_tokenizer *tok = NULL;
    slm_prompt prompt = {0};
    slm_error err = {0};
    slm_status status = golden_vocab(c->vocab, c->forced, &blob, &bytes, &err);
    if (status == SLM_IO) {
        printf("skip chat: %s\n", err.message);
        return;
    }
    CHECK(status == SLM_OK, "%s", err.message);
    CHECK(slm_tokenizer_open(blob, bytes, &tok, &err) == SLM_OK, "%s", err.message);
    CHECK(strcmp(slm_tokenizer_chat_format(tok), c->format) == 0, "%s instead of %s", slm_tokenizer_chat_format(tok), c->format);
    CHECK(slm_prompt_build(tok, true, segments, 4, 0, NULL, &prompt, &err) == SLM_OK, "%s", err.message);
    while (bad < prompt.ids.n && bad < c->n && prompt.ids.ids[bad] == c->ids[bad])
        bad++;
    CHECK(prompt.ids.n == c->n && bad == c->n, "%s, %s: %zu ids for %zu, first difference at %zu", c->vocab, c->format, prompt.ids.n, c->n,
          bad);
    slm_prompt_free(&prompt);
    slm_tokenizer_free(tok);
    free(blob);
}

int main(void)
{
    for (size_t i = 0; i < sizeof conversations / sizeof conversations[0]; i++)
        run(&conversations[i]);
    TEST_MAIN_END("chat_ids");
}

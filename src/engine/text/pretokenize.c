/*
 * Pre-tokenizers of byte-level BPE: the patterns that cut a text into words before merging.
 *
 * The patterns are those published with the models (tokenizer.json of each), rewritten where the original cuts in several passes:
 * a first pass that isolates digits makes a digit count as the end of text for the lookahead of the second.  Every character is
 * matched by some alternative, so words follow each other without gaps.  White space is Unicode's White_Space.
 *
 * Compiled by PCRE2's JIT when a text is first encoded, one pattern a tokenizer.  Limits are set: a match ends in a word or a status.
 */
#include "engine/text/internal.h"

struct slm_pre_rule {
    const char *name;
    const char *pattern;
    bool whole_words; /* a word that is a token as it stands is that token, whatever the merges say */
};

#define WORD_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD_DIGITS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?![^\\s\\p{N}])|\\s+"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD_CL100K(digits)                                                                                                    \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define WORD_O200K(suffix, digits)                                                                                             \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" suffix "|" digits             \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const slm_pre_rule rules[] = {
    {"smollm", WORD_DIGITS, false},
    {"starcoder", WORD_DIGITS, false},
    {"refact", WORD_DIGITS, false},
    {"command-r", WORD_DIGITS, false},
    {"codeshell", WORD_DIGITS, false},
    {"exaone", WORD_DIGITS, false},
    {"gpt-2", WORD_GPT2, false},
    {"default", WORD_GPT2, false},
    {"phi-2", WORD_GPT2, false},
    {"olmo", WORD_GPT2, false},
    {"mpt", WORD_GPT2, false},
    {"jais", WORD_GPT2, false},
    {"trillion", WORD_GPT2, false},
    {"granite-docling", WORD_GPT2, false},
    {"roberta-bpe", WORD_GPT2, false},
    {"modern-bert", WORD_GPT2, false},
    {"llama-bpe", WORD_CL100K("\\p{N}{1,3}"), true},
    {"llama3", WORD_CL100K("\\p{N}{1,3}"), true},
    {"llama-v3", WORD_CL100K("\\p{N}{1,3}"), true},
    {"lfm2", WORD_CL100K("\\p{N}{1,3}"), true},
    {"dbrx", WORD_CL100K("\\p{N}{1,3}"), false},
    {"smaug-bpe", WORD_CL100K("\\p{N}{1,3}"), false},
    {"glm4", WORD_CL100K("\\p{N}{1,3}"), false},
    {"chatglm-bpe", WORD_CL100K("\\p{N}{1,3}"), false},
    {"qwen2", WORD_CL100K("\\p{N}"), false},
    {"qwen35", CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
                           "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", false},
    {"deepseek-r1-qwen", WORD_CL100K("\\p{N}"), false},
    {"megrez", WORD_CL100K("\\p{N}"), false},
    {"stablelm2", WORD_CL100K("\\p{N}"), false},
    {"gpt-4o", WORD_O200K(CONTRACTION "?", "\\p{N}{1,3}"), false},
    {"tekken", WORD_O200K("", "\\p{N}"), true},
};

const slm_pre_rule *slm_pre_find(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return NULL;
}

bool slm_pre_whole_words(const slm_pre_rule *rule)
{
    return rule->whole_words;
}

void slm_pre_free(slm_tokenizer *tok)
{
    pcre2_code_free(tok->pattern);
    pcre2_match_data_free(tok->match);
    pcre2_match_context_free(tok->match_context);
    pcre2_jit_stack_free(tok->jit_stack);
    tok->pattern = NULL;
    tok->match = NULL;
    tok->match_context = NULL;
    tok->jit_stack = NULL;
}

static slm_status compile(slm_tokenizer *tok, slm_error *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *pattern = pcre2_compile((PCRE2_SPTR) tok->rule->pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (pattern == NULL) {
        if (code == PCRE2_ERROR_NOMEMORY || code == 121)
            return slm_fail(err, SLM_NOMEM, "out of memory while compiling the pattern of pre-tokenizer %s", tok->rule->name);
        return slm_fail(err, SLM_INTERNAL, "pattern of pre-tokenizer %s does not compile: PCRE2 error %d at %zu", tok->rule->name, code,
                        (size_t) at);
    }
    tok->pattern = pattern;
    tok->match = pcre2_match_data_create(1, NULL);
    tok->match_context = pcre2_match_context_create(NULL);
    if (tok->match == NULL || tok->match_context == NULL) {
        slm_pre_free(tok);
        return slm_fail(err, SLM_NOMEM, "out of memory while preparing pre-tokenizer %s", tok->rule->name);
    }
    pcre2_set_match_limit(tok->match_context, 100000000);
    pcre2_set_heap_limit(tok->match_context, 64 * 1024);
    pcre2_set_depth_limit(tok->match_context, 1000000);
    tok->jitted = pcre2_jit_compile(pattern, PCRE2_JIT_COMPLETE) == 0;
    if (tok->jitted) {
        tok->jit_stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, NULL);
        if (tok->jit_stack != NULL)
            pcre2_jit_stack_assign(tok->match_context, NULL, tok->jit_stack);
    }
    return SLM_OK;
}

slm_status slm_pre_next(slm_tokenizer *tok, const char *text, size_t n, size_t begin, size_t *end, slm_error *err)
{
    if (tok->pattern == NULL)
        SLM_TRY(compile(tok, err));
    int rc = tok->jitted ? pcre2_jit_match(tok->pattern, (PCRE2_SPTR) text, n, begin, PCRE2_NO_UTF_CHECK, tok->match, tok->match_context)
                         : pcre2_match(tok->pattern, (PCRE2_SPTR) text, n, begin, PCRE2_NO_UTF_CHECK, tok->match, tok->match_context);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        if (rc == PCRE2_ERROR_NOMEMORY)
            return slm_fail(err, SLM_NOMEM, "out of memory while cutting text into words");
        slm_fail(err, SLM_LIMIT, "text cannot be cut into words near byte offset %zu (PCRE2 error %d)", begin, rc);
        slm_hint(err, "The text holds an extremely long run without a word boundary; break it into lines.");
        return SLM_LIMIT;
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(tok->match);
    if (rc == PCRE2_ERROR_NOMATCH)
        *end = n;
    else if (span[0] > begin)
        *end = span[0];
    else
        *end = span[1];
    if (*end <= begin || *end > n)
        return slm_fail(err, SLM_INTERNAL, "pre-tokenizer %s made no progress at byte offset %zu", tok->rule->name, begin);
    return SLM_OK;
}

bool slm_tokenizer_default_add_bos(slm_tok_kind kind, const char *pre)
{
    const slm_pre_rule *rule = slm_pre_find(pre);
    return kind == SLM_TOK_SPM || (kind == SLM_TOK_BPE && rule != NULL && rule->whole_words);
}

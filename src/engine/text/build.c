/*
 * Building a tokenizer's blob from a vocabulary, once, at import.  The vocabulary is hostile: every number is checked here
 * again, whatever the source's validator promised.
 *
 * What is decided here so that encoding need not: tokens are decoded to the bytes that they stand for, user-defined tokens that look like
 * control tokens become control tokens, tokens that their own bytes encode to are marked, and the ids that end an answer are listed.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/text/chat.h"
#include "engine/text/steps.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581 */
#define MAX_MERGES (1u << 22)
#define MAX_MERGE_BYTES 8192
#define MAX_STEPS 1024 /* in a hash table: a vocabulary that needs more was made to need more */

typedef struct builder {
    const slm_vocab *vocab;
    slm_tok_header *h; /* the blob */
    uint32_t *offsets;
    char *bytes;
    uint8_t *types;
    float *scores;
    uint64_t *hash;
    slm_tok_merge *merges;
    uint32_t *specials;
} builder;

static bool stopped(const builder *b)
{
    return b->vocab->stop != NULL && *b->vocab->stop != 0;
}

/* A token's text in GPT-2's alphabet to bytes; false when it has a character outside. out holds n bytes. */
static bool decode_alphabet(const char *text, size_t n, char *out, size_t *length)
{
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        int step, value;
        if (slm_utf8_char_length(text + i, n - i) == 0)
            return false;
        value = slm_bpe_byte_of(slm_utf8_decode(text + i, &step));
        if (value < 0)
            return false;
        out[m++] = (char) value;
        i += (size_t) step;
    }
    *length = m;
    return true;
}

static bool id_in(const slm_vocab *v, int32_t id)
{
    return id >= 0 && (size_t) id < v->n_tokens;
}

static slm_status check_vocab(const slm_vocab *v, slm_error *err)
{
    if (v->n_tokens == 0 || v->n_tokens > SLM_TOK_MAX_TOKENS || v->tokens == NULL)
        return slm_fail(err, SLM_FORMAT, "vocabulary of %zu tokens; 1 to %u are possible", v->n_tokens, SLM_TOK_MAX_TOKENS);
    if (v->n_merges > MAX_MERGES)
        return slm_fail(err, SLM_FORMAT, "vocabulary with %zu merges; at most %u are possible", v->n_merges, MAX_MERGES);
    for (size_t i = 0; i < v->n_tokens; i++) {
        if (v->tokens[i].length > SLM_TOK_MAX_BYTES)
            return slm_fail(err, SLM_FORMAT, "token %zu is %zu bytes long", i, v->tokens[i].length);
        if (v->types != NULL && (v->types[i] < 0 || v->types[i] > SLM_TOKEN_BYTE))
            return slm_fail(err, SLM_FORMAT, "token %zu has unknown type %d", i, v->types[i]);
        if (v->kind != SLM_TOK_BPE && slm_utf8_valid_prefix(v->tokens[i].data, v->tokens[i].length) < v->tokens[i].length)
            return slm_fail(err, SLM_FORMAT, "token %zu is not valid UTF-8", i);
        bool scored = v->kind == SLM_TOK_UNIGRAM || (v->kind == SLM_TOK_SPM && v->n_merges == 0);
        if (scored && (v->scores == NULL || !isfinite(v->scores[i])))
            return slm_fail(err, SLM_FORMAT, "token %zu has no finite score", i);
    }
    const struct { const char *name; int32_t id; } special[] = {{"BOS", v->bos}, {"EOS", v->eos}, {"EOT", v->eot}, {"unknown", v->unk},
        {"separator", v->sep}, {"padding", v->pad}, {"CLS", v->cls}, {"mask", v->mask}};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        if (special[i].id < -1 || (special[i].id >= 0 && (size_t) special[i].id >= v->n_tokens))
            return slm_fail(err, SLM_FORMAT, "id %d of the %s token is out of range", special[i].id, special[i].name);
    for (size_t i = 0; i < v->n_ends; i++)
        if (v->n_ends > SLM_VOCAB_MAX_ENDS || v->ends[i] < 0 || (size_t) v->ends[i] >= v->n_tokens)
            return slm_fail(err, SLM_FORMAT, "an end token's id is out of range");
    const slm_tok_frame *f = &v->frame;
    if (f->n_before > SLM_VOCAB_MAX_FRAME || f->n_middle > SLM_VOCAB_MAX_FRAME || f->n_after > SLM_VOCAB_MAX_FRAME)
        return slm_fail(err, SLM_UNSUPPORTED, "more than %d control tokens around a text", SLM_VOCAB_MAX_FRAME);
    for (uint32_t i = 0; i < SLM_VOCAB_MAX_FRAME; i++)
        if ((i < f->n_before && !id_in(v, f->before[i])) || (i < f->n_middle && !id_in(v, f->middle[i])) ||
            (i < f->n_after && !id_in(v, f->after[i])))
            return slm_fail(err, SLM_FORMAT, "the id of a token that is put around texts is out of range");
    if (v->kind == SLM_TOK_BPE && slm_pre_find(v->pre[0] != '\0' ? v->pre : "default") == NULL) {
        slm_fail(err, SLM_UNSUPPORTED, "unknown pre-tokenizer \"%.31s\"", v->pre);
        slm_hint(err, "Known are smollm, gpt-2, llama-bpe, qwen2, gpt-4o, tekken and their relatives.");
        return SLM_UNSUPPORTED;
    }
    return SLM_OK;
}

static uint32_t bits_for(size_t n, size_t tenths)
{
    uint32_t bits = 4;
    while (((size_t) 1 << bits) * tenths / 10 < n)
        bits++;
    return bits;
}

/* What goes around texts: what the source says, or BERT's [CLS] and [SEP] where a WordPiece vocabulary does not say. */
static void set_frame(const slm_vocab *v, slm_tok_header *h)
{
    h->frame = v->frame;
    for (uint32_t i = 0; i < SLM_VOCAB_MAX_FRAME; i++) {
        h->frame.before[i] = i < h->frame.n_before ? h->frame.before[i] : -1;
        h->frame.middle[i] = i < h->frame.n_middle ? h->frame.middle[i] : -1;
        h->frame.after[i] = i < h->frame.n_after ? h->frame.after[i] : -1;
    }
    h->flags = v->framed || v->kind == SLM_TOK_WORDPIECE ? SLM_TOKF_FRAMED : 0;
    if (v->framed || v->kind != SLM_TOK_WORDPIECE)
        return;
    int32_t first = v->cls >= 0 ? v->cls : v->bos, last = v->sep >= 0 ? v->sep : v->eos;
    h->frame = (slm_tok_frame){first >= 0, last >= 0, last >= 0, 1, {first, -1, -1, -1}, {last, -1, -1, -1}, {last, -1, -1, -1}};
}

/* Allocates the blob with room for every section, and sets the header's plain fields. */
static slm_status lay_out(builder *b, slm_error *err)
{
    const slm_vocab *v = b->vocab;
    size_t text = 0;
    for (size_t i = 0; i < v->n_tokens; i++)
        text += v->tokens[i].length;
    if (text > UINT32_MAX - 64)
        return slm_fail(err, SLM_FORMAT, "the vocabulary's tokens are %zu bytes long together", text);
    bool scored = v->kind == SLM_TOK_UNIGRAM || (v->kind == SLM_TOK_SPM && v->n_merges == 0);
    uint32_t hash_bits = bits_for(v->n_tokens, 5), merge_bits = v->n_merges > 0 ? bits_for(v->n_merges, 6) : 0;
    uint64_t at = (sizeof(slm_tok_header) + 63) / 64 * 64;
    slm_tok_header h = {.byte_order = SLM_TOK_BYTE_ORDER, .kind = v->kind, .n_tokens = (uint32_t) v->n_tokens, .hash_bits = hash_bits,
        .merge_bits = merge_bits, .bos = v->bos, .eos = v->eos, .eot = v->eot, .unk = v->unk, .sep = v->sep, .pad = v->pad, .cls = v->cls,
        .mask = v->mask};
    const struct { uint64_t *at, n; } sections[] = {{&h.at_offsets, 4 * ((uint64_t) v->n_tokens + 1)}, {&h.at_bytes, text},
        {&h.at_types, v->n_tokens}, {&h.at_scores, scored ? 4 * (uint64_t) v->n_tokens : 0},
        {&h.at_hash, UINT64_C(8) << hash_bits}, {&h.at_merges, merge_bits != 0 ? (uint64_t) sizeof(slm_tok_merge) << merge_bits : 0},
        {&h.at_specials, 4 * (uint64_t) v->n_tokens}, {&h.at_steps, slm_steps_bytes(v->steps, v->n_steps)}};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        bool optional = sections[i].at == &h.at_scores || sections[i].at == &h.at_merges || sections[i].at == &h.at_steps;
        bool absent = sections[i].n == 0 && optional;
        *sections[i].at = absent ? 0 : at;
        at += (sections[i].n + 63) / 64 * 64;
    }
    h.bytes = at;
    memcpy(h.magic, SLM_TOK_MAGIC, sizeof h.magic);
    h.n_steps = (uint32_t) v->n_steps;
    h.steps_bytes = slm_steps_bytes(v->steps, v->n_steps);
    set_frame(v, &h);
    h.flags |= (v->add_bos ? SLM_TOKF_ADD_BOS : 0) | (v->add_eos ? SLM_TOKF_ADD_EOS : 0) |
              (v->add_space_prefix ? SLM_TOKF_SPACE_PREFIX : 0) | (v->lowercase ? SLM_TOKF_LOWERCASE : 0) |
              (v->strip_accents ? SLM_TOKF_STRIP_ACCENTS : 0) | (v->prefix_first ? SLM_TOKF_PREFIX_FIRST : 0) |
              (v->prefix_once ? SLM_TOKF_PREFIX_ONCE : 0) | (v->split_marks ? SLM_TOKF_SPLIT_MARKS : 0) |
              (v->split_white ? SLM_TOKF_SPLIT_WHITE : 0) | (v->byte_fallback ? SLM_TOKF_BYTE_FALLBACK : 0) |
              (v->fuse_unknown ? SLM_TOKF_FUSE_UNKNOWN : 0) | (v->keep_cjk ? SLM_TOKF_KEEP_CJK : 0);
    char *blob = calloc(1, at);
    if (blob == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the tokenizer's tables (%llu bytes)", (unsigned long long) at);
    memcpy(blob, &h, sizeof h);
    b->h = (slm_tok_header *) blob;
    b->offsets = (uint32_t *) (blob + h.at_offsets);
    b->bytes = blob + h.at_bytes;
    b->types = (uint8_t *) (blob + h.at_types);
    if (v->n_steps > 0)
        slm_steps_write(v->steps, v->n_steps, blob + h.at_steps);
    b->scores = h.at_scores != 0 ? (float *) (blob + h.at_scores) : NULL;
    b->hash = (uint64_t *) (blob + h.at_hash);
    b->merges = h.at_merges != 0 ? (slm_tok_merge *) (blob + h.at_merges) : NULL;
    b->specials = (uint32_t *) (blob + h.at_specials);
    return SLM_OK;
}

/* The type of a token for us: what structures a prompt must never come from a row. */
static uint8_t type_of(const slm_vocab *v, size_t i)
{
    int32_t type = v->types == NULL || v->types[i] == 0 ? SLM_TOKEN_NORMAL : v->types[i];
    int32_t id = (int32_t) i;
    bool named = id == v->bos || id == v->eos || id == v->eot || id == v->sep || id == v->pad || id == v->cls || id == v->mask;
    if (v->split_marks && type == SLM_TOKEN_NORMAL && slm_tok_byte_token(v->tokens[i].data, v->tokens[i].length) >= 0)
        return SLM_TOKEN_BYTE; /* mmBERT's files do not say so */
    if (v->kind == SLM_TOK_WORDPIECE && (named || id == v->unk))
        return SLM_TOKEN_CONTROL;
    if (type == SLM_TOKEN_USER_DEFINED && (named || slm_chat_is_control_text(v->tokens[i].data, v->tokens[i].length)))
        return SLM_TOKEN_CONTROL;
    return (uint8_t) type;
}

/* WordPiece vocabularies come as vocab.txt ("##ing" goes on a word) or as in GGUF (U+2581 begins one, "ing" goes on): are these GGUF's? */
static bool marks_beginnings(const slm_vocab *v)
{
    for (size_t i = 0; i < v->n_tokens; i++)
        if (v->tokens[i].length > 2 && memcmp(v->tokens[i].data, "##", 2) == 0)
            return false;
    return true;
}

/* Cuts a WordPiece token's mark off; returns SLM_TOK_CONTINUED when it goes on a word. */
static uint8_t cut_mark(bool gguf, const char **text, size_t *n)
{
    const char *mark = gguf ? SPACE_MARK : "##";
    size_t length = strlen(mark);
    bool marked = *n > length && memcmp(*text, mark, length) == 0;
    if (marked) {
        *text += length;
        *n -= length;
    }
    return marked != gguf ? SLM_TOK_CONTINUED : 0;
}

/* Copies a SentencePiece user-defined token of a GGUF file; it is searched for in raw text, where spaces are spaces. */
static size_t copy_with_spaces(char *out, const char *text, size_t n)
{
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        bool mark = n - i >= 3 && memcmp(text + i, SPACE_MARK, 3) == 0;
        out[m++] = mark ? ' ' : text[i];
        i += mark ? 3 : 1;
    }
    return m;
}

/* Offsets, bytes, types and scores of all tokens. */
static void place_tokens(builder *b)
{
    const slm_vocab *v = b->vocab;
    bool gguf = v->kind == SLM_TOK_WORDPIECE && marks_beginnings(v);
    uint32_t at = 0;
    for (size_t i = 0; i < v->n_tokens; i++) {
        const char *text = v->tokens[i].data;
        size_t n = v->tokens[i].length;
        uint8_t type = type_of(v, i);
        if (v->kind == SLM_TOK_WORDPIECE && type != SLM_TOKEN_CONTROL)
            type |= cut_mark(gguf, &text, &n);
        if ((type & SLM_TOK_TYPE) == SLM_TOKEN_USER_DEFINED) {
            type = SLM_TOKEN_USER_DEFINED;
            type |= v->added != NULL ? (uint8_t) (v->added[i] << SLM_TOK_ADDED_SHIFT) : 0;
        }
        uint8_t plain = type & SLM_TOK_TYPE;
        b->offsets[i] = at;
        size_t m = n;
        bool literal = v->kind != SLM_TOK_BPE || plain == SLM_TOKEN_CONTROL || plain == SLM_TOKEN_USER_DEFINED;
        if ((v->kind == SLM_TOK_SPM || v->kind == SLM_TOK_UNIGRAM) && plain == SLM_TOKEN_USER_DEFINED && v->added == NULL) {
            m = copy_with_spaces(b->bytes + at, text, n);
        } else if (literal || !decode_alphabet(text, n, b->bytes + at, &m)) {
            m = n;
            if (n > 0)
                memcpy(b->bytes + at, text, n);
        }
        at += (uint32_t) m;
        b->types[i] = type;
        if (m > b->h->max_token_bytes)
            b->h->max_token_bytes = (uint32_t) m;
        if (b->scores != NULL) {
            b->scores[i] = v->scores[i];
            b->h->lowest_score = i == 0 || b->scores[i] < b->h->lowest_score ? b->scores[i] : b->h->lowest_score;
        }
        if (plain == SLM_TOKEN_USER_DEFINED && (type >> SLM_TOK_ADDED_SHIFT & SLM_ADDED_NORMALIZED) != 0)
            b->h->flags |= SLM_TOKF_NORMALIZED;
    }
    b->offsets[v->n_tokens] = at;
}

/* Is this a token of byte-level BPE whose text is not in GPT-2's alphabet?  Merges never make it: where another one has its bytes, that one
 * is found. */
static bool outside_alphabet(const builder *b, uint32_t id)
{
    const slm_bytes *t = &b->vocab->tokens[id];
    for (size_t i = 0; b->h->kind == SLM_TOK_BPE && (b->types[id] & SLM_TOK_TYPE) == SLM_TOKEN_NORMAL && i < t->length;) {
        int step;
        if (slm_utf8_char_length(t->data + i, t->length - i) == 0 || slm_bpe_byte_of(slm_utf8_decode(t->data + i, &step)) < 0)
            return true;
        i += (size_t) step;
    }
    return false;
}

static slm_status insert(builder *b, uint32_t id, slm_error *err)
{
    uint32_t n = b->offsets[id + 1] - b->offsets[id], slots = (1u << b->h->hash_bits) - 1, step = 0;
    uint64_t hash = XXH3_64bits(b->bytes + b->offsets[id], n);
    uint32_t i = (uint32_t) hash & slots;
    while ((uint32_t) b->hash[i] != SLM_TOK_NONE) {
        i = (i + 1) & slots;
        if (++step > MAX_STEPS)
            return slm_fail(err, SLM_FORMAT, "the vocabulary repeats tokens, among them token %u", id);
    }
    b->hash[i] = (hash & UINT64_C(0xFFFFFFFF00000000)) | id;
    if (step > b->h->max_probe)
        b->h->max_probe = step;
    return SLM_OK;
}

static slm_status fill_hash(builder *b, slm_error *err)
{
    for (uint32_t i = 0; i <= (1u << b->h->hash_bits) - 1; i++)
        b->hash[i] = UINT64_MAX;
    for (int outside = 0; outside < 2; outside++)
        for (uint32_t id = 0; id < b->h->n_tokens; id++)
            if (b->offsets[id + 1] > b->offsets[id] && outside_alphabet(b, id) == (outside == 1))
                SLM_TRY(insert(b, id, err));
    return SLM_OK;
}

static int32_t find_part(const slm_tokenizer *tok, const char *bytes, size_t n)
{
    int32_t id = slm_tok_lookup(tok, bytes, n, SLM_TOK_TYPE, SLM_TOKEN_NORMAL);
    return id >= 0 ? id : slm_tok_lookup(tok, bytes, n, 0, 0);
}

/* The ids of "left right" and of both together. */
static slm_status parse_merge(const slm_tokenizer *tok, slm_bytes text, size_t number, slm_tok_merge *out, slm_error *err)
{
    char bytes[MAX_MERGE_BYTES];
    size_t left_n, right_n;
    const char *space = text.length > 1 ? memchr(text.data + 1, ' ', text.length - 1) : NULL;
    if (space == NULL || space == text.data + text.length - 1 || text.length > sizeof bytes)
        return slm_fail(err, SLM_FORMAT, "merge %zu is not of the form \"left right\"", number);
    size_t left_length = (size_t) (space - text.data), right_length = text.length - left_length - 1;
    bool alphabet = tok->h->kind == SLM_TOK_BPE;
    if (!alphabet || !decode_alphabet(text.data, left_length, bytes, &left_n)) {
        memcpy(bytes, text.data, left_length);
        left_n = left_length;
    }
    if (!alphabet || !decode_alphabet(space + 1, right_length, bytes + left_n, &right_n)) {
        memcpy(bytes + left_n, space + 1, right_length);
        right_n = right_length;
    }
    int32_t left = find_part(tok, bytes, left_n), right = find_part(tok, bytes + left_n, right_n);
    int32_t whole = find_part(tok, bytes, left_n + right_n);
    if (left < 0 || right < 0 || whole < 0)
        return slm_fail(err, SLM_FORMAT, "merge %zu (\"%.*s\") names a token that the vocabulary does not have", number,
                        (int) (text.length > 100 ? 100 : text.length), text.data);
    *out = (slm_tok_merge){(uint32_t) left, (uint32_t) right, (uint32_t) number, (uint32_t) whole};
    return SLM_OK;
}

static slm_status fill_merges(builder *b, const slm_tokenizer *tok, slm_error *err)
{
    if (b->merges == NULL)
        return SLM_OK;
    uint32_t mask = (1u << b->h->merge_bits) - 1;
    for (uint32_t i = 0; i <= mask; i++)
        b->merges[i].left = SLM_TOK_NONE;
    for (size_t number = 0; number < b->vocab->n_merges; number++) {
        slm_tok_merge merge;
        if ((number & 1023) == 0 && stopped(b))
            return slm_fail(err, SLM_CANCELLED, "building the tokenizer was cancelled");
        SLM_TRY(parse_merge(tok, b->vocab->merges[number], number, &merge, err));
        if ((tok->types[merge.id] & SLM_TOK_TYPE) == SLM_TOKEN_CONTROL)
            continue; /* which no text may become */
        uint64_t key = (uint64_t) merge.left << 32 | merge.right;
        uint32_t i = (uint32_t) (key * UINT64_C(0x9E3779B97F4A7C15) >> (64 - b->h->merge_bits)), step = 0;
        while (b->merges[i].left != SLM_TOK_NONE && (b->merges[i].left != merge.left || b->merges[i].right != merge.right)) {
            i = (i + 1) & mask;
            if (++step > MAX_STEPS)
                return slm_fail(err, SLM_FORMAT, "the vocabulary's merges cannot be indexed, merge %zu", number);
        }
        if (b->merges[i].left == SLM_TOK_NONE)
            b->merges[i] = merge;
        if (step > b->h->merge_probe)
            b->h->merge_probe = step;
    }
    return SLM_OK;
}

static int compare_specials(const void *a, const void *b, void *arg)
{
    const builder *build = arg;
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    size_t n = build->offsets[x + 1] - build->offsets[x], m = build->offsets[y + 1] - build->offsets[y];
    int order = memcmp(build->bytes + build->offsets[x], build->bytes + build->offsets[y], n < m ? n : m);
    if (order != 0)
        return order;
    return n != m ? (n < m ? -1 : 1) : x < y ? -1 : x > y;
}

static void list_specials(builder *b)
{
    for (uint32_t id = 0; id < b->h->n_tokens; id++) {
        uint32_t n = b->offsets[id + 1] - b->offsets[id];
        uint8_t type = b->types[id] & SLM_TOK_TYPE;
        if ((type == SLM_TOKEN_CONTROL || type == SLM_TOKEN_USER_DEFINED) && n > 0 && n <= SLM_TOK_MAX_SPECIAL &&
            slm_utf8_valid_prefix(b->bytes + b->offsets[id], n) == n)
            b->specials[b->h->n_specials++] = id;
    }
    qsort_r(b->specials, b->h->n_specials, sizeof *b->specials, compare_specials, b);
}

static void add_end(slm_tok_header *h, int32_t id)
{
    if (id < 0 || h->n_ends == SLM_TOK_MAX_ENDS)
        return;
    for (uint32_t i = 0; i < h->n_ends; i++)
        if (h->ends[i] == id)
            return;
    h->ends[h->n_ends++] = id;
}

/* EOS, EOT, those that the source lists, the chat format's end tokens, and the well-known ones where the vocabulary has them as control
 * tokens. */
static void list_ends(builder *b, const slm_tokenizer *tok)
{
    static const char *const known[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>",
        "<end_of_turn>", "<eos>", "</s>", "<|return|>"};
    add_end(b->h, b->h->eos);
    add_end(b->h, b->h->eot);
    for (size_t i = 0; i < b->vocab->n_ends; i++)
        add_end(b->h, b->vocab->ends[i]);
    const slm_chat_format *format = slm_chat_find(b->h->chat);
    for (int i = 0; format != NULL && slm_chat_end_text(format, i) != NULL; i++) {
        const char *text = slm_chat_end_text(format, i);
        add_end(b->h, slm_tok_lookup(tok, text, strlen(text), SLM_TOK_TYPE, SLM_TOKEN_CONTROL));
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        add_end(b->h, slm_tok_lookup(tok, known[i], strlen(known[i]), SLM_TOK_TYPE, SLM_TOKEN_CONTROL));
}

/* Has a token of the vocabulary a space behind another character? */
static bool spaces_inside(const builder *b)
{
    for (uint32_t id = 0; id < b->h->n_tokens; id++) {
        const char *bytes = b->bytes + b->offsets[id];
        size_t n = b->offsets[id + 1] - b->offsets[id], at = 0;
        if (b->types[id] != SLM_TOKEN_NORMAL && (b->types[id] & SLM_TOK_TYPE) != SLM_TOKEN_USER_DEFINED)
            continue;
        while (n - at >= 3 && memcmp(bytes + at, SPACE_MARK, 3) == 0)
            at += 3;
        if (n > at && memmem(bytes + at, n - at, SPACE_MARK, 3) != NULL)
            return true;
    }
    return false;
}

/* Which tokens do their own bytes encode to? */
static slm_status mark_whole(builder *b, slm_tokenizer *tok, slm_error *err)
{
    slm_ids ids = {0};
    slm_status status = SLM_OK;
    tok->out = &ids;
    for (uint32_t id = 0; id < b->h->n_tokens && status == SLM_OK; id++) {
        if ((id & 1023) == 0 && stopped(b)) {
            status = slm_fail(err, SLM_CANCELLED, "building the tokenizer was cancelled");
            break;
        }
        if (b->types[id] != SLM_TOKEN_NORMAL || b->offsets[id + 1] == b->offsets[id])
            continue;
        ids.n = 0;
        const char *bytes = b->bytes + b->offsets[id];
        size_t n = b->offsets[id + 1] - b->offsets[id];
        status = b->h->kind == SLM_TOK_BPE ? slm_bpe_word(tok, bytes, n, 0, false, err) : slm_spm_token(tok, bytes, n, err);
        if (status == SLM_OK && ids.n == 1 && ids.ids[0] == (int32_t) id)
            b->types[id] |= SLM_TOK_WHOLE;
    }
    tok->out = NULL;
    free(ids.ids);
    return status;
}

static slm_status fill_bytes(builder *b, const slm_tokenizer *tok, slm_error *err)
{
    for (int i = 0; i < 256; i++)
        b->h->byte_id[i] = -1;
    if (b->h->kind == SLM_TOK_BPE) {
        for (int i = 0; i < 256; i++) {
            char byte = (char) i;
            b->h->byte_id[i] = slm_tok_lookup(tok, &byte, 1, SLM_TOK_TYPE, SLM_TOKEN_NORMAL);
        }
        return SLM_OK;
    }
    for (uint32_t id = 0; id < b->h->n_tokens; id++) {
        if (b->types[id] != SLM_TOKEN_BYTE)
            continue;
        int value = slm_tok_byte_token(b->bytes + b->offsets[id], b->offsets[id + 1] - b->offsets[id]);
        if (value < 0)
            return slm_fail(err, SLM_FORMAT, "token %u has the type of a byte but not the form <0xNN>", id);
        b->h->byte_id[value] = (int32_t) id;
    }
    return SLM_OK;
}

static slm_status choose_chat(builder *b, const char *forced, slm_error *err)
{
    const slm_vocab *v = b->vocab;
    const char *name = "raw";
    if (v->kind == SLM_TOK_WORDPIECE || v->framed) {
        name = "";
    } else if (forced != NULL && forced[0] != '\0') {
        if (slm_chat_find(forced) == NULL) {
            slm_fail(err, SLM_INVALID, "unknown chat format \"%.60s\"", forced);
            slm_hint(err, "Known are raw, chatml, smollm, qwen2, llama3, phi3, gemma, mistral-v3 and others; see docs/MODELS.md.");
            return SLM_INVALID;
        }
        name = forced;
    } else if (v->chat_template != NULL && v->chat_template[0] != '\0') {
        name = slm_chat_recognize(v->chat_template);
        if (name == NULL)
            name = "unknown";
    }
    snprintf(b->h->chat, sizeof b->h->chat, "%s", name);
    slm_chat_template_system(slm_chat_find(name), v->chat_template, b->h->system, sizeof b->h->system);
    return SLM_OK;
}

/* Everything that needs lookups in the tokens' hash table. */
static slm_status fill_tables(builder *b, slm_error *err)
{
    slm_tokenizer *tok = NULL;
    SLM_TRY(slm_tokenizer_open(b->h, b->h->bytes, &tok, err));
    slm_status status = fill_bytes(b, tok, err);
    if (status == SLM_OK && (b->h->kind == SLM_TOK_BPE || b->h->kind == SLM_TOK_SPM))
        status = fill_merges(b, tok, err);
    if (b->h->kind == SLM_TOK_SPM && !spaces_inside(b))
        b->h->flags |= SLM_TOKF_SPLIT_SPACES;
    if (status == SLM_OK && (b->h->kind == SLM_TOK_BPE || b->h->kind == SLM_TOK_SPM))
        status = mark_whole(b, tok, err);
    list_specials(b);
    list_ends(b, tok);
    slm_tokenizer_free(tok);
    return status;
}

/* The end token that is named by its text. */
static slm_status name_end(slm_vocab *v, slm_error *err)
{
    size_t id = 0, length = v->end_text != NULL ? strlen(v->end_text) : 0;
    if (v->end_text == NULL)
        return SLM_OK;
    while (id < v->n_tokens && (v->tokens[id].length != length || memcmp(v->tokens[id].data, v->end_text, length) != 0))
        id++;
    if (id == v->n_tokens) {
        slm_fail(err, SLM_INVALID, "the vocabulary has no token \"%.40s\" to end an answer with", v->end_text);
        return slm_hint(err, "The option \"eos\" is the text of a token, such as \"<|im_end|>\" or \"</s>\".");
    }
    v->eos = (int32_t) id;
    return SLM_OK;
}

slm_status slm_tokenizer_build(const slm_vocab *given, const char *chat_format, void **blob, size_t *bytes, slm_error *err)
{
    slm_vocab named = *given, *vocab = &named;
    builder b = {.vocab = vocab};
    SLM_TRY(name_end(vocab, err));
    if (vocab->kind > SLM_TOK_UNIGRAM)
        return slm_fail(err, SLM_INVALID, "unknown kind of tokenizer %d", (int) vocab->kind);
    SLM_TRY(check_vocab(vocab, err));
    SLM_TRY(slm_steps_accept(vocab->steps, vocab->n_steps, err));
    SLM_TRY(lay_out(&b, err));
    const char *pre = vocab->pre[0] != '\0' ? vocab->pre : "default";
    slm_status status = choose_chat(&b, chat_format, err);
    if (status == SLM_OK) {
        snprintf(b.h->pre, sizeof b.h->pre, "%.31s", pre);
        bool bpe = vocab->kind == SLM_TOK_BPE;
        if (bpe && (vocab->whole_words != 0 ? vocab->whole_words > 0 : slm_pre_whole_words(slm_pre_find(b.h->pre))))
            b.h->flags |= SLM_TOKF_WHOLE_WORDS;
        place_tokens(&b);
        status = fill_hash(&b, err);
    }
    if (status == SLM_OK)
        status = fill_tables(&b, err);
    if (status != SLM_OK) {
        free(b.h);
        return status;
    }
    *blob = b.h;
    *bytes = b.h->bytes;
    return SLM_OK;
}

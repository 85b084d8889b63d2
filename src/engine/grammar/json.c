/*
 * Reading and writing JSON; see json.h.
 */
#include "engine/grammar/json.h"

#include <stdlib.h>

#include "engine/base/utf8.h"

enum { MAX_JSON_DEPTH = 256, HASHED = 16 };

typedef struct reader {
    slm_budget *b;
    const char *text;
    size_t n, at;
    int depth;
} reader;

static bool wrong(reader *r, const char *what)
{
    return slm_budget_fail(r->b, SLM_INVALID, "the JSON is broken at byte %zu: %s", r->at, what);
}

static void space(reader *r)
{
    while (r->at < r->n && (r->text[r->at] == ' ' || r->text[r->at] == '\n' || r->text[r->at] == '\t' || r->text[r->at] == '\r'))
        r->at++;
}

static bool take(reader *r, char c)
{
    if (r->at >= r->n || r->text[r->at] != c)
        return false;
    r->at++;
    return true;
}

static int hex4(const char *s)
{
    int c = 0;
    for (int i = 0; i < 4; i++) {
        int v = s[i] >= '0' && s[i] <= '9' ? s[i] - '0' : (s[i] | 32) >= 'a' && (s[i] | 32) <= 'f' ? (s[i] | 32) - 'a' + 10 : -1;
        if (v < 0)
            return -1;
        c = c * 16 + v;
    }
    return c;
}

/* Behind \u: writes the character to out; bytes written, 0 when broken. */
static int unicode(reader *r, char *out)
{
    int c = r->n - r->at >= 4 ? hex4(r->text + r->at) : -1, low;
    r->at += 4;
    if (c >= 0xD800 && c < 0xDC00 && r->n - r->at >= 6 && r->text[r->at] == '\\' && r->text[r->at + 1] == 'u') {
        low = hex4(r->text + r->at + 2);
        if (low < 0xDC00 || low > 0xDFFF)
            return 0;
        r->at += 6;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    return c < 0 || (c >= 0xD800 && c < 0xE000) ? 0 : slm_utf8_encode((uint32_t) c, out);
}

/* A string from its opening quote: decoded into memory of the budget. */
static const char *string(reader *r, uint32_t *n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t end = ++r->at;
    uint32_t length = 0;
    char *out;
    while (end < r->n && r->text[end] != '"')
        end += r->text[end] == '\\' ? 2 : 1;
    if (end >= r->n)
        return wrong(r, "a string without its end"), NULL;
    out = slm_budget_alloc(r->b, end - r->at + 1);
    if (out == NULL)
        return NULL;
    while (r->at < end) {
        char c = r->text[r->at];
        if (c == '\\') {
            const char *known = r->text[r->at + 1] == 0 ? NULL : strchr(from, r->text[r->at + 1]);
            int bytes = 1;
            r->at += 2;
            if (known != NULL)
                out[length] = to[known - from];
            else if (r->text[r->at - 1] != 'u' || (bytes = unicode(r, out + length)) == 0)
                return wrong(r, "an escape that is none, or half a surrogate pair"), NULL;
            length += (uint32_t) bytes;
        } else {
            int bytes = slm_utf8_char_length(r->text + r->at, end - r->at);
            if (bytes <= 0 || (unsigned char) c < 32)
                return wrong(r, "a control character or broken UTF-8 in a string"), NULL;
            memcpy(out + length, r->text + r->at, (size_t) bytes);
            r->at += (size_t) bytes;
            length += (uint32_t) bytes;
        }
    }
    r->at = end + 1;
    *n = length;
    return out;
}

static bool digits(reader *r)
{
    size_t from = r->at;
    while (r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9')
        r->at++;
    return r->at > from;
}

static bool number(reader *r, slm_json *v)
{
    size_t from = r->at;
    take(r, '-');
    if (!take(r, '0') && !digits(r))
        return wrong(r, "no value");
    if (take(r, '.') && !digits(r))
        return wrong(r, "a number without decimals behind its point");
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '-'))
            take(r, '+');
        if (!digits(r))
            return wrong(r, "a number without its exponent");
    }
    v->type = JSON_NUMBER_;
    v->text = r->text + from;
    v->n = (uint32_t) (r->at - from);
    return true;
}

static bool value(reader *r, slm_json *v);

static bool same_key(const slm_json *a, const slm_json *b)
{
    return a->n_key == b->n_key && memcmp(a->key, b->key, a->n_key) == 0;
}

/* Is a key there twice?  Small objects by comparing all, others by a table. */
static bool keys_differ(reader *r, const slm_json *object)
{
    uint32_t room = 16;
    const slm_json **table, *twice = NULL;
    while (room < object->n * 2)
        room *= 2;
    if (object->n < 2)
        return true;
    table = calloc(room, sizeof *table);
    if (table == NULL)
        return slm_budget_fail(r->b, SLM_NOMEM, "out of memory for a grammar");
    for (const slm_json *m = object->first; m != NULL && twice == NULL; m = m->next) {
        uint32_t h = slm_hash_text(m->key, m->n_key) & (room - 1);
        while (table[h] != NULL && !same_key(table[h], m))
            h = (h + 1) & (room - 1);
        if (table[h] != NULL)
            twice = m;
        table[h] = m;
    }
    free(table);
    if (twice != NULL)
        return slm_budget_fail(r->b, SLM_INVALID, "the key \"%.*s\" comes twice in one object",
                               (int) (twice->n_key < 100 ? twice->n_key : 100), twice->key);
    return true;
}

static bool members(reader *r, slm_json *v, char end)
{
    slm_json **last = &v->first;
    r->at++;
    if (++r->depth > MAX_JSON_DEPTH)
        return slm_budget_fail(r->b, SLM_LIMIT, "the JSON is nested deeper than %d", MAX_JSON_DEPTH);
    space(r);
    if (take(r, end))
        return r->depth--, true;
    for (;;) {
        slm_json *m = slm_budget_alloc(r->b, sizeof *m);
        if (m == NULL || !slm_budget_step(r->b, 1))
            return false;
        space(r);
        if (end == '}') {
            if (r->at >= r->n || r->text[r->at] != '"')
                return wrong(r, "a key is due");
            m->key = string(r, &m->n_key);
            space(r);
            if (m->key == NULL || !take(r, ':'))
                return wrong(r, "a colon is due");
        }
        if (!value(r, m))
            return false;
        *last = m;
        last = &m->next;
        v->n++;
        space(r);
        if (take(r, end))
            break;
        if (!take(r, ','))
            return wrong(r, "a comma is due");
    }
    r->depth--;
    return end != '}' || keys_differ(r, v);
}

static bool word(reader *r, const char *text)
{
    size_t n = strlen(text);
    if (r->n - r->at < n || memcmp(r->text + r->at, text, n) != 0)
        return false;
    r->at += n;
    return true;
}

static bool value(reader *r, slm_json *v)
{
    space(r);
    if (r->at >= r->n)
        return wrong(r, "a value is due");
    switch (r->text[r->at]) {
    case '{':
        v->type = JSON_OBJECT_;
        return members(r, v, '}');
    case '[':
        v->type = JSON_ARRAY_;
        return members(r, v, ']');
    case '"':
        v->type = JSON_STRING_;
        v->text = string(r, &v->n);
        return v->text != NULL;
    case 't':
        v->type = JSON_TRUE_;
        return word(r, "true") || wrong(r, "no value");
    case 'f':
        v->type = JSON_FALSE_;
        return word(r, "false") || wrong(r, "no value");
    case 'n':
        v->type = JSON_NULL_;
        return word(r, "null") || wrong(r, "no value");
    default:
        return number(r, v);
    }
}

slm_json *slm_json_read(slm_budget *b, const char *text, size_t n)
{
    reader r = {b, text, n, 0, 0};
    slm_json *v = slm_budget_alloc(b, sizeof *v);
    if (v == NULL || !value(&r, v))
        return NULL;
    space(&r);
    if (r.at < n)
        return wrong(&r, "something follows the value"), NULL;
    return b->failed ? NULL : v;
}

slm_json *slm_json_member(const slm_json *object, const char *key)
{
    size_t n = strlen(key);
    if (object->type != JSON_OBJECT_)
        return NULL;
    for (slm_json *m = object->first; m != NULL; m = m->next)
        if (m->n_key == n && memcmp(m->key, key, n) == 0)
            return m;
    return NULL;
}

static bool equal_numbers(slm_rx_pool *p, const slm_json *a, const slm_json *b)
{
    uint32_t x, y;
    if (a->n == b->n && memcmp(a->text, b->text, a->n) == 0)
        return true;
    if (!slm_decimal_parse(p, a->text, a->n, &x) || !slm_decimal_parse(p, b->text, b->n, &y))
        return false;
    const slm_decimal *c = &p->decimals[x], *d = &p->decimals[y];
    return c->negative == d->negative && c->n_int == d->n_int && c->n_frac == d->n_frac &&
           memcmp(c->digits, d->digits, c->n_int + c->n_frac) == 0;
}

bool slm_json_equal(slm_rx_pool *p, const slm_json *a, const slm_json *b)
{
    const slm_json *x, *y;
    if (a->type != b->type || !slm_budget_step(p->budget, 1))
        return false;
    switch (a->type) {
    case JSON_NUMBER_:
        return equal_numbers(p, a, b);
    case JSON_STRING_:
        return a->n == b->n && memcmp(a->text, b->text, a->n) == 0;
    case JSON_ARRAY_:
        for (x = a->first, y = b->first; x != NULL && y != NULL; x = x->next, y = y->next)
            if (!slm_json_equal(p, x, y))
                return false;
        return x == NULL && y == NULL;
    case JSON_OBJECT_:
        if (a->n != b->n)
            return false;
        for (x = a->first; x != NULL; x = x->next) {
            for (y = b->first; y != NULL && !same_key(x, y);)
                y = y->next;
            if (y == NULL || !slm_json_equal(p, x, y))
                return false;
        }
        return true;
    default:
        return true;
    }
}

static bool put(slm_budget *b, const char *text, uint32_t length, char **out, uint32_t *n, uint32_t *capacity)
{
    if (!SLM_GROW(b, *out, *capacity, (uint64_t) *n + length))
        return false;
    memcpy(*out + *n, text, length);
    *n += length;
    return true;
}

static bool put_string(slm_budget *b, const char *text, uint32_t length, char **out, uint32_t *n, uint32_t *capacity)
{
    return put(b, "\"", 1, out, n, capacity) && slm_json_escape(b, text, length, out, n, capacity) && put(b, "\"", 1, out, n, capacity);
}

bool slm_json_write(slm_budget *b, const slm_json *v, char **out, uint32_t *n, uint32_t *capacity)
{
    static const char *const words[] = {"null", "false", "true"};
    bool object = v->type == JSON_OBJECT_;
    if (v->type <= JSON_TRUE_)
        return put(b, words[v->type], (uint32_t) strlen(words[v->type]), out, n, capacity);
    if (v->type == JSON_NUMBER_)
        return put(b, v->text, v->n, out, n, capacity);
    if (v->type == JSON_STRING_)
        return put_string(b, v->text, v->n, out, n, capacity);
    if (!put(b, object ? "{" : "[", 1, out, n, capacity))
        return false;
    for (const slm_json *m = v->first; m != NULL; m = m->next)
        if ((object && (!put_string(b, m->key, m->n_key, out, n, capacity) || !put(b, ":", 1, out, n, capacity))) ||
            !slm_json_write(b, m, out, n, capacity) || (m->next != NULL && !put(b, ",", 1, out, n, capacity)))
            return false;
    return put(b, object ? "}" : "]", 1, out, n, capacity);
}

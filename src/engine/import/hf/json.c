/*
 * Bounded reading of a directory's files and typed JSON look-ups.
 *
 * Invariant: no allocation depends on a number inside a file here, only on fstat's size after it was compared with max_bytes.
 * A file that Git LFS has replaced by a pointer is told from a damaged one wherever a file is opened.
 */
#include "engine/import/hf/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/seal.h"

slm_status slm_hf_open_file(int dir, const char *name, bool optional, int *fd, uint64_t *bytes, slm_error *err)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO in the directory must not hang the server. */
    int f = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f < 0) {
        int reason = errno;
        *fd = -1;
        *bytes = 0;
        SLM_TRY(slm_seal_opened(name, false, 0, err));
        return reason == ENOENT && optional ? SLM_OK
                                            : slm_fail_os(err, reason, "could not open file \"%s\" of the model directory", name);
    }
    if (fstat(f, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(f);
        return slm_fail(err, SLM_FORMAT, "\"%s\" of the model directory is not a regular file", name);
    }
    if (slm_file_is_pointer(f)) {
        close(f);
        return slm_file_pointer_error(name, err);
    }
    slm_status status = slm_seal_opened(name, true, (uint64_t) st.st_size, err);
    if (status != SLM_OK) {
        close(f);
        return status;
    }
    *fd = f;
    *bytes = (uint64_t) st.st_size;
    return SLM_OK;
}

slm_status slm_hf_pread(int fd, const char *name, uint64_t offset, void *out, size_t n, slm_error *err)
{
    return slm_seal_read(fd, name, out, n, offset, name, err);
}

slm_status slm_hf_read_text(int dir, const char *name, size_t max_bytes, bool optional, char **out, size_t *length, slm_error *err)
{
    int fd = -1;
    uint64_t bytes = 0;
    SLM_TRY(slm_hf_open_file(dir, name, optional, &fd, &bytes, err));
    *out = NULL;
    *length = 0;
    if (fd < 0)
        return SLM_OK;
    if (bytes > max_bytes) {
        close(fd);
        return slm_fail(err, SLM_FORMAT, "file \"%s\" is %llu bytes long, more than the %zu that such a file may have", name,
                        (unsigned long long) bytes, max_bytes);
    }
    char *text = malloc((size_t) bytes + 1);
    if (text == NULL) {
        close(fd);
        return slm_fail(err, SLM_NOMEM, "out of memory reading \"%s\"", name);
    }
    slm_status status = slm_hf_pread(fd, name, 0, text, (size_t) bytes, err);
    close(fd);
    if (status != SLM_OK) {
        free(text);
        return status;
    }
    text[bytes] = '\0';
    *out = text;
    *length = (size_t) bytes;
    return SLM_OK;
}

/* ---- numbers that the library cannot hold ----
 *
 * Any number is valid JSON; transformers writes 1000000000000000019884624838656 for "no limit".  The library takes integers of 64 bits and
 * reals of double's range.  What is beyond becomes, in place and padded with spaces, a real that is as large: it then fails every check
 * for an integer, and every range.  Numbers that fit stay exact, whatever stands beside them. */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The end of the number's token that begins at p (a sign or a digit). */
static char *number_end(char *p, const char *end)
{
    while (p < end && (is_digit(*p) || *p == '-' || *p == '+' || *p == '.' || *p == 'e' || *p == 'E'))
        p++;
    return p;
}

/* Replaces the token [p, end) when it is a number that does not fit.  Behind it stands what ends a number, or the text's NUL. */
static void tame_number(char *p, char *end)
{
    char real[32];
    bool negative = *p == '-', integer = true;
    char *stop;
    for (char *c = p + negative; c < end; c++)
        integer = integer && is_digit(*c);
    errno = 0;
    if (integer)
        (void) strtoll(p, &stop, 10);
    else
        (void) strtod(p, &stop);
    double x = errno == ERANGE ? strtod(p, NULL) : 0;
    if (errno != ERANGE || stop != end || (!integer && isfinite(x)))
        return;
    int n = isfinite(x) ? snprintf(real, sizeof real, "%.11e", x) : snprintf(real, sizeof real, "%s1e308", negative ? "-" : "");
    if (n > 0 && n <= end - p) { /* an integer that overflows has 19 digits, a real 1e309 */
        memset(p, ' ', (size_t) (end - p));
        memcpy(p, real, (size_t) n);
    }
}

/* Walks over the text outside of its strings. *word: where a NaN or Infinity stands, which Python writes and JSON does not know, or
 * NULL. */
static void tame_numbers(char *text, size_t length, const char **word)
{
    char *p = text, *end = text + length;
    *word = NULL;
    while (p < end) {
        if (*p == '"') {
            for (p++; p < end && *p != '"'; p++)
                p += *p == '\\';
            p++;
        } else if (is_digit(*p) || (*p == '-' && p + 1 < end && is_digit(p[1]))) {
            char *stop = number_end(p, end);
            tame_number(p, stop);
            p = stop;
        } else {
            if (*word == NULL && (strncmp(p, "NaN", 3) == 0 || strncmp(p, "Infinity", 8) == 0))
                *word = p;
            p++;
        }
    }
}

static slm_status parse_error(const char *name, const json_error_t *problem, const char *text, const char *word, slm_error *err)
{
    enum json_error_code code = json_error_code(problem);
    unsigned line = 1;
    if (word != NULL) {
        for (const char *p = text; p < word; p++)
            line += *p == '\n';
        slm_fail(err, SLM_FORMAT, "file \"%s\" is not valid JSON: line %u: %s is no number in JSON", name, line,
                 *word == 'N' ? "NaN" : "Infinity");
        return slm_hint(err, "Write a number or null in its place.");
    }
    if (code == json_error_out_of_memory)
        return slm_fail(err, SLM_NOMEM, "out of memory reading \"%s\"", name);
    if (code == json_error_duplicate_key)
        return slm_fail(err, SLM_FORMAT, "file \"%s\" gives a key twice: line %d: %s", name, problem->line, problem->text);
    if (code == json_error_stack_overflow)
        return slm_fail(err, SLM_FORMAT, "file \"%s\" is nested too deeply: line %d", name, problem->line);
    if (code == json_error_null_character || code == json_error_null_byte_in_key)
        return slm_fail(err, SLM_UNSUPPORTED, "file \"%s\" holds a NUL character, which is not supported: line %d", name, problem->line);
    if (code == json_error_numeric_overflow)
        return slm_fail(err, SLM_UNSUPPORTED, "file \"%s\" holds a number that is too large: line %d", name, problem->line);
    return slm_fail(err, SLM_FORMAT, "file \"%s\" is not valid JSON: line %d: %s", name, problem->line, problem->text);
}

static slm_status parse(const char *text, size_t length, const char *name, size_t flags, json_t **out, slm_error *err)
{
    json_error_t problem;
    const char *word = NULL;
    char *copy = NULL;
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) { /* a byte order mark, as Windows' editors write it */
        text += 3;
        length -= 3;
    }
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES | flags, &problem);
    if (root == NULL) {
        if ((copy = malloc(length + 1)) == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory reading \"%s\"", name);
        memcpy(copy, text, length);
        copy[length] = '\0';
        tame_numbers(copy, length, &word);
        root = json_loadb(copy, length, JSON_REJECT_DUPLICATES | flags, &problem);
    }
    slm_status status = root != NULL ? SLM_OK : parse_error(name, &problem, copy, word, err);
    free(copy);
    if (status == SLM_OK)
        *out = root;
    return status;
}

slm_status slm_hf_parse(const char *text, size_t length, const char *name, json_t **out, slm_error *err)
{
    return parse(text, length, name, 0, out, err);
}

static slm_status load(int dir, const char *name, size_t max_bytes, bool optional, size_t flags, json_t **out, slm_error *err)
{
    char *text;
    size_t length;
    *out = NULL;
    SLM_TRY(slm_hf_read_text(dir, name, max_bytes, optional, &text, &length, err));
    if (text == NULL)
        return SLM_OK;
    slm_status status = parse(text, length, name, flags, out, err);
    free(text);
    return status;
}

slm_status slm_hf_load(int dir, const char *name, size_t max_bytes, bool optional, json_t **out, slm_error *err)
{
    return load(dir, name, max_bytes, optional, 0, out, err);
}

slm_status slm_hf_load_raw(int dir, const char *name, size_t max_bytes, json_t **out, slm_error *err)
{
    return load(dir, name, max_bytes, false, JSON_ALLOW_NUL, out, err);
}

static json_t *value_of(slm_hf_json j, const char *key)
{
    json_t *v = json_object_get(j.object, key); /* NULL for no object */
    return v == NULL || json_is_null(v) ? NULL : v;
}

slm_status slm_hf_u32(slm_hf_json j, const char *key, uint32_t min, uint32_t max, uint32_t *value, slm_error *err)
{
    json_t *v = value_of(j, key);
    if (v == NULL)
        return SLM_OK;
    if (!json_is_integer(v) || json_integer_value(v) < (json_int_t) min || json_integer_value(v) > (json_int_t) max)
        return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is not an integer from %u to %u", key, j.file, min, max);
    *value = (uint32_t) json_integer_value(v);
    return SLM_OK;
}

slm_status slm_hf_f32(slm_hf_json j, const char *key, double min, double max, float *value, slm_error *err)
{
    json_t *v = value_of(j, key);
    if (v == NULL)
        return SLM_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || !isfinite(x) || x < min || x > max)
        return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is not a number from %g to %g", key, j.file, min, max);
    *value = (float) x;
    return SLM_OK;
}

slm_status slm_hf_bool(slm_hf_json j, const char *key, bool *value, slm_error *err)
{
    json_t *v = value_of(j, key);
    if (v == NULL)
        return SLM_OK;
    if (!json_is_boolean(v))
        return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is neither true nor false", key, j.file);
    *value = json_is_true(v);
    return SLM_OK;
}

const char *slm_hf_string(slm_hf_json j, const char *key)
{
    return json_string_value(json_object_get(j.object, key));
}

bool slm_hf_has(slm_hf_json j, const char *key)
{
    return value_of(j, key) != NULL;
}

slm_hf_json slm_hf_member(slm_hf_json j, const char *key)
{
    json_t *v = json_object_get(j.object, key);
    return (slm_hf_json){json_is_object(v) ? v : NULL, j.file};
}

/*
 * Bounded reading of a directory's files and typed JSON look-ups.
 *
 * Invariant: no allocation depends on a number inside a file here, only on fstat's size after it was compared with max_bytes.
 */
#include "engine/hf/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

slm_status slm_hf_open_file(int dir, const char *name, bool optional, int *fd, uint64_t *bytes, slm_error *err)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO in the directory must not hang the server. */
    int f = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f < 0) {
        if (errno == ENOENT && optional) {
            *fd = -1;
            *bytes = 0;
            return SLM_OK;
        }
        return slm_fail(err, SLM_IO, "could not open file \"%s\" of the model directory: %s", name, strerror(errno));
    }
    if (fstat(f, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(f);
        return slm_fail(err, SLM_FORMAT, "\"%s\" of the model directory is not a regular file", name);
    }
    *fd = f;
    *bytes = (uint64_t) st.st_size;
    return SLM_OK;
}

slm_status slm_hf_pread(int fd, const char *name, uint64_t offset, void *out, size_t n, slm_error *err)
{
    char *p = out;
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t) offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return slm_fail(err, SLM_IO, "could not read file \"%s\": %s", name, strerror(errno));
        if (got == 0)
            return slm_fail(err, SLM_FORMAT, "file \"%s\" is truncated", name);
        p += got;
        offset += (uint64_t) got;
        n -= (size_t) got;
    }
    return SLM_OK;
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

slm_status slm_hf_parse(const char *text, size_t length, const char *name, json_t **out, slm_error *err)
{
    json_error_t problem;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL) {
        slm_fail(err, SLM_FORMAT, "file \"%s\" is not valid JSON: line %d: %s", name, problem.line, problem.text);
        return slm_hint(err, "Numbers such as NaN or Infinity and repeated keys are not accepted.");
    }
    *out = root;
    return SLM_OK;
}

slm_status slm_hf_load(int dir, const char *name, size_t max_bytes, bool optional, json_t **out, slm_error *err)
{
    char *text;
    size_t length;
    *out = NULL;
    SLM_TRY(slm_hf_read_text(dir, name, max_bytes, optional, &text, &length, err));
    if (text == NULL)
        return SLM_OK;
    slm_status status = slm_hf_parse(text, length, name, out, err);
    free(text);
    return status;
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

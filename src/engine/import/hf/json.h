/*
 * JSON files of a Hugging Face directory: bounded reading and typed look-ups that name the file in their errors.
 *
 * Files are opened relative to the directory's descriptor, must be regular, and are read with pread into a buffer of a bounded size.
 * Duplicate keys are refused.  Numbers are range-checked where they are taken; a missing key leaves the caller's default untouched.
 */
#ifndef SLM_HF_JSON_H
#define SLM_HF_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* An object and the file it came from (for messages). object may be NULL: then every key is missing. */
typedef struct slm_hf_json {
    json_t *object;
    const char *file;
} slm_hf_json;

/* Opens a regular file of the directory; *fd = -1 and SLM_OK when it is missing and optional. */
slm_status slm_hf_open_file(int dir, const char *name, bool optional, int *fd, uint64_t *bytes, slm_error *err);
/* Reads exactly n bytes at offset: a shorter file is SLM_FORMAT. */
slm_status slm_hf_pread(int fd, const char *name, uint64_t offset, void *out, size_t n, slm_error *err);
/* The whole file, NUL added; NULL and SLM_OK when missing and optional. Free with free(). */
slm_status slm_hf_read_text(int dir, const char *name, size_t max_bytes, bool optional, char **out, size_t *length, slm_error *err);
/* A JSON file whose root is an object or an array; *out NULL when missing and optional. json_decref it. */
slm_status slm_hf_load(int dir, const char *name, size_t max_bytes, bool optional, json_t **out, slm_error *err);
/* The same of a file that must be there and whose strings, but not its keys, may hold NUL: whoever takes one looks at its length. */
slm_status slm_hf_load_raw(int dir, const char *name, size_t max_bytes, json_t **out, slm_error *err);
slm_status slm_hf_parse(const char *text, size_t length, const char *name, json_t **out, slm_error *err);

/* Typed values: null and missing keys leave *value; a wrong type or a value out of range is SLM_FORMAT. */
slm_status slm_hf_u32(slm_hf_json j, const char *key, uint32_t min, uint32_t max, uint32_t *value, slm_error *err);
slm_status slm_hf_f32(slm_hf_json j, const char *key, double min, double max, float *value, slm_error *err);
slm_status slm_hf_bool(slm_hf_json j, const char *key, bool *value, slm_error *err);
/* Borrowed; NULL when the key is missing, null or no string. */
const char *slm_hf_string(slm_hf_json j, const char *key);
/* A key that is there and not null. */
bool slm_hf_has(slm_hf_json j, const char *key);
/* The member object of that name; its object is NULL when missing. */
slm_hf_json slm_hf_member(slm_hf_json j, const char *key);

#endif

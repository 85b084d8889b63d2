/*
 * Base 64 with the standard alphabet (RFC 4648), with or without the padding at its end.
 */
#ifndef SLM_BASE_BASE64_H
#define SLM_BASE_BASE64_H

#include <stddef.h>

#include "engine/base/status.h"

/* The bytes (malloc'ed, *length of them). FORMAT: text is no base 64. */
slm_status slm_base64_decode(const char *text, size_t n, char **bytes, size_t *length, slm_error *err);
/* NUL-terminated, malloc'ed; NULL without memory. */
char *slm_base64_encode(const char *bytes, size_t n);

#endif

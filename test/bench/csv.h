/*
 * Shared by the benchmarks that read Banking77: the fields of a CSV file.
 */
#ifndef SLM_BENCH_CSV_H
#define SLM_BENCH_CSV_H

#include <stdbool.h>

/* One field of a CSV line, unquoted in place; *at moves behind it. true: a comma follows. */
static inline bool field(char **at, char **out)
{
    char *from = *at, *to = *at;
    bool quoted = *from == '"';
    from += quoted;
    *out = to;
    for (; *from != '\0'; from++) {
        if (quoted && from[0] == '"' && from[1] == '"')
            from++;
        else if (quoted && *from == '"') {
            quoted = false;
            continue;
        } else if (!quoted && (*from == ',' || *from == '\n' || *from == '\r'))
            break;
        *to++ = *from;
    }
    bool more = *from == ',';
    while (*from == '\r')
        from++;
    *at = *from != '\0' ? from + 1 : from;
    *to = '\0';
    return more;
}

#endif

/*
 * Files of our own making, mapped for reading and shared with other processes.
 *
 * A page of a mapping that cannot be had (the file was cut short, the disk fails) is a SIGBUS, on whatever thread touches it, and that ends
 * a server with all its sessions.  So the mappings are known to a handler, which puts zeros in the place of what is missing, from the
 * page to the end, and notes it: the work goes on with wrong numbers, and whoever did it asks slm_map_damaged() before he believes any of
 * them.  Readers of a mapping must therefore stay within bounds when what they checked before has become zero.
 */
#ifndef SLM_BASE_MAP_H
#define SLM_BASE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

typedef struct slm_map {
    const void *data; /* [bytes]; NULL: closed */
    uint64_t bytes;
    int slot;         /* of the handler's table; -1: it has no room, and a SIGBUS is one */
} slm_map;

/* Maps a whole regular file; a symbolic link is none.  *out is closed when the file has fewer bytes than `least` (> 0).
 * IO, NOMEM, INVALID; UNSUPPORTED where huge pages are demanded (base/pages.h) and cannot be had. */
slm_status slm_map_open(const char *path, uint64_t least, slm_map *out, slm_error *err);
void slm_map_close(slm_map *map);
/* Has a page been missing? */
bool slm_map_damaged(const slm_map *map);

#endif

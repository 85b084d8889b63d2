/*
 * Mapping files in pages of 2 MiB where the kernel has them: the tables of a core that translate addresses then reach 512 times as far,
 * and its prefetchers do not stop every 4 KiB.
 */
#ifndef SLM_BASE_PAGES_H
#define SLM_BASE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define SLM_HUGE_PAGE ((size_t) 2 << 20)

/* How files are mapped from now on, in the whole process. */
typedef enum slm_huge_pages {
    SLM_HUGE_TRY = 0, /* asked for; taken as they come */
    SLM_HUGE_ON = 1,  /* UNSUPPORTED where they cannot be had */
    SLM_HUGE_OFF = 2
} slm_huge_pages;

void slm_pages_want(slm_huge_pages wanted);
/* The whole file, shared and for reading, at a multiple of SLM_HUGE_PAGE unless that is off; MAP_FAILED and errno. */
void *slm_pages_map(int fd, uint64_t bytes);
/* With SLM_HUGE_ON: touches a few of the mapping's huge pages, and is UNSUPPORTED when they are none.  Otherwise OK. */
slm_status slm_pages_demand(int fd, const void *data, uint64_t bytes, slm_error *err);
/* Bytes of a mapping that are in huge pages now. Reads /proc/self/smaps: milliseconds. */
uint64_t slm_pages_huge_bytes(const void *data, uint64_t bytes);

#endif

/*
 * A page of the page cache can be mapped as a huge one when the file system keeps the file in folios of that size (ext4 since Linux 6.16,
 * XFS, tmpfs with huge=), when file and mapping are aligned alike, and when the mapping asks for it (MADV_HUGEPAGE; then the reading of
 * what is not cached makes such folios too).  A file that was written in small pieces, or copied by a tool that does so, is in the cache
 * in small folios: they stay until they are dropped, which SLM_HUGE_ON does.
 */
#include "engine/base/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SAMPLES 4

static atomic_int wanted;

void slm_pages_want(slm_huge_pages how)
{
    atomic_store(&wanted, (int) how);
}

void *slm_pages_map(int fd, uint64_t bytes)
{
    if (atomic_load(&wanted) == SLM_HUGE_OFF) {
        void *plain = mmap(NULL, (size_t) bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (plain != MAP_FAILED) /* Linux aligns mappings of such files by itself since 6.7 */
            (void) madvise(plain, (size_t) bytes, MADV_NOHUGEPAGE);
        return plain;
    }
    /* room for an aligned beginning; what lies around the mapping is given back */
    size_t room = (size_t) bytes + SLM_HUGE_PAGE;
    char *reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return MAP_FAILED;
    char *begin = (char *) (((uintptr_t) reserved + SLM_HUGE_PAGE - 1) & ~(uintptr_t) (SLM_HUGE_PAGE - 1));
    char *mapped = mmap(begin, (size_t) bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    if (mapped == MAP_FAILED) {
        int failure = errno;
        munmap(reserved, room);
        errno = failure;
        return MAP_FAILED;
    }
    char *end = (char *) (((uintptr_t) begin + (size_t) bytes + 4095) & ~(uintptr_t) 4095);
    if (begin > reserved)
        munmap(reserved, (size_t) (begin - reserved));
    if (reserved + room > end)
        munmap(end, (size_t) (reserved + room - end));
    (void) madvise(mapped, (size_t) bytes, MADV_HUGEPAGE);
    return mapped;
}

uint64_t slm_pages_huge_bytes(const void *data, uint64_t bytes)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    uint64_t sum = 0;
    int inside = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        unsigned long begin, end, kib;
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            inside = begin >= (uintptr_t) data && begin < (uintptr_t) data + bytes;
        else if (inside && (sscanf(line, "FilePmdMapped: %lu", &kib) == 1 || sscanf(line, "AnonHugePages: %lu", &kib) == 1 ||
                            sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1))
            sum += (uint64_t) kib << 10;
    }
    if (f != NULL)
        fclose(f);
    return sum;
}

/* Reads a byte of some huge pages from the first to the last whole one; are they huge? */
static int sample(const void *data, uint64_t bytes)
{
    const volatile unsigned char *p = data;
    uint64_t whole = bytes / SLM_HUGE_PAGE, n = whole < SAMPLES ? whole : SAMPLES;
    for (uint64_t i = 0; i < n; i++)
        (void) p[(n == 1 ? 0 : i * (whole - 1) / (n - 1)) * SLM_HUGE_PAGE];
    return slm_pages_huge_bytes(data, bytes) >= n * SLM_HUGE_PAGE;
}

slm_status slm_pages_demand(int fd, const void *data, uint64_t bytes, slm_error *err)
{
    if (atomic_load(&wanted) != SLM_HUGE_ON || bytes < SLM_HUGE_PAGE || sample(data, bytes))
        return SLM_OK;
    /* the cache may hold it in small pages, which is all that can be helped */
    (void) madvise((void *) (uintptr_t) data, (size_t) bytes, MADV_DONTNEED);
    (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (sample(data, bytes))
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "its pages cannot be had in huge pages of 2 MiB");
    return slm_hint(err, "This takes a file system with large folios (ext4 since Linux 6.16, XFS), \"madvise\" or \"always\" in "
                         "/sys/kernel/mm/transparent_hugepage/enabled, and no process that has the file mapped in small pages.");
}

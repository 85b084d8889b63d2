/*
 * The table of mappings and the handler of SIGBUS.
 *
 * The handler runs on any thread of the process, at any moment, so it uses nothing but atomics and the two system calls mmap and
 * sigaction.  A slot is taken by whoever sets its `begin` from 0; its other fields are set before `bytes`, which makes it visible, and
 * cleared after.  A fault elsewhere goes to the handler that was there before, as if this one were not: the usual end of the process
 * when there was none.
 */
#include "engine/base/map.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/pages.h"

#define SLOTS 1024

static struct {
    _Atomic uintptr_t begin;
    _Atomic uint64_t bytes; /* 0: not in use */
    atomic_bool damaged;
} slots[SLOTS];
static atomic_int n_slots; /* that were ever in use */
static atomic_bool installed;
static uintptr_t page_bytes;
static struct sigaction previous;

/* Puts zeros from the page of `at` to the end of the mapping that holds it; false: there is none. */
static bool repair(uintptr_t at)
{
    int n = atomic_load(&n_slots);
    for (int i = 0; i < n; i++) {
        uint64_t bytes = atomic_load(&slots[i].bytes);
        uintptr_t begin = atomic_load(&slots[i].begin), page = at & ~(page_bytes - 1);
        if (bytes == 0 || at < begin || at - begin >= ((bytes + page_bytes - 1) & ~(uint64_t) (page_bytes - 1)))
            continue;
        atomic_store(&slots[i].damaged, true);
        return mmap((void *) page, begin + bytes - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    }
    return false;
}

static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
    bool fault = info->si_code > 0; /* and not sent by somebody */
    if (fault && repair((uintptr_t) info->si_addr))
        return;
    if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != NULL) {
        previous.sa_sigaction(signal_number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signal_number);
    } else {
        sigaction(SIGBUS, &previous, NULL);
        if (!fault)
            raise(SIGBUS); /* a fault comes again by itself */
    }
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    if (atomic_exchange(&installed, true))
        return;
    page_bytes = (uintptr_t) sysconf(_SC_PAGESIZE);
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
}

static int take_slot(uintptr_t begin, uint64_t bytes)
{
    install();
    for (int i = 0; i < SLOTS; i++) {
        uintptr_t none = 0;
        int n = atomic_load(&n_slots);
        if (!atomic_compare_exchange_strong(&slots[i].begin, &none, begin))
            continue;
        atomic_store(&slots[i].damaged, false);
        while (n <= i && !atomic_compare_exchange_weak(&n_slots, &n, i + 1))
            continue;
        atomic_store(&slots[i].bytes, bytes);
        return i;
    }
    return -1;
}

slm_status slm_map_open(const char *path, uint64_t least, slm_map *out, slm_error *err)
{
    void *data = NULL;
    uint64_t bytes = 0;
    int fd = -1;
    SLM_TRY(slm_file_map(path, least, &data, &bytes, &fd, err));
    *out = (slm_map){.data = data, .bytes = bytes, .slot = -1};
    if (data == NULL)
        return SLM_OK;
    out->slot = take_slot((uintptr_t) data, bytes);
    slm_status status = slm_pages_demand(fd, data, bytes, err);
    slm_file_close(fd);
    if (status != SLM_OK)
        slm_map_close(out);
    return status;
}

void slm_map_close(slm_map *map)
{
    if (map->slot >= 0) {
        atomic_store(&slots[map->slot].bytes, 0);
        atomic_store(&slots[map->slot].begin, 0);
    }
    if (map->data != NULL)
        munmap((void *) (uintptr_t) map->data, (size_t) map->bytes);
    *map = (slm_map){.data = NULL, .slot = -1};
}

bool slm_map_damaged(const slm_map *map)
{
    return map->slot >= 0 && atomic_load(&slots[map->slot].damaged);
}

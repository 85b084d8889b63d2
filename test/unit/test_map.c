/*
 * A mapping whose pages go missing: zeros and a mark, on every thread; faults elsewhere end the process as ever.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/map.h"
#include "engine/base/pages.h"
#include "engine/base/stream.h"
#include "engine/base/threads.h"
#include "slm_test.h"

#define PAGE ((size_t) sysconf(_SC_PAGESIZE))
#define PAGES 64

static char path[] = "/tmp/slm_map_XXXXXX";

/* A file of PAGES pages, each byte the page's number + 1. */
static void write_file(void)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    char *page = malloc(PAGE);
    bool ok = fd >= 0 && page != NULL;
    for (int i = 0; ok && i < PAGES; i++) {
        memset(page, i + 1, PAGE);
        ok = write(fd, page, PAGE) == (ssize_t) PAGE;
    }
    CHECK(ok, "a file of %d pages", PAGES);
    free(page);
    close(fd);
}

static void test_cut(size_t left)
{
    slm_map map, other;
    slm_error err;
    size_t sum = 0, last = 0;
    write_file();
    CHECK(slm_map_open(path, 1, &other, &err) == SLM_OK && slm_map_open(path, 1, &map, &err) == SLM_OK, "open: %s", err.message);
    const volatile unsigned char *bytes = map.data;
    CHECK(map.bytes == PAGES * PAGE && bytes[0] == 1 && bytes[map.bytes - 1] == PAGES && !slm_map_damaged(&map), "whole");
    CHECK(truncate(path, (off_t) left) == 0, "cut");
    for (size_t i = 0; i < map.bytes; i += 512) {
        sum += bytes[i];
        last = bytes[i] != 0 ? i : last;
    }
    CHECK(slm_map_damaged(&map), "%zu bytes left: noticed", left);
    CHECK(left == 0 ? sum == 0 : last < left, "%zu bytes left: zeros behind them, up to %zu", left, last);
    CHECK(!slm_map_damaged(&other), "another mapping was not touched yet");
    CHECK(((const volatile unsigned char *) other.data)[map.bytes - 1] == 0 && slm_map_damaged(&other), "but is then");
    slm_map_close(&map);
    slm_map_close(&other);
    CHECK(!slm_map_damaged(&map) && map.data == NULL, "closed");
}

static void touch(void *arg, slm_team *team, int thread, int n_threads)
{
    const slm_map *map = arg;
    uint32_t begin, end, sum = 0;
    while (slm_take(team, PAGES, 1, &begin, &end))
        sum += ((const volatile unsigned char *) map->data)[begin * PAGE];
    (void) sum;
}

static void test_threads(void)
{
    slm_map map;
    slm_error err;
    write_file();
    CHECK(slm_map_open(path, 1, &map, &err) == SLM_OK, "open");
    slm_parallel(4, touch, &map);
    CHECK(!slm_map_damaged(&map) && truncate(path, 0) == 0, "whole");
    for (int i = 0; i < 20; i++)
        slm_parallel(4, touch, &map);
    CHECK(slm_map_damaged(&map), "noticed by the threads");
    slm_map_close(&map);
    slm_threads_release();
}

static void test_open(void)
{
    slm_map map;
    slm_error err;
    char link[64];
    write_file();
    snprintf(link, sizeof link, "%s.link", path);
    unlink(link);
    CHECK(symlink(path, link) == 0 && slm_map_open(link, 1, &map, &err) == SLM_IO && err.os_error != 0, "a link");
    unlink(link);
    CHECK(slm_map_open("/tmp", 1, &map, &err) == SLM_INVALID, "a directory");
    CHECK(slm_map_open(path, PAGES * PAGE + 1, &map, &err) == SLM_OK && map.data == NULL, "too short");
    slm_map_close(&map);
    for (int i = 0; i < 3000; i++) { /* slots are used again */
        if (slm_map_open(path, 1, &map, &err) != SLM_OK || map.slot < 0)
            CHECK(false, "opening %d", i);
        slm_map_close(&map);
    }
}

/* A file written in odd pieces from an odd offset; mapped in every way, whatever the kernel gives. */
static void test_huge(void)
{
    static const slm_huge_pages ways[] = {SLM_HUGE_TRY, SLM_HUGE_OFF, SLM_HUGE_ON, SLM_HUGE_TRY};
    size_t n = 3 * SLM_HUGE_PAGE + 12345, skip = 777, wrong;
    unsigned char *bytes = malloc(n);
    slm_stream stream;
    slm_error err;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char) (i < skip ? 0 : i * 2654435761u >> 13);
    CHECK(slm_stream_open(&stream, fd, skip, &err) == SLM_OK, "stream");
    for (size_t at = skip, step = 1; at < n; at += step, step = step * 3 + 1) {
        step = step < n - at ? step : n - at;
        CHECK(slm_stream_write(&stream, bytes + at, step, &err) == SLM_OK, "write at %zu", at);
    }
    CHECK(slm_stream_end(&stream, &err) == SLM_OK && stream.piece == NULL, "end");
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        slm_map map;
        slm_pages_want(ways[w]);
        slm_status status = slm_map_open(path, 1, &map, &err);
        CHECK(status == SLM_OK || (ways[w] == SLM_HUGE_ON && status == SLM_UNSUPPORTED && err.hint[0] != '\0'), "way %zu: %s", w,
              err.message);
        if (status != SLM_OK)
            continue;
        wrong = map.bytes != n || memcmp(map.data, bytes, n) != 0;
        uint64_t huge = slm_pages_huge_bytes(map.data, map.bytes);
        CHECK(wrong == 0, "way %zu: other bytes", w);
        CHECK(huge <= 3 * SLM_HUGE_PAGE && huge % SLM_HUGE_PAGE == 0, "way %zu: %lu bytes in huge pages", w, (unsigned long) huge);
        CHECK(ways[w] != SLM_HUGE_OFF || huge == 0, "off: %lu bytes in huge pages", (unsigned long) huge);
        CHECK(ways[w] != SLM_HUGE_ON || huge == 3 * SLM_HUGE_PAGE, "on: %lu bytes in huge pages", (unsigned long) huge);
        CHECK(ways[w] == SLM_HUGE_OFF || (uintptr_t) map.data % SLM_HUGE_PAGE == 0, "way %zu: not aligned", w);
        CHECK(ftruncate(fd, (off_t) SLM_HUGE_PAGE + 1) == 0 && ((const volatile unsigned char *) map.data)[n - 1] == 0 &&
                  slm_map_damaged(&map), "way %zu: cut", w);
        CHECK(memcmp(map.data, bytes, SLM_HUGE_PAGE) == 0, "way %zu: the beginning is still there", w);
        slm_map_close(&map);
        CHECK(pwrite(fd, bytes + skip, n - skip, (off_t) skip) == (ssize_t) (n - skip), "whole again");
    }
    close(fd);
    free(bytes);
}

static int child_signal(void (*work)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        work();
        _exit(7);
    }
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void fault_elsewhere(void)
{
    slm_map map;
    int fd = open(path, O_RDONLY);
    slm_error err;
    const volatile char *mine = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (slm_map_open(path, 1, &map, &err) == SLM_OK && truncate(path, 0) == 0)
        (void) mine[PAGE];
}

static void fault_of_nobody(void)
{
    signal(SIGBUS, SIG_DFL); /* a sanitizer has a handler */
    fault_elsewhere();
}

static void sent_by_somebody(void)
{
    slm_map map;
    slm_error err;
    signal(SIGBUS, SIG_DFL);
    if (slm_map_open(path, 1, &map, &err) == SLM_OK)
        kill(getpid(), SIGBUS);
}

static void handler_of_another(int signal_number)
{
    _exit(9);
}

static void fault_of_another(void)
{
    signal(SIGBUS, handler_of_another);
    fault_elsewhere();
}

int main(void)
{
    int fd = mkstemp(path);
    CHECK(fd >= 0, "a file");
    close(fd);
    write_file();
    /* before this process has a handler of its own: children install theirs */
    CHECK(child_signal(sent_by_somebody) == SIGBUS, "a signal that was sent ends the process");
    CHECK(child_signal(fault_of_nobody) == SIGBUS, "so does a fault elsewhere");
    write_file();
    CHECK(child_signal(fault_of_another) == -9, "a handler that was there before is called");
    write_file();
    test_cut(0);
    test_cut(1);
    test_cut(PAGE);
    test_cut(PAGES / 2 * PAGE + 5);
    test_threads();
    test_open();
    test_huge();
    unlink(path);
    TEST_MAIN_END("map");
}

/*
 * Reading under a seal: bytes at any offset come out as they were hashed, or not at all.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/seal.h"
#include "slm_test.h"

#define PIECE 16
#define BYTES 100

static unsigned char hashed[BYTES], read_back[BYTES];

/* One file, "a", as hashed[]. */
static int find(void *arg, const char *name, uint64_t *bytes)
{
    *bytes = BYTES;
    return strcmp(name, "a") == 0 ? 7 : -1;
}

static bool same(void *arg, int file, uint64_t piece, const void *data, size_t bytes)
{
    ++*(int *) arg;
    return file == 7 && piece * PIECE + bytes <= BYTES && memcmp(hashed + piece * PIECE, data, bytes) == 0;
}

static int new_file(void)
{
    char path[] = "/tmp/slm_seal_XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    CHECK(fd >= 0 && write(fd, hashed, BYTES) == BYTES, "a file of %d bytes", BYTES);
    return fd;
}

static void check_ranges(int fd)
{
    slm_error err;
    for (unsigned begin = 0; begin <= BYTES; begin++)
        for (unsigned n = 0; begin + n <= BYTES; n++) {
            memset(read_back, 0, sizeof read_back);
            bool ok = slm_seal_read(fd, "a", read_back, n, begin, "it", &err) == SLM_OK && memcmp(read_back, hashed + begin, n) == 0;
            if (!ok)
                CHECK(false, "%u bytes at %u: %s", n, begin, err.message);
        }
    CHECK(slm_seal_read(fd, "a", read_back, 2, BYTES - 1, "it", &err) == SLM_FORMAT, "beyond the end");
    CHECK(slm_seal_read(fd, "a", read_back, 2, UINT64_MAX - 1, "it", &err) == SLM_FORMAT, "far beyond the end");
}

/* A byte changes: pieces without it are read, the one with it is not, and the end says so although nobody listened. */
static void check_change(const slm_seal *seal)
{
    slm_error err;
    int fd = new_file();
    for (unsigned at = 0; at < BYTES; at++) {
        unsigned char other = (unsigned char) (hashed[at] ^ 0x40);
        unsigned piece = at / PIECE, elsewhere = piece == 0 ? PIECE : 0;
        CHECK(pwrite(fd, &other, 1, at) == 1 && slm_seal_begin(seal, &err) == SLM_OK, "begin");
        CHECK(slm_seal_read(fd, "a", read_back, 1, elsewhere, "it", &err) == SLM_OK, "another piece: %s", err.message);
        CHECK(slm_seal_read(fd, "a", read_back, 1, piece * PIECE, "it", NULL) == SLM_IO, "byte %u", at);
        CHECK(slm_seal_read(fd, "a", read_back, BYTES, 0, "it", &err) == SLM_IO && strstr(err.message, "\"a\" changed") != NULL,
              "all: %s", err.message);
        CHECK(slm_seal_end(SLM_OK, &err) == SLM_IO && strstr(err.message, "changed") != NULL, "the end: %s", err.message);
        CHECK(pwrite(fd, &hashed[at], 1, at) == 1, "back");
    }
    CHECK(slm_seal_begin(seal, &err) == SLM_OK && ftruncate(fd, BYTES - 1) == 0, "shorter");
    CHECK(slm_seal_read(fd, "a", read_back, 1, BYTES - 2, "it", &err) == SLM_FORMAT, "a piece that ends early");
    CHECK(slm_seal_end(SLM_OK, &err) == SLM_IO, "the end");
    close(fd);
}

static void check_names(const slm_seal *seal, int fd)
{
    slm_error err;
    CHECK(slm_seal_begin(seal, &err) == SLM_OK, "begin");
    CHECK(slm_seal_opened("a", true, BYTES, &err) == SLM_OK, "as hashed: %s", err.message);
    CHECK(slm_seal_opened("b", false, 0, &err) == SLM_OK, "not there, as before: %s", err.message);
    CHECK(slm_seal_end(SLM_OK, &err) == SLM_OK, "nothing failed");
    CHECK(slm_seal_begin(seal, &err) == SLM_OK && slm_seal_opened("a", true, BYTES + 1, &err) == SLM_IO, "longer");
    CHECK(slm_seal_opened("a", false, 0, &err) == SLM_IO, "gone");
    CHECK(slm_seal_opened("b", true, 0, &err) == SLM_IO, "new");
    CHECK(slm_seal_read(fd, "b", read_back, 1, 0, "it", &err) == SLM_IO, "a file that was not hashed");
    CHECK(slm_seal_end(SLM_INVALID, &err) == SLM_INVALID, "another failure stays");
}

int main(void)
{
    int asked = 0;
    slm_seal seal = {.arg = &asked, .piece_bytes = PIECE, .find = find, .same = same};
    slm_error err;
    for (unsigned i = 0; i < BYTES; i++)
        hashed[i] = (unsigned char) (i * 37 + 5);
    int fd = new_file();
    CHECK(slm_seal_begin(&seal, &err) == SLM_OK, "begin");
    check_ranges(fd);
    CHECK(slm_seal_end(SLM_OK, &err) == SLM_OK, "reading beyond the end is no change");
    check_change(&seal);
    check_names(&seal, fd);
    CHECK(slm_seal_begin(NULL, &err) == SLM_OK, "no seal");
    asked = 0;
    CHECK(slm_seal_read(fd, "z", read_back, BYTES, 0, "it", &err) == SLM_OK && memcmp(read_back, hashed, BYTES) == 0, "as it is");
    CHECK(slm_seal_opened("z", true, 1, &err) == SLM_OK && slm_seal_end(SLM_OK, &err) == SLM_OK && asked == 0, "nobody is asked");
    close(fd);
    TEST_MAIN_END("seal");
}

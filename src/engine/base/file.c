/*
 * Files at offsets. EINTR is retried; nothing else is.
 */
#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/pages.h"

/* Of files of our own making: where they lie is the server's business. */
static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static slm_status open_regular(const char *path, int flags, const char *shown, int *fd, uint64_t *size, slm_error *err)
{
    struct stat st;
    int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags); /* NONBLOCK: a FIFO must not hold the server */
    if (handle < 0)
        return slm_fail_os(err, errno, "cannot open \"%s\"", shown);
    if (fstat(handle, &st) != 0) {
        slm_status status = slm_fail_os(err, errno, "cannot examine \"%s\"", shown);
        close(handle);
        return status;
    }
    if (!S_ISREG(st.st_mode)) {
        close(handle);
        return slm_fail(err, SLM_INVALID, "\"%s\" is not a regular file", shown);
    }
    *fd = handle;
    *size = (uint64_t) st.st_size;
    return SLM_OK;
}

slm_status slm_file_open(const char *path, int *fd, uint64_t *size, slm_error *err)
{
    return open_regular(path, 0, path, fd, size, err);
}

slm_status slm_file_map(const char *path, uint64_t least, void **map, uint64_t *size, int *out, slm_error *err)
{
    slm_status status = SLM_OK;
    void *mapped = NULL;
    int fd = -1;
    SLM_TRY(open_regular(path, O_NOFOLLOW, last_name(path), &fd, size, err));
    if (*size >= least)
        mapped = slm_pages_map(fd, *size);
    if (mapped == MAP_FAILED)
        status = slm_fail_os(err, errno, "cannot map \"%s\"", last_name(path));
    else
        *map = mapped;
    if (status == SLM_OK && mapped != NULL)
        *out = fd;
    else
        slm_file_close(fd);
    return status;
}

bool slm_file_is_pointer(int fd)
{
    static const char head[] = "version https://git-lfs.github.com/spec/";
    char begin[sizeof head - 1];
    return slm_file_read(fd, begin, sizeof begin, 0, "it", NULL) == SLM_OK && memcmp(begin, head, sizeof begin) == 0;
}

slm_status slm_file_pointer_error(const char *name, slm_error *err)
{
    slm_fail(err, SLM_FORMAT, "\"%s\" is a Git LFS pointer, not the file itself", name);
    return slm_hint(err, "The repository was cloned without its large files: run \"git lfs pull\" there, or download the file.");
}

slm_status slm_file_create(const char *path, int *fd, slm_error *err)
{
    int handle = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (handle < 0)
        return slm_fail_os(err, errno, "cannot create \"%s\"", last_name(path));
    *fd = handle;
    return SLM_OK;
}

slm_status slm_file_read(int fd, void *buffer, size_t bytes, uint64_t offset, const char *what, slm_error *err)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(fd, (char *) buffer + done, bytes - done, (off_t) (offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return slm_fail_os(err, errno, "cannot read %s", what);
        if (n == 0)
            return slm_fail(err, SLM_FORMAT, "the file is truncated: it ends inside %s", what);
        done += (size_t) n;
    }
    return SLM_OK;
}

slm_status slm_file_write(int fd, const void *buffer, size_t bytes, uint64_t offset, slm_error *err)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pwrite(fd, (const char *) buffer + done, bytes - done, (off_t) (offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return slm_fail_os(err, errno, "cannot write the model image");
        if (n == 0)
            return slm_fail(err, SLM_IO, "cannot write the model image: nothing was written");
        done += (size_t) n;
    }
    return SLM_OK;
}

slm_status slm_file_sync(int fd, slm_error *err)
{
    return fsync(fd) == 0 ? SLM_OK : slm_fail_os(err, errno, "cannot flush the model image to disk");
}

void slm_file_flush_begin(int fd, uint64_t offset, uint64_t bytes)
{
    (void) sync_file_range(fd, (off_t) offset, (off_t) bytes, SYNC_FILE_RANGE_WRITE);
}

void slm_file_flush_wait(int fd, uint64_t offset, uint64_t bytes)
{
    (void) sync_file_range(fd, (off_t) offset, (off_t) bytes,
                           SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
}

void slm_file_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

/*
 * Puts bytes through everything that a model file meets: import, open, prewarm, tokenize, two generated tokens.
 *
 * The file and the image live in memory (memfd, /dev/shm), so that tens of thousands of tries take seconds.  Returns the first
 * status that is not OK.
 */
#ifndef TRY_MODEL_H
#define TRY_MODEL_H

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "engine/slm.h"

typedef enum try_stage { TRY_IMPORT = 0, TRY_OPEN = 1, TRY_RUN = 2 } try_stage;

static inline void try_image_path(char *out, size_t size)
{
    snprintf(out, size, "%s/slm_try_%ld.img", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long) getpid());
}

/* A file of these bytes; its path in `path`. */
static inline int try_file(const void *bytes, size_t n, char *path, size_t size)
{
    int fd = memfd_create("model", MFD_CLOEXEC);
    for (size_t done = 0; fd >= 0 && done < n;) {
        ssize_t w = write(fd, (const char *) bytes + done, n - done);
        if (w <= 0) {
            close(fd);
            return -1;
        }
        done += (size_t) w;
    }
    snprintf(path, size, "/proc/self/fd/%d", fd);
    return fd;
}

static inline slm_status try_generate(slm_model *model, slm_error *err)
{
    slm_limits limits = {.kv_cache_bytes = 1 << 20, .max_batch_tokens = 16, .max_sequences = 2, .n_threads = 1};
    slm_segment segment = {.role = SLM_ROLE_USER, .text = "abc de", .length = 6};
    slm_request request = {.mode = slm_model_get_info(model)->can_generate ? SLM_MODE_GENERATE : SLM_MODE_EMBED, .segments = &segment,
                           .n_segments = 1, .max_tokens = 2, .sampling = {.top_p = 1, .repeat_penalty = 1}};
    slm_session *session = NULL;
    uint64_t id;
    size_t active = 1;
    SLM_TRY(slm_session_new(model, &limits, &session, err));
    slm_status status = slm_submit(session, &request, &id, err);
    for (int i = 0; status == SLM_OK && active > 0 && i < 64; i++)
        status = slm_step(session, &active, err);
    if (status == SLM_OK) {
        const slm_result *result = slm_poll(session);
        if (result != NULL) {
            status = result->status;
            slm_release(session, result->id);
        }
    }
    slm_session_free(session);
    return status;
}

static inline slm_status try_open(const char *image, slm_error *err, try_stage *stage)
{
    slm_model *model = NULL;
    slm_tokens tokens = {0};
    *stage = TRY_OPEN;
    SLM_TRY(slm_model_open(image, &model, err));
    *stage = TRY_RUN;
    slm_status status = slm_model_prewarm(model, NULL, NULL, NULL, err);
    if (status == SLM_OK && slm_model_get_info(model)->tokenizer[0] != '\0') {
        status = slm_tokenize(model, "abc de zz <s>", 13, true, NULL, &tokens, err);
        if (status == SLM_OK)
            slm_tokens_free(&tokens);
        if (status == SLM_OK)
            status = try_generate(model, err);
    }
    slm_model_close(model);
    return status;
}

/* *stage: how far it came; *import_seconds (may be NULL): processor time of slm_import. */
static inline slm_status try_model(const void *bytes, size_t n, slm_error *err, try_stage *stage, double *import_seconds)
{
    char path[64], image[96];
    slm_model_info info;
    struct timespec a, b;
    int fd = try_file(bytes, n, path, sizeof path);
    *stage = TRY_IMPORT;
    if (fd < 0)
        return slm_fail(err, SLM_IO, "no memory file");
    try_image_path(image, sizeof image);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    slm_status status = slm_import(path, image, NULL, NULL, NULL, NULL, &info, err);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    if (import_seconds != NULL)
        *import_seconds = (double) (b.tv_sec - a.tv_sec) + 1e-9 * (double) (b.tv_nsec - a.tv_nsec);
    close(fd);
    if (status == SLM_OK) {
        status = try_open(image, err, stage);
        unlink(image);
    }
    return status;
}

#endif

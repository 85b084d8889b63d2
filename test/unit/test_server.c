/*
 * The engine process by hand: slm_engine on one connection, a socket that it was started with.  Requests of several kinds are answered as a
 * session answers them; want of memory is an error of the request; garbage ends the connection it came on, and nothing else; random frames,
 * SLM_TEST_LONG=1 for a million; another user's process is let go unheard.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/wire/frame.h"
#include "engine/wire/wire.h"

#include "slm_test.h"

static char folder[64];

/* ---- the process */

static pid_t start(int connection, const char *socket_path)
{
    const char *program = getenv("SLM_ENGINE") != NULL ? getenv("SLM_ENGINE") : "./slm_engine";
    char number[16];
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    if (freopen("/dev/null", "w", stderr) == NULL) /* it says why it closes a connection */
        _exit(126);
    snprintf(number, sizeof number, "%d", connection);
    if (socket_path != NULL)
        execl(program, program, "--images", folder, "--socket", socket_path, "--threads", "1", (char *) NULL);
    else
        execl(program, program, "--images", folder, "--connection", number, "--threads", "1", (char *) NULL);
    _exit(127);
}

/* Status with which it ended. */
static int ended(pid_t pid)
{
    int status = -1;

    CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    return status;
}

static void send_frame(int fd, slm_frame_type type, slm_class class, uint64_t number, const void *body, size_t n)
{
    slm_frame frame = {.type = type, .class = class, .number = number, .n_bytes = n};
    uint8_t header[SLM_FRAME_HEADER];

    slm_frame_put(&frame, header);
    CHECK(send(fd, header, sizeof header, MSG_NOSIGNAL) == (ssize_t) sizeof header, "%s", strerror(errno));
    CHECK(n == 0 || send(fd, body, n, MSG_NOSIGNAL) == (ssize_t) n, "%s", strerror(errno));
}

static void send_request(int fd, uint64_t number, const slm_wire_names *names, const slm_request *request)
{
    size_t n = slm_wire_pack_request(number, names, request, NULL, 0);
    uint8_t *bytes = malloc(n);

    (void) slm_wire_pack_request(number, names, request, bytes, n);
    send_frame(fd, SLM_FRAME_SUBMIT, SLM_CLASS_INTERACTIVE, number, bytes, n);
    free(bytes);
}

static bool read_all(int fd, uint8_t *to, size_t n)
{
    size_t have = 0;

    while (have < n) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t got = poll(&p, 1, 60000) == 1 ? recv(fd, to + have, n - have, 0) : 0;

        if (got <= 0)
            return false;
        have += (size_t) got;
    }
    return true;
}

/* The next frame; its body is malloc'ed.  false: the connection has ended. */
static bool next_frame(int fd, slm_frame *frame, uint8_t **body)
{
    uint8_t header[SLM_FRAME_HEADER];
    slm_error err = {0};

    if (!read_all(fd, header, sizeof header))
        return false;
    CHECK(slm_frame_get(header, frame, &err) == SLM_OK, "%s", err.message);
    *body = malloc(frame->n_bytes + 1);
    return read_all(fd, *body, frame->n_bytes);
}

static void check_progress(const uint8_t *body, size_t n)
{
    slm_usage so_far = {0};

    if (n == sizeof so_far)
        slm_frame_get_usage(body, &so_far);
    CHECK(so_far.requests == 1 && slm_usage_tokens(&so_far) > 0, "%zu bytes of progress", n);
}

static slm_wire_result next_result(int fd, char *pieces)
{
    slm_wire_result result = {.number = 0};
    slm_frame frame;
    slm_error err = {0};
    uint8_t *body;

    while (next_frame(fd, &frame, &body)) {
        if (frame.type == SLM_FRAME_PIECE && pieces != NULL)
            strncat(pieces, (char *) body, frame.n_bytes);
        else if (frame.type == SLM_FRAME_PROGRESS)
            check_progress(body, frame.n_bytes);
        else
            CHECK(frame.type == SLM_FRAME_RESULT && slm_wire_read_result(body, frame.n_bytes, &result, &err) == SLM_OK, "%s", err.message);
        free(body);
        if (frame.type == SLM_FRAME_RESULT)
            return result;
    }
    CHECK(false, "the connection has ended");
    return result;
}

/* ---- answers */

static const slm_wire_names tiny = {.model = "tiny"};

static slm_request generate(slm_segment *segment, const char *text)
{
    *segment = (slm_segment){.role = SLM_ROLE_USER, .text = text, .length = strlen(text)};
    return (slm_request){.mode = SLM_MODE_GENERATE, .segments = segment, .n_segments = 1, .max_tokens = 12, .realm = 7};
}

static void check_answers(int fd, slm_session *session)
{
    slm_segment segment;
    slm_request request = generate(&segment, "once upon a time");
    const slm_result *want;
    slm_wire_result got;
    char pieces[4096] = "";
    uint64_t id;
    slm_error err;

    CHECK(slm_submit(session, &request, &id, &err) == SLM_OK, "%s", err.message);
    while ((want = slm_poll(session)) == NULL)
        CHECK(slm_step(session, NULL, &err) == SLM_OK, "%s", err.message);
    request.stream = true;
    send_request(fd, 5, &tiny, &request);
    got = next_result(fd, pieces);
    CHECK(got.number == 5 && got.result.status == SLM_OK && got.result.n_tokens == want->n_tokens &&
              strcmp(got.result.text, want->text) == 0, "\"%s\" is not \"%s\"", got.result.text, want->text);
    CHECK(strcmp(pieces, want->text) == 0, "the pieces \"%s\" are not \"%s\"", pieces, want->text);
    CHECK(got.result.usage.requests == 1 && got.result.usage.output_tokens == want->usage.output_tokens, "what it took");
    slm_wire_result_free(&got);
    slm_release(session, id);
}

static slm_status status_of(int fd, const slm_wire_names *names, const slm_request *request, slm_cause *cause)
{
    slm_wire_result got;
    slm_status status;

    send_request(fd, 9, names, request);
    got = next_result(fd, NULL);
    CHECK(got.number == 9, "number %llu", (unsigned long long) got.number);
    status = got.result.status;
    *cause = got.result.error.cause;
    slm_wire_result_free(&got);
    return status;
}

static void check_refusals(int fd)
{
    static const char *const names[] = {"../tiny", "/etc/passwd", "", ".", "..", "tiny/../tiny", ".tiny", "a\nb"};
    slm_segment segment;
    slm_request request = generate(&segment, "x"), empty = generate(&segment, "");
    slm_cause cause;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(status_of(fd, &(slm_wire_names){.model = names[i]}, &request, &cause) == SLM_INVALID, "\"%s\"", names[i]);
    CHECK(status_of(fd, &(slm_wire_names){.model = "absent"}, &request, &cause) == SLM_IO, "no such image");
    CHECK(status_of(fd, &(slm_wire_names){.model = "tiny", .adapter = "../a"}, &request, &cause) == SLM_INVALID, "an adapter's name");
    CHECK(status_of(fd, &(slm_wire_names){.model = "tiny", .constraint = "9:x"}, &request, &cause) == SLM_INVALID, "a constraint");
    CHECK(status_of(fd, &(slm_wire_names){.model = "tiny", .constraint = "1:("}, &request, &cause) == SLM_INVALID, "a wrong one");
    empty.n_segments = 0;
    CHECK(status_of(fd, &tiny, &empty, &cause) == SLM_INVALID, "nothing");
}

/* ---- garbage */

static uint64_t random_state = 42;

static uint32_t random_number(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t) (random_state >> 33) % below;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(address.sun_path, path);
    for (int tries = 0; tries < 1000 && connect(fd, (struct sockaddr *) &address, sizeof address) != 0; tries++)
        usleep(5000);
    return fd;
}

/* A connection with up to two good requests and then one broken frame: random bytes, or a good one of which a byte was changed. */
static void send_garbage(const char *path, const uint8_t *good, size_t n)
{
    uint8_t bytes[4096];
    size_t used = 0, at;
    int fd = connect_to(path);

    for (uint32_t i = 0, n_good = random_number(3); i <= n_good; i++) {
        memcpy(bytes + used, good, n);
        bytes[used + 8] = bytes[used + SLM_FRAME_HEADER + 16] = (uint8_t) i; /* the number, here and in the message */
        used += n;
    }
    at = used - n;
    if (random_number(4) > 0) {
        at += random_number(2) == 0 ? random_number(SLM_FRAME_HEADER) : random_number((uint32_t) n);
        bytes[at] ^= (uint8_t) (1 + random_number(255));
    } else {
        for (used = at; used < at + n && random_number(64) > 0; used++)
            bytes[used] = (uint8_t) random_number(256);
    }
    (void) !send(fd, bytes, used, MSG_NOSIGNAL);
    close(fd);
}

static void check_garbage(const char *path)
{
    slm_segment segment;
    slm_request request = generate(&segment, "y");
    size_t n = slm_wire_pack_request(1, &tiny, &request, NULL, 0), wanted = getenv("SLM_TEST_LONG") != NULL ? 1000000 : 10000;
    uint8_t *good = malloc(SLM_FRAME_HEADER + n);
    slm_wire_result got;
    int fd = connect_to(path);

    request.max_tokens = 1;
    slm_frame_put(&(slm_frame){.type = SLM_FRAME_SUBMIT, .number = 1, .n_bytes = n}, good);
    (void) slm_wire_pack_request(1, &tiny, &request, good + SLM_FRAME_HEADER, n);
    for (size_t i = 1; i <= wanted; i++) {
        send_garbage(path, good, SLM_FRAME_HEADER + n);
        if (i % 1000 != 0)
            continue;
        send_request(fd, i, &tiny, &request);
        got = next_result(fd, NULL);
        CHECK(got.number == i && got.result.status == SLM_OK, "beside %zu frames: %s", i, got.result.error.message);
        slm_wire_result_free(&got);
    }
    free(good);
    close(fd);
}

/* ---- another user */

/* What nobody's process (65534) finds at the socket: 'n' no connection, 'e' its end, 'a' an answer. */
static char found_by_nobody(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    slm_frame ping = {.type = SLM_FRAME_PING, .number = 1};
    uint8_t header[SLM_FRAME_HEADER];
    int status, fd;
    pid_t pid = fork();

    if (pid == 0) {
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        strcpy(address.sun_path, path);
        if (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
            _exit('?');
        if (connect(fd, (struct sockaddr *) &address, sizeof address) != 0)
            _exit(errno == EACCES ? 'n' : '?');
        slm_frame_put(&ping, header);
        (void) !send(fd, header, sizeof header, MSG_NOSIGNAL);
        _exit(recv(fd, header, sizeof header, 0) > 0 ? 'a' : 'e');
    }
    status = ended(pid);
    return WIFEXITED(status) ? (char) WEXITSTATUS(status) : '!';
}

static void check_other_user(const char *path)
{
    if (geteuid() != 0)
        return; /* only root can be somebody else */
    CHECK(found_by_nobody(path) == 'n', "the modes of directory and socket let another user connect");
    CHECK(chmod(folder, 0755) == 0 && chmod(path, 0777) == 0, "%s", strerror(errno));
    CHECK(found_by_nobody(path) == 'e', "another user whom the modes let in is not let go");
}

/* ---- want of memory */

/* An engine whose address space ends `room` bytes above what it has when it begins to serve: requests are answered, or told that memory is
 * out; the process goes on, and has an answer for everybody when there is memory again.  Returns how many were told. */
static int check_memory(size_t room, const char *want)
{
    struct rlimit limit, old;
    slm_segment segment;
    slm_request request = generate(&segment, "once upon a time");
    slm_wire_result got;
    char path[64], line[256] = "";
    unsigned long pages = 0;
    int ends[2], refused = 0;
    pid_t pid;
    FILE *file;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0, "%s", strerror(errno));
    pid = start(ends[1], NULL);
    close(ends[1]);
    send_frame(ends[0], SLM_FRAME_PING, 0, 1, NULL, 0);
    CHECK(read_all(ends[0], (uint8_t *) line, SLM_FRAME_HEADER), "it has started");
    snprintf(path, sizeof path, "/proc/%d/statm", (int) pid);
    file = fopen(path, "r");
    CHECK(file != NULL && fscanf(file, "%lu", &pages) == 1, "%s", path);
    fclose(file);
    CHECK(prlimit(pid, RLIMIT_AS, NULL, &old) == 0, "%s", strerror(errno));
    limit = (struct rlimit){.rlim_cur = pages * (size_t) sysconf(_SC_PAGESIZE) + room, .rlim_max = old.rlim_max};
    CHECK(prlimit(pid, RLIMIT_AS, &limit, NULL) == 0, "%s", strerror(errno));
    for (int i = 0; i < 4; i++) {
        if (i == 3)
            CHECK(prlimit(pid, RLIMIT_AS, &old, NULL) == 0, "%s", strerror(errno));
        send_request(ends[0], 20 + (uint64_t) i, &tiny, &request);
        got = next_result(ends[0], NULL);
        CHECK(got.number == 20 + (uint64_t) i && (got.result.status == SLM_OK || (i < 3 && got.result.status == SLM_NOMEM)),
              "%zu bytes, %d: %s", room, i, got.result.error.message);
        CHECK(got.result.status != SLM_OK || strcmp(got.result.text, want) == 0, "%zu bytes: \"%s\"", room, got.result.text);
        refused += got.result.status == SLM_NOMEM;
        slm_wire_result_free(&got);
    }
    close(ends[0]);
    CHECK(ended(pid) == 0, "it has not died");
    return refused;
}

static void check_memory_everywhere(slm_session *session)
{
    slm_segment segment;
    slm_request request = generate(&segment, "once upon a time");
    const slm_result *want;
    uint64_t id;
    slm_error err;
    int refused = 0, tried = 0;

    CHECK(slm_submit(session, &request, &id, &err) == SLM_OK, "%s", err.message);
    while ((want = slm_poll(session)) == NULL)
        CHECK(slm_step(session, NULL, &err) == SLM_OK, "%s", err.message);
    for (size_t room = 0; room < (size_t) 16 << 20; room += room < (size_t) 2 << 20 ? 64 << 10 : 512 << 10, tried++)
        refused += check_memory(room, want->text) > 0;
    CHECK(refused > 5 && refused < tried, "%d of %d engines were short of memory", refused, tried);
    slm_release(session, id);
}

static void check_cancel(int fd)
{
    slm_segment segment;
    slm_request request = generate(&segment, "z");
    slm_frame frame;
    uint8_t *body;

    request.max_tokens = 400;
    send_request(fd, 11, &tiny, &request);
    send_frame(fd, SLM_FRAME_CANCEL, 0, 11, NULL, 0);
    send_frame(fd, SLM_FRAME_CANCEL, 0, 12, NULL, 0);
    send_frame(fd, SLM_FRAME_PING, 0, 13, NULL, 0);
    CHECK(next_frame(fd, &frame, &body) && frame.type == SLM_FRAME_PONG && frame.number == 13, "a cancelled request has no answer");
    free(body);
}

int main(void)
{
    char path[128], image[128];
    slm_model *model;
    slm_session *session;
    slm_limits limits = {.kv_cache_bytes = (size_t) 64 << 20, .n_threads = 1};
    int ends[2];
    slm_error err = {0};
    pid_t pid;

    strcpy(folder, "/tmp/slm_server.XXXXXX");
    CHECK(mkdtemp(folder) != NULL && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "%s", strerror(errno));
    snprintf(image, sizeof image, "%s/tiny.img", folder);
    snprintf(path, sizeof path, "%s/socket", folder);
    CHECK(slm_import("test/data/tiny.gguf", image, NULL, NULL, NULL, NULL, NULL, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_model_open(image, &model, &err) == SLM_OK && slm_session_new(model, &limits, &session, &err) == SLM_OK, "%s", err.message);
    pid = start(ends[1], NULL);
    close(ends[1]);
    check_answers(ends[0], session);
    check_refusals(ends[0]);
    check_cancel(ends[0]);
    send_frame(ends[0], SLM_FRAME_RESULT, 0, 1, NULL, 0);
    CHECK(!read_all(ends[0], (uint8_t *) image, 1), "what is not for the engine ends the connection");
    CHECK(ended(pid) == 0, "without its only client it ends");
    check_memory_everywhere(session);
    pid = start(-1, path);
    check_garbage(path);
    check_other_user(path);
    kill(pid, SIGTERM);
    CHECK(ended(pid) == 0, "it ends when it is told to");
    CHECK(access(path, F_OK) != 0, "and takes its socket away");
    snprintf(image, sizeof image, "%s/tiny.img", folder);
    unlink(image);
    rmdir(folder);
    slm_session_free(session);
    slm_model_close(model);
    TEST_MAIN_END("server");
}

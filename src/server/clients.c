/*
 * clients.c: connections, and the frames on them.
 *
 * What a client sends is kept until a frame is whole; what is sent to it is kept until it reads.  Neither is without bound: from a client
 * that has much under way, or does not read its answers, no more is read; one that leaves MOST_UNREAD bytes of answers unread is let go.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/server.h"

#define MOST_CLIENTS 4096
#define MOST_UNDER_WAY 8192              /* requests of one client */
#define ENOUGH_UNREAD ((size_t) 8 << 20) /* bytes: no more is read meanwhile */
#define MOST_UNREAD ((size_t) 64 << 20)
#define READ_BYTES ((size_t) 64 << 10)
#define LEAST_BYTES ((size_t) 1 << 10) /* where memory is short */

typedef struct buffer {
    uint8_t *bytes;
    size_t begin, end, room; /* [begin, end) is what is in it */
} buffer;

struct client {
    client *next;
    int fd;
    buffer in, out;
    request *first; /* of those under way */
    size_t n_under_way;
    bool gone;
};

static client *clients;
static size_t n_clients;
static uint64_t n_cancelled, n_garbage;

/* ---- buffers */

static bool make_room(buffer *b, size_t n)
{
    size_t used = b->end - b->begin, room = b->room == 0 ? 4096 : b->room;
    uint8_t *grown;

    if (b->begin > 0 && (b->begin == b->end || b->room - b->end < n)) {
        memmove(b->bytes, b->bytes + b->begin, used);
        b->begin = 0;
        b->end = used;
    }
    if (b->room - b->end >= n)
        return true;
    while (room < used + n)
        room *= 2;
    grown = realloc(b->bytes, room);
    if (grown == NULL)
        return false;
    b->bytes = grown;
    b->room = room;
    return true;
}

static void drained(buffer *b)
{
    if (b->begin < b->end)
        return;
    b->begin = b->end = 0;
    if (b->room <= READ_BYTES)
        return;
    free(b->bytes);
    b->bytes = NULL;
    b->room = 0;
}

/* ---- what is sent */

static uint8_t *put_frame(client *c, slm_frame_type type, uint64_t number, size_t n)
{
    slm_frame frame = {.type = type, .number = number, .n_bytes = n};
    uint8_t *at;

    if (c->gone || !make_room(&c->out, SLM_FRAME_HEADER + n)) {
        c->gone = true;
        return NULL;
    }
    at = c->out.bytes + c->out.end;
    slm_frame_put(&frame, at);
    c->out.end += SLM_FRAME_HEADER + n;
    return at + SLM_FRAME_HEADER;
}

void slm_client_result(const request *r, const slm_result *result)
{
    size_t n = slm_wire_pack_result(r->wire.number, result, NULL, 0);
    uint8_t *at;

    if (n > SLM_FRAME_MOST) {
        slm_result too_long = {.status = SLM_LIMIT, .usage = result->usage};

        slm_fail(&too_long.error, SLM_LIMIT, "the answer is longer than the engine process can hand over");
        slm_client_result(r, &too_long);
        return;
    }
    at = put_frame(r->from, SLM_FRAME_RESULT, r->wire.number, n);
    if (at != NULL)
        (void) slm_wire_pack_result(r->wire.number, result, at, n);
}

void slm_client_piece(const request *r, const char *text, size_t length)
{
    uint8_t *at = length <= SLM_FRAME_MOST ? put_frame(r->from, SLM_FRAME_PIECE, r->wire.number, length) : NULL;

    if (at != NULL)
        memcpy(at, text, length);
}

void slm_client_progress(const request *r)
{
    uint8_t *at = put_frame(r->from, SLM_FRAME_PROGRESS, r->wire.number, sizeof r->so_far);

    if (at != NULL)
        slm_frame_put_usage(&r->so_far, at);
}

static void flush(client *c)
{
    while (!c->gone && c->out.begin < c->out.end) {
        ssize_t n = send(c->fd, c->out.bytes + c->out.begin, c->out.end - c->out.begin, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
            c->out.begin += (size_t) n;
        else if (errno == EINTR)
            continue;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            break;
        else
            c->gone = true;
    }
    drained(&c->out);
    if (c->out.end - c->out.begin > MOST_UNREAD)
        c->gone = true;
}

/* ---- requests of a client */

static void enter(client *c, request *r)
{
    r->from = c;
    r->next_of_client = c->first;
    if (c->first != NULL)
        c->first->prev_of_client = r;
    c->first = r;
    c->n_under_way++;
}

void slm_client_forget(request *r)
{
    *(r->prev_of_client != NULL ? &r->prev_of_client->next_of_client : &r->from->first) = r->next_of_client;
    if (r->next_of_client != NULL)
        r->next_of_client->prev_of_client = r->prev_of_client;
    r->from->n_under_way--;
}

static request *find(const client *c, uint64_t number)
{
    request *r = c->first;

    while (r != NULL && r->wire.number != number)
        r = r->next_of_client;
    return r;
}

/* ---- what is read */

/* Want of memory is the request's error, and not its connection's. */
static bool refuse_for_memory(client *c, uint64_t number)
{
    const request r = {.from = c, .wire = {.number = number}};
    slm_result result = {.status = SLM_NOMEM};

    slm_fail(&result.error, SLM_NOMEM, "out of memory for a request");
    slm_client_result(&r, &result);
    return true;
}

static bool submit(client *c, const slm_frame *frame, const uint8_t *body, slm_error *err)
{
    request *r = calloc(1, sizeof *r);
    slm_status status = r == NULL ? SLM_NOMEM : slm_wire_read_request(body, frame->n_bytes, &r->wire, err);

    if (status != SLM_OK) {
        free(r);
        return status == SLM_NOMEM && refuse_for_memory(c, frame->number);
    }
    if (r->wire.number != frame->number || find(c, frame->number) != NULL) {
        slm_wire_request_free(&r->wire);
        free(r);
        slm_fail(err, SLM_FORMAT, "a request has two numbers, or another one's");
        return false;
    }
    r->class = frame->class;
    r->digest = slm_flight_digest(&r->wire, body, frame->n_bytes);
    enter(c, r);
    slm_models_take(r);
    return true;
}

static bool take_frame(client *c, const slm_frame *frame, const uint8_t *body, slm_error *err)
{
    request *r;

    switch (frame->type) {
    case SLM_FRAME_SUBMIT:
        return submit(c, frame, body, err);
    case SLM_FRAME_CANCEL:
        r = find(c, frame->number); /* its answer may be under way */
        if (r != NULL)
            slm_models_drop(r);
        n_cancelled += r != NULL;
        return frame->n_bytes == 0;
    case SLM_FRAME_PING:
        return frame->n_bytes == 0 && put_frame(c, SLM_FRAME_PONG, frame->number, 0) != NULL;
    default:
        slm_fail(err, SLM_FORMAT, "a frame of type %d is not for the engine", (int) frame->type);
        return false;
    }
}

static bool wants_more(const client *c)
{
    return c->n_under_way < MOST_UNDER_WAY && c->out.end - c->out.begin < ENOUGH_UNREAD;
}

/* Not more than a line a second, whatever comes. */
static void complain(const slm_error *err)
{
    static uint64_t last;
    uint64_t now = slm_server_now_ns();

    n_garbage++;
    if (last != 0 && now - last < 1000000000u)
        return;
    last = now;
    slm_server_log("closed a connection, number %llu for what it sent: %s", (unsigned long long) n_garbage, err->message);
}

/* Every frame that is whole. */
static void take_frames(client *c)
{
    slm_frame frame;
    slm_error err = {.message = "a frame has a body that is none"};

    while (!c->gone && wants_more(c) && c->in.end - c->in.begin >= SLM_FRAME_HEADER) {
        const uint8_t *at = c->in.bytes + c->in.begin;

        if (slm_frame_get(at, &frame, &err) == SLM_OK) {
            if (c->in.end - c->in.begin - SLM_FRAME_HEADER < frame.n_bytes)
                break;
            c->in.begin += SLM_FRAME_HEADER + frame.n_bytes;
            if (take_frame(c, &frame, at + SLM_FRAME_HEADER, &err))
                continue;
        }
        complain(&err);
        c->gone = true;
    }
    drained(&c->in);
}

static void read_from(client *c)
{
    while (!c->gone) {
        ssize_t n;

        if (!make_room(&c->in, READ_BYTES) && !make_room(&c->in, LEAST_BYTES)) {
            c->gone = true;
            return;
        }
        n = recv(c->fd, c->in.bytes + c->in.end, c->in.room - c->in.end, MSG_DONTWAIT);
        if (n > 0)
            c->in.end += (size_t) n;
        else if (n < 0 && errno == EINTR)
            continue;
        else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            c->gone = true;
        else
            return;
        take_frames(c);
        if (!wants_more(c))
            return;
    }
}

/* ---- connections */

void slm_clients_add(int fd)
{
    client *c = n_clients < MOST_CLIENTS ? calloc(1, sizeof *c) : NULL;

    if (c == NULL) {
        close(fd);
        return;
    }
    c->fd = fd;
    c->next = clients;
    clients = c;
    n_clients++;
}

size_t slm_clients_count(void)
{
    return n_clients;
}

void slm_clients_figures(slm_state_figures *out)
{
    out->connections = n_clients;
    out->cancelled = n_cancelled;
    out->garbage = n_garbage;
}

static void let_go(client *c)
{
    while (c->first != NULL)
        slm_models_drop(c->first);
    slm_flows_forget(c);
    close(c->fd);
    free(c->in.bytes);
    free(c->out.bytes);
    free(c);
    n_clients--;
}

static void sweep(void)
{
    for (client **p = &clients; *p != NULL;) {
        client *c = *p;

        if (!c->gone) {
            p = &c->next;
            continue;
        }
        *p = c->next;
        let_go(c);
    }
}

void slm_clients_flush(void)
{
    for (client *c = clients; c != NULL; c = c->next) {
        if (c->out.begin < c->out.end)
            flush(c);
        take_frames(c); /* those that were left while it had too much under way */
    }
    sweep();
}

/* Our own user's processes only. */
static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct ucred peer;
        socklen_t n = sizeof peer;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid()) {
            slm_clients_add(fd);
            continue;
        }
        slm_server_log("refused a connection of another user");
        close(fd);
    }
}

bool slm_clients_poll(int listener, int alive, int ms)
{
    static struct pollfd *polled;
    static size_t room;
    size_t n = 2;
    client *c;

    if (room < n_clients + 2) {
        struct pollfd *grown = realloc(polled, (2 * n_clients + 16) * sizeof *polled);

        if (grown == NULL)
            return true;
        polled = grown;
        room = 2 * n_clients + 16;
    }
    polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = alive, .events = POLLIN};
    for (c = clients; c != NULL; c = c->next)
        polled[n++] = (struct pollfd){.fd = c->fd, .events = (short) ((wants_more(c) ? POLLIN : 0) |
                                                                     (c->out.begin < c->out.end ? POLLOUT : 0))};
    if (poll(polled, n, ms) <= 0)
        return true;
    if (polled[1].revents != 0)
        return false;
    n = 2;
    for (c = clients; c != NULL; c = c->next, n++) {
        if ((polled[n].revents & POLLIN) != 0)
            read_from(c);
        else if ((polled[n].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
            c->gone = true;
    }
    if (polled[0].revents != 0)
        accept_all(listener);
    slm_clients_flush();
    return listener >= 0 || n_clients > 0;
}

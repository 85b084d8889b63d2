/*
 * shared.c: requests that run in the engine process, over one connection of this backend (engine/wire/frame.h).
 *
 *   start ──► frame, kept with the run ──► out ──socket──► engine ──► RESULT, PIECE ──► run
 *                    └── the connection is lost: sent again on the next one
 *
 * What is submitted is sent when somebody waits, so that the calls of a batch of rows arrive together; not more than AT_ONCE of them are
 * under way, so that the process goes on reading, and hears at once of those that are cancelled.  A request is a function of its
 * arguments, so sending it again does no harm; the part of a stream that has been taken already is left out then.  One that was under way
 * when the process died of itself may be why: it is never run in this backend, which would die of it as well.
 *
 * A model that was dropped while statements use it has no file any more that the process could open: they go on with what they have mapped,
 * in this backend.
 *
 * The connection belongs to the backend, not to a statement.  At an abort the runs are cancelled; where that cannot be sent at once the
 * connection is closed, which cancels them too.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/parallel.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "engine/slm.h"
#include "engine/wire/frame.h"
#include "engine/wire/wire.h"
#include "pg/base/compat.h"
#include "pg/base/errors.h"
#include "pg/models/store_files.h"
#include "pg/run/accounts.h"
#include "pg/run/constraints.h"
#include "pg/run/engine.h"
#include "pg/run/internal.h"
#include "pg/run/progress.h"
#include "pg/run/usage.h"

#define FIRST_WAIT_MS 3000     /* for a process that is being started, where the request can run here instead */
#define WAIT_MS 30000          /* where it cannot */
#define FLUSH_BYTES (256 << 10)
#define READ_BYTES (64 << 10)
#define MOST_SENT 50           /* times that one request is sent */
#define LOCAL_AFTER 6          /* times after which it runs here, where it may */
#define AT_ONCE 2048           /* under way; the process does not read more than 8192 of one connection */

/* What was sent for a run; in the run's memory context. */
typedef struct SlmSent {
    char *frame;
    size_t frame_bytes;
    int n_sent;
    bool under_way;        /* sent on this connection, without a result */
    uint32 blamed;         /* deaths that the process was to blame for, when it was first sent */
    char *text;            /* [text_bytes] of a stream, of which `taken` are taken */
    size_t text_bytes, text_room, taken;
    size_t *ends;          /* [n_ends] where its pieces end, of which next_end are taken: a row is a piece, however many came at once */
    int n_ends, ends_room, next_end;
    size_t skip;           /* bytes that come again */
    slm_usage so_far;      /* what it has taken, as the process said last; of a run without a result */
    uint64 shown;          /* tokens, counted in slm.progress */
    bool no_file;          /* its model's file is not there any more */
} SlmSent;

static struct {
    int fd; /* -1: not connected */
    uint32 life;
    WaitEventSet *set;
    bool watches_writing;
    char *out, *in; /* in TopMemoryContext */
    size_t out_begin, out_end, out_room, in_begin, in_end, in_room;
} connection = {.fd = -1};

static dlist_head runs = DLIST_STATIC_INIT(runs); /* of SlmRun, in order of start */
static int n_waiting;                             /* runs without a result */
static int n_under_way;                           /* of them, sent on this connection */
static bool any_no_file;
static uint64 next_number = 1;
static uint32 wait_event;

/* ---- the connection */

static void disconnect(void)
{
    dlist_iter it;

    if (connection.fd < 0)
        return;
    dlist_foreach(it, &runs)
        dlist_container(SlmRun, node, it.cur)->sent->under_way = false;
    n_under_way = 0;
    FreeWaitEventSet(connection.set);
    close(connection.fd);
    ReleaseExternalFD();
    connection.fd = -1;
    connection.set = NULL;
    connection.out_begin = connection.out_end = connection.in_begin = connection.in_end = 0;
}

/* Room for n more bytes behind *end; what is before *begin goes. */
static void make_room(char **bytes, size_t *begin, size_t *end, size_t *room, size_t n)
{
    if (*begin > 0) {
        memmove(*bytes, *bytes + *begin, *end - *begin);
        *end -= *begin;
        *begin = 0;
    }
    if (*room - *end >= n)
        return;
    *room = Max(2 * *room, *end + n);
    if (*bytes == NULL)
        *bytes = MemoryContextAllocHuge(TopMemoryContext, *room);
    else
        *bytes = repalloc_huge(*bytes, *room);
}

static void watch(void)
{
    connection.set = SLM_NEW_WAIT_SET(3);
    AddWaitEventToSet(connection.set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
    AddWaitEventToSet(connection.set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
    AddWaitEventToSet(connection.set, WL_SOCKET_READABLE, connection.fd, NULL, NULL);
    connection.watches_writing = false;
}

/* A socket that the process of our own user listens on; -1: there is none. */
static int open_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t n = sizeof peer;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    strlcpy(address.sun_path, SLM_ENGINE_SOCKET, sizeof address.sun_path);
    if (connect(fd, (struct sockaddr *) &address, sizeof address) == 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
        peer.uid == geteuid())
        return fd;
    close(fd);
    return -1;
}

static bool connect_now(uint32 life)
{
    int fd;

    if (!AcquireExternalFD())
        return false;
    fd = open_socket();
    if (fd < 0) {
        ReleaseExternalFD();
        return false;
    }
    connection.fd = fd;
    connection.life = life;
    watch();
    return true;
}

/* Connects; waits up to ms for a process that is being started. */
static bool connect_within(long ms)
{
    TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
    SlmEngineNow now;

    slm_pg_engine_now(&now);
    while (now.ready || slm_pg_engine_await(0, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until), &now)) {
        if (connect_now(now.life))
            return true;
        if (GetCurrentTimestamp() >= until)
            return false;
        if (InterruptPending)
            slm_pg_interrupted();
        pg_usleep(2000); /* it has just died, or many connect at once */
        slm_pg_engine_now(&now);
    }
    return false;
}

static pg_noreturn void not_there(const SlmEngineNow *now);

static void not_there(const SlmEngineNow *now)
{
    ereport(ERROR, (errcode(ERRCODE_CANNOT_CONNECT_NOW), errmsg("the engine process is not there"),
                    now->supervised ? errdetail("It could not be started, or could not be reached: the server's log says why.")
                                    : errdetail("Nothing looks after it in this server."),
                    errhint(now->supervised ? "SELECT * FROM slm.engine_status; or compute in the session: SET slm.engine = 'local';"
                                            : "Put slm_pg into shared_preload_libraries and restart the server, or compute in the session: "
                                              "SET slm.engine = 'local';")));
    pg_unreachable();
}

bool slm_pg_shared_wanted(void)
{
    SlmEngineNow now;

    if (slm_guc_engine == SLM_ENGINE_LOCAL)
        return false;
    if (connection.fd >= 0)
        return true;
    slm_pg_engine_now(&now);
    if (now.supervised && !(now.failing && slm_guc_engine == SLM_ENGINE_AUTO) &&
        connect_within(slm_guc_engine == SLM_ENGINE_AUTO ? FIRST_WAIT_MS : WAIT_MS))
        return true;
    if (slm_guc_engine == SLM_ENGINE_SHARED)
        not_there(&now);
    return false;
}

/* ---- what is sent */

static void put(const char *bytes, size_t n)
{
    make_room(&connection.out, &connection.out_begin, &connection.out_end, &connection.out_room, n);
    memcpy(connection.out + connection.out_end, bytes, n);
    connection.out_end += n;
}

/* Writes what the socket takes. */
static void flush(void)
{
    while (connection.fd >= 0 && connection.out_begin < connection.out_end) {
        ssize_t n = send(connection.fd, connection.out + connection.out_begin, connection.out_end - connection.out_begin, MSG_NOSIGNAL);

        if (n > 0)
            connection.out_begin += (size_t) n;
        else if (errno == EINTR)
            continue;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        else
            disconnect();
    }
}

/* Somebody waits for one call alone, however many requests it takes, or a statement has several under way. */
static slm_class class_of(const SlmRun *run)
{
    if (slm_pg_in_background())
        return SLM_CLASS_JOB;
    return run->node_of != NULL && n_waiting > 1 ? SLM_CLASS_BATCH : SLM_CLASS_INTERACTIVE;
}

/* Only now it is known how many there are beside it. */
static void send_run(SlmRun *run)
{
    SlmSent *sent = run->sent;
    slm_frame frame = {.type = SLM_FRAME_SUBMIT, .class = class_of(run), .number = run->id,
                       .n_bytes = sent->frame_bytes - SLM_FRAME_HEADER};

    slm_frame_put(&frame, (uint8_t *) sent->frame);
    put(sent->frame, sent->frame_bytes);
    sent->under_way = true;
    n_under_way++;
    sent->n_sent++;
    sent->skip = sent->text_bytes;
    if (connection.out_end - connection.out_begin > FLUSH_BYTES)
        flush();
}

/* Sends what is not under way yet, as far as it may be. */
static void send_more(void)
{
    dlist_iter it;

    if (n_under_way == n_waiting || n_under_way > AT_ONCE / 2)
        return;
    dlist_foreach(it, &runs) {
        SlmRun *run = dlist_container(SlmRun, node, it.cur);

        if (n_under_way == AT_ONCE || connection.fd < 0)
            return;
        if (!run->done && !run->sent->under_way)
            send_run(run);
    }
}

static char *stem(const char *key)
{
    char *name = palloc(SLM_STEM_SIZE);

    slm_pg_store_stem(key, name);
    return name;
}

/* The frame of a request, in the run's context, its head still to be written; NULL: it is too long. */
static char *pack(const SlmRun *run, const SlmOpenModel *opened, const slm_request *request, size_t *bytes)
{
    const char *plus = strchr(opened->key, '+');
    slm_wire_names names = {.model = stem(opened->base != NULL ? opened->base->key : opened->key),
                            .adapter = plus != NULL ? stem(plus + 1) : NULL,
                            .constraint = request->constraint != NULL ? slm_pg_constraint_words(request->constraint) : NULL,
                            .kv_type = run->kv_type};
    slm_request whole = *request;
    size_t n_bytes;
    char *packed;

    whole.public_realm = MyDatabaseId;
    whole.realm = (uint64) MyDatabaseId << 32 | GetUserId();
    n_bytes = slm_wire_pack_request(run->id, &names, &whole, NULL, 0);
    *bytes = SLM_FRAME_HEADER + n_bytes;
    if (n_bytes > SLM_FRAME_MOST)
        return NULL;
    packed = MemoryContextAlloc(GetMemoryChunkContext(unconstify(SlmRun *, run)), *bytes);
    (void) slm_wire_pack_request(run->id, &names, &whole, packed + SLM_FRAME_HEADER, n_bytes);
    return packed;
}

bool slm_pg_shared_start(SlmRun *run, SlmOpenModel *opened, const slm_request *request)
{
    SlmEngineNow now;
    SlmSent *sent;
    size_t bytes;
    char *frame;

    run->id = next_number++;
    frame = pack(run, opened, request, &bytes);
    if (frame == NULL)
        return false;
    sent = MemoryContextAllocZero(GetMemoryChunkContext(run), sizeof *sent);
    slm_pg_engine_now(&now);
    sent->frame = frame;
    sent->frame_bytes = bytes;
    sent->blamed = now.blamed;
    run->sent = sent;
    dlist_push_tail(&runs, &run->node);
    n_waiting++;
    return true;
}

/* ---- the end of a run */

static void is_over(SlmRun *run)
{
    n_under_way -= run->sent->under_way;
    run->sent->under_way = false;
}

static void free_sent(SlmRun *run)
{
    if (run->sent == NULL)
        return;
    if (run->sent->text != NULL)
        pfree(run->sent->text);
    if (run->sent->ends != NULL)
        pfree(run->sent->ends);
    pfree(run->sent->frame);
    pfree(run->sent);
    run->sent = NULL;
}

/* Tells the engine that nobody waits any more, without an error. */
static void send_cancel(const SlmRun *run)
{
    slm_frame frame = {.type = SLM_FRAME_CANCEL, .number = run->id};
    uint8_t bytes[SLM_FRAME_HEADER];

    if (connection.fd < 0)
        return;
    slm_frame_put(&frame, bytes);
    if (connection.out_room - connection.out_end < sizeof bytes && connection.out_begin < sizeof bytes) {
        disconnect(); /* there is no room, and no time to make some: that cancels all; those that are left are sent again */
        return;
    }
    put((const char *) bytes, sizeof bytes);
}

void slm_pg_shared_release(SlmRun *run)
{
    if (!run->done) {
        if (run->sent->under_way) {
            send_cancel(run);
            is_over(run);
        }
        slm_pg_account_usage(run->account, &run->sent->so_far); /* it has been computed */
        n_waiting--;
    }
    dlist_delete(&run->node);
    free_sent(run);
}

void slm_pg_shared_end_all(void)
{
    while (!dlist_is_empty(&runs))
        slm_pg_cancel(dlist_container(SlmRun, node, dlist_head_node(&runs)));
    flush();
}

void slm_pg_shared_end_sub(SubTransactionId subid)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &runs) {
        SlmRun *run = dlist_container(SlmRun, node, it.cur);

        if (run->subid >= subid)
            slm_pg_cancel(run);
    }
    flush();
}

bool slm_pg_shared_busy(void)
{
    return n_waiting > 0;
}

/* ---- what comes */

static SlmRun *find(uint64 number)
{
    dlist_iter it;

    dlist_foreach(it, &runs) {
        SlmRun *run = dlist_container(SlmRun, node, it.cur);

        if (run->id == number)
            return run;
    }
    return NULL; /* it was cancelled */
}

/* What this backend calls the engine's limit by another name. */
static void name_limit(slm_error *err)
{
    if (err->hint_code != SLM_HINT_KV_BUDGET && err->hint_code != SLM_HINT_KV_REQUEST)
        return;
    err->hint_code = SLM_HINT_OTHER;
    strlcpy(err->hint, "Raise slm.engine_memory, shorten the prompt, ask for fewer tokens, or SET slm.engine = 'local'.", sizeof err->hint);
}

/* So many were computed of it. */
static void show_tokens(SlmSent *sent, uint64 tokens)
{
    if (tokens > sent->shown) {
        slm_pg_progress_tokens(tokens - sent->shown);
        sent->shown = tokens;
    }
}

static void finish(SlmRun *run, slm_result *result)
{
    name_limit(&result->error);
    is_over(run);
    slm_pg_run_answered(run, result);
    show_tokens(run->sent, slm_usage_tokens(&result->usage));
    n_waiting--;
}

static bool take_result(const slm_frame *frame, const char *body)
{
    SlmRun *run = find(frame->number);
    slm_wire_result read;

    if (slm_wire_read_result(body, frame->n_bytes, &read, NULL) != SLM_OK || read.number != frame->number)
        return false;
    if (run != NULL && !run->done && read.result.status != SLM_OK && read.result.error.os_error == ENOENT)
        any_no_file = run->sent->no_file = true; /* it stays under way until it runs here */
    else if (run != NULL && !run->done)
        finish(run, &read.result);
    slm_wire_result_free(&read);
    return true;
}

static bool take_progress(const slm_frame *frame, const char *body)
{
    SlmRun *run = find(frame->number);

    if (frame->n_bytes != sizeof(slm_usage))
        return false;
    if (run != NULL && !run->done) {
        slm_frame_get_usage((const uint8_t *) body, &run->sent->so_far);
        show_tokens(run->sent, slm_usage_tokens(&run->sent->so_far));
    }
    return true;
}

static bool take_piece(const slm_frame *frame, const char *body)
{
    SlmRun *run = find(frame->number);
    SlmSent *sent = run == NULL ? NULL : run->sent;
    size_t skip, n;

    if (sent == NULL || run->done)
        return true;
    skip = Min(sent->skip, frame->n_bytes);
    n = frame->n_bytes - skip;
    sent->skip -= skip;
    if (n == 0)
        return true;
    if (sent->text == NULL) {
        sent->text_room = Max(256, n);
        sent->text = MemoryContextAlloc(GetMemoryChunkContext(run), sent->text_room);
    } else if (sent->text_room - sent->text_bytes < n) {
        sent->text_room = 2 * sent->text_room + n;
        sent->text = repalloc(sent->text, sent->text_room);
    }
    memcpy(sent->text + sent->text_bytes, body + skip, n);
    sent->text_bytes += n;
    if (sent->n_ends == sent->ends_room) {
        sent->ends_room = 2 * sent->ends_room + 32;
        sent->ends = sent->ends == NULL ? MemoryContextAlloc(GetMemoryChunkContext(run), sent->ends_room * sizeof *sent->ends)
                                        : repalloc(sent->ends, sent->ends_room * sizeof *sent->ends);
    }
    sent->ends[sent->n_ends++] = sent->text_bytes;
    return true;
}

/* Every frame that is whole; returns how many, and gives the connection up when what came is none. */
static int take_frames(void)
{
    int n = 0;

    while (connection.fd >= 0 && connection.in_end - connection.in_begin >= SLM_FRAME_HEADER) {
        const char *at = connection.in + connection.in_begin;
        slm_frame frame;
        bool good = slm_frame_get((const uint8_t *) at, &frame, NULL) == SLM_OK;

        if (good && connection.in_end - connection.in_begin - SLM_FRAME_HEADER < frame.n_bytes)
            break;
        if (good)
            connection.in_begin += SLM_FRAME_HEADER + frame.n_bytes;
        if (good && frame.type == SLM_FRAME_RESULT)
            good = take_result(&frame, at + SLM_FRAME_HEADER);
        else if (good && frame.type == SLM_FRAME_PROGRESS)
            good = take_progress(&frame, at + SLM_FRAME_HEADER);
        else
            good = good && frame.type == SLM_FRAME_PIECE && take_piece(&frame, at + SLM_FRAME_HEADER);
        if (!good) {
            ereport(LOG, (errmsg("the engine process sent what is no answer: its connection is made anew")));
            disconnect();
        }
        n++;
    }
    return n;
}

static int read_frames(void)
{
    int taken = 0;

    while (connection.fd >= 0) {
        ssize_t n;

        make_room(&connection.in, &connection.in_begin, &connection.in_end, &connection.in_room, READ_BYTES);
        n = recv(connection.fd, connection.in + connection.in_end, connection.in_room - connection.in_end, 0);
        if (n > 0) {
            connection.in_end += (size_t) n;
            taken += take_frames();
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else {
            if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
                disconnect();
            break;
        }
    }
    return taken;
}

bool slm_pg_shared_piece(const SlmRun *run, const char **text, size_t *length)
{
    SlmSent *sent = run->sent;

    if (sent == NULL || sent->next_end == sent->n_ends)
        return false;
    *text = sent->text + sent->taken;
    *length = sent->ends[sent->next_end] - sent->taken;
    sent->taken = sent->ends[sent->next_end++];
    return true;
}

/* ---- when the process has gone */

static void fail_run(SlmRun *run)
{
    slm_result result = {.status = SLM_INTERNAL};

    slm_fail(&result.error, SLM_INTERNAL, "the engine process went away %d times while it computed the request", run->sent->n_sent);
    slm_hint(&result.error, "The server's log says why it ended.");
    finish(run, &result);
}

/* Runs a request in this backend after all. */
static void run_here(SlmRun *run)
{
    volatile bool is_out = false;
    slm_wire_request read;
    slm_request request;
    slm_error err;

    if (slm_wire_read_request(run->sent->frame + SLM_FRAME_HEADER, run->sent->frame_bytes - SLM_FRAME_HEADER, &read, &err) != SLM_OK)
        slm_pg_error(&err, NULL);
    PG_TRY();
    {
        request = read.request;
        if (read.names.constraint != NULL)
            request.constraint = slm_pg_constraint(run->opened, (slm_constraint_kind) (read.names.constraint[0] - '0'),
                                                   read.names.constraint + 2);
        is_over(run);
        dlist_delete(&run->node);
        n_waiting--;
        is_out = true;
        if (!slm_pg_local_start(run, run->opened, &request, false))
            elog(ERROR, "a request was not taken");
        is_out = false;
        free_sent(run);
    }
    PG_FINALLY();
    {
        if (is_out) { /* where it is ended */
            dlist_push_tail(&runs, &run->node);
            n_waiting++;
        }
        slm_wire_request_free(&read);
    }
    PG_END_TRY();
}

/* May it run here?  Not when it may be what the process has died of; nor a stream, some of which has been taken. */
static bool may_run_here(const SlmRun *run, const SlmEngineNow *now)
{
    return slm_guc_engine != SLM_ENGINE_SHARED && run->sent->blamed == now->blamed && run->sent->text_bytes == 0;
}

/* Those whose models have no file any more. */
static void run_here_without_file(void)
{
    dlist_mutable_iter it;

    any_no_file = false;
    dlist_foreach_modify(it, &runs) {
        SlmRun *run = dlist_container(SlmRun, node, it.cur);

        if (!run->done && run->sent->no_file)
            run_here(run);
    }
}

/* There is no connection: sends all that has no answer again on a new one, or runs it here. */
static void start_again(void)
{
    bool connected = connect_within(WAIT_MS);
    dlist_mutable_iter it;
    SlmEngineNow now;

    slm_pg_engine_now(&now);
    dlist_foreach_modify(it, &runs) {
        SlmRun *run = dlist_container(SlmRun, node, it.cur);

        if (run->done)
            continue;
        if (may_run_here(run, &now) && (!connected || run->sent->n_sent >= LOCAL_AFTER))
            run_here(run);
        else if (!connected)
            not_there(&now);
        else if (run->sent->n_sent >= MOST_SENT)
            fail_run(run);
    }
    send_more();
}

void slm_pg_shared_step(bool wait)
{
    WaitEvent event;

    if (wait_event == 0)
        wait_event = SLM_WAIT_EVENT("SlmEngine");
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        if (InterruptPending)
            slm_pg_interrupted();
        if (connection.fd < 0) {
            start_again();
            if (n_waiting == 0)
                return; /* what is left runs here, or has failed */
        }
        send_more();
        flush();
        if (read_frames() > 0 || !wait) {
            slm_pg_accounts_flush(false);
            if (any_no_file)
                run_here_without_file();
            return;
        }
        if (connection.fd < 0)
            continue;
        if (connection.watches_writing != (connection.out_begin < connection.out_end)) {
            connection.watches_writing = !connection.watches_writing;
            ModifyWaitEvent(connection.set, 2, WL_SOCKET_READABLE | (connection.watches_writing ? WL_SOCKET_WRITEABLE : 0), NULL);
        }
        if (WaitEventSetWait(connection.set, -1, &event, 1, wait_event) > 0 && (event.events & WL_LATCH_SET) != 0)
            ResetLatch(MyLatch);
    }
}

/* What the requests of a server's clients may take in memory: of one connection, and of all of the
 * loop. Two things are counted. *Granted*: what a message larger than its stream's first window was
 * given on top of it, until it is delivered; it is asked for when the message's size is known, and
 * granted in the order of asking, the connections taking turns. *Charged*: what was delivered and
 * is not answered, counted by whoever answers (grpc_charge).
 *
 * At the bound large messages wait at the client, for a grant, and the connection goes on: HTTP/2
 * is made for this. Small ones need no grant; so a connection that has much in charge is not read
 * for a while. Both waits end by themselves: what is charged is answered sometime, and when nothing
 * is granted or charged any message gets its grant, whatever its size.
 *
 * Not counted are the first windows. A client with many unfinished messages is told a smaller one.
 */
#include "internal.h"

#include "base/assert.h"
#include "base/mem.h"

enum {
    CONN_SHARE_MIN_BYTES = 64 << 10, /* so much may be charged whatever the others have */
    NARROW_AT_BYTES = 512 << 10,     /* unfinished messages of a connection */
    NARROW_WINDOW_BYTES = 16 << 10,
};

/* Outlives its connection while anything is charged to it. */
struct conn_account {
    uint32_t refs;
    size_t charged_bytes;
    struct grpc_loop *gl;
};

/* --- life --- */

static void account_unref(struct conn_account *a)
{
    if (--a->refs == 0)
        mem_free(a);
}

void budget__open(struct grpc_conn *conn)
{
    conn->id = ++conn->gl->conns_made;
    list_init(&conn->starved);
    list_init(&conn->starved_link);
    list_init(&conn->stopped_link);
    if (conn->limits.conn_bytes_max == 0)
        return;
    conn->account = mem_alloc_zero(sizeof(*conn->account));
    conn->account->refs = 1;
    conn->account->gl = conn->gl;
}

void budget__close(struct grpc_conn *conn)
{
    ASSERT(conn->granted_bytes == 0 && list_is_empty(&conn->starved));
    list_remove(&conn->stopped_link);
    if (conn->account == NULL)
        return;
    account_unref(conn->account);
    conn->account = NULL;
}

/* --- grants --- */

/* What the client may still send of this call by what it knows, or will know when it sees what is
 * on its way to it. */
static int64_t window_left(const struct grpc_call *call)
{
    const struct grpc_conn *conn = call->conn;
    int64_t left =
        (int64_t)nghttp2_session_get_stream_effective_local_window_size(conn->session,
                                                                        call->stream_id) -
        nghttp2_session_get_stream_effective_recv_data_length(conn->session, call->stream_id);
    if (conn->narrowing)
        left -= conn->limits.stream_window_bytes - NARROW_WINDOW_BYTES;
    return left;
}

/* What the message that is being received lacks beyond the window. */
static int64_t lacking(const struct grpc_call *call)
{
    if (call->recv_need == 0 || call->recv_off || call->kept || call->stream_gone)
        return 0;
    return (int64_t)call->recv_need - (int64_t)call->recv.size - window_left(call);
}

void budget__ask(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (conn == NULL || conn->account == NULL || call->local != NULL ||
        list_is_linked(&call->starved_link) || lacking(call) <= 0)
        return;
    PROBE(grpc_message_waits_for_grant);
    list_push_back(&conn->starved, &call->starved_link);
    if (!list_is_linked(&conn->starved_link))
        list_push_back(&conn->gl->starved, &conn->starved_link);
    conn->gl->budget_moved = true;
}

static void unlink_starved(struct grpc_call *call)
{
    if (!list_is_linked(&call->starved_link))
        return;
    list_remove(&call->starved_link);
    if (list_is_empty(&call->conn->starved))
        list_remove(&call->conn->starved_link);
}

static void grant(struct grpc_call *call, size_t bytes)
{
    struct grpc_conn *conn = call->conn;
    (void)nghttp2_submit_window_update(conn->session, 0, call->stream_id, (int32_t)bytes);
    call->granted_bytes += bytes;
    conn->granted_bytes += bytes;
    conn->gl->granted_bytes += bytes;
    (void)buf_try_reserve(&call->recv, call->recv_need - call->recv.size);
    conn__mark_dirty(conn);
}

void budget__give_back(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (conn == NULL)
        return;
    unlink_starved(call);
    if (call->granted_bytes == 0)
        return;
    conn->granted_bytes -= call->granted_bytes;
    conn->gl->granted_bytes -= call->granted_bytes;
    conn->gl->budget_moved = true;
    /* The grant went ahead of what was received for it. */
    call->unconsumed_bytes -=
        call->granted_bytes < call->unconsumed_bytes ? call->granted_bytes : call->unconsumed_bytes;
    call->granted_bytes = 0;
}

static bool has_room(size_t used, size_t more, uint64_t max)
{
    return used == 0 || used + more <= max;
}

/* The oldest of this connection. False when it must wait. */
static bool serve_oldest(struct grpc_conn *conn)
{
    struct grpc_loop *gl = conn->gl;
    struct grpc_call *call = CONTAINER_OF(conn->starved.next, struct grpc_call, starved_link);
    int64_t want = lacking(call);
    size_t bytes = want > 0 ? (size_t)want : 0;
    if (!has_room(conn->granted_bytes + conn->account->charged_bytes, bytes,
                  conn->limits.conn_bytes_max) ||
        !has_room(gl->granted_bytes + gl->charged_bytes, bytes, conn->limits.loop_bytes_max))
        return false;
    unlink_starved(call);
    if (bytes > 0)
        grant(call, bytes);
    return true;
}

/* One each in turn, until none of them gets anything. */
static void serve_starved(struct grpc_loop *gl)
{
    bool any = true;
    while (any) {
        any = false;
        struct list now;
        list_init(&now);
        list_splice_back(&now, &gl->starved);
        while (!list_is_empty(&now)) {
            struct grpc_conn *conn = CONTAINER_OF(now.next, struct grpc_conn, starved_link);
            bool served = serve_oldest(conn);
            any = any || served;
            if (!list_is_linked(&conn->starved_link))
                continue;
            list_remove(&conn->starved_link);
            list_push_back(&gl->starved, &conn->starved_link);
        }
    }
}

/* --- a client with many unfinished messages --- */

void budget__narrow(struct grpc_conn *conn)
{
    if (conn->account == NULL || conn->narrow ||
        conn->recv_buffered_bytes <= conn->granted_bytes + NARROW_AT_BYTES ||
        conn->limits.stream_window_bytes <= NARROW_WINDOW_BYTES)
        return;
    PROBE(grpc_window_narrowed);
    nghttp2_settings_entry e = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, NARROW_WINDOW_BYTES};
    if (nghttp2_submit_settings(conn->session, 0, &e, 1) != 0)
        return;
    conn->settings_unacked++;
    conn->narrow = true;
    conn->narrowing = true;
    /* It will find the windows of all its calls smaller: also of those that were given enough. */
    LIST_EACH (it, &conn->calls) {
        struct grpc_call *call = CONTAINER_OF(it, struct grpc_call, link);
        int64_t want = lacking(call);
        if (call->granted_bytes > 0 && want > 0)
            grant(call, (size_t)want);
        else
            budget__ask(call);
    }
    conn__mark_dirty(conn);
}

/* --- charges --- */

static bool is_over(const struct grpc_conn *conn)
{
    const struct conn_account *a = conn->account;
    return a->charged_bytes > conn->limits.conn_bytes_max ||
           (a->charged_bytes > CONN_SHARE_MIN_BYTES &&
            conn->gl->charged_bytes > conn->limits.loop_bytes_max);
}

void budget__check_reading(struct grpc_conn *conn)
{
    if (conn->account == NULL || list_is_linked(&conn->stopped_link) || !is_over(conn))
        return;
    PROBE(grpc_reading_stopped_by_charge);
    list_push_back(&conn->gl->stopped, &conn->stopped_link);
    conn__stop_reading(conn, CONN_STOP_CHARGED);
}

/* Not all of them at once, or they would be over again by far. */
static void read_again(struct grpc_loop *gl)
{
    size_t expected = gl->charged_bytes;
    LIST_EACH_SAFE (it, after, &gl->stopped) {
        struct grpc_conn *conn = CONTAINER_OF(it, struct grpc_conn, stopped_link);
        if (is_over(conn) || expected > conn->limits.loop_bytes_max)
            continue;
        list_remove(&conn->stopped_link);
        expected += CONN_SHARE_MIN_BYTES;
        conn__go_on_reading(conn, CONN_STOP_CHARGED);
    }
}

void grpc_charge_take(struct grpc_charge *ret, struct grpc_call *call, size_t bytes)
{
    *ret = (struct grpc_charge){0};
    struct grpc_conn *conn = call->conn;
    if (conn == NULL || conn->account == NULL)
        return;
    ret->account = conn->account;
    ret->bytes = bytes;
    conn->account->refs++;
    conn->account->charged_bytes += bytes;
    conn->gl->charged_bytes += bytes;
}

void grpc_charge_return(struct grpc_charge *charge)
{
    struct conn_account *a = charge->account;
    if (a == NULL)
        return;
    charge->account = NULL;
    ASSERT(a->charged_bytes >= charge->bytes && a->gl->charged_bytes >= charge->bytes);
    a->charged_bytes -= charge->bytes;
    a->gl->charged_bytes -= charge->bytes;
    a->gl->budget_moved = true;
    account_unref(a);
}

void budget__serve(struct grpc_loop *gl)
{
    if (!gl->budget_moved)
        return;
    gl->budget_moved = false;
    serve_starved(gl);
    read_again(gl);
}

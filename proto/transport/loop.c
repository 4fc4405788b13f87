/* One turn of a loop. uv polls: sockets are read, calls are opened, messages delivered, answers
 * queued. Just before it blocks again, on_prepare() tells owners what is due and writes each
 * connection that has something to send, once. */
#include "internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/prompt.h"

/* --- output --- */

void out_copy(struct out *o, const void *data, size_t size)
{
    ASSERT(size <= out_copy_free(o));
    uint8_t *to = o->copy + o->copy_size;
    memcpy(to, data, size);
    o->copy_size += size;
    o->bytes += size;
    struct io_vec *last = o->vecs_count > 0 ? &o->vecs[o->vecs_count - 1] : NULL;
    if (last != NULL && last->owner == NULL && last->data + last->size == to) {
        last->size += size;
        return;
    }
    ASSERT(o->vecs_count < OUT_VECS_MAX);
    o->vecs[o->vecs_count++] = (struct io_vec){to, size, NULL};
}

void out_share(struct out *o, struct bref *owner, const uint8_t *data, size_t size)
{
    ASSERT(o->vecs_count < OUT_VECS_MAX);
    o->vecs[o->vecs_count++] = (struct io_vec){data, size, bref_ref(owner)};
    o->bytes += size;
}

void out_clear(struct out *o)
{
    for (size_t i = 0; i < o->vecs_count; i++)
        bref_unref(o->vecs[i].owner);
    o->vecs_count = 0;
    o->copy_size = 0;
    o->bytes = 0;
}

/* --- a turn --- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active is all that is wanted */
}

static void bury(struct grpc_loop *gl)
{
    struct list graves;
    list_init(&graves);
    list_splice_back(&graves, &gl->graveyard);
    while (!list_is_empty(&graves)) {
        struct grave *g = CONTAINER_OF(graves.next, struct grave, link);
        list_remove(&g->link);
        g->free_fn(g);
    }
}

static void do_work(struct grpc_loop *gl)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &gl->work);
    while (!list_is_empty(&now)) {
        struct grpc_call *call = CONTAINER_OF(now.next, struct grpc_call, work_link);
        list_remove(&call->work_link);
        call__do_work(call);
        prompt_check();
    }
}

static void tell_others(struct grpc_loop *gl)
{
    if (!list_is_empty(&gl->locals))
        local__tell_all(gl);
    if (!list_is_empty(&gl->exchanges))
        http1__tell_all(gl);
}

static bool has_work(const struct grpc_loop *gl)
{
    return !list_is_empty(&gl->dirty) || !list_is_empty(&gl->work) || !list_is_empty(&gl->locals) ||
           !list_is_empty(&gl->exchanges);
}

static void flush_dirty(struct grpc_loop *gl)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &gl->dirty);
    while (!list_is_empty(&now)) {
        struct grpc_conn *conn = CONTAINER_OF(now.next, struct grpc_conn, dirty_link);
        list_remove(&conn->dirty_link);
        conn__flush(conn);
        prompt_check();
    }
}

static bool rests(const struct grpc_loop *gl)
{
    return gl->rest.until_ns != 0 && clock_mono_ns() < gl->rest.until_ns;
}

/* A piece of bulk output under way. */
struct piece {
    bool begun;
    uint64_t from_ns;
    uint64_t cpu_from_ns;
};

/* Those who had more to write than their share go on where they stopped. */
static struct piece begin_writing(struct grpc_loop *gl)
{
    bool bulk = !list_is_empty(&gl->bulk) && !rests(gl);
    uint32_t count = gl->dirty_next_count + (bulk ? gl->bulk_count : 0);
    size_t share = TURN_WRITE_BYTES / (count > 0 ? count : 1);
    gl->write_share_bytes = share > WRITE_SHARE_MIN_BYTES ? share : WRITE_SHARE_MIN_BYTES;
    gl->dirty_next_count = 0;
    list_splice_back(&gl->dirty, &gl->dirty_next);
    if (!bulk)
        return (struct piece){0};
    gl->bulk_count = 0;
    list_splice_back(&gl->dirty, &gl->bulk);
    return (struct piece){
        .begun = true, .from_ns = clock_mono_ns(), .cpu_from_ns = clock_thread_ns()};
}

static void end_writing(struct grpc_loop *gl, const struct piece *p)
{
    if (!p->begun)
        return;
    uint64_t now_ns = clock_mono_ns();
    if (gl->other == NULL || now_ns >= gl->other_asked_ns + BULK_MEMORY_NS) {
        rest_forget(&gl->rest);
        return;
    }
    rest_after(&gl->rest, now_ns - p->from_ns, clock_thread_ns() - p->cpu_from_ns, now_ns);
    if (gl->rest_meter != NULL)
        metric_add(gl->rest_meter, gl->rest.until_ns - now_ns);
}

static void on_rest_is_over(struct timer *t)
{
    (void)t; /* the turn that comes is all that is wanted */
}

static bool bulk_is_due(struct grpc_loop *gl)
{
    if (list_is_empty(&gl->bulk))
        return false;
    if (!rests(gl))
        return true;
    gl->rest_is_over.fn = on_rest_is_over;
    timer_set(&gl->timers, &gl->rest_is_over, gl->rest.until_ns);
    return false;
}

/* Writing may end calls, and ending calls may make others write: a few rounds, then the rest waits
 * for the next turn, which does not block. */
static void turn(struct grpc_loop *gl)
{
    enum { ROUNDS_MAX = 4 };
    if (gl->in_turn || gl->in_session > 0)
        return; /* called from a callback: the turn comes by itself */
    gl->in_turn = true;
    struct piece piece = begin_writing(gl);
    budget__serve(gl);
    for (int i = 0; i < ROUNDS_MAX; i++) {
        if (!has_work(gl))
            break;
        do_work(gl);
        tell_others(gl);
        flush_dirty(gl);
    }
    end_writing(gl, &piece);
    gl->in_turn = false;
    bool left_over =
        has_work(gl) || !list_is_empty(&gl->dirty_next) || bulk_is_due(gl) || gl->budget_moved;
    if (left_over != (uv_is_active((uv_handle_t *)&gl->idle) != 0)) {
        if (left_over)
            (void)uv_idle_start(&gl->idle, on_idle);
        else
            (void)uv_idle_stop(&gl->idle);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct grpc_loop *gl = prepare->data;
    turn(gl);
    prompt_check();
    gl->now_ns = 0;
    io_new_turn(&gl->io);
    /* Not before all calls of a closed channel are told their end. */
    if (list_is_empty(&gl->work) && list_is_empty(&gl->locals))
        bury(gl);
}

uint64_t grpc_loop_now_ns(struct grpc_loop *gl)
{
    if (gl->now_ns == 0)
        gl->now_ns = clock_mono_ns();
    return gl->now_ns;
}

void grpc_loop_flush(struct grpc_loop *gl)
{
    turn(gl);
}

/* --- life --- */

static bool session_setup(struct grpc_loop *gl)
{
    if (nghttp2_session_callbacks_new(&gl->callbacks) != 0 || nghttp2_option_new(&gl->option) != 0)
        return false;
    conn__set_callbacks(gl->callbacks);
    nghttp2_option_set_no_auto_window_update(gl->option, 1);
    nghttp2_option_set_no_closed_streams(gl->option, 1);
    nghttp2_option_set_no_http_messaging(gl->option, 1); /* see fields.h */
    nghttp2_option_set_stream_reset_rate_limit(gl->option, RESET_BURST, RESET_RATE);
    nghttp2_option_set_max_send_header_block_length(gl->option, 1 << 20);
    /* Until the peer's SETTINGS say otherwise, as every gRPC client has it. */
    nghttp2_option_set_peer_max_concurrent_streams(gl->option, 100);
    return true;
}

struct grpc_loop *grpc_loop_new(uv_loop_t *loop)
{
    struct grpc_loop *gl = grpc_loop_try_new(loop);
    if (gl == NULL)
        tv_fatal("out of memory: a loop");
    return gl;
}

static void memory_fini(struct grpc_loop *gl)
{
    nghttp2_session_callbacks_del(gl->callbacks);
    nghttp2_option_del(gl->option);
    pool_fini(&gl->memory);
    mem_free(gl->io.read_buf);
    mem_free(gl->io.tls_plain);
    buf_fini(&gl->io.tls_out);
    mem_free(gl->out.copy);
    mem_free(gl);
}

/* All that a loop needs from the start. */
static struct grpc_loop *memory_new(void)
{
    struct grpc_loop *gl = mem_try_alloc_zero(sizeof(*gl));
    if (gl == NULL)
        return NULL;
    pool_init(&gl->memory);
    gl->io.read_buf = mem_try_alloc(READ_BUF_BYTES);
    gl->io.read_buf_bytes = READ_BUF_BYTES;
    buf_init(&gl->io.tls_out, SIZE_MAX);
    gl->out.copy = mem_try_alloc(OUT_COPY_BYTES);
    if (gl->io.read_buf != NULL && gl->out.copy != NULL && session_setup(gl))
        return gl;
    memory_fini(gl);
    return NULL;
}

struct grpc_loop *grpc_loop_try_new(uv_loop_t *loop)
{
    struct grpc_loop *gl = memory_new();
    if (gl == NULL)
        return NULL;
    gl->uv = loop;
    list_init(&gl->dirty);
    list_init(&gl->dirty_next);
    list_init(&gl->bulk);
    list_init(&gl->work);
    list_init(&gl->locals);
    list_init(&gl->exchanges);
    list_init(&gl->starved);
    list_init(&gl->stopped);
    list_init(&gl->graveyard);
    list_init(&gl->pool);
    io_new_turn(&gl->io);
    timer_wheel_init(&gl->timers, loop);
    (void)uv_prepare_init(loop, &gl->prepare);
    (void)uv_idle_init(loop, &gl->idle);
    gl->prepare.data = gl;
    gl->idle.data = gl;
    (void)uv_prepare_start(&gl->prepare, on_prepare);
    /* Connections and listeners keep a loop alive, not this. */
    uv_unref((uv_handle_t *)&gl->prepare);
    gl->handles_open = 3;
    return gl;
}

static void loop_fini(struct grpc_loop *gl)
{
    bury(gl);
    ASSERT(list_is_empty(&gl->work) && list_is_empty(&gl->locals));
    ASSERT(gl->timers.count == 0);
    ASSERT(gl->granted_bytes == 0);
    while (!list_is_empty(&gl->pool)) {
        struct grpc_call *call = CONTAINER_OF(gl->pool.next, struct grpc_call, link);
        list_remove(&call->link);
        buf_fini(&call->metadata);
        buf_fini(&call->recv);
        buf_fini(&call->text);
        mem_free(call);
    }
    memory_fini(gl);
}

static void on_handle_closed(struct grpc_loop *gl)
{
    if (--gl->handles_open == 0)
        loop_fini(gl);
}

static void on_prepare_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct timer_wheel *w = handle->data;
    on_handle_closed(CONTAINER_OF(w, struct grpc_loop, timers));
}

void grpc_loop_free(struct grpc_loop *gl)
{
    turn(gl);
    timer_clear(&gl->timers, &gl->rest_is_over);
    /* Handles close in the reverse of this order; connections that are closing already come before.
     */
    uv_close((uv_handle_t *)&gl->prepare, on_prepare_closed);
    uv_close((uv_handle_t *)&gl->idle, on_prepare_closed);
    uv_close((uv_handle_t *)&gl->timers.uv, on_timer_closed);
}

uv_loop_t *grpc_loop_uv(struct grpc_loop *gl)
{
    return gl->uv;
}

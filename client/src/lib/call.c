/* The life of a call: begun, sent to whom the balancer names, judged by retry.h, ended once.
 *
 *     begin -> waiting <-> attempts open -> end
 *
 * It waits when no connection is ready, for a token, and before a retry. */
#include "engine.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>

/* --- memory --- */

static size_t pinned_size(const struct trivet_call_options *o)
{
    return o == NULL || o->endpoint == NULL ? 0 : strlen(o->endpoint) + 1;
}

static struct call *alloc_call(struct trivet_client *c, const struct trivet_request *q,
                               size_t pinned_bytes, int *ret_error)
{
    struct buf encoded;
    const struct method *m = method_of(q->method);
    *ret_error = TRIVET_INVALID;
    if (m == NULL)
        return NULL;
    buf_init(&encoded, SIZE_MAX);
    *ret_error = message_request_encode(q, &encoded);
    struct call *call =
        *ret_error != 0 ? NULL : mem_try_alloc(sizeof(*call) + pinned_bytes + encoded.size);
    if (call == NULL) {
        buf_fini(&encoded);
        *ret_error = *ret_error != 0 ? *ret_error : TRIVET_NO_MEMORY;
        return NULL;
    }
    memset(call, 0, sizeof(*call));
    uint8_t *behind = (uint8_t *)(call + 1);
    if (encoded.size > 0)
        memcpy(behind + pinned_bytes, encoded.data, encoded.size);
    call->request = slice_of(behind + pinned_bytes, encoded.size);
    call->charged_bytes = sizeof(*call) + pinned_bytes + encoded.size;
    buf_fini(&encoded);
    list_init(&call->all_link);
    list_init(&call->waiting_link);
    list_init(&call->context_link);
    call->client = c;
    call->m = m;
    call->method = q->method;
    call->pinned_index = BALANCER_NONE;
    call->answered_by = BALANCER_NONE;
    call->refs = 1;
    call->is_read = m->klass == METHOD_READ || m->klass == METHOD_MEMBER;
    call->repeatable = call->is_read;
    call->linearizable = !(m->request_offset == offsetof(struct trivet_request, u.range) &&
                           (q->method == TRIVET_RANGE || q->method == TRIVET_RANGE_STREAM) &&
                           q->u.range.serializable);
    call->began_ns = engine__now_ns();
    *ret_error = 0;
    return call;
}

static bool charge(struct call *call)
{
    struct trivet_client *c = call->client;
    uint64_t calls = atomic_fetch_add(&c->calls_now, 1);
    uint64_t bytes = atomic_fetch_add(&c->bytes_now, call->charged_bytes);
    call->charged = true;
    return calls < c->o.calls_max && bytes + call->charged_bytes <= c->o.bytes_max;
}

static void set_deadline(struct call *call, uint64_t timeout_ms)
{
    if (timeout_ms != 0)
        call->deadline_ns = call->began_ns + timeout_ms * NS_PER_MS;
}

struct call *rpc__new(struct trivet_client *c, const struct trivet_request *q,
                      const struct trivet_call_options *o, int *ret_error)
{
    size_t pinned_bytes = pinned_size(o);
    if (atomic_load(&c->closing)) {
        *ret_error = TRIVET_CLOSED;
        return NULL;
    }
    struct call *call = alloc_call(c, q, pinned_bytes, ret_error);
    if (call == NULL)
        return NULL;
    if (pinned_bytes > 0) {
        call->pinned = (char *)(call + 1);
        memcpy(call->pinned, o->endpoint, pinned_bytes);
    }
    if (!charge(call)) {
        rpc__unref(call);
        *ret_error = TRIVET_BUSY;
        return NULL;
    }
    if (o != NULL && o->idempotent)
        call->repeatable = true;
    if (o != NULL && o->timeout_ms != 0)
        set_deadline(call, o->timeout_ms);
    else if (!call->m->no_deadline)
        set_deadline(call, c->o.timeout_ms);
    if (o != NULL && o->context != NULL) {
        call->context = o->context;
        atomic_fetch_add(&call->context->refs, 1);
    }
    return call;
}

struct call *rpc__new_own(struct trivet_client *c, const struct trivet_request *q, int endpoint,
                          uint64_t timeout_ms, call_end_fn end, void *arg)
{
    int error;
    struct call *call = alloc_call(c, q, 0, &error);
    if (call == NULL)
        return NULL;
    call->own = true;
    call->pinned_index = endpoint;
    call->end = end;
    call->arg = arg;
    set_deadline(call, timeout_ms);
    return call;
}

void rpc__unref(struct call *call)
{
    struct trivet_client *c = call->client;
    ASSERT(call->refs > 0);
    if (--call->refs > 0)
        return;
    if (call->charged) {
        atomic_fetch_sub(&c->calls_now, 1);
        atomic_fetch_sub(&c->bytes_now, call->charged_bytes);
    }
    if (call->context != NULL)
        context__unref(call->context);
    mem_free(call);
}

/* --- the end --- */

static void close_attempts(struct call *call)
{
    for (struct attempt *a = call->attempts; a != NULL; a = a->next) {
        list_remove(&a->link);
        if (a->abandoned)
            continue;
        a->abandoned = true;
        grpc_cancel(a->grpc);
    }
}

void rpc__end(struct call *call, int status, enum grpc_code code, struct slice text,
              struct buf *message)
{
    struct trivet_client *c = call->client;
    if (status != TRIVET_OK && call->maybe_applied)
        status = TRIVET_UNKNOWN; /* the last attempt's failure does not undo an earlier one */
    struct call_end end = {.status = status, .code = code, .text = text, .message = message};
    ASSERT(!call->ended);
    call->ended = true;
    list_remove(&call->all_link);
    list_remove(&call->waiting_link);
    list_remove(&call->context_link);
    close_attempts(call);
    if (!call->own) {
        c->metrics.calls++;
        c->metrics.calls_failed += status != TRIVET_OK;
        c->metrics.calls_unknown += status == TRIVET_UNKNOWN;
        c->metrics.calls_no_memory += status == TRIVET_NO_MEMORY;
        if (call->charged) {
            /* Before the caller hears of it, so that he may start another at once. */
            call->charged = false;
            atomic_fetch_sub(&c->calls_now, 1);
            atomic_fetch_sub(&c->bytes_now, call->charged_bytes);
        }
    }
    call->end(call, &end);
    rpc__unref(call);
}

static void end_without_answer(struct call *call, int status, const char *text)
{
    bool unknown = !call->is_read && call->attempts != NULL;
    rpc__end(call, unknown ? TRIVET_UNKNOWN : status, GRPC_OK, slice_of_string(text), NULL);
}

void rpc__cancel(struct call *call)
{
    if (call->ended)
        return;
    call->canceled = true;
    end_without_answer(call, TRIVET_CANCELED, "context canceled");
}

void rpc__end_late(struct call *call)
{
    struct trivet_client *c = call->client;
    if (call->attempts_count > 0)
        end_without_answer(call, TRIVET_DEADLINE, "context deadline exceeded");
    else
        end_without_answer(call, TRIVET_UNAVAILABLE,
                           c->connect_error[0] != '\0' ? c->connect_error
                                                       : "no endpoint is connected");
}

/* Nothing was sent of a write. */
static void end_without_memory(struct call *call)
{
    rpc__end(call, TRIVET_NO_MEMORY, GRPC_OK, slice_of_string(tv_err_text(TV_ENOMEM)), NULL);
}

/* --- attempts --- */

static void wait_until(struct call *call, uint64_t at_ns)
{
    struct trivet_client *c = call->client;
    call->wait_until_ns = at_ns;
    list_remove(&call->waiting_link);
    list_push_back(&c->waiting, &call->waiting_link);
    engine__hurry(c);
}

static void retry(struct call *call, uint64_t least_ms)
{
    struct trivet_client *c = call->client;
    uint64_t ms = retry_delay_ms(call->attempts_count, &c->rng);
    wait_until(call, engine__now_ns() + (ms > least_ms ? ms : least_ms) * NS_PER_MS);
}

/* True: there is budget; else the failure stands. */
static bool may_retry(struct call *call)
{
    struct trivet_client *c = call->client;
    if (call->own)
        return false;
    if (!retry_budget_take(&c->budget)) {
        c->metrics.retries_denied++;
        return false;
    }
    c->metrics.retries++;
    return true;
}

/* Of what is not repeated, and was no write that may have been applied. */
static int final_status(enum grpc_code code, struct slice text)
{
    bool in_the_way = code == GRPC_UNAVAILABLE || code == GRPC_INTERNAL || code == GRPC_CANCELLED ||
                      code == GRPC_DEADLINE_EXCEEDED;
    bool said_so = slice_starts_with(text, SLICE_LITERAL("etcdserver:"));
    return in_the_way && !said_so ? TRIVET_UNAVAILABLE : TRIVET_REFUSED;
}

/* The transport's words for a message above our own bound; those of a server name its bound. */
static bool is_above_our_bound(const struct trivet_client *c, struct slice text)
{
    char bound[64];
    int size = snprintf(bound, sizeof(bound), " vs. %u)", (unsigned)c->o.response_bytes_max);
    return slice_starts_with(text, SLICE_LITERAL("grpc: received message larger than max")) &&
           memmem(text.data, text.size, bound, (size_t)size) != NULL;
}

static void judge(struct call *call, enum grpc_code code, struct slice text)
{
    struct trivet_client *c = call->client;
    uint64_t now_ns = engine__now_ns();
    enum { CLOCKS_DIFFER_MS = 10, LEADER_PAUSE_MS = 30, BUSY_PAUSE_MS = 20, LEADER_MOVES_MAX = 5 };
    struct retry_case rc = {
        .is_write = !call->is_read,
        .idempotent = call->repeatable,
        .was_sent = true,
        .part_seen = call->part_seen,
        .deadline_over =
            call->deadline_ns != 0 && now_ns + CLOCKS_DIFFER_MS * NS_PER_MS >= call->deadline_ns,
        .answer_too_large = is_above_our_bound(c, text),
        .code = code,
        .text = text,
    };
    switch (retry_judge(&rc)) {
    case RETRY_END:
        break;
    case RETRY_ELSEWHERE:
        call->maybe_applied = !call->is_read;
        if (!may_retry(call))
            break;
        retry(call, 0);
        return;
    case RETRY_LEADER_MOVED:
        endpoints__probe_all(c);
        if (call->leader_moves++ >= LEADER_MOVES_MAX || !may_retry(call))
            break;
        call->tried = 0;
        retry(call, LEADER_PAUSE_MS);
        return;
    case RETRY_TOKEN:
        auth__refused(c, call->token_number);
        if (call->token_renewed || c->o.user == NULL)
            break;
        call->token_renewed = true;
        call->tried = 0;
        wait_until(call, now_ns);
        return;
    case RETRY_LATER:
        if (!may_retry(call))
            break;
        retry(call, BUSY_PAUSE_MS);
        return;
    case RETRY_UNKNOWN:
        endpoints__probe_all(c);
        rpc__end(call, TRIVET_UNKNOWN, code, text, NULL);
        return;
    case RETRY_DEADLINE:
        rpc__end(call, TRIVET_DEADLINE, code, text, NULL);
        return;
    case RETRY_CANCELED:
        rpc__end(call, TRIVET_CANCELED, code, text, NULL);
        return;
    }
    rpc__end(call, final_status(code, text), code, text, NULL);
}

static void succeeded(struct call *call, struct attempt *a)
{
    struct trivet_client *c = call->client;
    call->answered_by = a->endpoint;
    if (a->hedge)
        c->metrics.hedges_won++;
    if (call->m->stream || (a->has_message && !a->too_many)) {
        rpc__end(call, TRIVET_OK, GRPC_OK, SLICE_EMPTY, call->m->stream ? NULL : &a->message);
        return;
    }
    /* Success without an answer: whoever that was, it is no etcd. */
    rpc__end(call, call->is_read ? TRIVET_MALFORMED : TRIVET_UNKNOWN, GRPC_OK,
             SLICE_LITERAL("not exactly one message in the answer"), NULL);
}

static void tell_balancer(struct attempt *a, enum grpc_code code, struct slice text)
{
    enum { OWN_COUNTS_MS = 3000 };
    struct trivet_client *c = a->call->client;
    uint64_t now_ns = engine__now_ns();
    enum balancer_outcome outcome = BALANCER_GOOD;
    if (code == GRPC_OK || slice_starts_with(text, SLICE_LITERAL("etcdserver:")))
        endpoint__heard(a->connection->endpoint);
    else if (a->abandoned && a->call->is_read)
        balancer_late(&c->balancer, a->endpoint, now_ns - a->started_ns, now_ns);
    if (a->blamed || (a->abandoned && code != GRPC_OK))
        outcome = BALANCER_ABANDONED;
    else if (retry_blames_member(code, text, true))
        outcome = BALANCER_FAILED;
    else if (a->call->m->no_deadline || a->call->m->stream)
        outcome = BALANCER_ABANDONED; /* how long it took says nothing */
    /* Our own questions come in crowds, at bad moments; they count where nobody else asks. */
    const struct balancer_endpoint *b = &c->balancer.endpoints[a->endpoint];
    bool counts = !a->call->own || now_ns > b->latency_at_ns + OWN_COUNTS_MS * NS_PER_MS;
    connection__ended(a->connection, a->call->m->no_deadline);
    if (balancer_ended(&c->balancer, a->endpoint, outcome, counts ? now_ns - a->started_ns : 0,
                       now_ns)) {
        c->metrics.ejections++;
        endpoint__evacuate(a->connection->endpoint);
    }
}

static void remove_attempt(struct attempt *a)
{
    struct attempt **at = &a->call->attempts;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    list_remove(&a->link);
}

static void free_attempt(struct attempt *a)
{
    buf_fini(&a->message);
    if (a != &a->call->first)
        mem_free(a);
}

/* An attempt is open where something is still heard. */
static bool is_hopeful(const struct call *call)
{
    const struct balancer *b = &call->client->balancer;
    for (const struct attempt *a = call->attempts; a != NULL; a = a->next)
        if (!b->endpoints[a->endpoint].silent || !call->repeatable)
            return true;
    return false;
}

/* It ended here, for want of memory, whatever the member said or would have. */
static void lacked_memory(struct call *call, bool has_left)
{
    if (call->is_read || !has_left)
        end_without_memory(call);
    else
        rpc__end(call, TRIVET_UNKNOWN, GRPC_OK, slice_of_string(tv_err_text(TV_ENOMEM)), NULL);
}

static void on_closed(struct grpc_call *grpc, enum grpc_code code, struct slice text)
{
    struct attempt *a = grpc_call_user(grpc);
    struct call *call = a->call;
    struct trivet_client *c = call->client;
    a->grpc = NULL;
    tell_balancer(a, code, text);
    remove_attempt(a);
    if (!call->ended && !c->stopped) {
        if (call->m->half_open && a->has_message)
            code = GRPC_OK; /* it was we who ended it */
        if (code == GRPC_OK) {
            if (!call->own && !call->m->no_deadline && call->is_read)
                c->p95_ns = retry_p95_add(c->p95_ns, engine__now_ns() - a->started_ns);
            succeeded(call, a);
        } else if (list_is_linked(&call->waiting_link) ||
                   (call->attempts != NULL && is_hopeful(call))) {
            call->maybe_applied = call->maybe_applied || !call->is_read; /* it goes on */
        } else if (a->lacked_memory || grpc_call_lacked_memory(grpc)) {
            lacked_memory(call, !grpc_call_never_left(grpc));
        } else {
            judge(call, code, text);
        }
    }
    free_attempt(a);
    rpc__unref(call);
}

static void give_part(struct call *call, struct buf *message)
{
    struct call_end end = {.status = TRIVET_OK, .message = message, .part = true};
    call->part_seen = true;
    call->end(call, &end);
}

static void on_message(struct grpc_call *grpc, struct slice msg)
{
    struct attempt *a = grpc_call_user(grpc);
    struct call *call = a->call;
    endpoint__heard(a->connection->endpoint);
    if (call->ended || a->abandoned)
        return;
    if (a->has_message && !call->m->stream) {
        a->too_many = !call->m->half_open;
        return;
    }
    a->has_message = true;
    buf_clear(&a->message);
    if (buf_try_append(&a->message, msg.data, msg.size) != 0) {
        a->has_message = false;
        a->lacked_memory = true; /* no message passes the bound of the channel */
        grpc_cancel(grpc);
        return;
    }
    if (call->m->stream) {
        /* Parts of two members would not fit together. */
        for (struct attempt *other = call->attempts; other != NULL; other = other->next) {
            if (other == a || other->abandoned)
                continue;
            other->abandoned = true;
            grpc_cancel(other->grpc);
        }
        give_part(call, &a->message);
    } else if (call->m->half_open) {
        grpc_half_close(grpc);
        grpc_cancel(grpc);
    }
}

static void watch_over(struct call *call, struct attempt *a)
{
    struct trivet_client *c = call->client;
    if (call->own || call->m->no_deadline)
        return;
    if (!call->is_read)
        list_push_back(&c->writes, &a->link);
    else if (c->o.hedge && !a->hedge && call->attempts_count == 1)
        list_push_back(&c->young, &a->link);
    else if (c->o.read_attempt_ms != 0)
        list_push_back(&c->old, &a->link);
}

/* False: there is no memory. */
static bool attempt(struct call *call, int endpoint, struct connection *n, const char *token,
                    bool hedge)
{
    enum { ANSWER_BYTES = 256 };
    static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};
    struct trivet_client *c = call->client;
    struct attempt *a = call->attempts_count == 0 ? &call->first : mem_try_alloc(sizeof(*a));
    if (a == NULL)
        return false;
    *a = (struct attempt){.call = call,
                          .next = call->attempts,
                          .connection = n,
                          .endpoint = endpoint,
                          .started_ns = engine__now_ns(),
                          .hedge = hedge};
    list_init(&a->link);
    buf_init(&a->message, c->o.response_bytes_max);
    struct grpc_pair pairs[1] = {{SLICE_LITERAL("token"), SLICE_EMPTY}};
    struct grpc_start_options o = {
        .path = call->m->path,
        .deadline_ns = call->deadline_ns,
        .ops = &ops,
        .user = a,
    };
    if (token != NULL && call->method != TRIVET_AUTHENTICATE) {
        pairs[0].value = slice_of_string(token);
        o.metadata = pairs;
        o.metadata_count = 1;
        call->token_number = c->auth.token_number;
    }
    /* A write's answer is short: that it was applied must not be lost for want of a few bytes. */
    bool has_room = call->is_read || buf_try_reserve(&a->message, ANSWER_BYTES) != NULL;
    a->grpc = has_room ? grpc_try_start(n->channel, &o) : NULL;
    if (a->grpc == NULL) {
        free_attempt(a);
        return false;
    }
    call->attempts = a;
    call->attempts_count++;
    call->refs++;
    if (endpoint < BALANCER_ENDPOINTS_MAX)
        call->tried |= UINT64_C(1) << endpoint;
    c->metrics.attempts++;
    connection__began(n, call->m->no_deadline);
    balancer_began(&c->balancer, endpoint);
    if (grpc_send(a->grpc, &call->request, 1) != 0)
        grpc_cancel(a->grpc);
    else if (!call->m->half_open)
        grpc_half_close(a->grpc);
    watch_over(call, a);
    return true;
}

static int pick(struct call *call)
{
    struct trivet_client *c = call->client;
    uint64_t now_ns = engine__now_ns();
    if (call->pinned != NULL)
        return endpoint__find(c, call->pinned);
    if (call->pinned_index != BALANCER_NONE)
        return call->pinned_index;
    if (call->is_read)
        return balancer_pick_read(&c->balancer, call->tried, call->linearizable, now_ns);
    return balancer_pick_write(&c->balancer, call->tried, now_ns);
}

/* Another attempt now, or wait for what is missing. */
void rpc__go(struct call *call)
{
    struct trivet_client *c = call->client;
    const char *token = NULL;
    int endpoint = pick(call);
    if (call->pinned != NULL && endpoint == BALANCER_NONE) {
        rpc__end(call, TRIVET_INVALID, GRPC_OK, SLICE_LITERAL("there is no such endpoint"), NULL);
        return;
    }
    struct connection *n = endpoint == BALANCER_NONE || c->endpoints[endpoint] == NULL
                               ? NULL
                               : endpoint__connection(c->endpoints[endpoint]);
    bool has_token = auth__token(c, &token);
    if (n == NULL || (!has_token && !call->own)) {
        enum { LOOK_AGAIN_MS = 50 };
        wait_until(call, engine__now_ns() + LOOK_AGAIN_MS * NS_PER_MS);
        return;
    }
    list_remove(&call->waiting_link);
    if (!attempt(call, endpoint, n, token, false))
        end_without_memory(call);
}

/* A second opinion while the first attempt goes on. True: somebody is asked. One who moves away
 * from a silent member to another that is heard of adds no load to it that it would not have. */
bool rpc__ask_another(struct call *call, enum why_another why)
{
    struct trivet_client *c = call->client;
    const char *token = NULL;
    uint32_t open = 0;
    for (struct attempt *a = call->attempts; a != NULL; a = a->next)
        open++;
    if (open >= CALL_ATTEMPTS_OPEN_MAX || call->part_seen || call->pinned != NULL)
        return false;
    int endpoint = call->is_read ? pick(call) : c->balancer.leader;
    if (endpoint == BALANCER_NONE || call->tried >> endpoint & 1 ||
        !c->balancer.endpoints[endpoint].ready ||
        (why == FOR_A_SILENCE && c->balancer.endpoints[endpoint].silent))
        return false;
    struct connection *n = endpoint__connection(c->endpoints[endpoint]);
    if (n == NULL || !auth__token(c, &token))
        return false;
    if (why == FOR_A_SILENCE && !call->own)
        c->metrics.retries++;
    else if (!may_retry(call))
        return false;
    bool begun = attempt(call, endpoint, n, token, why == FOR_A_HEDGE);
    c->metrics.hedges += begun && why == FOR_A_HEDGE;
    return begun;
}

/* --- beginning --- */

void rpc__begin(struct call *call)
{
    struct trivet_client *c = call->client;
    if (c->stopped || (!call->own && atomic_load(&c->closing))) {
        rpc__end(call, TRIVET_CLOSED, GRPC_OK, SLICE_LITERAL("the client is closed"), NULL);
        return;
    }
    list_push_back(&c->calls, &call->all_link);
    if (call->context != NULL) {
        if (atomic_load(&call->context->canceled)) {
            rpc__cancel(call);
            return;
        }
        list_push_back(&call->context->calls, &call->context_link);
    }
    if (!call->own)
        retry_budget_call(&c->budget);
    rpc__go(call);
    engine__hurry(c);
}

static void run_begin(struct trivet_client *c, struct post *p)
{
    (void)c;
    rpc__begin(CONTAINER_OF(p, struct call, post));
}

void rpc__post(struct call *call)
{
    call->post.run = run_begin;
    engine__post(call->client, &call->post);
}

/* --- all of them --- */

void calls__end_all(struct trivet_client *c)
{
    while (!list_is_empty(&c->calls))
        end_without_answer(CONTAINER_OF(c->calls.next, struct call, all_link), TRIVET_CLOSED,
                           "the client is closed");
}

/* --- contexts --- */

struct trivet_context *trivet_context_new(struct trivet_client *c)
{
    struct trivet_context *x = mem_try_alloc_zero(sizeof(*x));
    if (x == NULL)
        return NULL;
    x->client = c;
    atomic_init(&x->refs, 1);
    list_init(&x->calls);
    return x;
}

void context__unref(struct trivet_context *x)
{
    if (atomic_fetch_sub(&x->refs, 1) == 1)
        mem_free(x);
}

void trivet_context_free(struct trivet_context *x)
{
    if (x != NULL)
        context__unref(x);
}

static void run_cancel(struct trivet_client *c, struct post *p)
{
    struct trivet_context *x = CONTAINER_OF(p, struct trivet_context, post);
    (void)c;
    while (!list_is_empty(&x->calls))
        rpc__cancel(CONTAINER_OF(x->calls.next, struct call, context_link));
    context__unref(x);
}

void trivet_context_cancel(struct trivet_context *x)
{
    if (atomic_exchange(&x->canceled, true))
        return;
    atomic_fetch_add(&x->refs, 1);
    x->post.run = run_cancel;
    engine__post(x->client, &x->post);
}

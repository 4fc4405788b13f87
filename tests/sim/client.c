#include "client.h"

#include "base/err.h"
#include "base/mem.h"
#include "member.h"

#include <stdio.h>
#include <string.h>

enum { BODY_BYTES_MAX = 64 << 10 };

static const struct {
    const char *name;
    uint32_t weight;
} works[WORKS_COUNT] = {
#define X(name, weight) [WORK_##name] = {#name, weight},
    WORKS(X)
#undef X
};

const char *work_name(enum work w)
{
    return works[w].name;
}

/* --- writes, remembered by their bytes --- */

static uint64_t body_key(uint32_t kind, struct slice body)
{
    return sim_hash(kind, body) | 1;
}

struct op *client_new_op(struct clients *c, uint32_t client, uint32_t kind, struct slice body)
{
    struct op *op = mem_alloc_zero(sizeof(*op));
    op->client = client;
    void *before = u64map_put(&c->ops, body_key(kind, body), op);
    ASSERT(before == NULL);
    return op;
}

static bool is_unique(uint32_t kind)
{
    return kind == WIRE_RAFT_PUT || kind == WIRE_RAFT_DELETE_RANGE || kind == WIRE_RAFT_TXN ||
           kind == WIRE_RAFT_LEASE_GRANT;
}

void clients_committed(struct clients *c, uint64_t index, const struct wire_raft_request *entry)
{
    const struct model_outcome *o = &c->sim->model.outcomes[index];
    if (entry->kind == WIRE_RAFT_COMPACTION && o->err == 0)
        c->sim->stats->compactions++;
    if (entry->kind == WIRE_RAFT_LEASE_REVOKE && o->err == 0)
        keeper_lease_ended(c->sim, o->lease);
    if (!is_unique(entry->kind))
        return;
    struct op *op = u64map_get(&c->ops, body_key(entry->kind, entry->body));
    if (op == NULL)
        sim_fail("entry %llu is committed, and nobody asked for it", (unsigned long long)index);
    if (op->index != 0)
        sim_fail("one write is committed twice, as entries %llu and %llu",
                 (unsigned long long)op->index, (unsigned long long)index);
    if (op->state == OP_REFUSED)
        sim_fail("a write that was refused is committed as entry %llu", (unsigned long long)index);
    op->index = index;
}

bool client_settle_op(struct op *op, enum grpc_code code, const char *text)
{
    static const int refusals[] = {TV_NO_LEADER, TV_TOO_MANY_REQUESTS, TV_REQUEST_TOO_LARGE};
    if (code == GRPC_OK) {
        op->state = OP_OK;
        return true;
    }
    bool refused = strcmp(text, "connection refused") == 0;
    if (strcmp(text, tv_err_text(TV_NO_SPACE)) == 0) {
        /* Refused before it was put on the log, or by an alarm when it was applied. */
        sim_now->stats->refused_for_space++;
        refused = op->index == 0;
        if (!refused)
            client_check_status(op, code, text);
    }
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        refused = refused || strcmp(text, tv_err_text(refusals[i])) == 0;
    if (refused && op->index != 0)
        sim_fail("a write that is committed was refused: %s", text);
    if (refused)
        op->state = OP_REFUSED;
    return false;
}

void client_check_status(const struct op *op, enum grpc_code code, const char *text)
{
    if (op->index == 0)
        sim_fail("a write was answered (%s) and is not committed", text);
    const struct model_outcome *o = &sim_now->model.outcomes[op->index];
    if (code != tv_err_code(o->err) || (code != GRPC_OK && strcmp(text, tv_err_text(o->err)) != 0))
        sim_fail("entry %llu was answered with \"%s\", not \"%s\"", (unsigned long long)op->index,
                 text, tv_err_text(o->err));
}

struct begun client_begin(struct clients *c)
{
    return (struct begun){.at_us = c->sim->now_us, .revision = c->revision_answered};
}

void client_saw_revision(struct clients *c, int64_t revision)
{
    if (revision > c->sim->model.revision)
        sim_fail("an answer names revision %lld, which is not committed", (long long)revision);
    if (revision > c->revision_answered)
        c->revision_answered = revision;
}

void client_schedule(struct sim *s, enum client_event what, uint32_t who, uint64_t life,
                     uint64_t delay_us)
{
    events_push(&s->events, &(struct event){.at_us = s->now_us + delay_us,
                                            .kind = EVENT_CLIENT,
                                            .who = who,
                                            .life = life,
                                            .a = what});
}

/* --- requests --- */

static uint32_t some_key(struct clients *c)
{
    /* Few keys get most of the traffic. */
    uint32_t span = rng_below(&c->rng, 3) == 0 ? MODEL_KEYS_COUNT : 3;
    return (uint32_t)rng_below(&c->rng, span);
}

static int64_t some_lease(struct clients *c)
{
    if (c->keepers_count == 0 || rng_below(&c->rng, 10) > 0)
        return 0;
    return c->keepers[rng_below(&c->rng, c->keepers_count)].lease;
}

static struct wire_put_request some_put(struct clients *c, uint32_t key, struct buf *value)
{
    uint64_t number = ++c->values;
    size_t size = model_value_size(number);
    buf_clear(value);
    model_value_put(buf_reserve(value, size), number);
    value->size = size;
    return (struct wire_put_request){.key = model_key_name(key),
                                     .value = buf_slice(value),
                                     .lease = some_lease(c),
                                     .prev_kv = rng_below(&c->rng, 2) == 0};
}

static void make_put(struct kv_client *k)
{
    struct clients *c = k->sim->clients;
    struct buf value;
    buf_init(&value, BODY_BYTES_MAX);
    struct wire_put_request r = some_put(c, some_key(c), &value);
    size_t size = wire_put_request_size(&r);
    wire_put_request_put(buf_reserve(&k->request, size), &r);
    k->request.size = size;
    buf_fini(&value);
}

static void make_range(struct kv_client *k)
{
    struct clients *c = k->sim->clients;
    struct wire_range_request r = {.key = model_key_name(some_key(c)),
                                   .serializable = k->work == WORK_SERIALIZABLE};
    if (k->work == WORK_RANGE || rng_below(&c->rng, 4) == 0) {
        r.range_end =
            rng_below(&c->rng, 2) == 0 ? SLICE_LITERAL("\0") : model_key_name(MODEL_KEYS_COUNT - 1);
        r.limit = rng_below(&c->rng, 3) == 0 ? (int64_t)rng_below(&c->rng, 6) : 0;
        r.count_only = rng_below(&c->rng, 8) == 0;
        r.serializable = r.serializable || rng_below(&c->rng, 5) == 0;
    }
    if (rng_below(&c->rng, 6) == 0 && c->revision_answered > 1)
        r.revision = c->revision_answered - (int64_t)rng_below(&c->rng, 30);
    if (r.revision <= 0)
        r.revision = 0;
    k->asked_revision = r.revision;
    size_t size = wire_range_request_size(&r);
    wire_range_request_put(buf_reserve(&k->request, size), &r);
    k->request.size = size;
}

static void add_item(struct buf *b, uint32_t number, const struct wire_op *op)
{
    size_t size = wire_op_size(op);
    uint8_t *p = buf_reserve(b, wire_item_size(number, size));
    ASSERT(p != NULL);
    wire_op_put(wire_item_put_head(p, number, size), op);
    b->size += wire_item_size(number, size);
}

static void add_compare(struct buf *b, const struct wire_compare *c)
{
    size_t size = wire_compare_size(c);
    uint8_t *p = buf_reserve(b, wire_item_size(WIRE_TXN_COMPARE, size));
    ASSERT(p != NULL);
    wire_compare_put(wire_item_put_head(p, WIRE_TXN_COMPARE, size), c);
    b->size += wire_item_size(WIRE_TXN_COMPARE, size);
}

/* Compare with what is so now, or was a while ago: half of them hold by the time they are run. */
static void compare_key(struct kv_client *k, uint32_t key)
{
    struct clients *c = k->sim->clients;
    int64_t at = k->sim->model.revision - (int64_t)rng_below(&c->rng, 4);
    const struct model_version *v = model_get(&k->sim->model, key, at);
    struct wire_compare compare = {.result = WIRE_COMPARE_EQUAL,
                                   .target = WIRE_COMPARE_MOD,
                                   .key = model_key_name(key),
                                   .with = WIRE_COMPARE_MOD,
                                   .number = v == NULL ? 0 : v->revision};
    if (rng_below(&c->rng, 4) == 0) {
        compare.target = compare.with = WIRE_COMPARE_VERSION;
        compare.number = v == NULL ? 0 : v->version;
        compare.result = (int32_t)rng_below(&c->rng, 4);
    }
    add_compare(&k->request, &compare);
}

static void add_get(struct kv_client *k, uint32_t number, uint32_t key, bool to_end)
{
    struct wire_op op = {.kind = WIRE_OP_RANGE,
                         .range = {.key = model_key_name(key),
                                   .range_end = to_end ? SLICE_LITERAL("\0") : SLICE_EMPTY}};
    add_item(&k->request, number, &op);
}

static void add_put(struct kv_client *k, uint32_t number, uint32_t key)
{
    struct buf value;
    buf_init(&value, BODY_BYTES_MAX);
    struct wire_op op = {.kind = WIRE_OP_PUT, .put = some_put(k->sim->clients, key, &value)};
    add_item(&k->request, number, &op);
    buf_fini(&value);
}

static void make_cas(struct kv_client *k)
{
    uint32_t key = some_key(k->sim->clients);
    compare_key(k, key);
    add_put(k, WIRE_TXN_SUCCESS, key);
    add_get(k, WIRE_TXN_FAILURE, key, false);
}

/* Several changes at one revision, in either branch. */
static void make_txn(struct kv_client *k)
{
    struct clients *c = k->sim->clients;
    uint32_t key = (uint32_t)rng_below(&c->rng, MODEL_KEYS_COUNT - 3);
    compare_key(k, key);
    add_put(k, WIRE_TXN_SUCCESS, key);
    add_put(k, WIRE_TXN_SUCCESS, key + 1);
    struct wire_op del = {.kind = WIRE_OP_DELETE_RANGE,
                          .delete_range = {.key = model_key_name(key + 2)}};
    add_item(&k->request, WIRE_TXN_SUCCESS, &del);
    add_get(k, WIRE_TXN_SUCCESS, key, true);
    add_put(k, WIRE_TXN_FAILURE, key + 2);
    add_get(k, WIRE_TXN_FAILURE, key, false);
}

static void make_read_txn(struct kv_client *k)
{
    add_get(k, WIRE_TXN_SUCCESS, some_key(k->sim->clients), false);
    add_get(k, WIRE_TXN_SUCCESS, 0, true);
}

/* Its range ends in a name that no key has: no two deletes have the same bytes. */
static void make_delete(struct kv_client *k)
{
    struct clients *c = k->sim->clients;
    uint32_t key = some_key(c), last = key;
    if (k->work == WORK_DELETE_RANGE)
        last = key + (uint32_t)rng_below(&c->rng, MODEL_KEYS_COUNT - key);
    char end[32];
    int size = snprintf(end, sizeof(end), "%.*s!%llu", MODEL_KEY_BYTES,
                        (const char *)model_key_name(last).data, (unsigned long long)++c->values);
    struct wire_delete_range_request r = {.key = model_key_name(key),
                                          .range_end = slice_of(end, (size_t)size),
                                          .prev_kv = rng_below(&c->rng, 2) == 0};
    size_t bytes = wire_delete_range_request_size(&r);
    wire_delete_range_request_put(buf_reserve(&k->request, bytes), &r);
    k->request.size = bytes;
}

static void make_revision_request(struct kv_client *k, int64_t revision, bool physical)
{
    struct wire_compaction_request r = {.revision = revision, .physical = physical};
    k->asked_revision = revision;
    size_t size = wire_compaction_request_size(&r);
    wire_compaction_request_put(buf_reserve(&k->request, size), &r);
    k->request.size = size;
}

static const char *make_request(struct kv_client *k)
{
    struct clients *c = k->sim->clients;
    buf_clear(&k->request);
    switch (k->work) {
    case WORK_PUT:
        make_put(k);
        return "/etcdserverpb.KV/Put";
    case WORK_GET:
    case WORK_SERIALIZABLE:
    case WORK_RANGE:
        make_range(k);
        return "/etcdserverpb.KV/Range";
    case WORK_CAS:
        make_cas(k);
        return "/etcdserverpb.KV/Txn";
    case WORK_TXN:
        make_txn(k);
        return "/etcdserverpb.KV/Txn";
    case WORK_READ_TXN:
        make_read_txn(k);
        return "/etcdserverpb.KV/Txn";
    case WORK_DELETE:
    case WORK_DELETE_RANGE:
        make_delete(k);
        return "/etcdserverpb.KV/DeleteRange";
    case WORK_COMPACT:
        make_revision_request(k, c->revision_answered - (int64_t)rng_below(&c->rng, 40),
                              rng_below(&c->rng, 3) == 0);
        return "/etcdserverpb.KV/Compact";
    default:
        make_revision_request(k, c->revision_answered - (int64_t)rng_below(&c->rng, 10), false);
        return "/etcdserverpb.Maintenance/HashKV";
    }
}

static uint32_t raft_kind_of(enum work w)
{
    switch (w) {
    case WORK_PUT:
        return WIRE_RAFT_PUT;
    case WORK_CAS:
    case WORK_TXN:
        return WIRE_RAFT_TXN;
    case WORK_DELETE:
    case WORK_DELETE_RANGE:
        return WIRE_RAFT_DELETE_RANGE;
    default:
        return 0;
    }
}

/* --- a client's loop: one operation at a time --- */

static enum work some_work(struct sim *s)
{
    struct clients *c = s->clients;
    uint32_t sum = 0;
    for (int w = 0; w < WORKS_COUNT; w++)
        sum += works[w].weight;
    for (;;) {
        uint64_t at = rng_below(&c->rng, sum);
        int w = 0;
        while (at >= works[w].weight)
            at -= works[w++].weight;
        bool off = (s->o.works_off >> w & 1) != 0;
        bool too_early = (w == WORK_COMPACT || w == WORK_HASH) && c->revision_answered < 50;
        if (!off && !too_early)
            return (enum work)w;
        if (off && s->o.works_off + 1 == 1u << WORKS_COUNT)
            return WORK_GET;
    }
}

static void end_operation(struct kv_client *k)
{
    call_drop(k->call);
    k->call = NULL;
    k->op = NULL;
    k->life++;
    client_schedule(k->sim, CLIENT_NEXT, k->number, k->life,
                    sim_exponential(&k->sim->clients->rng, k->pace_us));
}

static void on_reply(void *ctx, struct slice msg)
{
    struct kv_client *k = ctx;
    if (k->replied)
        sim_fail("two answers to one request");
    k->replied = true;
    buf_clear(&k->reply);
    int err = buf_append(&k->reply, msg.data, msg.size);
    ASSERT(err == 0);
}

/* An error that a read may get: for a revision that is compacted, or that a member does not have.
 */
static void check_read_error(const struct kv_client *k, const char *text)
{
    int64_t rev = k->asked_revision;
    if (strcmp(text, tv_err_text(TV_COMPACTED)) == 0) {
        if (rev == 0 || rev > k->sim->model.compacted)
            sim_fail("revision %lld is said to be compacted", (long long)rev);
    } else if (strcmp(text, tv_err_text(TV_FUTURE_REV)) == 0) {
        struct wire_range_request r;
        bool lagging =
            k->work == WORK_HASH ||
            (k->work != WORK_COMPACT &&
             wire_range_request_decode(buf_slice(&k->request), &r) == 0 && r.serializable);
        if (rev <= k->begun.revision && !lagging)
            sim_fail("revision %lld is said to be in the future", (long long)rev);
    }
}

static bool is_final(enum grpc_code code, const char *text)
{
    static const int finals[] = {TV_LEASE_NOT_FOUND, TV_LEASE_EXIST, TV_COMPACTED, TV_FUTURE_REV};
    for (size_t i = 0; i < sizeof(finals) / sizeof(finals[0]); i++)
        if (strcmp(text, tv_err_text(finals[i])) == 0)
            return true;
    return code == GRPC_OK;
}

static void on_ended(void *ctx, enum grpc_code code, const char *text)
{
    struct kv_client *k = ctx;
    struct sim *s = k->sim;
    sim_trace(s, 5, k->number, (uint64_t)code);
    if (code == GRPC_OK && !k->replied)
        sim_fail("a call ends well, without an answer");
    if (k->op != NULL) {
        (void)client_settle_op(k->op, code, text);
        if (is_final(code, text)) {
            client_check_status(k->op, code, text);
            k->written_us = k->begun.at_us;
        }
    }
    if (code == GRPC_OK) {
        s->stats->ops_ok++;
        client_check_answer(k);
    } else if (is_final(code, text)) {
        s->stats->ops_refused++;
        if (k->op == NULL)
            check_read_error(k, text);
    } else {
        s->stats->ops_unknown++;
    }
    end_operation(k);
}

static const struct call_client kv_call = {.reply = on_reply, .ended = on_ended};

static enum work some_read(struct sim *s)
{
    static const enum work reads[] = {WORK_GET, WORK_RANGE, WORK_READ_TXN};
    enum work w = reads[rng_below(&s->clients->rng, sizeof(reads) / sizeof(reads[0]))];
    return (s->o.works_off >> w & 1) == 0 ? w : WORK_GET;
}

static void next_operation(struct kv_client *k)
{
    struct sim *s = k->sim;
    struct clients *c = s->clients;
    if (s->draining)
        return;
    if (rng_below(&c->rng, 8) == 0 || !s->members[k->member].in_use)
        k->member = member_some(s, &c->rng);
    k->work = k->reader ? some_read(s) : some_work(s);
    k->asked_revision = 0;
    const char *path = make_request(k);
    uint32_t kind = raft_kind_of(k->work);
    k->op = kind == 0 ? NULL : client_new_op(c, k->number, kind, buf_slice(&k->request));
    k->begun = client_begin(c);
    k->replied = false;
    k->life++;
    k->call = call_start(s, k->member, path, rng_below(&c->rng, 3) == 0, &kv_call, k);
    call_send(k->call, buf_slice(&k->request));
    client_schedule(s, CLIENT_TIMEOUT, k->number, k->life,
                    100000 + sim_exponential(&c->rng, 3000000));
}

/* The client gives up; what became of its request it does not know. */
static void give_up(struct kv_client *k)
{
    k->sim->stats->ops_unknown++;
    sim_trace(k->sim, 6, k->number, 0);
    k->member = member_some(k->sim, &k->sim->clients->rng);
    end_operation(k);
}

/* --- all of them --- */

static void init_kv(struct kv_client *k, struct sim *s, uint32_t number)
{
    struct clients *c = s->clients;
    k->sim = s;
    k->number = number;
    k->life = 1;
    k->member = member_some(s, &c->rng);
    k->pace_us =
        s->shape.hurry ? 50 + rng_below(&c->rng, 1000) : 1000 * (2 + rng_below(&c->rng, 60));
    k->reader = number > 1 && number + 3 > c->kv_count;
    buf_init(&k->request, BODY_BYTES_MAX);
    buf_init(&k->reply, 1 << 20);
    client_schedule(s, CLIENT_NEXT, number, k->life, 300000 + rng_below(&c->rng, 1000000));
}

struct clients *clients_new(struct sim *s)
{
    struct clients *c = mem_alloc_zero(sizeof(*c));
    s->clients = c;
    c->sim = s;
    sim_rng_init(s, &c->rng, 12);
    c->revision_answered = 1;
    c->kv_count = 2 + (uint32_t)rng_below(&c->rng, KV_CLIENTS_MAX - 1);
    c->keepers_count = (uint32_t)rng_below(&c->rng, KEEPERS_MAX + 1);
    c->watchers_count = 1 + (uint32_t)rng_below(&c->rng, WATCHERS_MAX);
    if ((s->o.works_off >> WORK_LEASE & 1) != 0)
        c->keepers_count = 0;
    if ((s->o.works_off >> WORK_WATCH & 1) != 0)
        c->watchers_count = 0;
    for (uint32_t i = 0; i < c->kv_count; i++)
        init_kv(&c->kv[i], s, i);
    for (uint32_t i = 0; i < c->keepers_count; i++)
        keeper_init(&c->keepers[i], s, i);
    for (uint32_t i = 0; i < c->watchers_count; i++)
        watcher_init(&c->watchers[i], s, i);
    return c;
}

void clients_free(struct clients *c)
{
    for (uint32_t i = 0; i < c->kv_count; i++) {
        struct kv_client *k = &c->kv[i];
        if (k->call != NULL)
            call_drop(k->call);
        buf_fini(&k->request);
        buf_fini(&k->reply);
    }
    for (uint32_t i = 0; i < c->keepers_count; i++)
        keeper_fini(&c->keepers[i]);
    for (uint32_t i = 0; i < c->watchers_count; i++)
        watcher_fini(&c->watchers[i]);
    size_t cursor = 0;
    uint64_t key;
    void *op;
    while (u64map_next(&c->ops, &cursor, &key, &op))
        mem_free(op);
    u64map_fini(&c->ops);
    u64map_fini(&c->hashes);
    mem_free(c);
}

void clients_event(struct sim *s, const struct event *e)
{
    struct clients *c = s->clients;
    enum client_event what = (enum client_event)e->a;
    if (what == CLIENT_NEXT || what == CLIENT_TIMEOUT) {
        struct kv_client *k = &c->kv[e->who];
        if (k->life != e->life)
            return;
        if (what == CLIENT_NEXT)
            next_operation(k);
        else
            give_up(k);
    } else if (what == KEEPER_NEXT || what == KEEPER_TIMEOUT) {
        struct keeper *k = &c->keepers[e->who];
        if (k->life != e->life)
            return;
        if (what == KEEPER_NEXT)
            keeper_next(k);
        else
            keeper_timeout(k);
    } else if (c->watchers[e->who].life == e->life) {
        watcher_next(&c->watchers[e->who]);
    }
}

void clients_stop_reading(struct clients *c, struct rng *r, uint64_t length_us)
{
    if (c->watchers_count == 0)
        return;
    struct watcher_client *w = &c->watchers[rng_below(r, c->watchers_count)];
    uint64_t length = sim_exponential(r, length_us);
    if (w->call != NULL)
        call_congest(w->call, length);
}

bool clients_progressed(const struct clients *c, uint64_t since_us)
{
    for (uint32_t i = 0; i < c->kv_count; i++)
        if (!c->kv[i].reader && c->kv[i].written_us < since_us)
            return false;
    return true;
}

bool clients_drained(struct clients *c)
{
    for (uint32_t i = 0; i < c->kv_count; i++)
        if (c->kv[i].call != NULL)
            return false;
    for (uint32_t i = 0; i < c->keepers_count; i++)
        if (c->keepers[i].phase != KEEPER_IDLE)
            return false;
    for (uint32_t i = 0; i < c->watchers_count; i++)
        if (!watcher_is_drained(&c->watchers[i]))
            return false;
    return true;
}

void clients_explain(struct clients *c)
{
    for (uint32_t i = 0; i < c->kv_count; i++)
        if (c->kv[i].call != NULL)
            sim_say(c->sim, "client %u waits for an answer", i);
    for (uint32_t i = 0; i < c->keepers_count; i++)
        if (c->keepers[i].phase != KEEPER_IDLE)
            sim_say(c->sim, "keeper %u is in phase %d", i, c->keepers[i].phase);
    for (uint32_t i = 0; i < c->watchers_count; i++)
        if (!watcher_is_drained(&c->watchers[i]))
            sim_say(c->sim, "watcher %u has seen everything before revision %lld, created %d", i,
                    (long long)c->watchers[i].next_rev, c->watchers[i].created);
}

#include "server/contest.h"

#include "server/node.h"
#include "server/services.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { SESSION_TTL_S = 60 };

/* --- life --- */

static void stop_waiting(struct contest *k)
{
    watch_hub_unlisten(k->inner.worker->hub, &k->listener);
}

void contest_free(struct contest *k)
{
    stop_waiting(k);
    inner_release(&k->inner);
    buf_fini(&k->prefix);
    buf_fini(&k->prefix_end);
    buf_fini(&k->key);
    buf_fini(&k->awaited);
    k->free(k);
}

static void on_ended(struct inner *in)
{
    struct contest *k = CONTAINER_OF(in, struct contest, inner);
    if (k->waiting && k->abandoned != NULL)
        k->abandoned(k);
    contest_free(k);
}

void contest_init(struct contest *k, struct grpc_call *call)
{
    inner_init(&k->inner, service_worker(call), call, on_ended);
    watch_listener_init(&k->listener);
    buf_init(&k->prefix, SIZE_MAX);
    buf_init(&k->prefix_end, SIZE_MAX);
    buf_init(&k->key, SIZE_MAX);
    buf_init(&k->awaited, SIZE_MAX);
}

bool contest_lacks_space(struct grpc_call *call, uint64_t cost_bytes)
{
    struct node *n = service_worker(call)->node;
    bool log_says_so = alarms_active(&n->applier.alarms, ALARM_NOSPACE);
    return (!log_says_so || core_lacks_room(n->core)) && service_lacks_space(call, cost_bytes);
}

void contest_fail_text(struct contest *k, const char *text)
{
    inner_fail_text(&k->inner, text);
    contest_free(k);
}

void contest_fail(struct contest *k, int err)
{
    contest_fail_text(k, tv_err_text(err));
}

void contest_reply(struct contest *k, struct slice reply)
{
    (void)grpc_reply(k->inner.call, &reply, 1);
    contest_free(k);
}

/* --- session and name --- */

static void on_granted(struct inner *in, int err, struct slice reply)
{
    struct contest *k = CONTAINER_OF(in, struct contest, inner);
    (void)reply;
    if (err != 0)
        contest_fail(k, err);
    else
        k->next(k);
}

void contest_session(struct contest *k, int64_t lease, void (*next)(struct contest *k))
{
    k->next = next;
    k->lease = lease;
    if (lease != 0) {
        next(k);
        return;
    }
    struct wire_lease_grant_request grant = {
        .ttl = SESSION_TTL_S,
        .id = (int64_t)(core_next_request_id(k->inner.worker->node->core) & INT64_MAX)};
    uint8_t body[32];
    size_t size = wire_lease_grant_request_size(&grant);
    ASSERT(size <= sizeof(body));
    wire_lease_grant_request_put(body, &grant);
    k->lease = grant.id;
    int err = inner_propose(&k->inner, WIRE_RAFT_LEASE_GRANT, slice_of(body, size), on_granted);
    if (err != 0)
        contest_fail(k, err);
}

static void set(struct buf *b, struct slice s, const char *suffix)
{
    buf_clear(b);
    (void)buf_append(b, s.data, s.size);
    (void)buf_append(b, suffix, strlen(suffix));
}

void contest_name(struct contest *k, struct slice name)
{
    char hex[24];
    bool negative = k->lease < 0; /* as Go prints a signed number */
    uint64_t magnitude = negative ? -(uint64_t)k->lease : (uint64_t)k->lease;
    (void)snprintf(hex, sizeof(hex), "%s%" PRIx64, negative ? "-" : "", magnitude);
    set(&k->prefix, name, "/");
    set(&k->prefix_end, name, "0"); /* behind '/' */
    set(&k->key, buf_slice(&k->prefix), hex);
}

/* --- waiting --- */

static bool on_event(struct watch_listener *l, const struct mvcc_version *v)
{
    (void)l;
    return mvcc_version_is_tombstone(v);
}

/* The youngest of those that are as old as revision_max: when it is gone, most are. In a section.
 */
static const struct mvcc_version *find_awaited(struct contest *k, int64_t rev)
{
    struct mvcc_iter it;
    const struct mvcc_version *v, *found = NULL;
    int64_t found_rev = 0;
    mvcc_iter_init(&it, k->inner.worker->node->mvcc, buf_slice(&k->prefix),
                   buf_slice(&k->prefix_end), rev);
    while ((v = mvcc_iter_next(&it)) != NULL) {
        int64_t created = mvcc_version_create_revision(v);
        if (created <= k->revision_max && created > found_rev) {
            found = v;
            found_rev = created;
        }
    }
    return found;
}

int64_t contest_enter(struct contest *k)
{
    struct worker *w = k->inner.worker;
    for (;;) {
        int64_t rev;
        watch_hub_look(w->hub);
        epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
        if (mvcc_check_revision(w->node->mvcc, watch_hub_revision(w->hub), &rev) == 0)
            return rev;
        epoch_leave(w->reader); /* compacted meanwhile, by the core's thread */
    }
}

const struct mvcc_version *contest_first(const struct contest *k, int64_t rev)
{
    struct mvcc_iter it;
    const struct mvcc_version *v, *first = NULL;
    mvcc_iter_init(&it, k->inner.worker->node->mvcc, buf_slice(&k->prefix),
                   buf_slice(&k->prefix_end), rev);
    while ((v = mvcc_iter_next(&it)) != NULL)
        if (first == NULL || mvcc_version_create_revision(v) < mvcc_version_create_revision(first))
            first = v;
    return first;
}

void contest_put_leader(const struct inner *in, int64_t rev, struct slice kv, struct buf *out)
{
    struct wire_header h = inner_header(in, rev);
    size_t size = wire_header_size(&h) + wire_item_size(2, kv.size);
    uint8_t *p = buf_reserve(out, size);
    (void)wire_item_put(wire_header_put(p, &h), 2, kv);
    out->size += size;
}

int contest_permit(const struct contest *k)
{
    uint64_t auth_revision;
    return service_permit_range(k->inner.call, buf_slice(&k->prefix), buf_slice(&k->prefix_end),
                                &auth_revision);
}

/* Its place in the queue goes. */
static void give_up(struct contest *k, int err)
{
    if (k->abandoned != NULL)
        k->abandoned(k);
    contest_fail(k, err);
}

static void look(struct contest *k)
{
    struct worker *w = k->inner.worker;
    int64_t rev = contest_enter(k);
    int err = contest_permit(k);
    const struct mvcc_version *v = err == 0 ? find_awaited(k, rev) : NULL;
    if (v != NULL) {
        struct slice key = mvcc_version_key(v);
        buf_clear(&k->awaited);
        (void)buf_append(&k->awaited, key.data, key.size);
    }
    epoch_leave(w->reader);
    if (err != 0) {
        give_up(k, err);
        return;
    }
    if (v == NULL) {
        k->next(k);
        return;
    }
    k->listener.in.key = buf_slice(&k->awaited);
    watch_hub_listen(w->hub, &k->listener);
}

static void on_woken(struct watch_listener *l, bool lost)
{
    struct contest *k = CONTAINER_OF(l, struct contest, listener);
    (void)lost; /* the state is looked at anew in any case */
    stop_waiting(k);
    look(k);
}

void contest_stopped(struct watch_listener *l)
{
    struct contest *k = CONTAINER_OF(l, struct contest, listener);
    grpc_finish(k->inner.call, tv_err_code(TV_STOPPED), tv_err_text(TV_STOPPED));
    contest_free(k);
}

static void on_barrier(struct inner *in, int err, struct slice reply)
{
    struct contest *k = CONTAINER_OF(in, struct contest, inner);
    (void)reply;
    if (err != 0)
        give_up(k, err);
    else
        look(k);
}

void contest_wait(struct contest *k, int64_t revision_max, void (*next)(struct contest *k))
{
    k->next = next;
    k->waiting = true;
    k->revision_max = revision_max;
    k->listener.event = on_event;
    k->listener.woken = on_woken;
    k->listener.stopped = contest_stopped;
    inner_barrier(&k->inner, on_barrier);
}

/* --- transactions --- */

static void put_op(struct buf *out, uint32_t field, const struct wire_op *op)
{
    size_t size = wire_op_size(op), whole = wire_item_size(field, size);
    uint8_t *p = buf_reserve(out, whole);
    (void)wire_op_put(wire_item_put_head(p, field, size), op);
    out->size += whole;
}

void contest_txn_put(struct buf *out, struct slice key, int64_t revision,
                     const struct wire_op *then, uint32_t then_count, const struct wire_op *or_else,
                     uint32_t or_else_count)
{
    struct wire_compare c = {.result = WIRE_COMPARE_EQUAL,
                             .target = WIRE_COMPARE_CREATE,
                             .key = key,
                             .with = WIRE_COMPARE_CREATE,
                             .number = revision};
    size_t size = wire_compare_size(&c), whole = wire_item_size(WIRE_TXN_COMPARE, size);
    uint8_t *p = buf_reserve(out, whole);
    (void)wire_compare_put(wire_item_put_head(p, WIRE_TXN_COMPARE, size), &c);
    out->size += whole;
    for (uint32_t i = 0; i < then_count; i++)
        put_op(out, WIRE_TXN_SUCCESS, &then[i]);
    for (uint32_t i = 0; i < or_else_count; i++)
        put_op(out, WIRE_TXN_FAILURE, &or_else[i]);
}

struct wire_op contest_op_first(const struct contest *k)
{
    return (struct wire_op){.kind = WIRE_OP_RANGE,
                            .range = {.key = buf_slice(&k->prefix),
                                      .range_end = buf_slice(&k->prefix_end),
                                      .limit = 1,
                                      .sort_order = WIRE_SORT_ASCEND,
                                      .sort_target = WIRE_SORT_CREATE}};
}

struct wire_op contest_op_get(struct slice key)
{
    return (struct wire_op){.kind = WIRE_OP_RANGE, .range = {.key = key}};
}

struct wire_op contest_op_put(struct slice key, struct slice value, int64_t lease)
{
    return (struct wire_op){.kind = WIRE_OP_PUT,
                            .put = {.key = key, .value = value, .lease = lease}};
}

struct wire_op contest_op_delete(struct slice key)
{
    return (struct wire_op){.kind = WIRE_OP_DELETE_RANGE, .delete_range = {.key = key}};
}

bool contest_response_kv(struct slice txn_response, uint32_t n, struct wire_kv *ret)
{
    struct wire_reader r = wire_reader_of(txn_response), kvs;
    struct slice item, body;
    enum wire_op_kind kind;
    for (uint32_t i = 0; i <= n; i++)
        if (!wire_next_item(&r, WIRE_TXN_RESPONSES, &item))
            return false;
    if (wire_response_op_decode(item, &kind, &body) != 0 || kind != WIRE_OP_RANGE)
        return false;
    kvs = wire_reader_of(body);
    return wire_next_kv(&kvs, WIRE_RANGE_KVS, ret) == 1;
}

bool contest_queued(struct contest *k, int err, struct slice txn_response, bool *ret_created,
                    struct wire_kv *ret_own)
{
    struct wire_txn_response r;
    if (err == 0)
        err = wire_txn_response_decode(txn_response, &r);
    if (err == 0 && !r.succeeded && !contest_response_kv(txn_response, 0, ret_own))
        err = TV_EMALFORMED;
    if (err != 0) {
        contest_fail(k, err);
        return false;
    }
    k->header = r.header;
    k->revision = r.succeeded ? r.header.revision : ret_own->create_revision;
    *ret_created = r.succeeded;
    return true;
}

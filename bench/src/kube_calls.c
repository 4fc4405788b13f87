/* The calls, as Kubernetes' storage layer makes them, and what is learned from the answers. */
#include "kube.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_TEXT_BYTES = 24 };

/* --- which --- */

static bool is_read(enum op_kind kind)
{
    return kind == OP_OBJECT_GET || kind == OP_CONSISTENT_READ || kind == OP_COUNT ||
           kind == OP_RELIST;
}

const char *kube_path(const struct slot *s)
{
    if (is_read(s->kind))
        return "/etcdserverpb.KV/Range";
    if (s->kind == OP_EVENT_LEASE)
        return "/etcdserverpb.Lease/LeaseGrant";
    if (s->kind == OP_COMPACT_TRY && s->step > 0)
        return "/etcdserverpb.KV/Compact";
    return "/etcdserverpb.KV/Txn";
}

/* --- requests --- */

/* Begins with the moment at which it was due: whoever watches can tell how late it comes. */
static struct slice value_of(struct slot *s, uint32_t size)
{
    struct worker *w = s->worker;
    buf_clear(&w->chunk);
    (void)buf_append(&w->chunk, w->run->value->data, size);
    memcpy(w->chunk.data, &s->due_ns, sizeof(s->due_ns));
    return buf_slice(&w->chunk);
}

static struct wire_compare compare_of(struct slice key, enum wire_compare_target target,
                                      int64_t number)
{
    return (struct wire_compare){.result = WIRE_COMPARE_EQUAL,
                                 .target = target,
                                 .key = key,
                                 .with = target,
                                 .number = number};
}

/* If it is as we know it then `op`, else tell us how it is. */
static void send_update(struct slot *s, struct grpc_call *call, const struct wire_op *op,
                        struct slice key, int64_t mod_revision)
{
    struct worker *w = s->worker;
    struct wire_compare compare = compare_of(key, WIRE_COMPARE_MOD, mod_revision);
    struct wire_op get = {.kind = WIRE_OP_RANGE, .range = {.key = key}};
    scratch_begin_txn(w, &compare);
    scratch_append_op(w, WIRE_TXN_SUCCESS, op);
    if (s->kind != OP_POD_CREATE && s->kind != OP_EVENT_CREATE)
        scratch_append_op(w, WIRE_TXN_FAILURE, &get);
    scratch_send(w, call);
}

static void send_object(struct slot *s, struct grpc_call *call)
{
    struct kube *k = s->worker->kube;
    uint8_t bytes[KUBE_KEY_MAX];
    struct slice key = kube_object_key(k, s->object, s->key, bytes);
    struct wire_op op = {.kind = WIRE_OP_DELETE_RANGE, .delete_range = {.key = key}};
    if (s->kind != OP_POD_DELETE)
        op = (struct wire_op){
            .kind = WIRE_OP_PUT,
            .put = {.key = key, .value = value_of(s, kube_object_bytes(k, s->object))}};
    bool creates = s->kind == OP_POD_CREATE;
    send_update(s, call, &op, key, creates ? 0 : k->objects[s->object].mod_revision);
}

static void send_event(struct slot *s, struct grpc_call *call)
{
    struct kube *k = s->worker->kube;
    uint8_t bytes[KUBE_KEY_MAX];
    struct slice key = kube_event_key(k, s->key, bytes);
    struct wire_op op = {.kind = WIRE_OP_PUT,
                         .put = {.key = key,
                                 .value = value_of(s, k->o->kubernetes.event_bytes),
                                 .lease = k->event_leases[s->server]}};
    send_update(s, call, &op, key, 0);
}

static void send_range(struct slot *s, struct grpc_call *call,
                       const struct wire_range_request *range)
{
    (void)wire_range_request_put(scratch_reserve(s->worker, wire_range_request_size(range)), range);
    scratch_send(s->worker, call);
}

static void send_read(struct slot *s, struct grpc_call *call)
{
    struct kube *k = s->worker->kube;
    uint8_t key[KUBE_KEY_MAX];
    uint8_t end[KUBE_KEY_MAX];
    struct wire_range_request range = {0};
    switch (s->kind) {
    case OP_OBJECT_GET:
        range.key = kube_object_key(k, s->object, s->key, key);
        range.limit = 1;
        break;
    case OP_CONSISTENT_READ: /* only the answer's revision is wanted */
        range.key = kube_prefix(k->o, s->resource, key);
        range.limit = 1;
        break;
    case OP_COUNT:
        range.key = kube_prefix(k->o, s->resource, key);
        range.range_end = kube_prefix_end(k->o, s->resource, end);
        range.count_only = true;
        break;
    default: /* the pages after the first are of the first one's revision */
        range.key =
            s->page_key.size > 0 ? buf_slice(&s->page_key) : kube_prefix(k->o, s->resource, key);
        range.range_end = kube_prefix_end(k->o, s->resource, end);
        range.limit = (int64_t)k->o->kubernetes.page;
        range.revision = s->revision;
        break;
    }
    send_range(s, call, &range);
}

static void send_event_lease(struct slot *s, struct grpc_call *call)
{
    struct worker *w = s->worker;
    struct wire_lease_grant_request grant = {.ttl = kube_event_lease_ttl(w->run->o)};
    (void)wire_lease_grant_request_put(scratch_reserve(w, wire_lease_grant_request_size(&grant)),
                                       &grant);
    scratch_send(w, call);
}

static void send_compact_try(struct slot *s, struct grpc_call *call)
{
    struct worker *w = s->worker;
    const struct kube_compactor *c = &w->kube->compactors[s->server];
    uint8_t bytes[KUBE_KEY_MAX];
    char text[NUMBER_TEXT_BYTES];
    struct wire_compaction_request compact = {.revision = s->compact_to};
    if (s->step > 0) {
        (void)wire_compaction_request_put(
            scratch_reserve(w, wire_compaction_request_size(&compact)), &compact);
        scratch_send(w, call);
        return;
    }
    struct slice key = kube_compact_key(w->run->o, bytes);
    int size = snprintf(text, sizeof(text), "%lld", (long long)c->revision);
    struct wire_compare compare = compare_of(key, WIRE_COMPARE_VERSION, c->version);
    struct wire_op put = {.kind = WIRE_OP_PUT,
                          .put = {.key = key, .value = slice_of(text, (size_t)size)}};
    struct wire_op get = {.kind = WIRE_OP_RANGE, .range = {.key = key}};
    scratch_begin_txn(w, &compare);
    scratch_append_op(w, WIRE_TXN_SUCCESS, &put);
    scratch_append_op(w, WIRE_TXN_FAILURE, &get);
    scratch_send(w, call);
}

void kube_send(struct slot *s, struct grpc_call *call)
{
    if (is_read(s->kind))
        send_read(s, call);
    else if (s->kind == OP_EVENT_LEASE)
        send_event_lease(s, call);
    else if (s->kind == OP_COMPACT_TRY)
        send_compact_try(s, call);
    else if (s->kind == OP_EVENT_CREATE)
        send_event(s, call);
    else
        send_object(s, call);
}

/* --- answers --- */

static void note_revision(struct slot *s, int64_t mod_revision)
{
    if (s->object != KUBE_NO_OBJECT)
        s->worker->kube->objects[s->object].mod_revision = mod_revision;
}

/* An update that did not find what it expected is tried again upon what is there, as
 * GuaranteedUpdate does. */
static void answer_update(struct slot *s, struct slice msg)
{
    struct wire_txn_response txn;
    struct wire_kv kv;
    s->step = 0;
    if (wire_txn_response_decode(msg, &txn) != 0) {
        op_malformed(s);
        return;
    }
    if (txn.succeeded) {
        s->worker->revisions++;
        note_revision(s, s->kind == OP_POD_DELETE ? 0 : txn.header.revision);
        return;
    }
    s->worker->conflicts++;
    if (s->kind == OP_POD_CREATE || s->kind == OP_EVENT_CREATE)
        return;
    if (op_read_of_txn(s, msg, &kv)) {
        note_revision(s, kv.mod_revision);
        s->step = 1;
    } else {
        note_revision(s, 0);
        s->worker->empty++;
    }
}

static void answer_compact_try(struct slot *s, struct slice msg)
{
    struct kube_compactor *c = &s->worker->kube->compactors[s->server];
    struct wire_txn_response txn;
    struct wire_kv kv;
    if (s->step > 0)
        return;
    if (wire_txn_response_decode(msg, &txn) != 0) {
        op_malformed(s);
        return;
    }
    if (txn.succeeded) {
        s->worker->revisions++;
        c->version++;
        s->compact_to = c->revision;
    } else if (op_read_of_txn(s, msg, &kv)) {
        c->version = kv.version;
    }
    c->revision = txn.header.revision;
}

static void answer_event_lease(struct slot *s, struct slice msg)
{
    struct wire_lease_response lease;
    if (wire_lease_response_decode(msg, &lease) != 0 || lease.id == 0)
        op_malformed(s);
    else
        s->worker->kube->event_leases[s->server] = lease.id;
}

static void answer_read(struct slot *s, struct slice msg)
{
    struct wire_range_response range;
    if (wire_range_response_decode(msg, &range) != 0) {
        op_malformed(s);
        return;
    }
    s->revision = range.header.revision;
    s->worker->empty += s->kind == OP_OBJECT_GET && range.kvs_count == 0;
}

void kube_answer(struct slot *s, struct slice msg)
{
    if (is_read(s->kind))
        answer_read(s, msg);
    else if (s->kind == OP_EVENT_LEASE)
        answer_event_lease(s, msg);
    else if (s->kind == OP_COMPACT_TRY)
        answer_compact_try(s, msg);
    else
        answer_update(s, msg);
}

bool kube_continues(struct slot *s)
{
    if (s->kind == OP_RELIST)
        return s->page_key.size > 0;
    if (s->kind != OP_COMPACT_TRY)
        return s->step > 0;
    if (s->step > 0 || s->compact_to == 0)
        return false;
    s->step = 1;
    return true;
}

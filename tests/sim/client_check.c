/* What a client's answer must be. */
#include "client.h"

#include "base/err.h"

static void must_decode(int err, enum work w)
{
    if (err != 0)
        sim_fail("an answer to %s does not decode", work_name(w));
}

/* The header of a write's answer, and the outcome of its entry. */
static const struct model_outcome *check_write(struct kv_client *k, const struct wire_header *h)
{
    const struct model_outcome *o = &k->sim->model.outcomes[k->op->index];
    if (h->revision != o->revision)
        sim_fail("entry %llu made revision %lld, answered was %lld",
                 (unsigned long long)k->op->index, (long long)o->revision, (long long)h->revision);
    client_saw_revision(k->sim->clients, h->revision);
    return o;
}

/* The header of a linearizable read's answer. */
static void check_read(struct kv_client *k, const struct wire_header *h, bool serializable)
{
    k->sim->stats->reads_checked++;
    if (!serializable && h->revision < k->begun.revision)
        sim_fail("a read by client %u is served at revision %lld; %lld was answered before it "
                 "began",
                 k->number, (long long)h->revision, (long long)k->begun.revision);
    if (h->revision > k->sim->model.revision)
        sim_fail("a read is served at revision %lld, which is not committed",
                 (long long)h->revision);
    if (!serializable)
        client_saw_revision(k->sim->clients, h->revision);
}

/* --- state --- */

void client_check_range(struct kv_client *k, const struct wire_range_request *req,
                        struct slice reply, int64_t at, bool has_header)
{
    const struct model *model = &k->sim->model;
    struct wire_range_response r;
    must_decode(wire_range_response_decode(reply, &r), k->work);
    if (has_header)
        check_read(k, &r.header, req->serializable);
    if (at == 0)
        at = r.header.revision;
    struct wire_reader reader = wire_reader_of(r.msg);
    struct wire_kv kv;
    int64_t count = 0;
    int64_t shown = 0;
    for (uint32_t key = 0; key < MODEL_KEYS_COUNT; key++) {
        const struct model_version *v = model_get(model, key, at);
        if (v == NULL || !model_covers(req->key, req->range_end, key))
            continue;
        count++;
        if (req->count_only || (req->limit > 0 && shown == req->limit))
            continue;
        shown++;
        if (wire_next_kv(&reader, WIRE_RANGE_KVS, &kv) != 1)
            sim_fail("a range at revision %lld misses key %u", (long long)at, key);
        if (!model_kv_equal(&kv, key, v))
            sim_fail("key %u at revision %lld: got mod %lld version %lld, want mod %lld version "
                     "%lld",
                     key, (long long)at, (long long)kv.mod_revision, (long long)kv.version,
                     (long long)v->revision, (long long)v->version);
    }
    if (wire_next_kv(&reader, WIRE_RANGE_KVS, &kv) == 1)
        sim_fail("a range at revision %lld has a key too many", (long long)at);
    if (r.count != count || r.more != (!req->count_only && shown < count))
        sim_fail("a range at revision %lld counts %lld keys, not %lld", (long long)at,
                 (long long)r.count, (long long)count);
}

/* An encoded KeyValue that was current before the revision. */
static void check_prev(struct slice kv_bytes, uint32_t key, int64_t revision)
{
    const struct model_version *want = model_get(&sim_now->model, key, revision - 1);
    struct wire_kv kv;
    if ((kv_bytes.size == 0) != (want == NULL))
        sim_fail("key %u before revision %lld: it was there, or was not, and should", key,
                 (long long)revision);
    if (want != NULL && (wire_kv_decode(kv_bytes, &kv) != 0 || !model_kv_equal(&kv, key, want)))
        sim_fail("key %u before revision %lld was another", key, (long long)revision);
}

/* --- by kind --- */

static void check_put(struct kv_client *k)
{
    struct wire_put_request q;
    struct wire_put_response r;
    int err = wire_put_request_decode(buf_slice(&k->request), &q);
    ASSERT(err == 0);
    must_decode(wire_put_response_decode(buf_slice(&k->reply), &r), k->work);
    const struct model_outcome *o = check_write(k, &r.header);
    if (q.prev_kv)
        check_prev(r.prev_kv, (uint32_t)model_key_of(q.key), o->revision);
    else if (r.prev_kv.size > 0)
        sim_fail("a put is answered with what was not asked for");
}

static void check_delete(struct kv_client *k)
{
    struct wire_delete_range_request q;
    struct wire_delete_range_response r;
    int err = wire_delete_range_request_decode(buf_slice(&k->request), &q);
    ASSERT(err == 0);
    must_decode(wire_delete_range_response_decode(buf_slice(&k->reply), &r), k->work);
    const struct model_outcome *o = check_write(k, &r.header);
    if (r.deleted != o->deleted)
        sim_fail("a delete took %lld keys, answered was %lld", (long long)o->deleted,
                 (long long)r.deleted);
    if (!q.prev_kv || o->deleted == 0)
        return;
    struct wire_reader reader = wire_reader_of(r.msg);
    struct slice kv;
    for (uint32_t key = 0; key < MODEL_KEYS_COUNT; key++) {
        if (!model_covers(q.key, q.range_end, key) ||
            model_get(&k->sim->model, key, o->revision - 1) == NULL)
            continue;
        if (!wire_next_item(&reader, WIRE_DELETE_RANGE_PREV_KVS, &kv))
            kv = SLICE_EMPTY;
        check_prev(kv, key, o->revision);
    }
}

static void check_txn(struct kv_client *k)
{
    struct wire_txn q;
    struct wire_txn_response r;
    int err = wire_txn_decode(buf_slice(&k->request), &q);
    ASSERT(err == 0);
    must_decode(wire_txn_response_decode(buf_slice(&k->reply), &r), k->work);
    if (k->op != NULL) {
        const struct model_outcome *o = check_write(k, &r.header);
        if (r.succeeded != o->succeeded)
            sim_fail("entry %llu: the comparisons of a transaction came out otherwise",
                     (unsigned long long)k->op->index);
    } else {
        check_read(k, &r.header, false);
    }
    struct wire_txn_it it;
    struct wire_op op;
    struct wire_reader reader = wire_reader_of(r.msg);
    wire_txn_ops(&q, r.succeeded, &it);
    while (wire_next_op(&it, &op)) {
        struct slice item, body;
        enum wire_op_kind kind;
        if (!wire_next_item(&reader, WIRE_TXN_RESPONSES, &item) ||
            wire_response_op_decode(item, &kind, &body) != 0 || kind != op.kind)
            sim_fail("a transaction's answer misses an operation's");
        if (kind == WIRE_OP_RANGE)
            client_check_range(k, &op.range, body, r.header.revision, false);
    }
}

static void check_hash(struct kv_client *k)
{
    struct clients *c = k->sim->clients;
    struct wire_reader reader = wire_reader_of(buf_slice(&k->reply));
    struct wire_field f;
    uint64_t values[5] = {0};
    while (wire_next_field(&reader, &f) == 1)
        if (f.number < 5 && f.type == WIRE_VARINT)
            values[f.number] = f.value;
    uint64_t key = (values[4] << 32) + values[3] + 2;
    void *before = u64map_get(&c->hashes, key);
    if (before != NULL && (uintptr_t)before != values[2] + 1)
        sim_fail("two members hash revision %llu to different values",
                 (unsigned long long)values[4]);
    u64map_put(&c->hashes, key, (void *)(uintptr_t)(values[2] + 1));
}

void client_check_answer(struct kv_client *k)
{
    struct wire_range_request range;
    struct wire_lease_response header_only;
    int err;
    switch (k->work) {
    case WORK_PUT:
        check_put(k);
        break;
    case WORK_GET:
    case WORK_SERIALIZABLE:
    case WORK_RANGE:
        err = wire_range_request_decode(buf_slice(&k->request), &range);
        ASSERT(err == 0);
        client_check_range(k, &range, buf_slice(&k->reply), range.revision, true);
        break;
    case WORK_CAS:
    case WORK_TXN:
    case WORK_READ_TXN:
        check_txn(k);
        break;
    case WORK_DELETE:
    case WORK_DELETE_RANGE:
        check_delete(k);
        break;
    case WORK_COMPACT:
        must_decode(wire_lease_response_decode(buf_slice(&k->reply), &header_only), k->work);
        client_saw_revision(k->sim->clients, header_only.header.revision);
        if (k->sim->model.compacted < k->asked_revision)
            sim_fail("a compaction was answered and is not committed");
        break;
    default:
        check_hash(k);
        break;
    }
}

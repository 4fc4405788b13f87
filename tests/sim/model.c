#include "model.h"

#include "sim.h"

#include "base/err.h"
#include "base/mem.h"
#include "client.h"
#include "server/alarm.h"

#include <stdio.h>

/* --- names --- */

struct slice model_key_name(uint32_t key)
{
    static char names[MODEL_KEYS_COUNT][MODEL_KEY_BYTES + 1];
    if (names[key][0] == '\0')
        (void)snprintf(names[key], sizeof(names[key]), "k%02u", key % 100);
    return slice_of(names[key], MODEL_KEY_BYTES);
}

int model_key_of(struct slice name)
{
    for (uint32_t k = 0; k < MODEL_KEYS_COUNT; k++)
        if (slice_equal(name, model_key_name(k)))
            return (int)k;
    return -1;
}

bool model_covers(struct slice key, struct slice range_end, uint32_t k)
{
    struct slice name = model_key_name(k);
    if (range_end.size == 0)
        return slice_equal(name, key);
    bool open_end = range_end.size == 1 && range_end.data[0] == 0;
    return slice_compare(name, key) >= 0 && (open_end || slice_compare(name, range_end) < 0);
}

enum { VALUE_NUMBER_BYTES = 8, VALUE_LARGE_EVERY = 61, VALUE_LARGE_BYTES = 9000 };

size_t model_value_size(uint64_t value)
{
    uint64_t spread = value * 0x9e3779b97f4a7c15u >> 40;
    size_t more = spread % VALUE_LARGE_EVERY == 0 ? VALUE_LARGE_BYTES : spread % 200;
    return VALUE_NUMBER_BYTES + more;
}

void model_value_put(uint8_t *dst, uint64_t value)
{
    size_t size = model_value_size(value);
    memcpy(dst, &value, VALUE_NUMBER_BYTES);
    memset(dst + VALUE_NUMBER_BYTES, (int)(value & 0xff), size - VALUE_NUMBER_BYTES);
}

uint64_t model_value_of(struct slice bytes)
{
    uint64_t value;
    if (bytes.size < VALUE_NUMBER_BYTES)
        return 0;
    memcpy(&value, bytes.data, VALUE_NUMBER_BYTES);
    if (model_value_size(value) != bytes.size)
        return 0;
    for (size_t i = VALUE_NUMBER_BYTES; i < bytes.size; i++)
        if (bytes.data[i] != (value & 0xff))
            return 0;
    return value;
}

bool model_kv_equal(const struct wire_kv *kv, uint32_t key, const struct model_version *v)
{
    return slice_equal(kv->key, model_key_name(key)) && kv->mod_revision == v->revision &&
           kv->create_revision == v->create && kv->version == v->version && kv->lease == v->lease &&
           model_value_of(kv->value) == v->value;
}

/* --- state --- */

void model_init(struct model *m)
{
    *m = (struct model){.revision = 1, .compacted = -1};
    m->outcomes_capacity = 1024;
    m->outcomes = mem_alloc_zero(m->outcomes_capacity * sizeof(*m->outcomes));
    m->outcomes[0] = (struct model_outcome){.revision = 1, .compacted = -1};
}

void model_fini(struct model *m)
{
    for (uint32_t k = 0; k < MODEL_KEYS_COUNT; k++)
        mem_free(m->keys[k].versions);
    mem_free(m->changes);
    mem_free(m->outcomes);
    mem_free(m->leases);
}

const struct model_version *model_get(const struct model *m, uint32_t key, int64_t revision)
{
    const struct model_key *k = &m->keys[key];
    uint32_t lo = 0, hi = k->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (k->versions[mid].revision <= revision)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo == 0 || k->versions[lo - 1].tombstone ? NULL : &k->versions[lo - 1];
}

uint32_t model_seek(const struct model *m, int64_t revision)
{
    uint32_t lo = 0, hi = m->changes_count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->changes[mid].revision < revision)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct model_lease *model_lease(struct model *m, int64_t id)
{
    for (uint32_t i = m->leases_count; i-- > 0;)
        if (m->leases[i].id == id)
            return &m->leases[i];
    return NULL;
}

static bool lease_exists(struct model *m, int64_t id)
{
    const struct model_lease *l = model_lease(m, id);
    return l != NULL && l->ended_index == 0;
}

/* --- changes --- */

struct txn {
    struct model *m;
    int64_t revision; /* that its changes have */
    uint32_t sub;
};

static const struct model_version *now(const struct txn *t, uint32_t key)
{
    return model_get(t->m, key, t->revision);
}

static void add_version(struct txn *t, uint32_t key, struct model_version v)
{
    struct model_key *k = &t->m->keys[key];
    if (k->count == k->capacity) {
        k->capacity = k->capacity == 0 ? 32 : k->capacity * 2;
        k->versions = mem_realloc(k->versions, k->capacity * sizeof(*k->versions));
    }
    v.revision = t->revision;
    v.sub = t->sub++;
    k->versions[k->count] = v;
    struct model *m = t->m;
    if (m->changes_count == m->changes_capacity) {
        m->changes_capacity = m->changes_capacity == 0 ? 256 : m->changes_capacity * 2;
        m->changes = mem_realloc(m->changes, m->changes_capacity * sizeof(*m->changes));
    }
    m->changes[m->changes_count++] =
        (struct model_change){.revision = t->revision, .key = key, .version = k->count++};
}

static void put(struct txn *t, const struct wire_put_request *r)
{
    int key = model_key_of(r->key);
    uint64_t value = model_value_of(r->value);
    if (key < 0 || value == 0)
        sim_fail("a put of what no client wrote was committed");
    const struct model_version *before = now(t, (uint32_t)key);
    add_version(t, (uint32_t)key,
                (struct model_version){
                    .value = value,
                    .create = before == NULL ? t->revision : before->create,
                    .version = before == NULL ? 1 : before->version + 1,
                    .lease = r->lease,
                });
}

static int64_t delete_range(struct txn *t, struct slice key, struct slice range_end)
{
    int64_t count = 0;
    for (uint32_t k = 0; k < MODEL_KEYS_COUNT; k++) {
        if (!model_covers(key, range_end, k) || now(t, k) == NULL)
            continue;
        add_version(t, k, (struct model_version){.tombstone = true});
        count++;
    }
    return count;
}

/* --- transactions --- */

static bool holds(int64_t a, int64_t b, int32_t result)
{
    switch (result) {
    case WIRE_COMPARE_EQUAL:
        return a == b;
    case WIRE_COMPARE_NOT_EQUAL:
        return a != b;
    case WIRE_COMPARE_GREATER:
        return a > b;
    default:
        return a < b;
    }
}

static bool compare(const struct txn *t, const struct wire_compare *c)
{
    int key = model_key_of(c->key);
    if (key < 0)
        sim_fail("a comparison that no client wrote was committed");
    const struct model_version *v = now(t, (uint32_t)key);
    switch (c->target) {
    case WIRE_COMPARE_VALUE:
        return v != NULL &&
               (v->value == model_value_of(c->value)) == (c->result == WIRE_COMPARE_EQUAL);
    case WIRE_COMPARE_MOD:
        return holds(v == NULL ? 0 : v->revision, c->number, c->result);
    case WIRE_COMPARE_VERSION:
        return holds(v == NULL ? 0 : v->version, c->number, c->result);
    default:
        return holds(v == NULL ? 0 : v->create, c->number, c->result);
    }
}

static int run_txn(struct txn *t, const struct wire_txn *r, struct model_outcome *out)
{
    struct wire_txn_it it;
    struct wire_compare c;
    struct wire_op op;
    out->succeeded = true;
    wire_txn_compares(r, &it);
    while (wire_next_compare(&it, &c))
        out->succeeded = out->succeeded && compare(t, &c);
    wire_txn_ops(r, out->succeeded, &it);
    while (wire_next_op(&it, &op))
        if (op.kind == WIRE_OP_PUT && op.put.lease != 0 && !lease_exists(t->m, op.put.lease))
            return TV_LEASE_NOT_FOUND;
    wire_txn_ops(r, out->succeeded, &it);
    while (wire_next_op(&it, &op)) {
        if (op.kind == WIRE_OP_PUT)
            put(t, &op.put);
        else if (op.kind == WIRE_OP_DELETE_RANGE)
            out->deleted += delete_range(t, op.delete_range.key, op.delete_range.range_end);
    }
    return 0;
}

/* --- leases --- */

static int grant(struct model *m, const struct wire_lease_grant_request *r, uint64_t index)
{
    if (lease_exists(m, r->id))
        return TV_LEASE_EXIST;
    if (m->leases_count == m->leases_capacity) {
        m->leases_capacity = m->leases_capacity == 0 ? 16 : m->leases_capacity * 2;
        m->leases = mem_realloc(m->leases, m->leases_capacity * sizeof(*m->leases));
    }
    int64_t ttl = r->ttl < MODEL_LEASE_TTL_MIN_S ? MODEL_LEASE_TTL_MIN_S : r->ttl;
    m->leases[m->leases_count++] =
        (struct model_lease){.id = r->id, .ttl_s = ttl, .granted_index = index};
    return 0;
}

static int revoke(struct txn *t, int64_t id, struct model_outcome *out)
{
    if (!lease_exists(t->m, id))
        return TV_LEASE_NOT_FOUND;
    for (uint32_t k = 0; k < MODEL_KEYS_COUNT; k++) {
        const struct model_version *v = now(t, k);
        if (v != NULL && v->lease == id) {
            add_version(t, k, (struct model_version){.tombstone = true});
            out->deleted++;
        }
    }
    struct model_lease *l = model_lease(t->m, id);
    l->ended_index = t->m->index;
    l->ended_at_us = out->at_us;
    return 0;
}

/* --- alarms --- */

static void alarm(struct model *m, struct slice body)
{
    struct alarm_request r;
    if (alarm_request_decode(body, &r) != 0 || r.type != ALARM_NOSPACE || r.reason == 0)
        sim_fail("an alarm that no member raises was committed");
    uint32_t i = 0;
    while (i < m->alarms_count && m->alarms[i].member != r.member_id)
        i++;
    ASSERT(i < MODEL_ALARMS_MAX);
    if (i == m->alarms_count)
        m->alarms[m->alarms_count++] = (struct model_alarm){.member = r.member_id};
    if (r.action == ALARM_ACTIVATE)
        m->alarms[i].reasons |= r.reason;
    else
        m->alarms[i].reasons &= ~r.reason;
    sim_now->stats->alarms += r.action == ALARM_ACTIVATE;
}

bool model_lacks_space(const struct model *m)
{
    for (uint32_t i = 0; i < m->alarms_count; i++)
        if (m->alarms[i].reasons != 0)
            return true;
    return false;
}

static bool puts_something(const struct wire_txn *txn)
{
    struct wire_txn_it it;
    struct wire_op op;
    for (int branch = 0; branch < 2; branch++) {
        wire_txn_ops(txn, branch == 0, &it);
        while (wire_next_op(&it, &op))
            if (op.kind == WIRE_OP_PUT)
                return true;
    }
    return false;
}

static bool adds(const struct wire_raft_request *entry)
{
    struct wire_txn txn;
    return entry->kind == WIRE_RAFT_PUT || entry->kind == WIRE_RAFT_LEASE_GRANT ||
           (entry->kind == WIRE_RAFT_TXN && wire_txn_decode(entry->body, &txn) == 0 &&
            puts_something(&txn));
}

/* --- one entry --- */

static void must(int err)
{
    if (err != 0)
        sim_fail("a committed entry does not decode");
}

static int run(struct txn *t, const struct wire_raft_request *entry, struct model_outcome *out)
{
    struct wire_put_request p;
    struct wire_delete_range_request d;
    struct wire_txn txn;
    struct wire_compaction_request c;
    struct wire_lease_grant_request g;
    struct wire_lease_id_request id;
    if (model_lacks_space(t->m) && adds(entry))
        return TV_NO_SPACE;
    switch (entry->kind) {
    case WIRE_RAFT_ALARM:
        alarm(t->m, entry->body);
        return 0;
    case WIRE_RAFT_PUT:
        must(wire_put_request_decode(entry->body, &p));
        if (p.lease != 0 && !lease_exists(t->m, p.lease))
            return TV_LEASE_NOT_FOUND;
        put(t, &p);
        return 0;
    case WIRE_RAFT_DELETE_RANGE:
        must(wire_delete_range_request_decode(entry->body, &d));
        out->deleted = delete_range(t, d.key, d.range_end);
        return 0;
    case WIRE_RAFT_TXN:
        must(wire_txn_decode(entry->body, &txn));
        return run_txn(t, &txn, out);
    case WIRE_RAFT_COMPACTION:
        must(wire_compaction_request_decode(entry->body, &c));
        if (c.revision <= t->m->compacted)
            return TV_COMPACTED;
        if (c.revision > t->m->revision)
            return TV_FUTURE_REV;
        t->m->compacted = c.revision;
        return 0;
    case WIRE_RAFT_LEASE_GRANT:
        must(wire_lease_grant_request_decode(entry->body, &g));
        out->lease = g.id;
        return grant(t->m, &g, t->m->index);
    case WIRE_RAFT_LEASE_REVOKE:
        must(wire_lease_revoke_request_decode(entry->body, &id));
        out->lease = id.id;
        out->is_revoke = true;
        return revoke(t, id.id, out);
    default:
        return 0; /* nothing of the key space or the leases */
    }
}

void model_apply(struct model *m, uint64_t index, struct slice payload, uint64_t now_us)
{
    ASSERT(index == m->index + 1);
    m->index = index;
    if (index == m->outcomes_capacity) {
        m->outcomes_capacity *= 2;
        m->outcomes = mem_realloc(m->outcomes, m->outcomes_capacity * sizeof(*m->outcomes));
    }
    struct model_outcome out = {.at_us = now_us};
    struct wire_raft_request entry = {0};
    if (payload.size > 0) {
        must(wire_raft_request_decode(payload, &entry));
        struct txn t = {.m = m, .revision = m->revision + 1};
        out.err = run(&t, &entry, &out);
        if (t.sub > 0)
            m->revision++;
    }
    out.revision = m->revision;
    out.compacted = m->compacted;
    m->outcomes[index] = out;
    if (payload.size > 0)
        clients_committed(sim_now->clients, index, &entry);
}

#include "server/apply_internal.h"

#include "server/auth_request.h"
#include "server/exec.h"
#include "server/member.h"
#include "server/quota.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

void applier_init(struct applier *a, struct mvcc *m, struct lessor *l, struct cluster *cluster,
                  uint64_t member_id)
{
    *a = (struct applier){.mvcc = m, .lessor = l, .cluster = cluster, .member_id = member_id};
    alarms_init(&a->alarms);
    auth_init(&a->auth, mvcc_epoch(m));
    versions_init(&a->versions);
    arena_init(&a->arena);
}

void applier_fini(struct applier *a)
{
    persist_metas_free(a->metas);
    alarms_fini(&a->alarms);
    auth_fini(&a->auth);
    arena_fini(&a->arena);
}

struct wire_header applier_header(const struct applier *a, int64_t revision)
{
    return (struct wire_header){.cluster_id = a->cluster->id,
                                .member_id = a->member_id,
                                .revision = revision,
                                .raft_term = a->term};
}

/* --- the key space --- */

static struct exec exec_of(struct applier *a, const struct request *req)
{
    return (struct exec){.mvcc = a->mvcc,
                         .writer = true,
                         .want_results = req != NULL,
                         .lessor = a->lessor,
                         .arena = &a->arena};
}

static void encode_answer(struct applier *a, struct exec_result *r, struct request *req)
{
    struct wire_header header = applier_header(a, 0);
    uint8_t *p = request_reply_reserve(req, exec_response_size(r, header));
    exec_response_put(r, header, p);
}

void applier__must_decode(int err)
{
    if (err != 0)
        tv_fatal("a committed log entry does not decode");
}

static int run_kv(struct applier *a, const struct wire_raft_request *entry, struct exec *x,
                  struct exec_result *ret)
{
    struct wire_put_request put;
    struct wire_delete_range_request del;
    struct wire_txn txn;
    switch (entry->kind) {
    case WIRE_RAFT_PUT:
        applier__must_decode(wire_put_request_decode(entry->body, &put));
        return exec_put(x, &put, ret);
    case WIRE_RAFT_DELETE_RANGE:
        applier__must_decode(wire_delete_range_request_decode(entry->body, &del));
        return exec_delete(x, &del, ret);
    default:
        applier__must_decode(wire_txn_decode(entry->body, &txn));
        return exec_txn(x, &txn, ret);
    }
}

static int apply_kv(struct applier *a, const struct wire_raft_request *entry, struct request *req)
{
    struct exec x = exec_of(a, req);
    struct exec_result result = {0};
    mvcc_txn_begin(a->mvcc);
    int err = run_kv(a, entry, &x, &result);
    mvcc_txn_end(a->mvcc);
    kv_meters_add(&a->meters.kv, &x.tally);
    kv_meters_add(&a->meters.kv, &x.tally_before);
    if (err == 0 && req != NULL)
        encode_answer(a, &result, req);
    exec_result_fini(&result);
    arena_clear(&a->arena);
    return err;
}

void applier__answer_header(struct applier *a, struct request *req)
{
    if (req == NULL)
        return;
    struct wire_header h = applier_header(a, mvcc_txn_revision(a->mvcc));
    wire_header_put(request_reply_reserve(req, wire_header_size(&h)), &h);
}

static int apply_compaction(struct applier *a, const struct wire_raft_request *entry,
                            struct request *req)
{
    struct wire_compaction_request c;
    applier__must_decode(wire_compaction_request_decode(entry->body, &c));
    int err = mvcc_compact(a->mvcc, c.revision);
    if (err != 0)
        return err;
    a->compacted = true;
    metric_add(&a->meters.kv.ranges, 1); /* etcd reads a key for the revision of its answer */
    applier__answer_header(a, req);
    return 0;
}

/* --- leases --- */

static int apply_lease_grant(struct applier *a, const struct wire_raft_request *entry,
                             struct request *req)
{
    struct wire_lease_grant_request g;
    applier__must_decode(wire_lease_grant_request_decode(entry->body, &g));
    int64_t granted;
    int err = lessor_grant(a->lessor, g.id, g.ttl, a->now_ms, &granted);
    if (err != 0)
        return err;
    persist_meta_put_lease(&a->metas, &(struct lsm_lease){.id = g.id, .granted_ttl = granted});
    metric_add(&a->meters.leases_granted, 1);
    metric_observe(&a->meters.lease_ttl, METER_TTL_SCALE, (uint64_t)granted);
    if (req != NULL) {
        struct wire_header h = applier_header(a, mvcc_txn_revision(a->mvcc));
        uint8_t *p = request_reply_reserve(req, wire_lease_grant_response_size(&h, g.id, granted));
        wire_lease_grant_response_put(p, &h, g.id, granted);
    }
    return 0;
}

static void delete_key(void *ctx, struct slice key)
{
    exec_delete_key(ctx, key);
}

/* All keys of the lease go at one revision, in key order. */
static int apply_lease_revoke(struct applier *a, const struct wire_raft_request *entry,
                              struct request *req)
{
    struct wire_lease_id_request r;
    applier__must_decode(wire_lease_revoke_request_decode(entry->body, &r));
    if (!lessor_exists(a->lessor, r.id))
        return TV_LEASE_NOT_FOUND;
    struct exec x = exec_of(a, NULL);
    x.lessor = NULL; /* the lease goes as a whole */
    mvcc_txn_begin(a->mvcc);
    lessor_each_key(a->lessor, r.id, delete_key, &x);
    mvcc_txn_end(a->mvcc);
    kv_meters_add(&a->meters.kv, &x.tally);
    metric_add(&a->meters.leases_revoked, 1);
    lessor_revoke(a->lessor, r.id);
    persist_meta_delete_lease(&a->metas, r.id);
    applier__answer_header(a, req);
    return 0;
}

/* Stored whoever has the feature on: members of a cluster must hold the same. */
static int apply_lease_checkpoint(struct applier *a, const struct wire_raft_request *entry,
                                  struct request *req)
{
    struct wire_reader r = wire_reader_of(entry->body);
    struct wire_field f;
    struct wire_lease_checkpoint c;
    struct lsm_lease stored;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type != WIRE_BYTES || f.number != WIRE_CHECKPOINTS_ITEM)
            continue;
        applier__must_decode(wire_lease_checkpoint_decode(f.bytes, &c));
        if (lessor_checkpoint(a->lessor, &c, a->now_ms, &stored))
            persist_meta_put_lease(&a->metas, &stored);
    }
    applier__must_decode(rv);
    applier__answer_header(a, req);
    return 0;
}

static struct bref *encode_entry(const struct wire_raft_request *r, uint32_t *ret_size)
{
    size_t size = wire_raft_request_whole_size(r);
    struct bref *payload = bref_new(size);
    wire_raft_request_whole_put(payload->data, r);
    *ret_size = (uint32_t)size;
    return payload;
}

static struct bref *encode_payload(uint32_t kind, struct slice body, uint64_t request_id,
                                   uint32_t *ret_size)
{
    const struct wire_raft_request r = {.id = request_id, .kind = kind, .body = body};
    return encode_entry(&r, ret_size);
}

struct bref *applier_encode_revoke(int64_t lease_id, uint64_t request_id, uint32_t *ret_size)
{
    uint8_t body[16];
    size_t body_size = wire_lease_revoke_request_size(lease_id);
    ASSERT(body_size <= sizeof(body));
    wire_lease_revoke_request_put(body, lease_id);
    /* While it is on its way auth may be enabled, and only root may end any lease. */
    const struct wire_raft_request r = {.id = request_id,
                                        .username = AUTH_ROOT,
                                        .kind = WIRE_RAFT_LEASE_REVOKE,
                                        .body = slice_of(body, body_size)};
    return encode_entry(&r, ret_size);
}

struct bref *applier_encode_checkpoints(const struct wire_lease_checkpoint *checkpoints,
                                        uint32_t count, uint64_t request_id, uint32_t *ret_size)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += wire_item_size(WIRE_CHECKPOINTS_ITEM, wire_lease_checkpoint_size(&checkpoints[i]));
    uint8_t *body = mem_alloc(size), *p = body;
    for (uint32_t i = 0; i < count; i++) {
        p = wire_item_put_head(p, WIRE_CHECKPOINTS_ITEM,
                               wire_lease_checkpoint_size(&checkpoints[i]));
        p = wire_lease_checkpoint_put(p, &checkpoints[i]);
    }
    ASSERT(p == body + size);
    struct bref *payload =
        encode_payload(WIRE_RAFT_LEASE_CHECKPOINT, slice_of(body, size), request_id, ret_size);
    mem_free(body);
    return payload;
}

bool applier_was_own_revoke(const struct applier *a, const struct wire_raft_request *entry)
{
    return entry->kind == WIRE_RAFT_LEASE_REVOKE && entry->id >> 48 == (a->member_id & 0xffff);
}

struct id_list {
    uint8_t *p;
    size_t size;
};

struct leases {
    int64_t *ids;
    size_t count;
    size_t size; /* encoded */
};

static void note_lease(void *ctx, int64_t id)
{
    struct leases *l = ctx;
    l->ids[l->count++] = id;
    l->size += wire_lease_status_size(id);
}

void applier_lease_list(struct applier *a, struct request *req)
{
    struct wire_header h = applier_header(a, mvcc_txn_revision(a->mvcc));
    struct leases l = {.ids = mem_alloc((lessor_count(a->lessor) + 1) * sizeof(*l.ids))};
    lessor_each(a->lessor, note_lease, &l);
    uint8_t *p = request_reply_reserve(req, wire_header_size(&h) + l.size);
    p = wire_header_put(p, &h);
    for (size_t i = 0; i < l.count; i++)
        p = wire_lease_status_put(p, l.ids[i]);
    mem_free(l.ids);
}

static void measure_key(void *ctx, struct slice key)
{
    struct id_list *l = ctx;
    l->size += wire_item_size(WIRE_LEASE_TTL_KEYS, key.size);
}

static void put_key(void *ctx, struct slice key)
{
    struct id_list *l = ctx;
    l->p = wire_item_put(l->p, WIRE_LEASE_TTL_KEYS, key);
}

void applier_lease_keys(struct applier *a, struct request *req)
{
    struct id_list l = {0};
    lessor_each_key(a->lessor, req->lease_id, measure_key, &l);
    l.p = request_reply_reserve(req, l.size);
    lessor_each_key(a->lessor, req->lease_id, put_key, &l);
}

/* --- alarms --- */

static int apply_alarm(struct applier *a, const struct wire_raft_request *entry,
                       struct request *req)
{
    struct alarm_request r;
    applier__must_decode(alarm_request_decode(entry->body, &r));
    struct wire_header h = applier_header(a, mvcc_txn_revision(a->mvcc));
    struct buf answer;
    buf_init(&answer, SIZE_MAX);
    size_t head_size = wire_header_size(&h);
    (void)wire_header_put(buf_reserve(&answer, head_size), &h);
    answer.size = head_size;

    bool changed;
    int err = alarms_apply(&a->alarms, &r, &answer, &changed);
    if (err == 0 && req != NULL)
        memcpy(request_reply_reserve(req, answer.size), answer.data, answer.size);
    if (changed) {
        buf_clear(&answer);
        alarms_encode(&a->alarms, &answer);
        persist_meta_put(&a->metas, STATE_RECORD_ALARMS, buf_slice(&answer));
        log_warn(r.action == ALARM_ACTIVATE ? "alarm raised" : "alarm cleared",
                 LOG_HEX("member-id", r.member_id), LOG_STR("alarm", alarm_type_name(r.type)),
                 LOG_STR("reason", r.reason == ALARM_FOR_DISK         ? "disk space"
                                   : r.reason == ALARM_FOR_DIFFERENCE ? "contents differ"
                                                                      : "request"));
    }
    buf_fini(&answer);
    return err;
}

struct bref *applier_encode_alarm(const struct alarm_request *r, uint64_t request_id,
                                  uint32_t *ret_size)
{
    uint8_t body[64];
    size_t body_size = alarm_request_size(r);
    ASSERT(body_size <= sizeof(body));
    alarm_request_put(body, r);
    return encode_payload(WIRE_RAFT_ALARM, slice_of(body, body_size), request_id, ret_size);
}

/* What the alarms that stand do not let through. Decided here and not before the log, so that all
 * members decide alike. */
static int refused_by_alarm(struct applier *a, const struct wire_raft_request *entry)
{
    bool corrupt = alarms_active(&a->alarms, ALARM_CORRUPT);
    bool no_space = alarms_active(&a->alarms, ALARM_NOSPACE);
    if (!corrupt && !no_space)
        return 0;
    struct wire_txn txn;
    switch (entry->kind) {
    case WIRE_RAFT_PUT:
    case WIRE_RAFT_LEASE_GRANT:
        return corrupt ? TV_CORRUPT : TV_NO_SPACE;
    case WIRE_RAFT_TXN:
        if (corrupt)
            return TV_CORRUPT;
        applier__must_decode(wire_txn_decode(entry->body, &txn));
        return quota_txn_bytes(&txn) > 0 ? TV_NO_SPACE : 0;
    case WIRE_RAFT_DELETE_RANGE:
    case WIRE_RAFT_COMPACTION:
    case WIRE_RAFT_LEASE_REVOKE:
        return corrupt ? TV_CORRUPT : 0;
    }
    return 0;
}

/* --- members --- */

void applier_members_changed(struct applier *a)
{
    struct buf encoded;
    buf_init(&encoded, SIZE_MAX);
    cluster_encode(a->cluster, &encoded);
    persist_meta_put(&a->metas, STATE_RECORD_MEMBERS, buf_slice(&encoded));
    buf_fini(&encoded);
}

static int apply_member_attr(struct applier *a, const struct wire_raft_request *entry,
                             struct request *req)
{
    struct wire_member_attr attr;
    applier__must_decode(wire_member_attr_decode(entry->body, &attr));
    cluster_set_attributes(a->cluster, attr.member_id, attr.name, attr.client_urls,
                           attr.client_urls_count);
    applier_members_changed(a);
    applier__answer_header(a, req);
    return 0;
}

/* etcdserverpb.Member: 1 ID, 2 name, 3 peerURLs, 4 clientURLs, 5 isLearner. */
static size_t member_size(const struct cluster_member *m)
{
    size_t size = wire_uint_size(1, m->id) + wire_bytes_size(2, slice_of_string(m->name));
    for (uint32_t i = 0; i < m->peer_urls_count; i++)
        size += wire_item_size(3, strlen(m->peer_urls[i]));
    for (uint32_t i = 0; i < m->client_urls_count; i++)
        size += wire_item_size(4, strlen(m->client_urls[i]));
    return size + wire_uint_size(5, m->learner);
}

static uint8_t *member_put(const struct cluster_member *m, uint8_t *p)
{
    p = wire_bytes_put(wire_uint_put(p, 1, m->id), 2, slice_of_string(m->name));
    for (uint32_t i = 0; i < m->peer_urls_count; i++)
        p = wire_item_put(p, 3, slice_of_string(m->peer_urls[i]));
    for (uint32_t i = 0; i < m->client_urls_count; i++)
        p = wire_item_put(p, 4, slice_of_string(m->client_urls[i]));
    return wire_uint_put(p, 5, m->learner);
}

/* All of Cluster's answers: 1 header, then the member that was added, where one was, then all. */
static void answer_members(struct applier *a, struct request *req,
                           const struct cluster_member *added)
{
    struct wire_header h = applier_header(a, 0); /* etcd's has no revision here */
    uint32_t field = added != NULL ? 3 : 2;
    size_t size = wire_header_size(&h);
    if (added != NULL)
        size += wire_item_size(2, member_size(added));
    for (uint32_t i = 0; i < a->cluster->members_count; i++)
        size += wire_item_size(field, member_size(&a->cluster->members[i]));
    uint8_t *p = wire_header_put(request_reply_reserve(req, size), &h);
    if (added != NULL)
        p = member_put(added, wire_item_put_head(p, 2, member_size(added)));
    for (uint32_t i = 0; i < a->cluster->members_count; i++) {
        const struct cluster_member *m = &a->cluster->members[i];
        p = member_put(m, wire_item_put_head(p, field, member_size(m)));
    }
}

void applier_member_list(struct applier *a, struct request *req)
{
    answer_members(a, req, NULL);
}

void applier_member_change(struct applier *a, struct request *req,
                           const struct member_change *change)
{
    bool adds = change->kind == MEMBER_ADD || change->kind == MEMBER_ADD_LEARNER;
    answer_members(a, req, adds ? cluster_find(a->cluster, change->id) : NULL);
}

/* --- versions --- */

static int apply_versions(struct applier *a, const struct wire_raft_request *entry,
                          struct request *req)
{
    uint8_t record[VERSIONS_RECORD_BYTES];
    if (entry->kind == WIRE_RAFT_CLUSTER_VERSION_SET)
        applier__must_decode(versions_apply_cluster_set(&a->versions, entry->body));
    else
        applier__must_decode(versions_apply_downgrade_set(&a->versions, entry->body));
    versions_encode(&a->versions, record);
    persist_meta_put(&a->metas, STATE_RECORD_VERSIONS, slice_of(record, sizeof(record)));
    struct versions_now now;
    versions_now(&a->versions, &now);
    log_info("the cluster's version", LOG_INT("minor", now.minor),
             LOG_BOOL("downgrade", now.downgrade), LOG_INT("target-minor", now.target_minor));
    applier__answer_header(a, req);
    return 0;
}

struct bref *applier_encode_cluster_version(uint16_t minor, uint64_t request_id, uint32_t *ret_size)
{
    uint8_t body[64];
    size_t size = versions_put_cluster_set(body, sizeof(body), minor);
    return encode_payload(WIRE_RAFT_CLUSTER_VERSION_SET, slice_of(body, size), request_id,
                          ret_size);
}

/* --- one entry --- */

void applier_decode(struct slice payload, struct wire_raft_request *ret)
{
    applier__must_decode(wire_raft_request_decode(payload, ret));
}

/* The key that the entry is about, as far as one look tells. */
static struct slice key_of(const struct wire_raft_request *entry)
{
    enum { PUT_KEY = 1, COMPARE_KEY = 3 };
    struct wire_reader r = wire_reader_of(entry->body);
    uint32_t field = PUT_KEY;
    struct wire_field f;
    if (entry->kind == WIRE_RAFT_TXN) {
        if (wire_next_field(&r, &f) != 1 || f.number != WIRE_TXN_COMPARE || f.type != WIRE_BYTES)
            return SLICE_EMPTY;
        r = wire_reader_of(f.bytes);
        field = COMPARE_KEY;
    } else if (entry->kind != WIRE_RAFT_PUT) {
        return SLICE_EMPTY;
    }
    while (wire_next_field(&r, &f) == 1)
        if (f.number == field && f.type == WIRE_BYTES)
            return f.bytes;
    return SLICE_EMPTY;
}

void applier_warm(const struct applier *a, const struct wire_raft_request *entries, uint32_t count)
{
    struct slice keys[APPLY_WARM_MAX];
    uint32_t keys_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice key = key_of(&entries[i]);
        if (key.size > 0)
            keys[keys_count++] = key;
    }
    mvcc_txn_warm(a->mvcc, keys, keys_count);
}

/* --- agreement --- */

static int take_verdict(struct applier *a, const struct wire_raft_request *entry)
{
    struct wire_verdict v;
    applier__must_decode(wire_verdict_decode(entry->body, &v));
    a->last_verdict = (struct agree_report){.mark = v.mark, .digest = v.digest};
    return 0;
}

struct bref *applier_encode_mark(uint64_t request_id, uint32_t *ret_size)
{
    return encode_payload(WIRE_RAFT_MARK, SLICE_EMPTY, request_id, ret_size);
}

struct bref *applier_encode_verdict(const struct agree_report *v, uint64_t request_id,
                                    uint32_t *ret_size)
{
    uint8_t body[24];
    struct wire_verdict w = {.mark = v->mark, .digest = v->digest};
    ASSERT(wire_verdict_size(&w) <= sizeof(body));
    size_t size = (size_t)(wire_verdict_put(body, &w) - body);
    return encode_payload(WIRE_RAFT_VERDICT, slice_of(body, size), request_id, ret_size);
}

/* What such an entry did is in the versions that it made. */
static bool is_kv(uint32_t kind)
{
    return kind == WIRE_RAFT_PUT || kind == WIRE_RAFT_DELETE_RANGE || kind == WIRE_RAFT_TXN;
}

static int apply_entry(struct applier *a, const struct wire_raft_request *entry,
                       struct request *req)
{
    int refused = refused_by_alarm(a, entry);
    if (refused == 0 && auth_is_enabled(&a->auth))
        refused = applier__permit(a, entry);
    if (refused != 0)
        return refused;
    switch (entry->kind) {
    case WIRE_RAFT_PUT:
    case WIRE_RAFT_DELETE_RANGE:
    case WIRE_RAFT_TXN:
        return apply_kv(a, entry, req);
    case WIRE_RAFT_COMPACTION:
        return apply_compaction(a, entry, req);
    case WIRE_RAFT_LEASE_GRANT:
        return apply_lease_grant(a, entry, req);
    case WIRE_RAFT_LEASE_REVOKE:
        return apply_lease_revoke(a, entry, req);
    case WIRE_RAFT_LEASE_CHECKPOINT:
        return apply_lease_checkpoint(a, entry, req);
    case WIRE_RAFT_ALARM:
        return apply_alarm(a, entry, req);
    case WIRE_RAFT_MEMBER_ATTR_SET:
        return apply_member_attr(a, entry, req);
    case WIRE_RAFT_CLUSTER_VERSION_SET:
    case WIRE_RAFT_DOWNGRADE_INFO_SET:
        return apply_versions(a, entry, req);
    case WIRE_RAFT_MARK:
        return 0; /* the core's */
    case WIRE_RAFT_VERDICT:
        return take_verdict(a, entry);
    }
    if (auth_request_is_kind(entry->kind))
        return applier__apply_auth(a, entry, req);
    /* Passing it over would make this member differ from those that know it. */
    tv_fatal("a committed log entry has kind %u, which this version does not know", entry->kind);
}

int applier_apply(struct applier *a, const struct wire_raft_request *entry, struct request *req)
{
    uint64_t added = mvcc_content_added(a->mvcc);
    int err = apply_entry(a, entry, req);
    if (req != NULL)
        req->err = err;
    a->last_kind = entry->kind;
    struct agree_entry step = {.kind = entry->kind,
                               .err = err,
                               .revision = mvcc_txn_revision(a->mvcc),
                               .added = mvcc_content_added(a->mvcc) - added,
                               .body = is_kv(entry->kind) ? SLICE_EMPTY : entry->body};
    a->chain = agree_step(a->chain, &step);
    return err;
}

struct persist_batch *applier_take_batch(struct applier *a, uint64_t index, uint64_t term)
{
    struct persist_batch *b = mem_alloc_zero(sizeof(*b));
    b->applied_index = index;
    b->applied_term = term;
    b->revision = mvcc_revision(a->mvcc);
    b->compacted = mvcc_compacted(a->mvcc);
    mvcc_content(a->mvcc, &b->content);
    b->chain = a->chain;
    b->metas = a->metas;
    a->metas = NULL;
    return b;
}

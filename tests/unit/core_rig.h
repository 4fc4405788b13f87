/* Three cores in one thread, on disks in memory. Nothing here depends on time or chance: a round is
 * one heartbeat. */
#ifndef TESTS_UNIT_CORE_RIG_H
#define TESTS_UNIT_CORE_RIG_H

#include "unit.h"

#include "server/core.h"
#include "server/restore.h"

#include "base/err.h"
#include "base/mem.h"
#include "storage/disk_mem.h"

#include <stdio.h>
#include <string.h>

enum { NODES = 3, HEARTBEAT_MS = 100, ELECTION_MS = 1000, ELECTION_TICKS = 10, NET_MAX = 4096 };

struct node {
    uint64_t id;
    struct disk *disk;
    struct wal *wal;
    struct mvcc *mvcc;
    struct lessor *lessor;
    struct applier applier;
    struct persist *persist;
    struct core *core;
    bool cut_off; /* nothing reaches it, nothing leaves it */
};

static struct cluster members;
static struct node nodes[NODES];
static struct raft_msg *net[NET_MAX];
static uint32_t net_count;
static uint64_t now_ms;
static uint64_t clock_ns;       /* the test's to move; 0 at start(): the core has no clock */
static uint64_t clock_step_ns;  /* and by itself with each look */
static uint64_t log_keep_bytes; /* 0: the default; set before start(), as the next one */
static uint32_t large_bytes;

/* --- the world --- */

static inline void store_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    (void)ctx, (void)m;
    *ret_meta = LSM_META_FRESH;
}

static inline void store_put(void *ctx, const struct mvcc_version *v)
{
    (void)ctx, (void)v;
}

static inline void store_commit(void *ctx, const struct lsm_meta *meta,
                                const struct persist_meta *metas)
{
    (void)ctx, (void)meta, (void)metas;
}

static inline void store_detach(void *ctx)
{
    (void)ctx;
}

static inline void env_send(void *ctx, const struct raft_msg *msg)
{
    const struct node *n = ctx;
    if (n->cut_off || net_count == NET_MAX)
        return;
    struct raft_msg *copy = mem_dup(msg, sizeof(*msg));
    copy->entries = mem_dup(msg->entries, msg->entries_count * sizeof(*msg->entries));
    for (uint32_t i = 0; i < msg->entries_count; i++)
        if (msg->entries[i].owner != NULL)
            bref_ref(msg->entries[i].owner);
    net[net_count++] = copy;
}

static inline void env_send_question(void *ctx, uint64_t to, const struct core_question *msg)
{
    (void)ctx, (void)to, (void)msg;
}

static inline void env_answer(void *ctx, struct request *req)
{
    (void)ctx;
    req->answered(NULL, req);
    bref_unref(req->payload);
    bref_unref(req->reply);
    mem_free(req);
}

static inline void env_published(void *ctx)
{
    (void)ctx;
}

/* Copies are only asked for. */
static inline int env_copy_store(void *ctx, struct snapfile **ret)
{
    (void)ctx;
    *ret = NULL;
    return 0;
}

static uint64_t wake_in_ms; /* what was asked for last; 0 = nothing */

static uint32_t wakes; /* how often a turn was asked for at once */

static inline void env_wake(void *ctx)
{
    (void)ctx;
    wakes++;
}

static inline uint64_t env_clock_ns(void *ctx)
{
    clock_ns += clock_step_ns;
    return clock_ns;
}

static inline void env_wake_in(void *ctx, uint64_t ms)
{
    (void)ctx;
    wake_in_ms = ms;
}

static inline void on_wal_done(void *ctx, uint64_t seq)
{
    core_log_written(((struct node *)ctx)->core, seq);
}

static inline void node_start(struct node *n, uint64_t id)
{
    char err_text[256];
    *n = (struct node){.id = id, .disk = disk_mem_new(id), .mvcc = mvcc_new(NULL)};
    n->lessor = lessor_new(2);
    applier_init(&n->applier, n->mvcc, n->lessor, &members, id);
    struct persist_store ops = {
        .attach = store_attach, .put = store_put, .commit = store_commit, .detach = store_detach};
    struct persist_options po;
    persist_options_init(&po);
    po.mvcc = n->mvcc;
    po.store = &ops;
    po.threaded = false;
    po.flush_entries = 50;
    n->persist = persist_new(&po);
    struct restore r;
    restore_init(&r, 0);
    struct wal_options wo;
    wal_options_init(&wo);
    wo.disk = n->disk;
    wo.segment_size_bytes = 256 << 10;
    wo.cluster_id = members.id;
    wo.member_id = id;
    wo.salt = 7;
    struct wal_replay replay = restore_replay(&r);
    ck_assert_int_eq(wal_open(&wo, &replay, &n->wal, err_text, sizeof(err_text)), 0);
    struct core_options o = {.cluster = &members,
                             .member_id = id,
                             .mvcc = n->mvcc,
                             .wal = n->wal,
                             .persist = n->persist,
                             .applier = &n->applier,
                             .env = {.ctx = n,
                                     .send = env_send,
                                     .send_question = env_send_question,
                                     .answer = env_answer,
                                     .published = env_published,
                                     .copy_store = env_copy_store,
                                     .wake = env_wake,
                                     .wake_in = env_wake_in,
                                     .clock_ns = clock_ns != 0 ? env_clock_ns : NULL},
                             .heartbeat_ms = HEARTBEAT_MS,
                             .election_ms = ELECTION_MS,
                             .pre_vote = true,
                             .seed = id,
                             .id_seed = 1000,
                             .lease_checkpoint_ms = 10000,
                             .priority_requests = id == members.members[0].id,
                             .log_keep_bytes = log_keep_bytes,
                             .large_bytes = large_bytes,
                             .snapshot_count = 100000};
    n->core = core_new(&o);
    wal_set_done(n->wal, on_wal_done, n);
    restore_fini(&r);
}

static inline void start(void)
{
    char err_text[256];
    now_ms = 1000;
    ck_assert_int_eq(cluster_from_initial("a=http://a:1,b=http://b:1,c=http://c:1", "t", &members,
                                          err_text, sizeof(err_text)),
                     0);
    for (int i = 0; i < NODES; i++)
        node_start(&nodes[i], members.members[i].id);
}

static inline void free_msg(struct raft_msg *m)
{
    for (uint32_t i = 0; i < m->entries_count; i++)
        bref_unref(m->entries[i].owner);
    mem_free((void *)m->entries);
    mem_free(m);
}

static inline void deliver(void)
{
    for (uint32_t at = 0; at < net_count; at++) {
        for (int i = 0; i < NODES; i++)
            if (nodes[i].id == net[at]->to && !nodes[i].cut_off)
                core_receive(nodes[i].core, net[at]);
        free_msg(net[at]);
    }
    net_count = 0;
}

/* What is on its way is lost. */
static inline void lose_all(void)
{
    for (uint32_t i = 0; i < net_count; i++)
        free_msg(net[i]);
    net_count = 0;
}

static inline void settle(void)
{
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < NODES; k++) {
            wal_poll(nodes[k].wal);
            core_turn(nodes[k].core, now_ms);
        }
        deliver();
    }
}

static inline void round_of(uint32_t count)
{
    while (count-- > 0) {
        now_ms += HEARTBEAT_MS;
        for (int i = 0; i < NODES; i++)
            core_tick(nodes[i].core, now_ms);
        settle();
    }
}

static inline void stop(void)
{
    lose_all();
    for (int i = 0; i < NODES; i++) {
        struct node *n = &nodes[i];
        disk_mem_set_completion_percent(n->disk, 100);
        disk_mem_set_capacity(n->disk, 0);
        core_free(n->core);
        wal_set_done(n->wal, NULL, NULL);
        wal_close(n->wal);
        disk_close(n->disk);
        persist_free(n->persist);
        applier_fini(&n->applier);
        lessor_free(n->lessor);
        mvcc_free(n->mvcc);
    }
    cluster_fini(&members);
}

/* As if a compaction had been applied: what follows is each member's own. */
static inline void compact_all(void)
{
    for (int i = 0; i < NODES; i++) {
        ck_assert_int_eq(mvcc_compact(nodes[i].mvcc, mvcc_revision(nodes[i].mvcc)), 0);
        nodes[i].applier.compacted = true;
    }
}

/* The node that leads and knows it; NULL when there is none. */
static inline struct node *leader(void)
{
    for (int i = 0; i < NODES; i++) {
        struct core_status s;
        core_status(nodes[i].core, &s);
        if (s.leader == nodes[i].id && !nodes[i].cut_off)
            return &nodes[i];
    }
    return NULL;
}

static inline struct node *wait_for_leader(void)
{
    for (int i = 0; i < 100 && leader() == NULL; i++)
        round_of(1);
    ck_assert_ptr_nonnull(leader());
    round_of(3);
    return leader();
}

static inline bool leads(const struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    return s.leader == n->id;
}

/* --- requests --- */

enum { WAITS = 1 };

static int outcome; /* of the last request; WAITS: none yet */

static inline void on_answered(struct worker *w, struct request *req)
{
    (void)w;
    outcome = req->err;
}

static inline struct request *new_request(enum request_kind kind)
{
    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = kind;
    req->answered = on_answered;
    outcome = WAITS;
    return req;
}

static inline struct request *propose(struct node *n, uint32_t kind, struct slice body)
{
    struct request *req = new_request(REQUEST_PROPOSE);
    req->id = core_next_request_id(n->core);
    req->payload_size = (uint32_t)wire_raft_request_size(kind, req->id, body);
    req->payload = bref_new(req->payload_size);
    wire_raft_request_put(req->payload->data, kind, req->id, body);
    core_submit(n->core, req);
    return req;
}

static inline struct request *submit_put_of(struct node *n, const char *key, size_t value_size)
{
    static uint8_t body[70000], value[60000];
    for (size_t i = 0; i < value_size; i++)
        value[i] = (uint8_t)(i * 7 + value_size);
    struct wire_put_request put = {.key = slice_of_string(key),
                                   .value = slice_of(value, value_size)};
    return propose(n, WIRE_RAFT_PUT,
                   slice_of(body, (size_t)(wire_put_request_put(body, &put) - body)));
}

static inline struct request *submit_put(struct node *n, size_t value_size)
{
    return submit_put_of(n, "k", value_size);
}

static inline int put(struct node *n, size_t value_size)
{
    submit_put(n, value_size);
    for (int i = 0; i < 3 && outcome == WAITS; i++)
        round_of(1);
    return outcome;
}

static inline int delete_key(struct node *n)
{
    uint8_t body[64];
    struct wire_delete_range_request del = {.key = SLICE_LITERAL("k")};
    propose(n, WIRE_RAFT_DELETE_RANGE,
            slice_of(body, (size_t)(wire_delete_range_request_put(body, &del) - body)));
    for (int i = 0; i < 3 && outcome == WAITS; i++)
        round_of(1);
    return outcome;
}

static inline void stall(struct node *n)
{
    disk_mem_set_completion_percent(n->disk, 0);
}

static inline void stall_all(bool stalled)
{
    for (int i = 0; i < NODES; i++)
        disk_mem_set_completion_percent(nodes[i].disk, stalled ? 0 : 100);
}

#endif

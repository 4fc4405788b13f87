/* Three whole nodes without sockets or clocks in one thread: core, log, applier and store, on disks
 * in memory, under lost and late messages and power failures. What was acknowledged is there on
 * every node afterwards, a linearizable read sees what was acknowledged before it was asked, and
 * all stores have one hash.
 *
 *   test_core_random [seeds [first seed]]
 *
 * A failing run prints its seed; the same seed replays the same run. */
#include "server/core.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "storage/disk_mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NODES = 3, NET_MAX = 2000, PUTS_MAX = 20000, HEARTBEAT_MS = 100, STEPS = 4000 };

static uint64_t seed_now;

struct record {
    int64_t main;
    uint32_t sub;
    bool is_tombstone;
    struct bref *kv;
    uint32_t size;
};

/* What RocksDB would hold. */
struct sim_store {
    struct record *records;
    uint32_t count, committed, capacity;
    struct lsm_meta meta;
};

struct sim_node {
    struct sim *sim;
    uint64_t id;
    bool up;
    struct disk *disk;
    struct wal *wal;
    struct sim_store store;
    struct mvcc *mvcc;
    struct lessor *lessor;
    struct applier applier;
    struct persist *persist;
    struct core *core;
    struct raft_entry *entries; /* replayed */
    uint32_t entries_count, entries_capacity;
    struct raft_hard_state hard_state;
    bool turn_due;
};

struct sim {
    struct rng rng;
    struct cluster cluster;
    struct sim_node nodes[NODES];
    struct raft_msg *net[NET_MAX];
    uint32_t net_count;
    uint64_t now_ms;
    uint32_t puts;
    bool acked[PUTS_MAX];
    uint32_t acked_count, reads_count, crashes_count;
    bool calm;
};

/* A read remembers what it must see. */
struct sim_read {
    bool must_see[PUTS_MAX];
};

/* --- store --- */

static void store_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    (void)m;
    *ret_meta = ((struct sim_store *)ctx)->meta;
}

static void store_put(void *ctx, const struct mvcc_version *v)
{
    struct sim_store *s = ctx;
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 64 : s->capacity * 2;
        s->records = mem_realloc(s->records, s->capacity * sizeof(*s->records));
    }
    struct slice kv = mvcc_version_stored_kv(v);
    struct bref *copy = bref_new(kv.size);
    memcpy(copy->data, kv.data, kv.size);
    s->records[s->count++] = (struct record){.main = mvcc_version_mod_revision(v),
                                             .sub = mvcc_version_sub(v),
                                             .is_tombstone = mvcc_version_is_tombstone(v),
                                             .kv = copy,
                                             .size = (uint32_t)kv.size};
}

static void store_commit(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas)
{
    (void)metas;
    struct sim_store *s = ctx;
    s->committed = s->count;
    s->meta = *meta;
}

static void store_detach(void *ctx)
{
    struct sim_store *s = ctx;
    while (s->count > s->committed)
        bref_unref(s->records[--s->count].kv);
}

static void store_load(struct sim_store *s, struct mvcc *m)
{
    mvcc_load_begin(m);
    for (uint32_t i = 0; i < s->committed; i++) {
        struct record *r = &s->records[i];
        struct mvcc_version *v;
        int err =
            mvcc_version_new(r->main, r->sub, r->is_tombstone, slice_of(r->kv->data, r->size), &v);
        ASSERT(err == 0);
        err = mvcc_load_add(m, v);
        ASSERT(err == 0);
    }
    mvcc_load_end(m, s->meta.revision, s->meta.compacted);
}

/* --- the core's world --- */

static void env_send(void *ctx, const struct raft_msg *msg)
{
    struct sim *s = ((struct sim_node *)ctx)->sim;
    if (s->net_count == NET_MAX || (!s->calm && rng_below(&s->rng, 100) < 5))
        return;
    struct raft_msg *copy = mem_dup(msg, sizeof(*msg));
    copy->entries = mem_dup(msg->entries, msg->entries_count * sizeof(*msg->entries));
    for (uint32_t i = 0; i < msg->entries_count; i++)
        if (msg->entries[i].owner != NULL)
            bref_ref(msg->entries[i].owner);
    s->net[s->net_count++] = copy;
}

static void env_send_lease(void *ctx, uint64_t to, const struct core_lease_msg *msg)
{
    (void)ctx, (void)to, (void)msg;
}

static void env_answer(void *ctx, struct request *req)
{
    (void)ctx;
    req->answered(NULL, req);
    bref_unref(req->payload);
    bref_unref(req->reply);
    mem_free(req->user);
    mem_free(req);
}

static void env_published(void *ctx)
{
    (void)ctx;
}

static void env_wake(void *ctx)
{
    ((struct sim_node *)ctx)->turn_due = true;
}

static void on_wal_done(void *ctx, uint64_t seq)
{
    struct sim_node *n = ctx;
    core_log_written(n->core, seq);
    n->turn_due = true;
}

/* --- nodes --- */

static int on_entry(void *ctx, const struct wal_entry *e)
{
    struct sim_node *n = ctx;
    if (e->log_index <= n->store.meta.applied_index)
        return 0;
    while (n->entries_count > 0 && n->entries[n->entries_count - 1].log_index >= e->log_index)
        bref_unref(n->entries[--n->entries_count].owner);
    if (n->entries_count == n->entries_capacity) {
        n->entries_capacity = n->entries_capacity == 0 ? 64 : n->entries_capacity * 2;
        n->entries = mem_realloc(n->entries, n->entries_capacity * sizeof(*n->entries));
    }
    n->entries[n->entries_count++] =
        (struct raft_entry){.term = e->term,
                            .log_index = e->log_index,
                            .type = (enum raft_entry_type)e->type,
                            .data = e->data,
                            .owner = e->owner ? bref_ref(e->owner) : NULL};
    return 0;
}

static void on_hard_state(void *ctx, const struct wal_hard_state *hs)
{
    struct sim_node *n = ctx;
    n->hard_state =
        (struct raft_hard_state){.term = hs->term, .vote = hs->vote, .commit = hs->commit};
}

static void node_open_log(struct sim_node *n)
{
    char err_text[256];
    struct wal_options o;
    wal_options_init(&o);
    o.disk = n->disk;
    o.segment_size_bytes = 256 << 10;
    o.cluster_id = n->sim->cluster.id;
    o.member_id = n->id;
    o.salt = 7;
    struct wal_replay replay = {.ctx = n, .entry = on_entry, .hard_state = on_hard_state};
    n->hard_state = (struct raft_hard_state){0};
    int err = wal_open(&o, &replay, &n->wal, err_text, sizeof(err_text));
    if (err != 0)
        tv_fatal("wal_open: %s", err_text);
    if (n->hard_state.commit < n->store.meta.applied_index)
        n->hard_state.commit = n->store.meta.applied_index;
}

static void node_start(struct sim_node *n)
{
    n->mvcc = mvcc_new(NULL);
    store_load(&n->store, n->mvcc);
    n->lessor = lessor_new(2);
    applier_init(&n->applier, n->mvcc, n->lessor, &n->sim->cluster, n->id);
    struct persist_store ops = {.ctx = &n->store,
                                .attach = store_attach,
                                .put = store_put,
                                .commit = store_commit,
                                .detach = store_detach};
    struct persist_options po;
    persist_options_init(&po);
    po.mvcc = n->mvcc;
    po.store = &ops;
    po.threaded = false;
    po.flush_entries = 50;
    n->persist = persist_new(&po);
    node_open_log(n);
    struct core_options o = {.cluster = &n->sim->cluster,
                             .member_id = n->id,
                             .mvcc = n->mvcc,
                             .wal = n->wal,
                             .persist = n->persist,
                             .applier = &n->applier,
                             .env = {.ctx = n,
                                     .send = env_send,
                                     .send_lease = env_send_lease,
                                     .answer = env_answer,
                                     .published = env_published,
                                     .wake = env_wake},
                             .heartbeat_ms = HEARTBEAT_MS,
                             .election_ms = 1000,
                             .pre_vote = true,
                             .seed = rng_next(&n->sim->rng),
                             .id_seed = rng_next(&n->sim->rng) >> 20,
                             .snapshot_count = 100000,
                             .hard_state = n->hard_state,
                             .applied_index = n->store.meta.applied_index,
                             .applied_term = n->store.meta.applied_term,
                             .entries = n->entries,
                             .entries_count = n->entries_count};
    n->core = core_new(&o);
    wal_set_done(n->wal, on_wal_done, n);
    while (n->entries_count > 0)
        bref_unref(n->entries[--n->entries_count].owner);
    n->up = true;
    n->turn_due = true;
}

static void node_stop(struct sim_node *n, bool crash)
{
    core_free(n->core);
    if (crash) {
        disk_mem_crash(n->disk);
        wal_abandon(n->wal);
        persist_abort(n->persist);
    } else {
        wal_close(n->wal);
        persist_free(n->persist);
    }
    applier_fini(&n->applier);
    lessor_free(n->lessor);
    mvcc_free(n->mvcc);
    n->up = false;
}

/* --- load --- */

static void put_text(uint32_t number, char ret_key[32], char ret_value[32])
{
    snprintf(ret_key, 32, "key-%06u", number);
    snprintf(ret_value, 32, "value of %u", number);
}

static struct sim *sim_now;

static void on_put(struct worker *w, struct request *req)
{
    (void)w;
    uint32_t number = (uint32_t)req->lease_id;
    if (req->err == 0 && !sim_now->acked[number]) {
        sim_now->acked[number] = true;
        sim_now->acked_count++;
    }
}

static void submit_put(struct sim_node *n)
{
    struct sim *s = n->sim;
    if (s->puts == PUTS_MAX)
        return;
    char key[32], value[32];
    put_text(s->puts, key, value);
    struct wire_put_request put = {.key = slice_of_string(key), .value = slice_of_string(value)};
    uint8_t body[128];
    struct slice bytes = slice_of(body, (size_t)(wire_put_request_put(body, &put) - body));
    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = REQUEST_PROPOSE;
    req->answered = on_put;
    req->lease_id = s->puts++;
    req->id = core_next_request_id(n->core);
    req->payload_size = (uint32_t)wire_raft_request_size(WIRE_RAFT_PUT, req->id, bytes);
    req->payload = bref_new(req->payload_size);
    wire_raft_request_put(req->payload->data, WIRE_RAFT_PUT, req->id, bytes);
    core_submit(n->core, req);
}

static void must_hold(struct sim_node *n, uint32_t number)
{
    char key[32], value[32];
    put_text(number, key, value);
    const struct mvcc_version *v = mvcc_get(n->mvcc, slice_of_string(key), 0);
    if (v == NULL)
        tv_fatal("node %llu lost acknowledged %s", (unsigned long long)n->id, key);
    ASSERT(slice_equal(mvcc_version_value(v), slice_of_string(value)));
}

static void on_read(struct worker *w, struct request *req)
{
    (void)w;
    if (req->err != 0)
        return;
    struct sim_read *r = req->user;
    sim_now->reads_count++;
    for (uint32_t i = 0; i < sim_now->puts; i++)
        if (r->must_see[i])
            must_hold(&sim_now->nodes[req->ttl], i);
}

static void submit_read(struct sim_node *n)
{
    struct request *req = mem_alloc_zero(sizeof(*req));
    struct sim_read *r = mem_alloc_zero(sizeof(*r));
    memcpy(r->must_see, n->sim->acked, sizeof(r->must_see));
    list_init(&req->link);
    req->kind = REQUEST_READ_BARRIER;
    req->answered = on_read;
    req->user = r;
    req->ttl = n - n->sim->nodes;
    core_submit(n->core, req);
}

/* --- steps --- */

static void free_msg(struct raft_msg *m)
{
    for (uint32_t i = 0; i < m->entries_count; i++)
        bref_unref(m->entries[i].owner);
    mem_free((void *)m->entries);
    mem_free(m);
}

static void deliver_one(struct sim *s)
{
    if (s->net_count == 0)
        return;
    uint32_t at = s->calm ? 0 : (uint32_t)rng_below(&s->rng, s->net_count < 8 ? s->net_count : 8);
    struct raft_msg *m = s->net[at];
    memmove(&s->net[at], &s->net[at + 1], (--s->net_count - at) * sizeof(s->net[0]));
    for (int i = 0; i < NODES; i++) {
        struct sim_node *n = &s->nodes[i];
        if (n->id == m->to && n->up) {
            core_receive(n->core, m);
            n->turn_due = true;
        }
    }
    free_msg(m);
}

static void run_node(struct sim_node *n)
{
    wal_poll(n->wal);
    for (int i = 0; i < 4 && n->turn_due; i++) {
        n->turn_due = false;
        core_turn(n->core, n->sim->now_ms);
    }
}

static void step(struct sim *s)
{
    struct sim_node *n = &s->nodes[rng_below(&s->rng, NODES)];
    uint64_t dice = rng_below(&s->rng, 1000);
    if (n->up && dice < 250)
        submit_put(n);
    else if (n->up && dice < 300)
        submit_read(n);
    else if (n->up && dice < 304) {
        node_stop(n, true);
        s->crashes_count++;
    } else if (!n->up && dice < 400)
        node_start(n);
    else if (n->up && dice < 420)
        core_peer_lost(n->core, s->nodes[rng_below(&s->rng, NODES)].id); /* perhaps in error */
    for (int i = 0; i < 4; i++)
        deliver_one(s);
    for (int i = 0; i < NODES; i++)
        if (s->nodes[i].up && rng_below(&s->rng, 3) > 0)
            run_node(&s->nodes[i]);
    if (dice % 8 == 0) {
        s->now_ms += HEARTBEAT_MS;
        for (int i = 0; i < NODES; i++)
            if (s->nodes[i].up)
                core_tick(s->nodes[i].core, s->now_ms);
    }
}

static void calm_down(struct sim *s)
{
    s->calm = true;
    for (int i = 0; i < NODES; i++) {
        disk_mem_set_completion_percent(s->nodes[i].disk, 100);
        if (!s->nodes[i].up)
            node_start(&s->nodes[i]);
    }
    for (int round = 0; round < 400; round++) {
        s->now_ms += HEARTBEAT_MS;
        for (int i = 0; i < NODES; i++)
            core_tick(s->nodes[i].core, s->now_ms);
        for (int i = 0; i < 200; i++) {
            deliver_one(s);
            run_node(&s->nodes[i % NODES]);
        }
    }
}

static void check_end(struct sim *s)
{
    struct mvcc_hash first, other;
    int err = mvcc_hash(s->nodes[0].mvcc, 0, &first);
    ASSERT(err == 0);
    for (int i = 0; i < NODES; i++) {
        err = mvcc_hash(s->nodes[i].mvcc, 0, &other);
        ASSERT(err == 0);
        ASSERT(other.revision == first.revision);
        ASSERT(other.hash == first.hash);
        for (uint32_t k = 0; k < s->puts; k++)
            if (s->acked[k])
                must_hold(&s->nodes[i], k);
    }
    ASSERT(s->acked_count > 0);
}

static void run_seed(uint64_t seed)
{
    struct sim *s = mem_alloc_zero(sizeof(*s));
    sim_now = s;
    seed_now = seed;
    rng_init(&s->rng, seed);
    s->now_ms = 1000;
    char err_text[256];
    int err = cluster_from_initial("a=http://a:1,b=http://b:1,c=http://c:1", "t", &s->cluster,
                                   err_text, sizeof(err_text));
    ASSERT(err == 0);
    for (int i = 0; i < NODES; i++) {
        struct sim_node *n = &s->nodes[i];
        *n = (struct sim_node){
            .sim = s, .id = s->cluster.members[i].id, .disk = disk_mem_new(seed + i)};
        n->store.meta = (struct lsm_meta){.revision = 1, .compacted = -1};
        disk_mem_set_completion_percent(n->disk, 30 + (uint32_t)rng_below(&s->rng, 70));
        node_start(n);
    }
    for (int i = 0; i < STEPS; i++)
        step(s);
    calm_down(s);
    check_end(s);
    printf("seed %llu: %u puts, %u acknowledged, %u reads, %u crashes\n", (unsigned long long)seed,
           s->puts, s->acked_count, s->reads_count, s->crashes_count);
    for (int i = 0; i < NODES; i++) {
        struct sim_node *n = &s->nodes[i];
        node_stop(n, false);
        disk_close(n->disk);
        for (uint32_t k = 0; k < n->store.count; k++)
            bref_unref(n->store.records[k].kv);
        mem_free(n->store.records);
        mem_free(n->entries);
    }
    while (s->net_count > 0)
        free_msg(s->net[--s->net_count]);
    cluster_fini(&s->cluster);
    mem_free(s);
}

static void on_abort(int number)
{
    (void)number;
    char text[64];
    int size =
        snprintf(text, sizeof(text), "failed with seed %llu\n", (unsigned long long)seed_now);
    if (write(2, text, (size_t)size) < 0)
        _exit(2);
    _exit(1);
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 150;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    signal(SIGABRT, on_abort);
    log_set_level(LOG_ERROR);
    for (uint64_t seed = first; seed < first + seeds; seed++)
        run_seed(seed);
    return 0;
}

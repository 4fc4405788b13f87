/* request: 1 revision, 2 id of the cluster
 * answer:  etcdserverpb.HashKVResponse: 1 header, 2 hash, 3 compact_revision, 4 hash_revision */
#include "server/initial_check.h"

#include "server/config.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/epoch.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/grpc.h"
#include "proto/wire.h"
#include "proto/wirefield.h"

#include <stdio.h>

#define PEER_HASH_PATH "/trivet.Peer/HashKV"
#define TEXT_OTHER_CLUSTER "cluster ID mismatch"

enum {
    ASK_REVISION = 1,
    ASK_CLUSTER,
    ANSWER_HEADER = 1,
    ANSWER_HASH,
    ANSWER_COMPACTED,
    ANSWER_REVISION,
    HASHES_MAX = 8, /* that a member makes for others at a time */
};

/* --- the running node --- */

struct hash_work {
    uv_work_t work;
    struct node *node;
    struct grpc_call *call; /* NULL: it ended */
    struct epoch_reader *reader;
    int64_t revision;
    struct mvcc_hash hash;
    int err;
};

static int hash_at(struct mvcc *m, struct epoch_reader *reader, int64_t revision,
                   struct mvcc_hash *ret)
{
    epoch_enter(mvcc_epoch(m), reader);
    int err = mvcc_hash(m, revision, ret);
    epoch_leave(reader);
    return err;
}

static void hash_run(uv_work_t *work)
{
    struct hash_work *h = work->data;
    h->err = hash_at(h->node->mvcc, h->reader, h->revision, &h->hash);
}

static void fail(struct grpc_call *call, int err)
{
    grpc_finish(call, tv_err_code(err), tv_err_text(err));
}

static void reply(const struct hash_work *h)
{
    struct wire_header header = {.cluster_id = h->node->cluster_id,
                                 .member_id = h->node->member_id,
                                 .revision = mvcc_revision(h->node->mvcc)};
    uint8_t answer[128], *p = wire_header_put(answer, &header);
    p = wire_uint_put(p, ANSWER_HASH, h->hash.hash);
    p = wire_uint_put(p, ANSWER_COMPACTED, (uint64_t)h->hash.compact_revision);
    p = wire_uint_put(p, ANSWER_REVISION, (uint64_t)h->hash.revision);
    (void)grpc_reply(h->call, &(struct slice){answer, (size_t)(p - answer)}, 1);
}

static void hash_done(uv_work_t *work, int status)
{
    struct hash_work *h = work->data;
    (void)status; /* nobody cancels it */
    epoch_unregister(h->reader);
    h->node->peer_hashes--;
    if (h->call != NULL) {
        grpc_call_set_user(h->call, NULL);
        if (h->err != 0)
            fail(h->call, h->err);
        else
            reply(h);
    }
    mem_free(h);
}

static int decode_ask(struct slice msg, int64_t *ret_revision, uint64_t *ret_cluster)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret_revision = 0;
    *ret_cluster = 0;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type == WIRE_VARINT && f.number == ASK_REVISION)
            *ret_revision = (int64_t)f.value;
        else if (f.type == WIRE_VARINT && f.number == ASK_CLUSTER)
            *ret_cluster = f.value;
    }
    return rv;
}

static void on_asked(struct grpc_call *call, struct slice msg)
{
    struct node *n = grpc_call_method(call)->arg;
    int64_t revision;
    uint64_t cluster;
    if (decode_ask(msg, &revision, &cluster) != 0) {
        grpc_finish(call, GRPC_INVALID_ARGUMENT, "malformed message");
        return;
    }
    if (cluster != n->cluster_id) {
        grpc_finish(call, GRPC_FAILED_PRECONDITION, TEXT_OTHER_CLUSTER);
        return;
    }
    if (core_is_fenced(n->core)) {
        fail(call, TV_CORRUPT);
        return;
    }
    struct epoch_reader *reader =
        n->peer_hashes < HASHES_MAX ? epoch_register(mvcc_epoch(n->mvcc)) : NULL;
    if (reader == NULL) {
        fail(call, TV_TOO_MANY_REQUESTS);
        return;
    }
    struct hash_work *h = mem_alloc_zero(sizeof(*h));
    h->work.data = h;
    h->node = n;
    h->call = call;
    h->reader = reader;
    h->revision = revision;
    n->peer_hashes++;
    grpc_call_set_user(call, h);
    uv_queue_work(&n->loop, &h->work, hash_run, hash_done);
}

static void on_asked_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct hash_work *h = grpc_call_user(call);
    (void)code;
    (void)text;
    if (h != NULL)
        h->call = NULL;
}

static const struct grpc_call_ops asked_ops = {.message = on_asked, .closed = on_asked_closed};

struct grpc_method peer_hash_method(struct node *n)
{
    return (struct grpc_method){.path = PEER_HASH_PATH, .ops = &asked_ops, .arg = n};
}

/* --- the member that starts --- */

struct check;

struct other {
    struct check *check;
    const struct cluster_member *member;
    struct grpc_channel *channel;
    bool answered;
    int64_t revision; /* the newest it has */
    struct mvcc_hash hash;
};

struct check {
    struct node *node;
    struct mvcc_hash own;
    struct other others[CLUSTER_MEMBERS_MAX];
    uint32_t count;
    uint32_t pending;
    uint32_t differing;
};

static int decode_answer(struct slice msg, struct other *o)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_header header;
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type == WIRE_VARINT && f.number == ANSWER_HASH)
            o->hash.hash = (uint32_t)f.value;
        else if (f.type == WIRE_VARINT && f.number == ANSWER_COMPACTED)
            o->hash.compact_revision = (int64_t)f.value;
        if (f.type != WIRE_BYTES || f.number != ANSWER_HEADER)
            continue;
        rv = wire_header_decode(f.bytes, &header);
        if (rv != 0)
            return rv;
        o->revision = header.revision;
    }
    return rv;
}

static void on_answer(struct grpc_call *call, struct slice msg)
{
    struct other *o = grpc_call_user(call);
    o->answered = decode_answer(msg, o) == 0;
}

static const char *why_passed_over(enum grpc_code code, struct slice text)
{
    if (code == GRPC_OUT_OF_RANGE && slice_equal(text, slice_of_string(tv_err_text(TV_FUTURE_REV))))
        return "cannot fetch hash from slow remote peer";
    if (code == GRPC_OUT_OF_RANGE && slice_equal(text, slice_of_string(tv_err_text(TV_COMPACTED))))
        return "cannot fetch hash from remote peer; local member is behind";
    if (code == GRPC_FAILED_PRECONDITION)
        return TEXT_OTHER_CLUSTER;
    return "failed hash kv request";
}

static void compare(struct check *k, const struct other *o)
{
    const char *what = "found different compact revision values from remote peer";
    if (o->hash.hash == k->own.hash)
        return;
    if (o->hash.compact_revision == k->own.compact_revision) {
        what = "found different hash values from remote peer";
        k->differing++;
    }
    log_warn(what, LOG_HEX("local-member-id", k->node->member_id),
             LOG_INT("local-member-revision", k->own.revision),
             LOG_INT("local-member-compact-revision", k->own.compact_revision),
             LOG_UINT("local-member-hash", k->own.hash), LOG_HEX("remote-peer-id", o->member->id),
             LOG_INT("remote-peer-revision", o->revision),
             LOG_INT("remote-peer-compact-revision", o->hash.compact_revision),
             LOG_UINT("remote-peer-hash", o->hash.hash));
}

static void on_answer_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct other *o = grpc_call_user(call);
    struct check *k = o->check;
    if (o->answered)
        compare(k, o);
    else
        log_warn(why_passed_over(code, text), LOG_HEX("local-member-id", k->node->member_id),
                 LOG_INT("requested-revision", k->own.revision),
                 LOG_INT("local-member-compact-revision", k->own.compact_revision),
                 LOG_UINT("local-member-hash", k->own.hash),
                 LOG_HEX("remote-peer-id", o->member->id), LOG_SLICE("error", text));
    if (--k->pending == 0)
        uv_stop(&k->node->loop);
}

static const struct grpc_call_ops answer_ops = {.message = on_answer, .closed = on_answer_closed};

static uint64_t timeout_ms(const struct node *n)
{
    return 5000 + 2 * n->config->election_ms; /* as that of a request */
}

static void ask(struct check *k, const struct cluster_member *m)
{
    struct other *o = &k->others[k->count++];
    const char *addresses[CLUSTER_URLS_MAX];
    struct grpc_channel_options options;
    grpc_channel_options_init(&options);
    options.addresses = addresses;
    options.addresses_count = cluster_member_addresses(m, addresses);
    options.tls = k->node->ports.to_peers;
    options.local_host = k->node->config->local_host;
    options.connect_timeout_ms = k->node->config->election_ms;
    *o = (struct other){.check = k, .member = m};
    o->channel = grpc_channel_new(k->node->gl, &options);
    ASSERT(o->channel != NULL); /* the URLs were checked when they came in */
    const struct grpc_start_options start = {.path = PEER_HASH_PATH,
                                             .deadline_ns =
                                                 clock_mono_ns() + timeout_ms(k->node) * 1000000,
                                             .ops = &answer_ops,
                                             .user = o};
    struct grpc_call *call = grpc_start(o->channel, &start);
    k->pending++;
    uint8_t msg[32], *p = wire_uint_put(msg, ASK_REVISION, (uint64_t)k->own.revision);
    p = wire_uint_put(p, ASK_CLUSTER, k->node->cluster_id);
    (void)grpc_send(call, &(struct slice){msg, (size_t)(p - msg)}, 1);
    grpc_half_close(call);
}

static int hash_own(struct check *k)
{
    struct mvcc *m = k->node->mvcc;
    struct epoch_reader *reader = epoch_register(mvcc_epoch(m));
    ASSERT(reader != NULL); /* nobody else reads yet */
    int err = hash_at(m, reader, 0, &k->own);
    epoch_unregister(reader);
    return err;
}

static void ask_all(struct check *k)
{
    const struct cluster *c = &k->node->cluster;
    for (uint32_t i = 0; i < c->members_count; i++)
        if (c->members[i].id != k->node->member_id && c->members[i].peer_urls_count > 0)
            ask(k, &c->members[i]);
    if (k->pending > 0)
        uv_run(&k->node->loop, UV_RUN_DEFAULT);
    for (uint32_t i = 0; i < k->count; i++)
        grpc_channel_close(k->others[i].channel);
}

int initial_check(struct node *n)
{
    struct check *k = mem_alloc_zero(sizeof(*k));
    k->node = n;
    log_info("starting initial corruption check", LOG_HEX("local-member-id", n->member_id),
             LOG_UINT("timeout-ms", timeout_ms(n)));
    int err = hash_own(k);
    ASSERT(err == 0); /* the newest revision is always there */
    ask_all(k);
    uint32_t differing = k->differing;
    mem_free(k);
    if (differing > 0) {
        char why[96];
        (void)snprintf(why, sizeof(why), "%llx found data inconsistency with peers",
                       (unsigned long long)n->member_id);
        log_error("checkInitialHashKV failed", LOG_STR("error", why));
        log_write(LOG_FATAL, __FILE__, __LINE__, "discovery failed",
                  (struct log_field[]){LOG_STR("error", why)}, 1);
        return TV_ECORRUPT;
    }
    log_info("initial corruption checking passed; no corruption",
             LOG_HEX("local-member-id", n->member_id));
    return 0;
}

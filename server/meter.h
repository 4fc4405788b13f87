/* What a node counts, for /metrics: one struct for each thread that counts, so that counting needs
 * neither a lock nor an allocation. metrics.c adds them up and names them.
 *
 * Owner: said at each; read by any thread. Nothing that is decided depends on any of this. */
#ifndef SERVER_METER_H
#define SERVER_METER_H

#include "base/metric.h"
#include "base/slice.h"

#include <stdbool.h>
#include <string.h>

struct cluster;

/* --- operations of the log, by etcd's names --- */

enum meter_op {
    METER_PUT,
    METER_DELETE_RANGE,
    METER_TXN,
    METER_COMPACTION,
    METER_LEASE_GRANT,
    METER_LEASE_REVOKE,
    METER_LEASE_CHECKPOINT,
    METER_ALARM,
    METER_AUTHENTICATE,
    METER_AUTH_ENABLE,
    METER_AUTH_DISABLE,
    METER_AUTH_STATUS,
    METER_AUTH_USER_ADD,
    METER_AUTH_USER_DELETE,
    METER_AUTH_USER_CHANGE_PASSWORD,
    METER_AUTH_USER_GRANT_ROLE,
    METER_AUTH_USER_GET,
    METER_AUTH_USER_REVOKE_ROLE,
    METER_AUTH_ROLE_ADD,
    METER_AUTH_ROLE_GRANT_PERMISSION,
    METER_AUTH_ROLE_GET,
    METER_AUTH_ROLE_REVOKE_PERMISSION,
    METER_AUTH_ROLE_DELETE,
    METER_AUTH_USER_LIST,
    METER_AUTH_ROLE_LIST,
    METER_CLUSTER_VERSION_SET,
    METER_CLUSTER_MEMBER_ATTR_SET,
    METER_DOWNGRADE_INFO_SET,
    METER_RANGE, /* no entry of the log: these two are a worker's alone */
    METER_READONLY_TXN,
    METER_OPS_COUNT,
    METER_OTHER = METER_OPS_COUNT, /* trivet's own entries: not counted by operation */
};

/* Of an entry's kind (enum wire_raft_kind). */
enum meter_op meter_op(uint32_t raft_kind);
const char *meter_op_name(enum meter_op op);

#define METER_APPLY_SCALE METRIC_FROM_100_US(20)
#define METER_REQUEST_SCALE METRIC_FROM_1_MS(14)

/* --- what is done to the store, as etcd counts it in a transaction of mvcc --- */

struct kv_meters {
    struct metric_counter ranges;
    struct metric_counter puts;
    struct metric_counter deletes;
    struct metric_counter txns; /* of more than one of these */
    struct metric_counter put_bytes;
};

/* One transaction's. */
struct kv_tally {
    uint32_t ranges;
    uint32_t puts;
    uint32_t deletes;
    uint64_t put_bytes;
};

static inline void kv_meters_add(struct kv_meters *m, const struct kv_tally *t)
{
    if (t->ranges > 0)
        metric_add(&m->ranges, t->ranges);
    if (t->puts > 0) {
        metric_add(&m->puts, t->puts);
        metric_add(&m->put_bytes, t->put_bytes);
    }
    if (t->deletes > 0)
        metric_add(&m->deletes, t->deletes);
    if (t->ranges + t->puts + t->deletes > 1)
        metric_add(&m->txns, 1);
}

/* --- the applier's and the core's --- */

/* Owner: the core thread. */
struct apply_meters {
    struct kv_meters kv;
    struct metric_counter leases_granted;
    struct metric_counter leases_revoked;
    struct metric_hist lease_ttl; /* seconds */
};
#define METER_TTL_SCALE ((struct metric_scale){1, 24})

/* Owner: the core thread. */
struct core_meters {
    struct metric_hist apply[METER_OPS_COUNT][2]; /* by success */
    struct metric_counter slow_applies;
    struct metric_counter leases_renewed;
    struct metric_counter leases_expired;
    struct metric_counter proposals_pending;
    struct metric_counter proposals_failed;
    struct metric_counter read_indexes_failed;
    struct metric_counter slow_read_indexes;
    struct metric_counter heartbeats_late;
    struct metric_counter versions_dropped; /* by compactions */
    struct metric_counter compacted_at_ns;  /* when the last one was through; 0: none was */
    struct metric_hist compaction_pause;    /* a slice of it, nanoseconds */
    struct metric_hist compaction_total;
    struct metric_hist index_compaction_pause;
};
#define METER_COMPACTION_PAUSE_SCALE METRIC_FROM_1_MS(13)
#define METER_COMPACTION_TOTAL_SCALE METRIC_FROM_100_MS(14)
#define METER_INDEX_PAUSE_SCALE ((struct metric_scale){500000, 14})

/* --- a worker's --- */

/* Calls by the client's version, as it names itself; the last slot has what finds no other. */
enum { METER_VERSIONS_MAX = 16, METER_VERSION_BYTES_MAX = 24, METER_METADATA_BYTES_MAX = 256 };
struct meter_version {
    char name[METER_VERSION_BYTES_MAX]; /* written before `used` */
    struct metric_counter used;
    struct metric_counter unary;
    struct metric_counter streams;
};

struct watch_meters {
    struct metric_counter streams; /* now */
    struct metric_counter watchers;
    struct metric_counter lagging;
    struct metric_counter events; /* sent, ever */
    struct metric_hist send;      /* of a response with events */
    struct metric_hist send_per_event;
    struct metric_hist send_control;
    struct metric_hist send_progress;
};
#define METER_SEND_SCALE METRIC_FROM_1_MS(14)

/* Why a learner was not promoted, as the client was told; the last slot has what finds no other. */
enum { METER_REASONS_MAX = 8, METER_REASON_BYTES_MAX = 128 };
struct meter_reason {
    char text[METER_REASON_BYTES_MAX]; /* written before `count` is more than 0 */
    struct metric_counter count;
};

enum meter_check {
    METER_LIVEZ_SERIALIZABLE_READ,
    METER_READYZ_DATA_CORRUPTION,
    METER_READYZ_SERIALIZABLE_READ,
    METER_READYZ_LINEARIZABLE_READ,
    METER_READYZ_NON_LEARNER,
    METER_CHECKS_COUNT,
};

/* Owner: the worker's thread. */
struct worker_meters {
    struct kv_meters kv;
    struct metric_hist request[METER_OPS_COUNT][2]; /* by success */
    struct metric_hist range[2];
    struct metric_counter slow_ranges;
    struct meter_version versions[METER_VERSIONS_MAX];
    /* The slot used last, and the metadata of the call that it was used for, or a size of
     * UINT32_MAX when that was too long to be kept. The owner's alone. */
    uint32_t version_last;
    uint32_t metadata_size;
    uint8_t metadata[METER_METADATA_BYTES_MAX];
    struct watch_meters watch;
    struct metric_counter watch_receive_failures; /* streams that brought what does not decode */
    struct metric_counter lease_receive_failures;
    struct metric_counter learners_promoted;
    struct meter_reason promote_failures[METER_REASONS_MAX];
    struct metric_hist hash;
    struct metric_hist hash_rev;
    struct metric_hist defrag;
    struct metric_hist snapshot;
    struct metric_counter snapshot_pause; /* ns that the pool's threads gave way; they share it */
    struct metric_counter bulk_rest;      /* ns that large answers did */
    struct metric_counter health_success;
    struct metric_counter health_failures;
    struct metric_counter checks[METER_CHECKS_COUNT][2]; /* by success */
    struct metric_counter checks_last_ok[METER_CHECKS_COUNT];
    struct metric_counter checks_last_ns[METER_CHECKS_COUNT]; /* when; 0: never */
    struct metric_counter scrapes;
    struct metric_counter spans_sent;
    struct metric_counter spans_dropped;
};
#define METER_HASH_SCALE METRIC_FROM_10_MS(15)
#define METER_DEFRAG_SCALE METRIC_FROM_100_MS(13)
#define METER_SNAPSHOT_SCALE METRIC_FROM_10_MS(17)

/* Count a call by what the client calls its version; data NULL: it says nothing. `metadata` is all
 * that the client said: as long as that stays the same, so does the version. */
void meter_version_count(struct worker_meters *m, struct slice version, struct slice metadata,
                         bool stream);
/* The same for a call with the metadata of the last one. False: it has other metadata. */
static inline bool meter_version_count_again(struct worker_meters *m, struct slice metadata,
                                             bool stream)
{
    if (m->metadata_size != metadata.size ||
        (metadata.size > 0 && memcmp(m->metadata, metadata.data, metadata.size) != 0))
        return false;
    struct meter_version *v = &m->versions[m->version_last];
    metric_add(stream ? &v->streams : &v->unary, 1);
    return true;
}

/* The unary call that was counted last does not count. */
void meter_version_uncount(struct worker_meters *m);
/* Count a call of MemberPromote by its outcome; empty: it did. */
void meter_promotion_count(struct worker_meters *m, struct slice reason);

/* --- of the other members --- */

enum { METER_PEERS_MAX = 32 };

/* Owner: the core thread. A slot stays its member's until the node ends. */
struct peer_meters {
    struct metric_counter id; /* 0: free */
    struct metric_counter known;
    struct metric_counter active;
    struct metric_counter was_active;
    struct metric_counter disconnected;
    struct metric_counter sent_bytes;
    struct metric_counter sent_failures;
    struct metric_counter received_bytes;
    struct metric_counter received_failures;
    struct metric_hist round_trip;
    struct metric_counter snapshots_sending;
    struct metric_counter snapshots_sent;
    struct metric_counter snapshots_send_failures;
    struct metric_hist snapshot_send;
    struct metric_counter snapshots_receiving;
    struct metric_counter snapshots_received;
    struct metric_counter snapshots_receive_failures;
    struct metric_hist snapshot_receive;
};
#define METER_ROUND_TRIP_SCALE METRIC_FROM_100_US(16)
#define METER_FSYNC_SCALE METRIC_FROM_1_MS(14)
#define METER_SNAPSHOT_TRANSFER_SCALE METRIC_FROM_100_MS(10)

struct peers_meters {
    struct peer_meters items[METER_PEERS_MAX];
    struct peer_meters rest; /* those of members that found no slot: not shown */
    struct metric_counter snapshots_installing;
    struct metric_hist snapshot_save;     /* of one that was received: until it is durable */
    struct metric_hist snapshot_fsync;    /* of these: making it durable */
    struct metric_counter snapshot_pause; /* ns that the pool's threads gave way; they share it */
};

/* Never NULL. Thread: the core's. */
struct peer_meters *peers_meters_of(struct peers_meters *all, uint64_t id);
/* The members of the cluster are known, no others. Thread: the core's. */
void peers_meters_know(struct peers_meters *all, const struct cluster *cluster);

#endif

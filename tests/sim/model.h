/* What the store must hold after each entry of the log: a second implementation of the state
 * machine, as plain as possible, for the few keys that the simulation's clients use. It is given
 * each entry when it is first given out by any member's raft; members and clients are then compared
 * with it. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "base/slice.h"
#include "proto/wire.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MODEL_KEYS_COUNT = 12,
    MODEL_KEY_BYTES = 3, /* "k00" ... */
    MODEL_LEASE_TTL_MIN_S = 2,
};

/* One version of a key. `value` names the bytes: see model_value_put(). */
struct model_version {
    int64_t revision;
    uint32_t sub;
    bool tombstone;
    uint64_t value;
    int64_t create;
    int64_t version;
    int64_t lease;
};

struct model_key {
    struct model_version *versions; /* oldest first */
    uint32_t count;
    uint32_t capacity;
};

struct model_change {
    int64_t revision;
    uint32_t key;
    uint32_t version; /* its place among the key's */
};

/* What an entry did. */
struct model_outcome {
    int64_t revision; /* the store's afterwards */
    int64_t compacted;
    int err;
    bool succeeded; /* a transaction's comparisons held */
    bool is_revoke;
    uint32_t request_from; /* low bits of the member that proposed it */
    int64_t deleted;
    int64_t lease;  /* granted or revoked */
    uint64_t at_us; /* when it was given out first */
};

struct model_lease {
    int64_t id;
    int64_t ttl_s;
    uint64_t granted_index;
    uint64_t ended_index; /* 0 = not yet */
    uint64_t ended_at_us;
    bool ended_by_client;
    uint64_t claimed_until_us; /* a client was told it lives so long */
    uint64_t claimed_at_us;    /* what that client had sent then */
};

/* A member that says it has no room. */
struct model_alarm {
    uint64_t member;
    uint32_t reasons; /* 0: it has again */
};

enum { MODEL_ALARMS_MAX = 32 };

struct model {
    struct model_key keys[MODEL_KEYS_COUNT];
    struct model_change *changes; /* all, in order */
    uint32_t changes_count;
    uint32_t changes_capacity;
    struct model_outcome *outcomes; /* by index */
    uint64_t index;                 /* the last one applied */
    uint64_t outcomes_capacity;
    struct model_lease *leases;
    uint32_t leases_count;
    uint32_t leases_capacity;
    struct model_alarm alarms[MODEL_ALARMS_MAX];
    uint32_t alarms_count;
    int64_t revision;
    int64_t compacted;
};

void model_init(struct model *m);
void model_fini(struct model *m);

/* The next entry of the log. An empty payload changes nothing. */
void model_apply(struct model *m, uint64_t index, struct slice payload, uint64_t now_us);

/* Some member's alarm stands: nothing that adds to the store is applied. */
bool model_lacks_space(const struct model *m);
/* The key's version at `revision`, NULL when it does not exist then. */
const struct model_version *model_get(const struct model *m, uint32_t key, int64_t revision);
/* The place in `changes` of the first one at or after `revision`. */
uint32_t model_seek(const struct model *m, int64_t revision);
struct model_lease *model_lease(struct model *m, int64_t id);
static inline bool model_lease_lives(const struct model_lease *l, uint64_t index)
{
    return l->granted_index <= index && (l->ended_index == 0 || l->ended_index > index);
}

/* --- names --- */

struct slice model_key_name(uint32_t key);
/* -1: not one of ours. */
int model_key_of(struct slice name);
bool model_covers(struct slice key, struct slice range_end, uint32_t k);
/* A value's bytes follow from its number. */
size_t model_value_size(uint64_t value);
void model_value_put(uint8_t *dst, uint64_t value);
/* 0 when these are no value's bytes. */
uint64_t model_value_of(struct slice bytes);

/* Does the decoded KeyValue say what the version says? */
bool model_kv_equal(const struct wire_kv *kv, uint32_t key, const struct model_version *v);

#endif

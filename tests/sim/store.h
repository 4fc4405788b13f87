/* What RocksDB is to a member, in memory: a commit is durable as soon as it returns, what was put
 * after the last one is lost with the process. */
#ifndef TESTS_SIM_STORE_H
#define TESTS_SIM_STORE_H

#include "base/bref.h"
#include "storage/lsm.h"

struct lessor;
struct member;

struct store_record {
    int64_t main;
    uint32_t sub;
    bool is_tombstone;
    uint32_t size;
    struct bref *kv;
};

struct store_meta {
    struct bref *key;
    struct bref *value; /* NULL: removed */
    uint32_t key_size;
    uint32_t value_size;
};

struct store {
    struct member *member;
    struct store_record *records;
    uint32_t count, committed, capacity;
    struct store_meta *metas;
    uint32_t metas_count, metas_capacity;
    struct lsm_meta meta;
};

void store_init(struct store *s, struct member *m);
void store_fini(struct store *s);
struct persist_store store_ops(struct store *s);
/* Fill a fresh store in memory, and the leases. */
void store_load(struct store *s, struct mvcc *m, struct lessor *l, uint64_t now_ms);

#endif

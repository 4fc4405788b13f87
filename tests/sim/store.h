/* What RocksDB is to a member, in memory: a commit is durable as soon as it returns, what was put
 * after the last one is lost with the process.
 *
 * It has three places, as the folders of a node (server/install.h): the store itself, one that a
 * snapshot fills, and the one that a snapshot replaced. Each step on them is an operation at which
 * the member may die. */
#ifndef TESTS_SIM_STORE_H
#define TESTS_SIM_STORE_H

#include "base/bref.h"
#include "server/install.h"

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

/* One database. */
struct contents {
    struct member *member;
    struct store_record *records;
    uint32_t count, committed, capacity;
    struct store_meta *metas;
    uint32_t metas_count, metas_capacity;
    struct lsm_meta meta;
};

struct store {
    struct member *member;
    struct contents *parts[INSTALL_PARTS_COUNT]; /* NULL: not there */
};

/* With a record of the members in it, as after a first start. */
void store_init(struct store *s, struct member *m, struct slice members);
void store_fini(struct store *s);
/* What the store's last commit says of itself. */
static inline const struct lsm_meta *store_meta(const struct store *s)
{
    return &s->parts[INSTALL_STORE]->meta;
}
/* The value of a named record; data is NULL when there is none. */
struct slice store_get(const struct store *s, struct slice name);
/* The entry at which a snapshot took the store's place, 0 = none did. */
uint64_t store_installed_index(const struct store *s);
struct persist_store store_ops(struct store *s);
struct install_place store_place(struct store *s);
/* Fill a fresh store in memory, and the leases. */
void store_load(struct store *s, struct mvcc *m, struct lessor *l);

#endif

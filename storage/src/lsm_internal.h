/* What the files of the database share. */
#ifndef STORAGE_LSM_INTERNAL_H
#define STORAGE_LSM_INTERNAL_H

#include "storage/lsm.h"

#include "base/list.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>

enum {
    LSM_FORMAT = 3,
    LSM_KV_KEY_BYTES = 14,   /* 'k' main(8) sub(4) tombstone(1) */
    LSM_LEASE_KEY_BYTES = 9, /* 'l' id(8) */
    LSM_LEASE_VALUE_BYTES = 16,
    LSM_STATE_BYTES = 60, /* format(4), then 8 each as in struct lsm_meta */
    LSM_PATH_BYTES_MAX = 4096,
    LSM_COLLECT_BYTES_PER_SECOND = 64 << 20, /* read, and written */
};

/* The folder below the database's where table files are written before they are committed. */
#define LSM_STAGING "staging"

struct lsm {
    rocksdb_t *db;
    rocksdb_options_t *options;        /* of the database */
    rocksdb_options_t *writer_options; /* of the table files that we write */
    rocksdb_envoptions_t *env_options;
    rocksdb_ingestexternalfileoptions_t *ingest_options;
    rocksdb_readoptions_t *read_options;
    rocksdb_cache_t *cache;
    rocksdb_ratelimiter_t *limiter;
    struct lsm_options o;
    char *dir;

    /* Owner: the persist thread, or whoever commits while there is none. */
    rocksdb_sstfilewriter_t *writer; /* NULL when nothing was put since the last commit */
    uint64_t writer_bytes;
    int writer_fd;             /* the same file, to hand it over; -1: there is none */
    int64_t handed_over;       /* of it */
    uint64_t writer_number;    /* names the newest staging file */
    uint64_t committed_number; /* the newest one that is committed, or dropped */

    pthread_mutex_t lock; /* protects the group below */
    struct lsm_meta committed;
    uint64_t commits;
    uint64_t commit_ns;
    struct mvcc *tidy_mvcc; /* what is asked for garbage; NULL when nobody is attached */
    pthread_cond_t tidy_wake;
    bool tidy_stop;

    /* Owner: the persist thread, which starts and ends the tidy thread. */
    bool tidy_running;
    pthread_t tidy_thread;

    /* What stays of what lies below a compaction; NULL = nothing is collected. The tidy thread sets
     * it before a manual compaction, whose filter reads it, and takes it back after. */
    const struct lsm_live *_Atomic collect;

    bool spare_is_whole; /* owner: the tidy thread, or whoever opens */

    struct list copies; /* struct lsm_copy; lsm_copies.c has their lock */
};

static inline void lsm__put_be32(uint8_t *p, uint32_t x)
{
    x = __builtin_bswap32(x);
    memcpy(p, &x, sizeof(x));
}

static inline void lsm__put_be64(uint8_t *p, uint64_t x)
{
    x = __builtin_bswap64(x);
    memcpy(p, &x, sizeof(x));
}

static inline uint32_t lsm__get_be32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof(x));
    return __builtin_bswap32(x);
}

static inline uint64_t lsm__get_be64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof(x));
    return __builtin_bswap64(x);
}

/* From LSM_STATE_BYTES that begin with LSM_FORMAT. */
static inline void lsm__get_state(const uint8_t *p, struct lsm_meta *ret)
{
    *ret = (struct lsm_meta){
        .applied_index = lsm__get_be64(p + 4),
        .applied_term = lsm__get_be64(p + 12),
        .revision = (int64_t)lsm__get_be64(p + 20),
        .compacted = (int64_t)lsm__get_be64(p + 28),
        .content = {.sum = lsm__get_be64(p + 36), .compacted = (int64_t)lsm__get_be64(p + 44)},
        .chain = lsm__get_be64(p + 52)};
}

/* False when it is not an 'l' record. */
bool lsm__lease_parse(struct slice key, struct slice value, struct lsm_lease *ret);

/* The parts of a 'k' record's key; false when it is not one. */
static inline bool lsm__kv_key_parse(const uint8_t *key, size_t size, int64_t *ret_main,
                                     uint32_t *ret_sub, bool *ret_tombstone)
{
    if (size != LSM_KV_KEY_BYTES || key[0] != 'k' || key[13] > 1)
        return false;
    *ret_main = (int64_t)lsm__get_be64(key + 1);
    *ret_sub = lsm__get_be32(key + 9);
    *ret_tombstone = key[13] != 0;
    return true;
}

/* Takes RocksDB's message: copies it into `err_text` (may be NULL) and returns the TV_* for it; 0
 * for NULL. */
int lsm__error(char *message, char *err_text, size_t err_text_size);
bool lsm__is_damage(const char *message);

/* The table files that hold 'k' records, oldest first. Freed with mem_free(). */
struct lsm_file {
    int64_t first_rev;
    int64_t last_rev;
    uint64_t versions;
    uint64_t bytes;
    char name[32]; /* below the database's folder */
};
struct lsm_file *lsm__files(struct lsm *l, size_t *ret_count);

/* --- lsm_commit.c --- */

/* The staging folder exists and is empty. Errors: TV_ENOSPC, TV_EIO; errno. */
int lsm__clear_staging(const struct lsm *l);
void lsm__drop_writer(struct lsm *l);
void lsm__store(struct lsm *l, struct persist_store *ret_store);

/* --- lsm_room.c --- */

/* What the disk has to give; UINT64_MAX when that cannot be told. */
uint64_t lsm__room_bytes(const struct lsm *l);
bool lsm__has_room_to_commit(const struct lsm *l);
/* Before RocksDB opens the folder. TV_ENOSPC in words. */
int lsm__room_to_open(const struct lsm *l, char *err_text, size_t err_text_size);
/* See to what the next lsm__room_to_open() may need. Thread: the tidy thread, or whoever opens. */
void lsm__keep_spare(struct lsm *l);

/* --- lsm_copies.c --- */

enum { LSM_COPY_SKIP_BYTES_MAX = 64 };

struct lsm_copy {
    struct list link;
    struct lsm *l;        /* NULL: it was closed */
    pthread_mutex_t lock; /* of the two below, while they are used */
    rocksdb_readoptions_t *options;
    rocksdb_iterator_t *it; /* NULL: the database was closed */
    uint8_t skip[LSM_COPY_SKIP_BYTES_MAX];
    size_t skip_size;
    char err_text[512];
};

void lsm__copy_begin(struct lsm *l, struct lsm_copy *c);
void lsm__copy_end(struct lsm_copy *c);

/* The database is about to be closed: copies that are still open have an end. Waits for the piece
 * that one of them is reading. */
void lsm__end_copies(struct lsm *l);

/* --- lsm_tidy.c --- */

/* For the database's options; `l` outlives them. */
rocksdb_compactionfilterfactory_t *lsm__filter_factory(struct lsm *l);
void lsm__tidy_start(struct lsm *l, struct mvcc *m);
void lsm__tidy_end(struct lsm *l);
/* Something was committed. */
void lsm__tidy_wake(struct lsm *l);

#endif

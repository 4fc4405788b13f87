/* The start: all versions on disk become the store in memory.
 *
 * The space of revisions is cut into pieces of about equal weight. Reader threads take piece after
 * piece, each with an iterator of its own, and make versions; the calling thread takes the finished
 * pieces in order and hands them to the store. */
#include "lsm_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    PIECE_VERSIONS = 16384,
    THREADS_MAX = 64,
    READAHEAD_BYTES = 1 << 20,
};

struct piece {
    int64_t begin; /* revisions of [begin, the next piece's begin) */
    int64_t end;
    struct mvcc_version **versions;
    size_t count;
    uint64_t hashes; /* the versions' sum */
    bool done;
};

/* Pieces and errors are handed over under `lock`; what a piece holds belongs to the reader that
 * took it until `done`. */
struct load {
    struct lsm *l;
    struct lsm_file *files;
    size_t files_count;
    struct piece *pieces;
    size_t pieces_count;
    _Atomic size_t next;
    int64_t revision; /* nothing above it may be there */

    pthread_mutex_t lock;
    pthread_cond_t piece_done;
    int err;
    char *err_text;
    size_t err_text_size;
};

static void fail(struct load *ld, int err, const char *text)
{
    pthread_mutex_lock(&ld->lock);
    if (ld->err == 0) {
        ld->err = err;
        (void)snprintf(ld->err_text, ld->err_text_size, "%s", text); /* may be cut */
    }
    pthread_mutex_unlock(&ld->lock);
    atomic_store(&ld->next, ld->pieces_count); /* no more pieces */
}

/* --- reader threads --- */

static void piece_push(struct piece *pc, size_t *capacity, struct mvcc_version *v)
{
    if (pc->count == *capacity) {
        *capacity = *capacity == 0 ? PIECE_VERSIONS + PIECE_VERSIONS / 8 : *capacity * 2;
        pc->versions = mem_realloc(pc->versions, *capacity * sizeof(struct mvcc_version *));
    }
    pc->versions[pc->count++] = v;
}

static bool take_record(struct load *ld, struct piece *pc, size_t *capacity, rocksdb_iterator_t *it)
{
    size_t key_size, value_size;
    const char *key = rocksdb_iter_key(it, &key_size);
    const char *value = rocksdb_iter_value(it, &value_size);
    int64_t main;
    uint32_t sub;
    bool tombstone;
    struct mvcc_version *v;
    if (!lsm__kv_key_parse((const uint8_t *)key, key_size, &main, &sub, &tombstone) ||
        main > ld->revision ||
        mvcc_version_new(main, sub, tombstone, slice_of(value, value_size), &v) != 0) {
        fail(ld, TV_ECORRUPT, "a version on disk is damaged");
        return false;
    }
    pc->hashes += mvcc_version_hash(v);
    piece_push(pc, capacity, v);
    return true;
}

static void read_piece(struct load *ld, struct piece *pc)
{
    uint8_t begin[9] = "k", end[9] = "k";
    lsm__put_be64(begin + 1, (uint64_t)pc->begin);
    lsm__put_be64(end + 1, (uint64_t)pc->end);
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(ro, 0);
    rocksdb_readoptions_set_verify_checksums(ro, 1);
    rocksdb_readoptions_set_readahead_size(ro, READAHEAD_BYTES);
    rocksdb_readoptions_set_iterate_upper_bound(ro, (const char *)end, sizeof(end));
    rocksdb_iterator_t *it = rocksdb_create_iterator(ld->l->db, ro);
    size_t capacity = 0;
    rocksdb_iter_seek(it, (const char *)begin, sizeof(begin));
    while (rocksdb_iter_valid(it) && take_record(ld, pc, &capacity, it))
        rocksdb_iter_next(it);
    char *message = NULL, text[256];
    rocksdb_iter_get_error(it, &message);
    int err = lsm__error(message, text, sizeof(text));
    if (err != 0)
        fail(ld, err, text);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(ro);
}

static void *reader_main(void *arg)
{
    struct load *ld = arg;
    size_t i;
    while ((i = atomic_fetch_add(&ld->next, 1)) < ld->pieces_count) {
        read_piece(ld, &ld->pieces[i]);
        pthread_mutex_lock(&ld->lock);
        ld->pieces[i].done = true;
        pthread_cond_signal(&ld->piece_done);
        pthread_mutex_unlock(&ld->lock);
    }
    pthread_mutex_lock(&ld->lock);
    pthread_cond_signal(&ld->piece_done);
    pthread_mutex_unlock(&ld->lock);
    return NULL;
}

/* Ask the kernel for the files ahead of the readers, who alternate between waiting and decoding. */
static void *warm_main(void *arg)
{
    struct load *ld = arg;
    for (size_t i = 0; i < ld->files_count && atomic_load(&ld->next) < ld->pieces_count; i++) {
        char path[LSM_PATH_BYTES_MAX];
        (void)snprintf(path, sizeof(path), "%s%s", ld->l->dir, ld->files[i].name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue; /* only a hint */
        for (uint64_t at = 0; at < ld->files[i].bytes; at += READAHEAD_BYTES)
            (void)readahead(fd, (off_t)at, READAHEAD_BYTES);
        close(fd);
    }
    return NULL;
}

/* --- the calling thread --- */

/* A file's revisions in even shares; pieces of neighbouring files meet. */
static void make_pieces(struct load *ld)
{
    size_t capacity = ld->files_count + 1;
    for (size_t i = 0; i < ld->files_count; i++)
        capacity += ld->files[i].versions / PIECE_VERSIONS;
    ld->pieces = mem_alloc_zero(capacity * sizeof(*ld->pieces));
    for (size_t i = 0; i < ld->files_count; i++) {
        const struct lsm_file *f = &ld->files[i];
        int64_t shares = (int64_t)(f->versions / PIECE_VERSIONS) + 1;
        int64_t last = f->last_rev > ld->revision ? ld->revision : f->last_rev;
        int64_t step = (last - f->first_rev) / shares + 1;
        for (int64_t rev = f->first_rev; rev <= last; rev += step) {
            if (ld->pieces_count == 0 || ld->pieces[ld->pieces_count - 1].begin < rev)
                ld->pieces[ld->pieces_count++].begin = rev;
        }
    }
    for (size_t i = 0; i < ld->pieces_count; i++)
        ld->pieces[i].end = i + 1 < ld->pieces_count ? ld->pieces[i + 1].begin : INT64_MAX;
}

/* Hand over what is read, in order, as it comes. */
static int link_pieces(struct load *ld, struct mvcc *m)
{
    int err = 0;
    for (size_t i = 0; i < ld->pieces_count && err == 0; i++) {
        struct piece *pc = &ld->pieces[i];
        pthread_mutex_lock(&ld->lock);
        while (!pc->done && ld->err == 0)
            pthread_cond_wait(&ld->piece_done, &ld->lock);
        err = ld->err;
        pthread_mutex_unlock(&ld->lock);
        if (err != 0)
            break;
        size_t taken;
        err = mvcc_load_add_all(m, pc->versions, pc->count, pc->hashes, &taken);
        /* Those are the store's; load_fini() frees the rest. */
        pc->count -= taken;
        if (pc->count > 0)
            memmove(pc->versions, pc->versions + taken, pc->count * sizeof(struct mvcc_version *));
        if (err != 0)
            break;
        mem_free(pc->versions);
        pc->versions = NULL;
    }
    return err;
}

static void load_fini(struct load *ld)
{
    for (size_t i = 0; i < ld->pieces_count; i++) {
        for (size_t k = 0; k < ld->pieces[i].count; k++)
            mvcc_version_free(ld->pieces[i].versions[k]);
        mem_free(ld->pieces[i].versions);
    }
    mem_free(ld->pieces);
    mem_free(ld->files);
    pthread_cond_destroy(&ld->piece_done);
    pthread_mutex_destroy(&ld->lock);
}

static void start(pthread_t *thread, void *(*fn)(void *), struct load *ld, const char *name)
{
    int rv = pthread_create(thread, NULL, fn, ld);
    if (rv != 0)
        tv_fatal("cannot start a thread: %s", strerror(rv));
    (void)pthread_setname_np(*thread, name);
}

static int read_versions(struct load *ld, struct mvcc *m, uint32_t threads_count)
{
    pthread_t readers[THREADS_MAX], warm;
    start(&warm, warm_main, ld, "load-ahead");
    for (uint32_t i = 0; i < threads_count; i++)
        start(&readers[i], reader_main, ld, "load");
    int err = link_pieces(ld, m);
    if (err != 0)
        fail(ld, err, "versions on disk are out of order");
    for (uint32_t i = 0; i < threads_count; i++)
        pthread_join(readers[i], NULL);
    pthread_join(warm, NULL);
    return err;
}

static int read_leases(struct lsm *l, struct buf *ret, char *err_text, size_t err_text_size)
{
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_upper_bound(ro, "m", 1);
    rocksdb_iterator_t *it = rocksdb_create_iterator(l->db, ro);
    int err = 0;
    for (rocksdb_iter_seek(it, "l", 1); rocksdb_iter_valid(it) && err == 0; rocksdb_iter_next(it)) {
        size_t key_size, value_size;
        const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &key_size);
        const uint8_t *value = (const uint8_t *)rocksdb_iter_value(it, &value_size);
        struct lsm_lease lease;
        if (!lsm__lease_parse(slice_of(key, key_size), slice_of(value, value_size), &lease)) {
            (void)snprintf(err_text, err_text_size, "a lease on disk is damaged");
            err = TV_ECORRUPT;
            break;
        }
        err = buf_append(ret, &lease, sizeof(lease));
    }
    char *message = NULL;
    rocksdb_iter_get_error(it, &message);
    if (message != NULL)
        err = lsm__error(message, err_text, err_text_size);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(ro);
    return err;
}

static uint32_t default_threads(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus < 1 ? 1 : cpus > THREADS_MAX ? THREADS_MAX : (uint32_t)cpus;
}

static int end(struct lsm *l, struct mvcc *m, const struct lsm_meta *meta, char *err_text,
               size_t err_text_size)
{
    uint64_t sum =
        mvcc_load_end_summed(m, meta->revision, meta->compacted, meta->content.compacted);
    if (sum == meta->content.sum)
        return 0;
    (void)snprintf(err_text, err_text_size,
                   "%s: offset 0: the versions add up to %016llx, not to the last commit's %016llx",
                   l->dir, (unsigned long long)sum, (unsigned long long)meta->content.sum);
    return TV_ECORRUPT;
}

int lsm_load(struct lsm *l, struct mvcc *m, uint32_t threads_count, struct lsm_meta *ret_meta,
             void (*lease)(void *ctx, const struct lsm_lease *lease), void *ctx, char *err_text,
             size_t err_text_size)
{
    struct lsm_meta meta;
    lsm_meta(l, &meta);
    if (threads_count == 0)
        threads_count = default_threads();
    if (threads_count > THREADS_MAX)
        threads_count = THREADS_MAX;
    struct buf leases;
    buf_init(&leases, SIZE_MAX);
    struct load ld = {
        .l = l, .revision = meta.revision, .err_text = err_text, .err_text_size = err_text_size};
    pthread_mutex_init(&ld.lock, NULL);
    pthread_cond_init(&ld.piece_done, NULL);
    ld.files = lsm__files(l, &ld.files_count);
    make_pieces(&ld);

    mvcc_load_begin(m);
    int err = read_leases(l, &leases, err_text, err_text_size);
    if (err == 0)
        err = read_versions(&ld, m, threads_count);
    if (err != 0)
        mvcc_load_abort(m);
    else
        err = end(l, m, &meta, err_text, err_text_size);
    if (err == 0) {
        const struct lsm_lease *loaded = (const struct lsm_lease *)leases.data;
        for (size_t i = 0; lease != NULL && i < leases.size / sizeof(*loaded); i++)
            lease(ctx, &loaded[i]);
        *ret_meta = meta;
    }
    load_fini(&ld);
    buf_fini(&leases);
    return err;
}

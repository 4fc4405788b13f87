/* What the store in memory costs on this machine: bytes and nanoseconds of CPU. Not a test.
 *
 * figures_mvcc [keys [value_bytes]] */
#include "storage/mvcc.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 100 };

static struct mvcc *m;
static uint32_t keys = 1000000, value_bytes = 256;
static uint8_t *value;
static const struct slice all_end = {(const uint8_t *)"", 1};

/* Of this process: a machine that is shared does not blur it as much as the clock. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t rss_bytes(void)
{
    unsigned long size, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    ASSERT(f != NULL);
    int n = fscanf(f, "%lu %lu", &size, &resident);
    (void)fclose(f);
    ASSERT(n == 2);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct slice key_name(uint32_t i, char *name)
{
    (void)snprintf(name, 64, "/registry/pods/ns-%03u/p-%08x", i % 500, i * 2654435761u);
    return slice_of_string(name);
}

static void report(const char *what, uint64_t began_ns, uint64_t count)
{
    double ns = (double)(cpu_ns() - began_ns);
    printf("%-38s %8.1f ns each, %10.0f /s, %8.1f ms in all\n", what, ns / (double)count,
           (double)count * 1e9 / ns, ns / 1e6);
}

static void put_one(uint32_t i, uint32_t batch)
{
    char name[64];
    struct slice key = key_name(i, name);
    memcpy(value, &i, sizeof(i));
    mvcc_txn_begin(m);
    (void)mvcc_txn_put(m, key, slice_of(value, value_bytes), 0, NULL);
    mvcc_txn_end(m);
    static uint32_t count;
    if (++count % batch == 0) {
        mvcc_publish(m);
        epoch_collect(mvcc_epoch(m));
    }
}

static void memory(const char *when, uint64_t before)
{
    struct mvcc_stats s;
    mvcc_publish(m);
    mvcc_stats(m, &s);
    uint64_t rss = rss_bytes() - before, n = s.keys > 0 ? s.keys : 1;
    char name[64];
    printf("%s: %" PRIu64 " keys, %" PRIu64 " versions, resident %.1f MB, per key %.1f B "
           "(payload %zu, versions %.1f, index %.1f)\n",
           when, s.keys, s.versions, (double)rss / 1e6, (double)rss / (double)n,
           key_name(1, name).size + value_bytes, (double)s.version_bytes / (double)n,
           (double)s.index_bytes / (double)n);
}

static void puts_figures(uint64_t before)
{
    struct rng rng;
    rng_init(&rng, 1);
    uint64_t t = cpu_ns();
    for (uint32_t i = 0; i < keys; i++)
        put_one(i, BATCH);
    report("put, new keys, random order", t, keys);
    memory("after creation", before);
    uint32_t updates = keys / 2;
    t = cpu_ns();
    for (uint32_t i = 0; i < updates; i++)
        put_one((uint32_t)rng_below(&rng, keys), BATCH);
    report("put, existing keys, batches of 100", t, updates);
    t = cpu_ns();
    for (uint32_t i = 0; i < updates / 4; i++)
        put_one((uint32_t)rng_below(&rng, keys), 1);
    report("put, existing keys, one by one", t, updates / 4);
    t = cpu_ns();
    for (uint32_t i = 0; i < updates / 4; i++)
        put_one(keys + i, 1);
    report("put, new keys, one by one", t, updates / 4);
}

static void overwrite(uint32_t count)
{
    struct rng rng;
    rng_init(&rng, 3);
    for (uint32_t i = 0; i < count; i++)
        put_one((uint32_t)rng_below(&rng, keys), 1);
}

static void reads_figures(void)
{
    struct rng rng;
    rng_init(&rng, 2);
    char name[64];
    uint32_t gets = keys, counts = 100000;
    uint64_t t = cpu_ns(), found = 0;
    for (uint32_t i = 0; i < gets; i++)
        found += mvcc_get(m, key_name((uint32_t)rng_below(&rng, keys), name), 0) != NULL;
    ASSERT(found == gets);
    report("get, random (with making the name)", t, gets);

    struct mvcc_iter it;
    const struct mvcc_version *v;
    uint64_t bytes = 0, n = 0;
    t = cpu_ns();
    mvcc_iter_init(&it, m, SLICE_EMPTY, all_end, 0);
    while ((v = mvcc_iter_next(&it)) != NULL) {
        bytes += mvcc_version_kv(v).size;
        n++;
    }
    report("walk over all, sizes only", t, n);
    uint8_t *out = mem_alloc(1 << 20);
    t = cpu_ns();
    mvcc_iter_init(&it, m, SLICE_EMPTY, all_end, 0);
    size_t at = 0;
    while ((v = mvcc_iter_next(&it)) != NULL) {
        struct slice kv = mvcc_version_kv(v);
        at = at + kv.size > 1 << 20 ? 0 : at;
        memcpy(out + at, kv.data, kv.size);
        at += kv.size;
    }
    report("walk over all, bytes copied", t, n);
    mem_free(out);

    t = cpu_ns();
    for (uint32_t i = 0; i < counts; i++)
        n += (uint64_t)mvcc_count(m, key_name((uint32_t)rng_below(&rng, keys), name), all_end, 0);
    report("count at the newest revision", t, counts);
    int64_t rev = mvcc_revision(m) - 1000;
    rev = rev < mvcc_compacted(m) ? mvcc_compacted(m) : rev;
    t = cpu_ns();
    for (uint32_t i = 0; i < 1000; i++)
        n += (uint64_t)mvcc_count(m, SLICE_EMPTY, all_end, rev);
    report("count, 1000 revisions back", t, 1000);
    struct mvcc_hash h;
    t = cpu_ns();
    (void)mvcc_hash(m, 0, &h);
    report("hash", t, keys);
    ASSERT(bytes > 0 && n > 0);
}

/* Until nothing is left to be done, as in the core's turns. */
static void pack_figures(uint64_t before)
{
    uint64_t t = cpu_ns(), worst = 0, slices = 0;
    for (int idle = 0; idle < 10; slices++) {
        uint64_t s = cpu_ns();
        bool more = mvcc_pack(m, 256);
        s = cpu_ns() - s;
        worst = s > worst ? s : worst;
        idle = more ? 0 : idle + 1;
        epoch_collect(mvcc_epoch(m));
    }
    report("pack, slice of 256", t, slices);
    printf("longest slice %.1f us\n", (double)worst / 1e3);
    memory("after packing", before);
}

static void compact_figures(uint64_t before)
{
    memory("before compaction", before);
    (void)mvcc_compact(m, mvcc_revision(m));
    mvcc_publish(m);
    uint64_t t = cpu_ns(), worst = 0, slices = 0;
    while (!mvcc_scrub_is_done(m)) {
        uint64_t s = cpu_ns();
        (void)mvcc_scrub(m, 512);
        s = cpu_ns() - s;
        worst = s > worst ? s : worst;
        slices++;
    }
    report("scrub, slice of 512", t, slices);
    printf("longest slice %.1f us\n", (double)worst / 1e3);
    epoch_collect(mvcc_epoch(m));
    memory("after compaction", before);
    pack_figures(before);
    struct mvcc_hash h;
    t = cpu_ns();
    (void)mvcc_hash(m, 0, &h);
    report("hash, all compacted", t, keys);
}

static int by_revision(const void *a, const void *b)
{
    int64_t x = mvcc_version_mod_revision(*(struct mvcc_version *const *)a);
    int64_t y = mvcc_version_mod_revision(*(struct mvcc_version *const *)b);
    return (x > y) - (x < y);
}

static void load_figures(void)
{
    struct mvcc_stats s;
    mvcc_stats(m, &s);
    struct mvcc_version **v = mem_alloc(s.keys * sizeof(struct mvcc_version *));
    struct mvcc_iter it;
    const struct mvcc_version *from;
    size_t n = 0;
    uint64_t t = cpu_ns();
    mvcc_iter_init(&it, m, SLICE_EMPTY, all_end, 0);
    while ((from = mvcc_iter_next(&it)) != NULL) {
        int rv = mvcc_version_new(mvcc_version_mod_revision(from), mvcc_version_sub(from), false,
                                  mvcc_version_kv(from), &v[n++]);
        ASSERT(rv == 0);
    }
    report("load: mvcc_version_new", t, n);
    qsort(v, n, sizeof(struct mvcc_version *), by_revision);
    int64_t rev = mvcc_revision(m), compacted = mvcc_compacted(m);
    struct mvcc *to = mvcc_new(NULL);
    t = cpu_ns();
    mvcc_load_begin(to);
    for (size_t i = 0; i < n; i++)
        (void)mvcc_load_add(to, v[i]);
    report("load: mvcc_load_add", t, n);
    t = cpu_ns();
    mvcc_load_end(to, rev, compacted);
    report("load: mvcc_load_end", t, n);
    mvcc_check(to);
    mvcc_free(to);
    mem_free(v);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        keys = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        value_bytes = (uint32_t)strtoul(argv[2], NULL, 10);
    if (keys < 10000 || value_bytes < sizeof(keys))
        return EXIT_FAILURE;
    value = mem_alloc_zero(value_bytes);
    m = mvcc_new(NULL);
    uint64_t before = rss_bytes();
    puts_figures(before);
    reads_figures();
    compact_figures(before);
    overwrite(keys * 10);
    compact_figures(before);
    reads_figures();
    load_figures();
    mvcc_free(m);
    mem_free(value);
    return EXIT_SUCCESS;
}

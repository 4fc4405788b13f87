/* Any records as those of a snapshot from another member, put into a fresh database and into the
 * store in memory. An input is the numbers of struct lsm_meta, 4 bytes each, a size u16 of the
 * first piece, and the records in two pieces. Then what was taken is sent once more, with the sum
 * that it has: it must be taken now, and read back from the database. */
#include "base/folder.h"
#include "storage/lsm.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NUMBERS = 5, HEAD_BYTES = 4 * NUMBERS + 2 };

static char dir[64];

static void remove_dir(void)
{
    folder_remove(dir);
}

static void make_dir(void)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(dir, sizeof(dir), "%s/trivet-fuzz-XXXXXX", base);
    ASSERT(mkdtemp(dir) != NULL);
    (void)atexit(remove_dir);
    log_set_level(LOG_FATAL);
}

struct piece {
    struct lsm_meta meta;
    struct slice records[2];
};

static void on_lease(void *ctx, const struct lsm_lease *lease)
{
    (void)ctx;
    (void)lease;
}

/* The store afterwards is *m. */
static int take(const struct piece *p, struct mvcc *m)
{
    char folder[80], why[256];
    struct lsm_intake *in;
    (void)snprintf(folder, sizeof(folder), "%s/incoming", dir);
    folder_remove(folder);
    int rv = lsm_intake_open(folder, &p->meta, &in, why, sizeof(why));
    if (rv != 0)
        return rv;
    for (int i = 0; rv == 0 && i < 2; i++)
        rv = lsm_intake_add(in, p->records[i]);
    if (rv == 0) {
        struct persist_meta *own = NULL;
        persist_meta_put(&own, SLICE_LITERAL("self"), SLICE_LITERAL("f"));
        lsm_intake_commit(in, own);
        struct slice self = lsm_intake_get(in, SLICE_LITERAL("self"));
        ASSERT(slice_equal(self, SLICE_LITERAL("f")));
        rv = lsm_intake_load(in, m, on_lease, NULL);
        rv = rv == TV_ECORRUPT ? TV_EAGAIN : rv; /* the sum is another */
    }
    lsm_intake_free(in);
    return rv;
}

static void read_back(const struct mvcc_content *expected)
{
    char folder[80], why[256] = "";
    struct lsm *l;
    struct lsm_meta meta;
    struct mvcc *m = mvcc_new(NULL);
    (void)snprintf(folder, sizeof(folder), "%s/incoming", dir);
    int rv = lsm_open(folder, NULL, &l, why, sizeof(why));
    ASSERT(rv == 0);
    rv = lsm_load(l, m, 1, &meta, on_lease, NULL, why, sizeof(why));
    ASSERT(rv == 0);
    struct mvcc_content content;
    mvcc_content(m, &content);
    ASSERT(content.sum == expected->sum);
    lsm_close(l);
    mvcc_free(m);
}

static uint32_t number(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (dir[0] == '\0')
        make_dir();
    if (size < HEAD_BYTES)
        return 0;
    struct piece p = {.meta = {.applied_index = number(data),
                               .applied_term = number(data + 4),
                               .revision = (int32_t)number(data + 8),
                               .compacted = (int32_t)number(data + 12),
                               .content = {.compacted = (int32_t)number(data + 16)}}};
    size_t first = (size_t)data[HEAD_BYTES - 2] | (size_t)data[HEAD_BYTES - 1] << 8;
    struct slice records = slice_of(data + HEAD_BYTES, size - HEAD_BYTES);
    first = first < records.size ? first : records.size;
    p.records[0] = slice_of(records.data, first);
    p.records[1] = slice_of(records.data + first, records.size - first);
    struct mvcc *m = mvcc_new(NULL);
    int rv = take(&p, m);
    if (rv == TV_EAGAIN) {
        mvcc_content(m, &p.meta.content);
        mvcc_free(m);
        m = mvcc_new(NULL);
        rv = take(&p, m);
        ASSERT(rv == 0);
    }
    if (rv == 0) {
        struct mvcc_content content;
        mvcc_content(m, &content);
        read_back(&content);
    }
    mvcc_free(m);
    return 0;
}

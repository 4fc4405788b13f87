/* Opening: find the segments, replay the batches, decide what the end is, and make it clean.
 *
 * 0. No file is cut off, in another's place, or of another log: nothing is changed before that is
 * known.
 * 1. The lowest segment must have a good header: nothing ever removes a segment before the next
 * one's header is durable, and a new log's first segment gets its name after its header.
 * 2. Batches are replayed by number, through the segments, up to the first that does not verify.
 * 3. What lies behind that place is searched for anything that says the missing batch was durable.
 * If there is: damage, and nothing is changed on disk. If not: a torn tail.
 * 4. Batches behind a torn tail may be whole. All that begins like a batch of this segment, whole
 * or not, loses its first block (zeros, durably), so that it can never follow what will be written
 * in front of it. Not whole as well: a later torn write in its place may bring just the sector it
 * lacks.
 * 5. All segments are synced: what a killed process had in the page cache or in the drive's was
 * read above, and counts as durable from now on.
 * 6. An empty batch states that all before it was durable. wal_close() does the same, so damage to
 * the very last batch of a log that was closed is seen as well. */
#include "wal_internal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATE_NAME "create.tmp"

enum {
    NAMES_MAX = 65536,
    /* Of segments that seem never to have been begun, so much is searched, all together: twice what
     * may be under way at once, as segments may be left half empty. */
    SPARES_SEARCH_BYTES = 2 * WAL_IN_FLIGHT_BYTES_MAX + WAL_BLOCK_BYTES,
};

struct opening {
    struct wal *w;
    const struct wal_replay *replay;
    uint64_t *seqs; /* found in the directory, ascending */
    size_t seqs_count;
    size_t seqs_capacity;
    char (*leftovers)[DISK_NAME_MAX];
    size_t leftovers_count;

    uint64_t expected; /* number of the next batch */
    struct wal_segment *stop;
    uint64_t stop_offset;
    bool hs_told;
    struct wal_hard_state hs;

    char *err_text;
    size_t err_size;
};

static int fail_at(struct opening *o, int rv, uint64_t seq, uint64_t offset, const char *what)
{
    char name[DISK_NAME_MAX];
    wal__segment_name(name, seq);
    (void)snprintf(o->err_text, o->err_size, "%s/%s: offset %" PRIu64 ": %s", o->w->disk->dir, name,
                   offset, what);
    return rv;
}

static int fail_io(struct opening *o, uint64_t seq, uint64_t offset, int err)
{
    return fail_at(o, err == -ENOSPC ? TV_ENOSPC : TV_EIO, seq, offset, strerror(-err));
}

/* --- doing one thing and waiting for it --- */

struct waited_write {
    struct disk_write req;
    bool done;
    int err;
};

static void write_waited(struct disk_write *req, int err)
{
    struct waited_write *x = CONTAINER_OF(req, struct waited_write, req);
    x->done = true;
    x->err = err;
}

static int write_and_wait(struct wal *w, struct disk_file *f, uint64_t offset, const uint8_t *block)
{
    struct waited_write x = {.req = {.file = f,
                                     .offset = offset,
                                     .data = block,
                                     .size = WAL_BLOCK_BYTES,
                                     .done = write_waited}};
    disk_write(w->disk, &x.req);
    while (!x.done)
        disk_poll(w->disk, true);
    return x.err;
}

struct waited_chore {
    struct disk_chore req;
    bool done;
    int err;
};

static void chore_waited(struct disk_chore *req, int err)
{
    struct waited_chore *x = CONTAINER_OF(req, struct waited_chore, req);
    x->done = true;
    x->err = err;
}

static int chore_and_wait(struct wal *w, enum disk_chore_kind kind, const char *name,
                          const char *to, uint64_t size)
{
    struct waited_chore x = {
        .req = {.kind = kind, .size = size, .hurry = true, .done = chore_waited}};
    (void)snprintf(x.req.name, sizeof(x.req.name), "%s", name);
    (void)snprintf(x.req.to, sizeof(x.req.to), "%s", to);
    disk_do_chore(w->disk, &x.req);
    while (!x.done)
        disk_poll(w->disk, true);
    return x.err;
}

/* --- what is there --- */

static void note_name(void *ctx, const char *name)
{
    struct opening *o = ctx;
    uint64_t seq;
    size_t size = strlen(name);
    if (wal__segment_name_parse(name, &seq)) {
        if (o->seqs_count == o->seqs_capacity) {
            o->seqs_capacity = o->seqs_capacity == 0 ? 64 : o->seqs_capacity * 2;
            o->seqs = mem_realloc(o->seqs, o->seqs_capacity * sizeof(o->seqs[0]));
        }
        o->seqs[o->seqs_count++] = seq;
    } else if (size > 4 && size < DISK_NAME_MAX && strcmp(name + size - 4, ".tmp") == 0 &&
               o->leftovers_count < NAMES_MAX) {
        o->leftovers = mem_realloc(o->leftovers, (o->leftovers_count + 1) * DISK_NAME_MAX);
        memcpy(o->leftovers[o->leftovers_count++], name, size + 1);
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int list_files(struct opening *o)
{
    int rv = disk_list(o->w->disk, note_name, o);
    if (rv != 0) {
        (void)snprintf(o->err_text, o->err_size, "cannot list %s: %s", o->w->disk->dir,
                       strerror(-rv));
        return TV_EIO;
    }
    if (o->seqs_count > 1)
        qsort(o->seqs, o->seqs_count, sizeof(o->seqs[0]), compare_u64);
    for (size_t i = 0; i < o->leftovers_count; i++)
        wal__remove_file(o->w, o->leftovers[i]);
    return 0;
}

static int open_segments(struct opening *o)
{
    struct wal *w = o->w;
    for (size_t i = 0; i < o->seqs_count; i++) {
        char name[DISK_NAME_MAX];
        struct wal_segment *s = wal__segment_new(o->seqs[i], 0);
        wal__segment_name(name, s->seq);
        list_push_back(&w->segments, &s->link);
        int rv = disk_open_file(w->disk, name, &s->file);
        if (rv == 0)
            rv = disk_file_size(w->disk, s->file, &s->size_bytes);
        if (rv != 0)
            return fail_io(o, s->seq, 0, rv);
        /* A file gets its name when it has its size, which is never such a one. */
        if (s->size_bytes % WAL_BLOCK_BYTES != 0 || s->size_bytes < WAL_SEGMENT_BYTES_MIN)
            return fail_at(o, TV_ECORRUPT, s->seq, s->size_bytes, "the file is cut off");
        w->size_bytes += s->size_bytes;
    }
    return 0;
}

/* There was a log, and it is not there any more. */
static int fail_missing(struct opening *o)
{
    (void)snprintf(o->err_text, o->err_size, "%s: offset 0: the log is missing", o->w->disk->dir);
    return TV_ECORRUPT;
}

/* A new log: the first segment gets its name when its header is durable. */
static int create(struct opening *o)
{
    struct wal *w = o->w;
    char name[DISK_NAME_MAX];
    struct disk_file *f;
    wal__segment_name(name, 1);
    w->salt = w->o.salt != 0 ? w->o.salt : rng_seed_from_os();
    int rv = chore_and_wait(w, DISK_PREPARE, CREATE_NAME, "", w->o.segment_size_bytes);
    if (rv != 0)
        return fail_io(o, 1, 0, rv);
    rv = disk_open_file(w->disk, CREATE_NAME, &f);
    if (rv != 0)
        return fail_io(o, 1, 0, rv);
    uint8_t *block = mem_alloc_aligned(WAL_BLOCK_BYTES, WAL_BLOCK_BYTES);
    struct wal_header h = {.segment_seq = 1,
                           .cluster_id = w->o.cluster_id,
                           .member_id = w->o.member_id,
                           .salt = w->salt,
                           .first_batch = 1,
                           .first_index = 1,
                           .segment_bytes = w->o.segment_size_bytes};
    wal__header_encode(block, &h);
    rv = write_and_wait(w, f, 0, block);
    mem_free(block);
    disk_close_file(w->disk, f);
    if (rv == 0)
        rv = chore_and_wait(w, DISK_RENAME, CREATE_NAME, name, 0);
    if (rv != 0)
        return fail_io(o, 1, 0, rv);
    note_name(o, name);
    return 0;
}

/* --- headers --- */

static int read_header(struct opening *o, const struct wal_segment *s, struct wal_header *ret,
                       bool *ret_good)
{
    int err = 0;
    *ret_good = false;
    if (s->size_bytes < WAL_BLOCK_BYTES)
        return 0;
    const uint8_t *block = wal__window(o->w, s, 0, WAL_BLOCK_BYTES, s->size_bytes, &err);
    if (err != 0)
        return fail_io(o, s->seq, 0, err);
    *ret_good = block != NULL && wal__header_decode(block, ret);
    return 0;
}

static int check_first_header(struct opening *o, const struct wal_segment *s, struct wal_header *h)
{
    struct wal *w = o->w;
    bool good;
    int rv = read_header(o, s, h, &good);
    if (rv != 0)
        return rv;
    if (!good)
        return fail_at(o, TV_ECORRUPT, s->seq, 0, "the segment's header does not verify");
    if (h->version != WAL_VERSION || h->block_bytes != WAL_BLOCK_BYTES)
        return fail_at(o, TV_ENOTSUP, s->seq, 0, "a version of the log that is not known here");
    char text[128];
    if (h->cluster_id != w->o.cluster_id || h->member_id != w->o.member_id) {
        (void)snprintf(text, sizeof(text),
                       "the log belongs to cluster %" PRIx64 ", member %" PRIx64
                       ", not to cluster %" PRIx64 ", member %" PRIx64,
                       h->cluster_id, h->member_id, w->o.cluster_id, w->o.member_id);
        return fail_at(o, TV_EINVAL, s->seq, 0, text);
    }
    if (h->segment_seq != s->seq) {
        (void)snprintf(text, sizeof(text), "the header is that of segment %" PRIx64,
                       h->segment_seq);
        return fail_at(o, TV_ECORRUPT, s->seq, 0, text);
    }
    if (w->o.log_id != 0 && h->salt != w->o.log_id)
        return fail_at(o, TV_ECORRUPT, s->seq, 0, "the segment is of another log");
    w->salt = h->salt;
    return 0;
}

/* A header that verifies is no torn write, so what it says is so: that the file is another's, of
 * another log or of another segment that is kept, or that it was longer. A file that waits for its
 * reuse has the header of a segment that was given up; one that was never used has none. */
static int check_header(struct opening *o, const struct wal_segment *s)
{
    const struct wal *w = o->w;
    struct wal_header h;
    bool good;
    char text[128];
    int rv = read_header(o, s, &h, &good);
    if (rv != 0 || !good || h.version != WAL_VERSION)
        return rv;
    if (h.salt != w->salt || h.cluster_id != w->o.cluster_id || h.member_id != w->o.member_id)
        return fail_at(o, TV_ECORRUPT, s->seq, 0, "the segment is of another log");
    const struct wal_segment *lowest = CONTAINER_OF(w->segments.next, struct wal_segment, link);
    if (h.segment_seq > s->seq || (h.segment_seq < s->seq && h.segment_seq >= lowest->seq)) {
        (void)snprintf(text, sizeof(text), "the header is that of segment %" PRIx64, h.segment_seq);
        return fail_at(o, TV_ECORRUPT, s->seq, 0, text);
    }
    if (s->size_bytes < h.segment_bytes) {
        (void)snprintf(text, sizeof(text), "the file is cut off: it had %" PRIu64 " bytes",
                       h.segment_bytes);
        return fail_at(o, TV_ECORRUPT, s->seq, s->size_bytes, text);
    }
    return 0;
}

static int check_headers(struct opening *o)
{
    LIST_EACH (it, &o->w->segments) {
        int rv = check_header(o, CONTAINER_OF(it, struct wal_segment, link));
        if (rv != 0)
            return rv;
    }
    return 0;
}

/* Is this the header of that segment of this log? */
static bool header_is_ours(const struct opening *o, const struct wal_segment *s,
                           const struct wal_header *h)
{
    const struct wal *w = o->w;
    return h->version == WAL_VERSION && h->segment_seq == s->seq && h->salt == w->salt &&
           h->cluster_id == w->o.cluster_id && h->member_id == w->o.member_id;
}

/* --- replay --- */

static void tell_start(struct opening *o, uint64_t log_index, uint64_t term)
{
    struct wal *w = o->w;
    w->before_first = w->last_index = log_index;
    wal__terms_reset(&w->terms, log_index, term);
    wal__index_clear(&w->index);
    if (o->replay->start != NULL)
        o->replay->start(o->replay->ctx, log_index, term);
}

static void tell_hard_state(struct opening *o, uint64_t term, uint64_t vote, uint64_t commit)
{
    struct wal_hard_state hs = {.term = term, .vote = vote, .commit = commit};
    if (o->hs_told && hs.term == o->hs.term && hs.vote == o->hs.vote && hs.commit == o->hs.commit)
        return;
    o->hs = hs;
    o->hs_told = true;
    if (o->replay->hard_state != NULL)
        o->replay->hard_state(o->replay->ctx, &hs);
}

static int tell_entry(struct opening *o, struct wal_entry *e)
{
    if (e->data.size > 0 && e->log_index >= o->w->o.payload_from_index) {
        e->owner = bref_new(e->data.size);
        memcpy(e->owner->data, e->data.data, e->data.size);
        e->data = slice_of(e->owner->data, e->data.size);
    } else {
        e->data = SLICE_EMPTY;
    }
    int rv = o->replay->entry(o->replay->ctx, e);
    bref_unref(e->owner);
    return rv;
}

static int replay_batch(struct opening *o, const struct wal_segment *s, uint64_t offset,
                        const uint8_t *data, const struct wal_frame *f)
{
    struct wal *w = o->w;
    if (f->first_index == 0 || f->first_index > WAL_NUMBER_MAX)
        return fail_at(o, TV_ECORRUPT, s->seq, offset, "a batch without a place in the log");
    if ((f->flags & WAL_FRAME_RESTART) != 0 || f->first_index <= w->before_first)
        tell_start(o, f->first_index - 1, f->prev_term);
    if (f->first_index > w->last_index + 1)
        return fail_at(o, TV_ECORRUPT, s->seq, offset, "entries are missing before this batch");

    uint64_t last_before = w->last_index;
    uint32_t at = 0;
    for (uint32_t i = 0; i < f->entries_count; i++) {
        struct wal_entry e;
        if (!wal__record_next(data, f, &at, &e))
            return fail_at(o, TV_ECORRUPT, s->seq, offset, "an entry is longer than its batch");
        e.log_index = f->first_index + i;
        w->last_index = e.log_index;
        wal__terms_add(&w->terms, e.log_index, e.term);
        int rv = tell_entry(o, &e);
        if (rv != 0)
            return fail_at(o, rv, s->seq, offset, "an entry was refused");
    }
    if (f->entries_count > 0)
        wal__index_add(&w->index, f->first_index, last_before, s->seq, offset);
    tell_hard_state(o, f->hs_term, f->hs_vote, f->hs_commit);
    return 0;
}

static struct wal_segment *segment_after(struct wal *w, const struct wal_segment *s)
{
    return s->link.next == &w->segments ? NULL
                                        : CONTAINER_OF(s->link.next, struct wal_segment, link);
}

/* The number of the first batch of the segment behind this one; 0 when it was not begun. */
static int first_batch_after(struct opening *o, const struct wal_segment *s, uint64_t *ret)
{
    struct wal_segment *after = segment_after(o->w, s);
    struct wal_header h;
    bool good;
    *ret = 0;
    if (after == NULL || after->seq != s->seq + 1)
        return 0;
    int rv = read_header(o, after, &h, &good);
    if (rv == 0 && good && header_is_ours(o, after, &h))
        *ret = h.first_batch;
    return rv;
}

/* One segment's batches, up to where the next segment begins or to the first that does not verify.
 */
static int replay_segment(struct opening *o, struct wal_segment *s, bool *ret_goes_on)
{
    uint64_t first_after;
    int rv = first_batch_after(o, s, &first_after);
    s->first_batch = o->expected;
    while (rv == 0 && first_after != o->expected) {
        struct wal_frame f;
        int err;
        const uint8_t *data = wal__read_batch(o->w, s, s->end_bytes, s->size_bytes, &f, &err);
        if (err != 0)
            return fail_io(o, s->seq, s->end_bytes, err);
        if (data == NULL || f.number != o->expected)
            break;
        rv = replay_batch(o, s, s->end_bytes, data, &f);
        s->end_bytes += wal__frame_bytes(f.body_bytes);
        o->expected++;
    }
    s->durable_bytes = s->end_bytes;
    *ret_goes_on = first_after == o->expected;
    return rv;
}

static int replay_all(struct opening *o)
{
    struct wal *w = o->w;
    struct wal_segment *s = CONTAINER_OF(w->segments.next, struct wal_segment, link);
    struct wal_header h;
    int rv = check_first_header(o, s, &h);
    if (rv == 0)
        rv = check_headers(o);
    if (rv != 0)
        return rv;
    if (h.first_index == 0 || h.first_batch == 0 || h.first_index > WAL_NUMBER_MAX ||
        h.first_batch > WAL_NUMBER_MAX)
        return fail_at(o, TV_ECORRUPT, s->seq, 0, "the segment's header makes no sense");
    o->expected = h.first_batch;
    tell_start(o, h.first_index - 1, h.prev_term);
    tell_hard_state(o, h.hs_term, h.hs_vote, h.hs_commit);
    bool goes_on = true;
    while (goes_on) {
        rv = replay_segment(o, s, &goes_on);
        if (rv != 0)
            return rv;
        o->stop = s;
        o->stop_offset = s->end_bytes;
        s = segment_after(w, s);
    }
    return 0;
}

/* --- the end of the log --- */

struct finding {
    uint64_t spares_searched_bytes;
    uint64_t headless_seq; /* the first segment behind the end without a good header; 0: none */
    bool durable;          /* something says that the expected batch was durable */
    uint64_t *blocks; /* offsets, in the segment searched, of what begins like a batch or header */
    size_t blocks_count;
    size_t blocks_capacity;
};

static void note_block(struct finding *x, uint64_t offset)
{
    if (x->blocks_count == x->blocks_capacity) {
        x->blocks_capacity = x->blocks_capacity == 0 ? 16 : x->blocks_capacity * 2;
        x->blocks = mem_realloc(x->blocks, x->blocks_capacity * sizeof(x->blocks[0]));
    }
    x->blocks[x->blocks_count++] = offset;
}

/* The segment's header, good or not; *ret_begun: the segment had been begun. */
static int search_header(struct opening *o, struct wal_segment *s, struct finding *x,
                         bool *ret_begun)
{
    struct wal_header h = {0};
    bool good;
    int rv = read_header(o, s, &h, &good);
    if (rv != 0)
        return rv;
    *ret_begun = h.magic == WAL_HEADER_MAGIC && h.segment_seq == s->seq;
    if (*ret_begun)
        note_block(x, 0);
    good = good && header_is_ours(o, s, &h);
    if (good && h.durable_batch >= o->expected)
        x->durable = true;
    if (!good && x->headless_seq == 0)
        x->headless_seq = s->seq;
    return 0;
}

/* Search a segment from an offset on for batches, whatever lies between them. */
static int search_segment(struct opening *o, struct wal_segment *s, uint64_t from,
                          struct finding *x)
{
    struct wal *w = o->w;
    uint64_t end = s->size_bytes;
    bool begun = from > 0;
    if (from == 0) {
        int rv = search_header(o, s, x, &begun);
        if (rv != 0)
            return rv;
        from = WAL_BLOCK_BYTES;
    }
    for (uint64_t at = from; at < end; at += WAL_BLOCK_BYTES) {
        struct wal_frame f;
        int err = 0;
        if (!begun && x->spares_searched_bytes >= SPARES_SEARCH_BYTES)
            break;
        x->spares_searched_bytes += begun ? 0 : WAL_BLOCK_BYTES;
        const uint8_t *block = wal__window(w, s, at, WAL_BLOCK_BYTES, end, &err);
        if (err != 0)
            return fail_io(o, s->seq, at, err);
        if (block == NULL || !wal__frame_peek(block, s->seq, end - at, &f))
            continue;
        begun = true;
        note_block(x, at);
        if (wal__read_batch(w, s, at, end, &f, &err) != NULL && f.durable_batch >= o->expected)
            x->durable = true;
        if (err != 0)
            return fail_io(o, s->seq, at, err);
    }
    return 0;
}

/* Is there something at the log's end that began as the next batch? */
static bool batch_begins_at_stop(struct opening *o)
{
    struct wal_frame f;
    int err;
    uint64_t end = o->stop->size_bytes;
    if (o->stop_offset + WAL_BLOCK_BYTES > end)
        return false;
    const uint8_t *block = wal__window(o->w, o->stop, o->stop_offset, WAL_BLOCK_BYTES, end, &err);
    return block != NULL && wal__frame_peek(block, o->stop->seq, end - o->stop_offset, &f);
}

static int fail_damaged(struct opening *o, const struct finding *x)
{
    const struct wal_segment *after = segment_after(o->w, o->stop);
    uint64_t next = o->stop->seq + 1;
    char text[128];
    if (after != NULL && !batch_begins_at_stop(o)) {
        if (after->seq != next)
            return fail_at(o, TV_ECORRUPT, next, 0, "the segment is missing");
        if (x->headless_seq == next)
            return fail_at(o, TV_ECORRUPT, next, 0, "the segment's header does not verify");
    }
    (void)snprintf(text, sizeof(text),
                   "batch %" PRIu64 " does not verify, but was durable: a later one says so",
                   o->expected);
    return fail_at(o, TV_ECORRUPT, o->stop->seq, o->stop_offset, text);
}

/* Look at all behind the end first, and only then change anything. */
static int judge_tail(struct opening *o)
{
    struct finding x = {0};
    int rv = 0;
    for (struct wal_segment *s = o->stop; s != NULL && rv == 0; s = segment_after(o->w, s)) {
        rv = search_segment(o, s, s == o->stop ? o->stop_offset : 0, &x);
        if (rv == 0 && x.durable)
            rv = fail_damaged(o, &x);
    }
    mem_free(x.blocks);
    /* Files are made and given up in order (wal_segment.c, rule 5): whatever the missing one held
     * is lost. */
    const struct wal_segment *after = segment_after(o->w, o->stop);
    if (rv == 0 && after != NULL && after->seq != o->stop->seq + 1)
        rv = fail_at(o, TV_ECORRUPT, o->stop->seq + 1, 0, "the segment is missing");
    return rv;
}

static int erase_tail(struct opening *o)
{
    struct wal *w = o->w;
    uint8_t *zeros = mem_alloc_aligned(WAL_BLOCK_BYTES, WAL_BLOCK_BYTES);
    memset(zeros, 0, WAL_BLOCK_BYTES);
    struct finding x = {0};
    int rv = 0;
    for (struct wal_segment *s = o->stop; s != NULL && rv == 0; s = segment_after(w, s)) {
        x.blocks_count = 0;
        rv = search_segment(o, s, s == o->stop ? o->stop_offset : 0, &x);
        for (size_t i = 0; i < x.blocks_count && rv == 0; i++) {
            PROBE(wal_torn_tail_erased);
            int err = write_and_wait(w, s->file, x.blocks[i], zeros);
            if (err != 0)
                rv = fail_io(o, s->seq, x.blocks[i], err);
        }
    }
    mem_free(x.blocks);
    mem_free(zeros);
    return rv;
}

/* Segments behind the end become spares where they follow without a gap and have the right size. */
static void sort_out_spares(struct opening *o)
{
    struct wal *w = o->w;
    struct wal_segment *s;
    w->next_seq = o->stop->seq + 1;
    uint32_t kept = 0;
    while ((s = segment_after(w, o->stop)) != NULL) {
        list_remove(&s->link);
        if (s->seq == w->next_seq && s->size_bytes == w->o.segment_size_bytes &&
            kept < 1 + w->o.segments_keep_max) {
            w->next_seq++;
            kept++;
            list_push_back(&w->spares, &s->link);
            continue;
        }
        char name[DISK_NAME_MAX];
        wal__segment_name(name, s->seq);
        w->size_bytes -= s->size_bytes;
        wal__segment_free(w, s);
        wal__remove_file(w, name);
    }
}

static int sync_segments(struct opening *o)
{
    LIST_EACH (it, &o->w->segments) {
        struct wal_segment *s = CONTAINER_OF(it, struct wal_segment, link);
        int rv = disk_sync_file(o->w->disk, s->file);
        if (rv != 0)
            return fail_io(o, s->seq, 0, rv);
    }
    return 0;
}

static void begin_writing(struct opening *o)
{
    struct wal *w = o->w;
    w->last_batch = w->durable_batch = o->expected - 1;
    w->durable_index = w->placed_last_index = w->last_index;
    w->placed_last_term = wal__terms_get(&w->terms, w->last_index);
    w->hs = w->hs_placed = o->hs;
    mem_free(w->window.data); /* it may hold what the tail was before */
    w->window = (struct wal_window){.read_bytes = WAL_READ_BYTES};
    wal__append_mark(w);
    wal_flush(w);
}

static int run(struct opening *o)
{
    struct wal *w = o->w;
    int rv = list_files(o);
    if (rv == 0 && o->seqs_count == 0)
        rv = w->o.log_id != 0 ? fail_missing(o) : create(o);
    if (rv == 0)
        rv = open_segments(o);
    if (rv == 0)
        rv = replay_all(o);
    if (rv == 0)
        rv = judge_tail(o);
    if (rv == 0)
        rv = sync_segments(o);
    if (rv == 0)
        rv = erase_tail(o);
    if (rv != 0)
        return rv;
    sort_out_spares(o);
    begin_writing(o);
    if (!wal_idle(w))
        return fail_io(o, o->stop->seq + 1, 0, -ENOSPC);
    return 0;
}

static struct wal *new_wal(const struct wal_options *options)
{
    struct wal *w = mem_alloc_zero(sizeof(*w));
    ASSERT(options->segment_size_bytes % WAL_BLOCK_BYTES == 0);
    ASSERT(options->segment_size_bytes >= WAL_SEGMENT_BYTES_MIN);
    ASSERT(options->writes_max <= WAL_WRITES_MAX);
    w->o = *options;
    w->disk = options->disk;
    w->window.read_bytes = WAL_READ_OPENING_BYTES;
    if (w->o.writes_max == 0)
        w->o.writes_max = w->disk->writes_max;
    uint64_t room = w->o.segment_size_bytes - WAL_BLOCK_BYTES;
    w->frame_bytes_max =
        room < WAL_FRAME_BYTES_MAX - WAL_BLOCK_BYTES ? room : WAL_FRAME_BYTES_MAX - WAL_BLOCK_BYTES;
    list_init(&w->segments);
    list_init(&w->spares);
    list_init(&w->chores);
    list_init(&w->queue);
    list_init(&w->in_flight);
    list_init(&w->batches_free);
    return w;
}

int wal_open(const struct wal_options *options, const struct wal_replay *replay, struct wal **ret,
             char *err_text, size_t err_size)
{
    struct wal *w = new_wal(options);
    struct opening o = {.w = w, .replay = replay, .err_text = err_text, .err_size = err_size};
    int rv = run(&o);
    mem_free(o.seqs);
    mem_free(o.leftovers);
    if (rv != 0) {
        while (!list_is_empty(&w->chores))
            disk_poll(w->disk, true);
        wal__free(w);
        return rv;
    }
    *ret = w;
    return 0;
}

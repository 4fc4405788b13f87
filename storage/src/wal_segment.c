/* Segments: spares made ready beforehand, rolling to the next one, cutting old ones.
 *
 * A log that is as long as it may become makes no files and removes none: its owner cuts the oldest
 * segment while there is no spare, and that becomes one. Only when none came of it, and a quarter
 * of the segment that is written is full, is one made. To make one takes a second of writing, and
 * to remove one makes many a disk wait for 20 ms to forget its blocks.
 *
 * Order of durability:
 * 1. A spare has its bytes written and its final name durable (disk chores) before it is used:
 * rolling costs no metadata.
 * 2. A segment is given up only when the next one's header is durable (its first batch is), so that
 * the lowest segment in the directory always has a header.
 * 3. Segments are given up lowest first, each durably before the next (chores keep their order): a
 * crash leaves no gap.
 *
 * 4. A spare may wait because the disk has no room for it; spares behind it are not used before it
 * is there.
 * 5. A file given up is not reused while a spare is being made, which may fail: so no number is
 * ever left out, and a number that is missing in the directory is a file that was lost.
 *
 * A segment given up is reused by renaming it to the next spare's name. Its old header names
 * another segment and its old batches' checksums began with that number: nothing in it verifies. */
#include "wal_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PREPARE_AT_DIVISOR = 4 };

_Noreturn void wal__fatal(const struct wal *w, const char *what, uint64_t segment_seq,
                          uint64_t offset, int err)
{
    char name[DISK_NAME_MAX];
    wal__segment_name(name, segment_seq);
    tv_fatal("log: %s failed: %s/%s, offset %" PRIu64 ": %s", what, w->disk->dir, name, offset,
             strerror(-err));
}

struct wal_segment *wal__segment_new(uint64_t seq, uint64_t size_bytes)
{
    struct wal_segment *s = mem_alloc_zero(sizeof(*s));
    list_init(&s->link);
    s->seq = seq;
    s->size_bytes = size_bytes;
    s->end_bytes = s->durable_bytes = WAL_BLOCK_BYTES;
    return s;
}

void wal__segment_free(struct wal *w, struct wal_segment *s)
{
    list_remove(&s->link);
    if (s->file != NULL)
        disk_close_file(w->disk, s->file);
    mem_free(s);
}

struct wal_segment *wal__segment_find(struct wal *w, uint64_t seq)
{
    LIST_EACH (it, &w->segments) {
        struct wal_segment *s = CONTAINER_OF(it, struct wal_segment, link);
        if (s->seq == seq)
            return s;
    }
    return NULL;
}

/* --- chores --- */

/* Lowest first: one that had to wait comes behind those that were asked for after it. */
static void add_spare(struct wal *w, struct wal_segment *s)
{
    struct list *before = w->spares.next;
    while (before != &w->spares && CONTAINER_OF(before, struct wal_segment, link)->seq < s->seq)
        before = before->next;
    list_push_back(before, &s->link);
}

static void chore_done(struct disk_chore *req, int err)
{
    struct wal_chore *c = CONTAINER_OF(req, struct wal_chore, req);
    struct wal *w = c->w;
    struct wal_segment *s = c->segment;
    list_remove(&c->link);
    if (req->kind == DISK_PREPARE)
        w->preparing = NULL;
    if (req->kind == DISK_PREPARE && (err == -ENOSPC || err == -EDQUOT)) {
        PROBE(wal_no_room_for_spare);
        if (!w->said_full)
            log_warn("no room on the disk for the log's next segment; it is tried again",
                     LOG_STR("path", w->disk->dir), LOG_UINT("needed-bytes", req->size));
        w->said_full = true;
        w->lacking = s;
        w->size_bytes -= s->size_bytes;
        mem_free(c);
        return;
    }
    if (err != 0)
        tv_fatal("log: cannot %s %s/%s: %s",
                 req->kind == DISK_PREPARE  ? "prepare"
                 : req->kind == DISK_RENAME ? "rename"
                                            : "remove",
                 w->disk->dir, req->name, strerror(-err));
    if (s != NULL) {
        if (s->file == NULL) {
            int rv = disk_open_file(w->disk, req->name, &s->file);
            if (rv != 0)
                wal__fatal(w, "opening a new segment", s->seq, 0, rv);
        }
        w->spares_coming--;
        add_spare(w, s);
        w->said_full = w->said_full && w->lacking != NULL;
    }
    mem_free(c);
}

static struct wal_chore *new_chore(struct wal *w, enum disk_chore_kind kind, struct wal_segment *s)
{
    struct wal_chore *c = mem_alloc_zero(sizeof(*c));
    c->w = w;
    c->segment = s;
    c->req.kind = kind;
    c->req.done = chore_done;
    list_push_back(&w->chores, &c->link);
    return c;
}

static uint32_t spares_count(const struct wal *w)
{
    uint32_t count = w->spares_coming;
    LIST_EACH (it, &w->spares)
        count++;
    return count;
}

static void prepare(struct wal *w, struct wal_segment *s)
{
    struct wal_chore *c = new_chore(w, DISK_PREPARE, s);
    wal__segment_name(c->req.name, s->seq);
    c->req.size = s->size_bytes;
    ASSERT(w->preparing == NULL);
    w->preparing = c;
    w->size_bytes += s->size_bytes;
    disk_do_chore(w->disk, &c->req);
}

static void want_spare(struct wal *w)
{
    if (spares_count(w) > 0)
        return;
    w->spares_coming++;
    prepare(w, wal__segment_new(w->next_seq++, w->o.segment_size_bytes));
}

bool wal_lacks_room(const struct wal *w)
{
    return w->lacking != NULL;
}

void wal_retry_room(struct wal *w)
{
    struct wal_segment *s = w->lacking;
    if (s == NULL)
        return;
    w->lacking = NULL;
    prepare(w, s);
}

/* The number that a spare gets next: that of one which could not be made, if there is one. */
static uint64_t next_seq(struct wal *w)
{
    struct wal_segment *s = w->lacking;
    if (s == NULL)
        return w->next_seq++;
    PROBE(wal_old_segment_in_place_of_new);
    uint64_t seq = s->seq;
    w->lacking = NULL;
    w->spares_coming--;
    wal__segment_free(w, s);
    return seq;
}

static void reuse(struct wal *w, struct wal_segment *s)
{
    struct wal_chore *c = new_chore(w, DISK_RENAME, s);
    list_remove(&s->link);
    wal__segment_name(c->req.name, s->seq);
    s->seq = next_seq(w);
    s->end_bytes = s->durable_bytes = WAL_BLOCK_BYTES;
    wal__segment_name(c->req.to, s->seq);
    w->spares_coming++;
    disk_do_chore(w->disk, &c->req);
}

void wal__remove_file(struct wal *w, const char *name)
{
    struct wal_chore *c = new_chore(w, DISK_UNLINK, NULL);
    (void)snprintf(c->req.name, sizeof(c->req.name), "%s", name);
    disk_do_chore(w->disk, &c->req);
}

void wal__hurry(struct wal *w)
{
    if (w->preparing != NULL)
        atomic_store_explicit(&w->preparing->req.hurry, true, memory_order_relaxed);
}

/* --- rolling and cutting --- */

bool wal__roll(struct wal *w)
{
    struct wal_segment *s =
        list_is_empty(&w->spares) ? NULL : CONTAINER_OF(w->spares.next, struct wal_segment, link);
    if (s == NULL || s->seq != wal__active(w)->seq + 1) {
        PROBE(wal_roll_waits);
        ASSERT(s == NULL || w->spares_coming > 0);
        want_spare(w);
        wal__hurry(w);
        return false;
    }
    list_remove(&s->link);
    list_push_back(&w->segments, &s->link);
    return true;
}

void wal__prepare_ahead(struct wal *w)
{
    const struct wal_segment *s = wal__active(w);
    if (s->end_bytes >= s->size_bytes / PREPARE_AT_DIVISOR)
        want_spare(w);
}

/* The last entry in this segment that still counts; 0 when none does. */
static uint64_t last_kept_in(const struct wal *w, const struct wal_segment *s)
{
    const struct wal_index *x = &w->index;
    uint64_t last = 0;
    for (size_t i = 0; i < x->count && x->items[i].segment_seq <= s->seq; i++) {
        if (x->items[i].segment_seq == s->seq)
            last = i + 1 < x->count ? x->items[i + 1].first_index - 1 : w->placed_last_index;
    }
    return last;
}

static void remove_segment(struct wal *w, struct wal_segment *s)
{
    char name[DISK_NAME_MAX];
    wal__segment_name(name, s->seq);
    w->size_bytes -= s->size_bytes;
    wal__segment_free(w, s); /* closed first: then the disk frees the blocks in the chore */
    wal__remove_file(w, name);
}

static bool can_reuse(const struct wal *w, const struct wal_segment *s)
{
    bool wanted = w->lacking != NULL || spares_count(w) < 1 + w->o.segments_keep_max;
    return s->size_bytes == w->o.segment_size_bytes && wanted && w->preparing == NULL;
}

bool wal_reuses_oldest(const struct wal *w)
{
    return can_reuse(w, CONTAINER_OF(w->segments.next, struct wal_segment, link));
}

uint64_t wal_active_segment(const struct wal *w)
{
    return wal__active(w)->seq;
}

static void give_up(struct wal *w, struct wal_segment *s)
{
    if (w->window.segment_seq == s->seq)
        w->window.segment_seq = 0;
    if (can_reuse(w, s)) {
        reuse(w, s);
        return;
    }
    remove_segment(w, s);
}

/* The highest one, and its number is given out again: invariant 5. */
void wal_drop_spare(struct wal *w)
{
    if (spares_count(w) < 2 || w->spares_coming > 0)
        return;
    struct wal_segment *s = CONTAINER_OF(w->spares.prev, struct wal_segment, link);
    ASSERT(w->lacking == NULL && s->seq + 1 == w->next_seq);
    w->next_seq--;
    remove_segment(w, s);
}

uint64_t wal_oldest_end(const struct wal *w)
{
    const struct wal_segment *s = CONTAINER_OF(w->segments.next, struct wal_segment, link);
    return w->segments.next == w->segments.prev ? UINT64_MAX : last_kept_in(w, s);
}

void wal_cut(struct wal *w, uint64_t log_index)
{
    bool changed = false;
    for (;;) {
        struct wal_segment *s = CONTAINER_OF(w->segments.next, struct wal_segment, link);
        if (s == wal__active(w))
            break;
        const struct wal_segment *after = CONTAINER_OF(s->link.next, struct wal_segment, link);
        if (after->first_batch > w->durable_batch || last_kept_in(w, s) > log_index)
            break;
        wal__index_drop_below(&w->index, after->seq);
        give_up(w, s);
        changed = true;
    }
    if (!changed)
        return;
    uint64_t first = w->index.count > 0 ? w->index.items[0].first_index : w->placed_last_index + 1;
    if (first > w->before_first + 1) {
        w->before_first = first - 1;
        wal__terms_drop_below(&w->terms, w->before_first);
    }
}

uint64_t wal_size_bytes(const struct wal *w)
{
    return w->size_bytes + (spares_count(w) == 0 ? w->o.segment_size_bytes : 0);
}

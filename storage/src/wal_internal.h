/* The log's inside, shared by wal*.c. */
#ifndef STORAGE_SRC_WAL_INTERNAL_H
#define STORAGE_SRC_WAL_INTERNAL_H

#include "wal_format.h"

#include "base/list.h"

enum {
    WAL_WRITES_MAX = 8,
    WAL_FRAME_BYTES_MAX = 16 << 20,
    /* In flight at once, or else a single batch: bounds what a crash leaves behind a torn one. */
    WAL_IN_FLIGHT_BYTES_MAX = 8 << 20,
    WAL_BATCH_BYTES_TARGET = 1 << 20, /* a batch this big takes no more entries */
    WAL_INDEX_STEP_BYTES = 64 << 10,  /* of log between two items of the index */
    WAL_READ_OPENING_BYTES = 4 << 20, /* large reads keep the drive's queue full */
    WAL_READ_BYTES = 512 << 10,
    WAL_SEGMENT_BYTES_MIN = 64 << 10,
};

/* A file of the log: live (in wal.segments), or spare (in wal.spares), or between the two in a
 * chore. */
struct wal_segment {
    struct list link;
    uint64_t seq;
    struct disk_file *file;
    uint64_t size_bytes;
    uint64_t end_bytes;     /* where the next batch goes */
    uint64_t durable_bytes; /* up to here batches are durable */
    uint64_t first_batch;
};

/* From the first append to the end of its write. buf is a block for a segment's header, then the
 * frame. */
struct wal_batch {
    struct list link;
    struct disk_write req;
    struct wal *w;
    struct wal_segment *segment; /* set when it is written */
    uint8_t *buf;
    size_t buf_bytes;
    size_t body_bytes;
    uint64_t number;
    uint64_t first_index;
    uint64_t last_index;    /* lowered when later entries replace these; < first_index: none left */
    uint32_t entries_count; /* as written */
    uint32_t flags;
    uint64_t prev_term;
    uint64_t end_term; /* of the last entry as written, or prev_term */
    uint64_t seq;      /* 0: no one waits for it */
    struct wal_hard_state hs;
    uint64_t started_ns; /* measured: when its write began */
    bool complete;
};

struct wal_chore {
    struct list link;
    struct disk_chore req;
    struct wal *w;
    struct wal_segment *segment; /* becomes a spare; NULL for a removal */
};

/* Where a stretch of entries begins. Entries from first_index on lie from this batch on in the same
 * segment, up to the next item's first_index or position. */
struct wal_index_item {
    uint64_t first_index;
    uint64_t segment_seq;
    uint64_t offset;
};

/* One item per WAL_INDEX_STEP_BYTES of log and per segment and replacement: 24 bytes for 64 KiB,
 * and at worst (each batch replaces entries) 24 bytes for 4 KiB. */
struct wal_index {
    struct wal_index_item *items;
    size_t count;
    size_t capacity;
};

/* Entries from first_index on have this term, up to the next run: 16 bytes per leader's term. */
struct wal_term_run {
    uint64_t first_index;
    uint64_t term;
};

struct wal_terms {
    struct wal_term_run *runs;
    size_t count;
    size_t capacity;
};

/* A piece of a segment in memory; see wal_read.c. */
struct wal_window {
    uint8_t *data;
    size_t capacity;
    size_t read_bytes;    /* so much at once */
    uint64_t segment_seq; /* 0: empty */
    uint64_t offset;
    size_t size;
};

struct wal {
    struct wal_options o;
    struct disk *disk;
    uint64_t salt;
    size_t frame_bytes_max;

    struct list segments; /* live, oldest first; the last one is written to */
    struct list spares;   /* ready, lowest seq first */
    struct list chores;
    uint32_t spares_coming;
    struct wal_chore *preparing; /* one of them is being made; NULL: none */
    struct wal_segment *lacking; /* a spare that the disk has no room for; counted as coming */
    bool said_full;
    uint64_t next_seq; /* of the next spare */
    uint64_t size_bytes;

    struct list queue;     /* appended; the last may grow */
    struct list in_flight; /* being written, oldest first */
    struct list batches_free;
    uint32_t batches_free_count;
    uint32_t in_flight_count;
    uint64_t in_flight_bytes;
    bool submitted; /* the queue is to be written as soon as there is room */
    uint64_t pending_bytes;
    uint64_t last_batch; /* number of the newest batch written */
    uint64_t durable_batch;

    uint64_t before_first; /* index of the entry before the first one kept */
    uint64_t last_index;
    uint64_t durable_index;
    struct wal_hard_state hs;        /* as appended */
    struct wal_hard_state hs_placed; /* as of last_batch */
    uint64_t placed_last_index;      /* the log's end as of last_batch */
    uint64_t placed_last_term;
    struct wal_terms terms;
    struct wal_index index;

    struct wal_window window;
    uint64_t cursor_index; /* the entry a next read probably asks for; 0: none */
    uint64_t cursor_seq;
    uint64_t cursor_offset;
    uint64_t failed_seq; /* where a read failed */
    uint64_t failed_offset;

    void (*done)(void *ctx, uint64_t seq);
    void *done_ctx;
};

static inline struct wal_segment *wal__active(const struct wal *w)
{
    return CONTAINER_OF(w->segments.prev, struct wal_segment, link);
}

/* wal_index.c */
void wal__index_fini(struct wal_index *x);
/* A batch with entries was placed; items it replaces go. */
void wal__index_add(struct wal_index *x, uint64_t first_index, uint64_t last_before,
                    uint64_t segment_seq, uint64_t offset);
void wal__index_clear(struct wal_index *x);
/* The item whose stretch holds the entry: its position in items. There must be one. */
size_t wal__index_find(const struct wal_index *x, uint64_t log_index);
/* Drop what lies in segments before this one. */
void wal__index_drop_below(struct wal_index *x, uint64_t segment_seq);

void wal__terms_fini(struct wal_terms *t);
/* The log is empty behind this entry. */
void wal__terms_reset(struct wal_terms *t, uint64_t log_index, uint64_t term);
/* The entry is the log's last now. */
void wal__terms_add(struct wal_terms *t, uint64_t log_index, uint64_t term);
uint64_t wal__terms_get(const struct wal_terms *t, uint64_t log_index);
/* Entries below are no longer asked for. */
void wal__terms_drop_below(struct wal_terms *t, uint64_t log_index);

/* wal_segment.c */
_Noreturn void wal__fatal(const struct wal *w, const char *what, uint64_t segment_seq,
                          uint64_t offset, int err);
struct wal_segment *wal__segment_new(uint64_t seq, uint64_t size_bytes);
void wal__segment_free(struct wal *w, struct wal_segment *s);
struct wal_segment *wal__segment_find(struct wal *w, uint64_t seq);
/* After a batch was placed: when it is time, ask for the next segment, unless there is a spare. */
void wal__prepare_ahead(struct wal *w);
/* Somebody waits for what is being prepared, if anything is. */
void wal__hurry(struct wal *w);
void wal__remove_file(struct wal *w, const char *name);
/* The next spare becomes the active segment; false when it is not ready yet. */
bool wal__roll(struct wal *w);

/* wal_open.c uses these of wal.c */
void wal__append_mark(struct wal *w);
void wal__free(struct wal *w);

/* wal_read.c */
/* Bytes [offset, offset + size) of the segment, valid until the next call. NULL: *ret_err is a
 * negative errno value, or 0 when the segment ends before. `limit`: reading ahead stops there. */
const uint8_t *wal__window(struct wal *w, const struct wal_segment *s, uint64_t offset, size_t size,
                           uint64_t limit, int *ret_err);
/* The batch at this offset, verified; NULL as above, *ret_err == 0 when it does not verify. */
const uint8_t *wal__read_batch(struct wal *w, const struct wal_segment *s, uint64_t offset,
                               uint64_t limit, struct wal_frame *ret, int *ret_err);

#endif

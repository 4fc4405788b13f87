/* A disk in memory, for tests and simulation: the same seed and the same calls give the same run.
 *
 * It holds two things apart: what a crash keeps (the files) and what it may lose (writes and chores
 * under way). A write under way when disk_mem_crash() is called is kept, lost or torn sector by
 * sector; a chore has happened or has not. */
#ifndef STORAGE_DISK_MEM_H
#define STORAGE_DISK_MEM_H

#include "storage/disk.h"

enum { DISK_MEM_SECTOR_BYTES = 512 };

struct disk *disk_mem_new(uint64_t seed);

/* At each disk_poll() each request under way completes with this chance, in random order; 100 to
 * begin with. 0: only a poll that waits completes one. */
void disk_mem_set_completion_percent(struct disk *d, uint32_t percent);
bool disk_mem_busy(const struct disk *d);

/* Power fails: what is under way is forgotten (its `done` is never called) and open files are gone:
 * closing them is still allowed, writing is not. */
void disk_mem_crash(struct disk *d);

/* Let `countdown` more writes succeed and fail the one after with this errno, nothing written. */
void disk_mem_fail_write_after(struct disk *d, uint64_t countdown, int errno_value);

/* Let `countdown` more writes succeed. The one after is on its way to the platter when its fsync
 * fails with this errno: it may be there, or a part of it. */
void disk_mem_fail_sync_after(struct disk *d, uint64_t countdown, int errno_value);

/* What a disk does and does not say. */
enum disk_mem_lie {
    DISK_MEM_LOST,      /* the write is reported as done, and nothing was written */
    DISK_MEM_ELSEWHERE, /* it was written to another place */
};
/* Let `countdown` more writes be true and lie about the one after. */
void disk_mem_lie_after(struct disk *d, uint64_t countdown, enum disk_mem_lie lie);
/* Flip a bit in some block that was written to once. False: there is none. */
bool disk_mem_rot(struct disk *d);
/* Lies told and bits flipped so far. */
uint64_t disk_mem_damages(const struct disk *d);

/* Files may take so many bytes in all: making one ready beyond that fails with ENOSPC. 0: no limit.
 */
void disk_mem_set_capacity(struct disk *d, uint64_t bytes);

uint64_t disk_mem_used_bytes(const struct disk *d);

/* The bytes a crash keeps, for tests that look or do damage; NULL when there is no such file.
 * Borrowed until the file is next changed by a chore. */
uint8_t *disk_mem_bytes(struct disk *d, const char *name, uint64_t *ret_size);
/* A second disk with the same files, nothing under way. */
struct disk *disk_mem_clone(const struct disk *d, uint64_t seed);
/* What a power failure at this moment would leave, as a second disk; this one goes on. */
struct disk *disk_mem_crashed_clone(const struct disk *d, uint64_t seed);

#endif

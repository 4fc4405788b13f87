/* How much room is left where the node writes, looked at every few seconds.
 *
 * Room is low when it falls below the reserve, and enough again only when it is clearly above, so
 * that nothing flaps. The asking is done on libuv's pool: a file system that hangs holds nobody up.
 *
 * Owner: the thread of the loop. */
#ifndef SERVER_DISK_SPACE_H
#define SERVER_DISK_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { DISK_SPACE_INTERVAL_MS = 2000, DISK_SPACE_DIRS_MAX = 2 };

/* One file system's state: false to begin with; true from when it is below the reserve until it is
 * above by a quarter, and by 64 MiB at least. */
bool disk_space_is_low(bool was_low, uint64_t free_bytes, uint64_t reserve_bytes);

struct disk_space;

struct disk_space_options {
    uv_loop_t *loop;
    const char *dirs[DISK_SPACE_DIRS_MAX]; /* NULL: none */
    uint64_t reserve_bytes;                /* not 0 */
    /* Called when it changes for them all together, after a line in the log. */
    void (*changed)(void *ctx, bool low);
    void *ctx;
};

struct disk_space *disk_space_new(const struct disk_space_options *o);
/* `changed` is not called any more. */
void disk_space_stop(struct disk_space *s);
/* When the loop is at its end. */
void disk_space_free(struct disk_space *s);

#endif

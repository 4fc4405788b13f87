/* What the two real disks share: the directory, its files, and the thread that does the chores. How
 * a write becomes durable is each disk's own. */
#ifndef STORAGE_SRC_DISK_POSIX_H
#define STORAGE_SRC_DISK_POSIX_H

#include "storage/disk.h"

#include <pthread.h>

struct disk_file {
    int fd;
};

/* The lock protects the two lists and `stopping`; all else is the owner's. */
struct disk_posix {
    struct disk d;
    int dir_fd;     /* holds the lock on the directory */
    int event_fd;   /* wakes the owner */
    int open_flags; /* O_DIRECT and O_DSYNC as chosen */
    uint32_t chores_under_way;
    pthread_t chores_thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list chores;
    struct list chores_done;
    bool stopping;
    bool unsynced; /* set before the first chore: none waits for the disk */
};

/* Opens and locks the directory and starts the thread. 0 or TV_*; on failure nothing is left. */
int disk_posix_init(struct disk_posix *p, const char *dir, char *err_text, size_t err_size);
void disk_posix_fini(struct disk_posix *p);

int disk_posix_open_file(struct disk *d, const char *name, struct disk_file **ret);
void disk_posix_close_file(struct disk_file *f);
int disk_posix_file_size(struct disk_file *f, uint64_t *ret_bytes);
ssize_t disk_posix_read(struct disk_file *f, uint64_t offset, void *data, size_t size);
int disk_posix_sync_file(struct disk_file *f);
int disk_posix_list(struct disk *d, void (*each)(void *ctx, const char *name), void *ctx);
void disk_posix_chore(struct disk *d, struct disk_chore *req);
int disk_posix_fd(struct disk *d);

/* Tell of chores that are done; how many. */
uint32_t disk_posix_report_chores(struct disk_posix *p);
void disk_posix_wake(struct disk_posix *p);
/* Empty the event fd; with `wait`, block until there is something in it. */
void disk_posix_take_event(struct disk_posix *p, bool wait);

/* For the probes: a file of DISK_PROBE_BYTES that were written before, opened with extra flags. A
 * negative errno value where the file system does not take them. */
enum { DISK_PROBE_BYTES = 64 * 1024, DISK_PROBE_WRITES = 8 };
int disk_posix_probe_file(struct disk_posix *p, int flags);

int disk_uring_open(const char *dir, struct disk **ret, char *err_text, size_t err_size);
int disk_sync_open(const char *dir, bool unsynced, struct disk **ret, char *err_text,
                   size_t err_size);

#endif

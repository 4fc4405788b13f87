/* When the leader compacts by itself: --auto-compaction-mode and -retention. A function of the
 * times and revisions that it is told; the rules are etcd's (server/etcdserver/api/v3compactor).
 *
 * periodic: the revision is noted ten times in a period, or in an hour if that is less, by leader
 * and followers alike; after the first period, and then every period or hour, what is older than a
 * period goes. revision: every five minutes all but the newest revisions go. */
#ifndef SERVER_COMPACTOR_H
#define SERVER_COMPACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COMPACTOR_REVISIONS_MAX = 100000 }; /* noted: a period of more than a year */

struct compactor_options {
    bool by_revision;
    int64_t retention; /* nanoseconds, or revisions; 0 = never */
};

/* "5m", "1" (an hour, or a revision). Errors: TV_EINVAL, with etcd's text where it has one. */
int compactor_parse(const char *mode, const char *retention, struct compactor_options *ret,
                    char *err_text, size_t err_size);

/* Owner: the core's thread. */
struct compactor {
    struct compactor_options options;
    uint64_t due_ms;
    uint64_t retry_ms;
    bool under_way; /* compactor_done() is due */
    int64_t asked;  /* the revision */
    int64_t last;   /* that was compacted */
    /* periodic */
    uint64_t succeeded_ms;
    uint64_t wait_ms;   /* until the next one */
    int64_t *revisions; /* noted, oldest first */
    uint32_t count;
    uint32_t count_max;
};

void compactor_init(struct compactor *c, const struct compactor_options *o, uint64_t now_ms);
void compactor_fini(struct compactor *c);
/* The revision at which to compact now, or 0. */
int64_t compactor_tick(struct compactor *c, uint64_t now_ms, int64_t revision, bool is_leader);
/* It was done, or was compacted already; or it failed, and is tried again. */
void compactor_done(struct compactor *c, uint64_t now_ms, int64_t revision, bool ok);

#endif

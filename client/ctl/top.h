/* `trivetctl top`: what is shown, worked out of two moments (top_view.c), and how it is written
 * (top_draw.c). top.c is the command. */
#ifndef CLIENT_CTL_TOP_H
#define CLIENT_CTL_TOP_H

#include "gather.h"

enum { TOP_PREFIXES_MAX = 256, TOP_CLIENTS_MAX = 64, TOP_PREFIX_BYTES_MAX = 97 };

/* Rates a second; negative: not known. */
struct top_member {
    const struct member_now *m;
    const char *role; /* "leader", "follower", "learner", "down" */
    int64_t lag;      /* entries; -1: not known */
    double keys;
    double puts, gets, txns, events;
    double write_p50_s, write_p99_s, read_p50_s, read_p99_s;
    double cpu; /* of one; 1 = 100 % */
    double memory;
    char alarms[32];
};

struct top_prefix {
    char text[TOP_PREFIX_BYTES_MAX];
    size_t size;
    double reads, writes, bytes;
    bool hidden; /* one below it says the same, and more */
};

struct top_client {
    char peer[64];
    char name[64];
    const char *member;
    double calls, received, sent; /* a second */
    double mean_ms, worst_ms;
};

struct top_view {
    const struct cluster_now *now;
    uint64_t leader;
    struct top_member members[GATHER_MEMBERS_MAX];
    uint32_t members_count;
    struct top_prefix prefixes[TOP_PREFIXES_MAX]; /* most read and written first */
    uint32_t prefixes_count;
    struct top_client slow[TOP_CLIENTS_MAX]; /* longest waits first */
    uint32_t slow_count;
    struct top_client busy[TOP_CLIENTS_MAX]; /* most bytes first */
    uint32_t busy_count;
    bool tells_prefixes; /* somebody does */
};

/* `before` NULL: there are no rates. `now` is borrowed as long as `ret`. */
void top_view(const struct cluster_now *before, const struct cluster_now *now,
              struct top_view *ret);

enum { TOP_SORTS_COUNT = 8 };
extern const char *const top_sorts[TOP_SORTS_COUNT]; /* "name", "role", ... */

struct top_look {
    int sort; /* of top_sorts */
    bool reverse;
    bool paused;
    bool help;
    bool color;
    int rows; /* 0: all there is */
    double interval_s;
};

/* Order the members. */
void top_sort(struct top_view *v, int sort, bool reverse);
/* Append the lines to `out`. */
void top_draw(const struct top_view *v, const struct top_look *look, struct buf *out);
void top_doc(const struct top_view *v, struct doc *d);

int ctl_top(struct ctl *c);
extern const struct ctl_command ctl_cmd_top;

#endif

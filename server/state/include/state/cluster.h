/* Who the members are: from --initial-cluster at the first start, from the store afterwards.
 *
 * Ids are etcd's (server/etcdserver/api/membership/member.go, cluster.go): a member's is the first
 * 8 bytes of SHA-1 over its sorted peer URLs and the token, the cluster's that of SHA-1 over the
 * sorted member ids, big-endian both.
 *
 * Owner: the core thread once it runs. */
#ifndef STATE_CLUSTER_H
#define STATE_CLUSTER_H

#include "state/url.h"

#include "base/buf.h"
#include "base/slice.h"
#include "raft/conf.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CLUSTER_MEMBERS_MAX = 16,
    CLUSTER_URLS_MAX = URLS_MAX,
    CLUSTER_REMOVED_MAX = 1024, /* remembered; the oldest are forgotten first */
};

struct cluster_member {
    uint64_t id;
    char *name;
    char *peer_urls[CLUSTER_URLS_MAX];
    uint32_t peer_urls_count;
    char *client_urls[CLUSTER_URLS_MAX];
    uint32_t client_urls_count;
    bool learner;
    bool started;     /* it has told the cluster its name: it was there, and may have voted */
    bool replacement; /* takes the place of a voter that lost its data: promoted by itself */
};

struct cluster {
    uint64_t id;
    struct cluster_member *members; /* sorted by id */
    uint32_t members_count;
    uint64_t *removed; /* ids that never come back, oldest first */
    uint32_t removed_count;
    /* What raft goes by, as of the same entry of the log. Empty at a member that joins: it knows
     * the others' addresses, and learns who they are from its first snapshot. */
    struct raft_membership raft;
};

/* From "n1=http://a:2380,n2=...,n1=http://b:2380" and the token. On error err_text says what is
 * wrong, in etcd's words where it has some. Errors: TV_EINVAL. */
int cluster_from_initial(const char *initial_cluster, const char *token, struct cluster *ret,
                         char *err_text, size_t err_size);
void cluster_fini(struct cluster *c);
/* At the first start: `name` must be one of the members, and its peer URLs those that it
 * advertises. Errors: TV_EINVAL, with etcd's text. */
int cluster_check_local(const struct cluster *c, const char *name, const struct urls *advertised,
                        char *err_text, size_t err_size);

struct cluster_member *cluster_find(const struct cluster *c, uint64_t id);
struct cluster_member *cluster_find_name(const struct cluster *c, const char *name);
/* What the member says of itself. Unknown ids are ignored. */
void cluster_set_attributes(struct cluster *c, uint64_t id, struct slice name,
                            const struct slice *client_urls, uint32_t client_urls_count);

/* The member with exactly these peer URLs (sorted), or NULL. */
struct cluster_member *cluster_find_urls(const struct cluster *c, char *const *peer_urls,
                                         uint32_t count);
bool cluster_was_removed(const struct cluster *c, uint64_t id);
/* "host:port" of each of its peer URLs; how many. Borrowed from the member. */
uint32_t cluster_member_addresses(const struct cluster_member *m,
                                  const char *ret[CLUSTER_URLS_MAX]);
/* The id that a member gets which joins at `unix_s`; the URLs are sorted (etcd: computeMemberID).
 */
uint64_t cluster_new_id(char *const *peer_urls, uint32_t count, uint64_t unix_s);

/* As kept in the store. Errors of decoding: TV_ECORRUPT. */
void cluster_encode(const struct cluster *c, struct buf *out);
int cluster_decode(struct slice encoded, struct cluster *ret);

/* --- for member.c --- */

/* An empty one with this id, in its place; NULL when there is no room. */
struct cluster_member *cluster_add(struct cluster *c, uint64_t id);
/* Remembered as removed. */
void cluster_remove(struct cluster *c, uint64_t id);
void cluster_set_peer_urls(struct cluster_member *m, const struct slice *urls, uint32_t count);

#endif

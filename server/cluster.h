/* Who the members are: from --initial-cluster at the first start, from the store afterwards.
 *
 * Ids are etcd's (server/etcdserver/api/membership/member.go, cluster.go): a member's is the first
 * 8 bytes of SHA-1 over its sorted peer URLs and the token, the cluster's that of SHA-1 over the
 * sorted member ids, big-endian both.
 *
 * Owner: the core thread once it runs. */
#ifndef SERVER_CLUSTER_H
#define SERVER_CLUSTER_H

#include "server/url.h"

#include "base/buf.h"
#include "base/slice.h"

#include <stdint.h>

enum { CLUSTER_MEMBERS_MAX = 16, CLUSTER_URLS_MAX = URLS_MAX };

struct cluster_member {
    uint64_t id;
    char *name;
    char *peer_urls[CLUSTER_URLS_MAX];
    uint32_t peer_urls_count;
    char *client_urls[CLUSTER_URLS_MAX];
    uint32_t client_urls_count;
};

struct cluster {
    uint64_t id;
    struct cluster_member *members; /* sorted by id */
    uint32_t members_count;
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

/* As kept in the store. Errors of decoding: TV_ECORRUPT. */
void cluster_encode(const struct cluster *c, struct buf *out);
int cluster_decode(struct slice encoded, struct cluster *ret);

#endif

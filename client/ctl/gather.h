/* What can be learned of a cluster at one moment: for `top` and for `check`.
 *
 * Of each member, all at the same time, each on a thread of its own: Status, /metrics, and of
 * trivet /debug/top. Members are those of the member list, reached at the endpoint that was given
 * and is theirs, else at the first of their client URLs; while nobody answers with the list, they
 * are the endpoints. */
#ifndef CLIENT_CTL_GATHER_H
#define CLIENT_CTL_GATHER_H

#include "ctl.h"
#include "http_get.h"
#include "prom.h"

enum { GATHER_MEMBERS_MAX = 64 };

struct member_now {
    uint64_t id; /* 0: not known */
    char name[64];
    char address[256];
    char zone[32]; /* of the endpoint that was given; "" */
    char peer_host[128];
    bool is_learner;
    bool is_listed;  /* in the member list */
    bool is_started; /* it has told the others its name */

    bool answers; /* `status` is there */
    struct trivet_result status;
    uint64_t status_took_ns;
    char error[256]; /* why it does not answer */
    struct http_page metrics_page;
    struct prom metrics;
    bool has_metrics;
    struct http_page top_page;
    bool has_top;
    /* Its clock and ours, seconds since 1970, as close to each other as the exchange allows;
     * known to within clock_error_s. theirs == 0: not known. */
    double clock_theirs_s;
    double clock_ours_s;
    double clock_error_s;
};

struct cluster_now {
    uint64_t at_ns;
    int64_t wall_s;
    struct member_now *members;
    uint32_t count;
    bool has_list;
    struct trivet_result alarms;
    bool has_alarms;
    /* 1, 0, or -1: it could not be asked. */
    int auth_enabled;
    int64_t leases; /* -1: not known */
};

struct gatherer {
    struct ctl *c;
    struct trivet_options options; /* with the addresses of now */
    struct trivet_client *client;
    const char *const *given;
    uint32_t given_count;
    uint64_t given_ids[GATHER_MEMBERS_MAX]; /* who answers there; 0: not known */
    char *addresses[GATHER_MEMBERS_MAX];    /* those that the client has; owned */
    uint32_t addresses_count;
    struct http_get_options http;
    char *authorization;
    uint64_t timeout_ms;
};

void gatherer_init(struct gatherer *g, struct ctl *c, uint64_t timeout_ms);
void gatherer_fini(struct gatherer *g);
/* Waits, at most some timeouts. */
void gather(struct gatherer *g, struct cluster_now *ret);
void cluster_now_fini(struct cluster_now *n);

/* Whom a majority of those who answer take for the leader; 0: nobody. */
uint64_t cluster_now_leader(const struct cluster_now *n);
const struct member_now *cluster_now_find(const struct cluster_now *n, uint64_t id);

#endif

/* The answers of /health, /livez, /readyz and /version, as a function of what is known of the node.
 *
 * Two of etcd's checks read a key: the caller does that (http_info_reads() says which reads are
 * needed), then asks for the answer with the outcome. Source of the rules: etcd
 * server/etcdserver/api/etcdhttp.
 *
 * Thread: any; nothing here has state. */
#ifndef SERVER_HTTP_INFO_H
#define SERVER_HTTP_INFO_H

#include "server/meter.h"

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct http_status {
    uint64_t leader; /* 0 = none */
    bool alarm_nospace;
    bool alarm_corrupt;
    bool alarm_other;
    bool is_learner;
    bool cluster_version_known;
    uint16_t cluster_minor; /* the version is 3.minor */
    /* Outcomes of the reads, 0 or TV_*; those that were not asked for are not looked at. */
    int local_read_err;
    int linearizable_read_err;
};

enum http_reads { HTTP_READ_NONE = 0, HTTP_READ_LOCAL = 1, HTTP_READ_LINEARIZABLE = 2 };

enum { HTTP_INFO_BODY_MAX = 1024 };

struct http_answer {
    int status;
    const char *content_type;
    const char *allow; /* the Allow header of a 405, else NULL */
    uint32_t checked;  /* of /livez and /readyz: bits 1 << enum meter_check */
    uint32_t failed;   /* of these */
    bool nosniff;      /* with X-Content-Type-Options: nosniff */
    size_t body_size;
    char body[HTTP_INFO_BODY_MAX];
};

/* Is this one of our paths? /livez and /readyz have a path below them for each check. */
bool http_info_knows(struct slice path);
/* The reads (enum http_reads, or-ed) that an answer to this request depends on. With `st` as far as
 * it is known already: etcd's /health does not read when there is no leader, for instance. */
uint32_t http_info_reads(struct slice method, struct slice path, struct slice query,
                         const struct http_status *st);
/* A path that is not ours is answered with 404. */
void http_info_answer(struct slice method, struct slice path, struct slice query,
                      const struct http_status *st, struct http_answer *ret);

#endif

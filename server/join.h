/* A member without data: who is it, and may it begin?
 *
 * An empty data directory can mean three things, and only the other members can tell them apart:
 *
 * - A first start: nobody has ever heard of this member. It begins with the configured members.
 *
 * - Joining: it was added to a running cluster (MemberAdd). It takes the id given there, and learns
 *   everything else from its first snapshot.
 *
 * - A lost disk: the cluster knows it as having been there. It may have voted and acknowledged
 *   entries, so it must not come back under its old id: it asks to be replaced by itself under a
 * new one (member.h, MEMBER_REPLACE), and joins.
 *
 * join_decide() is a pure function of what the others said. An answer counts as settled when the
 * one who gave it had its leadership or its leader confirmed just then, as for a linearizable read.
 * Without a leader, which a cluster may have lost by growing to where it needs this member, each
 * answer may be behind. But whoever begins puts its name on the log, which takes a majority: when
 * so many have no such entry on theirs that no majority is left without them, it has not begun.
 *
 * What cannot be told: that a member lost its disk between its first vote and its first entry in
 * the log, about a second after its first start; and that a majority lost its disks at once.
 *
 * Messages of /trivet.Peer/Join are fields in protobuf's form, see join_wire.c. */
#ifndef SERVER_JOIN_H
#define SERVER_JOIN_H

#include "state/cluster.h"

#include "base/buf.h"

#define JOIN_PATH "/trivet.Peer/Join"

enum {
    JOIN_VERSION = 1,
    JOIN_PATIENCE_MS = 3000,      /* for those that do not answer, when a majority does */
    JOIN_FRESH_MS = 30000,        /* after its first start one without a log is fresh so long */
    JOIN_EXISTING_WAIT_MS = 5000, /* for anybody, when the cluster is said to be running */
};

enum join_state {
    JOIN_SILENT,    /* no answer yet */
    JOIN_FRESH,     /* has no log either, and begins just now */
    JOIN_UNSETTLED, /* has one, and no leader now */
    JOIN_SETTLED,
};

struct join_answer {
    enum join_state state;
    struct cluster cluster; /* as the one who answered has it; empty when FRESH or SILENT */
};

struct join_input {
    bool cluster_is_new; /* --initial-cluster-state */
    bool may_replace;    /* else: a lost disk is the operator's business */
    bool was_there;      /* we know it ourselves: our data is set aside */
    uint64_t asked_id;   /* that we asked to be replaced by, since this start; 0 = none */
    const char *name;
    const struct cluster *initial;     /* from the flags, ids computed */
    const struct join_answer *answers; /* of the other members of `initial`, in its order */
    uint32_t answers_count;
    uint64_t waited_ms;
};

enum join_verdict {
    JOIN_WAIT,
    JOIN_BOOTSTRAP, /* as configured */
    JOIN_AS,        /* as `id` of `cluster` */
    JOIN_REPLACE,   /* ask for a new id in the place of `id` of `cluster` */
    JOIN_REFUSE,    /* for the reason in `text` */
};

struct join_decision {
    enum join_verdict verdict;
    uint64_t id;
    const struct cluster *cluster; /* of one of the answers */
    char text[512];
};

void join_decide(const struct join_input *in, struct join_decision *ret);

/* --- what is said --- */

struct join_ask {
    uint32_t version;
    uint64_t replaced_id; /* not 0: replace it by new_id, which has these peer URLs */
    uint64_t new_id;
    struct slice peer_urls[CLUSTER_URLS_MAX];
    uint32_t peer_urls_count;
};

void join_ask_encode(const struct join_ask *ask, struct buf *out);
/* Slices point into `msg`. Errors: TV_EMALFORMED. */
int join_ask_decode(struct slice msg, struct join_ask *ret);
/* `err`: what became of a replacement. */
void join_answer_encode(enum join_state state, const struct cluster *cluster, int err,
                        struct buf *out);
/* *ret wants cluster_fini() afterwards. Errors: TV_EMALFORMED. */
int join_answer_decode(struct slice msg, struct join_answer *ret, int *ret_err);

/* --- asking: the node's start --- */

struct config;
struct grpc_loop;
struct ports;

/* Run the loop until it is decided, and until a replacement is agreed. Listens on the peer URLs
 * meanwhile, so that others which begin as well hear that this one is fresh.
 *
 * *ret_id is who we are; *ret_cluster becomes the configured one (BOOTSTRAP), or the running one
 * with an empty raft membership (joining); the caller owns it. Errors: TV_EINVAL: err_text says why
 * this member must not begin. */
int join_run(const struct config *config, const struct ports *ports, struct grpc_loop *loop,
             const struct cluster *initial, bool was_there, uint64_t *ret_id,
             struct cluster *ret_cluster, char *err_text, size_t err_size);

/* --- answering: the running node --- */

struct grpc_call_ops;
struct grpc_method;
struct node;

struct grpc_method join_method(struct node *n);

#endif

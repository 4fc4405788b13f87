/* Changes of the membership: what MemberAdd, -Remove, -Update and -Promote put on the log, and what
 * applying it does.
 *
 * A change travels as the data of a RAFT_ENTRY_CONF: raft's part says what becomes of the voters
 * and the learners, the context the rest. It is checked when it is applied, from nothing but the
 * log and the state, so that all members decide alike (etcd: ValidateConfigurationChange); what is
 * refused then changes nothing at raft either.
 *
 * MEMBER_REPLACE is trivet's own: a member lost its data (a new disk, or damage) and must not come
 * back under its old id, for it may have voted and acknowledged entries. One entry removes the old
 * id and adds a new one as a learner, which the leader promotes when it has caught up, unless it
 * was a learner that it replaced.
 *
 * Thread: any; nothing here has state. */
#ifndef SERVER_MEMBER_H
#define SERVER_MEMBER_H

#include "state/cluster.h"

enum member_change_kind {
    MEMBER_ADD,
    MEMBER_ADD_LEARNER,
    MEMBER_PROMOTE,
    MEMBER_REMOVE,
    MEMBER_UPDATE,
    MEMBER_REPLACE,
    MEMBER_KINDS_COUNT,
};

struct member_change {
    enum member_change_kind kind;
    uint64_t request_id;  /* names the proposal that waits for it; 0 = none */
    uint64_t id;          /* whom it is about */
    uint64_t replaced_id; /* MEMBER_REPLACE: who is removed */
    uint32_t learners_max;
    uint32_t peer_urls_count; /* ADD, ADD_LEARNER, UPDATE, REPLACE; sorted */
    struct slice peer_urls[CLUSTER_URLS_MAX];
};

/* Append the entry's data. */
void member_change_encode(const struct member_change *change, struct buf *out);
/* Of the context of an entry; slices point into it. Errors: TV_EMALFORMED. */
int member_change_decode(struct slice context, struct member_change *ret);

/* May it be made, as things stand? Errors: TV_MEMBER_EXIST, TV_MEMBER_NOT_FOUND (a removed id,
 * too), TV_PEER_URL_EXIST, TV_MEMBER_BAD_URLS, TV_MEMBER_NOT_LEARNER, TV_TOO_MANY_LEARNERS;
 * TV_ETOOLARGE: there is no room. */
int member_change_check(const struct member_change *change, const struct cluster *c);
/* Make it; it was checked. What raft goes by is not touched. */
void member_change_apply(const struct member_change *change, struct cluster *c);

/* Would the cluster keep a majority of started members (etcd: IsReadyToAddVotingMember and the
 * like)? */
bool member_change_keeps_quorum(const struct member_change *change, const struct cluster *c);

#endif

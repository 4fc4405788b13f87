/* Who belongs to the cluster, and how that changes (thesis, chapter 4; the rules are those of
 * etcd-io/raft's confchange).
 *
 * A change is an entry of the log, RAFT_ENTRY_CONF. It counts from the moment it is applied, at
 * each member for itself, and there is never a second one in the log before the first is applied at
 * the leader: majorities of neighbouring configurations always share a member. A change of at most
 * one voter is made in one step; a larger one goes through a joint configuration, in which both the
 * old and the new voters must agree to everything, and which a second entry leaves again.
 *
 * Everything here is a pure function of its arguments: all members that apply the same entries have
 * the same membership. */
#ifndef RAFT_CONF_H
#define RAFT_CONF_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    RAFT_VOTERS_MAX = 16, /* in each of the two halves of a joint configuration */
    RAFT_LEARNERS_MAX = 16,
    RAFT_CONF_CHANGES_MAX = 32, /* in one entry */
};

/* A set of member ids, ascending, none 0. */
struct raft_ids {
    uint64_t ids[RAFT_VOTERS_MAX];
    uint32_t count;
};
_Static_assert((int)RAFT_LEARNERS_MAX <= (int)RAFT_VOTERS_MAX, "learners are kept in raft_ids");

/* All empty: a member that is about to join and knows nothing yet. */
struct raft_membership {
    struct raft_ids voters;
    /* Joint only: the voters of the configuration that is being left. */
    struct raft_ids voters_outgoing;
    struct raft_ids learners; /* get the log, have no voice; never voters of either half */
    /* Joint only: voters of the old half that become learners when it is left. */
    struct raft_ids learners_next;
    bool auto_leave; /* joint only: the leader leaves by itself */
};

enum raft_conf_op {
    RAFT_CONF_ADD_VOTER,   /* also promotes a learner */
    RAFT_CONF_ADD_LEARNER, /* also demotes a voter */
    RAFT_CONF_REMOVE,
    RAFT_CONF_KEEP, /* nothing changes here: the context speaks to the caller alone */
    RAFT_CONF_OPS_COUNT,
};

struct raft_conf_single {
    enum raft_conf_op op;
    uint64_t id;
};

enum raft_conf_transition {
    RAFT_CONF_AUTO,           /* one change: one step; several: as JOINT_IMPLICIT */
    RAFT_CONF_JOINT_IMPLICIT, /* joint; the leader leaves it as soon as it is applied */
    RAFT_CONF_JOINT_EXPLICIT, /* joint, until an entry without changes leaves it */
    RAFT_CONF_TRANSITIONS_COUNT,
};

/* No changes with RAFT_CONF_AUTO: leave the joint configuration. */
struct raft_conf_change {
    enum raft_conf_transition transition;
    struct raft_conf_single changes[RAFT_CONF_CHANGES_MAX];
    uint32_t changes_count;
    struct slice context; /* the caller's; raft never looks at it */
};

bool raft_ids_has(const struct raft_ids *set, uint64_t id);
bool raft_membership_is_joint(const struct raft_membership *m);
/* A voter of either half. */
bool raft_membership_is_voter(const struct raft_membership *m, uint64_t id);
bool raft_membership_is_learner(const struct raft_membership *m, uint64_t id);
bool raft_membership_has(const struct raft_membership *m, uint64_t id);
/* Sorted, no id where it must not be, within the limits; the empty one is valid. */
bool raft_membership_is_valid(const struct raft_membership *m);
bool raft_membership_equal(const struct raft_membership *a, const struct raft_membership *b);

/* The membership after the change.
 * Errors: TV_EINVAL: it cannot be made from here, `m` is as before: no voter would be left, more
 *         than one voter would change in one step, a joint configuration is left that there is not,
 *         or entered or changed while there is one. TV_ETOOLARGE: more members than the limits. */
int raft_membership_change(struct raft_membership *m, const struct raft_conf_change *change);

/* The data of a RAFT_ENTRY_CONF. Encoding appends to `out`; its errors are buf_append()'s.
 * Decoding checks everything; `context` then points into `data`. Errors: TV_EMALFORMED. */
int raft_conf_change_encode(const struct raft_conf_change *change, struct buf *out);
int raft_conf_change_decode(struct slice data, struct raft_conf_change *ret);

/* For what the caller keeps beside its state and sends along with a snapshot. Decoding wants all of
 * `data` and gives only what is valid. Errors: TV_EMALFORMED. */
int raft_membership_encode(const struct raft_membership *m, struct buf *out);
int raft_membership_decode(struct slice data, struct raft_membership *ret);

#endif

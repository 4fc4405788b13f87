/* One member among silent others: what they would say is told to it, message by message. */
#ifndef TESTS_UNIT_RAFT_RIG_H
#define TESTS_UNIT_RAFT_RIG_H

#include "unit.h"

#include "internal.h"
#include "model.h"

#include "base/err.h"

static inline struct raft *member(uint32_t voters_count, void (*change)(struct raft_options *o))
{
    struct raft_options o;
    raft_options_init(&o);
    o.id = 1;
    for (uint32_t i = 0; i < voters_count; i++)
        o.membership.voters.ids[o.membership.voters.count++] = i + 1;
    o.seed = 1;
    if (change != NULL)
        change(&o);
    struct raft *r = raft_new(&o);
    raft_restore(r, NULL, 0);
    return r;
}

/* Carries out what is ready, as if disk and apply took no time; how many messages of `type` went
 * out. */
static inline uint32_t drain(struct raft *r, enum raft_msg_type type)
{
    struct raft_ready rd;
    uint32_t count = 0;
    for (;;) {
        uint64_t seq = 0;
        while (raft_ready(r, &rd)) {
            for (uint32_t i = 0; i < rd.msgs_count; i++)
                count += rd.msgs[i].type == type;
            if (rd.persist_seq != 0)
                seq = rd.persist_seq;
            if (rd.committed_count > 0)
                raft_applied(r, rd.committed[rd.committed_count - 1].log_index);
            raft_ready_done(r);
            raft_check(r);
        }
        if (seq == 0)
            return count;
        raft_persisted(r, seq);
    }
}

static inline int step(struct raft *r, struct raft_msg msg)
{
    msg.to = raft_id(r);
    return raft_step(r, &msg);
}

static inline struct raft *follower_of_2(void)
{
    struct raft *r = member(3, NULL);
    ck_assert_int_eq(step(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 1}),
                     0);
    (void)drain(r, RAFT_MSG_APPEND);
    ck_assert_uint_eq(raft_leader(r), 2);
    return r;
}

static inline struct raft *leader(void (*change)(struct raft_options *o))
{
    struct raft *r = member(3, change);
    raft_campaign(r);
    (void)drain(r, RAFT_MSG_VOTE);
    (void)step(r, (struct raft_msg){.type = RAFT_MSG_PRE_VOTE_REPLY, .from = 2, .term = 1});
    (void)drain(r, RAFT_MSG_VOTE);
    (void)step(r, (struct raft_msg){.type = RAFT_MSG_VOTE_REPLY, .from = 2, .term = 1});
    (void)drain(r, RAFT_MSG_APPEND);
    ck_assert_int_eq(raft_role(r), RAFT_LEADER);
    return r;
}

static inline void acknowledge(struct raft *r, uint64_t from, uint64_t log_index)
{
    int rv = step(r, (struct raft_msg){.type = RAFT_MSG_APPEND_REPLY,
                                       .from = from,
                                       .term = raft_term(r),
                                       .log_index = log_index});
    ck_assert_int_eq(rv, 0);
}

static inline void without_pre_vote(struct raft_options *o)
{
    o->pre_vote = false;
}

#endif

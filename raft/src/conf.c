/* Memberships and their changes, see conf.h. */
#include "raft/conf.h"

#include "base/assert.h"
#include "base/err.h"

/* --- sets of ids --- */

bool raft_ids_has(const struct raft_ids *set, uint64_t id)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (set->ids[i] == id)
            return true;
    return false;
}

static int ids_add(struct raft_ids *set, uint64_t id)
{
    if (raft_ids_has(set, id))
        return 0;
    if (set->count == RAFT_VOTERS_MAX)
        return TV_ETOOLARGE;
    uint32_t at = set->count++;
    for (; at > 0 && set->ids[at - 1] > id; at--)
        set->ids[at] = set->ids[at - 1];
    set->ids[at] = id;
    return 0;
}

static void ids_remove(struct raft_ids *set, uint64_t id)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < set->count; i++)
        if (set->ids[i] != id)
            set->ids[kept++] = set->ids[i];
    set->count = kept;
}

static bool ids_are_valid(const struct raft_ids *set)
{
    if (set->count > RAFT_VOTERS_MAX)
        return false;
    for (uint32_t i = 0; i < set->count; i++)
        if (set->ids[i] == 0 || (i > 0 && set->ids[i] <= set->ids[i - 1]))
            return false;
    return true;
}

static bool ids_equal(const struct raft_ids *a, const struct raft_ids *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->ids[i] != b->ids[i])
            return false;
    return true;
}

/* How many ids are in one of them only. */
static uint32_t ids_difference(const struct raft_ids *a, const struct raft_ids *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->count; i++)
        count += !raft_ids_has(b, a->ids[i]);
    for (uint32_t i = 0; i < b->count; i++)
        count += !raft_ids_has(a, b->ids[i]);
    return count;
}

/* --- memberships --- */

bool raft_membership_is_joint(const struct raft_membership *m)
{
    return m->voters_outgoing.count > 0;
}

bool raft_membership_is_voter(const struct raft_membership *m, uint64_t id)
{
    return raft_ids_has(&m->voters, id) || raft_ids_has(&m->voters_outgoing, id);
}

bool raft_membership_is_learner(const struct raft_membership *m, uint64_t id)
{
    return raft_ids_has(&m->learners, id);
}

bool raft_membership_has(const struct raft_membership *m, uint64_t id)
{
    return raft_membership_is_voter(m, id) || raft_membership_is_learner(m, id);
}

bool raft_membership_is_valid(const struct raft_membership *m)
{
    if (!ids_are_valid(&m->voters) || !ids_are_valid(&m->voters_outgoing) ||
        !ids_are_valid(&m->learners) || !ids_are_valid(&m->learners_next))
        return false;
    bool joint = raft_membership_is_joint(m);
    if (!joint && (m->learners_next.count > 0 || m->auto_leave))
        return false;
    if (m->voters.count == 0)
        return !joint && m->learners.count == 0;
    for (uint32_t i = 0; i < m->learners.count; i++)
        if (raft_membership_is_voter(m, m->learners.ids[i]))
            return false;
    for (uint32_t i = 0; i < m->learners_next.count; i++)
        if (!raft_ids_has(&m->voters_outgoing, m->learners_next.ids[i]) ||
            raft_ids_has(&m->voters, m->learners_next.ids[i]))
            return false;
    return true;
}

bool raft_membership_equal(const struct raft_membership *a, const struct raft_membership *b)
{
    return ids_equal(&a->voters, &b->voters) &&
           ids_equal(&a->voters_outgoing, &b->voters_outgoing) &&
           ids_equal(&a->learners, &b->learners) &&
           ids_equal(&a->learners_next, &b->learners_next) && a->auto_leave == b->auto_leave;
}

/* --- changes --- */

static void forget(struct raft_membership *m, uint64_t id)
{
    ids_remove(&m->voters, id);
    ids_remove(&m->learners, id);
    ids_remove(&m->learners_next, id);
}

static int change_one(struct raft_membership *m, const struct raft_conf_single *change)
{
    switch (change->op) {
    case RAFT_CONF_ADD_VOTER:
        forget(m, change->id);
        return ids_add(&m->voters, change->id);
    case RAFT_CONF_ADD_LEARNER:
        forget(m, change->id);
        /* A voter of the old half has its voice until that half is gone. */
        return raft_ids_has(&m->voters_outgoing, change->id)
                   ? ids_add(&m->learners_next, change->id)
                   : ids_add(&m->learners, change->id);
    case RAFT_CONF_REMOVE:
        forget(m, change->id);
        return 0;
    case RAFT_CONF_KEEP:
        return 0;
    default:
        return TV_EINVAL;
    }
}

static int leave_joint(struct raft_membership *m)
{
    if (!raft_membership_is_joint(m))
        return TV_EINVAL;
    for (uint32_t i = 0; i < m->learners_next.count; i++)
        if (ids_add(&m->learners, m->learners_next.ids[i]) != 0)
            return TV_ETOOLARGE;
    m->learners_next.count = 0;
    m->voters_outgoing.count = 0;
    m->auto_leave = false;
    return 0;
}

static bool leaves_joint(const struct raft_conf_change *change)
{
    return change->transition == RAFT_CONF_AUTO && change->changes_count == 0;
}

static int change_from(struct raft_membership *m, const struct raft_conf_change *change)
{
    if (leaves_joint(change))
        return leave_joint(m);
    if (raft_membership_is_joint(m) || m->voters.count == 0)
        return TV_EINVAL;
    const struct raft_ids before = m->voters;
    bool joint = change->transition != RAFT_CONF_AUTO || change->changes_count > 1;
    if (joint) {
        m->voters_outgoing = m->voters;
        m->auto_leave = change->transition != RAFT_CONF_JOINT_EXPLICIT;
    }
    for (uint32_t i = 0; i < change->changes_count; i++) {
        int rv = change_one(m, &change->changes[i]);
        if (rv != 0)
            return rv;
    }
    if (m->voters.count == 0 || (!joint && ids_difference(&before, &m->voters) > 1))
        return TV_EINVAL;
    /* There must be room for the learners when the joint configuration is left, too. */
    return m->learners.count + m->learners_next.count > RAFT_LEARNERS_MAX ? TV_ETOOLARGE : 0;
}

int raft_membership_change(struct raft_membership *m, const struct raft_conf_change *change)
{
    ASSERT(change->changes_count <= RAFT_CONF_CHANGES_MAX);
    struct raft_membership after = *m;
    int rv = change_from(&after, change);
    if (rv != 0)
        return rv;
    ASSERT(raft_membership_is_valid(&after));
    *m = after;
    return 0;
}

/* --- bytes: numbers are little-endian ---
 *
 *   change:      version 1, transition 1, count 1, count * (op 1, id 8), context
 *   membership:  version 1, auto_leave 1, 4 * (count 1, count * id 8) */

enum { VERSION = 1, MEMBERSHIP_BYTES_MAX = 2 + 4 * (1 + 8 * RAFT_VOTERS_MAX) };

static uint8_t *put_u64(uint8_t *at, uint64_t n)
{
    for (uint32_t i = 0; i < 8; i++)
        *at++ = (uint8_t)(n >> (8 * i));
    return at;
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < 8; i++)
        n |= (uint64_t)at[i] << (8 * i);
    return n;
}

static bool change_is_valid(const struct raft_conf_change *change)
{
    if ((unsigned)change->transition >= RAFT_CONF_TRANSITIONS_COUNT ||
        change->changes_count > RAFT_CONF_CHANGES_MAX)
        return false;
    for (uint32_t i = 0; i < change->changes_count; i++)
        if ((unsigned)change->changes[i].op >= RAFT_CONF_OPS_COUNT || change->changes[i].id == 0)
            return false;
    return true;
}

int raft_conf_change_encode(const struct raft_conf_change *change, struct buf *out)
{
    ASSERT(change_is_valid(change));
    uint8_t head[3 + 9 * RAFT_CONF_CHANGES_MAX] = {VERSION, (uint8_t)change->transition,
                                                   (uint8_t)change->changes_count};
    uint8_t *at = head + 3;
    for (uint32_t i = 0; i < change->changes_count; i++) {
        *at++ = (uint8_t)change->changes[i].op;
        at = put_u64(at, change->changes[i].id);
    }
    size_t size = (size_t)(at - head);
    if (buf_reserve(out, size + change->context.size) == NULL)
        return TV_ETOOLARGE;
    (void)buf_append(out, head, size); /* there is room */
    (void)buf_append(out, change->context.data, change->context.size);
    return 0;
}

int raft_conf_change_decode(struct slice data, struct raft_conf_change *ret)
{
    *ret = (struct raft_conf_change){0};
    if (data.size < 3 || data.data[0] != VERSION || data.data[2] > RAFT_CONF_CHANGES_MAX)
        return TV_EMALFORMED;
    ret->transition = (enum raft_conf_transition)data.data[1];
    ret->changes_count = data.data[2];
    size_t size = 3 + 9 * (size_t)ret->changes_count;
    if (data.size < size)
        return TV_EMALFORMED;
    for (uint32_t i = 0; i < ret->changes_count; i++) {
        const uint8_t *at = data.data + 3 + 9 * (size_t)i;
        ret->changes[i].op = (enum raft_conf_op)at[0];
        ret->changes[i].id = get_u64(at + 1);
    }
    ret->context = slice_of(data.data + size, data.size - size);
    return change_is_valid(ret) ? 0 : TV_EMALFORMED;
}

int raft_membership_encode(const struct raft_membership *m, struct buf *out)
{
    ASSERT(raft_membership_is_valid(m));
    const struct raft_ids *sets[] = {&m->voters, &m->voters_outgoing, &m->learners,
                                     &m->learners_next};
    uint8_t bytes[MEMBERSHIP_BYTES_MAX] = {VERSION, m->auto_leave};
    uint8_t *at = bytes + 2;
    for (uint32_t s = 0; s < 4; s++) {
        *at++ = (uint8_t)sets[s]->count;
        for (uint32_t i = 0; i < sets[s]->count; i++)
            at = put_u64(at, sets[s]->ids[i]);
    }
    return buf_append(out, bytes, (size_t)(at - bytes));
}

int raft_membership_decode(struct slice data, struct raft_membership *ret)
{
    *ret = (struct raft_membership){0};
    if (data.size < 2 || data.data[0] != VERSION || data.data[1] > 1)
        return TV_EMALFORMED;
    struct raft_membership m = {.auto_leave = data.data[1] == 1};
    struct raft_ids *sets[] = {&m.voters, &m.voters_outgoing, &m.learners, &m.learners_next};
    size_t at = 2;
    for (uint32_t s = 0; s < 4; s++) {
        if (at == data.size || data.data[at] > RAFT_VOTERS_MAX)
            return TV_EMALFORMED;
        sets[s]->count = data.data[at++];
        if (data.size - at < 8 * (size_t)sets[s]->count)
            return TV_EMALFORMED;
        for (uint32_t i = 0; i < sets[s]->count; i++, at += 8)
            sets[s]->ids[i] = get_u64(data.data + at);
    }
    if (at != data.size || !raft_membership_is_valid(&m))
        return TV_EMALFORMED;
    *ret = m;
    return 0;
}

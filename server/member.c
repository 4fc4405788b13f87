#include "server/member.h"

#include "base/assert.h"
#include "base/err.h"
#include "proto/wirefield.h"

/* --- bytes: fields in protobuf's form --- */

enum {
    FIELD_KIND = 1,
    FIELD_REQUEST_ID = 2,
    FIELD_ID = 3,
    FIELD_REPLACED_ID = 4,
    FIELD_LEARNERS_MAX = 5,
    FIELD_PEER_URL = 6,
};

static void raft_part(const struct member_change *change, struct raft_conf_change *ret)
{
    static const enum raft_conf_op ops[MEMBER_KINDS_COUNT] = {
        [MEMBER_ADD] = RAFT_CONF_ADD_VOTER,     [MEMBER_ADD_LEARNER] = RAFT_CONF_ADD_LEARNER,
        [MEMBER_PROMOTE] = RAFT_CONF_ADD_VOTER, [MEMBER_REMOVE] = RAFT_CONF_REMOVE,
        [MEMBER_UPDATE] = RAFT_CONF_KEEP,       [MEMBER_REPLACE] = RAFT_CONF_ADD_LEARNER,
    };
    *ret = (struct raft_conf_change){.transition = RAFT_CONF_AUTO};
    if (change->kind == MEMBER_REPLACE)
        ret->changes[ret->changes_count++] =
            (struct raft_conf_single){.op = RAFT_CONF_REMOVE, .id = change->replaced_id};
    ret->changes[ret->changes_count++] =
        (struct raft_conf_single){.op = ops[change->kind], .id = change->id};
}

void member_change_encode(const struct member_change *change, struct buf *out)
{
    ASSERT(change->kind < MEMBER_KINDS_COUNT && change->id != 0);
    size_t size = 64;
    for (uint32_t i = 0; i < change->peer_urls_count; i++)
        size += wire_item_size(FIELD_PEER_URL, change->peer_urls[i].size);
    struct buf context;
    buf_init(&context, SIZE_MAX);
    uint8_t *begin = buf_reserve(&context, size);
    ASSERT(begin != NULL);
    uint8_t *p = wire_uint_put(begin, FIELD_KIND, change->kind);
    p = wire_uint_put(p, FIELD_REQUEST_ID, change->request_id);
    p = wire_uint_put(p, FIELD_ID, change->id);
    p = wire_uint_put(p, FIELD_REPLACED_ID, change->replaced_id);
    p = wire_uint_put(p, FIELD_LEARNERS_MAX, change->learners_max);
    for (uint32_t i = 0; i < change->peer_urls_count; i++)
        p = wire_item_put(p, FIELD_PEER_URL, change->peer_urls[i]);
    context.size = (size_t)(p - begin);
    ASSERT(context.size <= size);

    struct raft_conf_change conf;
    raft_part(change, &conf);
    conf.context = buf_slice(&context);
    int err = raft_conf_change_encode(&conf, out);
    ASSERT(err == 0);
    buf_fini(&context);
}

static int take_number(struct member_change *ret, uint32_t field, uint64_t value)
{
    switch (field) {
    case FIELD_KIND:
        if (value >= MEMBER_KINDS_COUNT)
            return TV_EMALFORMED;
        ret->kind = (enum member_change_kind)value;
        break;
    case FIELD_REQUEST_ID:
        ret->request_id = value;
        break;
    case FIELD_ID:
        ret->id = value;
        break;
    case FIELD_REPLACED_ID:
        ret->replaced_id = value;
        break;
    case FIELD_LEARNERS_MAX:
        ret->learners_max = (uint32_t)value;
        break;
    }
    return 0;
}

int member_change_decode(struct slice context, struct member_change *ret)
{
    struct wire_reader r = wire_reader_of(context);
    struct wire_field f;
    int rv;
    *ret = (struct member_change){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type == WIRE_VARINT && take_number(ret, f.number, f.value) != 0)
            return TV_EMALFORMED;
        if (f.type != WIRE_BYTES || f.number != FIELD_PEER_URL)
            continue;
        if (ret->peer_urls_count == CLUSTER_URLS_MAX)
            return TV_EMALFORMED;
        ret->peer_urls[ret->peer_urls_count++] = f.bytes;
    }
    if (rv == 0 && ret->id == 0)
        return TV_EMALFORMED;
    return rv;
}

/* --- may it be made? --- */

static bool has_url(const struct cluster_member *m, struct slice url)
{
    for (uint32_t i = 0; i < m->peer_urls_count; i++)
        if (slice_equal(slice_of_string(m->peer_urls[i]), url))
            return true;
    return false;
}

/* A peer URL that another member than `except` has. */
static bool url_is_taken(const struct member_change *change, const struct cluster *c,
                         uint64_t except)
{
    for (uint32_t i = 0; i < c->members_count; i++)
        for (uint32_t j = 0; j < change->peer_urls_count; j++)
            if (c->members[i].id != except && has_url(&c->members[i], change->peer_urls[j]))
                return true;
    return false;
}

static uint32_t learners_count(const struct cluster *c)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->members_count; i++)
        count += c->members[i].learner;
    return count;
}

static int check_new(const struct member_change *change, const struct cluster *c, uint64_t except)
{
    if (cluster_find(c, change->id) != NULL)
        return TV_MEMBER_EXIST;
    if (url_is_taken(change, c, except))
        return TV_PEER_URL_EXIST;
    if (change->kind == MEMBER_ADD_LEARNER && learners_count(c) + 1 > change->learners_max)
        return TV_TOO_MANY_LEARNERS;
    return except == 0 && c->members_count == CLUSTER_MEMBERS_MAX ? TV_ETOOLARGE : 0;
}

/* What cannot be a URL would stop every member that tries to connect there, and again at each
 * start: whoever proposed it. */
static bool urls_are_valid(const struct member_change *change)
{
    for (uint32_t i = 0; i < change->peer_urls_count; i++)
        if (!url_is_valid(change->peer_urls[i]))
            return false;
    bool needed = change->kind != MEMBER_PROMOTE && change->kind != MEMBER_REMOVE;
    return !needed || change->peer_urls_count > 0;
}

int member_change_check(const struct member_change *change, const struct cluster *c)
{
    const struct cluster_member *m = cluster_find(c, change->id);
    if (cluster_was_removed(c, change->id) || (change->kind == MEMBER_UPDATE && m == NULL))
        return TV_MEMBER_NOT_FOUND;
    if (!urls_are_valid(change))
        return TV_MEMBER_BAD_URLS;
    switch (change->kind) {
    case MEMBER_ADD:
    case MEMBER_ADD_LEARNER:
        return check_new(change, c, 0);
    case MEMBER_REPLACE:
        return cluster_find(c, change->replaced_id) == NULL
                   ? TV_MEMBER_NOT_FOUND
                   : check_new(change, c, change->replaced_id);
    case MEMBER_PROMOTE:
        return m == NULL ? TV_MEMBER_NOT_FOUND : m->learner ? 0 : TV_MEMBER_NOT_LEARNER;
    case MEMBER_REMOVE:
        return m == NULL ? TV_MEMBER_NOT_FOUND : 0;
    case MEMBER_UPDATE:
        return url_is_taken(change, c, m->id) ? TV_PEER_URL_EXIST : 0;
    case MEMBER_KINDS_COUNT:
        break;
    }
    return TV_EINVAL;
}

/* --- making it --- */

/* The leader makes it a voter when it has caught up: it owes that to one that was a voter, or was
 * to become one, and not to a learner. */
static bool owes_a_voice(const struct member_change *change, const struct cluster *c)
{
    const struct cluster_member *replaced = cluster_find(c, change->replaced_id);
    return !replaced->learner || replaced->replacement;
}

static void add(const struct member_change *change, struct cluster *c)
{
    struct cluster_member *m = cluster_add(c, change->id);
    ASSERT(m != NULL);
    cluster_set_peer_urls(m, change->peer_urls, change->peer_urls_count);
    m->learner = change->kind != MEMBER_ADD;
}

void member_change_apply(const struct member_change *change, struct cluster *c)
{
    switch (change->kind) {
    case MEMBER_ADD:
    case MEMBER_ADD_LEARNER:
        add(change, c);
        break;
    case MEMBER_REPLACE: {
        bool owed = owes_a_voice(change, c);
        cluster_remove(c, change->replaced_id);
        add(change, c);
        cluster_find(c, change->id)->replacement = owed;
        break;
    }
    case MEMBER_PROMOTE:
        cluster_find(c, change->id)->learner = false;
        cluster_find(c, change->id)->replacement = false;
        break;
    case MEMBER_REMOVE:
        cluster_remove(c, change->id);
        break;
    case MEMBER_UPDATE:
        cluster_set_peer_urls(cluster_find(c, change->id), change->peer_urls,
                              change->peer_urls_count);
        break;
    case MEMBER_KINDS_COUNT:
        ASSERT(!"no such change");
    }
}

bool member_change_keeps_quorum(const struct member_change *change, const struct cluster *c)
{
    uint32_t voters = 0, started = 0;
    for (uint32_t i = 0; i < c->members_count; i++) {
        const struct cluster_member *m = &c->members[i];
        bool leaves = change->kind == MEMBER_REMOVE && m->id == change->id;
        if (m->learner || leaves)
            continue;
        voters++;
        started += m->name[0] != '\0';
    }
    if (change->kind == MEMBER_ADD) {
        if (voters == 1 && started == 1)
            return true; /* a cluster of one may grow */
        voters++;
    } else if (change->kind == MEMBER_PROMOTE) {
        voters++;
        started++;
    }
    return started >= voters / 2 + 1;
}

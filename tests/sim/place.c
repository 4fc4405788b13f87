/* Places: machines with an address, and the members on them. Who a member is to the others: its
 * name, its connections. */
#include "member.h"

#include "net.h"

#include "base/mem.h"
#include "proto/wire.h"

#include <stdio.h>
#include <string.h>

enum { PUBLISH_PATIENCE_MS = 1000 };

/* --- who is where --- */

struct member *member_with_id(struct sim *s, uint64_t id)
{
    for (uint32_t i = 0; i < s->members_count; i++)
        if (s->members[i].id == id)
            return &s->members[i];
    return NULL;
}

struct member *member_at(const char *address)
{
    const char *host = strstr(address, "//");
    uint32_t number = (uint32_t)((host == NULL ? address[0] : host[2]) - 'a');
    ASSERT(number < SIM_MEMBERS_MAX);
    return &sim_now->members[number];
}

uint32_t member_some(const struct sim *s, struct rng *r)
{
    for (;;) {
        uint32_t number = (uint32_t)rng_below(r, s->members_count);
        if (s->members[number].in_use)
            return number;
    }
}

/* --- among the others, as node.c and peer.c see to it --- */

static void on_published(struct worker *w, struct request *req)
{
    struct member *m = req->user;
    (void)w;
    m->publishing = false;
    m->published = m->published || req->err == 0;
    bref_unref(req->payload);
    bref_unref(req->reply);
    mem_free(req);
}

static void publish_self(struct member *m)
{
    struct node *n = &m->node;
    struct core_status status;
    core_status(n->core, &status);
    if (m->published || m->publishing || status.leader == 0)
        return;
    m->publishing = true;
    uint8_t body[64];
    struct wire_member_attr attr = {.member_id = m->id, .name = slice_of_string(m->name)};
    size_t size = wire_member_attr_size(&attr);
    ASSERT(size <= sizeof(body));
    wire_member_attr_put(body, &attr);

    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = REQUEST_PROPOSE;
    req->answered = on_published;
    req->patience_ms = PUBLISH_PATIENCE_MS;
    req->user = m;
    req->id = core_next_request_id(n->core);
    struct slice bytes = slice_of(body, size);
    req->payload_size = (uint32_t)wire_raft_request_size(WIRE_RAFT_MEMBER_ATTR_SET, req->id, bytes);
    req->payload = bref_new(req->payload_size);
    wire_raft_request_put(req->payload->data, WIRE_RAFT_MEMBER_ATTR_SET, req->id, bytes);
    core_submit(n->core, req);
}

void member_unlink(struct member *m, const struct member *other)
{
    uint32_t *linked = &m->linked[other->number];
    if (*linked != 0)
        core_peer_connected(m->node.core, m->sim->judge.ids[*linked - 1].id, false);
    *linked = 0;
}

static bool is_reached(const struct member *m, const struct member *other)
{
    const struct sim *s = m->sim;
    return other != m && other->up && !other->dying && other->node.core != NULL &&
           net_passes(s, m->number, other->number) && net_passes(s, other->number, m->number) &&
           cluster_find(&m->node.cluster, other->id) != NULL;
}

static void tend_links(struct member *m)
{
    struct sim *s = m->sim;
    for (uint32_t i = 0; i < s->members_count; i++) {
        const struct member *other = &s->members[i];
        bool there = is_reached(m, other);
        uint32_t link = there ? other->judged.self + 1 : 0;
        if (there && cluster_was_removed(&other->node.cluster, m->id))
            member_told_removed(m);
        if (m->linked[i] == link)
            continue;
        member_unlink(m, other);
        m->linked[i] = link;
        if (there)
            core_peer_connected(m->node.core, other->id, true);
    }
}

void place_tend(struct member *m)
{
    tend_links(m);
    publish_self(m);
}

/* --- all of them --- */

static void new_place(struct sim *s, uint32_t number)
{
    struct member *m = &s->members[number];
    m->sim = s;
    m->number = number;
    list_init(&m->calls);
    m->name[0] = (char)('a' + number);
    (void)snprintf(m->peer_url, sizeof(m->peer_url), "http://%s:1", m->name);
    m->node.config = &s->config;
    m->node.place = store_place(&m->store);
    m->store = (struct store){.member = m};
    m->clock_us = 1000000 + rng_below(&s->members_rng, 1000000000);
    m->clock_at_us = s->now_us;
    m->disk = sim_disk_new(m, rng_next(&s->members_rng));
    m->empty = true;
}

void member_enter(struct sim *s, uint32_t number)
{
    if (number == s->members_count)
        s->members_count++;
    struct member *m = &s->members[number];
    ASSERT(!m->in_use && m->empty && m->joiner == NULL);
    m->in_use = true;
    m->was_there = false;
    sim_say(s, "place %u is put to use", number);
    member_start_in(m, 1000 + rng_below(&s->members_rng, 2000000));
}

void member_give_up(struct member *m)
{
    ASSERT(m->empty && !m->up);
    sim_say(m->sim, "place %u is given up", m->number);
    m->in_use = false;
    m->original = false;
}

void member_begin_as(struct member *m, uint64_t id, const struct cluster *c)
{
    ASSERT(m->empty && !m->up);
    struct buf members;
    buf_init(&members, SIZE_MAX);
    cluster_encode(c, &members);
    store_init(&m->store, m, buf_slice(&members));
    buf_fini(&members);
    m->id = m->node.member_id = id;
    m->node.cluster_id = c->id;
    m->empty = m->was_there = false;
    judge_begin_as(m, id);
}

static void begin_from_flags(struct member *m, const struct cluster *initial)
{
    const struct cluster_member *self = cluster_find_name(initial, m->name);
    m->in_use = m->original = true;
    member_begin_as(m, self->id, initial);
}

const char *members_initial(const struct sim *s)
{
    return s->founders_count == 3
               ? "a=http://a:1,b=http://b:1,c=http://c:1"
               : "a=http://a:1,b=http://b:1,c=http://c:1,d=http://d:1,e=http://e:1";
}

void members_new(struct sim *s)
{
    char err_text[256];
    struct cluster initial;
    int err =
        cluster_from_initial(members_initial(s), SIM_TOKEN, &initial, err_text, sizeof(err_text));
    ASSERT(err == 0);
    judge_begin_with(&s->judge, &initial);
    s->members = mem_alloc_zero(SIM_MEMBERS_MAX * sizeof(*s->members));
    for (uint32_t i = 0; i < SIM_MEMBERS_MAX; i++)
        new_place(s, i);
    for (uint32_t i = 0; i < s->members_count; i++)
        begin_from_flags(&s->members[i], &initial);
    cluster_fini(&initial);
    for (uint32_t i = 0; i < s->members_count; i++)
        member_start_in(&s->members[i], rng_below(&s->members_rng, 200000));
}

void members_free(struct sim *s)
{
    for (uint32_t i = 0; i < SIM_MEMBERS_MAX; i++) {
        struct member *m = &s->members[i];
        member_stop(m);
        joiner_free(m->joiner);
        sim_disk_free(m->disk);
        store_fini(&m->store);
        cluster_fini(&m->node.cluster);
        judge_member_fini(&m->judged);
    }
    mem_free(s->members);
}

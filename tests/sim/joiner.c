/* A place without data asks the others who it is, and begins as what join_decide() says: what
 * server/join_ask.c does on a loop of its own. Those that are asked answer with the server's code.
 *
 * The flags of a place are the operator's: he keeps them up to date. One of the first members may
 * still have those of its first start. */
#include "call.h"
#include "member.h"
#include "net.h"

#include "base/mem.h"
#include "server/join.h"

#include <stdio.h>

enum {
    TICK_US = 50000,
    ASK_AGAIN_US = 300000,
    ANSWER_WITHIN_US = 2000000,
    REPLACE_WITHIN_US = 8000000,
    FLAGS_OLD_US = 10000000, /* then the operator has a look */
};

/* One of the others. */
struct asked {
    struct joiner *joiner;
    uint32_t place;
    struct grpc_call *call;
    uint64_t give_up_us;
    uint64_t ask_again_us;
    bool replaces;
};

struct joiner {
    struct member *member;
    uint64_t began_us;
    bool cluster_is_new; /* --initial-cluster-state */
    struct cluster initial;
    struct asked others[SIM_MEMBERS_MAX];
    struct join_answer answers[SIM_MEMBERS_MAX];
    uint32_t count;
    uint64_t new_id;
    bool replaced;
    struct join_decision decision;
};

/* --- flags --- */

static void add_flag(char *text, size_t size, const char *url)
{
    size_t used = strlen(text);
    (void)snprintf(text + used, size - used, "%s%c=%s", used == 0 ? "" : ",", strstr(url, "//")[2],
                   url);
}

/* The members as they are, and this one. */
static void list_members(const struct member *m, char *text, size_t size)
{
    const struct cluster *c = &m->sim->judge.cluster;
    bool listed = false;
    for (uint32_t i = 0; i < c->members_count; i++) {
        const char *url = c->members[i].peer_urls[0];
        add_flag(text, size, url);
        listed = listed || member_at(url) == m;
    }
    if (!listed)
        add_flag(text, size, m->peer_url);
}

/* The cluster's word on where it is reached, if it has one. */
static void correct_url(struct member *m)
{
    const struct cluster *c = &m->sim->judge.cluster;
    for (uint32_t i = 0; i < c->members_count; i++)
        if (member_at(c->members[i].peer_urls[0]) == m)
            (void)snprintf(m->peer_url, sizeof(m->peer_url), "%s", c->members[i].peer_urls[0]);
}

static bool is_wanted(const struct member *m)
{
    const struct cluster *c = &m->sim->judge.cluster;
    for (uint32_t i = 0; i < c->members_count; i++)
        if (member_at(c->members[i].peer_urls[0]) == m)
            return true;
    return false;
}

static void take_flags(struct joiner *j, bool from_the_beginning)
{
    struct member *m = j->member;
    char text[256] = "", err_text[256];
    correct_url(m);
    if (from_the_beginning)
        (void)snprintf(text, sizeof(text), "%s", members_initial(m->sim));
    else
        list_members(m, text, sizeof(text));
    j->cluster_is_new = from_the_beginning;
    int err = cluster_from_initial(text, SIM_TOKEN, &j->initial, err_text, sizeof(err_text));
    if (err != 0)
        sim_fail("flags that are none: %s", err_text);
    for (uint32_t i = 0; i < j->initial.members_count; i++) {
        struct member *other = member_at(j->initial.members[i].peer_urls[0]);
        if (other != m)
            j->others[j->count++] = (struct asked){.joiner = j, .place = other->number};
    }
}

/* --- life --- */

static void look_later(struct joiner *j, uint64_t delay_us)
{
    struct sim *s = j->member->sim;
    events_push(&s->events, &(struct event){.at_us = s->now_us + delay_us,
                                            .kind = EVENT_JOIN,
                                            .who = j->member->number,
                                            .a = j->began_us});
}

void joiner_start(struct member *m)
{
    struct joiner *j = mem_alloc_zero(sizeof(*j));
    j->member = m;
    j->began_us = m->sim->now_us;
    m->joiner = j;
    take_flags(j, m->original && rng_below(&m->sim->members_rng, 2) == 0);
    sim_say(m->sim, "place %u has no data, and asks who it is%s", m->number,
            j->cluster_is_new ? " (with the flags of its first start)" : "");
    look_later(j, 1);
}

static void hang_up(struct asked *o)
{
    if (o->call != NULL)
        call_drop(o->call);
    o->call = NULL;
    o->replaces = false;
    o->ask_again_us = o->joiner->member->sim->now_us + ASK_AGAIN_US;
}

void joiner_free(struct joiner *j)
{
    if (j == NULL)
        return;
    for (uint32_t i = 0; i < j->count; i++) {
        hang_up(&j->others[i]);
        cluster_fini(&j->answers[i].cluster);
    }
    cluster_fini(&j->initial);
    j->member->joiner = NULL;
    mem_free(j);
}

void joiner_die(struct member *m)
{
    sim_say(m->sim, "place %u dies while it asks", m->number);
    joiner_free(m->joiner);
    member_start_in(m, sim_exponential(&m->sim->members_rng, 1000000));
}

/* --- asking --- */

static void on_reply(void *ctx, struct slice msg)
{
    struct asked *o = ctx;
    struct joiner *j = o->joiner;
    struct join_answer *a = &j->answers[o - j->others];
    struct join_answer fresh;
    int err = 0;
    if (!net_passes(j->member->sim, o->place, j->member->number))
        return;
    if (join_answer_decode(msg, &fresh, &err) != 0)
        sim_fail("member %u: an answer to a joining one does not decode", o->place);
    cluster_fini(&a->cluster);
    *a = fresh;
    if (o->replaces && fresh.state == JOIN_SETTLED)
        j->replaced = err == 0;
}

static void on_ended(void *ctx, enum grpc_code code, const char *text)
{
    (void)code;
    (void)text;
    hang_up(ctx);
}

static const struct call_client asking = {.reply = on_reply, .ended = on_ended};

static void send_ask(struct asked *o, uint64_t replaced_id)
{
    struct joiner *j = o->joiner;
    struct member *m = j->member;
    struct join_ask ask = {.version = JOIN_VERSION, .replaced_id = replaced_id};
    struct buf out;
    if (replaced_id != 0) {
        ask.new_id = j->new_id;
        ask.peer_urls[ask.peer_urls_count++] = slice_of_string(m->peer_url);
    }
    o->replaces = replaced_id != 0;
    o->give_up_us = m->sim->now_us + (o->replaces ? REPLACE_WITHIN_US : ANSWER_WITHIN_US);
    buf_init(&out, SIZE_MAX);
    join_ask_encode(&ask, &out);
    o->call = call_start(m->sim, o->place, JOIN_PATH, false, &asking, o);
    call_send(o->call, buf_slice(&out));
    buf_fini(&out);
}

/* One that has no data either says so; no call is made for that. */
static bool is_fresh_too(const struct member *other)
{
    return other->joiner != NULL;
}

static void ask_others(struct joiner *j)
{
    struct sim *s = j->member->sim;
    bool replacing = j->decision.verdict == JOIN_REPLACE;
    for (uint32_t i = 0; i < j->count; i++) {
        struct asked *o = &j->others[i];
        if (o->call != NULL && s->now_us >= o->give_up_us)
            hang_up(o);
        if (o->call != NULL || s->now_us < o->ask_again_us)
            continue;
        if (!net_passes(s, j->member->number, o->place) || fault_falls(s, FAULT_LOSS)) {
            o->ask_again_us = s->now_us + ASK_AGAIN_US;
            continue;
        }
        if (is_fresh_too(&s->members[o->place])) {
            cluster_fini(&j->answers[i].cluster);
            j->answers[i] = (struct join_answer){.state = JOIN_FRESH};
            continue;
        }
        bool wish = replacing && j->answers[i].state == JOIN_SETTLED;
        send_ask(o, wish ? j->decision.id : 0);
        replacing = replacing && !wish;
    }
}

/* --- deciding --- */

static uint64_t choose_id(const struct joiner *j)
{
    const struct cluster_member *me = cluster_find_name(&j->initial, j->member->name);
    uint64_t seconds = j->member->sim->now_us / 1000000;
    uint64_t id;
    do {
        id = cluster_new_id(me->peer_urls, me->peer_urls_count, seconds++);
    } while (id == 0 || cluster_find(j->decision.cluster, id) != NULL ||
             cluster_was_removed(j->decision.cluster, id));
    return id;
}

static void decide(struct joiner *j)
{
    enum join_verdict before = j->decision.verdict;
    struct join_input in = {.cluster_is_new = j->cluster_is_new,
                            .may_replace = true,
                            .was_there = j->member->was_there,
                            .asked_id = j->new_id,
                            .name = j->member->name,
                            .initial = &j->initial,
                            .answers = j->answers,
                            .answers_count = j->count,
                            .waited_ms = (j->member->sim->now_us - j->began_us) / 1000};
    join_decide(&in, &j->decision);
    if (j->decision.verdict == JOIN_REPLACE && before != JOIN_REPLACE) {
        j->new_id = choose_id(j);
        for (uint32_t i = 0; i < j->count; i++)
            j->others[i].ask_again_us = 0;
    }
}

static void begin(struct joiner *j)
{
    struct member *m = j->member;
    struct buf encoded;
    struct cluster c;
    uint64_t id = j->decision.verdict == JOIN_REPLACE ? j->new_id : j->decision.id;
    if (j->decision.verdict == JOIN_BOOTSTRAP)
        sim_fail("place %u begins as if there had never been a cluster", m->number);
    buf_init(&encoded, SIZE_MAX);
    cluster_encode(j->decision.cluster, &encoded);
    int err = cluster_decode(buf_slice(&encoded), &c);
    ASSERT(err == 0);
    buf_fini(&encoded);
    c.raft = (struct raft_membership){0}; /* the first snapshot tells */
    sim_say(m->sim, "place %u begins as %llx%s", m->number, (unsigned long long)id,
            j->decision.verdict == JOIN_REPLACE ? ", which took its old place" : "");
    m->sim->stats->joined++;
    joiner_free(j);
    member_begin_as(m, id, &c);
    cluster_fini(&c);
    member_start_in(m, 1);
}

/* The operator looks into it: the machine is not wanted any more, or its flags are old. */
static void begin_anew(struct joiner *j)
{
    struct member *m = j->member;
    bool wanted = is_wanted(m);
    sim_say(m->sim, "place %u does not begin: %s", m->number, j->decision.text);
    joiner_free(j);
    m->original = false;
    if (wanted)
        member_start_in(m, 500000);
    else
        member_give_up(m);
}

void joiner_event(struct member *m, const struct event *e)
{
    struct joiner *j = m->joiner;
    if (j == NULL || j->began_us != e->a)
        return; /* of one that was cut short */
    decide(j);
    bool flags_are_old =
        m->sim->now_us >= j->began_us + FLAGS_OLD_US && (j->cluster_is_new || !is_wanted(m));
    if (j->decision.verdict == JOIN_AS || j->decision.verdict == JOIN_BOOTSTRAP ||
        (j->decision.verdict == JOIN_REPLACE && j->replaced)) {
        begin(j);
    } else if (j->decision.verdict == JOIN_REFUSE || flags_are_old) {
        begin_anew(j);
    } else {
        ask_others(j);
        look_later(j, TICK_US);
    }
}

/* A member without data asks the others, before anything of it runs. See join.h. */
#include "server/join.h"

#include "server/config.h"
#include "server/member.h"
#include "server/ports.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/grpc.h"

#include <stdio.h>

enum {
    TICK_MS = 50,
    ASK_AGAIN_MS = 300,
    ANSWER_WITHIN_MS = 2000,
    REPLACE_WITHIN_MS = 8000, /* as long as a change of the membership may take */
    COMPLAIN_FIRST_MS = 2000,
    COMPLAIN_EVERY_MS = 10000,
};

struct joining;

/* One of the other configured members. */
struct other {
    struct joining *joining;
    const struct cluster_member *member;
    struct grpc_channel *channel;
    struct grpc_call *call;
    uint64_t ask_again_ms;
    bool replaces; /* the call asks for a replacement */
};

struct joining {
    const struct config *config;
    const struct ports *ports;
    const struct cluster *initial;
    struct grpc_loop *loop;
    struct grpc_server *server;
    struct grpc_method method;
    uv_timer_t tick;
    bool tick_closed;

    struct other *others;
    struct join_answer *answers;
    uint32_t count;

    bool was_there;
    bool closing;
    uint64_t began_ms;
    uint64_t complained_ms;
    uint64_t new_id; /* agreed, or asked for */
    bool replaced;
    int err_of_replacement;
    struct join_decision decision;
};

static uint64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* --- answering others that begin as well --- */

static void on_asked(struct grpc_call *call, struct slice msg)
{
    struct buf out;
    (void)msg;
    buf_init(&out, SIZE_MAX);
    join_answer_encode(JOIN_FRESH, NULL, 0, &out);
    struct slice answer = buf_slice(&out);
    (void)grpc_reply(call, &answer, 1);
    buf_fini(&out);
}

static void on_asked_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)call;
    (void)code;
    (void)text;
}

static const struct grpc_call_ops asked_ops = {.message = on_asked, .closed = on_asked_closed};

static int listen_on_peer_urls(struct joining *j, char *err_text, size_t err_size)
{
    struct grpc_server_options o;
    grpc_server_options_init(&o);
    o.reuse_port = j->config->reuse_port;
    j->method = (struct grpc_method){.path = JOIN_PATH, .ops = &asked_ops};
    j->server = grpc_server_new(j->loop, &o, &j->method, 1);
    for (uint32_t i = 0; i < j->ports->peers_count; i++) {
        const struct listen_port *p = &j->ports->peers[i];
        int err = grpc_server_listen_on(j->server, p->url, &p->port, NULL);
        if (err == 0)
            continue;
        (void)snprintf(err_text, err_size, "listen tcp %s: %s", url_address(p->url),
                       err == TV_EBUSY ? "bind: address already in use" : tv_err_text(err));
        return TV_EINVAL;
    }
    return 0;
}

/* --- asking --- */

static void on_answer(struct grpc_call *call, struct slice msg)
{
    struct other *o = grpc_call_user(call);
    struct joining *j = o->joining;
    struct join_answer *a = &j->answers[o - j->others];
    struct join_answer fresh;
    int err = 0;
    if (join_answer_decode(msg, &fresh, &err) != 0)
        return; /* asked again */
    cluster_fini(&a->cluster);
    *a = fresh;
    if (o->replaces && fresh.state == JOIN_SETTLED) {
        j->replaced = err == 0;
        j->err_of_replacement = err;
    }
    if (o->replaces && err != 0)
        log_warn("the cluster does not replace this member now",
                 LOG_HEX("asked-peer-id", o->member->id), LOG_STR("error", tv_err_text(err)));
}

static void on_answer_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct other *o = grpc_call_user(call);
    o->call = NULL;
    if (o->joining->closing)
        return;
    if (code != GRPC_OK)
        log_debug("a member does not answer", LOG_HEX("remote-peer-id", o->member->id),
                  LOG_SLICE("error", text));
    o->ask_again_ms = now_ms() + ASK_AGAIN_MS;
}

static const struct grpc_call_ops answer_ops = {.message = on_answer, .closed = on_answer_closed};

static void send_ask(struct other *o, const struct join_ask *ask)
{
    uint64_t within_ms = ask->replaced_id != 0 ? REPLACE_WITHIN_MS : ANSWER_WITHIN_MS;
    struct buf out;
    o->call = grpc_start(o->channel, &(struct grpc_start_options){
                                         .path = JOIN_PATH,
                                         .deadline_ns = clock_mono_ns() + within_ms * 1000000,
                                         .ops = &answer_ops,
                                         .user = o});
    buf_init(&out, SIZE_MAX);
    join_ask_encode(ask, &out);
    struct slice msg = buf_slice(&out);
    (void)grpc_send(o->call, &msg, 1);
    grpc_half_close(o->call);
    buf_fini(&out);
}

static const struct cluster_member *self(const struct joining *j)
{
    return cluster_find_name(j->initial, j->config->name);
}

static void ask_others(struct joining *j)
{
    bool replacing = j->decision.verdict == JOIN_REPLACE;
    for (uint32_t i = 0; i < j->count; i++) {
        struct other *o = &j->others[i];
        if (o->call != NULL || now_ms() < o->ask_again_ms ||
            grpc_channel_state(o->channel) != GRPC_CHANNEL_READY)
            continue;
        /* One wish at a time, to one that answered. */
        struct join_ask ask = {.version = JOIN_VERSION};
        o->replaces = replacing && j->answers[i].state == JOIN_SETTLED;
        if (o->replaces) {
            const struct cluster_member *me = self(j);
            ask.replaced_id = j->decision.id;
            ask.new_id = j->new_id;
            for (uint32_t u = 0; u < me->peer_urls_count; u++)
                ask.peer_urls[ask.peer_urls_count++] = slice_of_string(me->peer_urls[u]);
            replacing = false;
        }
        send_ask(o, &ask);
    }
}

/* --- deciding --- */

static void complain(struct joining *j)
{
    if (now_ms() < j->complained_ms + COMPLAIN_EVERY_MS)
        return;
    j->complained_ms = now_ms();
    uint32_t states[JOIN_SETTLED + 1] = {0};
    for (uint32_t i = 0; i < j->count; i++)
        states[j->answers[i].state]++;
    log_info("waiting for the other members, to know whether this one has been there before",
             LOG_UINT("silent", states[JOIN_SILENT]), LOG_UINT("fresh", states[JOIN_FRESH]),
             LOG_UINT("without-a-leader", states[JOIN_UNSETTLED]),
             LOG_UINT("with-a-leader", states[JOIN_SETTLED]));
}

/* A new id for every time we lost our data: seconds may not tell two of them apart. */
static uint64_t choose_id(const struct joining *j, const struct cluster *c)
{
    const struct cluster_member *me = self(j);
    uint64_t seconds = (uint64_t)clock_wall_us() / 1000000;
    uint64_t id;
    do {
        id = cluster_new_id(me->peer_urls, me->peer_urls_count, seconds++);
    } while (id == 0 || cluster_find(c, id) != NULL || cluster_was_removed(c, id));
    return id;
}

/* True when there is nothing more to ask. */
static bool is_decided(struct joining *j)
{
    enum join_verdict before = j->decision.verdict;
    struct join_input in = {.cluster_is_new = j->config->cluster_is_new,
                            .may_replace = j->config->repair == REPAIR_AUTO,
                            .was_there = j->was_there,
                            .asked_id = j->new_id,
                            .name = j->config->name,
                            .initial = j->initial,
                            .answers = j->answers,
                            .answers_count = j->count,
                            .waited_ms = now_ms() - j->began_ms};
    join_decide(&in, &j->decision);
    if (j->decision.verdict != JOIN_REPLACE)
        return j->decision.verdict != JOIN_WAIT;
    if (before != JOIN_REPLACE) {
        j->new_id = choose_id(j, j->decision.cluster);
        log_warn("this member has lost its data: it asks to be replaced by itself under a new id",
                 LOG_HEX("member-id", j->decision.id), LOG_HEX("new-member-id", j->new_id));
        for (uint32_t i = 0; i < j->count; i++)
            j->others[i].ask_again_ms = 0;
    }
    return j->replaced;
}

static void decide(struct joining *j)
{
    if (is_decided(j)) {
        uv_stop(grpc_loop_uv(j->loop));
        return;
    }
    complain(j);
    ask_others(j);
}

static void on_tick(uv_timer_t *timer)
{
    decide(timer->data);
}

/* --- from the beginning to the end --- */

static void open_channel(struct joining *j, struct other *o, const struct cluster_member *m)
{
    const char *addresses[CLUSTER_URLS_MAX];
    struct grpc_channel_options options;
    grpc_channel_options_init(&options);
    options.addresses = addresses;
    options.addresses_count = cluster_member_addresses(m, addresses);
    options.tls = j->ports->to_peers;
    options.local_host = j->config->local_host;
    options.connect_timeout_ms = j->config->election_ms;
    options.backoff_max_ms = ASK_AGAIN_MS;
    *o = (struct other){.joining = j, .member = m};
    o->channel = grpc_channel_new(j->loop, &options);
    ASSERT(o->channel != NULL); /* the URLs were checked with the configuration */
}

static void open_channels(struct joining *j)
{
    j->others = mem_alloc_zero(CLUSTER_MEMBERS_MAX * sizeof(*j->others));
    j->answers = mem_alloc_zero(CLUSTER_MEMBERS_MAX * sizeof(*j->answers));
    for (uint32_t i = 0; i < j->initial->members_count; i++)
        if (&j->initial->members[i] != self(j))
            open_channel(j, &j->others[j->count++], &j->initial->members[i]);
}

static void on_tick_closed(uv_handle_t *handle)
{
    ((struct joining *)handle->data)->tick_closed = true;
}

static void close_all(struct joining *j)
{
    j->closing = true;
    for (uint32_t i = 0; i < j->count; i++)
        grpc_channel_close(j->others[i].channel);
    if (j->server != NULL)
        grpc_server_free(j->server);
    uv_close((uv_handle_t *)&j->tick, on_tick_closed);
    while (!j->tick_closed)
        uv_run(grpc_loop_uv(j->loop), UV_RUN_ONCE);
    for (uint32_t i = 0; i < j->count; i++)
        cluster_fini(&j->answers[i].cluster);
    mem_free(j->others);
    mem_free(j->answers);
}

static void copy_cluster(const struct cluster *from, struct cluster *ret)
{
    struct buf encoded;
    buf_init(&encoded, SIZE_MAX);
    cluster_encode(from, &encoded);
    int err = cluster_decode(buf_slice(&encoded), ret);
    ASSERT(err == 0);
    buf_fini(&encoded);
}

static void take_place(struct joining *j, uint64_t *ret_id, struct cluster *ret_cluster)
{
    const struct join_decision *d = &j->decision;
    *ret_id = d->verdict == JOIN_REPLACE ? j->new_id : d->id;
    copy_cluster(d->verdict == JOIN_BOOTSTRAP ? j->initial : d->cluster, ret_cluster);
    if (d->verdict != JOIN_BOOTSTRAP)
        ret_cluster->raft = (struct raft_membership){0}; /* the first snapshot tells */
    log_info(d->verdict == JOIN_BOOTSTRAP ? "this is a first start" : "joining a running cluster",
             LOG_HEX("local-member-id", *ret_id), LOG_HEX("cluster-id", ret_cluster->id));
}

int join_run(const struct config *config, const struct ports *ports, struct grpc_loop *loop,
             const struct cluster *initial, bool was_there, uint64_t *ret_id,
             struct cluster *ret_cluster, char *err_text, size_t err_size)
{
    struct joining j = {.config = config,
                        .ports = ports,
                        .initial = initial,
                        .loop = loop,
                        .was_there = was_there,
                        .began_ms = now_ms()};
    j.complained_ms = j.began_ms - COMPLAIN_EVERY_MS + COMPLAIN_FIRST_MS;
    uv_timer_init(grpc_loop_uv(loop), &j.tick);
    j.tick.data = &j;
    open_channels(&j);
    int err = listen_on_peer_urls(&j, err_text, err_size);
    if (err == 0) {
        uv_timer_start(&j.tick, on_tick, 0, TICK_MS);
        uv_run(grpc_loop_uv(loop), UV_RUN_DEFAULT);
        if (j.decision.verdict == JOIN_REFUSE) {
            (void)snprintf(err_text, err_size, "%s", j.decision.text);
            err = TV_EINVAL;
        } else {
            take_place(&j, ret_id, ret_cluster);
        }
    }
    close_all(&j);
    return err;
}

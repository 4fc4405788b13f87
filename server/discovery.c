#include "server/discovery.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/grpc.h"
#include "proto/tls.h"
#include "proto/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_BYTES_MAX = 1024,
    ANSWER_BYTES_MAX = 4 << 20,
    ADDRESSES_MAX = 64,
    MEMBERS_MAX = CLUSTER_MEMBERS_MAX * 4, /* more never make a cluster */
    LOOK_AGAIN_MS = 300,
    RETRY_EXPONENT_MAX = 8, /* etcd's */
};

/* A conversation with the other cluster, one call at a time. */
struct discovery {
    const struct config *config;
    struct grpc_loop *gl;
    struct grpc_channel *channel;
    struct tls_context *tls;
    struct buf token; /* of the user; empty: none */
    uint32_t retries;
    uv_timer_t timer;
    bool timer_closed;
    /* The call. */
    struct buf answer;
    bool open;
    enum grpc_code code;
    char why[256];
};

/* Who is there already: a member's key ends with its id. */
struct found {
    char key[KEY_BYTES_MAX];
    char *value; /* "name=URL,..." */
    int64_t created;
};

/* --- calls --- */

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct discovery *d = grpc_call_user(call);
    buf_clear(&d->answer);
    if (buf_append(&d->answer, msg.data, msg.size) != 0)
        buf_clear(&d->answer); /* no such cluster needs so much: it is taken for empty */
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct discovery *d = grpc_call_user(call);
    d->open = false;
    d->code = code;
    snprintf(d->why, sizeof(d->why), "%.*s", (int)text.size, (const char *)text.data);
}

static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};

/* True, with the answer in d->answer; or false with d->why. */
static bool call(struct discovery *d, const char *path, struct slice msg)
{
    struct grpc_pair pair = {SLICE_LITERAL("token"), buf_slice(&d->token)};
    struct grpc_start_options o = {
        .path = path,
        .metadata = &pair,
        .metadata_count = d->token.size > 0,
        .deadline_ns = clock_mono_ns() + d->config->discovery.request_ms * 1000000,
        .wait_for_ready = true,
        .ops = &ops,
        .user = d,
    };
    buf_clear(&d->answer);
    d->open = true;
    struct grpc_call *started = grpc_start(d->channel, &o);
    (void)grpc_send(started, &msg, 1);
    grpc_half_close(started);
    while (d->open)
        uv_run(grpc_loop_uv(d->gl), UV_RUN_ONCE);
    return d->code == GRPC_OK;
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
}

static void wait_ms(struct discovery *d, uint64_t ms)
{
    uv_timer_start(&d->timer, on_timer, ms, 0);
    while (uv_is_active((uv_handle_t *)&d->timer))
        uv_run(grpc_loop_uv(d->gl), UV_RUN_ONCE);
}

static void back_off(struct discovery *d, const char *step)
{
    char text[32];
    d->retries++;
    uint32_t seconds = 1u << (d->retries < RETRY_EXPONENT_MAX ? d->retries : RETRY_EXPONENT_MAX);
    config_format_duration((int64_t)seconds * 1000000000, text, sizeof(text));
    log_warn("retry connecting to discovery service", LOG_STR("reason", step),
             LOG_STR("backoff", text), LOG_STR("error", d->why));
    wait_ms(d, (uint64_t)seconds * 1000);
}

/* --- what is asked --- */

static bool get(struct discovery *d, const char *key, bool prefix)
{
    uint8_t msg[2 * KEY_BYTES_MAX + 64];
    char end[KEY_BYTES_MAX];
    struct wire_range_request r = {.key = slice_of_string(key)};
    if (prefix) {
        snprintf(end, sizeof(end), "%s", key);
        end[strlen(end) - 1]++; /* it ends with a letter */
        r.range_end = slice_of_string(end);
    }
    uint8_t *p = wire_range_request_put(msg, &r);
    return call(d, "/etcdserverpb.KV/Range", slice_of(msg, (size_t)(p - msg)));
}

static bool put(struct discovery *d, const char *key, const char *value)
{
    struct wire_put_request r = {.key = slice_of_string(key), .value = slice_of_string(value)};
    uint8_t *msg = mem_alloc(wire_put_request_size(&r));
    uint8_t *p = wire_put_request_put(msg, &r);
    bool ok = call(d, "/etcdserverpb.KV/Put", slice_of(msg, (size_t)(p - msg)));
    mem_free(msg);
    return ok;
}

/* AuthenticateRequest: 1 name, 2 password; AuthenticateResponse: 2 token. */
static bool log_in(struct discovery *d)
{
    char user[256];
    const struct config_discovery *c = &d->config->discovery;
    const char *colon = strchr(c->user, ':');
    const char *password = *c->password == '\0' && colon != NULL ? colon + 1 : c->password;
    int user_size =
        colon != NULL && *c->password == '\0' ? (int)(colon - c->user) : (int)strlen(c->user);
    snprintf(user, sizeof(user), "%.*s", user_size, c->user);
    uint8_t msg[1024];
    if (*user == '\0' || strlen(password) > sizeof(msg) / 2)
        return true;
    uint8_t *p = wire_bytes_put(msg, 1, slice_of_string(user));
    p = wire_bytes_put(p, 2, slice_of_string(password));
    if (!call(d, "/etcdserverpb.Auth/Authenticate", slice_of(msg, (size_t)(p - msg))))
        return false;
    struct wire_reader r = wire_reader_of(buf_slice(&d->answer));
    struct slice token;
    if (wire_next_item(&r, 2, &token))
        (void)buf_append(&d->token, token.data, token.size);
    return true;
}

/* 0 with the number; or TV_EINVAL for good, TV_EIO when it may be better another time. */
static int get_size(struct discovery *d, uint32_t *ret, char *err_text, size_t err_size)
{
    char key[KEY_BYTES_MAX], text[32];
    snprintf(key, sizeof(key), "/_etcd/registry/%.900s/_config/size", d->config->discovery.token);
    if (!get(d, key, false)) {
        log_warn("failed to get cluster size from discovery service",
                 LOG_STR("clusterSizeKey", key), LOG_STR("error", d->why));
        return TV_EIO;
    }
    struct wire_reader r = wire_reader_of(buf_slice(&d->answer));
    struct wire_kv kv;
    if (wire_next_kv(&r, WIRE_RANGE_KVS, &kv) != 1) {
        snprintf(err_text, err_size, "discovery: size key not found");
        return TV_EINVAL;
    }
    snprintf(text, sizeof(text), "%.*s", (int)kv.value.size, (const char *)kv.value.data);
    char *end;
    long long size = strtoll(text, &end, 10);
    if (*end != '\0' || end == text || size <= 0 || size > MEMBERS_MAX) {
        snprintf(err_text, err_size, "discovery: size key is bad");
        return TV_EINVAL;
    }
    *ret = (uint32_t)size;
    return 0;
}

static int by_creation(const void *a, const void *b)
{
    int64_t x = ((const struct found *)a)->created, y = ((const struct found *)b)->created;
    return (x > y) - (x < y);
}

static void forget(struct found *members, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        mem_free(members[i].value);
}

/* Those that are down, in the order in which they came; false: another time. */
static bool get_members(struct discovery *d, struct found *ret, uint32_t *ret_count)
{
    char prefix[KEY_BYTES_MAX];
    snprintf(prefix, sizeof(prefix), "/_etcd/registry/%.900s/members", d->config->discovery.token);
    *ret_count = 0;
    if (!get(d, prefix, true)) {
        log_warn("failed to get cluster members from discovery service",
                 LOG_STR("membersKeyPrefix", prefix), LOG_STR("error", d->why));
        return false;
    }
    struct wire_reader r = wire_reader_of(buf_slice(&d->answer));
    struct wire_kv kv;
    while (*ret_count < MEMBERS_MAX && wire_next_kv(&r, WIRE_RANGE_KVS, &kv) == 1) {
        if (kv.value.size == 0 || memchr(kv.value.data, '=', kv.value.size) == NULL) {
            log_warn("invalid peer info returned from discovery service",
                     LOG_SLICE("memberKey", kv.key), LOG_SLICE("memberInfo", kv.value));
            continue;
        }
        struct found *f = &ret[(*ret_count)++];
        snprintf(f->key, sizeof(f->key), "%.*s", (int)kv.key.size, (const char *)kv.key.data);
        f->value = mem_text(kv.value.data, kv.value.size);
        f->created = kv.create_revision;
    }
    qsort(ret, *ret_count, sizeof(ret[0]), by_creation);
    return true;
}

/* --- the steps --- */

/* Who is there, once it is known; TV_EINVAL: it is known, too, and does not do. */
static int check_cluster(struct discovery *d, const char *self_key, uint32_t *ret_size,
                         struct found *members, uint32_t *ret_count, char *err_text,
                         size_t err_size)
{
    for (;;) {
        int err = get_size(d, ret_size, err_text, err_size);
        if (err == TV_EINVAL)
            return err;
        if (err == 0 && get_members(d, members, ret_count))
            break;
        back_off(d, "cluster status check");
    }
    d->retries = 0;
    for (uint32_t i = 0; i < *ret_count && i < *ret_size; i++)
        if (strcmp(members[i].key, self_key) == 0)
            return 0;
    if (*ret_count < *ret_size)
        return 0;
    snprintf(err_text, err_size, "discovery: cluster is full");
    forget(members, *ret_count);
    return TV_EINVAL;
}

static void put_down(struct discovery *d, const char *key, const char *self)
{
    while (!put(d, key, self)) {
        log_warn("failed to register members itself to the discovery service",
                 LOG_STR("memberKey", key), LOG_STR("error", d->why));
        back_off(d, "register member itself");
    }
    d->retries = 0;
    log_info("register member itself successfully", LOG_STR("memberKey", key),
             LOG_STR("memberInfo", self));
}

static int join(struct discovery *d, uint64_t self_id, const char *self, struct buf *ret,
                char *err_text, size_t err_size)
{
    struct found *members = mem_alloc(MEMBERS_MAX * sizeof(members[0]));
    char key[KEY_BYTES_MAX];
    uint32_t size = 0, count = 0, said = UINT32_MAX;
    snprintf(key, sizeof(key), "/_etcd/registry/%.900s/members/%llx", d->config->discovery.token,
             (unsigned long long)self_id);
    int err = check_cluster(d, key, &size, members, &count, err_text, err_size);
    if (err == 0) {
        forget(members, count);
        put_down(d, key, self);
    }
    while (err == 0) {
        err = check_cluster(d, key, &size, members, &count, err_text, err_size);
        if (err != 0 || count >= size)
            break;
        if (said != count)
            log_info("waiting for peers from discovery service", LOG_UINT("clusterSize", size),
                     LOG_UINT("found-peers", count));
        said = count;
        forget(members, count);
        wait_ms(d, LOOK_AGAIN_MS);
    }
    for (uint32_t i = 0; err == 0 && i < size; i++) {
        if (i > 0)
            err = buf_append(ret, ",", 1);
        if (err == 0)
            err = buf_append(ret, members[i].value, strlen(members[i].value));
    }
    if (err == 0)
        forget(members, count);
    mem_free(members);
    return err;
}

/* --- from the beginning to the end --- */

static int open_channel(struct discovery *d, char *err_text, size_t err_size)
{
    const struct config_discovery *c = &d->config->discovery;
    const char *addresses[ADDRESSES_MAX];
    struct grpc_channel_options o;
    char *copy = mem_strdup(c->endpoints), *rest = copy, *item;
    grpc_channel_options_init(&o);
    while (o.addresses_count < ADDRESSES_MAX && (item = strsep(&rest, ",")) != NULL)
        addresses[o.addresses_count++] = item;
    o.addresses = addresses;
    o.connect_timeout_ms = c->dial_ms > 0 ? c->dial_ms : 1;
    o.keepalive_time_ms = c->keepalive_ms;
    o.keepalive_timeout_ms = c->keepalive_timeout_ms;
    struct tls_options t = {.cert_file = c->cert,
                            .key_file = c->key,
                            .ca_file = c->ca,
                            .insecure_skip_verify = c->skip_verify};
    if (strstr(c->endpoints, "https://") != NULL || strstr(c->endpoints, "unixs://") != NULL) {
        d->tls = tls_context_new(&t, err_text, err_size);
        o.tls = d->tls;
    } else {
        snprintf(err_text, err_size, "the endpoints do not parse: %.200s", c->endpoints);
    }
    if (o.tls != NULL || strstr(c->endpoints, "s://") == NULL)
        d->channel = grpc_channel_new(d->gl, &o);
    mem_free(copy);
    return d->channel != NULL ? 0 : TV_EINVAL;
}

static void on_timer_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

int discovery_join(const struct config *c, struct grpc_loop *gl, uint64_t self_id, const char *self,
                   struct buf *ret, char *err_text, size_t err_size)
{
    struct discovery d = {.config = c, .gl = gl};
    char why[256];
    buf_init(&d.answer, ANSWER_BYTES_MAX);
    buf_init(&d.token, 4096);
    uv_timer_init(grpc_loop_uv(gl), &d.timer);
    d.timer.data = &d.timer_closed;
    log_info("Bootstrapping cluster using v3 discovery.",
             LOG_STR("discovery-token", c->discovery.token),
             LOG_STR("discovery-endpoints", c->discovery.endpoints));
    int err = open_channel(&d, why, sizeof(why));
    if (err == 0 && !log_in(&d)) {
        snprintf(why, sizeof(why), "%.255s", d.why);
        err = TV_EINVAL;
    }
    if (err == 0)
        err = join(&d, self_id, self, ret, why, sizeof(why));
    if (d.channel != NULL)
        grpc_channel_close(d.channel);
    uv_close((uv_handle_t *)&d.timer, on_timer_closed);
    while (!d.timer_closed)
        uv_run(grpc_loop_uv(gl), UV_RUN_ONCE);
    tls_context_free(d.tls);
    buf_fini(&d.answer);
    buf_fini(&d.token);
    if (err != 0)
        snprintf(err_text, err_size, "failed to join discovery cluster (%s)", why);
    else
        log_info("discovery joined cluster successfully", LOG_SLICE("cluster", buf_slice(ret)));
    return err == 0 ? 0 : TV_EINVAL;
}

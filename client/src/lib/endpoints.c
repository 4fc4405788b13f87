/* Endpoints and their connections; who leads, learned from what they answer. */
#include "engine.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>

/* --- texts: "[scheme://]host:port[;zone=NAME]" --- */

static bool has_scheme(const char *text, const char *scheme)
{
    size_t size = strlen(scheme);
    return strncmp(text, scheme, size) == 0 && strncmp(text + size, "://", 3) == 0;
}

/* NULL: there is no memory; url_of() likewise. */
static char *dup_part(const char *text, size_t size)
{
    char *copy = mem_try_alloc(size + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

static bool port_is_there(const char *host, size_t size)
{
    const char *colon = memrchr(host, ':', size);
    if (colon == NULL || colon + 1 == host + size)
        return false;
    for (const char *p = colon + 1; p < host + size; p++)
        if (*p < '0' || *p > '9')
            return false;
    return host + size - colon <= 6;
}

int endpoints__check(const char *text, bool secure)
{
    (void)secure;
    size_t size = strcspn(text, ";");
    if (text[size] == ';' && strncmp(text + size, ";zone=", 6) != 0)
        return TRIVET_INVALID;
    if (size >= ENDPOINT_TEXT_BYTES)
        return TRIVET_INVALID;
    if (has_scheme(text, "unix") || has_scheme(text, "unixs"))
        return 0;
    if (has_scheme(text, "srv")) { /* a domain alone */
        const char *domain = text + strlen("srv://");
        size_t domain_size = strcspn(domain, ";/:");
        return domain_size > 0 && domain + domain_size == text + size ? 0 : TRIVET_INVALID;
    }
    const char *after = strstr(text, "://");
    if (after != NULL && after < text + size) {
        if (!has_scheme(text, "http") && !has_scheme(text, "https") && !has_scheme(text, "dns"))
            return TRIVET_INVALID;
        after += 3;
    } else {
        after = text;
    }
    size = strcspn(after, ";/");
    return port_is_there(after, size) ? 0 : TRIVET_INVALID;
}

/* For the transport: https:// in front where TLS is spoken, no path behind. */
static char *url_of(const struct trivet_client *c, const char *text, size_t size)
{
    if (has_scheme(text, "unix") || has_scheme(text, "unixs"))
        return dup_part(text, size);
    bool secure = has_scheme(text, "https");
    const char *host = strstr(text, "://");
    if (host == NULL || host >= text + size) {
        host = text;
        secure = c->is_secure;
    } else {
        if (has_scheme(text, "dns"))
            secure = c->is_secure;
        host += 3;
    }
    size_t host_size = strcspn(host, "/;");
    char *url = mem_try_alloc(sizeof("https://") + host_size);
    if (url == NULL)
        return NULL;
    (void)snprintf(url, sizeof("https://") + host_size, "%s%.*s", secure ? "https://" : "",
                   (int)host_size, host);
    return url;
}

/* --- connections --- */

/* More calls than all its connections take make an endpoint full. */
static void learn_room(struct endpoint *e)
{
    uint64_t each = CONNECTION_FULL_CALLS * 4;
    for (uint32_t i = 0; i < e->connections_count; i++) {
        uint32_t max = grpc_channel_streams_max(e->connections[i].channel);
        each = max < each ? max : each;
    }
    e->client->balancer.endpoints[e->index].in_flight_max =
        (uint32_t)(each * e->client->o.connections_max);
}

static void on_state(struct grpc_channel *ch, enum grpc_channel_state state, const char *address,
                     void *arg)
{
    struct connection *n = arg;
    struct endpoint *e = n->endpoint;
    struct trivet_client *c = e->client;
    (void)ch;
    (void)address;
    n->ready = state == GRPC_CHANNEL_READY;
    n->failed = state == GRPC_CHANNEL_BACKOFF || (n->failed && !n->ready);
    bool any = false;
    for (uint32_t i = 0; i < e->connections_count; i++)
        any = any || e->connections[i].ready;
    if (c->stopped || e->going)
        return;
    if (n->ready)
        learn_room(e);
    bool was = c->balancer.endpoints[e->index].ready;
    balancer_ready(&c->balancer, e->index, any, engine__now_ns());
    if (was && n->ready) { /* there is room for those who wait for it */
        calls__kick(c);
        watches__kick(c);
    }
    if (was == any)
        return;
    if (!any && c->balancer.leader == e->index)
        endpoints__probe_all(c);
    if (any) {
        c->probed_ns = 0;
        endpoints__probe_all(c);
        calls__kick(c);
        watches__kick(c);
    }
}

static bool connect_one(struct endpoint *e)
{
    struct trivet_client *c = e->client;
    struct grpc_channel_options o;
    const char *const addresses[] = {e->url};
    struct connection *n = &e->connections[e->connections_count];
    grpc_channel_options_init(&o);
    o.addresses = addresses;
    o.addresses_count = 1;
    o.tls = c->tls;
    o.tls_host = e->tls_host;
    o.user_agent = "libtrivet/0.1.0";
    o.recv_message_bytes_max = (uint32_t)c->o.response_bytes_max;
    o.connect_timeout_ms = c->o.connect_timeout_ms;
    o.keepalive_time_ms = c->o.keepalive_ms;
    o.keepalive_timeout_ms = c->o.keepalive_timeout_ms;
    o.seed = rng_next(&c->rng);
    o.state_changed = on_state;
    o.arg = n;
    *n = (struct connection){.endpoint = e};
    n->channel = grpc_channel_new(c->grpc, &o);
    if (n->channel == NULL)
        return false;
    e->connections_count++;
    return true;
}

/* How many more calls the server takes at once there. */
static uint32_t room_of(const struct connection *n)
{
    uint32_t max = grpc_channel_streams_max(n->channel);
    return n->in_flight < max ? max - n->in_flight : 0;
}

/* How long calls would wait that come to a full one: as its calls that end are to their places. */
static double queue_of(const struct connection *n)
{
    double places = (double)grpc_channel_streams_max(n->channel) - n->lasting;
    return places > 0 ? (n->in_flight - n->lasting) / places : HUGE_VAL;
}

static bool is_better(const struct connection *a, const struct connection *b)
{
    bool a_has_room = room_of(a) > 0, b_has_room = room_of(b) > 0;
    if (a_has_room != b_has_room)
        return a_has_room;
    return a_has_room ? a->in_flight < b->in_flight : queue_of(a) < queue_of(b);
}

struct connection *endpoint__connection(struct endpoint *e)
{
    struct connection *best = NULL;
    bool another = false;
    for (uint32_t i = 0; i < e->connections_count; i++) {
        struct connection *n = &e->connections[i];
        if (n->ready && (best == NULL || is_better(n, best)))
            best = n;
        another = another || (!n->ready && !n->failed);
    }
    if (best == NULL)
        return NULL;
    uint32_t room = room_of(best);
    /* For those to come: the last one that has room gets one. */
    if ((room <= 1 || best->in_flight >= CONNECTION_FULL_CALLS) &&
        e->connections_count < e->client->o.connections_max &&
        e->connections[e->connections_count - 1].ready)
        another = connect_one(e) || another;
    return room == 0 && another ? NULL : best;
}

void connection__began(struct connection *n, bool lasting)
{
    n->in_flight++;
    n->lasting += lasting;
}

void connection__ended(struct connection *n, bool lasting)
{
    ASSERT(n->in_flight > 0 && n->lasting >= lasting);
    n->in_flight--;
    n->lasting -= lasting;
}

struct grpc_call *connection__stream(struct connection *n, const char *path, const char *token,
                                     const struct grpc_call_ops *ops, void *user)
{
    struct grpc_pair pairs[2] = {{SLICE_LITERAL("hasleader"), SLICE_LITERAL("true")},
                                 {SLICE_LITERAL("token"), SLICE_EMPTY}};
    if (token != NULL)
        pairs[1].value = slice_of_string(token);
    struct grpc_start_options o = {.path = path,
                                   .metadata = pairs,
                                   .metadata_count = token != NULL ? 2 : 1,
                                   .ops = ops,
                                   .user = user};
    struct grpc_call *grpc = grpc_try_start(n->channel, &o);
    if (grpc != NULL)
        connection__began(n, true);
    return grpc;
}

/* --- the set --- */

static void endpoint_free(struct endpoint *e)
{
    mem_free(e->address);
    mem_free(e->url);
    mem_free(e->zone);
    mem_free(e->tls_host);
    mem_free(e);
}

/* NULL: there is no memory. */
static struct endpoint *endpoint_new(struct trivet_client *c, const char *text,
                                     const char *tls_host)
{
    size_t size = strcspn(text, ";");
    struct endpoint *e = mem_try_alloc_zero(sizeof(*e));
    if (e == NULL)
        return NULL;
    e->client = c;
    e->address = dup_part(text, size);
    e->url = url_of(c, text, size);
    e->zone = text[size] == ';' ? mem_try_strdup(text + size + strlen(";zone=")) : NULL;
    e->tls_host = tls_host == NULL ? NULL : mem_try_strdup(tls_host);
    list_init(&e->streams);
    if (e->address != NULL && e->url != NULL && (e->zone != NULL || text[size] != ';') &&
        (e->tls_host != NULL || tls_host == NULL))
        return e;
    endpoint_free(e);
    return NULL;
}

static struct endpoint *open_endpoint(struct trivet_client *c, const char *text,
                                      enum endpoint_source source, uint32_t source_id,
                                      const char *tls_host)
{
    int index = 0;
    while (index < BALANCER_ENDPOINTS_MAX && c->endpoints[index] != NULL)
        index++;
    struct endpoint *e = index == BALANCER_ENDPOINTS_MAX ? NULL : endpoint_new(c, text, tls_host);
    if (e == NULL)
        return NULL;
    e->index = index;
    e->source = source;
    e->source_id = source_id;
    c->endpoints[index] = e;
    if (c->balancer.count <= (uint32_t)index)
        c->balancer.count = (uint32_t)index + 1;
    c->balancer.endpoints[index] = (struct balancer_endpoint){
        .near = c->o.zone == NULL || (e->zone != NULL && strcmp(e->zone, c->o.zone) == 0),
        .rank = hash64(slice_of_string(e->url), rng_next(&c->rng)),
        .in_flight_max = CONNECTION_FULL_CALLS * 4 * c->o.connections_max,
    };
    (void)connect_one(e);
    return e;
}

static void close_endpoint(struct endpoint *e)
{
    struct trivet_client *c = e->client;
    for (uint32_t i = 0; i < e->connections_count; i++)
        grpc_channel_close(e->connections[i].channel);
    c->endpoints[e->index] = NULL;
    endpoint_free(e);
}

static void let_go(struct endpoint *e)
{
    struct trivet_client *c = e->client;
    e->going = true;
    c->balancer.endpoints[e->index].ready = false;
    if (c->balancer.leader == e->index)
        balancer_set_leader(&c->balancer, BALANCER_NONE);
    endpoint__evacuate(e);
}

void endpoint__heard(struct endpoint *e)
{
    struct trivet_client *c = e->client;
    e->heard_ns = engine__now_ns();
    if (c->balancer.endpoints[e->index].silent)
        balancer_silent(&c->balancer, e->index, false, e->heard_ns);
}

void endpoint__silent(struct endpoint *e)
{
    struct trivet_client *c = e->client;
    if (c->balancer.endpoints[e->index].silent)
        return;
    balancer_silent(&c->balancer, e->index, true, engine__now_ns());
    c->metrics.silences++;
    endpoints__probe_all(c);
}

void endpoint__evacuate(struct endpoint *e)
{
    watches__leave(e);
    leases__leave(e);
}

void endpoints__begin_list(struct trivet_client *c, enum endpoint_source source, uint32_t id)
{
    for (uint32_t i = 0; i < c->balancer.count; i++) {
        struct endpoint *e = c->endpoints[i];
        if (e != NULL && e->source == source && e->source_id == id)
            e->seen = false;
    }
}

static bool endpoints_are_full(const struct trivet_client *c)
{
    for (int i = 0; i < BALANCER_ENDPOINTS_MAX; i++)
        if (c->endpoints[i] == NULL)
            return false;
    return true;
}

bool endpoints__list(struct trivet_client *c, const char *text, enum endpoint_source source,
                     uint32_t id, const char *tls_host)
{
    char *url = url_of(c, text, strcspn(text, ";"));
    struct endpoint *found = NULL;
    if (url == NULL)
        return false;
    for (uint32_t i = 0; i < c->balancer.count && found == NULL; i++) {
        struct endpoint *e = c->endpoints[i];
        if (e != NULL && !e->going && strcmp(e->url, url) == 0)
            found = e;
    }
    mem_free(url);
    if (found == NULL)
        found = open_endpoint(c, text, source, id, tls_host);
    if (found != NULL)
        found->seen = true;
    return found != NULL || endpoints_are_full(c);
}

void endpoints__end_list(struct trivet_client *c, enum endpoint_source source, uint32_t id)
{
    for (uint32_t i = 0; i < c->balancer.count; i++) {
        struct endpoint *e = c->endpoints[i];
        if (e != NULL && e->source == source && e->source_id == id && !e->seen && !e->going)
            let_go(e);
    }
}

int endpoint__find(struct trivet_client *c, const char *address)
{
    for (uint32_t i = 0; i < c->balancer.count; i++) {
        struct endpoint *e = c->endpoints[i];
        if (e != NULL && !e->going &&
            (strcmp(e->address, address) == 0 || strcmp(e->url, address) == 0))
            return (int)i;
    }
    return BALANCER_NONE;
}

void endpoints__close(struct trivet_client *c)
{
    for (uint32_t i = 0; i < c->balancer.count; i++)
        if (c->endpoints[i] != NULL)
            close_endpoint(c->endpoints[i]);
}

/* --- who leads --- */

static void set_leader(struct trivet_client *c)
{
    int leader = BALANCER_NONE;
    for (uint32_t i = 0; i < c->balancer.count; i++) {
        struct endpoint *e = c->endpoints[i];
        if (e != NULL && !e->going && e->member_id == c->leader_id && c->leader_id != 0)
            leader = (int)i;
    }
    if (leader != c->balancer.leader && leader != BALANCER_NONE)
        c->metrics.leader_changes++;
    balancer_set_leader(&c->balancer, leader);
}

void endpoints__learn(struct trivet_client *c, int endpoint, const struct trivet_header *h)
{
    struct endpoint *e = c->endpoints[endpoint];
    if (e != NULL && h->member_id != 0 && e->member_id != h->member_id) {
        e->member_id = h->member_id;
        set_leader(c);
    }
    if (h->raft_term > c->term) {
        c->term = h->raft_term;
        endpoints__probe_all(c);
    }
}

static void on_probed(struct call *call, const struct call_end *end)
{
    struct trivet_client *c = call->client;
    struct endpoint *e = c->endpoints[call->pinned_index];
    struct trivet_result r = {0};
    char error[1];
    if (e != NULL)
        e->probing = false;
    if (c->stopped || end->status != TRIVET_OK || e == NULL)
        return;
    result__borrow(call, end, &r, error, sizeof(error));
    if (r.status != TRIVET_OK)
        return;
    const struct trivet_status_result *s = &r.u.status;
    e->member_id = r.header.member_id;
    c->balancer.endpoints[e->index].learner = s->is_learner;
    if (s->leader != 0 && s->raft_term >= c->term) {
        c->term = s->raft_term;
        c->leader_id = s->leader;
    }
    set_leader(c);
}

static void probe(struct endpoint *e)
{
    enum { PROBE_TIMEOUT_MS = 1000 };
    struct trivet_request q = {.method = TRIVET_STATUS};
    if (e->probing || e->going || !e->client->balancer.endpoints[e->index].ready)
        return;
    struct call *call = rpc__new_own(e->client, &q, e->index, PROBE_TIMEOUT_MS, on_probed, NULL);
    if (call == NULL)
        return;
    e->probing = true;
    rpc__begin(call);
}

/* Who hands over says so at once, and its successor leads some milliseconds later; who is lost has
 * none for seconds. So the first questions come quickly, and the more there were the longer the
 * pause. */
void endpoints__probe_all(struct trivet_client *c)
{
    enum { PAUSE_MIN_MS = 10, PAUSE_MAX_MS = 150, CALM_MS = 1000 };
    uint64_t now_ns = engine__now_ns();
    if (c->stopped || (c->probed_ns != 0 && now_ns < c->probed_ns + c->probe_pause_ms * NS_PER_MS))
        return;
    bool calm = now_ns >= c->probed_ns + CALM_MS * NS_PER_MS;
    c->probe_pause_ms = calm ? PAUSE_MIN_MS : 2 * c->probe_pause_ms;
    if (c->probe_pause_ms > PAUSE_MAX_MS)
        c->probe_pause_ms = PAUSE_MAX_MS;
    c->probed_ns = now_ns;
    for (uint32_t i = 0; i < c->balancer.count; i++)
        if (c->endpoints[i] != NULL)
            probe(c->endpoints[i]);
}

void endpoints__tick(struct trivet_client *c, uint64_t now_ns)
{
    enum { PROBE_EVERY_MS = 10000 };
    for (uint32_t i = 0; i < c->balancer.count; i++) {
        struct endpoint *e = c->endpoints[i];
        if (e != NULL && e->going && c->balancer.endpoints[i].in_flight == 0 &&
            list_is_empty(&e->streams))
            close_endpoint(e);
        else if (e != NULL && !e->going && e->connections_count == 0)
            (void)connect_one(e); /* there was no memory for it */
    }
    bool leaderless = c->balancer.leader == BALANCER_NONE || c->balancer.leader_lost_ns != 0;
    for (uint32_t i = 0; i < c->balancer.count; i++)
        leaderless =
            leaderless || (c->balancer.endpoints[i].ready && c->balancer.endpoints[i].silent);
    if (leaderless || now_ns >= c->probed_ns + PROBE_EVERY_MS * NS_PER_MS)
        endpoints__probe_all(c);
}

/* --- what can be seen of them --- */

struct ask {
    struct trivet_endpoint_metrics *endpoints;
    uint32_t count;
    uint32_t found;
};

static void describe(const struct endpoint *e, struct trivet_endpoint_metrics *ret)
{
    const struct trivet_client *c = e->client;
    const struct balancer_endpoint *b = &c->balancer.endpoints[e->index];
    *ret = (struct trivet_endpoint_metrics){
        .member_id = e->member_id,
        .ready = b->ready,
        .leader = c->balancer.leader == e->index,
        .ejected = balancer_is_ejected(&c->balancer, e->index, engine__now_ns()),
        .connections = e->connections_count,
        .in_flight = b->in_flight,
        .latency_ns = b->latency_ns,
        .calls = b->calls,
        .failures = b->failures_total,
    };
    (void)snprintf(ret->address, sizeof(ret->address), "%.*s", (int)sizeof(ret->address) - 1,
                   e->address);
    (void)snprintf(ret->zone, sizeof(ret->zone), "%.*s", (int)sizeof(ret->zone) - 1,
                   e->zone == NULL ? "" : e->zone);
}

static void run_metrics(struct trivet_client *c, void *arg)
{
    struct trivet_metrics *m = arg;
    *m = c->metrics;
    m->calls_now = atomic_load(&c->calls_now);
    m->bytes_now = atomic_load(&c->bytes_now);
    m->watches_now = atomic_load(&c->watches_now);
    m->leases_now = c->leases.count;
    m->read_p95_ns = c->p95_ns;
}

void trivet_metrics(struct trivet_client *c, struct trivet_metrics *ret)
{
    engine__sync(c, run_metrics, ret);
}

static void run_endpoints(struct trivet_client *c, void *arg)
{
    struct ask *a = arg;
    for (uint32_t i = 0; i < c->balancer.count; i++) {
        if (c->endpoints[i] == NULL || c->endpoints[i]->going)
            continue;
        if (a->found < a->count)
            describe(c->endpoints[i], &a->endpoints[a->found]);
        a->found++;
    }
}

uint32_t trivet_endpoints(struct trivet_client *c, struct trivet_endpoint_metrics *ret,
                          uint32_t count)
{
    struct ask a = {.endpoints = ret, .count = count};
    engine__sync(c, run_endpoints, &a);
    return a.found;
}

#include "server/top.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "proto/wire.h"

#include <stdio.h>
#include <string.h>

enum {
    KEY_ALONE_BYTES_MAX = 16,
    TXN_OPS_MAX = 4, /* looked at, of one */
    CONNS_PER_TICK_MAX = 4096,
};
#define NS_PER_S 1000000000ull
/* Below it a place is as good as free. */
#define WEIGHT_MIN 0.01

struct top *top_new(void)
{
    struct top *t = mem_alloc_zero(sizeof(*t));
    list_init(&t->clients);
    rng_init(&t->rng, 1); /* no one is to be surprised, only rhythms broken */
    int err = pthread_mutex_init(&t->lock, NULL);
    ASSERT(err == 0);
    return t;
}

void top_free(struct top *t)
{
    if (t == NULL)
        return;
    ASSERT(list_is_empty(&t->clients));
    (void)pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* --- prefixes --- */

uint32_t top_next_sample(struct top *t)
{
    return 1 + (uint32_t)rng_below(&t->rng, 2 * TOP_SAMPLE_EVERY - 1);
}

uint32_t top_prefixes_of(struct slice key, struct slice ret[TOP_LEVELS_MAX])
{
    uint32_t count = 0;
    size_t size_max = key.size < TOP_PREFIX_BYTES_MAX ? key.size : TOP_PREFIX_BYTES_MAX;
    for (size_t i = 1; i < size_max && count < TOP_LEVELS_MAX; i++) /* a first '/' says nothing */
        if (key.data[i] == '/')
            ret[count++] = slice_of(key.data, i + 1);
    if (count > 0)
        return count;
    size_t size = 0;
    while (size < size_max && size < KEY_ALONE_BYTES_MAX &&
           (key.data[size] < '0' || key.data[size] > '9'))
        size++;
    if (size == 0)
        size = size_max < KEY_ALONE_BYTES_MAX ? size_max : KEY_ALONE_BYTES_MAX;
    if (size > 0)
        ret[count++] = slice_of(key.data, size);
    return count;
}

static double weight(const struct top_prefix *p)
{
    return p->reads + p->writes + p->inherited;
}

static struct top_prefix *place_of(struct top *t, struct slice prefix)
{
    uint64_t hash = hash64(prefix, 0) | 1;
    struct top_prefix *least = NULL;
    for (uint32_t i = 0; i < t->prefixes_count; i++) {
        struct top_prefix *p = &t->prefixes[i];
        if (p->hash == hash && slice_equal(slice_of(p->text, p->size), prefix))
            return p;
        if (least == NULL || weight(p) < weight(least))
            least = p;
    }
    double inherited = 0;
    if (t->prefixes_count < TOP_PREFIXES_MAX)
        least = &t->prefixes[t->prefixes_count++];
    else
        inherited = weight(least);
    *least =
        (struct top_prefix){.hash = hash, .inherited = inherited, .size = (uint32_t)prefix.size};
    memcpy(least->text, prefix.data, prefix.size);
    return least;
}

void top_count_key(struct top *t, struct slice key, bool is_write, size_t bytes)
{
    struct slice prefixes[TOP_LEVELS_MAX];
    uint32_t count = top_prefixes_of(key, prefixes);
    (void)pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < count; i++) {
        struct top_prefix *p = place_of(t, prefixes[i]);
        *(is_write ? &p->writes : &p->reads) += 1;
        p->bytes += (double)bytes;
    }
    (void)pthread_mutex_unlock(&t->lock);
}

static void count_branch(struct top *t, const struct wire_txn *txn, bool success)
{
    struct wire_txn_it it;
    struct wire_op op;
    wire_txn_ops(txn, success, &it);
    for (int i = 0; i < TXN_OPS_MAX && wire_next_op(&it, &op); i++) {
        if (op.kind == WIRE_OP_RANGE)
            top_count_key(t, op.range.key, false, op.range.key.size);
        else if (op.kind == WIRE_OP_PUT)
            top_count_key(t, op.put.key, true, op.put.key.size + op.put.value.size);
        else if (op.kind == WIRE_OP_DELETE_RANGE)
            top_count_key(t, op.delete_range.key, true, op.delete_range.key.size);
    }
}

void top_count_request(struct top *t, const char *path, struct slice msg)
{
    static const char kv[] = "/etcdserverpb.KV/";
    struct wire_range_request range;
    struct wire_put_request put;
    struct wire_delete_range_request del;
    struct wire_txn txn;
    if (strncmp(path, kv, sizeof(kv) - 1) != 0)
        return;
    path += sizeof(kv) - 1;
    if (strcmp(path, "Range") == 0 && wire_range_request_decode(msg, &range) == 0)
        top_count_key(t, range.key, false, msg.size);
    else if (strcmp(path, "Put") == 0 && wire_put_request_decode(msg, &put) == 0)
        top_count_key(t, put.key, true, msg.size);
    else if (strcmp(path, "DeleteRange") == 0 && wire_delete_range_request_decode(msg, &del) == 0)
        top_count_key(t, del.key, true, msg.size);
    else if (strcmp(path, "Txn") == 0 && wire_txn_decode(msg, &txn) == 0)
        count_branch(t, &txn, true); /* the one that is taken more often than not */
}

static void fade(struct top *t, double factor)
{
    uint32_t kept = 0;
    (void)pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < t->prefixes_count; i++) {
        struct top_prefix *p = &t->prefixes[i];
        p->reads *= factor;
        p->writes *= factor;
        p->bytes *= factor;
        p->inherited *= factor;
        if (weight(p) >= WEIGHT_MIN && kept++ != i)
            t->prefixes[kept - 1] = *p;
    }
    t->prefixes_count = kept;
    (void)pthread_mutex_unlock(&t->lock);
}

/* --- clients --- */

void top_conn_opened(struct grpc_conn *conn, void *arg)
{
    struct top *t = arg;
    struct top_client *c = mem_alloc_zero(sizeof(*c));
    c->conn = conn;
    list_push_back(&t->clients, &c->link);
    t->clients_count++;
    grpc_conn_set_user(conn, c);
}

void top_conn_closed(struct grpc_conn *conn, void *arg)
{
    struct top *t = arg;
    struct top_client *c = grpc_conn_user(conn);
    grpc_conn_set_user(conn, NULL);
    list_remove(&c->link);
    t->clients_count--;
    mem_free(c);
}

static void copy_text(char ret[TOP_NAME_BYTES_MAX], const char *text)
{
    (void)snprintf(ret, TOP_NAME_BYTES_MAX, "%s", text == NULL ? "" : text);
}

static double slowness(const struct top_client_row *r)
{
    return (double)r->worst_ns;
}

static double busyness(const struct top_client_row *r)
{
    return r->received_per_s + r->sent_per_s;
}

static void insert(struct top_client_row *rows, uint32_t *count, const struct top_client_row *r,
                   double (*order)(const struct top_client_row *))
{
    uint32_t at = *count;
    if (order(r) <= 0)
        return;
    while (at > 0 && order(&rows[at - 1]) < order(r))
        at--;
    if (at == TOP_CLIENTS_MAX)
        return;
    if (*count < TOP_CLIENTS_MAX)
        ++*count;
    memmove(&rows[at + 1], &rows[at], (*count - 1 - at) * sizeof(*rows));
    rows[at] = *r;
}

static void look_at(struct top *t, struct top_client *c, uint64_t now_ns, bool new_half)
{
    struct grpc_conn_bytes bytes = *grpc_conn_bytes(c->conn);
    uint64_t calls = c->calls - c->seen_calls;
    double seconds = (double)(now_ns - c->seen_ns) / 1e9;
    struct top_client_row r = {
        .calls_per_s = (double)calls / seconds,
        .received_per_s = (double)(bytes.received - c->seen_bytes.received) / seconds,
        .sent_per_s = (double)(bytes.sent - c->seen_bytes.sent) / seconds,
        .mean_ns = calls == 0 ? 0 : (double)(c->time_ns - c->seen_time_ns) / (double)calls,
        .worst_ns = c->worst_ns[0] > c->worst_ns[1] ? c->worst_ns[0] : c->worst_ns[1],
    };
    bool first = c->seen_ns == 0;
    c->seen_ns = now_ns;
    c->seen_calls = c->calls;
    c->seen_time_ns = c->time_ns;
    c->seen_bytes = bytes;
    if (new_half) {
        c->worst_ns[1] = c->worst_ns[0];
        c->worst_ns[0] = 0;
    }
    if (first)
        return; /* since when, nobody knows */
    copy_text(r.peer, grpc_conn_peer(c->conn));
    copy_text(r.name, grpc_conn_peer_cn(c->conn));
    insert(t->slow_next, &t->slow_next_count, &r, slowness);
    insert(t->busy_next, &t->busy_next_count, &r, busyness);
}

static void publish(struct top *t)
{
    (void)pthread_mutex_lock(&t->lock);
    memcpy(t->slow, t->slow_next, sizeof(t->slow));
    memcpy(t->busy, t->busy_next, sizeof(t->busy));
    t->slow_count = t->slow_next_count;
    t->busy_count = t->busy_next_count;
    (void)pthread_mutex_unlock(&t->lock);
}

static void look_on(struct top *t, uint64_t now_ns)
{
    if (t->to_look_at == 0) {
        if (now_ns - t->round_ns < NS_PER_S)
            return;
        t->round_ns = now_ns;
        t->to_look_at = t->clients_count;
        t->slow_next_count = t->busy_next_count = 0;
        if (now_ns - t->half_ns > TOP_WINDOW_S * NS_PER_S / 2)
            t->half_ns = now_ns;
    }
    for (int i = 0; i < CONNS_PER_TICK_MAX && t->to_look_at > 0; i++, t->to_look_at--) {
        if (list_is_empty(&t->clients)) {
            t->to_look_at = 0;
            break;
        }
        struct top_client *c = CONTAINER_OF(t->clients.next, struct top_client, link);
        list_remove(&c->link);
        list_push_back(&t->clients, &c->link);
        if (c->seen_ns < t->round_ns) /* others have gone: it is its turn again */
            look_at(t, c, now_ns, t->half_ns == t->round_ns);
    }
    if (t->to_look_at == 0)
        publish(t);
}

void top_tick(struct top *t, uint64_t now_ns, bool wanted)
{
    if (t->faded_ns == 0)
        t->faded_ns = now_ns;
    if (now_ns - t->faded_ns >= NS_PER_S) {
        double left = 1 - (double)(now_ns - t->faded_ns) / 1e9 / TOP_WINDOW_S;
        fade(t, left > 0 ? left : 0);
        t->faded_ns = now_ns;
    }
    if (wanted)
        look_on(t, now_ns);
}

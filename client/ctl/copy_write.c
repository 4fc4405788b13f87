/* What is written of a copy: in transactions that also move the state on. */
#include "copy.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALL_TIMEOUT_MS = 10000, WAIT_MS_MIN = 50, WAIT_MS_MAX = 2000, CODE_UNAVAILABLE = 14 };

/* --- the state as text --- */

static const char magic[] = "trivetctl-copy/1";

static size_t put_hex(char *dst, size_t size, const char *name, struct trivet_bytes b)
{
    size_t used = (size_t)snprintf(dst, size, " %s=", name);
    for (size_t i = 0; i < b.size && used + 3 < size; i++)
        used += (size_t)snprintf(dst + used, size - used, "%02x", ((const uint8_t *)b.data)[i]);
    return used;
}

size_t copy_state_write(const struct copy_state *s, struct trivet_bytes prefix,
                        struct trivet_bytes dest_prefix, char *dst, size_t size)
{
    size_t used = (size_t)snprintf(
        dst, size, "%s cluster=%" PRIx64 " copier=%" PRIx64 " phase=%s revision=%" PRId64, magic,
        s->cluster_id, s->copier, s->phase == COPY_PHASE_WALK ? "walk" : "follow", s->revision);
    used += (size_t)snprintf(dst + used, size - used, "%s", s->leases ? " leases=1" : "");
    used += put_hex(dst + used, size - used, "prefix", prefix);
    used += put_hex(dst + used, size - used, "dest-prefix", dest_prefix);
    if (s->key != NULL)
        used += put_hex(dst + used, size - used, "key", trivet_bytes(s->key, s->key_size));
    return used;
}

static bool take_hex(const char *text, struct trivet_bytes *ret)
{
    size_t digits = strcspn(text, " ");
    uint8_t *bytes = mem_alloc(digits / 2 + 1);
    for (size_t i = 0; i + 1 < digits; i += 2) {
        char pair[3] = {text[i], text[i + 1], '\0'};
        char *end;
        bytes[i / 2] = (uint8_t)strtoul(pair, &end, 16);
        if (*end != '\0' || pair[0] == '-' || pair[0] == '+')
            return false;
    }
    *ret = trivet_bytes(bytes, digits / 2);
    return digits % 2 == 0;
}

/* What is behind " name="; NULL: it is not there. */
static const char *field(const char *text, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = strchr(text, ' '); at != NULL; at = strchr(at + 1, ' '))
        if (strncmp(at + 1, name, size) == 0 && at[1 + size] == '=')
            return at + size + 2;
    return NULL;
}

bool copy_state_parse(struct trivet_bytes text, struct copy_state *ret,
                      struct trivet_bytes *ret_prefix, struct trivet_bytes *ret_dest_prefix)
{
    char *copy = ctl_copy(text); /* it lives as long as what points into it */
    const char *cluster = field(copy, "cluster"), *phase = field(copy, "phase");
    const char *revision = field(copy, "revision"), *prefix = field(copy, "prefix");
    const char *dest_prefix = field(copy, "dest-prefix"), *key = field(copy, "key");
    struct trivet_bytes last = {0};
    if (strlen(copy) != text.size || strncmp(copy, magic, sizeof(magic) - 1) != 0 ||
        cluster == NULL || phase == NULL || revision == NULL || prefix == NULL ||
        dest_prefix == NULL)
        return false;
    *ret = (struct copy_state){.cluster_id = strtoull(cluster, NULL, 16),
                               .phase = strncmp(phase, "walk", 4) == 0 ? COPY_PHASE_WALK
                                                                       : COPY_PHASE_FOLLOW,
                               .revision = strtoll(revision, NULL, 10),
                               .leases = field(copy, "leases") != NULL};
    if (!take_hex(prefix, ret_prefix) || !take_hex(dest_prefix, ret_dest_prefix) ||
        (key != NULL && !take_hex(key, &last)))
        return false;
    if (key != NULL) {
        ret->key = mem_dup(last.data, last.size);
        ret->key_size = last.size;
    }
    return ret->revision > 0;
}

/* --- calls that must get through --- */

static bool is_transient(const struct trivet_result *r)
{
    switch (r->status) {
    case TRIVET_UNKNOWN:
    case TRIVET_DEADLINE:
    case TRIVET_UNAVAILABLE:
    case TRIVET_BUSY:
    case TRIVET_MALFORMED:
        return true;
    case TRIVET_REFUSED:
        return r->code == CODE_UNAVAILABLE || strstr(r->error, "too many requests") != NULL;
    default:
        return false;
    }
}

/* What comes of it, or false: stopped. Says that it waits when that takes long. */
static bool insist(struct copy *x, struct trivet_client *client, const struct trivet_request *q,
                   struct trivet_result *r)
{
    const struct trivet_call_options o = {.timeout_ms = CALL_TIMEOUT_MS};
    uint64_t wait_ms = WAIT_MS_MIN;
    for (uint32_t tries = 1;; tries++) {
        (void)trivet_call(client, q, &o, r);
        if (!is_transient(r))
            return true;
        if (copy_stopped)
            return false;
        if (tries == 5)
            fprintf(stderr, "copy: the %s does not answer: %s; trying on\n",
                    client == x->source ? "source" : "destination", r->error);
        trivet_result_clear(r);
        (void)usleep((useconds_t)(wait_ms * 1000));
        wait_ms = wait_ms * 2 > WAIT_MS_MAX ? WAIT_MS_MAX : wait_ms * 2;
    }
}

static void check_source(struct copy *x, const struct trivet_result *r)
{
    if (x->state.cluster_id != 0 && r->header.cluster_id != x->state.cluster_id)
        ctl_fail(x->c, CTL_ERROR, "the source is another cluster by now: %" PRIx64 ", not %" PRIx64,
                 r->header.cluster_id, x->state.cluster_id);
}

bool copy_read(struct copy *x, struct trivet_client *client, const struct trivet_request *q,
               struct trivet_result *r)
{
    if (!insist(x, client, q, r) || r->status != TRIVET_OK)
        return false;
    if (client == x->source)
        check_source(x, r);
    return true;
}

bool copy_call_all(struct copy *x, struct trivet_client *client, const struct trivet_request *q,
                   uint32_t count, struct trivet_result *results)
{
    const struct trivet_call_options o = {.timeout_ms = CALL_TIMEOUT_MS};
    bool ok = true;
    (void)trivet_batch(client, q, count, &o, results);
    for (uint32_t i = 0; i < count; i++) {
        if (ok && is_transient(&results[i])) {
            trivet_result_clear(&results[i]);
            ok = insist(x, client, &q[i], &results[i]);
        }
        if (ok && client == x->source && results[i].status == TRIVET_OK)
            check_source(x, &results[i]);
    }
    for (uint32_t i = 0; !ok && i < count; i++)
        trivet_result_clear(&results[i]);
    return ok;
}

void copy_refused(struct copy *x, const struct trivet_client *client, const struct trivet_result *r)
{
    bool source = client == x->source;
    const char *hint = "";
    if (strstr(r->error, "user name is empty") != NULL)
        hint = source ? "; it wants to know who asks: --source-user"
                      : "; it wants to know who asks: --user";
    ctl_fail(x->c, CTL_ERROR, "%s: %s%s", source ? "source" : "destination", ctl_error(r), hint);
}

/* By a key that whoever copies may read, with however few permissions. */
bool copy_ask(struct copy *x, struct trivet_client *client, struct trivet_header *ret)
{
    struct trivet_result r;
    struct trivet_bytes key = client == x->source ? x->prefix : x->dest_prefix;
    const struct trivet_request q = {
        .method = TRIVET_RANGE,
        .u.range = {.key = key.size > 0 ? key : trivet_str("trivetctl"), .count_only = true}};
    bool ok = copy_read(x, client, &q, &r);
    if (!ok && !copy_stopped)
        copy_refused(x, client, &r);
    *ret = r.header;
    trivet_result_clear(&r);
    return ok;
}

/* --- the batch --- */

static struct trivet_bytes keep(struct copy *x, struct trivet_bytes b)
{
    struct slice s = arena_copy(&x->arena, slice_of(b.data, b.size));
    return trivet_bytes(s.data, s.size);
}

static struct trivet_bytes replace_prefix(struct copy *x, struct trivet_bytes key,
                                          struct trivet_bytes from, struct trivet_bytes to)
{
    size_t rest = key.size - from.size;
    uint8_t *bytes = arena_alloc(&x->arena, to.size + rest + 1);
    if (to.size > 0)
        memcpy(bytes, to.data, to.size);
    if (rest > 0)
        memcpy(bytes + to.size, (const uint8_t *)key.data + from.size, rest);
    return trivet_bytes(bytes, to.size + rest);
}

struct trivet_bytes copy_map(struct copy *x, struct trivet_bytes key)
{
    return replace_prefix(x, key, x->prefix, x->dest_prefix);
}

struct trivet_bytes copy_unmap(struct copy *x, struct trivet_bytes key)
{
    return replace_prefix(x, key, x->dest_prefix, x->prefix);
}

bool copy_batch_is_full(const struct copy *x, size_t more_ops, size_t more_bytes)
{
    return x->ops_count > 0 && (x->ops_count + more_ops > COPY_OPS_MAX ||
                                x->ops_bytes + more_bytes > COPY_BATCH_BYTES_MAX);
}

void copy_put(struct copy *x, const struct trivet_kv *kv)
{
    struct trivet_request *q = &x->ops[x->ops_count++];
    *q = (struct trivet_request){.method = TRIVET_PUT};
    q->u.put.key = copy_map(x, kv->key);
    q->u.put.value = keep(x, kv->value);
    if (x->with_leases && kv->lease != 0) {
        q->u.put.lease = kv->lease;
        copy_lease_want(x, kv->lease);
    }
    x->leased += !x->with_leases && kv->lease != 0;
    x->ops_bytes += kv->key.size + kv->value.size;
}

void copy_delete(struct copy *x, struct trivet_bytes key)
{
    struct trivet_request *q = &x->ops[x->ops_count++];
    *q = (struct trivet_request){.method = TRIVET_DELETE};
    q->u.del.key = copy_map(x, key);
    x->ops_bytes += key.size;
}

static struct trivet_bytes op_key(const struct trivet_request *q)
{
    return q->method == TRIVET_PUT ? q->u.put.key : q->u.del.key;
}

bool copy_batch_has(const struct copy *x, struct trivet_bytes key)
{
    size_t rest = key.size - x->prefix.size;
    const uint8_t *tail = (const uint8_t *)key.data + x->prefix.size;
    for (uint32_t i = 0; i < x->ops_count; i++) {
        struct trivet_bytes k = op_key(&x->ops[i]);
        if (k.size == x->dest_prefix.size + rest &&
            (rest == 0 || memcmp((const uint8_t *)k.data + x->dest_prefix.size, tail, rest) == 0))
            return true;
    }
    return false;
}

static void clear_batch(struct copy *x)
{
    x->ops_count = 0;
    x->ops_bytes = 0;
    arena_clear(&x->arena);
}

/* --- writing it --- */

static void take_state(struct copy *x, struct copy_state next, const char *text, size_t size)
{
    if (x->state.key != next.key)
        mem_free(x->state.key);
    mem_free(x->state_text);
    x->state = next;
    x->state_text = mem_dup(text, size);
    x->state_size = size;
}

/* The comparison failed: did an earlier attempt of ours get through? */
static bool was_done(struct copy *x, const char *text, size_t size)
{
    struct trivet_result r;
    const struct trivet_request q = {.method = TRIVET_RANGE,
                                     .u.range = {.key = trivet_str(x->state_key)}};
    if (!copy_read(x, x->dest, &q, &r)) {
        if (r.status == TRIVET_REFUSED)
            copy_refused(x, x->dest, &r);
        return false;
    }
    bool ours = r.u.range.kvs_count == 1 && r.u.range.kvs[0].value.size == size &&
                memcmp(r.u.range.kvs[0].value.data, text, size) == 0;
    trivet_result_clear(&r);
    if (!ours)
        ctl_fail(x->c, CTL_ERROR,
                 "somebody else has written %s: another copy to the same place is running",
                 x->state_key);
    return true;
}

static void count_batch(struct copy *x)
{
    for (uint32_t i = 0; i < x->ops_count; i++) {
        x->keys += x->ops[i].method == TRIVET_PUT;
        x->deleted += x->ops[i].method == TRIVET_DELETE;
    }
}

/* Keys whose lease the source does not have (any more) get none: their end comes by the watch. */
static void drop_gone_leases(struct copy *x)
{
    for (uint32_t i = 0; i < x->ops_count; i++) {
        struct trivet_request *q = &x->ops[i];
        if (q->method != TRIVET_PUT || q->u.put.lease == 0 || copy_lease_is_kept(x, q->u.put.lease))
            continue;
        q->u.put.lease = 0;
        x->leased++;
    }
}

/* It failed, but only because a lease has ended that was there a moment ago. */
static bool lease_is_missing(struct copy *x, const struct trivet_result *r)
{
    x->lease_missing = x->with_leases && r->status == TRIVET_REFUSED &&
                       strstr(r->error, "requested lease not found") != NULL;
    return x->lease_missing;
}

/* False: stopped, or x->lease_missing. */
static bool write_now(struct copy *x, const struct trivet_request *q)
{
    struct trivet_result r;
    bool done = insist(x, x->dest, q, &r);
    if (done && lease_is_missing(x, &r))
        done = false;
    else if (done && r.status != TRIVET_OK)
        copy_refused(x, x->dest, &r);
    trivet_result_clear(&r);
    return done;
}

/* One value so large that nothing fits beside it: it is put alone, and then the state. */
static bool put_alone(struct copy *x)
{
    return write_now(x, &x->ops[0]);
}

/* The transaction: if the state is as it was, then all of this, and the state as it will be. */
static bool write_fenced(struct copy *x, const char *text, size_t size, bool state_alone)
{
    struct trivet_request ops[COPY_OPS_MAX + 1];
    struct trivet_result r;
    struct trivet_compare was = {.key = trivet_str(x->state_key)};
    uint32_t count = state_alone ? 0 : x->ops_count;
    was.target = x->state_text == NULL ? TRIVET_COMPARE_VERSION : TRIVET_COMPARE_VALUE;
    was.value = trivet_bytes(x->state_text, x->state_size);
    memcpy(ops, x->ops, count * sizeof(*ops));
    ops[count] = (struct trivet_request){.method = TRIVET_PUT};
    ops[count].u.put.key = trivet_str(x->state_key);
    ops[count].u.put.value = trivet_bytes(text, size);
    const struct trivet_request q = {
        .method = TRIVET_TXN,
        .u.txn = {
            .compares = &was, .compares_count = 1, .success = ops, .success_count = count + 1}};
    if (!insist(x, x->dest, &q, &r))
        return false;
    if (lease_is_missing(x, &r)) {
        trivet_result_clear(&r);
        return false;
    }
    bool too_large = r.status == TRIVET_REFUSED && strstr(r.error, "too large") != NULL;
    bool failed = r.status != TRIVET_OK;
    bool succeeded = !failed && r.u.txn.succeeded;
    if (failed && !(too_large && count == 1))
        copy_refused(x, x->dest, &r);
    trivet_result_clear(&r);
    if (too_large)
        return put_alone(x) && write_fenced(x, text, size, true);
    return succeeded || was_done(x, text, size);
}

static bool write_plain(struct copy *x)
{
    const struct trivet_request q = {.method = TRIVET_TXN,
                                     .u.txn = {.success = x->ops, .success_count = x->ops_count}};
    if (x->ops_count == 0)
        return true;
    if (x->ops_count == 1)
        return put_alone(x);
    return write_now(x, &q);
}

/* With the leases that it needs, which are made again when they end meanwhile. */
static bool write_batch(struct copy *x, const char *text, size_t size)
{
    for (;;) {
        if (!copy_lease_ensure(x))
            return false;
        drop_gone_leases(x);
        x->lease_missing = false;
        bool done = x->state_key[0] != '\0' ? write_fenced(x, text, size, false) : write_plain(x);
        if (!x->lease_missing)
            return done;
        copy_lease_missing(x);
    }
}

bool copy_flush(struct copy *x, struct copy_state next)
{
    char text[COPY_STATE_BYTES_MAX];
    if (copy_stopped)
        return false;
    next.copier = x->copier;
    next.leases = x->with_leases;
    size_t size = copy_state_write(&next, x->prefix, x->dest_prefix, text, sizeof(text));
    if (!write_batch(x, text, size))
        return false;
    count_batch(x);
    clear_batch(x);
    take_state(x, next, text, size);
    return true;
}

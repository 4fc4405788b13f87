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
                               .revision = strtoll(revision, NULL, 10)};
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

bool copy_read(struct copy *x, struct trivet_client *client, const struct trivet_request *q,
               struct trivet_result *r)
{
    if (!insist(x, client, q, r) || r->status != TRIVET_OK)
        return false;
    if (client == x->source && x->state.cluster_id != 0 &&
        r->header.cluster_id != x->state.cluster_id)
        ctl_fail(x->c, CTL_ERROR, "the source is another cluster by now: %" PRIx64 ", not %" PRIx64,
                 r->header.cluster_id, x->state.cluster_id);
    return true;
}

/* --- the batch --- */

static struct trivet_bytes keep(struct copy *x, struct trivet_bytes b)
{
    struct slice s = arena_copy(&x->arena, slice_of(b.data, b.size));
    return trivet_bytes(s.data, s.size);
}

struct trivet_bytes copy_map(struct copy *x, struct trivet_bytes key)
{
    size_t rest = key.size - x->prefix.size;
    uint8_t *to = arena_alloc(&x->arena, x->dest_prefix.size + rest + 1);
    if (x->dest_prefix.size > 0)
        memcpy(to, x->dest_prefix.data, x->dest_prefix.size);
    if (rest > 0)
        memcpy(to + x->dest_prefix.size, (const uint8_t *)key.data + x->prefix.size, rest);
    return trivet_bytes(to, x->dest_prefix.size + rest);
}

bool copy_batch_is_full(const struct copy *x, size_t more_ops, size_t more_bytes)
{
    return x->ops_count > 0 && (x->ops_count + more_ops > COPY_OPS_MAX ||
                                x->ops_bytes + more_bytes > COPY_BATCH_BYTES_MAX);
}

void copy_put(struct copy *x, struct trivet_bytes key, struct trivet_bytes value)
{
    struct trivet_request *q = &x->ops[x->ops_count++];
    *q = (struct trivet_request){.method = TRIVET_PUT};
    q->u.put.key = copy_map(x, key);
    q->u.put.value = keep(x, value);
    x->ops_bytes += key.size + value.size;
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
            ctl_fail(x->c, CTL_ERROR, "destination: %s", ctl_error(&r));
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

/* One value so large that nothing fits beside it: it is put alone, and then the state. */
static bool put_alone(struct copy *x)
{
    struct trivet_result r;
    bool done = insist(x, x->dest, &x->ops[0], &r);
    if (done && r.status != TRIVET_OK)
        ctl_fail(x->c, CTL_ERROR, "destination: %s", ctl_error(&r));
    trivet_result_clear(&r);
    return done;
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
    bool too_large = r.status == TRIVET_REFUSED && strstr(r.error, "too large") != NULL;
    bool failed = r.status != TRIVET_OK;
    bool succeeded = !failed && r.u.txn.succeeded;
    if (failed && !(too_large && count == 1))
        ctl_fail(x->c, CTL_ERROR, "destination: %s", ctl_error(&r));
    trivet_result_clear(&r);
    if (too_large)
        return put_alone(x) && write_fenced(x, text, size, true);
    return succeeded || was_done(x, text, size);
}

static bool write_plain(struct copy *x)
{
    struct trivet_result r;
    const struct trivet_request q = {.method = TRIVET_TXN,
                                     .u.txn = {.success = x->ops, .success_count = x->ops_count}};
    if (x->ops_count == 0)
        return true;
    if (x->ops_count == 1)
        return put_alone(x);
    bool done = insist(x, x->dest, &q, &r);
    if (done && r.status != TRIVET_OK)
        ctl_fail(x->c, CTL_ERROR, "destination: %s", ctl_error(&r));
    trivet_result_clear(&r);
    return done;
}

bool copy_flush(struct copy *x, struct copy_state next)
{
    char text[COPY_STATE_BYTES_MAX];
    if (copy_stopped)
        return false;
    next.copier = x->copier;
    size_t size = copy_state_write(&next, x->prefix, x->dest_prefix, text, sizeof(text));
    bool fenced = x->state_key[0] != '\0';
    if (fenced ? !write_fenced(x, text, size, false) : !write_plain(x))
        return false;
    count_batch(x);
    clear_batch(x);
    take_state(x, next, text, size);
    return true;
}

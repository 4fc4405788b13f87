#include "server/exec.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

/* --- the store as this execution sees it --- */

static const struct mvcc_version *get(const struct exec *x, struct slice key)
{
    return x->writer ? mvcc_txn_get(x->mvcc, key, 0) : mvcc_get(x->mvcc, key, 0);
}

static int64_t revision(const struct exec *x)
{
    return x->writer ? mvcc_txn_revision(x->mvcc) : mvcc_revision(x->mvcc);
}

/* --- leases follow the keys --- */

static void move_lease(struct exec *x, struct slice key, int64_t from, int64_t to)
{
    if (from == to || x->lessor == NULL)
        return;
    if (from != 0)
        lessor_detach(x->lessor, from, key);
    if (to != 0)
        lessor_attach(x->lessor, to, key);
}

/* --- range --- */

int exec_range(struct exec *x, const struct wire_range_request *req, struct exec_result *ret)
{
    *ret = (struct exec_result){.kind = EXEC_RANGE};
    x->tally.ranges++;
    int err = range_begin(&ret->range, x->mvcc, req, x->writer);
    if (err != 0)
        return err;
    (void)range_collect(&ret->range, UINT64_MAX);
    ret->rev = ret->range.header_rev;
    ret->body_size = ret->range.body_size;
    return 0;
}

/* --- put --- */

static bool looks_first(const struct wire_put_request *req)
{
    return req->ignore_value || req->ignore_lease || req->prev_kv;
}

static int check_put(const struct exec *x, const struct wire_put_request *req)
{
    if (req->lease != 0 && !lessor_exists(x->lessor, req->lease))
        return TV_LEASE_NOT_FOUND;
    if ((req->ignore_value || req->ignore_lease) && get(x, req->key) == NULL)
        return TV_KEY_NOT_FOUND;
    return 0;
}

static size_t kv_field_size(const struct mvcc_version *v)
{
    return v == NULL ? 0 : wire_kv_field_size(mvcc_version_kv(v).size);
}

static void run_put(struct exec *x, const struct wire_put_request *req, struct exec_result *ret)
{
    *ret = (struct exec_result){.kind = EXEC_PUT};
    x->tally.puts++;
    x->tally.ranges += looks_first(req);
    struct slice value = req->value;
    int64_t lease = req->lease;
    if (req->ignore_value || req->ignore_lease) {
        const struct mvcc_version *now = get(x, req->key);
        /* Checked against the state before the transaction; a delete in it may have come between.
         */
        if (req->ignore_value)
            value = now == NULL ? SLICE_EMPTY : mvcc_version_value(now);
        if (req->ignore_lease)
            lease = now == NULL ? 0 : mvcc_version_lease(now);
    }
    x->tally.put_bytes += req->key.size + value.size;
    const struct mvcc_version *prev;
    (void)mvcc_txn_put(x->mvcc, req->key, value, lease, &prev);
    move_lease(x, req->key, prev == NULL ? 0 : mvcc_version_lease(prev), lease);
    ret->rev = mvcc_txn_revision(x->mvcc);
    ret->prev = req->prev_kv ? prev : NULL;
    ret->body_size = kv_field_size(ret->prev);
}

int exec_put(struct exec *x, const struct wire_put_request *req, struct exec_result *ret)
{
    int err = check_put(x, req);
    if (err == 0)
        run_put(x, req, ret);
    else if (err == TV_KEY_NOT_FOUND)
        x->tally.ranges++;
    return err;
}

/* --- delete --- */

struct deletion {
    struct exec *x;
    bool want_prevs;
    struct exec_result *ret;
    uint64_t capacity;
};

static void on_deleted(void *ctx, const struct mvcc_version *v)
{
    struct deletion *d = ctx;
    move_lease(d->x, mvcc_version_key(v), mvcc_version_lease(v), 0);
    if (!d->want_prevs)
        return;
    struct exec_result *r = d->ret;
    if (r->deleted.prevs_count == d->capacity) {
        d->capacity = d->capacity == 0 ? 4 : d->capacity * 2;
        r->deleted.prevs = mem_realloc(r->deleted.prevs, d->capacity * sizeof(*r->deleted.prevs));
    }
    r->deleted.prevs[r->deleted.prevs_count++] = v;
    r->body_size += kv_field_size(v);
}

static void run_delete(struct exec *x, const struct wire_delete_range_request *req,
                       struct exec_result *ret)
{
    *ret = (struct exec_result){.kind = EXEC_DELETE};
    x->tally.deletes++;
    x->tally.ranges += req->prev_kv;
    struct deletion d = {.x = x, .want_prevs = req->prev_kv && x->want_results, .ret = ret};
    ret->deleted.count = mvcc_txn_delete_range(x->mvcc, req->key, req->range_end, on_deleted, &d);
    ret->rev = mvcc_txn_revision(x->mvcc);
    ret->body_size += wire_uint_size(2, (uint64_t)ret->deleted.count);
}

int exec_delete(struct exec *x, const struct wire_delete_range_request *req,
                struct exec_result *ret)
{
    run_delete(x, req, ret);
    return 0;
}

void exec_delete_key(struct exec *x, struct slice key)
{
    struct deletion d = {.x = x};
    x->tally.deletes++;
    (void)mvcc_txn_delete_range(x->mvcc, key, SLICE_EMPTY, on_deleted, &d);
}

/* --- transactions: which way, may it, do it --- */

static bool compare_holds(int order, int32_t result)
{
    switch (result) {
    case WIRE_COMPARE_EQUAL:
        return order == 0;
    case WIRE_COMPARE_NOT_EQUAL:
        return order != 0;
    case WIRE_COMPARE_GREATER:
        return order > 0;
    case WIRE_COMPARE_LESS:
        return order < 0;
    }
    return true; /* a result from the future, as etcd takes it */
}

static int order_of(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* `v` NULL: the key does not exist, all its numbers are 0. */
static bool compare_version(const struct wire_compare *c, const struct mvcc_version *v)
{
    struct mvcc_kv kv = {0};
    if (v != NULL)
        mvcc_version_decode(v, &kv);
    /* An operand of another kind than the target counts as not given. */
    int64_t number = c->with == c->target ? c->number : 0;
    int order = 0;
    switch (c->target) {
    case WIRE_COMPARE_VALUE:
        order = slice_compare(kv.value, c->with == WIRE_COMPARE_VALUE ? c->value : SLICE_EMPTY);
        break;
    case WIRE_COMPARE_CREATE:
        order = order_of(kv.create_revision, number);
        break;
    case WIRE_COMPARE_MOD:
        order = order_of(kv.mod_revision, number);
        break;
    case WIRE_COMPARE_VERSION:
        order = order_of(kv.version, number);
        break;
    case WIRE_COMPARE_LEASE:
        order = order_of(kv.lease, number);
        break;
    }
    return compare_holds(order, c->result);
}

static bool compare_one(struct exec *x, const struct wire_compare *c)
{
    (x->writer ? &x->tally_before : &x->tally)->ranges++;
    if (c->range_end.size == 0) {
        const struct mvcc_version *v = get(x, c->key);
        /* A key that does not exist has no value to compare, not an empty one. */
        return (v != NULL || c->target != WIRE_COMPARE_VALUE) && compare_version(c, v);
    }
    struct mvcc_iter it;
    if (x->writer)
        mvcc_txn_iter_init(&it, x->mvcc, c->key, c->range_end, 0);
    else
        mvcc_iter_init(&it, x->mvcc, c->key, c->range_end, 0);
    const struct mvcc_version *v = mvcc_iter_next(&it);
    if (v == NULL)
        return c->target != WIRE_COMPARE_VALUE && compare_version(c, NULL);
    for (; v != NULL; v = mvcc_iter_next(&it))
        if (!compare_version(c, v))
            return false;
    return true;
}

static bool compare_all(struct exec *x, const struct wire_txn *req)
{
    struct wire_txn_it it;
    struct wire_compare c;
    wire_txn_compares(req, &it);
    while (wire_next_compare(&it, &c))
        if (!compare_one(x, &c))
            return false;
    return true;
}

/* All comparisons, of nested transactions too, look at the state before any of them wrote: the path
 * through the tree is found first. It becomes the skeleton of the results. */
static void plan(struct exec *x, const struct wire_txn *req, struct exec_result *ret)
{
    *ret = (struct exec_result){.kind = EXEC_TXN};
    ret->txn.succeeded = compare_all(x, req);
    ret->txn.count = ret->txn.succeeded ? req->success_count : req->failure_count;
    ret->txn.results = arena_alloc_zero(x->arena, ret->txn.count * sizeof(*ret->txn.results));
    struct wire_txn_it it;
    struct wire_op op;
    wire_txn_ops(req, ret->txn.succeeded, &it);
    for (uint32_t i = 0; wire_next_op(&it, &op); i++)
        if (op.kind == WIRE_OP_TXN)
            plan(x, &op.txn, &ret->txn.results[i]);
}

static int check_range_revision(const struct exec *x, const struct wire_range_request *req)
{
    int64_t rev;
    /* Outside a transaction a negative revision is the newest one; in here it is one long gone. */
    int64_t compacted = x->writer ? mvcc_txn_compacted(x->mvcc) : mvcc_compacted(x->mvcc);
    if (req->revision < 0 && req->revision < compacted)
        return TV_COMPACTED;
    return x->writer ? mvcc_txn_check_revision(x->mvcc, req->revision, &rev)
                     : mvcc_check_revision(x->mvcc, req->revision, &rev);
}

static int check_put_of_txn(struct exec *x, const struct wire_put_request *req)
{
    x->tally_before.ranges += looks_first(req);
    return check_put(x, req);
}

/* Everything on the path that can fail is found before anything is changed. */
static int check(struct exec *x, const struct wire_txn *req, const struct exec_result *planned)
{
    struct wire_txn_it it;
    struct wire_op op;
    wire_txn_ops(req, planned->txn.succeeded, &it);
    for (uint32_t i = 0; wire_next_op(&it, &op); i++) {
        int err = 0;
        if (op.kind == WIRE_OP_RANGE)
            err = check_range_revision(x, &op.range);
        else if (op.kind == WIRE_OP_PUT)
            err = check_put_of_txn(x, &op.put);
        else if (op.kind == WIRE_OP_TXN)
            err = check(x, &op.txn, &planned->txn.results[i]);
        if (err != 0)
            return err;
    }
    return 0;
}

static void run_range(struct exec *x, const struct wire_range_request *req, struct exec_result *ret)
{
    if (!x->want_results) {
        x->tally.ranges++;
        return;
    }
    int err = exec_range(x, req, ret);
    ASSERT(err == 0); /* check() has seen it */
}

static void run(struct exec *x, const struct wire_txn *req, struct exec_result *planned)
{
    struct wire_txn_it it;
    struct wire_op op;
    wire_txn_ops(req, planned->txn.succeeded, &it);
    planned->body_size = planned->txn.succeeded ? 2 : 0;
    for (uint32_t i = 0; wire_next_op(&it, &op); i++) {
        struct exec_result *r = &planned->txn.results[i];
        switch (op.kind) {
        case WIRE_OP_RANGE:
            run_range(x, &op.range, r);
            break;
        case WIRE_OP_PUT:
            run_put(x, &op.put, r);
            break;
        case WIRE_OP_DELETE_RANGE:
            run_delete(x, &op.delete_range, r);
            break;
        case WIRE_OP_TXN:
            run(x, &op.txn, r);
            break;
        case WIRE_OP_NONE:
            break;
        }
        size_t inner = wire_item_size(1, exec_response_size(r, (struct wire_header){0}));
        planned->body_size += wire_item_size(WIRE_TXN_RESPONSES, r->kind == EXEC_NONE ? 0 : inner);
    }
}

int exec_txn(struct exec *x, const struct wire_txn *req, struct exec_result *ret)
{
    plan(x, req, ret);
    int err = check(x, req, ret);
    if (err != 0)
        return err;
    run(x, req, ret);
    ret->rev = revision(x);
    return 0;
}

/* --- encoding --- */

size_t exec_response_size(const struct exec_result *r, struct wire_header header)
{
    header.revision = r->rev;
    return wire_header_size(&header) + r->body_size;
}

static uint8_t *put_deleted(const struct exec_result *r, uint8_t *p)
{
    p = wire_uint_put(p, 2, (uint64_t)r->deleted.count);
    for (uint64_t i = 0; i < r->deleted.prevs_count; i++)
        p = wire_item_put(p, WIRE_DELETE_RANGE_PREV_KVS, mvcc_version_kv(r->deleted.prevs[i]));
    return p;
}

static uint8_t *put_results(struct exec_result *r, uint8_t *p)
{
    /* ResponseOp: the field that stands for each kind. */
    static const uint32_t op_field[] = {
        [EXEC_RANGE] = 1, [EXEC_PUT] = 2, [EXEC_DELETE] = 3, [EXEC_TXN] = 4};
    if (r->txn.succeeded)
        p = wire_uint_put(p, 2, 1);
    for (uint32_t i = 0; i < r->txn.count; i++) {
        struct exec_result *inner = &r->txn.results[i];
        if (inner->kind == EXEC_NONE) {
            p = wire_item_put_head(p, WIRE_TXN_RESPONSES, 0);
            continue;
        }
        size_t size = exec_response_size(inner, (struct wire_header){0});
        p = wire_item_put_head(p, WIRE_TXN_RESPONSES, wire_item_size(1, size));
        p = wire_item_put_head(p, op_field[inner->kind], size);
        p = exec_response_put(inner, (struct wire_header){0}, p);
    }
    return p;
}

uint8_t *exec_response_put(struct exec_result *r, struct wire_header header, uint8_t *p)
{
    header.revision = r->rev;
    p = wire_header_put(p, &header);
    switch (r->kind) {
    case EXEC_NONE:
        break;
    case EXEC_RANGE:
        p = range_write(&r->range, p);
        break;
    case EXEC_PUT:
        if (r->prev != NULL)
            p = wire_item_put(p, 2, mvcc_version_kv(r->prev));
        break;
    case EXEC_DELETE:
        p = put_deleted(r, p);
        break;
    case EXEC_TXN:
        p = put_results(r, p);
        break;
    }
    return p;
}

void exec_result_fini(struct exec_result *r)
{
    switch (r->kind) {
    case EXEC_RANGE:
        range_fini(&r->range);
        break;
    case EXEC_DELETE:
        mem_free(r->deleted.prevs);
        break;
    case EXEC_TXN:
        for (uint32_t i = 0; i < r->txn.count; i++)
            exec_result_fini(&r->txn.results[i]);
        break;
    case EXEC_PUT:
    case EXEC_NONE:
        break;
    }
}

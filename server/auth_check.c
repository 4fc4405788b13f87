#include "server/auth_check.h"

#include "base/assert.h"

struct lease_check {
    const struct auth_view *v;
    const struct auth_caller *c;
    enum auth_access access;
    int err;
};

static bool is_refused(void *ctx, struct slice key)
{
    struct lease_check *k = ctx;
    k->err = auth_check(k->v, k->c, key, SLICE_EMPTY, k->access);
    return k->err != 0;
}

int auth_check_lease(const struct auth_view *v, const struct auth_caller *c, const struct lessor *l,
                     int64_t lease_id, enum auth_access access)
{
    struct lease_check k = {.v = v, .c = c, .access = access};
    if (auth_check_root(v, c->name) == 0)
        return 0;
    /* Which of the keys refuses makes no difference to the error. */
    (void)lessor_find_key(l, lease_id, is_refused, &k);
    return k.err;
}

int auth_check_put(const struct auth_view *v, const struct auth_caller *c, const struct lessor *l,
                   const struct wire_put_request *r)
{
    int err = auth_check(v, c, r->key, SLICE_EMPTY, AUTH_WRITE);
    if (err == 0 && r->lease != 0)
        err = auth_check_lease(v, c, l, r->lease, AUTH_WRITE);
    if (err == 0 && r->prev_kv)
        err = auth_check(v, c, r->key, SLICE_EMPTY, AUTH_READ);
    return err;
}

int auth_check_delete(const struct auth_view *v, const struct auth_caller *c,
                      const struct wire_delete_range_request *r)
{
    int err = auth_check(v, c, r->key, r->range_end, AUTH_WRITE);
    if (err == 0 && r->prev_kv)
        err = auth_check(v, c, r->key, r->range_end, AUTH_READ);
    return err;
}

static int check_op(const struct auth_view *v, const struct auth_caller *c, const struct lessor *l,
                    const struct wire_op *op)
{
    switch (op->kind) {
    case WIRE_OP_RANGE:
        return auth_check(v, c, op->range.key, op->range.range_end, AUTH_READ);
    case WIRE_OP_PUT:
        ASSERT(l != NULL);
        return auth_check_put(v, c, l, &op->put);
    case WIRE_OP_DELETE_RANGE:
        return auth_check_delete(v, c, &op->delete_range);
    case WIRE_OP_TXN:
        return auth_check_txn(v, c, l, &op->txn);
    case WIRE_OP_NONE:
        break;
    }
    return 0;
}

int auth_check_txn(const struct auth_view *v, const struct auth_caller *c, const struct lessor *l,
                   const struct wire_txn *txn)
{
    struct wire_txn_it it;
    struct wire_compare compare;
    struct wire_op op;
    wire_txn_compares(txn, &it);
    while (wire_next_compare(&it, &compare)) {
        int err = auth_check(v, c, compare.key, compare.range_end, AUTH_READ);
        if (err != 0)
            return err;
    }
    for (int branch = 0; branch < 2; branch++) {
        wire_txn_ops(txn, branch == 0, &it);
        while (wire_next_op(&it, &op)) {
            int err = check_op(v, c, l, &op);
            if (err != 0)
                return err;
        }
    }
    return 0;
}

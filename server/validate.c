#include "server/validate.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

int validate_range(const struct wire_range_request *req)
{
    if (req->key.size == 0)
        return TV_EMPTY_KEY;
    if (req->sort_order < WIRE_SORT_NONE || req->sort_order > WIRE_SORT_DESCEND ||
        req->sort_target < WIRE_SORT_KEY || req->sort_target > WIRE_SORT_VALUE)
        return TV_INVALID_SORT_OPTION;
    return 0;
}

int validate_range_stream(const struct wire_range_request *req)
{
    int err = validate_range(req);
    if (err != 0)
        return err;
    bool by_key = req->sort_target == WIRE_SORT_KEY && req->sort_order == WIRE_SORT_ASCEND;
    if (req->sort_order != WIRE_SORT_NONE && !by_key)
        return TV_RANGE_STREAM_SORT;
    if (req->min_mod_revision != 0 || req->max_mod_revision != 0 || req->min_create_revision != 0 ||
        req->max_create_revision != 0)
        return TV_RANGE_STREAM_FILTER;
    return 0;
}

int validate_put(const struct wire_put_request *req)
{
    if (req->key.size == 0)
        return TV_EMPTY_KEY;
    if (req->ignore_value && req->value.size != 0)
        return TV_VALUE_PROVIDED;
    if (req->ignore_lease && req->lease != 0)
        return TV_LEASE_PROVIDED;
    return 0;
}

int validate_delete_range(const struct wire_delete_range_request *req)
{
    return req->key.size == 0 ? TV_EMPTY_KEY : 0;
}

/* --- does the transaction write a key twice? ---
 *
 * The operations of a branch are a list; a transaction among them has two lists of its own. Two
 * writes exclude each other when somewhere above them they are in the two branches of one
 * transaction; otherwise both may happen. Of a put and a put of the same key that is an error. Of a
 * put and a delete of its key it is one when the delete is met before the put by a walk that takes,
 * of each list, first its deletes, then its transactions (success, then failure), then its puts.
 * (So a put in one transaction and a delete in a later one beside it may stand, and not the other
 * way round: that is etcd's rule.)
 *
 * The walk numbers what it meets. Then a sweep over the keys in order knows which deletes cover the
 * key of a put. */

enum { EVENTS_SMALL = 16, NONE = UINT32_MAX };

struct list_node {
    uint32_t parent; /* the list its transaction is in */
    uint32_t depth;
    uint32_t txn;            /* the two branches of a transaction have the same */
    uint32_t deletes_before; /* the walk's deletes when it came to the transaction */
};

/* In the order in which they take effect at one key. */
enum event_kind { DELETE_ENDS, DELETE_BEGINS, PUT, POINT_DELETE_ENDS };

struct event {
    struct slice key;
    enum event_kind kind;
    uint32_t order; /* of the walk */
    uint32_t list;  /* PUT: where it is */
    uint32_t del;   /* PUT: how many deletes the walk met before; else: which delete */
};

/* What there is to write in a branch, lists below it included. */
struct tally {
    uint32_t puts;
    uint32_t deletes;
    uint32_t lists;
};

struct overlap {
    struct list_node *lists;
    uint32_t lists_count;
    uint32_t txns_count;
    struct event *events;
    uint32_t events_count;
    uint32_t *delete_lists; /* delete -> its list */
    uint32_t deletes_count;
    /* The deletes that cover the sweep's key: a bit each, and a bit for each word that is not 0. */
    uint64_t *active;
    uint64_t *active_words;
    uint32_t active_count;
};

static struct event *add_event(struct overlap *o, enum event_kind kind, struct slice key,
                               uint32_t list, uint32_t del)
{
    struct event *e = &o->events[o->events_count];
    *e = (struct event){
        .key = key, .kind = kind, .order = o->events_count++, .list = list, .del = del};
    return e;
}

static void add_delete(struct overlap *o, const struct wire_delete_range_request *req,
                       uint32_t list)
{
    bool point = req->range_end.size == 0;
    /* What ends before it begins deletes nothing. That "\0" as the end means "all that follow" is
     * not looked at here, as in etcd. */
    if (!point && slice_compare(req->range_end, req->key) <= 0)
        return;
    uint32_t del = o->deletes_count++;
    o->delete_lists[del] = list;
    add_event(o, DELETE_BEGINS, req->key, list, del);
    if (point)
        add_event(o, POINT_DELETE_ENDS, req->key, list, del);
    else
        add_event(o, DELETE_ENDS, req->range_end, list, del);
}

static void walk(struct overlap *o, const struct wire_txn *txn, bool success, uint32_t list);

static void walk_branch(struct overlap *o, const struct wire_txn *txn, bool success,
                        struct list_node node)
{
    if ((success ? txn->success_count : txn->failure_count) == 0)
        return;
    uint32_t list = o->lists_count++;
    o->lists[list] = node;
    walk(o, txn, success, list);
}

static void walk_txn(struct overlap *o, const struct wire_txn *txn, uint32_t list)
{
    struct list_node node = {.parent = list,
                             .depth = o->lists[list].depth + 1,
                             .txn = o->txns_count++,
                             .deletes_before = o->deletes_count};
    walk_branch(o, txn, true, node);
    walk_branch(o, txn, false, node);
}

static void walk(struct overlap *o, const struct wire_txn *txn, bool success, uint32_t list)
{
    static const enum wire_op_kind kinds[] = {WIRE_OP_DELETE_RANGE, WIRE_OP_TXN, WIRE_OP_PUT};
    for (uint32_t pass = 0; pass < 3; pass++) {
        struct wire_txn_it it;
        struct wire_op op;
        wire_txn_ops(txn, success, &it);
        while (wire_next_op(&it, &op)) {
            if (op.kind != kinds[pass])
                continue;
            if (op.kind == WIRE_OP_DELETE_RANGE)
                add_delete(o, &op.delete_range, list);
            else if (op.kind == WIRE_OP_TXN)
                walk_txn(o, &op.txn, list);
            else
                add_event(o, PUT, op.put.key, list, o->deletes_count);
        }
    }
}

/* The node below which two lists exclude each other, one of two branches of a transaction; else
 * NULL. */
static const struct list_node *exclusive(const struct overlap *o, uint32_t a, uint32_t b)
{
    const struct list_node *lists = o->lists;
    while (lists[a].depth > lists[b].depth)
        a = lists[a].parent;
    while (lists[b].depth > lists[a].depth)
        b = lists[b].parent;
    while (a != b && lists[a].parent != lists[b].parent) {
        a = lists[a].parent;
        b = lists[b].parent;
    }
    return a != b && lists[a].txn == lists[b].txn ? &lists[a] : NULL;
}

static void set_active(struct overlap *o, uint32_t del, bool active)
{
    uint64_t *word = &o->active[del / 64];
    uint64_t bit = 1ull << del % 64, word_bit = 1ull << del / 64 % 64;
    if (active)
        *word |= bit;
    else
        *word &= ~bit;
    if (*word != 0)
        o->active_words[del / 4096] |= word_bit;
    else
        o->active_words[del / 4096] &= ~word_bit;
    o->active_count += active ? 1 : UINT32_MAX;
}

/* The highest bit below `limit`, within its word. */
static uint32_t highest_below(const uint64_t *words, uint32_t limit)
{
    uint64_t word = limit % 64 == 0 ? 0 : words[limit / 64] & ((1ull << limit % 64) - 1);
    return word == 0 ? NONE : limit / 64 * 64 + 63 - (uint32_t)__builtin_clzll(word);
}

/* The last active delete before `limit`, or NONE. */
static uint32_t last_active(const struct overlap *o, uint32_t limit)
{
    uint32_t del = highest_below(o->active, limit);
    if (del != NONE)
        return del;
    uint32_t words_limit = limit / 64;
    uint32_t word = highest_below(o->active_words, words_limit);
    for (uint32_t group = words_limit / 64; word == NONE && group > 0; group--)
        if (o->active_words[group - 1] != 0)
            word = group * 64 - 1 - (uint32_t)__builtin_clzll(o->active_words[group - 1]);
    return word == NONE ? NONE : word * 64 + 63 - (uint32_t)__builtin_clzll(o->active[word]);
}

static bool put_is_deleted(const struct overlap *o, const struct event *put)
{
    uint32_t limit = put->del;
    while (o->active_count > 0 && limit > 0) {
        uint32_t del = last_active(o, limit);
        if (del == NONE)
            return false;
        const struct list_node *branch = exclusive(o, o->delete_lists[del], put->list);
        if (branch == NULL)
            return true;
        limit = branch->deletes_before; /* what is between is in the same branch as `del` */
    }
    return false;
}

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    int order = slice_compare(x->key, y->key);
    if (order != 0)
        return order;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* Few are the rule, and qsort() may take memory. */
static void sort_events(struct overlap *o)
{
    if (o->events_count > EVENTS_SMALL) {
        qsort(o->events, o->events_count, sizeof(*o->events), compare_events);
        return;
    }
    for (uint32_t i = 1; i < o->events_count; i++) {
        struct event e = o->events[i];
        uint32_t at = i;
        for (; at > 0 && compare_events(&e, &o->events[at - 1]) < 0; at--)
            o->events[at] = o->events[at - 1];
        o->events[at] = e;
    }
}

static int sweep(struct overlap *o)
{
    sort_events(o);
    for (uint32_t i = 0; i < o->events_count; i++) {
        const struct event *e = &o->events[i];
        if (e->kind != PUT) {
            set_active(o, e->del, e->kind == DELETE_BEGINS);
            continue;
        }
        /* If each excludes the next in the walk's order, then all exclude each other. */
        const struct event *before = i == 0 ? NULL : &o->events[i - 1];
        if (before != NULL && before->kind == PUT && slice_equal(before->key, e->key) &&
            exclusive(o, before->list, e->list) == NULL)
            return TV_DUPLICATE_KEY;
        if (put_is_deleted(o, e))
            return TV_DUPLICATE_KEY;
    }
    return 0;
}

static int find_overlap(struct overlap *o, const struct wire_txn *txn, bool success,
                        const struct tally *t)
{
    o->lists[o->lists_count++] = (struct list_node){.txn = NONE};
    walk(o, txn, success, 0);
    ASSERT(o->events_count <= t->puts + 2 * t->deletes);
    ASSERT(o->lists_count <= t->lists);
    return sweep(o);
}

static int check_overlap(const struct wire_txn *txn, bool success, const struct tally *t)
{
    if (t->puts == 0 || (t->puts == 1 && t->deletes == 0))
        return 0;
    uint32_t events_max = t->puts + 2 * t->deletes;
    uint32_t words = t->deletes / 64 + 1;
    if (events_max <= EVENTS_SMALL && t->lists <= EVENTS_SMALL) {
        struct event events[EVENTS_SMALL];
        struct list_node lists[EVENTS_SMALL];
        uint32_t delete_lists[EVENTS_SMALL];
        uint64_t active[1] = {0}, active_words[1] = {0};
        struct overlap o = {.lists = lists,
                            .events = events,
                            .delete_lists = delete_lists,
                            .active = active,
                            .active_words = active_words};
        return find_overlap(&o, txn, success, t);
    }
    PROBE(validate_large_txn);
    struct overlap o = {.lists = mem_alloc(t->lists * sizeof(struct list_node)),
                        .events = mem_alloc(events_max * sizeof(struct event)),
                        .delete_lists = mem_alloc((t->deletes + 1) * sizeof(uint32_t)),
                        .active = mem_alloc_zero(words * sizeof(uint64_t)),
                        .active_words = mem_alloc_zero((words / 64 + 1) * sizeof(uint64_t))};
    int err = find_overlap(&o, txn, success, t);
    mem_free(o.lists);
    mem_free(o.events);
    mem_free(o.delete_lists);
    mem_free(o.active);
    mem_free(o.active_words);
    return err;
}

/* --- the rules for single operations, all over the tree --- */

static int check_txn(const struct wire_txn *txn, uint32_t ops_max, struct tally *ret_success,
                     struct tally *ret_failure);

static int check_op(const struct wire_op *op, uint32_t ops_max, struct tally *t)
{
    switch (op->kind) {
    case WIRE_OP_RANGE:
        return validate_range(&op->range);
    case WIRE_OP_PUT:
        t->puts++;
        return validate_put(&op->put);
    case WIRE_OP_DELETE_RANGE:
        t->deletes++;
        return validate_delete_range(&op->delete_range);
    case WIRE_OP_TXN:
        return check_txn(&op->txn, ops_max, t, t);
    case WIRE_OP_NONE:
        break;
    }
    return TV_KEY_NOT_FOUND;
}

static int check_ops(const struct wire_txn *txn, bool success, uint32_t ops_max, struct tally *t)
{
    struct wire_txn_it it;
    struct wire_op op;
    t->lists++;
    wire_txn_ops(txn, success, &it);
    while (wire_next_op(&it, &op)) {
        int err = check_op(&op, ops_max, t);
        if (err != 0)
            return err;
    }
    return 0;
}

static uint32_t max_of(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static int check_txn(const struct wire_txn *txn, uint32_t ops_max, struct tally *ret_success,
                     struct tally *ret_failure)
{
    uint32_t ops = max_of(txn->compares_count, max_of(txn->success_count, txn->failure_count));
    if (ops > ops_max)
        return TV_TOO_MANY_OPS;

    struct wire_txn_it it;
    struct wire_compare c;
    wire_txn_compares(txn, &it);
    while (wire_next_compare(&it, &c))
        if (c.key.size == 0)
            return TV_EMPTY_KEY;

    int err = check_ops(txn, true, ops_max - ops, ret_success);
    return err != 0 ? err : check_ops(txn, false, ops_max - ops, ret_failure);
}

int validate_txn(const struct wire_txn *txn, uint32_t ops_max)
{
    struct tally success = {0}, failure = {0};
    int err = check_txn(txn, ops_max, &success, &failure);
    if (err == 0)
        err = check_overlap(txn, true, &success);
    if (err == 0)
        err = check_overlap(txn, false, &failure);
    return err;
}

/* Alarms: which there are, what etcd's texts make of them, and what is applied while they stand. */
#include "unit.h"

#include "server/apply.h"
#include "server/quota.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* --- the set --- */

static int do_alarm(struct alarms *a, int32_t action, uint64_t member_id, int32_t type,
                    uint32_t reason, size_t *ret_size, bool *ret_changed)
{
    struct buf answer;
    buf_init(&answer, SIZE_MAX);
    struct alarm_request r = {
        .action = action, .member_id = member_id, .type = type, .reason = reason};
    int err = alarms_apply(a, &r, &answer, ret_changed);
    *ret_size = answer.size;
    buf_fini(&answer);
    return err;
}

static void must_describe(struct alarms *a, const char *wanted)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    alarms_describe(a, 8, &text);
    struct wire_reader reader = wire_reader_of(buf_slice(&text));
    struct wire_field f;
    char all[512] = "";
    while (wire_next_field(&reader, &f) == 1) {
        ck_assert_uint_eq(f.number, 8);
        (void)snprintf(all + strlen(all), sizeof(all) - strlen(all), "%.*s;", (int)f.bytes.size,
                       (const char *)f.bytes.data);
    }
    ck_assert_str_eq(all, wanted);
    buf_fini(&text);
}

START_TEST(test_set)
{
    struct alarms a;
    size_t size;
    bool changed;
    alarms_init(&a);
    ck_assert(!alarms_active(&a, ALARM_NOSPACE));
    ck_assert_int_eq(do_alarm(&a, ALARM_ACTIVATE, 7, ALARM_CORRUPT, 0, &size, &changed), 0);
    ck_assert(changed);
    ck_assert_int_eq(do_alarm(&a, ALARM_ACTIVATE, 9, ALARM_NOSPACE, 0, &size, &changed), 0);
    ck_assert_int_eq(do_alarm(&a, ALARM_ACTIVATE, 8, ALARM_NOSPACE, 0, &size, &changed), 0);
    must_describe(&a, "memberID:8 alarm:NOSPACE;memberID:9 alarm:NOSPACE;"
                      "memberID:7 alarm:CORRUPT;");

    /* Raised already: it is answered with, and nothing is new. */
    ck_assert_int_eq(do_alarm(&a, ALARM_ACTIVATE, 9, ALARM_NOSPACE, 0, &size, &changed), 0);
    ck_assert(!changed);
    ck_assert_uint_eq(size, 6);
    /* No type, no alarm. */
    ck_assert_int_eq(do_alarm(&a, ALARM_ACTIVATE, 9, ALARM_NONE, 0, &size, &changed), 0);
    ck_assert(!changed && size == 0);
    /* Asked for all, for one type, for one that nobody has. */
    ck_assert_int_eq(do_alarm(&a, ALARM_GET, 0, ALARM_NONE, 0, &size, &changed), 0);
    ck_assert(!changed && size == 18);
    ck_assert_int_eq(do_alarm(&a, ALARM_GET, 0, ALARM_CORRUPT, 0, &size, &changed), 0);
    ck_assert_uint_eq(size, 6);
    ck_assert_int_eq(do_alarm(&a, ALARM_GET, 0, 77, 0, &size, &changed), 0);
    ck_assert_uint_eq(size, 0);
    /* An action from the future. */
    ck_assert_int_eq(do_alarm(&a, 3, 9, ALARM_NOSPACE, 0, &size, &changed), 0);
    ck_assert(!changed && size == 0);

    ck_assert_int_eq(do_alarm(&a, ALARM_DEACTIVATE, 9, ALARM_NOSPACE, 0, &size, &changed), 0);
    ck_assert(changed && size == 6);
    ck_assert(alarms_active(&a, ALARM_NOSPACE));
    ck_assert_int_eq(do_alarm(&a, ALARM_DEACTIVATE, 9, ALARM_NOSPACE, 0, &size, &changed), 0);
    ck_assert(!changed && size == 0);
    ck_assert_int_eq(do_alarm(&a, ALARM_DEACTIVATE, 8, ALARM_NOSPACE, 0, &size, &changed), 0);
    ck_assert(!alarms_active(&a, ALARM_NOSPACE));
    ck_assert(alarms_active(&a, ALARM_CORRUPT));
    alarms_fini(&a);
}
END_TEST

/* What the disk raised goes when the disk has room again, unless somebody else wants it too. */
START_TEST(test_reasons)
{
    struct alarms a;
    size_t size;
    bool changed;
    alarms_init(&a);
    (void)do_alarm(&a, ALARM_ACTIVATE, 1, ALARM_NOSPACE, ALARM_FOR_DISK, &size, &changed);
    ck_assert(changed && alarms_active_for_disk(&a));
    (void)do_alarm(&a, ALARM_DEACTIVATE, 1, ALARM_NOSPACE, ALARM_FOR_DISK, &size, &changed);
    ck_assert(changed && size > 0 && !alarms_active(&a, ALARM_NOSPACE));

    (void)do_alarm(&a, ALARM_ACTIVATE, 1, ALARM_NOSPACE, ALARM_FOR_ASKED, &size, &changed);
    (void)do_alarm(&a, ALARM_ACTIVATE, 1, ALARM_NOSPACE, ALARM_FOR_DISK, &size, &changed);
    ck_assert(changed);
    ck_assert_uint_eq(alarms_reasons(&a, 1, ALARM_NOSPACE), ALARM_FOR_ASKED | ALARM_FOR_DISK);
    (void)do_alarm(&a, ALARM_DEACTIVATE, 1, ALARM_NOSPACE, ALARM_FOR_DISK, &size, &changed);
    ck_assert(changed && size == 0);
    ck_assert(alarms_active(&a, ALARM_NOSPACE) && !alarms_active_for_disk(&a));

    /* An operator's word ends it, whatever the reasons. */
    (void)do_alarm(&a, ALARM_ACTIVATE, 1, ALARM_NOSPACE, ALARM_FOR_DISK, &size, &changed);
    (void)do_alarm(&a, ALARM_DEACTIVATE, 1, ALARM_NOSPACE, 0, &size, &changed);
    ck_assert(!alarms_active(&a, ALARM_NOSPACE));
    ck_assert_uint_eq(alarms_reasons(&a, 1, ALARM_NOSPACE), 0);
    alarms_fini(&a);
}
END_TEST

START_TEST(test_limit_and_store)
{
    struct alarms a, b;
    struct buf encoded;
    size_t size;
    bool changed;
    alarms_init(&a);
    alarms_init(&b);
    buf_init(&encoded, SIZE_MAX);
    for (uint64_t i = 0; i < ALARMS_MAX; i++)
        ck_assert_int_eq(do_alarm(&a, ALARM_ACTIVATE, i * 977 % ALARMS_MAX, -3, 0, &size, &changed),
                         0);
    ck_assert(alarms_active_other(&a));
    ck_assert_int_eq(do_alarm(&a, ALARM_ACTIVATE, 1, ALARM_NOSPACE, 0, &size, &changed),
                     TV_TOO_MANY_REQUESTS);
    ck_assert(!changed);
    alarms_encode(&a, &encoded);
    ck_assert_int_eq(alarms_decode(&b, buf_slice(&encoded)), 0);
    ck_assert_uint_eq(b.count, ALARMS_MAX);
    for (uint32_t i = 0; i < ALARMS_MAX; i++)
        ck_assert_mem_eq(&a.items[i], &b.items[i], sizeof(a.items[i]));

    /* What is damaged changes nothing. */
    ck_assert_int_ne(alarms_decode(&b, slice_of(encoded.data, encoded.size - 1)), 0);
    ck_assert_int_ne(alarms_decode(&b, SLICE_LITERAL("\x0a\x02\x08\x01")), 0);
    ck_assert_uint_eq(b.count, ALARMS_MAX);
    ck_assert_int_eq(alarms_decode(&b, SLICE_EMPTY), 0);
    ck_assert(b.count == 0 && !alarms_active_other(&b));

    (void)do_alarm(&b, ALARM_ACTIVATE, 0, 5, 0, &size, &changed);
    must_describe(&b, "alarm:5;");
    buf_fini(&encoded);
    alarms_fini(&a);
    alarms_fini(&b);
}
END_TEST

START_TEST(test_request)
{
    uint8_t bytes[64];
    struct alarm_request in = {.action = 1, .member_id = UINT64_MAX, .type = -1, .reason = 2}, out;
    size_t size = (size_t)(alarm_request_put(bytes, &in) - bytes);
    ck_assert_uint_eq(size, alarm_request_size(&in));
    ck_assert_uint_le(size, sizeof(bytes));
    ck_assert_int_eq(alarm_request_decode(slice_of(bytes, size), &out), 0);
    ck_assert(out.action == 1 && out.member_id == UINT64_MAX && out.type == -1 && out.reason == 2);
    ck_assert_int_ne(alarm_request_decode(slice_of(bytes, size - 1), &out), 0);
}
END_TEST

/* --- what is applied --- */

struct rig {
    struct mvcc *mvcc;
    struct lessor *lessor;
    struct cluster cluster;
    struct applier applier;
    uint64_t next_id;
};

static void rig_init(struct rig *r)
{
    char err_text[128];
    *r = (struct rig){.mvcc = mvcc_new(NULL), .lessor = lessor_new(1)};
    ck_assert_int_eq(
        cluster_from_initial("a=http://a:1", "t", &r->cluster, err_text, sizeof(err_text)), 0);
    applier_init(&r->applier, r->mvcc, r->lessor, &r->cluster, 1);
}

static void rig_fini(struct rig *r)
{
    applier_fini(&r->applier);
    lessor_free(r->lessor);
    mvcc_free(r->mvcc);
    cluster_fini(&r->cluster);
}

static int apply(struct rig *r, uint32_t kind, struct slice body)
{
    struct request req = {.kind = REQUEST_PROPOSE};
    size_t size = wire_raft_request_size(kind, ++r->next_id, body);
    struct bref *payload = bref_new(size);
    wire_raft_request_put(payload->data, kind, r->next_id, body);
    struct wire_raft_request entry;
    applier_decode(slice_of(payload->data, size), &entry);
    applier_apply(&r->applier, &entry, &req);
    mvcc_publish(r->mvcc);
    bref_unref(req.reply);
    bref_unref(payload);
    return req.err;
}

static int apply_put(struct rig *r)
{
    uint8_t body[64];
    struct wire_put_request put = {.key = SLICE_LITERAL("k"), .value = SLICE_LITERAL("v")};
    return apply(r, WIRE_RAFT_PUT,
                 slice_of(body, (size_t)(wire_put_request_put(body, &put) - body)));
}

static struct slice encode_txn(uint8_t *body, bool with_put, bool nested)
{
    uint8_t op_bytes[64], *p = op_bytes;
    struct wire_op op = {.kind = WIRE_OP_DELETE_RANGE, .delete_range = {.key = SLICE_LITERAL("k")}};
    if (with_put)
        op = (struct wire_op){.kind = WIRE_OP_PUT,
                              .put = {.key = SLICE_LITERAL("k"), .value = SLICE_LITERAL("v")}};
    p = wire_op_put(p, &op);
    struct slice one = slice_of(op_bytes, (size_t)(p - op_bytes));
    uint8_t inner[128], *q = wire_item_put(inner, WIRE_TXN_FAILURE, one);
    struct slice txn = slice_of(inner, (size_t)(q - inner));
    if (!nested) {
        memcpy(body, txn.data, txn.size);
        return slice_of(body, txn.size);
    }
    uint8_t wrapped[128], *w = wire_item_put(wrapped, 4, txn);
    q = wire_item_put(body, WIRE_TXN_SUCCESS, slice_of(wrapped, (size_t)(w - wrapped)));
    return slice_of(body, (size_t)(q - body));
}

static int apply_txn(struct rig *r, bool with_put, bool nested)
{
    uint8_t body[256];
    return apply(r, WIRE_RAFT_TXN, encode_txn(body, with_put, nested));
}

static int apply_delete(struct rig *r)
{
    uint8_t body[64];
    struct wire_delete_range_request del = {.key = SLICE_LITERAL("k")};
    return apply(r, WIRE_RAFT_DELETE_RANGE,
                 slice_of(body, (size_t)(wire_delete_range_request_put(body, &del) - body)));
}

static int apply_compact(struct rig *r)
{
    uint8_t body[64];
    struct wire_compaction_request c = {.revision = mvcc_revision(r->mvcc)};
    return apply(r, WIRE_RAFT_COMPACTION,
                 slice_of(body, (size_t)(wire_compaction_request_put(body, &c) - body)));
}

static int apply_grant(struct rig *r, int64_t id)
{
    uint8_t body[64];
    struct wire_lease_grant_request g = {.id = id, .ttl = 10};
    return apply(r, WIRE_RAFT_LEASE_GRANT,
                 slice_of(body, (size_t)(wire_lease_grant_request_put(body, &g) - body)));
}

static int apply_revoke(struct rig *r, int64_t id)
{
    uint8_t body[64];
    size_t size = (size_t)(wire_lease_revoke_request_put(body, id) - body);
    return apply(r, WIRE_RAFT_LEASE_REVOKE, slice_of(body, size));
}

static int apply_alarm(struct rig *r, int32_t action, int32_t type)
{
    uint8_t body[64];
    struct alarm_request a = {.action = action, .member_id = 5, .type = type};
    return apply(r, WIRE_RAFT_ALARM, slice_of(body, (size_t)(alarm_request_put(body, &a) - body)));
}

START_TEST(test_no_space)
{
    struct rig r;
    rig_init(&r);
    ck_assert_int_eq(apply_put(&r), 0);
    ck_assert_int_eq(apply_grant(&r, 1), 0);
    ck_assert_int_eq(apply_alarm(&r, ALARM_ACTIVATE, ALARM_NOSPACE), 0);
    int64_t revision = mvcc_revision(r.mvcc);
    ck_assert_int_eq(apply_put(&r), TV_NO_SPACE);
    ck_assert_int_eq(apply_txn(&r, true, false), TV_NO_SPACE);
    ck_assert_int_eq(apply_txn(&r, true, true), TV_NO_SPACE);
    ck_assert_int_eq(apply_grant(&r, 2), TV_NO_SPACE);
    ck_assert_int_eq(mvcc_revision(r.mvcc), revision);
    ck_assert(!lessor_exists(r.lessor, 2));

    /* What gives space back goes on. */
    ck_assert_int_eq(apply_txn(&r, false, true), 0);
    ck_assert_int_eq(apply_txn(&r, false, false), 0);
    ck_assert_int_eq(apply_delete(&r), 0);
    ck_assert_int_eq(apply_revoke(&r, 1), 0);
    ck_assert_int_eq(apply_compact(&r), 0);

    ck_assert_int_eq(apply_alarm(&r, ALARM_DEACTIVATE, ALARM_NOSPACE), 0);
    ck_assert_int_eq(apply_put(&r), 0);
    rig_fini(&r);
}
END_TEST

START_TEST(test_corrupt)
{
    struct rig r;
    rig_init(&r);
    ck_assert_int_eq(apply_put(&r), 0);
    ck_assert_int_eq(apply_grant(&r, 1), 0);
    ck_assert_int_eq(apply_alarm(&r, ALARM_ACTIVATE, ALARM_NOSPACE), 0);
    ck_assert_int_eq(apply_alarm(&r, ALARM_ACTIVATE, ALARM_CORRUPT), 0);
    int64_t revision = mvcc_revision(r.mvcc);
    ck_assert_int_eq(apply_put(&r), TV_CORRUPT);
    ck_assert_int_eq(apply_txn(&r, false, false), TV_CORRUPT);
    ck_assert_int_eq(apply_delete(&r), TV_CORRUPT);
    ck_assert_int_eq(apply_compact(&r), TV_CORRUPT);
    ck_assert_int_eq(apply_grant(&r, 2), TV_CORRUPT);
    ck_assert_int_eq(apply_revoke(&r, 1), TV_CORRUPT);
    ck_assert_int_eq(mvcc_revision(r.mvcc), revision);
    ck_assert(lessor_exists(r.lessor, 1));
    ck_assert_int_eq(apply_alarm(&r, ALARM_DEACTIVATE, ALARM_CORRUPT), 0);
    ck_assert_int_eq(apply_put(&r), TV_NO_SPACE);
    rig_fini(&r);
}
END_TEST

/* What is to be stored is handed over with the batch, and gives the same alarms back. */
START_TEST(test_stored)
{
    struct rig r;
    struct alarms loaded;
    rig_init(&r);
    alarms_init(&loaded);
    ck_assert_ptr_null(r.applier.metas);
    ck_assert_int_eq(apply_alarm(&r, ALARM_GET, ALARM_NONE), 0);
    ck_assert_ptr_null(r.applier.metas);
    ck_assert_int_eq(apply_alarm(&r, ALARM_ACTIVATE, ALARM_CORRUPT), 0);
    const struct persist_meta *m = r.applier.metas;
    ck_assert_ptr_nonnull(m);
    ck_assert_int_eq(alarms_decode(&loaded, slice_of(m->data + m->key_size, m->value_size)), 0);
    must_describe(&loaded, "memberID:5 alarm:CORRUPT;");
    ck_assert_int_eq(apply_alarm(&r, ALARM_DEACTIVATE, ALARM_CORRUPT), 0);
    m = r.applier.metas;
    ck_assert_int_eq(alarms_decode(&loaded, slice_of(m->data + m->key_size, m->value_size)), 0);
    must_describe(&loaded, "");
    alarms_fini(&loaded);
    rig_fini(&r);
}
END_TEST

/* --- the quota's estimate --- */

START_TEST(test_cost)
{
    uint8_t body[256];
    struct wire_txn txn;
    struct wire_put_request put = {.key = SLICE_LITERAL("abc"), .value = SLICE_LITERAL("12345")};
    ck_assert_uint_eq(quota_put_bytes(&put), 256 + 3 + 5);
    ck_assert_int_eq(wire_txn_decode(encode_txn(body, true, true), &txn), 0);
    ck_assert_uint_eq(quota_txn_bytes(&txn), 256 + 2);
    ck_assert_int_eq(wire_txn_decode(encode_txn(body, false, true), &txn), 0);
    ck_assert_uint_eq(quota_txn_bytes(&txn), 0);

    /* The dearer branch counts. */
    struct wire_op one = {.kind = WIRE_OP_PUT, .put = put}, two = one;
    two.put.value = SLICE_LITERAL("1234567890");
    uint8_t bytes[64], *p = wire_op_put(bytes, &one);
    uint8_t *q = wire_item_put(body, WIRE_TXN_SUCCESS, slice_of(bytes, (size_t)(p - bytes)));
    p = wire_op_put(bytes, &two);
    q = wire_item_put(q, WIRE_TXN_FAILURE, slice_of(bytes, (size_t)(p - bytes)));
    ck_assert_int_eq(wire_txn_decode(slice_of(body, (size_t)(q - body)), &txn), 0);
    ck_assert_uint_eq(quota_txn_bytes(&txn), 256 + 3 + 10);
}
END_TEST

UNIT_MAIN("alarm", test_set, test_reasons, test_limit_and_store, test_request, test_no_space,
          test_corrupt, test_stored, test_cost)

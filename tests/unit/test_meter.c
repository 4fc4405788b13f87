/* What is counted for /metrics, in what bounds, and what the headers of its requests ask for; and
 * the parents of traces. */
#include "unit.h"

#include "server/meter.h"
#include "server/metrics_internal.h"
#include "server/trace.h"
#include "state/cluster.h"

#include "base/mem.h"
#include "proto/peerwire.h"
#include "proto/wire.h"

#include <stdio.h>
#include <string.h>

/* --- histograms --- */

/* The slow way. */
static uint32_t bucket_by_search(struct metric_scale scale, uint64_t value)
{
    uint64_t bound = scale.first;
    for (uint32_t i = 0; i < scale.buckets; i++, bound *= 2)
        if (value <= bound)
            return i;
    return scale.buckets;
}

START_TEST(test_buckets)
{
    static const struct metric_scale scales[] = {
        {1, 24}, {500000, 14}, {100000, 20}, {1000000, 14}, {100000000, 10}};
    for (size_t s = 0; s < sizeof(scales) / sizeof(scales[0]); s++) {
        uint64_t bound = scales[s].first;
        for (uint32_t i = 0; i < scales[s].buckets + 2; i++, bound *= 2)
            for (int64_t off = -1; off <= 1; off++) {
                uint64_t value = (uint64_t)((int64_t)bound + off);
                ck_assert_uint_eq(metric_bucket(scales[s], value),
                                  bucket_by_search(scales[s], value));
            }
        ck_assert_uint_eq(metric_bucket(scales[s], 0), 0);
        ck_assert_uint_eq(metric_bucket(scales[s], UINT64_MAX), scales[s].buckets);
    }
}
END_TEST

START_TEST(test_observe)
{
    struct metric_hist h = {0};
    metric_observe(&h, METRIC_FROM_1_MS(14), 3000000);
    metric_observe_many(&h, METRIC_FROM_1_MS(14), 10, 5);
    ck_assert_uint_eq(metric_read(&h.buckets[0]), 5);
    ck_assert_uint_eq(metric_read(&h.buckets[2]), 1);
    ck_assert_uint_eq(metric_read(&h.sum), 3000050);
}
END_TEST

START_TEST(test_tally)
{
    struct kv_meters m = {0};
    kv_meters_add(&m, &(struct kv_tally){.puts = 1, .put_bytes = 7});
    kv_meters_add(&m, &(struct kv_tally){.ranges = 1, .deletes = 1});
    kv_meters_add(&m, &(struct kv_tally){0});
    ck_assert_uint_eq(metric_read(&m.puts), 1);
    ck_assert_uint_eq(metric_read(&m.put_bytes), 7);
    ck_assert_uint_eq(metric_read(&m.txns), 1);
}
END_TEST

/* --- bounds --- */

static void count_version(struct worker_meters *m, const char *version)
{
    struct slice s = slice_of_string(version);
    if (!meter_version_count_again(m, s, false))
        meter_version_count(m, s, s, false);
}

START_TEST(test_versions_are_bounded)
{
    struct worker_meters *m = mem_alloc_zero(sizeof(*m));
    char name[40];
    m->metadata_size = UINT32_MAX;
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof(name), "3.%d", i);
        count_version(m, name);
        count_version(m, name);
    }
    uint64_t all = 0;
    for (int i = 0; i < METER_VERSIONS_MAX; i++)
        all += metric_read(&m->versions[i].unary);
    ck_assert_uint_eq(all, 2000);
    ck_assert_str_eq(m->versions[0].name, "3.0");
    ck_assert_uint_eq(metric_read(&m->versions[0].unary), 2);
    ck_assert_str_eq(m->versions[METER_VERSIONS_MAX - 1].name, "other");
    ck_assert_uint_eq(metric_read(&m->versions[METER_VERSIONS_MAX - 1].unary),
                      2 * (1000 - METER_VERSIONS_MAX + 1));
    meter_version_uncount(m);
    ck_assert_uint_eq(metric_read(&m->versions[METER_VERSIONS_MAX - 1].unary),
                      2 * (1000 - METER_VERSIONS_MAX + 1) - 1);
    mem_free(m);
}
END_TEST

START_TEST(test_versions_that_are_no_labels)
{
    static const char *const bad[] = {
        "a\"b", "a\\b", "a\nb", "", "\xc3\xa4", "longer than any version that there will ever be"};
    struct worker_meters *m = mem_alloc_zero(sizeof(*m));
    m->metadata_size = UINT32_MAX;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        count_version(m, bad[i]);
    meter_version_count(m, (struct slice){0}, SLICE_EMPTY, true);
    ck_assert_str_eq(m->versions[0].name, "other");
    ck_assert_uint_eq(metric_read(&m->versions[0].unary), sizeof(bad) / sizeof(bad[0]));
    ck_assert_str_eq(m->versions[1].name, "unknown");
    ck_assert_uint_eq(metric_read(&m->versions[1].streams), 1);
    mem_free(m);
}
END_TEST

START_TEST(test_members_are_bounded)
{
    struct peers_meters *all = mem_alloc_zero(sizeof(*all));
    for (uint64_t id = 1; id <= 2 * METER_PEERS_MAX; id++)
        metric_add(&peers_meters_of(all, id)->sent_bytes, 1);
    for (int i = 0; i < METER_PEERS_MAX; i++)
        ck_assert_uint_eq(metric_read(&all->items[i].sent_bytes), 1);
    ck_assert_uint_eq(metric_read(&all->rest.sent_bytes), METER_PEERS_MAX);
    mem_free(all);
}
END_TEST

START_TEST(test_reasons_are_bounded)
{
    struct worker_meters *m = mem_alloc_zero(sizeof(*m));
    char text[300];
    meter_promotion_count(m, SLICE_EMPTY);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(text, sizeof(text), "reason %d", i);
        meter_promotion_count(m, slice_of_string(text));
    }
    memset(text, 'x', sizeof(text));
    meter_promotion_count(m, slice_of(text, sizeof(text)));
    uint64_t all = 0;
    for (int i = 0; i < METER_REASONS_MAX; i++)
        all += metric_read(&m->promote_failures[i].count);
    ck_assert_uint_eq(all, 101);
    ck_assert_uint_eq(metric_read(&m->learners_promoted), 1);
    ck_assert_str_eq(m->promote_failures[METER_REASONS_MAX - 1].text, "other");
    mem_free(m);
}
END_TEST

START_TEST(test_operations)
{
    ck_assert_str_eq(meter_op_name(meter_op(WIRE_RAFT_PUT)), "Put");
    ck_assert_str_eq(meter_op_name(meter_op(WIRE_RAFT_ROLE_LIST)), "AuthRoleList");
    ck_assert_int_eq(meter_op(WIRE_RAFT_MARK), METER_OTHER);
    for (int op = 0; op < METER_OPS_COUNT; op++)
        ck_assert_ptr_nonnull(meter_op_name((enum meter_op)op));
}
END_TEST

START_TEST(test_pauses_are_shown)
{
    struct lsm_meters lsm = {0};
    struct peers_meters *peers = mem_alloc_zero(sizeof(*peers));
    struct metrics_view *v = mem_alloc_zero(sizeof(*v));
    v->lsm = &lsm;
    v->peers = peers;
    metric_set(&lsm.tidy_pause, 1500000000);
    metric_set(&peers->snapshot_pause, 2000000000);
    metric_set(&v->workers.snapshot_pause, 250000000);
    const struct metric_row row = {.name = "m"};
    struct buf out;
    buf_init(&out, 4096);
    metrics__write_background_pauses(&(struct metrics_page){.out = &out, .v = v, .row = &row});
    ck_assert(slice_equal(buf_slice(&out), SLICE_LITERAL("m{thread=\"snapshot\"} 2.25\n"
                                                         "m{thread=\"tidy\"} 1.5\n")));
    buf_fini(&out);
    mem_free(peers);
    mem_free(v);
}
END_TEST

/* --- headers --- */

START_TEST(test_gzip)
{
    static const struct {
        const char *text;
        bool gzip;
    } cases[] = {
        {"gzip", true},         {"gzip, deflate", true},
        {"deflate,gzip", true}, {"gzip;q=0", false},
        {"identity", false},    {"*", false},
        {"br", false},          {"", false},
        {"GZIP", false},        {"gzip;q=0.5, identity;q=0.8", false},
        {"gzip;q=0.5", true},   {"gzip, identity", false},
        {"gzip;q=x", false},    {"gzip;;q=1", true},
        {",,gzip", true},       {"gzip;q=", false},
        {"xgzip", false},       {"gzip ; q=0.2", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_msg(metrics_wants_gzip(slice_of_string(cases[i].text)) == cases[i].gzip, "%s",
                      cases[i].text);
    ck_assert(!metrics_wants_gzip((struct slice){0}));
}
END_TEST

START_TEST(test_escaping)
{
    ck_assert_str_eq(metrics_escaping((struct slice){0}), "underscores");
    ck_assert_str_eq(metrics_escaping(SLICE_LITERAL("*/*;q=0.2, text/plain;escaping=dots;q=0.1")),
                     "dots");
    ck_assert_str_eq(metrics_escaping(SLICE_LITERAL("a/b;escaping=values;q=0.1,"
                                                    "c/d;escaping=allow-utf-8;q=0.2")),
                     "allow-utf-8");
    ck_assert_str_eq(metrics_escaping(SLICE_LITERAL("a/b;escaping=other")), "underscores");
}
END_TEST

/* --- traces --- */

START_TEST(test_parents)
{
    static const char good[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    struct trace_parent p;
    char text[64];
    ck_assert(trace_parse_parent(slice_of_string(good), &p));
    ck_assert(p.sampled);
    ck_assert_uint_eq(p.trace_id[0], 0x0a);
    ck_assert_uint_eq(p.trace_id[15], 0x9c);
    ck_assert_uint_eq(p.span_id[7], 0x31);
    for (size_t size = 0; size < strlen(good); size++)
        ck_assert(!trace_parse_parent(slice_of(good, size), &p));
    for (size_t at = 0; at < strlen(good); at++) {
        memcpy(text, good, sizeof(good));
        text[at] = 'G';
        ck_assert_msg(!trace_parse_parent(slice_of_string(text), &p), "%s", text);
    }
    ck_assert(trace_parse_parent(
        SLICE_LITERAL("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-later"), &p));
    ck_assert(!p.sampled);
}
END_TEST

START_TEST(test_probes)
{
    uint8_t frame[PEERWIRE_PROBE_BYTES];
    struct peerwire_probe back;
    const struct peerwire_probe probe = {.is_reply = true, .sent_ns = UINT64_MAX - 1};
    ck_assert_ptr_eq(peerwire_probe_put(frame, &probe), frame + sizeof(frame));
    ck_assert_int_eq(peerwire_probe_decode(slice_of(frame, sizeof(frame)), &back), 0);
    ck_assert(back.is_reply && back.sent_ns == probe.sent_ns);
    for (size_t size = 0; size < sizeof(frame); size++)
        ck_assert_int_ne(peerwire_probe_decode(slice_of(frame, size), &back), 0);
    frame[1] = 2;
    ck_assert_int_ne(peerwire_probe_decode(slice_of(frame, sizeof(frame)), &back), 0);
}
END_TEST

UNIT_MAIN("meter", test_buckets, test_observe, test_tally, test_versions_are_bounded,
          test_versions_that_are_no_labels, test_members_are_bounded, test_reasons_are_bounded,
          test_operations, test_pauses_are_shown, test_gzip, test_escaping, test_parents,
          test_probes)

/* What `trivetctl check` finds, of clusters that cannot easily be had; what metrics say; the state
 * of a copy; a line of progress; sizes. */
#include "unit.h"

#include "checks.h"
#include "copy.h"
#include "ctl.h"
#include "http_get.h"
#include "progress.h"
#include "top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* main.c's. Nothing here is to fail. */
void ctl_fail(struct ctl *c, int status, const char *format, ...)
{
    (void)c;
    (void)status;
    ck_abort_msg("%s", format);
    abort();
}

enum { MEMBERS = 3 };

static struct member_now members[2][MEMBERS];
static struct cluster_now clusters[2];
static struct check_facts facts;
static struct check_report report;
static const char *const names[MEMBERS] = {"a", "b", "c"};

static void give_metrics(int moment, int member, const char *text)
{
    struct member_now *m = &members[moment][member];
    prom_parse(slice_of_string(text), &m->metrics);
    m->has_metrics = true;
}

/* Three members, all well, at two moments. */
static void healthy(void)
{
    memset(members, 0, sizeof(members));
    for (int moment = 0; moment < 2; moment++) {
        for (int i = 0; i < MEMBERS; i++) {
            struct member_now *m = &members[moment][i];
            *m = (struct member_now){.id = (uint64_t)i + 1,
                                     .is_listed = true,
                                     .is_started = true,
                                     .answers = true,
                                     .has_metrics = true};
            (void)snprintf(m->name, sizeof(m->name), "%s", names[i]);
            (void)snprintf(m->address, sizeof(m->address), "https://10.0.0.%d:2379", i + 1);
            (void)snprintf(m->peer_host, sizeof(m->peer_host), "10.0.0.%d", i + 1);
            (void)snprintf(m->zone, sizeof(m->zone), "z%d", i);
            m->status.u.status = (struct trivet_status_result){.version = trivet_str("3.7.1"),
                                                               .db_size = 1 << 20,
                                                               .db_size_in_use = 1 << 20,
                                                               .db_size_quota = 1 << 30,
                                                               .leader = 1,
                                                               .raft_index = 100000,
                                                               .raft_applied_index = 100000,
                                                               .raft_term = 7};
            m->metrics_page.status = 200;
            m->metrics_page.is_tls = true;
        }
        clusters[moment] = (struct cluster_now){.at_ns = (uint64_t)moment * 1000000000,
                                                .wall_s = 1800000000,
                                                .members = members[moment],
                                                .count = MEMBERS,
                                                .has_list = true,
                                                .has_alarms = true,
                                                .auth_enabled = 1,
                                                .leases = 3};
    }
    facts = (struct check_facts){.before = &clusters[0], .now = &clusters[1]};
}

/* The judgement has this finding, so bad, and no other. */
static void expect(const char *rule, enum check_severity severity)
{
    check_judge(&facts, &report);
    ck_assert_msg(report.count >= 1, "%s: nothing was found", rule);
    for (uint32_t i = 0; i < report.count; i++)
        ck_assert_msg(strcmp(report.findings[i].rule, rule) == 0, "%s, not %s: %s",
                      report.findings[i].rule, rule, report.findings[i].what);
    ck_assert_int_eq((int)report.worst, (int)severity);
    for (int moment = 0; moment < 2; moment++)
        for (int i = 0; i < MEMBERS; i++)
            prom_fini(&members[moment][i].metrics);
    healthy();
}

static void both_metrics(int member, const char *text)
{
    give_metrics(0, member, text);
    give_metrics(1, member, text);
}

START_TEST(test_healthy)
{
    healthy();
    check_judge(&facts, &report);
    ck_assert_msg(report.count == 0, "%s", report.findings[0].what);
    ck_assert_int_eq((int)report.worst, CHECK_OK);
}
END_TEST

START_TEST(test_members)
{
    healthy();
    clusters[1].has_list = false;
    expect("member-list", CHECK_BAD);
    members[1][2].answers = false;
    expect("reachable", CHECK_BAD);
    members[1][2].is_started = members[1][2].answers = false;
    expect("started", CHECK_WARN);
    members[0][2].status.u.status.leader = members[1][2].status.u.status.leader = 3;
    expect("leader", CHECK_BAD);
    members[0][2].status.u.status.leader = members[1][2].status.u.status.leader = 0;
    expect("leader", CHECK_BAD);
    for (int i = 0; i < MEMBERS; i++)
        members[1][i].status.u.status.leader = 2;
    expect("leader-steady", CHECK_WARN);
    give_metrics(1, 0,
                 "process_start_time_seconds 1799992800\n"
                 "etcd_server_leader_changes_seen_total 40\n");
    expect("leader-steady", CHECK_WARN);
    members[1][2].status.u.status.raft_term = 6;
    expect("terms", CHECK_WARN);
    members[1][1].status.u.status.raft_applied_index = 90000;
    expect("lag", CHECK_WARN);
    members[1][1].status.u.status.raft_applied_index = 100;
    expect("lag", CHECK_BAD);
    members[1][1].status.u.status.version = trivet_str("3.6.5");
    expect("versions", CHECK_WARN);
    members[1][0].status.u.status.downgrade_enabled = true;
    expect("versions", CHECK_WARN);
    for (int i = 0; i < MEMBERS; i++)
        (void)snprintf(members[1][i].zone, sizeof(members[1][i].zone), "z1");
    expect("places", CHECK_WARN);
    for (int i = 0; i < MEMBERS; i++)
        (void)snprintf(members[1][i].peer_host, sizeof(members[1][i].peer_host), "10.0.0.1");
    expect("places", CHECK_WARN);
}
END_TEST

START_TEST(test_learners)
{
    healthy();
    members[0][2].is_learner = members[1][2].is_learner = true;
    check_judge(&facts, &report);
    ck_assert_uint_eq(report.count, 2); /* and two members vote */
    ck_assert_str_eq(report.findings[0].rule, "learners");
    ck_assert_str_eq(report.findings[1].rule, "member-count");
    /* One that is still far behind is as it should be. */
    members[1][2].status.u.status.raft_applied_index = 10;
    check_judge(&facts, &report);
    for (uint32_t i = 0; i < report.count; i++)
        ck_assert_str_ne(report.findings[i].rule, "learners");
}
END_TEST

START_TEST(test_load)
{
    const struct trivet_alarm corrupt = {.member_id = 2, .alarm = 2};
    healthy();
    clusters[1].alarms.u.alarm = (struct trivet_alarm_result){&corrupt, 1};
    expect("alarms", CHECK_BAD);
    members[1][0].status.u.status.db_size = (int64_t)(0.85 * (1 << 30));
    members[1][0].status.u.status.db_size_in_use = members[1][0].status.u.status.db_size;
    expect("quota", CHECK_WARN);
    members[1][0].status.u.status.db_size = 1 << 30;
    members[1][0].status.u.status.db_size_in_use = 1 << 30;
    expect("quota", CHECK_BAD);
    members[1][0].status.u.status.db_size = 500 << 20;
    expect("fragmentation", CHECK_WARN);
    give_metrics(1, 0,
                 "etcd_debugging_mvcc_current_revision 9e+06\n"
                 "etcd_debugging_mvcc_compact_revision 100\n");
    expect("history", CHECK_WARN);
    give_metrics(1, 1,
                 "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.032\"} 90\n"
                 "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.064\"} 100\n"
                 "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 100\n"
                 "etcd_disk_wal_fsync_duration_seconds_count 100\n");
    expect("disk-sync", CHECK_WARN);
    give_metrics(1, 1, "trivet_disk_lacks_room 1\n");
    expect("disk-room", CHECK_BAD);
    give_metrics(1, 0,
                 "etcd_network_peer_round_trip_time_seconds_bucket{To=\"2\",le=\"0.4096\"} 1\n"
                 "etcd_network_peer_round_trip_time_seconds_bucket{To=\"2\",le=\"0.8192\"} 50\n"
                 "etcd_network_peer_round_trip_time_seconds_bucket{To=\"2\",le=\"+Inf\"} 50\n"
                 "etcd_network_peer_round_trip_time_seconds_count{To=\"2\"} 50\n");
    expect("round-trip", CHECK_BAD);
    give_metrics(0, 0, "etcd_server_proposals_failed_total 3\n");
    give_metrics(1, 0, "etcd_server_proposals_failed_total 5\n");
    expect("proposals", CHECK_BAD);
    give_metrics(0, 0, "etcd_server_heartbeat_send_failures_total 3\n");
    give_metrics(1, 0, "etcd_server_heartbeat_send_failures_total 5\n");
    expect("proposals", CHECK_WARN);
    both_metrics(0, "etcd_server_proposals_pending 6000\n");
    expect("proposals", CHECK_WARN);
    both_metrics(2, "etcd_debugging_mvcc_slow_watcher_total 4\n");
    expect("watchers", CHECK_WARN);
    clusters[1].leases = 1000000;
    expect("leases", CHECK_WARN);
    give_metrics(1, 2, "process_open_fds 990\nprocess_max_fds 1000\n");
    expect("open-files", CHECK_BAD);
    members[1][1].has_metrics = false;
    members[1][1].metrics_page.status = 404;
    expect("metrics", CHECK_WARN);
    members[1][1].clock_theirs_s = 1000;
    members[1][1].clock_ours_s = 1005;
    members[1][1].clock_error_s = 0.5;
    expect("clocks", CHECK_WARN);
    members[1][1].clock_theirs_s = 1000.9;
    members[1][1].clock_ours_s = 1000;
    members[1][1].clock_error_s = 0.5;
    check_judge(&facts, &report);
    ck_assert_uint_eq(report.count, 0);
}
END_TEST

START_TEST(test_safety)
{
    struct check_hash hashes[MEMBERS] = {{true, 5, 1}, {true, 5, 1}, {true, 6, 1}};
    healthy();
    facts.hashes = hashes;
    expect("contents", CHECK_BAD);
    give_metrics(1, 0, "trivet_member_differs 1\n");
    expect("contents", CHECK_BAD);
    give_metrics(1, 0, "trivet_member_damages_total 2\n");
    expect("damage", CHECK_WARN);
    members[1][0].metrics_page.cert_until_s = clusters[1].wall_s + 20 * 86400;
    expect("certificates", CHECK_WARN);
    members[1][0].metrics_page.cert_until_s = clusters[1].wall_s + 3 * 86400;
    expect("certificates", CHECK_BAD);
    facts.own_cert_until_s = clusters[1].wall_s - 1;
    expect("certificates", CHECK_BAD);
    members[1][0].metrics_page.is_tls = false;
    expect("cleartext", CHECK_WARN);
    clusters[1].auth_enabled = 0;
    expect("auth", CHECK_WARN);
    clusters[1].auth_enabled = 0;
    facts.client_certs_asked = true;
    check_judge(&facts, &report);
    ck_assert_uint_eq(report.count, 0);
}
END_TEST

START_TEST(test_metrics)
{
    struct prom p, old;
    const struct prom_filter puts = {.label = "type", .value = "Put"};
    const struct prom_filter others = {.label = "type", .value = "Put", .except = true};
    prom_parse(
        SLICE_LITERAL("# HELP x y\nplain 3\nwith{a=\"}\\\"b\",c=\"d\"} 4.5 1700000000\n"
                      "with{c=\"e\"} 1\nbroken\nbroken{a=\"\n{} 3\n"
                      "h_bucket{type=\"Put\",le=\"1\"} 10\nh_bucket{type=\"Put\",le=\"2\"} 20\n"
                      "h_bucket{type=\"Put\",le=\"+Inf\"} 20\n"
                      "h_bucket{type=\"Range\",le=\"1\"} 7\n"
                      "h_bucket{type=\"Range\",le=\"+Inf\"} 7"),
        &p);
    ck_assert(prom_sum(&p, "plain", NULL, NULL) == 3);
    ck_assert(prom_sum(&p, "with", NULL, NULL) == 5.5);
    ck_assert(prom_sum(&p, "with", "c", "d") == 4.5);
    ck_assert(!prom_has(&p, "broken") && prom_has(&p, "with"));
    ck_assert(prom_quantile(&p, NULL, "h", &puts, 0.5) == 1);
    ck_assert(prom_quantile(&p, NULL, "h", &puts, 0.75) == 1.5);
    ck_assert(prom_quantile(&p, NULL, "h", &others, 0.5) == 0.5);
    ck_assert(prom_quantile(&p, NULL, "none", NULL, 0.5) < 0);
    prom_parse(
        SLICE_LITERAL("h_bucket{type=\"Put\",le=\"1\"} 10\nh_bucket{type=\"Put\",le=\"2\"} 10\n"
                      "h_bucket{type=\"Put\",le=\"+Inf\"} 10\n"),
        &old);
    ck_assert(prom_quantile(&p, &old, "h", &puts, 0.5) == 1.5);
    ck_assert(prom_quantile(&p, &p, "h", &puts, 0.5) < 0);
    prom_fini(&p);
    prom_fini(&old);
}
END_TEST

/* Of what /debug/top says: keys are bytes, and the counts of all members are one. */
START_TEST(test_top_page)
{
    static const char *const pages[] = {
        "{\"now\":1.5,\"prefixes\":[{\"prefix\":\"x\\u00ff\\u0000\\\"y\",\"reads_per_second\":1.5},"
        "{\"prefix\":\"x\",\"writes_per_second\":2}],\"slow_clients\":[{\"peer\":\"[::1]:7\","
        "\"worst_ms\":3}]}",
        "{\"prefixes\":[{\"prefix\":\"x\\u00ff\\u0000\\\"y\",\"reads_per_second\":2}],",
        "nonsense",
    };
    static struct top_view v;
    healthy();
    for (int i = 0; i < MEMBERS; i++) {
        struct member_now *m = &members[1][i];
        buf_init(&m->top_page.body, SIZE_MAX);
        ck_assert_int_eq(buf_append(&m->top_page.body, pages[i], strlen(pages[i])), 0);
        m->has_top = true;
    }
    top_view(&clusters[0], &clusters[1], &v);
    ck_assert_uint_eq(v.prefixes_count, 2);
    ck_assert_uint_eq(v.prefixes[0].size, 5);
    ck_assert_mem_eq(v.prefixes[0].text, "x\xff\0\"y", 6);
    ck_assert(v.prefixes[0].reads == 3.5 && v.prefixes[0].writes == 0);
    ck_assert(v.prefixes[1].writes == 2);
    ck_assert_uint_eq(v.slow_count, 1);
    ck_assert_str_eq(v.slow[0].peer, "[::1]:7");
    ck_assert(v.slow[0].worst_ms == 3 && v.busy_count == 0);
    for (int i = 0; i < MEMBERS; i++)
        buf_fini(&members[1][i].top_page.body);
}
END_TEST

START_TEST(test_http_date)
{
    ck_assert_int_eq(http_date(SLICE_LITERAL("Fri, 27 Nov 2026 00:23:54 GMT")), 1795739034);
    ck_assert_int_eq(http_date(SLICE_LITERAL("yesterday")), 0);
}
END_TEST

START_TEST(test_copy_state)
{
    char text[COPY_STATE_BYTES_MAX];
    uint8_t key[] = {'/', 0, 0xff, ' '};
    struct copy_state back, s = {.cluster_id = 0xabc,
                                 .copier = 5,
                                 .phase = COPY_PHASE_WALK,
                                 .revision = 77,
                                 .key = key,
                                 .key_size = sizeof(key)};
    struct trivet_bytes prefix, dest_prefix;
    size_t size = copy_state_write(&s, trivet_str("/a b/"), trivet_str(""), text, sizeof(text));
    ck_assert(copy_state_parse(trivet_bytes(text, size), &back, &prefix, &dest_prefix));
    ck_assert(back.cluster_id == 0xabc && back.revision == 77 && back.phase == COPY_PHASE_WALK);
    ck_assert_uint_eq(back.key_size, sizeof(key));
    ck_assert_mem_eq(back.key, key, sizeof(key));
    ck_assert_uint_eq(prefix.size, 5);
    ck_assert_uint_eq(dest_prefix.size, 0);
    s.phase = COPY_PHASE_FOLLOW;
    s.key = NULL;
    size = copy_state_write(&s, trivet_str(""), trivet_str("x"), text, sizeof(text));
    ck_assert(copy_state_parse(trivet_bytes(text, size), &back, &prefix, &dest_prefix));
    ck_assert(back.phase == COPY_PHASE_FOLLOW && back.key == NULL);
    ck_assert(!copy_state_parse(trivet_str("hello"), &back, &prefix, &dest_prefix));
    ck_assert(!copy_state_parse(trivet_bytes(text, 30), &back, &prefix, &dest_prefix));
    /* A key that is too long is cut off: then a little is done again. */
    static uint8_t longest[COPY_STATE_BYTES_MAX];
    memset(longest, 'k', sizeof(longest));
    s = (struct copy_state){.revision = 1, .key = longest, .key_size = sizeof(longest)};
    size = copy_state_write(&s, trivet_str("p"), trivet_str("q"), text, sizeof(text));
    ck_assert(size < sizeof(text));
    ck_assert(copy_state_parse(trivet_bytes(text, size), &back, &prefix, &dest_prefix));
    ck_assert(back.key_size > 1000 && memcmp(back.key, longest, back.key_size) == 0);
}
END_TEST

START_TEST(test_progress)
{
    char line[200];
    struct progress p = {
        .what = "copying", .unit = PROGRESS_BYTES, .total = 4000000, .done = 1000000};
    ck_assert_str_eq(
        progress_text(&p, 2000000000, 200, line, sizeof(line)),
        "copying  [#####...............]  25%  1.0 MB of 4.0 MB  500.0 kB/s  0:06 left");
    ck_assert_uint_eq(strlen(progress_text(&p, 2000000000, 30, line, sizeof(line))), 29);
    p = (struct progress){.what = "putting", .unit = PROGRESS_COUNT, .done = 30};
    ck_assert_str_eq(progress_text(&p, 3000000000, 200, line, sizeof(line)), "putting  30  10/s");
    p = (struct progress){.what = "x", .unit = PROGRESS_COUNT, .done = 7, .total = 5};
    ck_assert(strstr(progress_text(&p, 1000000000, 200, line, sizeof(line)), "100%") != NULL);
}
END_TEST

/* What humanize.Bytes() of etcd's tools prints: rounded twice, half to even. */
START_TEST(test_sizes)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {9, "9 B"},
                 {10, "10 B"},
                 {999, "999 B"},
                 {1000, "1.0 kB"},
                 {1049, "1.0 kB"},
                 {1050, "1.1 kB"},
                 {9949, "9.9 kB"},
                 {9950, "10 kB"},
                 {999999, "1000 kB"},
                 {1000000, "1.0 MB"},
                 {10449999, "10 MB"},
                 {10450000, "10 MB"},
                 {10460000, "10 MB"},
                 {11460000, "12 MB"},
                 {12500000, "12 MB"},
                 {1000000000, "1.0 GB"},
                 {UINT64_MAX, "18 EB"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[16];
        ck_assert_str_eq(ctl_size(text, cases[i].bytes), cases[i].text);
    }
}
END_TEST

UNIT_MAIN("ctl_check", test_healthy, test_members, test_learners, test_load, test_safety,
          test_metrics, test_top_page, test_http_date, test_copy_state, test_progress, test_sizes)

/* Who is a member without data? Every answer the others can give, and what it leads to. */
#include "unit.h"

#include "server/join.h"

#include "base/err.h"
#include "base/mem.h"

#include <string.h>

static const char three[] = "a=http://a:1,b=http://b:1,c=http://c:1";

static struct cluster initial; /* as in the flags; we are "a" */
static struct join_answer answers[3];
static struct join_input in;
static struct join_decision d;

static void make(const char *text, struct cluster *ret)
{
    char why[256];
    int err = cluster_from_initial(text, "t", ret, why, sizeof(why));
    ck_assert_msg(err == 0, "%s", why);
}

static void setup(bool cluster_is_new)
{
    make(three, &initial);
    memset(answers, 0, sizeof(answers));
    in = (struct join_input){.cluster_is_new = cluster_is_new,
                             .may_replace = true,
                             .name = "a",
                             .initial = &initial,
                             .answers = answers,
                             .answers_count = 2};
}

static void teardown(void)
{
    cluster_fini(&initial);
    for (int i = 0; i < 3; i++)
        cluster_fini(&answers[i].cluster);
}

static void said(int who, enum join_state state, const char *cluster)
{
    cluster_fini(&answers[who].cluster);
    answers[who].state = state;
    if (cluster != NULL)
        make(cluster, &answers[who].cluster);
}

static enum join_verdict decide(void)
{
    join_decide(&in, &d);
    return d.verdict;
}

static uint64_t id_of(const char *name)
{
    return cluster_find_name(&initial, name)->id;
}

START_TEST(test_first_start_of_all)
{
    setup(true);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    said(0, JOIN_FRESH, NULL);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    said(1, JOIN_FRESH, NULL);
    ck_assert_int_eq(decide(), JOIN_BOOTSTRAP);
    ck_assert_uint_eq(d.id, id_of("a"));
    teardown();
}
END_TEST

/* Two of three may begin, after a while; alone never. */
START_TEST(test_first_start_of_a_majority)
{
    setup(true);
    in.waited_ms = 1000000;
    ck_assert_int_eq(decide(), JOIN_WAIT);
    said(1, JOIN_FRESH, NULL);
    in.waited_ms = JOIN_PATIENCE_MS - 1;
    ck_assert_int_eq(decide(), JOIN_WAIT);
    in.waited_ms = JOIN_PATIENCE_MS;
    ck_assert_int_eq(decide(), JOIN_BOOTSTRAP);
    /* But not beside one that has a log. */
    said(0, JOIN_UNSETTLED, three);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    teardown();
}
END_TEST

START_TEST(test_alone)
{
    setup(true);
    cluster_fini(&initial);
    make("a=http://a:1", &initial);
    in.answers_count = 0;
    ck_assert_int_eq(decide(), JOIN_BOOTSTRAP);
    in.cluster_is_new = false;
    ck_assert_int_eq(decide(), JOIN_WAIT);
    in.waited_ms = JOIN_EXISTING_WAIT_MS;
    ck_assert_int_eq(decide(), JOIN_REFUSE);
    teardown();
}
END_TEST

/* The others have begun without us: we were never there, and begin as configured. */
START_TEST(test_late_first_start)
{
    setup(true);
    said(0, JOIN_SETTLED, three);
    ck_assert_int_eq(decide(), JOIN_BOOTSTRAP);
    ck_assert_uint_eq(d.id, id_of("a"));
    teardown();
}
END_TEST

START_TEST(test_lost_disk)
{
    setup(true);
    said(0, JOIN_SETTLED, three);
    cluster_set_attributes(&answers[0].cluster, id_of("a"), SLICE_LITERAL("a"), NULL, 0);
    ck_assert_int_eq(decide(), JOIN_REPLACE);
    ck_assert_uint_eq(d.id, id_of("a"));
    ck_assert_ptr_eq(d.cluster, &answers[0].cluster);
    in.cluster_is_new = false;
    ck_assert_int_eq(decide(), JOIN_REPLACE);
    in.may_replace = false;
    ck_assert_int_eq(decide(), JOIN_REFUSE);
    ck_assert_ptr_nonnull(strstr(d.text, "has already been bootstrapped"));
    teardown();
}
END_TEST

/* What the cluster does not know yet, the data that is set aside does. */
START_TEST(test_set_aside_in_the_first_second)
{
    setup(true);
    said(0, JOIN_SETTLED, three);
    in.was_there = true;
    ck_assert_int_eq(decide(), JOIN_REPLACE);
    ck_assert_uint_eq(d.id, id_of("a"));
    /* It was replaced, and did not hear of it. */
    cluster_find(&answers[0].cluster, id_of("a"))->learner = true;
    in.asked_id = id_of("a");
    ck_assert_int_ne(decide(), JOIN_REPLACE);
    /* It was replaced, may have begun as the other, and lost that too. */
    in.asked_id = 0;
    ck_assert_int_eq(decide(), JOIN_REPLACE);
    teardown();
}
END_TEST

/* Without a leader nobody knows for sure, and nobody could agree. */
START_TEST(test_lost_disk_without_a_leader)
{
    setup(true);
    in.waited_ms = 1000000;
    said(0, JOIN_UNSETTLED, three);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    said(1, JOIN_FRESH, NULL);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    cluster_set_attributes(&answers[0].cluster, id_of("a"), SLICE_LITERAL("a"), NULL, 0);
    in.cluster_is_new = false;
    ck_assert_int_eq(decide(), JOIN_WAIT);
    teardown();
}
END_TEST

START_TEST(test_another_cluster)
{
    setup(true);
    said(0, JOIN_SETTLED, three);
    answers[0].cluster.id++;
    ck_assert_int_eq(decide(), JOIN_REFUSE);
    ck_assert_ptr_nonnull(strstr(d.text, "cluster ID mismatch"));
    teardown();
}
END_TEST

START_TEST(test_removed)
{
    setup(true);
    said(0, JOIN_SETTLED, three);
    cluster_remove(&answers[0].cluster, id_of("a"));
    ck_assert_int_eq(decide(), JOIN_REFUSE);
    ck_assert_ptr_nonnull(strstr(d.text, "permanently removed"));
    teardown();
}
END_TEST

static struct cluster_member *add(struct cluster *c, uint64_t id, const char *url)
{
    struct cluster_member *m = cluster_add(c, id);
    struct slice s = slice_of_string(url);
    cluster_set_peer_urls(m, &s, 1);
    return m;
}

/* The id is the one that the running cluster gave it. */
START_TEST(test_joining)
{
    setup(false);
    said(0, JOIN_SETTLED, three);
    cluster_remove(&answers[0].cluster, id_of("a"));
    (void)add(&answers[0].cluster, 4711, "http://a:1");
    ck_assert_int_eq(decide(), JOIN_AS);
    ck_assert_uint_eq(d.id, 4711);
    /* One that was replaced, and crashed before it knew. */
    in.cluster_is_new = true;
    ck_assert_int_eq(decide(), JOIN_AS);
    ck_assert_uint_eq(d.id, 4711);
    teardown();
}
END_TEST

/* From three members to four, one of which is down: there is no leader until we are there. */
START_TEST(test_joining_without_a_leader)
{
    static const char four[] = "a=http://a:1,b=http://b:1,c=http://c:1,d=http://d:1";
    setup(false);
    cluster_fini(&initial);
    make(four, &initial);
    in.answers_count = 3;
    said(0, JOIN_UNSETTLED, four);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    in.waited_ms = JOIN_PATIENCE_MS;
    ck_assert_int_eq(decide(), JOIN_WAIT); /* it may be behind */
    said(1, JOIN_UNSETTLED, four);
    ck_assert_int_eq(decide(), JOIN_AS);
    /* One has seen us begin, the other is behind. */
    cluster_set_attributes(&answers[1].cluster, id_of("a"), SLICE_LITERAL("a"), NULL, 0);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    teardown();
}
END_TEST

START_TEST(test_joining_with_wrong_flags)
{
    setup(false);
    said(0, JOIN_SETTLED, "a=http://a:1,b=http://b:1");
    ck_assert_int_eq(decide(), JOIN_REFUSE);
    ck_assert_str_eq(d.text, "error validating peerURLs: member count is unequal");
    said(0, JOIN_SETTLED, "a=http://a:1,b=http://b:1,c=http://c:2");
    ck_assert_int_eq(decide(), JOIN_REFUSE);
    ck_assert_ptr_nonnull(strstr(d.text, "PeerURLs: no match found for existing member"));
    said(0, JOIN_SILENT, NULL);
    ck_assert_int_eq(decide(), JOIN_WAIT);
    in.waited_ms = JOIN_EXISTING_WAIT_MS;
    ck_assert_int_eq(decide(), JOIN_REFUSE);
    ck_assert_str_eq(d.text, "cannot fetch cluster info from peer urls: could not retrieve "
                             "cluster information from the given URLs");
    teardown();
}
END_TEST

START_TEST(test_bytes)
{
    setup(true);
    struct join_ask ask = {.version = JOIN_VERSION, .replaced_id = 1, .new_id = UINT64_MAX};
    ask.peer_urls[ask.peer_urls_count++] = SLICE_LITERAL("http://a:1");
    struct buf b;
    buf_init(&b, SIZE_MAX);
    join_ask_encode(&ask, &b);
    struct join_ask back;
    ck_assert_int_eq(join_ask_decode(buf_slice(&b), &back), 0);
    ck_assert_uint_eq(back.version, JOIN_VERSION);
    ck_assert_uint_eq(back.replaced_id, 1);
    ck_assert_uint_eq(back.new_id, UINT64_MAX);
    ck_assert_uint_eq(back.peer_urls_count, 1);

    struct join_answer answer;
    int err = 0;
    buf_clear(&b);
    join_answer_encode(JOIN_SETTLED, &initial, TV_UNHEALTHY, &b);
    ck_assert_int_eq(join_answer_decode(buf_slice(&b), &answer, &err), 0);
    ck_assert_int_eq(answer.state, JOIN_SETTLED);
    ck_assert_int_eq(err, TV_UNHEALTHY);
    ck_assert_uint_eq(answer.cluster.id, initial.id);
    ck_assert_uint_eq(answer.cluster.raft.voters.count, 3);
    cluster_fini(&answer.cluster);
    /* Cut anywhere it is no answer, but for the error at its end. */
    for (size_t size = 0; size + 4 < b.size; size++)
        ck_assert_int_eq(join_answer_decode(slice_of(b.data, size), &answer, &err), TV_EMALFORMED);
    buf_clear(&b);
    join_answer_encode(JOIN_FRESH, NULL, 0, &b);
    ck_assert_int_eq(join_answer_decode(buf_slice(&b), &answer, &err), 0);
    ck_assert_int_eq(answer.state, JOIN_FRESH);
    buf_fini(&b);
    teardown();
}
END_TEST

UNIT_MAIN("join", test_first_start_of_all, test_first_start_of_a_majority, test_alone,
          test_late_first_start, test_lost_disk, test_set_aside_in_the_first_second,
          test_lost_disk_without_a_leader, test_another_cluster, test_removed, test_joining,
          test_joining_without_a_leader, test_joining_with_wrong_flags, test_bytes)

/* Changes of the membership: their bytes, when they may be made, and what they leave. */
#include "unit.h"

#include "server/member.h"

#include "base/err.h"
#include "base/mem.h"
#include "raft/conf.h"

#include <stdio.h>

#include <string.h>

static struct cluster cluster;
static uint64_t ids[3]; /* a, b, c */

static void setup(void)
{
    char text[256];
    int err = cluster_from_initial("a=http://a:1,b=http://b:1,c=http://c:1", "t", &cluster, text,
                                   sizeof(text));
    ck_assert_int_eq(err, 0);
    ids[0] = cluster_find_name(&cluster, "a")->id;
    ids[1] = cluster_find_name(&cluster, "b")->id;
    ids[2] = cluster_find_name(&cluster, "c")->id;
}

static struct member_change change(enum member_change_kind kind, uint64_t id, const char *url)
{
    struct member_change c = {.kind = kind, .id = id, .learners_max = 1};
    if (url != NULL)
        c.peer_urls[c.peer_urls_count++] = slice_of_string(url);
    return c;
}

static int check(struct member_change c)
{
    return member_change_check(&c, &cluster);
}

static void make(struct member_change c)
{
    ck_assert_int_eq(member_change_check(&c, &cluster), 0);
    member_change_apply(&c, &cluster);
}

START_TEST(test_bytes)
{
    struct member_change c = change(MEMBER_REPLACE, UINT64_MAX, "http://x:1");
    c.request_id = 77;
    c.replaced_id = 5;
    c.peer_urls[c.peer_urls_count++] = SLICE_LITERAL("http://y:1");
    struct buf b;
    buf_init(&b, SIZE_MAX);
    member_change_encode(&c, &b);

    struct raft_conf_change conf;
    ck_assert_int_eq(raft_conf_change_decode(buf_slice(&b), &conf), 0);
    ck_assert_uint_eq(conf.changes_count, 2);
    ck_assert_int_eq(conf.changes[0].op, RAFT_CONF_REMOVE);
    ck_assert_uint_eq(conf.changes[0].id, 5);
    ck_assert_int_eq(conf.changes[1].op, RAFT_CONF_ADD_LEARNER);
    ck_assert_uint_eq(conf.changes[1].id, UINT64_MAX);

    struct member_change back;
    ck_assert_int_eq(member_change_decode(conf.context, &back), 0);
    ck_assert_int_eq(back.kind, MEMBER_REPLACE);
    ck_assert_uint_eq(back.request_id, 77);
    ck_assert_uint_eq(back.id, UINT64_MAX);
    ck_assert_uint_eq(back.replaced_id, 5);
    ck_assert_uint_eq(back.learners_max, 1);
    ck_assert_uint_eq(back.peer_urls_count, 2);
    ck_assert(slice_equal(back.peer_urls[1], SLICE_LITERAL("http://y:1")));
    ck_assert_int_eq(member_change_decode(SLICE_EMPTY, &back), TV_EMALFORMED);
    ck_assert_int_eq(member_change_decode(SLICE_LITERAL("\x08\x7f\x18\x01"), &back), TV_EMALFORMED);
    buf_fini(&b);
}
END_TEST

START_TEST(test_what_raft_is_told)
{
    static const struct {
        enum member_change_kind kind;
        enum raft_conf_op op;
    } cases[] = {
        {MEMBER_ADD, RAFT_CONF_ADD_VOTER},     {MEMBER_ADD_LEARNER, RAFT_CONF_ADD_LEARNER},
        {MEMBER_PROMOTE, RAFT_CONF_ADD_VOTER}, {MEMBER_REMOVE, RAFT_CONF_REMOVE},
        {MEMBER_UPDATE, RAFT_CONF_KEEP},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct member_change c = change(cases[i].kind, 9, NULL);
        struct raft_conf_change conf;
        struct buf b;
        buf_init(&b, SIZE_MAX);
        member_change_encode(&c, &b);
        ck_assert_int_eq(raft_conf_change_decode(buf_slice(&b), &conf), 0);
        ck_assert_uint_eq(conf.changes_count, 1);
        ck_assert_int_eq(conf.changes[0].op, cases[i].op);
        buf_fini(&b);
    }
}
END_TEST

START_TEST(test_add)
{
    setup();
    ck_assert_int_eq(check(change(MEMBER_ADD, ids[0], "http://d:1")), TV_MEMBER_EXIST);
    ck_assert_int_eq(check(change(MEMBER_ADD, 9, "http://b:1")), TV_PEER_URL_EXIST);
    make(change(MEMBER_ADD, 9, "http://d:1"));
    ck_assert_uint_eq(cluster.members_count, 4);
    const struct cluster_member *m = cluster_find(&cluster, 9);
    ck_assert_str_eq(m->name, "");
    ck_assert_str_eq(m->peer_urls[0], "http://d:1");
    ck_assert(!m->learner && !m->started && !m->replacement);
    make(change(MEMBER_ADD_LEARNER, 10, "http://e:1"));
    ck_assert(cluster_find(&cluster, 10)->learner);
    ck_assert_int_eq(check(change(MEMBER_ADD_LEARNER, 11, "http://f:1")), TV_TOO_MANY_LEARNERS);
    for (uint64_t id = 20; cluster.members_count < CLUSTER_MEMBERS_MAX; id++) {
        char url[32];
        (void)snprintf(url, sizeof(url), "http://m%d:1", (int)id);
        make(change(MEMBER_ADD, id, url));
    }
    ck_assert_int_eq(check(change(MEMBER_ADD, 99, "http://z:1")), TV_ETOOLARGE);
    cluster_fini(&cluster);
}
END_TEST

/* One member that cannot be connected to must not stop the others. */
START_TEST(test_urls_from_anywhere)
{
    static const char *const bad[] = {"", "d:1", "http://d", "http://d:1/x", "https://d"};
    char text[400];
    setup();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(check(change(MEMBER_ADD, 9, bad[i])), TV_MEMBER_BAD_URLS);
        ck_assert_int_eq(check(change(MEMBER_UPDATE, ids[0], bad[i])), TV_MEMBER_BAD_URLS);
    }
    ck_assert_int_eq(check(change(MEMBER_ADD, 9, NULL)), TV_MEMBER_BAD_URLS);
    struct member_change nul = change(MEMBER_ADD, 9, "http://d:1");
    nul.peer_urls[0] = SLICE_LITERAL("http://d:1\0x");
    ck_assert_int_eq(check(nul), TV_MEMBER_BAD_URLS);
    for (int size = URL_HOST_BYTES_MAX; size <= URL_HOST_BYTES_MAX + 1; size++) {
        (void)snprintf(text, sizeof(text), "http://%*s:1", size, "");
        for (char *p = text; (p = strchr(p, ' ')) != NULL;)
            *p = 'a';
        ck_assert_int_eq(check(change(MEMBER_ADD, 9, text)),
                         size <= URL_HOST_BYTES_MAX ? 0 : TV_MEMBER_BAD_URLS);
    }
    cluster_fini(&cluster);
}
END_TEST

START_TEST(test_promote)
{
    setup();
    make(change(MEMBER_ADD_LEARNER, 9, "http://d:1"));
    ck_assert_int_eq(check(change(MEMBER_PROMOTE, 8, NULL)), TV_MEMBER_NOT_FOUND);
    ck_assert_int_eq(check(change(MEMBER_PROMOTE, ids[1], NULL)), TV_MEMBER_NOT_LEARNER);
    make(change(MEMBER_PROMOTE, 9, NULL));
    ck_assert(!cluster_find(&cluster, 9)->learner);
    cluster_fini(&cluster);
}
END_TEST

START_TEST(test_remove)
{
    setup();
    ck_assert_int_eq(check(change(MEMBER_REMOVE, 8, NULL)), TV_MEMBER_NOT_FOUND);
    make(change(MEMBER_REMOVE, ids[2], NULL));
    ck_assert_uint_eq(cluster.members_count, 2);
    ck_assert(cluster_was_removed(&cluster, ids[2]));
    /* Never again under that id; under another one, at the same place, yes. */
    ck_assert_int_eq(check(change(MEMBER_REMOVE, ids[2], NULL)), TV_MEMBER_NOT_FOUND);
    ck_assert_int_eq(check(change(MEMBER_ADD, ids[2], "http://c:1")), TV_MEMBER_NOT_FOUND);
    make(change(MEMBER_ADD, 9, "http://c:1"));
    cluster_fini(&cluster);
}
END_TEST

START_TEST(test_removed_ids_are_bounded)
{
    setup();
    for (uint64_t id = 1; id <= CLUSTER_REMOVED_MAX + 1; id++) {
        make(change(MEMBER_ADD, id, "http://d:1"));
        make(change(MEMBER_REMOVE, id, NULL));
    }
    ck_assert_uint_eq(cluster.removed_count, CLUSTER_REMOVED_MAX);
    ck_assert(!cluster_was_removed(&cluster, 1));
    ck_assert(cluster_was_removed(&cluster, CLUSTER_REMOVED_MAX + 1));
    cluster_fini(&cluster);
}
END_TEST

START_TEST(test_update)
{
    setup();
    ck_assert_int_eq(check(change(MEMBER_UPDATE, 8, "http://x:1")), TV_MEMBER_NOT_FOUND);
    ck_assert_int_eq(check(change(MEMBER_UPDATE, ids[0], "http://b:1")), TV_PEER_URL_EXIST);
    make(change(MEMBER_UPDATE, ids[0], "http://a:1")); /* its own is no other's */
    struct member_change c = change(MEMBER_UPDATE, ids[0], "http://y:1");
    c.peer_urls[c.peer_urls_count++] = SLICE_LITERAL("http://x:1");
    make(c);
    ck_assert_str_eq(cluster_find(&cluster, ids[0])->peer_urls[0], "http://x:1");
    ck_assert_uint_eq(cluster_find(&cluster, ids[0])->peer_urls_count, 2);
    cluster_fini(&cluster);
}
END_TEST

START_TEST(test_replace)
{
    setup();
    struct member_change c = change(MEMBER_REPLACE, 9, "http://b:1");
    c.replaced_id = 8;
    ck_assert_int_eq(check(c), TV_MEMBER_NOT_FOUND);
    c.replaced_id = ids[1];
    c.peer_urls[0] = SLICE_LITERAL("http://a:1");
    ck_assert_int_eq(check(c), TV_PEER_URL_EXIST);
    c.peer_urls[0] = SLICE_LITERAL("http://b:1");
    make(c);
    ck_assert_uint_eq(cluster.members_count, 3);
    ck_assert(cluster_was_removed(&cluster, ids[1]));
    const struct cluster_member *m = cluster_find(&cluster, 9);
    ck_assert(m->learner && m->replacement && !m->started);
    /* Lost again before it was promoted. */
    c.replaced_id = 9;
    c.id = 10;
    make(c);
    m = cluster_find(&cluster, 10);
    ck_assert(m->learner && m->replacement);
    make(change(MEMBER_PROMOTE, 10, NULL));
    ck_assert(!m->replacement);
    cluster_fini(&cluster);
}
END_TEST

/* Nobody asked for its voice. */
START_TEST(test_replace_learner)
{
    setup();
    make(change(MEMBER_ADD_LEARNER, 9, "http://d:1"));
    struct member_change c = change(MEMBER_REPLACE, 10, "http://d:1");
    c.replaced_id = 9;
    make(c);
    const struct cluster_member *m = cluster_find(&cluster, 10);
    ck_assert(m->learner && !m->replacement);
    cluster_fini(&cluster);
}
END_TEST

START_TEST(test_quorum)
{
    setup();
    struct member_change add = change(MEMBER_ADD, 9, "http://d:1");
    ck_assert(member_change_keeps_quorum(&add, &cluster));
    member_change_apply(&add, &cluster); /* 3 of 4 started */
    struct member_change again = change(MEMBER_ADD, 10, "http://e:1");
    ck_assert(member_change_keeps_quorum(&again, &cluster)); /* 3 of 5 */
    member_change_apply(&again, &cluster);
    struct member_change third = change(MEMBER_ADD, 11, "http://f:1");
    ck_assert(!member_change_keeps_quorum(&third, &cluster)); /* 3 of 6 */
    struct member_change remove = change(MEMBER_REMOVE, ids[0], NULL);
    ck_assert(!member_change_keeps_quorum(&remove, &cluster)); /* 2 of 4 */
    remove.id = 9;
    ck_assert(member_change_keeps_quorum(&remove, &cluster)); /* 3 of 4 */
    cluster_fini(&cluster);
}
END_TEST

START_TEST(test_one_member_may_grow_and_not_vanish)
{
    char text[256];
    int err = cluster_from_initial("a=http://a:1", "t", &cluster, text, sizeof(text));
    ck_assert_int_eq(err, 0);
    struct member_change add = change(MEMBER_ADD, 9, "http://d:1");
    ck_assert(member_change_keeps_quorum(&add, &cluster));
    struct member_change remove = change(MEMBER_REMOVE, cluster.members[0].id, NULL);
    ck_assert(!member_change_keeps_quorum(&remove, &cluster));
    cluster_fini(&cluster);
}
END_TEST

UNIT_MAIN("member", test_bytes, test_what_raft_is_told, test_add, test_urls_from_anywhere,
          test_promote, test_remove, test_removed_ids_are_bounded, test_update, test_replace,
          test_replace_learner, test_quorum, test_one_member_may_grow_and_not_vanish)

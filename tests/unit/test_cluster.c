/* Members and their ids, which must be those that etcd gives for the same flags. */
#include "unit.h"

#include "state/cluster.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static char err_text[512];

static const char three[] = "n1=http://127.0.0.1:33380,n2=http://127.0.0.1:33382,"
                            "n3=http://127.0.0.1:33384";

static void make(struct cluster *c, const char *initial, const char *token)
{
    err_text[0] = '\0';
    int err = cluster_from_initial(initial, token, c, err_text, sizeof(err_text));
    ck_assert_msg(err == 0, "%s", err_text);
}

/* The ids were read from etcd 3.7.1's log. */
START_TEST(test_ids_are_etcds)
{
    struct cluster c;
    make(&c, three, "tok-1");
    ck_assert_uint_eq(c.id, 0xd38df0b87758acb1);
    ck_assert_uint_eq(c.members_count, 3);
    ck_assert_uint_eq(c.members[0].id, 0x0e93a03d01047306);
    ck_assert_uint_eq(c.members[1].id, 0x6cba41ea1fc603b8);
    ck_assert_uint_eq(c.members[2].id, 0xea5b19c74fc09bd3);
    ck_assert_str_eq(c.members[0].name, "n2");
    ck_assert_ptr_eq(cluster_find_name(&c, "n1"), cluster_find(&c, 0xea5b19c74fc09bd3));
    ck_assert_ptr_null(cluster_find_name(&c, "n4"));
    ck_assert_ptr_null(cluster_find(&c, 1));
    cluster_fini(&c);
}
END_TEST

START_TEST(test_urls_of_a_member_are_sorted)
{
    struct cluster c;
    make(&c, "n1=http://127.0.0.1:33390,n1=http://127.0.0.1:33380", "etcd-cluster");
    ck_assert_uint_eq(c.id, 0xd2af68722629a625);
    ck_assert_uint_eq(c.members_count, 1);
    ck_assert_uint_eq(c.members[0].id, 0x670663e69057fd66);
    ck_assert_uint_eq(c.members[0].peer_urls_count, 2);
    ck_assert_str_eq(c.members[0].peer_urls[0], "http://127.0.0.1:33380");
    cluster_fini(&c);
}
END_TEST

START_TEST(test_bad_initial_clusters)
{
    static const struct {
        const char *initial;
        const char *text;
    } cases[] = {
        {"", "initial cluster unset and no discovery endpoints found"},
        {",,", "initial cluster unset and no discovery endpoints found"},
        {"n1", "URL scheme must be http, https, unix, or unixs: "},
        {"n1=127.0.0.1:2380", "URL scheme must be http, https, unix, or unixs: 127.0.0.1:2380"},
        {"n1=http://a", "URL address does not have the form \"host:port\": http://a"},
        {"n1=http://a:1/x", "URL must not contain a path: http://a:1/x"},
        {"n1=http://a:b", "parse \"http://a:b\": invalid port \":b\" after host"},
        {"n1=unix://", "the path of a socket is empty or too long: unix://"},
        {"n1=http://a:1,n2=http://a:1",
         "initial cluster n1=http://a:1,n2=http://a:1 has duplicate url"},
        {"n1=http://a:1,n1=http://a:1",
         "initial cluster n1=http://a:1,n1=http://a:1 has duplicate url"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cluster c;
        int err = cluster_from_initial(cases[i].initial, "t", &c, err_text, sizeof(err_text));
        ck_assert_int_eq(err, TV_EINVAL);
        ck_assert_str_eq(err_text, cases[i].text);
        ck_assert_uint_eq(c.members_count, 0);
    }
}
END_TEST

START_TEST(test_urls)
{
    static const struct {
        const char *text;
        const char *url; /* NULL: refused */
        const char *host;
        uint16_t port;
    } cases[] = {
        {"http://127.0.0.1:2379", "http://127.0.0.1:2379", "127.0.0.1", 2379},
        {" HTTP://localhost:1 ", "http://localhost:1", "localhost", 1},
        {"http://[::1]:2379", "http://[::1]:2379", "::1", 2379},
        {"http://[fe80::1%eth0]:65535", "http://[fe80::1%eth0]:65535", "fe80::1%eth0", 65535},
        {"http://a-b_c.d:0", "http://a-b_c.d:0", "a-b_c.d", 0},
        {"http://:2379", "http://:2379", "", 2379},
        {"http://a:65536", NULL},
        {"http://a:", NULL},
        {"http://a:123456", NULL},
        {"http://[::1:2379", NULL},
        {"http://[::1]", NULL},
        {"http://::1:2379", NULL},
        {"http://a b:1", NULL},
        {"http://u@a:1", NULL},
        {"http://a:1?x", NULL},
        {"http:/a:1", NULL},
        {"://a:1", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *url;
        int err = url_parse(cases[i].text, &url, err_text, sizeof(err_text));
        ck_assert_msg((err == 0) == (cases[i].url != NULL), "%s: %d", cases[i].text, err);
        if (err != 0)
            continue;
        char host[64];
        uint16_t port;
        url_host_port(url, host, sizeof(host), &port);
        ck_assert_str_eq(url, cases[i].url);
        ck_assert_str_eq(host, cases[i].host);
        ck_assert_uint_eq(port, cases[i].port);
        mem_free(url);
    }
}
END_TEST

START_TEST(test_url_lists)
{
    struct urls u;
    ck_assert_int_eq(urls_parse("http://b:2,http://a:1, http://b:2", &u, err_text, 512), 0);
    ck_assert_uint_eq(u.count, 2);
    ck_assert_str_eq(u.items[0], "http://a:1");
    char text[64];
    urls_join(&u, "n=", text, sizeof(text));
    ck_assert_str_eq(text, "n=http://a:1,n=http://b:2");
    urls_join(&u, "", text, 12);
    ck_assert_str_eq(text, "http://a:1,");
    urls_fini(&u);
    ck_assert_int_eq(urls_parse("http://a:1,", &u, err_text, 512), TV_EINVAL);
    ck_assert_uint_eq(u.count, 0);

    char many[1024] = "http://a:1";
    for (int i = 2; i <= URLS_MAX + 1; i++) {
        char one[32];
        snprintf(one, sizeof(one), ",http://a:%d", i);
        strcat(many, one);
    }
    ck_assert_int_eq(urls_parse(many, &u, err_text, 512), TV_EINVAL);
}
END_TEST

START_TEST(test_check_local)
{
    static const struct {
        const char *name;
        const char *advertised;
        const char *text;
    } cases[] = {
        {"n2", "http://127.0.0.1:33382", NULL},
        {"n4", "http://127.0.0.1:33382",
         "couldn't find local name \"n4\" in the initial cluster configuration"},
        {"n2", "http://127.0.0.1:9",
         "--initial-cluster has n2=http://127.0.0.1:33382 but missing from "
         "--initial-advertise-peer-urls=http://127.0.0.1:9"},
        {"n2", "http://127.0.0.1:9,http://127.0.0.1:33382",
         "--initial-advertise-peer-urls has http://127.0.0.1:9 but missing from "
         "--initial-cluster=n2=http://127.0.0.1:33382,n2=http://127.0.0.1:9"},
    };
    struct cluster c;
    make(&c, three, "tok-1");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct urls u;
        ck_assert_int_eq(urls_parse(cases[i].advertised, &u, err_text, 512), 0);
        err_text[0] = '\0';
        int err = cluster_check_local(&c, cases[i].name, &u, err_text, sizeof(err_text));
        ck_assert_int_eq(err, cases[i].text == NULL ? 0 : TV_EINVAL);
        ck_assert_str_eq(err_text, cases[i].text == NULL ? "" : cases[i].text);
        urls_fini(&u);
    }
    cluster_fini(&c);
}
END_TEST

static void add_attributes(struct cluster *c)
{
    const struct slice urls[] = {SLICE_LITERAL("http://x:2379"), SLICE_LITERAL("http://y:2379")};
    cluster_set_attributes(c, 0x6cba41ea1fc603b8, SLICE_LITERAL("renamed"), urls, 2);
    cluster_set_attributes(c, 12345, SLICE_LITERAL("stranger"), urls, 2);
}

START_TEST(test_attributes)
{
    struct cluster c;
    make(&c, three, "tok-1");
    add_attributes(&c);
    ck_assert_uint_eq(c.members_count, 3);
    ck_assert_str_eq(c.members[1].name, "renamed");
    ck_assert_uint_eq(c.members[1].client_urls_count, 2);
    ck_assert_str_eq(c.members[1].client_urls[1], "http://y:2379");
    cluster_set_attributes(&c, c.members[1].id, SLICE_LITERAL("again"), NULL, 0);
    ck_assert_uint_eq(c.members[1].client_urls_count, 0);
    cluster_fini(&c);
}
END_TEST

START_TEST(test_encode_decode)
{
    struct cluster c, d;
    make(&c, three, "tok-1");
    add_attributes(&c);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    cluster_encode(&c, &b);
    ck_assert_int_eq(cluster_decode(buf_slice(&b), &d), 0);
    ck_assert_uint_eq(d.id, c.id);
    ck_assert_uint_eq(d.members_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(d.members[i].id, c.members[i].id);
        ck_assert_str_eq(d.members[i].name, c.members[i].name);
        ck_assert_uint_eq(d.members[i].client_urls_count, c.members[i].client_urls_count);
        ck_assert_str_eq(d.members[i].peer_urls[0], c.members[i].peer_urls[0]);
    }
    cluster_fini(&d);

    /* Every cut and every flipped bit is noticed. */
    for (size_t size = 0; size < b.size; size++)
        ck_assert_int_eq(cluster_decode(slice_of(b.data, size), &d), TV_ECORRUPT);
    for (size_t bit = 0; bit < b.size * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(cluster_decode(buf_slice(&b), &d), TV_ECORRUPT);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_fini(&b);
    cluster_fini(&c);
}
END_TEST

UNIT_MAIN("cluster", test_ids_are_etcds, test_urls_of_a_member_are_sorted,
          test_bad_initial_clusters, test_urls, test_url_lists, test_check_local, test_attributes,
          test_encode_decode)

/* The health pages, as etcd 3.7.1 answers them. */
#include "unit.h"

#include "server/http_info.h"

#include "base/err.h"

#include <string.h>

static const struct http_status good = {
    .leader = 1, .cluster_version_known = true, .cluster_minor = 7};
static const struct http_status no_leader = {.linearizable_read_err = TV_TIMEOUT};
static const struct http_status nospace = {.leader = 1, .alarm_nospace = true};
static const struct http_status corrupt = {
    .leader = 1, .alarm_nospace = true, .alarm_corrupt = true};
static const struct http_status other_alarm = {.leader = 1, .alarm_other = true};
static const struct http_status learner = {.leader = 1, .is_learner = true};
static const struct http_status broken = {.leader = 1, .local_read_err = TV_CORRUPT};

#define L HTTP_READ_LOCAL
#define R HTTP_READ_LINEARIZABLE

static const struct {
    const char *method;
    const char *path;
    const char *query;
    const struct http_status *st;
    uint32_t reads;
    int status;
    const char *body;
} cases[] = {
    {"GET", "/health", "", &good, R, 200, "{\"health\":\"true\",\"reason\":\"\"}"},
    {"GET", "/health", "serializable=true", &good, L, 200, "{\"health\":\"true\",\"reason\":\"\"}"},
    {"GET", "/health", "serializable=1", &good, R, 200, "{\"health\":\"true\",\"reason\":\"\"}"},
    {"GET", "/health", "", &no_leader, 0, 503,
     "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"},
    {"GET", "/health", "serializable=true", &no_leader, L, 200,
     "{\"health\":\"true\",\"reason\":\"\"}"},
    {"GET", "/health", "x=y&serializable=false&serializable=true", &no_leader, 0, 503,
     "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"},
    {"GET", "/health", "", &nospace, 0, 503,
     "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"},
    {"GET", "/health", "exclude=NOSPACE", &nospace, R, 200,
     "{\"health\":\"true\",\"reason\":\"\"}"},
    {"GET", "/health", "exclude=&exclude=N%4fSPACE", &nospace, R, 200,
     "{\"health\":\"true\",\"reason\":\"\"}"},
    {"GET", "/health", "exclude=NOSPACE", &corrupt, 0, 503,
     "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n"},
    {"GET", "/health", "", &other_alarm, 0, 503,
     "{\"health\":\"false\",\"reason\":\"ALARM UNKNOWN\"}\n"},
    {"GET", "/health", "exclude=NOSPACE&exclude=CORRUPT", &corrupt, R, 200,
     "{\"health\":\"true\",\"reason\":\"\"}"},
    {"GET", "/health", "serializable=true", &broken, L, 503,
     "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: corrupt cluster\"}\n"},
    {"POST", "/health", "", &good, 0, 405, "Method Not Allowed\n"},
    {"HEAD", "/health", "", &good, 0, 405, "Method Not Allowed\n"},

    {"GET", "/livez", "", &good, L, 200, "ok\n"},
    {"GET", "/livez", "verbose", &good, L, 200, "[+]serializable_read ok\nok\n"},
    {"GET", "/livez", "verbose=false", &no_leader, L, 200, "[+]serializable_read ok\nok\n"},
    {"GET", "/livez/serializable_read", "", &good, L, 200, "ok\n"},
    {"GET", "/livez", "", &broken, L, 503,
     "[-]serializable_read failed: etcdserver: corrupt cluster\n\n"},
    {"GET", "/livez", "exclude=serializable_read", &broken, 0, 200, "ok\n"},
    {"GET", "/livez/serializable_read", "exclude=serializable_read", &broken, L, 503,
     "[-]serializable_read failed: etcdserver: corrupt cluster\n\n"},
    {"PUT", "/livez", "", &good, 0, 405, "Method Not Allowed\n"},
    {"GET", "/livez/", "", &good, 0, 404, "404 page not found\n"},
    {"GET", "/livezserializable_read", "", &good, 0, 404, "404 page not found\n"},
    {"GET", "/livez/linearizable_read", "", &good, 0, 404, "404 page not found\n"},

    {"GET", "/readyz", "", &good, L | R, 200, "ok\n"},
    {"GET", "/readyz", "verbose", &good, L | R, 200,
     "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n"
     "[+]non_learner ok\nok\n"},
    {"GET", "/readyz", "verbose&exclude=data_corruption&exclude=nonsense", &corrupt, L | R, 200,
     "[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"},
    {"GET", "/readyz", "", &corrupt, L | R, 503,
     "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n"
     "[+]linearizable_read ok\n[+]non_learner ok\n\n"},
    {"GET", "/readyz", "", &no_leader, L | R, 503,
     "[+]data_corruption ok\n[+]serializable_read ok\n"
     "[-]linearizable_read failed: etcdserver: request timed out\n[+]non_learner ok\n\n"},
    {"GET", "/readyz", "exclude=linearizable_read", &no_leader, L, 200, "ok\n"},
    {"GET", "/readyz/non_learner", "", &learner, 0, 503,
     "[-]non_learner failed: not supported for learner\n\n"},
    {"GET", "/readyz/data_corruption", "verbose", &nospace, 0, 200, "[+]data_corruption ok\nok\n"},
    {"GET", "/readyz/linearizable_read", "", &good, R, 200, "ok\n"},

    {"GET", "/version", "", &good, 0, 200,
     "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}"},
    {"GET", "/version", "", &no_leader, 0, 200,
     "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"not_decided\",\"storage\":\"unknown\"}"},
    {"DELETE", "/version", "", &good, 0, 405, "Method Not Allowed\n"},
    {"GET", "/", "", &good, 0, 404, "404 page not found\n"},
    {"POST", "/nope", "", &good, 0, 404, "404 page not found\n"},
};

START_TEST(test_pages)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice method = slice_of_string(cases[i].method);
        struct slice path = slice_of_string(cases[i].path);
        struct slice query = slice_of_string(cases[i].query);
        struct http_answer a;
        http_info_answer(method, path, query, cases[i].st, &a);
        ck_assert_msg(a.body_size == strlen(cases[i].body) &&
                          memcmp(a.body, cases[i].body, a.body_size) == 0,
                      "%s?%s: %.*s", cases[i].path, cases[i].query, (int)a.body_size, a.body);
        ck_assert_int_eq(a.status, cases[i].status);
        ck_assert_str_eq(a.content_type, strcmp(cases[i].path, "/version") == 0 && a.status == 200
                                             ? "application/json"
                                             : "text/plain; charset=utf-8");
        ck_assert((a.allow != NULL) == (a.status == 405));
        bool plain = a.status == 200 && (strcmp(cases[i].path, "/version") == 0 ||
                                         strcmp(cases[i].path, "/health") == 0);
        ck_assert(a.nosniff == !plain);
        ck_assert(http_info_knows(path) == (a.status != 404));
        ck_assert_uint_eq(http_info_reads(method, path, query, cases[i].st), cases[i].reads);
    }
}
END_TEST

/* Cut anywhere, a query is read no further than it goes (which a sanitizer sees). */
START_TEST(test_queries_cut_short)
{
    static const char query[] = "&&verbose=%&exclude=%4&serializable=%74rue&exclude=NOSPACE&=";
    for (size_t size = 0; size < sizeof(query); size++) {
        char *copy = malloc(size == 0 ? 1 : size);
        memcpy(copy, query, size);
        struct http_answer a;
        http_info_answer(SLICE_LITERAL("GET"), SLICE_LITERAL("/health"), slice_of(copy, size),
                         &nospace, &a);
        ck_assert_int_eq(a.status, size >= sizeof(query) - 3 ? 200 : 503);
        free(copy);
    }
}
END_TEST

UNIT_MAIN("http_info", test_pages, test_queries_cut_short)

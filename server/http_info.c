#include "server/http_info.h"

#include "server/config.h"
#include "server/versions.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

/* --- the query --- */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Is the encoded text this one? What is wrongly encoded is nothing at all. */
static bool query_text_is(struct slice s, const char *wanted)
{
    size_t at = 0;
    for (; *wanted != '\0'; wanted++, at++) {
        if (at >= s.size)
            return false;
        int c = s.data[at] == '+' ? ' ' : s.data[at];
        if (c == '%') {
            int high = at + 2 < s.size ? hex_digit(s.data[at + 1]) : -1;
            int low = at + 2 < s.size ? hex_digit(s.data[at + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = high << 4 | low;
            at += 2;
        }
        if (c != (uint8_t)*wanted)
            return false;
    }
    return at == s.size;
}

/* The next value of `name`, decoded only by query_text_is(); without '=' it is empty. */
static bool next_value(struct slice *query, const char *name, struct slice *ret)
{
    while (query->size > 0) {
        const uint8_t *and = memchr(query->data, '&', query->size);
        size_t size = and == NULL ? query->size : (size_t)(and-query->data);
        struct slice pair = slice_of(query->data, size);
        size_t used = and == NULL ? size : size + 1;
        *query = slice_of(query->data + used, query->size - used);
        const uint8_t *equals = size == 0 ? NULL : memchr(pair.data, '=', size);
        size_t name_size = equals == NULL ? size : (size_t)(equals - pair.data);
        if (size == 0 || !query_text_is(slice_of(pair.data, name_size), name))
            continue;
        *ret = equals == NULL ? SLICE_EMPTY : slice_of(equals + 1, size - name_size - 1);
        return true;
    }
    return false;
}

static bool has_value(struct slice query, const char *name, const char *wanted)
{
    struct slice value;
    while (next_value(&query, name, &value))
        if (query_text_is(value, wanted))
            return true;
    return false;
}

/* The first of several counts. */
static bool is_serializable(struct slice query)
{
    struct slice value;
    return next_value(&query, "serializable", &value) && query_text_is(value, "true");
}

/* --- answers --- */

static const char text_plain[] = "text/plain; charset=utf-8";

static void append(struct http_answer *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct http_answer *a, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    size_t room = sizeof(a->body) - a->body_size;
    int size = vsnprintf(a->body + a->body_size, room, fmt, args);
    va_end(args);
    a->body_size += (size_t)size < room ? (size_t)size : room - 1;
}

static void answer_error(struct http_answer *a, int status, const char *text)
{
    a->status = status;
    a->content_type = text_plain;
    a->nosniff = true;
    append(a, "%s\n", text);
}

static void answer_method_not_allowed(struct http_answer *a)
{
    a->allow = "GET";
    answer_error(a, 405, "Method Not Allowed");
}

/* --- /health --- */

/* NULL when none counts. */
static const char *health_alarm(struct slice query, const struct http_status *st)
{
    if (st->alarm_nospace && !has_value(query, "exclude", "NOSPACE"))
        return "ALARM NOSPACE";
    if (st->alarm_corrupt && !has_value(query, "exclude", "CORRUPT"))
        return "ALARM CORRUPT";
    if (st->alarm_other)
        return "ALARM UNKNOWN";
    return NULL;
}

static uint32_t health_reads(struct slice query, const struct http_status *st)
{
    if (health_alarm(query, st) != NULL)
        return HTTP_READ_NONE;
    if (is_serializable(query))
        return HTTP_READ_LOCAL;
    return st->leader == 0 ? HTTP_READ_NONE : HTTP_READ_LINEARIZABLE;
}

static void answer_health(struct slice query, const struct http_status *st, struct http_answer *a)
{
    bool serializable = is_serializable(query);
    int read_err = serializable ? st->local_read_err : st->linearizable_read_err;
    const char *reason = health_alarm(query, st);
    const char *detail = "";
    if (reason == NULL && !serializable && st->leader == 0)
        reason = "RAFT NO LEADER";
    if (reason == NULL && read_err != 0) {
        reason = "RANGE ERROR:";
        detail = tv_err_text(read_err);
    }
    a->status = reason == NULL ? 200 : 503;
    a->content_type = text_plain;
    a->nosniff = reason != NULL;
    append(a, "{\"health\":\"%s\",\"reason\":\"%s%s\"}%s", reason == NULL ? "true" : "false",
           reason == NULL ? "" : reason, detail, reason == NULL ? "" : "\n");
}

/* --- /livez, /readyz --- */

struct check {
    enum meter_check id;
    const char *name;
    uint32_t reads;
    /* What is wrong, or NULL. */
    const char *(*failure)(const struct http_status *st);
};

static const char *fails_corruption(const struct http_status *st)
{
    return st->alarm_corrupt ? "alarm activated: CORRUPT" : NULL;
}

static const char *fails_local_read(const struct http_status *st)
{
    return st->local_read_err == 0 ? NULL : tv_err_text(st->local_read_err);
}

static const char *fails_linearizable_read(const struct http_status *st)
{
    return st->linearizable_read_err == 0 ? NULL : tv_err_text(st->linearizable_read_err);
}

static const char *fails_learner(const struct http_status *st)
{
    return st->is_learner ? "not supported for learner" : NULL;
}

static const struct check livez_checks[] = {
    {METER_LIVEZ_SERIALIZABLE_READ, "serializable_read", HTTP_READ_LOCAL, fails_local_read},
};

static const struct check readyz_checks[] = {
    {METER_READYZ_DATA_CORRUPTION, "data_corruption", HTTP_READ_NONE, fails_corruption},
    {METER_READYZ_SERIALIZABLE_READ, "serializable_read", HTTP_READ_LOCAL, fails_local_read},
    {METER_READYZ_LINEARIZABLE_READ, "linearizable_read", HTTP_READ_LINEARIZABLE,
     fails_linearizable_read},
    {METER_READYZ_NON_LEARNER, "non_learner", HTTP_READ_NONE, fails_learner},
};

/* The checks that a path stands for: all of its page but those excluded, or one. */
struct page {
    const struct check *checks;
    uint32_t count;
    bool all;
};

/* The check that `rest` names behind a slash, or the whole page when it is empty. */
static bool select_checks(const struct check *checks, uint32_t count, struct slice rest,
                          struct page *ret)
{
    *ret = (struct page){.checks = checks, .count = count, .all = true};
    if (rest.size == 0)
        return true;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name = slice_of_string(checks[i].name);
        if (rest.data[0] == '/' && slice_equal(slice_of(rest.data + 1, rest.size - 1), name)) {
            *ret = (struct page){.checks = &checks[i], .count = 1};
            return true;
        }
    }
    return false;
}

static bool find_page(struct slice path, struct page *ret)
{
    struct slice livez = SLICE_LITERAL("/livez"), readyz = SLICE_LITERAL("/readyz");
    if (slice_starts_with(path, livez))
        return select_checks(livez_checks, sizeof(livez_checks) / sizeof(livez_checks[0]),
                             slice_of(path.data + livez.size, path.size - livez.size), ret);
    if (slice_starts_with(path, readyz))
        return select_checks(readyz_checks, sizeof(readyz_checks) / sizeof(readyz_checks[0]),
                             slice_of(path.data + readyz.size, path.size - readyz.size), ret);
    return false;
}

static bool is_excluded(const struct page *page, const struct check *check, struct slice query)
{
    return page->all && has_value(query, "exclude", check->name);
}

static void answer_checks(const struct page *page, struct slice query, const struct http_status *st,
                          struct http_answer *a)
{
    bool failed = false;
    a->content_type = text_plain;
    a->nosniff = true;
    for (uint32_t i = 0; i < page->count; i++) {
        const struct check *check = &page->checks[i];
        if (is_excluded(page, check, query))
            continue;
        const char *failure = check->failure(st);
        if (failure == NULL)
            append(a, "[+]%s ok\n", check->name);
        else
            append(a, "[-]%s failed: %s\n", check->name, failure);
        a->checked |= 1u << check->id;
        a->failed |= (failure != NULL ? 1u : 0u) << check->id;
        failed = failed || failure != NULL;
    }
    if (failed) {
        a->status = 503;
        append(a, "\n");
        return;
    }
    a->status = 200;
    struct slice unused;
    if (!next_value(&query, "verbose", &unused))
        a->body_size = 0;
    append(a, "ok\n");
}

/* --- which page --- */

static void answer_version(const struct http_status *st, struct http_answer *a)
{
    a->status = 200;
    a->content_type = "application/json";
    char version[VERSIONS_TEXT_BYTES];
    versions_text(st->cluster_minor, version);
    append(a, "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\",\"storage\":\"%s\"}",
           CONFIG_ETCD_VERSION, st->cluster_version_known ? version : "not_decided",
           st->cluster_version_known ? version : "unknown");
}

static bool path_is(struct slice path, const char *wanted)
{
    return slice_equal(path, slice_of_string(wanted));
}

bool http_info_knows(struct slice path)
{
    struct page page;
    return path_is(path, "/health") || path_is(path, "/version") || find_page(path, &page);
}

uint32_t http_info_reads(struct slice method, struct slice path, struct slice query,
                         const struct http_status *st)
{
    struct page page;
    uint32_t reads = HTTP_READ_NONE;
    if (!path_is(method, "GET"))
        return reads;
    if (path_is(path, "/health"))
        return health_reads(query, st);
    if (!find_page(path, &page))
        return reads;
    for (uint32_t i = 0; i < page.count; i++)
        if (!is_excluded(&page, &page.checks[i], query))
            reads |= page.checks[i].reads;
    return reads;
}

void http_info_answer(struct slice method, struct slice path, struct slice query,
                      const struct http_status *st, struct http_answer *ret)
{
    struct page page;
    ret->allow = NULL;
    ret->nosniff = false;
    ret->checked = ret->failed = 0;
    ret->body_size = 0;
    if (!http_info_knows(path))
        answer_error(ret, 404, "404 page not found");
    else if (!path_is(method, "GET"))
        answer_method_not_allowed(ret);
    else if (path_is(path, "/health"))
        answer_health(query, st, ret);
    else if (path_is(path, "/version"))
        answer_version(st, ret);
    else if (find_page(path, &page))
        answer_checks(&page, query, st, ret);
}

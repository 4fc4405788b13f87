#include "server/slow.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char request_stats[] = "request stats";

enum { CONTENT_BYTES_MAX = 1024, KEY_SHOWN_MAX = 256 };

struct content {
    char text[CONTENT_BYTES_MAX];
    size_t size;
};

TV_PRINTF(2, 3) static void addf(struct content *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int size = vsnprintf(c->text + c->size, sizeof(c->text) - c->size, fmt, ap);
    va_end(ap);
    c->size += (size_t)size;
    if (c->size >= sizeof(c->text))
        c->size = sizeof(c->text) - 1;
}

/* Bytes as protobuf's text form has them. */
static void add_bytes(struct content *c, const char *name, struct slice s)
{
    if (s.size == 0)
        return;
    addf(c, "%s:\"", name);
    for (size_t i = 0; i < s.size && i < KEY_SHOWN_MAX; i++) {
        if (s.data[i] >= 0x20 && s.data[i] < 0x7f && s.data[i] != '"' && s.data[i] != '\\')
            addf(c, "%c", s.data[i]);
        else
            addf(c, "\\%03o", s.data[i]);
    }
    addf(c, s.size > KEY_SHOWN_MAX ? "...\" " : "\" ");
}

static void add_number(struct content *c, const char *name, int64_t value)
{
    if (value != 0)
        addf(c, "%s:%lld ", name, (long long)value);
}

static void describe_range(struct content *c, struct slice msg)
{
    struct wire_range_request r;
    if (wire_range_request_decode(msg, &r) != 0)
        return;
    add_bytes(c, "key", r.key);
    add_bytes(c, "range_end", r.range_end);
    add_number(c, "limit", r.limit);
    add_number(c, "revision", r.revision);
    add_number(c, "sort_order", r.sort_order);
    add_number(c, "sort_target", r.sort_target);
    addf(c, "%s%s%s", r.serializable ? "serializable:true " : "",
         r.keys_only ? "keys_only:true " : "", r.count_only ? "count_only:true " : "");
}

static void describe_put(struct content *c, struct slice msg)
{
    struct wire_put_request r;
    if (wire_put_request_decode(msg, &r) != 0)
        return;
    add_bytes(c, "key", r.key);
    addf(c, "value_size:%zu ", r.value.size);
    add_number(c, "lease", r.lease);
}

static void describe_delete(struct content *c, struct slice msg)
{
    struct wire_delete_range_request r;
    if (wire_delete_range_request_decode(msg, &r) != 0)
        return;
    add_bytes(c, "key", r.key);
    add_bytes(c, "range_end", r.range_end);
}

static int64_t describe_txn(struct content *c, struct slice msg)
{
    struct wire_txn t;
    if (wire_txn_decode(msg, &t) != 0)
        return -1;
    addf(c, "compares:%u success:%u failure:%u", t.compares_count, t.success_count,
         t.failure_count);
    return t.success_count > t.failure_count ? t.success_count : t.failure_count;
}

/* RFC 3339. */
static void start_text(uint64_t took_ms, char *ret, size_t size)
{
    uint64_t us = (uint64_t)clock_wall_us() - took_ms * 1000;
    time_t s = (time_t)(us / 1000000);
    struct tm tm;
    gmtime_r(&s, &tm);
    snprintf(ret, size, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(us % 1000000));
}

static void say(const struct grpc_call *call, uint64_t took_ms, const char *type, int64_t count,
                int64_t size, int64_t response_size, const struct content *c)
{
    char start[64], took[32];
    const struct grpc_conn *conn = call == NULL ? NULL : grpc_call_conn(call);
    start_text(took_ms, start, sizeof(start));
    config_format_duration((int64_t)took_ms * 1000000, took, sizeof(took));
    LOG_WANTED(LOG_WARN, request_stats, LOG_STR("start time", start), LOG_STR("time spent", took),
               LOG_STR("remote", conn == NULL ? "No remote client info." : grpc_conn_peer(conn)),
               LOG_STR("response type", type), LOG_INT("request count", count),
               LOG_INT("request size", size), LOG_INT("response count", response_size < 0 ? -1 : 0),
               LOG_INT("response size", response_size),
               LOG_SLICE("request content", slice_of(c->text, c->size)));
}

static const char *type_of(const struct grpc_call *call, const char *fallback)
{
    const struct grpc_method *m = call == NULL ? NULL : grpc_call_method(call);
    return m == NULL ? fallback : m->path;
}

void slow_proposal(struct worker *w, const struct grpc_call *call, const struct request *req)
{
    if (!log_wants(LOG_WARN, request_stats))
        return;
    struct content c = {.size = 0};
    struct wire_raft_request r = {0};
    const char *fallback = "";
    int64_t count = -1, size = -1;
    if (req->payload != NULL &&
        wire_raft_request_decode(slice_of(req->payload->data, req->payload_size), &r) == 0 &&
        r.kind >= WIRE_RAFT_PUT && r.kind <= WIRE_RAFT_TXN) {
        count = r.kind == WIRE_RAFT_PUT;
        size = (int64_t)r.body.size;
        fallback = r.kind == WIRE_RAFT_PUT            ? "/etcdserverpb.KV/Put"
                   : r.kind == WIRE_RAFT_DELETE_RANGE ? "/etcdserverpb.KV/DeleteRange"
                                                      : "/etcdserverpb.KV/Txn";
        if (r.kind == WIRE_RAFT_PUT)
            describe_put(&c, r.body);
        else if (r.kind == WIRE_RAFT_DELETE_RANGE)
            describe_delete(&c, r.body);
        else
            count = describe_txn(&c, r.body);
    }
    say(call, slow_now(w) - req->begun_ms, type_of(call, fallback), count, size,
        size < 0 ? -1 : (int64_t)req->reply_size, &c);
}

void slow_read(struct worker *w, const struct grpc_call *call, const struct read *r)
{
    if (!log_wants(LOG_WARN, request_stats))
        return;
    struct content c = {.size = 0};
    struct slice msg = slice_of(r->msg, r->msg_size);
    const char *type = type_of(call, "");
    int64_t count = 0;
    if (strcmp(type, "/etcdserverpb.KV/Txn") == 0)
        count = describe_txn(&c, msg);
    else if (strcmp(type, "/etcdserverpb.KV/Range") == 0)
        describe_range(&c, msg);
    else
        count = -1;
    say(call, slow_now(w) - r->begun_ms, type, count, count < 0 ? -1 : (int64_t)r->msg_size, -1,
        &c);
}

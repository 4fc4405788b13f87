/* Routes, and what of a request's headers becomes a call's metadata. */
#include "server/gateway_internal.h"

#include "server/node.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/mem.h"

#include "etcdserverpb.pb-c.h"
#include "v3electionpb.pb-c.h"
#include "v3lockpb.pb-c.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* --- routes --- */

struct route {
    const char *path; /* behind "/v3/" */
    const ProtobufCServiceDescriptor *service;
    const char *method;
};

#define KV &etcdserverpb__kv__descriptor
#define WATCH &etcdserverpb__watch__descriptor
#define LEASE &etcdserverpb__lease__descriptor
#define CLUSTER &etcdserverpb__cluster__descriptor
#define MAINTENANCE &etcdserverpb__maintenance__descriptor
#define AUTH &etcdserverpb__auth__descriptor
#define LOCK &v3lockpb__lock__descriptor
#define ELECTION &v3electionpb__election__descriptor

static const struct route routes[] = {
    {"kv/range", KV, "Range"},
    {"kv/put", KV, "Put"},
    {"kv/deleterange", KV, "DeleteRange"},
    {"kv/txn", KV, "Txn"},
    {"kv/compaction", KV, "Compact"},
    {"watch", WATCH, "Watch"},
    {"lease/grant", LEASE, "LeaseGrant"},
    {"lease/revoke", LEASE, "LeaseRevoke"},
    {"kv/lease/revoke", LEASE, "LeaseRevoke"},
    {"lease/keepalive", LEASE, "LeaseKeepAlive"},
    {"lease/timetolive", LEASE, "LeaseTimeToLive"},
    {"kv/lease/timetolive", LEASE, "LeaseTimeToLive"},
    {"lease/leases", LEASE, "LeaseLeases"},
    {"kv/lease/leases", LEASE, "LeaseLeases"},
    {"cluster/member/add", CLUSTER, "MemberAdd"},
    {"cluster/member/remove", CLUSTER, "MemberRemove"},
    {"cluster/member/update", CLUSTER, "MemberUpdate"},
    {"cluster/member/list", CLUSTER, "MemberList"},
    {"cluster/member/promote", CLUSTER, "MemberPromote"},
    {"maintenance/alarm", MAINTENANCE, "Alarm"},
    {"maintenance/status", MAINTENANCE, "Status"},
    {"maintenance/defragment", MAINTENANCE, "Defragment"},
    {"maintenance/hash", MAINTENANCE, "Hash"},
    {"maintenance/hashkv", MAINTENANCE, "HashKV"},
    {"maintenance/snapshot", MAINTENANCE, "Snapshot"},
    {"maintenance/transfer-leadership", MAINTENANCE, "MoveLeader"},
    {"maintenance/downgrade", MAINTENANCE, "Downgrade"},
    {"auth/enable", AUTH, "AuthEnable"},
    {"auth/disable", AUTH, "AuthDisable"},
    {"auth/status", AUTH, "AuthStatus"},
    {"auth/authenticate", AUTH, "Authenticate"},
    {"auth/user/add", AUTH, "UserAdd"},
    {"auth/user/get", AUTH, "UserGet"},
    {"auth/user/list", AUTH, "UserList"},
    {"auth/user/delete", AUTH, "UserDelete"},
    {"auth/user/changepw", AUTH, "UserChangePassword"},
    {"auth/user/grant", AUTH, "UserGrantRole"},
    {"auth/user/revoke", AUTH, "UserRevokeRole"},
    {"auth/role/add", AUTH, "RoleAdd"},
    {"auth/role/get", AUTH, "RoleGet"},
    {"auth/role/list", AUTH, "RoleList"},
    {"auth/role/delete", AUTH, "RoleDelete"},
    {"auth/role/grant", AUTH, "RoleGrantPermission"},
    {"auth/role/revoke", AUTH, "RoleRevokePermission"},
    {"lock/lock", LOCK, "Lock"},
    {"lock/unlock", LOCK, "Unlock"},
    {"election/campaign", ELECTION, "Campaign"},
    {"election/proclaim", ELECTION, "Proclaim"},
    {"election/leader", ELECTION, "Leader"},
    {"election/observe", ELECTION, "Observe"},
    {"election/resign", ELECTION, "Resign"},
};

static const struct route *find_route(struct slice path)
{
    struct slice base = SLICE_LITERAL("/v3/");
    struct slice rest = slice_of(path.data + base.size, path.size - base.size);
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (slice_equal(rest, slice_of_string(routes[i].path)))
            return &routes[i];
    return NULL;
}

/* The worker's own, with whatever it looks at first. */
static const struct grpc_method *find_method(const struct worker *w, const struct route *route)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "/%s/%s", route->service->name, route->method);
    for (uint32_t i = 0; i < w->methods_count; i++)
        if (strcmp(w->methods[i].path, path) == 0)
            return &w->methods[i];
    return NULL;
}

/* --- metadata --- */

void gateway_metadata_init(struct gateway_metadata *md)
{
    *md = (struct gateway_metadata){0};
    buf_init(&md->names, SIZE_MAX);
}

void gateway_metadata_fini(struct gateway_metadata *md)
{
    buf_fini(&md->names);
}

static struct slice keep(struct gateway_metadata *md, struct slice a, struct slice b, bool lower)
{
    /* The memory does not move: it is reserved for all that can come. */
    uint8_t *p = md->names.data + md->names.size;
    ASSERT(md->names.capacity - md->names.size >= a.size + b.size);
    (void)buf_append(&md->names, a.data, a.size);
    (void)buf_append(&md->names, b.data, b.size);
    for (size_t i = 0; lower && i < a.size + b.size; i++)
        p[i] = (uint8_t)tolower(p[i]);
    return slice_of(p, a.size + b.size);
}

void gateway_metadata_add(struct gateway_metadata *md, const char *prefix, struct slice name,
                          struct slice value)
{
    if (md->count == GATEWAY_METADATA_MAX)
        return;
    struct grpc_pair *pair = &md->pairs[md->count++];
    pair->name = keep(md, slice_of_string(prefix), name, true);
    pair->value = keep(md, value, SLICE_EMPTY, false);
}

static bool equal_nocase(struct slice s, const char *text)
{
    return s.size == strlen(text) && strncasecmp((const char *)s.data, text, s.size) == 0;
}

/* Those of IANA's list that grpc-gateway hands on. */
static bool is_handed_on(struct slice name)
{
    static const char *const names[] = {
        "Accept",
        "Accept-Charset",
        "Accept-Language",
        "Accept-Ranges",
        "Authorization",
        "Cache-Control",
        "Content-Type",
        "Cookie",
        "Date",
        "Expect",
        "From",
        "Host",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Schedule-Tag-Match",
        "Max-Forwards",
        "Origin",
        "If-Unmodified-Since",
        "Pragma",
        "Referer",
        "User-Agent",
        "Via",
        "Warning",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (equal_nocase(name, names[i]))
            return true;
    return false;
}

static bool is_plain_name(struct slice name)
{
    for (size_t i = 0; i < name.size; i++)
        if (!isalnum(name.data[i]) && strchr(".-_", name.data[i]) == NULL)
            return false;
    return name.size > 0;
}

static bool is_plain_value(struct slice value)
{
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] < ' ' || value.data[i] > '~')
            return false;
    return true;
}

/* "grpc-metadata-x" as Go writes it: "Grpc-Metadata-X". */
static void put_canonical(struct buf *out, struct slice name)
{
    bool upper = true;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = (uint8_t)(upper ? toupper(name.data[i]) : tolower(name.data[i]));
        (void)buf_append(out, &c, 1);
        upper = name.data[i] == '-';
    }
}

/* Where Go finds that the value is no base64, as it counts; -1: it is. */
static int64_t base64_error_at(struct slice value)
{
    struct buf bytes;
    buf_init(&bytes, SIZE_MAX);
    struct buf padded;
    buf_init(&padded, SIZE_MAX);
    (void)buf_append(&padded, value.data, value.size);
    while (padded.size % 4 != 0)
        (void)buf_append(&padded, "=", 1);
    int err = base64_decode(buf_slice(&padded), BASE64_STANDARD, &bytes);
    buf_fini(&bytes);
    buf_fini(&padded);
    if (err == 0)
        return -1;
    for (size_t i = 0; i < value.size; i++)
        if (!isalnum(value.data[i]) && value.data[i] != '+' && value.data[i] != '/')
            return (int64_t)i;
    return (int64_t)value.size;
}

static bool ends_with(struct slice s, const char *end)
{
    size_t size = strlen(end);
    return s.size >= size && memcmp(s.data + s.size - size, end, size) == 0;
}

/* False, and `err` says why: the request is refused for it. */
static bool take_header(struct gateway_metadata *md, struct slice name, struct slice value,
                        struct buf *err)
{
    static const char prefix[] = "Grpc-Metadata-";
    enum { PREFIX_SIZE = sizeof(prefix) - 1 };
    if (equal_nocase(name, "Authorization"))
        gateway_metadata_add(md, "", name, value);
    bool own =
        name.size > PREFIX_SIZE && strncasecmp((const char *)name.data, prefix, PREFIX_SIZE) == 0;
    if (!own && !is_handed_on(name))
        return true;
    if (!is_plain_name(name))
        return true;
    if (own && (ends_with(name, "-bin") || ends_with(name, "-Bin") || ends_with(name, "-BIN"))) {
        int64_t at = base64_error_at(value);
        if (at >= 0) {
            char text[80];
            (void)buf_append(err, "invalid binary header ", 22);
            put_canonical(err, name);
            int size = snprintf(text, sizeof(text), ": illegal base64 data at input byte %lld",
                                (long long)at);
            (void)buf_append(err, text, (size_t)size);
            return false;
        }
    } else if (!is_plain_value(value)) {
        return true;
    }
    if (own)
        name = slice_of(name.data + PREFIX_SIZE, name.size - PREFIX_SIZE);
    gateway_metadata_add(md, own ? "" : "grpcgateway-", name, value);
    return true;
}

static bool parse_timeout(struct slice text, uint64_t *ret_ns, bool *ret_is_late)
{
    enum { DIGITS_MAX = 18 };
    uint64_t unit = text.size < 2 ? 0 : grpc_timeout_unit_ns(text.data[text.size - 1]);
    bool negative = text.size > 0 && text.data[0] == '-';
    size_t at = negative || (text.size > 0 && text.data[0] == '+') ? 1 : 0;
    if (unit == 0 || at + 1 >= text.size || text.size - at - 1 > DIGITS_MAX)
        return false;
    uint64_t n = 0;
    for (; at + 1 < text.size; at++) {
        if (!isdigit(text.data[at]))
            return false;
        n = n * 10 + (text.data[at] - '0');
    }
    *ret_is_late = negative && n > 0;
    *ret_ns = n > INT64_MAX / unit ? INT64_MAX : n * unit;
    return true;
}

static bool take_headers(struct gateway_metadata *md, const struct http1_request *req,
                         struct buf *err)
{
    struct slice rest = req->headers, name, value;
    struct slice timeout = http1_header(req, "grpc-timeout");
    if (timeout.size > 0 && !parse_timeout(timeout, &md->timeout_ns, &md->is_late)) {
        (void)buf_append(err, "invalid grpc-timeout: ", 22);
        (void)buf_append(err, timeout.data, timeout.size);
        return false;
    }
    while (http1_next_header(&rest, &name, &value))
        if (!take_header(md, name, value, err))
            return false;
    return true;
}

/* By WebSocket only these go on. */
static void take_ws_headers(struct gateway_metadata *md, const struct http1_request *req)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    struct slice authorization = gateway_ws_authorization(req, &text);
    static const char *const names[] = {"origin", "referer"};
    if (authorization.data != NULL) {
        gateway_metadata_add(md, "", SLICE_LITERAL("authorization"), authorization);
        gateway_metadata_add(md, "grpcgateway-", SLICE_LITERAL("authorization"), authorization);
    }
    for (size_t i = 0; i < 2; i++) {
        struct slice value = http1_header(req, names[i]);
        if (value.data != NULL && is_plain_value(value))
            gateway_metadata_add(md, "grpcgateway-", slice_of_string(names[i]), value);
    }
    buf_fini(&text);
}

/* --- a request --- */

static void fail_route(struct gateway_call *c, bool known)
{
    if (known)
        gateway_call_fail(c, GRPC_UNIMPLEMENTED, SLICE_LITERAL("Method Not Allowed"));
    else
        gateway_call_fail(c, GRPC_NOT_FOUND, SLICE_LITERAL("Not Found"));
}

static void fail_late(struct gateway_call *c)
{
    gateway_call_fail(c, GRPC_DEADLINE_EXCEEDED, SLICE_LITERAL("context deadline exceeded"));
}

/* The requests end with the first that is none, and nobody is told, as in etcd. */
static void start_stream(struct gateway_call *c, const struct gateway_metadata *md,
                         struct slice body)
{
    struct slice value;
    struct buf err;
    buf_init(&err, SIZE_MAX);
    gateway_call_start(c, md);
    while (json_next_value(&body, &value, &err) == JSON_VALUE && gateway_call_send(c, value, &err))
        continue;
    grpc_local_half_close(c->local);
    buf_fini(&err);
}

static void start_unary(struct gateway_call *c, const struct gateway_metadata *md,
                        struct slice body)
{
    struct slice value;
    struct buf err, framed;
    buf_init(&err, SIZE_MAX);
    buf_init(&framed, SIZE_MAX);
    c->has_metadata = true;
    int rv = json_next_value(&body, &value, &err);
    if (rv == JSON_NOTHING)
        value = SLICE_LITERAL("{}");
    bool ok =
        (rv == JSON_NOTHING || rv == JSON_VALUE) && gateway_call_read(c, value, &framed, &err);
    if (ok && md->is_late) {
        fail_late(c);
    } else if (ok) {
        gateway_call_start(c, md);
        grpc_local_send(c->local, framed.data, framed.size);
        grpc_local_half_close(c->local);
    } else {
        gateway_call_fail(c, GRPC_INVALID_ARGUMENT, buf_slice(&err));
    }
    buf_fini(&framed);
    buf_fini(&err);
}

static void serve(struct gateway_call *c, const struct http1_request *req, struct slice body,
                  struct gateway_metadata *md)
{
    struct buf err;
    buf_init(&err, SIZE_MAX);
    if (c->ws != NULL)
        take_ws_headers(md, req);
    if (c->ws == NULL && !take_headers(md, req, &err))
        gateway_call_fail(c, GRPC_INVALID_ARGUMENT, buf_slice(&err));
    else if (c->ws != NULL)
        gateway_ws_begin(c, md);
    else if (c->method->client_streaming && md->is_late)
        fail_late(c);
    else if (c->method->client_streaming)
        start_stream(c, md, body);
    else
        start_unary(c, md, body);
    buf_fini(&err);
}

void gateway_serve(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                   struct worker *w)
{
    const struct route *route = find_route(path);
    struct slice method = req->method, body = req->body;
    struct gateway_ws *ws = NULL;
    if (gateway_ws_is_wanted(req)) {
        ws = gateway_ws_open(x, req, w->http_body_bytes_max);
        if (ws == NULL)
            return;
        method = SLICE_LITERAL("POST");
    } else if (slice_equal(method, SLICE_LITERAL("POST")) &&
               http1_header(req, "x-http-method-override").size > 0 &&
               slice_equal(http1_header(req, "content-type"),
                           SLICE_LITERAL("application/x-www-form-urlencoded"))) {
        /* What Go's parser of forms makes of it: the body is read, and gone. */
        method = http1_header(req, "x-http-method-override");
        body = SLICE_EMPTY;
    }
    struct gateway_call *c = gateway_call_new(x, req, w, ws);
    bool is_post = equal_nocase(method, "POST");
    c->method = route == NULL ? NULL : find_method(w, route);
    if (c->method == NULL || !is_post) {
        fail_route(c, c->method != NULL);
        return;
    }
    c->desc = protobuf_c_service_descriptor_get_method_by_name(route->service, route->method);
    ASSERT(c->desc != NULL);
    struct gateway_metadata md;
    gateway_metadata_init(&md);
    (void)buf_reserve(&md.names, 3 * req->headers.size + 4096);
    serve(c, req, body, &md);
    gateway_metadata_fini(&md);
}

/* The client that the global flags describe, and calls in etcdctl's manner. */
#include "frame.h"

#include "base/mem.h"
#include "base/srv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    NS_PER_MS = 1000000,
    KEEPALIVE_MS_MIN = 5000, /* libtrivet's; etcdctl raises it to 10 s as well */
    REQUEST_BYTES_MAX = 2 * 1024 * 1024,
    RESPONSE_BYTES_MAX = INT32_MAX,
};

static const uint64_t FOR_EVER_MS = UINT64_C(10) * 365 * 24 * 3600 * 1000;

/* --- errors --- */

static const char *code_name(int32_t code)
{
    static const char *const names[] = {
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    };
    return code >= 0 && (size_t)code < sizeof(names) / sizeof(names[0]) ? names[code] : "Unknown";
}

/* The server's errors are told as they are, a time that is up as Go tells it, others as gRPC's. */
static const char *error_text(int status, int32_t code, const char *error)
{
    enum { CODE_CANCELED = 1, CODE_DEADLINE = 4 };
    if (status == TRIVET_DEADLINE || status == TRIVET_UNAVAILABLE || code == CODE_DEADLINE)
        return "context deadline exceeded";
    if (status == TRIVET_CANCELED || code == CODE_CANCELED)
        return "context canceled";
    if (code == 0 || strncmp(error, "etcdserver:", strlen("etcdserver:")) == 0)
        return error;
    return ctl_sprintf("rpc error: code = %s desc = %s", code_name(code), error);
}

const char *ctl_error(const struct trivet_result *r)
{
    return error_text(r->status, r->code, r->error);
}

const char *ctl_watch_error(const struct trivet_watch_message *m)
{
    if (m->status == TRIVET_COMPACTED)
        return "etcdserver: mvcc: required revision has been compacted";
    if (m->status == TRIVET_REFUSED && m->error[0] != '\0')
        return m->error; /* the server's reason, which names a code if there is one */
    return error_text(m->status, m->code, m->error);
}

/* etcdctl asks for a token when it connects, which has a status of its own. */
static bool was_connecting(struct ctl *c, const struct trivet_result *r)
{
    static const char refused[] = "etcdserver: authentication failed, invalid user ID or password";
    if (ctl_text(c, "user")[0] == '\0')
        return false;
    struct trivet_metrics m;
    trivet_metrics(c->client, &m);
    return m.tokens == 0 && (strcmp(r->error, refused) == 0 || r->status == TRIVET_DEADLINE ||
                             r->status == TRIVET_UNAVAILABLE);
}

int ctl_status_of(struct ctl *c, const struct trivet_result *r, int status)
{
    return was_connecting(c, r) ? CTL_BAD_CONNECTION : status;
}

void ctl_fail_call(struct ctl *c, int status, const struct trivet_result *r)
{
    ctl_fail(c, ctl_status_of(c, r, status), "%s", ctl_error(r));
}

/* --- the client --- */

static const char *file_flag(struct ctl *c, const char *name)
{
    const char *file = ctl_text(c, name);
    if (*file == '\0' && ctl_given(c, name))
        ctl_fail(c, CTL_BAD_ARGS, "empty string is passed to --%s option", name);
    if (*file == '\0')
        return NULL;
    if (access(file, R_OK) != 0)
        ctl_fail(c, CTL_BAD_ARGS, "open %s: %s", file, ctl_strerror(errno));
    return file;
}

static const char *trimmed(char *text)
{
    text += strspn(text, " \t\n");
    size_t size = strlen(text);
    while (size > 0 && strchr(" \t\n", text[size - 1]) != NULL)
        size--;
    text[size] = '\0';
    return text;
}

void ctl_user(const char *user, const char *password, const char *prompt,
              struct trivet_options *ret)
{
    const char *colon = strchr(user, ':');
    if (*user == '\0')
        return;
    ret->user = user;
    ret->password = password;
    if (*password != '\0')
        return;
    if (colon == NULL) {
        ret->password = ctl_ask_secret(prompt);
        return;
    }
    ret->user = ctl_copy(trivet_bytes(user, (size_t)(colon - user)));
    ret->password = colon + 1;
}

static void set_security(struct ctl *c, struct trivet_options *o)
{
    o->cert_file = file_flag(c, "cert");
    o->key_file = file_flag(c, "key");
    o->ca_file = file_flag(c, "cacert");
    o->insecure_skip_verify = ctl_bool(c, "insecure-skip-tls-verify");
    const char *token = ctl_text(c, "auth-jwt-token");
    if (*token != '\0')
        o->token = token;
    else
        ctl_user(ctl_text(c, "user"), ctl_text(c, "password"), "Password: ", o);
}

const char *ctl_endpoint(const struct ctl *c, const char *endpoint)
{
    bool secure = !ctl_bool(c, "insecure-transport");
    return secure && strstr(endpoint, "://") == NULL ? ctl_sprintf("https://%s", endpoint)
                                                     : endpoint;
}

static uint64_t milliseconds(uint64_t ns)
{
    return ns / NS_PER_MS + (ns % NS_PER_MS != 0);
}

void ctl_options(struct ctl *c, struct trivet_options *ret)
{
    uint32_t count;
    trivet_options_init(ret);
    char **given = ctl_seeds(c, &count);
    const char **endpoints = mem_alloc((count + 1) * sizeof(endpoints[0]));
    set_security(c, ret);
    for (uint32_t i = 0; i < count; i++)
        endpoints[i] = ctl_endpoint(c, given[i]);
    ret->endpoints = endpoints;
    ret->endpoints_count = count;
    ret->connect_timeout_ms = milliseconds(ctl_duration_ns(c, "dial-timeout"));
    uint64_t keepalive_ms = milliseconds(ctl_duration_ns(c, "keepalive-time"));
    ret->keepalive_ms =
        keepalive_ms == 0 || keepalive_ms > KEEPALIVE_MS_MIN ? keepalive_ms : KEEPALIVE_MS_MIN;
    ret->keepalive_timeout_ms = milliseconds(ctl_duration_ns(c, "keepalive-timeout"));
    int64_t response = ctl_int(c, "max-recv-bytes");
    ret->response_bytes_max =
        response > 0 && response < RESPONSE_BYTES_MAX ? (uint64_t)response : RESPONSE_BYTES_MAX;
    ret->bytes_max = UINT64_MAX;
    if (c->format_bad)
        ctl_fail(c, CTL_BAD_FEATURE, "unsupported output format");
}

struct trivet_client *ctl_open(struct ctl *c, const struct trivet_options *o)
{
    char why[4096];
    struct trivet_client *client;
    if (trivet_open(o, &client, why, sizeof(why)) != TRIVET_OK)
        ctl_fail(c, CTL_BAD_ARGS, "%s", why);
    return client;
}

struct trivet_client *ctl_client(struct ctl *c)
{
    if (c->client == NULL) {
        struct trivet_options o;
        ctl_options(c, &o);
        c->client = ctl_open(c, &o);
    }
    return c->client;
}

/* --- endpoints --- */

/* What the records of one service name, behind those that are there. */
static void add_service(const char *domain, const char *service, const char *suffix,
                        const char *scheme, char ***found, uint32_t *count, char *why,
                        size_t why_size)
{
    struct srv_record records[SRV_RECORDS_MAX];
    const char *name = *suffix == '\0' ? service : ctl_sprintf("%s-%s", service, suffix);
    int n = srv_look_up(name, domain, records, why, why_size);
    if (n <= 0)
        return;
    *found = mem_realloc(*found, (*count + (uint32_t)n + 1) * sizeof((*found)[0]));
    for (int i = 0; i < n; i++)
        (*found)[(*count)++] =
            ctl_sprintf("%s://%s:%u", scheme, records[i].target, records[i].port);
}

/* NULL: no domain is given. */
static char **discovered(struct ctl *c, uint32_t *ret_count)
{
    const char *domain = ctl_text(c, "discovery-srv");
    const char *suffix = ctl_text(c, "discovery-srv-name");
    char why[512] = "", why_secure[512] = "";
    char **found = NULL;
    uint32_t count = 0, kept = 0;
    if (*domain == '\0')
        return NULL;
    add_service(domain, "etcd-client-ssl", suffix, "https", &found, &count, why_secure,
                sizeof(why_secure));
    add_service(domain, "etcd-client", suffix, "http", &found, &count, why, sizeof(why));
    if (count == 0)
        ctl_fail(c, CTL_ERROR, "%s, %s", why_secure, why);
    for (uint32_t i = 0; i < count; i++) {
        if (!ctl_bool(c, "insecure-discovery") && strncmp(found[i], "http://", 7) == 0)
            fprintf(stderr, "ignoring discovered insecure endpoint \"%s\"\n", found[i]);
        else
            found[kept++] = found[i];
    }
    *ret_count = kept;
    return found;
}

char **ctl_seeds(struct ctl *c, uint32_t *ret_count)
{
    if (c->endpoints != NULL) {
        *ret_count = c->endpoints_count;
        return c->endpoints;
    }
    char **found = discovered(c, ret_count);
    if (found == NULL || *ret_count == 0) {
        found = ctl_strings(c, "endpoints", ret_count);
        for (uint32_t i = 0; i < *ret_count; i++)
            found[i] = (char *)trimmed(found[i]);
    }
    c->endpoints = found;
    c->endpoints_count = *ret_count;
    return found;
}

/* The client URLs of all members. */
static char **member_endpoints(struct ctl *c, uint32_t *ret_count)
{
    struct trivet_request q = {.method = TRIVET_MEMBER_LIST, .u.member.linearizable = true};
    struct trivet_result r;
    if (ctl_try(c, &q, NULL, c->command_timeout_ns, &r) != TRIVET_OK)
        ctl_fail(c, CTL_ERROR, "failed to fetch endpoints from etcd cluster member list: %s",
                 ctl_error(&r));
    uint32_t count = 0;
    for (uint32_t i = 0; i < r.u.member.members_count; i++)
        count += r.u.member.members[i].client_urls_count;
    char **urls = mem_alloc((count + 1) * sizeof(urls[0]));
    count = 0;
    for (uint32_t i = 0; i < r.u.member.members_count; i++) {
        const struct trivet_member *m = &r.u.member.members[i];
        for (uint32_t j = 0; j < m->client_urls_count; j++)
            urls[count++] = ctl_copy(m->client_urls[j]);
    }
    trivet_result_clear(&r);
    *ret_count = count;
    return urls;
}

char **ctl_endpoints(struct ctl *c, uint32_t *ret_count)
{
    if (!ctl_bool(c, "cluster"))
        return ctl_seeds(c, ret_count);
    char **urls = member_endpoints(c, ret_count);
    trivet_close(c->client);
    c->client = NULL;
    c->endpoints = urls;
    c->endpoints_count = *ret_count;
    return urls;
}

/* --- calls --- */

/* What a put takes as a message, and how much less others do. */
static uint64_t request_size(const struct trivet_request *q)
{
    enum { FIELD_BYTES = 5 };
    uint64_t size = 0;
    if (q->method == TRIVET_PUT) {
        struct doc d;
        doc_init(&d);
        doc_bytes(&d, NULL, 1, q->u.put.key);
        doc_bytes(&d, NULL, 2, q->u.put.value);
        doc_int(&d, NULL, 3, q->u.put.lease);
        doc_bool(&d, NULL, 4, q->u.put.prev_kv);
        doc_bool(&d, NULL, 5, q->u.put.ignore_value);
        doc_bool(&d, NULL, 6, q->u.put.ignore_lease);
        size = doc_protobuf_size(&d);
        doc_fini(&d);
    } else if (q->method == TRIVET_TXN) {
        const struct trivet_txn_request *t = &q->u.txn;
        for (uint32_t i = 0; i < t->success_count; i++)
            size += request_size(&t->success[i]) + FIELD_BYTES;
        for (uint32_t i = 0; i < t->failure_count; i++)
            size += request_size(&t->failure[i]) + FIELD_BYTES;
    }
    return size;
}

static void check_size(struct ctl *c, const struct trivet_request *q)
{
    int64_t given = ctl_int(c, "max-request-bytes");
    uint64_t max = given > 0 ? (uint64_t)given : REQUEST_BYTES_MAX, size = request_size(q);
    if (size > max)
        ctl_fail(c, CTL_ERROR,
                 "rpc error: code = ResourceExhausted desc = trying to send message larger than "
                 "max (%llu vs. %llu)",
                 (unsigned long long)size, (unsigned long long)max);
}

int ctl_try(struct ctl *c, const struct trivet_request *q, const char *endpoint,
            uint64_t timeout_ns, struct trivet_result *r)
{
    struct trivet_client *client = ctl_client(c);
    if (timeout_ns > 0 && timeout_ns < NS_PER_MS) { /* it is up before anything is sent */
        *r = (struct trivet_result){.status = TRIVET_DEADLINE, .method = q->method, .error = ""};
        return r->status;
    }
    struct trivet_call_options o = {.timeout_ms =
                                        timeout_ns == 0 ? FOR_EVER_MS : milliseconds(timeout_ns)};
    if (endpoint != NULL)
        o.endpoint = ctl_endpoint(c, endpoint);
    return trivet_call(client, q, &o, r);
}

void ctl_call(struct ctl *c, const struct trivet_request *q, struct trivet_result *r)
{
    check_size(c, q);
    if (ctl_try(c, q, NULL, c->command_timeout_ns, r) != TRIVET_OK)
        ctl_fail_call(c, CTL_ERROR, r);
}

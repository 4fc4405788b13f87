/* Who makes a call, and whether he may: what every service asks. With auth off each of these is a
 * load and a branch. */
#include "server/services.h"

#include "server/auth_check.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

enum {
    HELD_MAX = 1024, /* calls of a worker that wait for their token's entry */
    HELD_MS_MAX = 7000,
};

static struct auth *auth_of(const struct grpc_call *call)
{
    return &service_worker(call)->node->applier.auth;
}

/* --- who --- */

/* The common name of the certificate that the client has shown and that was verified, when
 * --client-cert-auth asks for one; NULL when there is none. */
static const char *certificate_name(const struct grpc_call *call)
{
    return service_worker(call)->node->config->client_tls.client_cert_auth
               ? grpc_conn_peer_cn(grpc_call_conn(call))
               : NULL;
}

static struct slice token_of(const struct grpc_call *call)
{
    struct slice token = grpc_call_metadata(call, "token");
    if (token.data == NULL)
        token = grpc_call_metadata(call, "authorization");
    struct slice bearer = SLICE_LITERAL("Bearer ");
    if (token.data != NULL && slice_starts_with(token, bearer))
        token = slice_of(token.data + bearer.size, token.size - bearer.size);
    return token;
}

int auth_user_of_call(struct grpc_call *call, const char *common_name, struct auth_caller *ret)
{
    struct worker *w = service_worker(call);
    *ret = (struct auth_caller){0};
    if (!auth_is_enabled(auth_of(call)))
        return 0;
    struct slice token = token_of(call);
    uint64_t revision = auth_revision(auth_of(call));
    if (token.data != NULL) {
        if (w->node->applier.tokens == NULL)
            return TV_INVALID_AUTH_TOKEN;
        uint64_t claimed;
        int err = auth_tokens_identify(w->node->applier.tokens, token, clock_mono_ns() / 1000000,
                                       clock_wall_us() / 1000000, &w->caller, &claimed);
        if (err != 0)
            return err;
        if (auth_tokens_kind(w->node->applier.tokens) == AUTH_TOKEN_JWT)
            revision = claimed;
    } else if (common_name != NULL && grpc_call_metadata(call, "grpcgateway-accept").data == NULL) {
        buf_clear(&w->caller);
        (void)buf_append(&w->caller, common_name, strlen(common_name));
    } else {
        return 0;
    }
    *ret = (struct auth_caller){.known = true, .name = buf_slice(&w->caller), .revision = revision};
    return 0;
}

int service_caller(struct grpc_call *call, struct auth_caller *ret)
{
    return auth_user_of_call(call, certificate_name(call), ret);
}

/* --- may he --- */

bool service_lacks_user(struct grpc_call *call)
{
    struct auth_caller caller;
    if (!auth_is_enabled(auth_of(call)))
        return false;
    int err = service_caller(call, &caller);
    if (err == 0 && !caller.known)
        err = TV_USER_EMPTY;
    if (err != 0)
        worker_fail(call, err);
    return err != 0;
}

bool service_lacks_root(struct grpc_call *call)
{
    struct worker *w = service_worker(call);
    struct auth_caller caller;
    if (!auth_is_enabled(auth_of(call)))
        return false;
    int err = service_caller(call, &caller);
    if (err == 0) {
        epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
        err = auth_check_root(auth_view(auth_of(call)), caller.name);
        epoch_leave(w->reader);
    }
    if (err != 0)
        worker_fail(call, err);
    return err != 0;
}

int service_permit_range(struct grpc_call *call, struct slice key, struct slice range_end,
                         uint64_t *ret_revision)
{
    struct auth_caller caller;
    *ret_revision = 0;
    if (!auth_is_enabled(auth_of(call)))
        return 0;
    int err = service_caller(call, &caller);
    *ret_revision = caller.revision;
    return err != 0 ? err
                    : auth_check(auth_view(auth_of(call)), &caller, key, range_end, AUTH_READ);
}

int service_permit_txn(struct grpc_call *call, const struct wire_txn *txn, uint64_t *ret_revision)
{
    struct auth_caller caller;
    *ret_revision = 0;
    if (!auth_is_enabled(auth_of(call)))
        return 0;
    int err = service_caller(call, &caller);
    *ret_revision = caller.revision;
    return err != 0 ? err : auth_check_txn(auth_view(auth_of(call)), &caller, NULL, txn);
}

int service_permit_still(struct grpc_call *call, uint64_t revision)
{
    bool stale = revision != 0 && revision != auth_revision(auth_of(call));
    return stale ? TV_AUTH_OLD_REVISION : 0;
}

int service_permit_watch(void *ctx, struct grpc_call *call, struct slice key,
                         struct slice range_end)
{
    struct worker *w = ctx;
    uint64_t revision;
    if (!auth_is_enabled(auth_of(call)))
        return 0;
    epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
    int err = service_permit_range(call, key, range_end, &revision);
    epoch_leave(w->reader);
    return err;
}

int service_sign_request(struct grpc_call *call, struct request *req)
{
    struct auth_caller caller;
    if (!auth_is_enabled(auth_of(call)))
        return 0;
    int err = service_caller(call, &caller);
    if (err != 0 || !caller.known)
        return err != 0 ? err : TV_USER_EMPTY;
    req->payload = bref_new(caller.name.size + 1);
    if (caller.name.size > 0)
        memcpy(req->payload->data, caller.name.data, caller.name.size);
    req->payload_size = (uint32_t)caller.name.size;
    req->auth_revision = caller.revision;
    return 0;
}

/* --- a token of which this member has not heard yet ---
 *
 * It says by which entry of the log it was given out. A client that got it from another member and
 * shows it here at once is not sent away: its message waits until that entry is applied. */

struct held {
    struct list link;
    struct grpc_call *call;
    uint64_t log_index;
    uint64_t deadline_ms;
    bool streaming;
    size_t msg_size;
    uint8_t msg[];
};

static uint64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

static uint64_t applied_index(const struct worker *w)
{
    struct core_status s;
    core_status(w->node->core, &s);
    return s.applied_index;
}

/* Who asks for a token, or for health, is not asked for one. */
static bool takes_tokens(const struct grpc_method *m)
{
    struct slice path = slice_of_string(m->path);
    return !slice_starts_with(path, SLICE_LITERAL("/grpc.")) &&
           !slice_equal(path, SLICE_LITERAL("/etcdserverpb.Auth/Authenticate"));
}

bool service_holds(struct grpc_call *call, struct slice msg)
{
    struct worker *w = service_worker(call);
    struct auth_tokens *tokens = w->node->applier.tokens;
    struct slice token = token_of(call);
    if (tokens == NULL || token.data == NULL || w->held_count == HELD_MAX ||
        !takes_tokens(grpc_call_method(call)))
        return false;
    uint64_t log_index = auth_tokens_index(tokens, token);
    if (log_index <= applied_index(w))
        return false;
    struct held *h = mem_alloc(sizeof(*h) + msg.size);
    *h = (struct held){.call = call,
                       .log_index = log_index,
                       .deadline_ms = now_ms() + HELD_MS_MAX,
                       .streaming = grpc_call_method(call)->client_streaming,
                       .msg_size = msg.size};
    if (msg.size > 0)
        memcpy(h->msg, msg.data, msg.size);
    list_init(&h->link);
    list_push_back(&w->held, &h->link);
    w->held_count++;
    if (h->streaming)
        grpc_call_pause_reading(call);
    return true;
}

static void held_free(struct worker *w, struct held *h)
{
    list_remove(&h->link);
    w->held_count--;
    mem_free(h);
}

void service_held_closed(struct grpc_call *call)
{
    struct worker *w = service_worker(call);
    LIST_EACH_SAFE (it, after, &w->held) {
        struct held *h = CONTAINER_OF(it, struct held, link);
        if (h->call == call)
            held_free(w, h);
    }
}

/* The one that has waited longest and need not any more; NULL. */
static struct held *next_held(struct worker *w)
{
    uint64_t now = now_ms(), applied = applied_index(w);
    bool enabled = auth_is_enabled(&w->node->applier.auth);
    LIST_EACH (it, &w->held) {
        struct held *h = CONTAINER_OF(it, struct held, link);
        if (!enabled || h->log_index <= applied || h->deadline_ms <= now)
            return h;
    }
    return NULL;
}

void service_release_held(struct worker *w)
{
    struct held *h;
    while ((h = next_held(w)) != NULL) {
        /* Out of the list first: what it is given to may end the call. */
        list_remove(&h->link);
        if (h->streaming)
            grpc_call_resume_reading(h->call);
        services_deliver(h->call, slice_of(h->msg, h->msg_size));
        held_free(w, h);
    }
}

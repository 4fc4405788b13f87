/* etcdserverpb.Auth. All of it goes through the log, questions included, as in etcd; what is asked
 * and who may ask is looked at when it is applied (apply_auth.c).
 *
 * A password never leaves this file: it is hashed here, and compared with the stored hash here. To
 * authenticate is four steps: a barrier, so that what is known here is as new as the question; the
 * comparison; an entry that has all members learn the token; and, when auth has changed since the
 * comparison, all of it again. */
#include "server/services.h"

#include "server/auth_request.h"
#include "server/node.h"
#include "server/password.h"
#include "server/svc_password.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <openssl/crypto.h>
#include <string.h>

/* --- what goes on the log as it came --- */

static uint32_t kind_of(const struct grpc_call *call)
{
    static const struct {
        const char *method;
        uint32_t kind;
    } kinds[] = {
        {"AuthEnable", WIRE_RAFT_AUTH_ENABLE},
        {"AuthDisable", WIRE_RAFT_AUTH_DISABLE},
        {"AuthStatus", WIRE_RAFT_AUTH_STATUS},
        {"Authenticate", WIRE_RAFT_AUTHENTICATE},
        {"UserAdd", WIRE_RAFT_USER_ADD},
        {"UserGet", WIRE_RAFT_USER_GET},
        {"UserList", WIRE_RAFT_USER_LIST},
        {"UserDelete", WIRE_RAFT_USER_DELETE},
        {"UserChangePassword", WIRE_RAFT_USER_CHANGE_PASSWORD},
        {"UserGrantRole", WIRE_RAFT_USER_GRANT_ROLE},
        {"UserRevokeRole", WIRE_RAFT_USER_REVOKE_ROLE},
        {"RoleAdd", WIRE_RAFT_ROLE_ADD},
        {"RoleGet", WIRE_RAFT_ROLE_GET},
        {"RoleList", WIRE_RAFT_ROLE_LIST},
        {"RoleDelete", WIRE_RAFT_ROLE_DELETE},
        {"RoleGrantPermission", WIRE_RAFT_ROLE_GRANT_PERMISSION},
        {"RoleRevokePermission", WIRE_RAFT_ROLE_REVOKE_PERMISSION},
    };
    const char *name = strrchr(grpc_call_method(call)->path, '/') + 1;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].method, name) == 0)
            return kinds[i].kind;
    ASSERT(false);
    return WIRE_RAFT_NONE;
}

/* False: the call is refused. */
static bool decode(struct grpc_call *call, struct slice msg, struct auth_request *ret)
{
    int err = auth_request_decode(kind_of(call), msg, ret);
    if (err == TV_EINVAL)
        grpc_finish(call, GRPC_INTERNAL,
                    "grpc: error unmarshalling request: string field contains invalid UTF-8");
    else if (err != 0)
        service_malformed(call);
    return err == 0 && !service_refused(call);
}

static void on_logged(struct grpc_call *call, struct slice msg)
{
    struct auth_request r;
    if (decode(call, msg, &r))
        service_propose(call, kind_of(call), msg, false);
}

const struct grpc_call_ops auth_log_ops = {.message = on_logged, .closed = worker_call_closed};

/* --- a call that has something done about a password --- */

struct attempt {
    struct call_tie tie;
    struct password_job job;
    struct grpc_call *call; /* NULL: it ended */
    uint32_t kind;
    struct auth_request r; /* its slices point into `msg` */
    struct buf hash;       /* the stored one; or the one to be stored */
    struct buf token;
    uint64_t revision; /* of auth, when the hash was looked up */
    int err;
    size_t msg_size;
    uint8_t msg[];
};

static void attempt_free(struct attempt *a)
{
    OPENSSL_cleanse(a->msg, a->msg_size);
    buf_fini(&a->hash);
    buf_fini(&a->token);
    mem_free(a);
}

/* What is under way comes back and finds no call. */
static void on_attempt_closed(struct call_tie *tie)
{
    struct attempt *a = CONTAINER_OF(tie, struct attempt, tie);
    a->call = NULL;
    if (password_job_cancel(&a->job))
        attempt_free(a);
}

static struct attempt *attempt_new(struct grpc_call *call, struct slice msg)
{
    struct attempt *a = mem_alloc_zero(sizeof(*a) + msg.size);
    a->tie.closed = on_attempt_closed;
    a->call = call;
    a->kind = kind_of(call);
    a->msg_size = msg.size;
    if (msg.size > 0)
        memcpy(a->msg, msg.data, msg.size);
    int err = auth_request_decode(a->kind, slice_of(a->msg, a->msg_size), &a->r);
    ASSERT(err == 0); /* it was decoded before */
    buf_init(&a->hash, SIZE_MAX);
    buf_init(&a->token, SIZE_MAX);
    password_job_init(&a->job, service_worker(call));
    grpc_call_set_user(call, &a->tie);
    return a;
}

/* The call, when it is there still; the attempt is over. */
static struct grpc_call *attempt_end(struct attempt *a)
{
    struct grpc_call *call = a->call;
    if (call != NULL)
        grpc_call_set_user(call, NULL);
    attempt_free(a);
    return call;
}

static void attempt_fail(struct attempt *a, int err)
{
    struct grpc_call *call = attempt_end(a);
    if (call != NULL)
        worker_fail(call, err);
}

static void attempt_work(struct attempt *a, void (*run)(struct password_job *job),
                         void (*done)(struct password_job *job))
{
    int err = password_job_start(&a->job, run, done);
    if (err != 0)
        attempt_fail(a, err);
}

/* --- UserAdd, UserChangePassword --- */

static void run_hash(struct password_job *job)
{
    struct attempt *a = CONTAINER_OF(job, struct attempt, job);
    char hash[PASSWORD_HASH_BYTES];
    a->err = password_hash(a->r.password, job->worker->node->config->bcrypt_cost, hash);
    if (a->err == 0)
        base64_encode(slice_of(hash, sizeof(hash)), BASE64_STANDARD, &a->hash);
}

static void propose_password(struct grpc_call *call, uint32_t kind, const struct auth_request *r)
{
    struct buf body;
    buf_init(&body, SIZE_MAX);
    size_t size = auth_request_size(kind, r);
    (void)auth_request_put(buf_reserve(&body, size), kind, r);
    service_propose(call, kind, slice_of(body.data, size), false);
    buf_fini(&body);
}

static void on_hashed(struct password_job *job)
{
    struct attempt *a = CONTAINER_OF(job, struct attempt, job);
    if (a->err != 0 || a->call == NULL) {
        attempt_fail(a, a->err);
        return;
    }
    a->r.hashed_password = buf_slice(&a->hash);
    grpc_call_set_user(a->call, NULL);
    propose_password(a->call, a->kind, &a->r);
    attempt_free(a);
}

static void on_password(struct grpc_call *call, struct slice msg)
{
    struct auth_request r;
    if (!decode(call, msg, &r))
        return;
    uint32_t kind = kind_of(call);
    bool hashed = kind == WIRE_RAFT_USER_ADD ? !r.no_password : r.password.size > 0;
    int err = hashed ? password_validate(r.password) : 0;
    if (err != 0)
        worker_fail(call, err);
    else if (service_lacks_root(call))
        return; /* said when it would be applied, too, but hashing costs much */
    else if (hashed)
        attempt_work(attempt_new(call, msg), run_hash, on_hashed);
    else
        propose_password(call, kind, &r);
}

const struct grpc_call_ops auth_password_ops = {.message = on_password,
                                                .closed = worker_call_closed};

/* --- Authenticate --- */

static void compare(struct attempt *a);

/* AuthenticateResponse: 1 header, 2 token. */
static void reply_token(struct attempt *a)
{
    struct worker *w = a->job.worker;
    struct wire_header h = worker_header(w, mvcc_revision(w->node->mvcc));
    uint8_t head[128], *p = wire_header_put(head, &h);
    p = wire_item_put_head(p, 2, a->token.size);
    (void)grpc_reply(a->call, (struct slice[]){{head, (size_t)(p - head)}, buf_slice(&a->token)},
                     2);
    (void)attempt_end(a);
}

static void run_sign(struct password_job *job)
{
    struct attempt *a = CONTAINER_OF(job, struct attempt, job);
    a->err = auth_tokens_sign(job->worker->node->applier.tokens, a->r.name, a->revision,
                              clock_wall_us() / 1000000, &a->token);
}

static void on_signed(struct password_job *job)
{
    struct attempt *a = CONTAINER_OF(job, struct attempt, job);
    if (a->err != 0 || a->call == NULL)
        attempt_fail(a, a->err);
    else
        reply_token(a);
}

static void on_token_given(struct worker *w, struct request *req)
{
    struct attempt *a = req->user;
    int err = req->err;
    struct slice reply = slice_of(request_reply_bytes(req), req->reply_size);
    if (err != 0 || a->call == NULL) {
        attempt_fail(a, err);
    } else if (a->revision != auth_revision(&w->node->applier.auth)) {
        log_info("revision when password checked became stale; retrying");
        compare(a);
    } else if (auth_tokens_kind(w->node->applier.tokens) == AUTH_TOKEN_SIMPLE) {
        (void)grpc_reply(a->call, &reply, 1);
        (void)attempt_end(a);
    } else {
        attempt_work(a, run_sign, on_signed);
    }
    worker_request_free(w, req);
}

static void propose_token(struct attempt *a)
{
    struct worker *w = a->job.worker;
    char letters[AUTH_TOKEN_LETTERS];
    struct auth_request r = {.name = a->r.name};
    if (auth_tokens_kind(w->node->applier.tokens) == AUTH_TOKEN_SIMPLE) {
        if (auth_token_letters(letters) != 0) {
            attempt_fail(a, TV_EIO);
            return;
        }
        r.letters = slice_of(letters, sizeof(letters));
    }
    struct buf body;
    buf_init(&body, SIZE_MAX);
    size_t size = auth_request_size(WIRE_RAFT_AUTHENTICATE, &r);
    (void)auth_request_put(buf_reserve(&body, size), WIRE_RAFT_AUTHENTICATE, &r);
    struct request *req = worker_request(w, REQUEST_PROPOSE, NULL, on_token_given);
    req->user = a;
    bool fits = worker_payload(w, req, WIRE_RAFT_AUTHENTICATE, slice_of(body.data, size));
    buf_fini(&body);
    if (fits) {
        worker_post(w, req);
        return;
    }
    worker_request_free(w, req);
    attempt_fail(a, TV_REQUEST_TOO_LARGE);
}

static void run_compare(struct password_job *job)
{
    struct attempt *a = CONTAINER_OF(job, struct attempt, job);
    a->err = password_matches(a->r.password, buf_slice(&a->hash)) ? 0 : TV_AUTH_FAILED;
}

static void on_compared(struct password_job *job)
{
    struct attempt *a = CONTAINER_OF(job, struct attempt, job);
    if (a->err != 0)
        log_warn("invalid authentication was requested", LOG_SLICE("user", a->r.name));
    if (a->err != 0 || a->call == NULL)
        attempt_fail(a, a->err);
    else
        propose_token(a);
}

/* The stored hash. Errors: TV_AUTH_NOT_ENABLED, TV_AUTH_FAILED, TV_NO_PASSWORD_USER. */
static int look_up(struct attempt *a)
{
    struct worker *w = a->job.worker;
    epoch_enter(mvcc_epoch(w->node->mvcc), w->reader);
    const struct auth_view *v = auth_view(&w->node->applier.auth);
    const struct auth_user *u = auth_find_user(v, a->r.name);
    int err = !v->enabled ? TV_AUTH_NOT_ENABLED : u == NULL ? TV_AUTH_FAILED : 0;
    if (err == 0 && u->no_password)
        err = TV_NO_PASSWORD_USER;
    a->revision = v->revision;
    buf_clear(&a->hash);
    if (err == 0)
        (void)buf_append(&a->hash, u->password.data, u->password.size);
    epoch_leave(w->reader);
    return err;
}

static void compare(struct attempt *a)
{
    int err = look_up(a);
    if (err != 0)
        attempt_fail(a, err);
    else
        attempt_work(a, run_compare, on_compared);
}

static void serve_authenticate(struct read *r)
{
    struct grpc_call *call = r->call;
    struct slice msg = slice_of(r->msg, r->msg_size);
    grpc_call_set_user(call, NULL); /* the attempt's from here on */
    r->call = NULL;
    struct attempt *a = attempt_new(call, msg);
    OPENSSL_cleanse(r->msg, r->msg_size);
    worker_read_free(r);
    compare(a);
}

static void on_authenticate(struct grpc_call *call, struct slice msg)
{
    struct auth_request r;
    if (decode(call, msg, &r))
        worker_read(service_worker(call), call, msg, true, serve_authenticate);
}

const struct grpc_call_ops auth_authenticate_ops = {.message = on_authenticate,
                                                    .closed = worker_call_closed};

/* The token: asked for before the first call when there is a user, and again when it is refused.
 *
 *     WANTED --auth__token()--> ASKING --answer--> READY --auth__refused()--> WANTED
 *
 * A cluster without auth gives none: calls go without, until one is refused. */
#include "engine.h"

#include "base/mem.h"

enum { ASK_TIMEOUT_MS = 2000 };

void auth__init(struct trivet_client *c)
{
    c->auth.state = c->o.user == NULL ? AUTH_NOT_NEEDED : AUTH_WANTED;
    c->auth.token = (char *)c->o.token; /* one that is given is never renewed */
    c->o.token = NULL;
}

void auth__fini(struct trivet_client *c)
{
    mem_free(c->auth.token);
    c->auth.token = NULL;
}

/* Who waits for a token that is refused for good hears why. */
static void fail_waiting(struct trivet_client *c, enum grpc_code code, struct slice text)
{
    LIST_EACH_SAFE (it, after, &c->calls) {
        struct call *call = CONTAINER_OF(it, struct call, all_link);
        if (!call->own && call->attempts == NULL)
            rpc__end(call, TRIVET_REFUSED, code, text, NULL);
    }
}

static void on_token(struct call *call, const struct call_end *end)
{
    struct trivet_client *c = call->client;
    struct auth *a = &c->auth;
    static const char no_auth[] = "etcdserver: authentication is not enabled";
    struct trivet_result r;
    char error[sizeof(no_auth)];
    if (c->stopped)
        return;
    result__borrow(call, end, &r, error, sizeof(error));
    a->state = AUTH_WANTED;
    if (r.status == TRIVET_OK) {
        struct trivet_bytes t = r.u.auth.token;
        char *token = mem_try_alloc(t.size + 1);
        if (token == NULL)
            return; /* who waits has it asked for again */
        memcpy(token, t.data, t.size);
        token[t.size] = '\0';
        mem_free(a->token);
        a->token = token;
        a->token_number++;
        a->state = AUTH_READY;
        c->metrics.tokens++;
        calls__kick(c);
        watches__kick(c);
    } else if (slice_equal(end->text, slice_of_string(no_auth))) {
        mem_free(a->token);
        a->token = NULL;
        a->token_number++;
        a->state = AUTH_READY;
        calls__kick(c);
        watches__kick(c);
    } else if (end->status == TRIVET_REFUSED && end->code == GRPC_INVALID_ARGUMENT) {
        fail_waiting(c, end->code, end->text);
    }
    /* Else nobody could be asked: the next call that looks tries again. */
}

bool auth__token(struct trivet_client *c, const char **ret)
{
    struct auth *a = &c->auth;
    *ret = a->token;
    if (a->state == AUTH_NOT_NEEDED || a->state == AUTH_READY)
        return true;
    if (a->state == AUTH_ASKING)
        return false;
    int endpoint = balancer_pick_read(&c->balancer, 0, true, engine__now_ns());
    if (endpoint == BALANCER_NONE)
        return false;
    struct trivet_request q = {.method = TRIVET_AUTHENTICATE};
    q.u.auth.user = trivet_str(c->o.user);
    q.u.auth.password = trivet_str(c->o.password == NULL ? "" : c->o.password);
    struct call *call = rpc__new_own(c, &q, endpoint, ASK_TIMEOUT_MS, on_token, NULL);
    if (call == NULL)
        return false;
    a->state = AUTH_ASKING;
    rpc__begin(call);
    return false;
}

void auth__refused(struct trivet_client *c, uint64_t token_number)
{
    if (c->o.user != NULL && c->auth.state == AUTH_READY && c->auth.token_number == token_number)
        c->auth.state = AUTH_WANTED;
}

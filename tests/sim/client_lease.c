/* Keepers of leases. Each is granted one, hangs keys on it, keeps it alive for a while, and then
 * revokes it or lets it end.
 *
 * Whoever is told, about a grant or a renewal that it sent at a time t, that the lease lives for n
 * seconds, may count on it until t + n: whichever member said so, and whatever became of it. The
 * members' clocks may be wrong in their pace, within a bound; when one jumps the promise is void.
 */
#include "client.h"

#include "base/err.h"
#include "member.h"

#include <string.h>

enum {
    TTL_S_MAX = 6,
    KEEP_US_MEAN = 8000000,
    DRIFT_PERCENT = 12, /* two clocks, each 5 % off, and a little more */
    SLACK_US = 2000,
};

static struct rng *rng_of(const struct keeper *k)
{
    return &k->sim->clients->rng;
}

static void schedule(struct keeper *k, uint64_t delay_us)
{
    k->life++;
    client_schedule(k->sim, KEEPER_NEXT, k->number, k->life, delay_us);
}

void keeper_init(struct keeper *k, struct sim *s, uint32_t number)
{
    *k = (struct keeper){.sim = s, .number = number, .life = 1};
    buf_init(&k->request, 64 << 10);
    buf_init(&k->reply, 1 << 20);
    schedule(k, 500000 + rng_below(rng_of(k), 2000000));
}

void keeper_fini(struct keeper *k)
{
    if (k->call != NULL)
        call_drop(k->call);
    buf_fini(&k->request);
    buf_fini(&k->reply);
}

static void hang_up(struct keeper *k)
{
    if (k->call != NULL)
        call_drop(k->call);
    k->call = NULL;
    k->op = NULL;
    k->sent_count = 0;
}

/* --- what was promised --- */

static bool clocks_jumped_since(const struct sim *s, uint64_t since_us)
{
    for (uint32_t i = 0; i < s->members_count; i++)
        if (s->members[i].jumped_at_us != 0 && s->members[i].jumped_at_us >= since_us)
            return true;
    return false;
}

static void check_promise(struct sim *s, const struct model_lease *l)
{
    if (l->ended_index == 0 || l->ended_by_client || l->claimed_until_us == 0)
        return;
    uint64_t length = l->claimed_until_us - l->claimed_at_us;
    uint64_t slack = length * DRIFT_PERCENT / 100 + SLACK_US;
    if (l->ended_at_us + slack >= l->claimed_until_us || clocks_jumped_since(s, l->claimed_at_us))
        return;
    sim_fail("lease %lld ended %llu ms too early: promised at %llu ms for %llu ms",
             (long long)l->id, (unsigned long long)(l->claimed_until_us - l->ended_at_us) / 1000,
             (unsigned long long)l->claimed_at_us / 1000, (unsigned long long)length / 1000);
}

static void promised(struct sim *s, int64_t id, uint64_t asked_us, int64_t ttl_s)
{
    struct model_lease *l = model_lease(&s->model, id);
    if (l == NULL)
        sim_fail("lease %lld is said to live and is not committed", (long long)id);
    uint64_t until = asked_us + (uint64_t)ttl_s * 1000000;
    if (until <= l->claimed_until_us)
        return;
    l->claimed_until_us = until;
    l->claimed_at_us = asked_us;
    check_promise(s, l);
}

void keeper_lease_ended(struct sim *s, int64_t id)
{
    struct model_lease *l = model_lease(&s->model, id);
    for (uint32_t i = 0; i < s->clients->keepers_count; i++) {
        const struct keeper *k = &s->clients->keepers[i];
        if (k->lease == id && k->phase == KEEPER_REVOKE)
            l->ended_by_client = true;
    }
    s->stats->leases_ended++;
    check_promise(s, l);
}

/* --- unary calls: grant, put, revoke --- */

static void on_reply(void *ctx, struct slice msg)
{
    struct keeper *k = ctx;
    k->replied = true;
    buf_clear(&k->reply);
    int err = buf_append(&k->reply, msg.data, msg.size);
    ASSERT(err == 0);
}

static void on_granted(struct keeper *k)
{
    struct wire_lease_response r;
    if (wire_lease_response_decode(buf_slice(&k->reply), &r) != 0 || r.id != k->lease)
        sim_fail("a grant is answered with another lease");
    promised(k->sim, k->lease, k->begun.at_us, r.ttl);
    k->sim->stats->leases_granted++;
    k->ttl_s = r.ttl;
}

static void on_ended(void *ctx, enum grpc_code code, const char *text)
{
    struct keeper *k = ctx;
    if (k->op != NULL) {
        (void)client_settle_op(k->op, code, text);
        if (code == GRPC_OK || strcmp(text, tv_err_text(TV_LEASE_NOT_FOUND)) == 0)
            client_check_status(k->op, code, text);
    }
    bool ok = code == GRPC_OK;
    enum keeper_phase phase = k->phase;
    if (ok && phase == KEEPER_GRANT)
        on_granted(k);
    hang_up(k);
    k->phase = phase == KEEPER_GRANT && ok    ? KEEPER_ATTACH
               : phase == KEEPER_ATTACH && ok ? KEEPER_KEEP
               : phase == KEEPER_REVOKE && !ok && strcmp(text, tv_err_text(TV_LEASE_NOT_FOUND)) != 0
                   ? KEEPER_REVOKE
                   : KEEPER_IDLE;
    if (k->phase == KEEPER_KEEP)
        k->keep_until_us = k->sim->now_us + sim_exponential(rng_of(k), KEEP_US_MEAN);
    schedule(k, sim_exponential(rng_of(k), 50000));
}

static const struct call_client unary_call = {.reply = on_reply, .ended = on_ended};

static void call(struct keeper *k, const char *path)
{
    struct sim *s = k->sim;
    k->member = member_some(s, rng_of(k));
    k->begun = client_begin(s->clients);
    k->replied = false;
    k->life++;
    k->call = call_start(s, k->member, path, false, &unary_call, k);
    call_send(k->call, buf_slice(&k->request));
    client_schedule(s, KEEPER_TIMEOUT, k->number, k->life,
                    200000 + sim_exponential(rng_of(k), 3000000));
}

static void grant(struct keeper *k)
{
    struct wire_lease_grant_request r = {
        .ttl = 1 + (int64_t)rng_below(rng_of(k), TTL_S_MAX),
        .id = (int64_t)(++k->sim->clients->values),
    };
    k->lease = r.id;
    buf_clear(&k->request);
    size_t size = wire_lease_grant_request_size(&r);
    wire_lease_grant_request_put(buf_reserve(&k->request, size), &r);
    k->request.size = size;
    k->op = client_new_op(k->sim->clients, 100 + k->number, WIRE_RAFT_LEASE_GRANT,
                          buf_slice(&k->request));
    call(k, "/etcdserverpb.Lease/LeaseGrant");
}

static void attach(struct keeper *k)
{
    uint64_t number = ++k->sim->clients->values;
    struct buf value;
    buf_init(&value, 64 << 10);
    size_t size = model_value_size(number);
    model_value_put(buf_reserve(&value, size), number);
    value.size = size;
    struct wire_put_request r = {
        .key = model_key_name((uint32_t)rng_below(rng_of(k), MODEL_KEYS_COUNT)),
        .value = buf_slice(&value),
        .lease = k->lease,
    };
    buf_clear(&k->request);
    size = wire_put_request_size(&r);
    wire_put_request_put(buf_reserve(&k->request, size), &r);
    k->request.size = size;
    buf_fini(&value);
    k->op = client_new_op(k->sim->clients, 100 + k->number, WIRE_RAFT_PUT, buf_slice(&k->request));
    call(k, "/etcdserverpb.KV/Put");
}

static void give_back(struct keeper *k)
{
    buf_clear(&k->request);
    size_t size = wire_lease_revoke_request_size(k->lease);
    wire_lease_revoke_request_put(buf_reserve(&k->request, size), k->lease);
    k->request.size = size;
    call(k, "/etcdserverpb.Lease/LeaseRevoke");
}

/* --- the stream of renewals --- */

static void on_renewed(void *ctx, struct slice msg)
{
    struct keeper *k = ctx;
    struct wire_lease_response r;
    if (wire_lease_response_decode(msg, &r) != 0 || r.id != k->lease || k->sent_count == 0)
        sim_fail("a renewal is answered with another lease's, or twice");
    uint64_t sent_us = k->sent_us[0];
    memmove(k->sent_us, k->sent_us + 1, --k->sent_count * sizeof(k->sent_us[0]));
    if (r.ttl > 0) {
        k->sim->stats->leases_renewed++;
        promised(k->sim, k->lease, sent_us, r.ttl);
    }
}

static void on_renewals_ended(void *ctx, enum grpc_code code, const char *text)
{
    struct keeper *k = ctx;
    (void)code;
    (void)text;
    hang_up(k); /* the next renewal opens another */
}

static const struct call_client stream_call = {.reply = on_renewed, .ended = on_renewals_ended};

static void renew(struct keeper *k)
{
    struct sim *s = k->sim;
    if (k->call != NULL && (k->sent_count == RENEWALS_MAX || rng_below(rng_of(k), 10) == 0))
        hang_up(k);
    if (k->call == NULL) {
        k->member = member_some(s, rng_of(k));
        k->call =
            call_start(s, k->member, "/etcdserverpb.Lease/LeaseKeepAlive", false, &stream_call, k);
    }
    uint8_t body[32];
    size_t size = wire_lease_keepalive_request_size(k->lease);
    wire_lease_keepalive_request_put(body, k->lease);
    k->sent_us[k->sent_count++] = s->now_us;
    call_send(k->call, slice_of(body, size));
}

static void keep(struct keeper *k)
{
    if (k->sim->now_us < k->keep_until_us && !k->sim->draining) {
        renew(k);
        uint64_t third_us = (uint64_t)k->ttl_s * 1000000 / 3;
        schedule(k, third_us / 2 + rng_below(rng_of(k), third_us));
        return;
    }
    hang_up(k);
    k->phase = rng_below(rng_of(k), 2) == 0 ? KEEPER_REVOKE : KEEPER_IDLE;
    schedule(k, 1000 + sim_exponential(rng_of(k), 500000));
}

void keeper_next(struct keeper *k)
{
    switch (k->phase) {
    case KEEPER_IDLE:
        if (k->sim->draining)
            return;
        k->phase = KEEPER_GRANT;
        grant(k);
        break;
    case KEEPER_GRANT:
        break;
    case KEEPER_ATTACH:
        attach(k);
        break;
    case KEEPER_KEEP:
        keep(k);
        break;
    case KEEPER_REVOKE:
        give_back(k);
        break;
    }
}

/* It gives up: the lease, if there is one, is left to itself. */
void keeper_timeout(struct keeper *k)
{
    hang_up(k);
    if (k->phase != KEEPER_REVOKE)
        k->phase = KEEPER_IDLE;
    schedule(k, 100000);
}

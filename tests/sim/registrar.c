#include "registrar.h"

#include "base/mem.h"
#include "base/rng.h"
#include "call.h"
#include "client.h"
#include "member.h"
#include "proto/wirefield.h"

#include <stdio.h>

enum { PATIENCE_US = 8000000, CHANCE_PERCENT = 40, NAMES_COUNT = 6 };

struct registrar {
    struct sim *sim;
    struct rng rng;
    bool acts; /* in this run */
    uint64_t interval_us;
    uint64_t give_up_us;
    struct grpc_call *call;
};

static void schedule(struct registrar *r)
{
    uint64_t wait_us = 1 + sim_exponential(&r->rng, r->interval_us);
    events_push(&r->sim->events,
                &(struct event){.at_us = r->sim->now_us + wait_us, .kind = EVENT_REGISTRAR});
}

struct registrar *registrar_new(struct sim *s)
{
    struct registrar *r = mem_alloc_zero(sizeof(*r));
    r->sim = s;
    sim_rng_init(s, &r->rng, 14);
    r->acts = rng_below(&r->rng, 100) < CHANCE_PERCENT && s->o.crash_at == 0 &&
              (s->o.works_off >> WORK_USERS & 1) == 0;
    r->interval_us = 1000 * (5 + rng_below(&r->rng, 400));
    if (r->acts)
        schedule(r);
    return r;
}

static void drop_call(struct registrar *r)
{
    if (r->call != NULL)
        call_drop(r->call);
    r->call = NULL;
}

void registrar_free(struct registrar *r)
{
    drop_call(r);
    mem_free(r);
}

static void on_reply(void *ctx, struct slice msg)
{
    (void)ctx;
    (void)msg;
}

static void on_ended(void *ctx, enum grpc_code code, const char *text)
{
    struct registrar *r = ctx;
    (void)text;
    sim_trace(r->sim, 8, (uint64_t)code, 0);
    drop_call(r);
}

static const struct call_client asking = {.reply = on_reply, .ended = on_ended};

static uint8_t *put_name(struct registrar *r, uint8_t *p, uint32_t number)
{
    char name[8];
    (void)snprintf(name, sizeof(name), "n%u", (unsigned)rng_below(&r->rng, NAMES_COUNT));
    return wire_item_put(p, number, slice_of_string(name));
}

/* Permission: 1 permType, 2 key, 3 range_end. */
static uint8_t *put_permission(struct registrar *r, uint8_t *p)
{
    uint8_t bytes[32], *q = wire_uint_put(bytes, 1, rng_below(&r->rng, 3));
    q = put_name(r, q, 2);
    if (rng_below(&r->rng, 2) == 0)
        q = wire_item_put(q, 3, slice_of("", 1));
    return wire_item_put(p, 2, slice_of(bytes, (size_t)(q - bytes)));
}

static void ask(struct registrar *r)
{
    static const char *const paths[] = {
        "/etcdserverpb.Auth/UserAdd",
        "/etcdserverpb.Auth/UserAdd",
        "/etcdserverpb.Auth/UserDelete",
        "/etcdserverpb.Auth/UserGrantRole",
        "/etcdserverpb.Auth/UserGrantRole",
        "/etcdserverpb.Auth/RoleAdd",
        "/etcdserverpb.Auth/RoleDelete",
        "/etcdserverpb.Auth/RoleAdd",
        "/etcdserverpb.Auth/RoleGrantPermission",
        "/etcdserverpb.Auth/UserRevokeRole",
    };
    const char *path = paths[rng_below(&r->rng, sizeof(paths) / sizeof(paths[0]))];
    const char *method = strrchr(path, '/') + 1;
    uint8_t msg[128], *p = put_name(r, msg, 1);
    if (strcmp(method, "UserAdd") == 0)
        p = wire_item_put(p, 3, SLICE_LITERAL("\x08\x01")); /* without a password */
    else if (strcmp(method, "RoleGrantPermission") == 0)
        p = put_permission(r, p);
    else if (strstr(method, "Grant") != NULL || strstr(method, "Revoke") != NULL)
        p = put_name(r, p, 2);
    r->give_up_us = r->sim->now_us + PATIENCE_US;
    r->call = call_start(r->sim, member_some(r->sim, &r->rng), path, false, &asking, r);
    call_send(r->call, slice_of(msg, (size_t)(p - msg)));
}

void registrar_event(struct sim *s)
{
    struct registrar *r = s->registrar;
    if (r->call != NULL && s->now_us >= r->give_up_us)
        drop_call(r);
    if (s->draining)
        return;
    if (r->call == NULL)
        ask(r);
    schedule(r);
}

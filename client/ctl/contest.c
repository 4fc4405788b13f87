/* lock and elect. Both have a key of their own under the name, held by a lease; who has the oldest
 * one is it. Keys and waiting are those of etcd's Go client (its package concurrency), so that both
 * may contend with each other. */
#include "commands.h"
#include "kv.h"

#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

enum { SESSION_TTL = 60 };

/* What main waits for; set by the engine's thread and the one that waits for signals. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool interrupted; /* SIGINT or SIGTERM came */
    bool lost;        /* the lease */
    bool moved;       /* a watch told something, or ended */
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

/* A lease and the key that it holds. */
struct session {
    struct ctl *c;
    int64_t lease;
    char *prefix;
    struct trivet_bytes key;
    int64_t revision; /* at which the key was made */
};

static void tell(bool *what)
{
    (void)pthread_mutex_lock(&state.lock);
    *what = true;
    (void)pthread_cond_broadcast(&state.cond);
    (void)pthread_mutex_unlock(&state.lock);
}

/* --- signals --- */

static void *wait_signals(void *arg)
{
    int number;
    const sigset_t *set = arg;
    while (sigwait(set, &number) != 0)
        ;
    tell(&state.interrupted);
    return NULL;
}

/* Before any thread is made: all of them leave the signals to this one. */
static void catch_signals(struct ctl *c)
{
    static sigset_t set;
    pthread_t thread;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pthread_create(&thread, NULL, wait_signals, &set) != 0)
        ctl_fail(c, CTL_ERROR, "%s", ctl_strerror(errno));
    (void)pthread_detach(thread);
}

static bool interrupted(void)
{
    (void)pthread_mutex_lock(&state.lock);
    bool yes = state.interrupted;
    (void)pthread_mutex_unlock(&state.lock);
    return yes;
}

/* --- the session --- */

static void on_lost(int64_t lease, int status, const char *error, void *arg)
{
    tell(&state.lost);
}

static void call(struct ctl *c, const struct trivet_request *q, struct trivet_result *r)
{
    if (ctl_try(c, q, NULL, 0, r) != TRIVET_OK)
        ctl_fail_call(c, CTL_ERROR, r);
}

static void open_session(struct ctl *c, const char *name, int64_t ttl, struct session *ret)
{
    struct trivet_request q = {.method = TRIVET_LEASE_GRANT, .u.lease.ttl = ttl};
    struct trivet_result r;
    call(c, &q, &r);
    *ret = (struct session){.c = c, .lease = r.u.lease.id, .prefix = ctl_sprintf("%s/", name)};
    ret->key = trivet_str(ctl_sprintf("%s%" PRIx64, ret->prefix, ret->lease));
    (void)trivet_lease_keep(c->client, ret->lease, r.u.lease.ttl, on_lost, NULL);
    trivet_result_clear(&r);
}

/* The key is there from now on, or was already. Sets `revision`, and *ret_oldest to the oldest
 * key's revision. */
static void enter(struct session *s, struct trivet_bytes value, int64_t *ret_oldest,
                  int64_t *ret_now)
{
    struct trivet_bytes prefix = trivet_str(s->prefix);
    struct trivet_compare absent = {.target = TRIVET_COMPARE_CREATE, .key = s->key};
    struct trivet_request oldest = {.method = TRIVET_RANGE,
                                    .u.range = {.key = prefix,
                                                .range_end = ctl_prefix_end(prefix),
                                                .sort_order = TRIVET_SORT_ASCEND,
                                                .sort_target = TRIVET_SORT_CREATE,
                                                .limit = 1}};
    struct trivet_request put = {.method = TRIVET_PUT,
                                 .u.put = {.key = s->key, .value = value, .lease = s->lease}};
    struct trivet_request get = {.method = TRIVET_RANGE, .u.range.key = s->key};
    struct trivet_request then[] = {put, oldest}, otherwise[] = {get, oldest};
    struct trivet_request q = {.method = TRIVET_TXN,
                               .u.txn = {.compares = &absent,
                                         .compares_count = 1,
                                         .success = then,
                                         .success_count = 2,
                                         .failure = otherwise,
                                         .failure_count = 2}};
    struct trivet_result r;
    call(s->c, &q, &r);
    const struct trivet_range_result *first = &r.u.txn.responses[1].u.range;
    s->revision =
        r.u.txn.succeeded ? r.header.revision : r.u.txn.responses[0].u.range.kvs[0].create_revision;
    *ret_oldest = first->kvs_count > 0 ? first->kvs[0].create_revision : s->revision;
    *ret_now = r.header.revision;
    trivet_result_clear(&r);
}

static void leave(struct session *s)
{
    struct trivet_request q = {.method = TRIVET_DELETE, .u.del.key = s->key};
    struct trivet_result r;
    call(s->c, &q, &r);
    trivet_result_clear(&r);
}

/* --- waiting --- */

static void on_message(struct trivet_watch *w, const struct trivet_watch_message *m, void *arg)
{
    for (uint32_t i = 0; i < m->events_count; i++) {
        if (m->events[i].type == 1)
            tell(&state.moved);
    }
    if (m->status != TRIVET_OK)
        tell(&state.moved);
}

/* Until the key is deleted; false: a signal came, or the lease is lost. */
static bool wait_deleted(struct session *s, struct trivet_bytes key, int64_t revision)
{
    const struct trivet_watch_options o = {.key = key, .start_revision = revision};
    struct trivet_watch *w;
    state.moved = false;
    if (trivet_watch_open(s->c->client, &o, on_message, NULL, &w) != 0)
        ctl_fail(s->c, CTL_ERROR, "too many watches");
    (void)pthread_mutex_lock(&state.lock);
    while (!state.moved && !state.interrupted && !state.lost)
        (void)pthread_cond_wait(&state.cond, &state.lock);
    bool moved = state.moved && !state.interrupted && !state.lost;
    (void)pthread_mutex_unlock(&state.lock);
    trivet_watch_close(w);
    return moved;
}

/* Until none under the prefix is older. False: as above. Sets *ret_now to the revision of that. */
static bool wait_turn(struct session *s, int64_t *ret_now)
{
    struct trivet_bytes prefix = trivet_str(s->prefix);
    struct trivet_request q = {.method = TRIVET_RANGE,
                               .u.range = {.key = prefix,
                                           .range_end = ctl_prefix_end(prefix),
                                           .sort_order = TRIVET_SORT_DESCEND,
                                           .sort_target = TRIVET_SORT_CREATE,
                                           .limit = 1,
                                           .max_create_revision = s->revision - 1}};
    for (;;) {
        struct trivet_result r;
        call(s->c, &q, &r);
        *ret_now = r.header.revision;
        bool waits = r.u.range.kvs_count > 0;
        bool goes_on = !waits || wait_deleted(s, r.u.range.kvs[0].key, r.header.revision);
        trivet_result_clear(&r);
        if (!waits || !goes_on)
            return goes_on;
    }
}

/* Prints the key as a get does. False: it is gone. */
static bool print_key(struct session *s)
{
    struct trivet_request q = {.method = TRIVET_RANGE, .u.range.key = s->key};
    struct trivet_result r;
    call(s->c, &q, &r);
    bool there = r.u.range.kvs_count > 0;
    if (there)
        kv_print(s->c, &r, false);
    trivet_result_clear(&r);
    return there;
}

/* Until a signal comes; false: the lease was lost before. */
static bool hold(void)
{
    (void)pthread_mutex_lock(&state.lock);
    while (!state.interrupted && !state.lost)
        (void)pthread_cond_wait(&state.cond, &state.lock);
    bool held = state.interrupted;
    (void)pthread_mutex_unlock(&state.lock);
    return held;
}

/* The turn did not come. */
_Noreturn static void fail_waiting(struct session *s, const char *expired)
{
    if (!interrupted())
        ctl_fail(s->c, CTL_ERROR, "%s", expired);
    leave(s);
    ctl_fail(s->c, CTL_ERROR, "context canceled");
}

/* --- lock --- */

static int run_locked(struct session *s, char **words, int64_t revision)
{
    char *more[] = {ctl_sprintf("ETCD_LOCK_KEY=%s", (const char *)s->key.data),
                    ctl_sprintf("ETCD_LOCK_REV=%" PRId64, revision), NULL};
    const char *why = NULL;
    int status = ctl_run_program(words, more, &why);
    leave(s);
    if (why != NULL)
        ctl_fail(s->c, CTL_ERROR, "%s", why);
    if (WIFSIGNALED(status))
        ctl_fail(s->c, CTL_ERROR, "signal: %s", strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        ctl_fail(s->c, WEXITSTATUS(status), "exit status %d", WEXITSTATUS(status));
    return CTL_OK;
}

static int run_lock(struct ctl *c)
{
    struct session s;
    int64_t oldest, revision;
    if (c->args_count == 0)
        ctl_fail(c, CTL_BAD_ARGS,
                 "lock takes a lock name argument and an optional command to execute");
    catch_signals(c);
    open_session(c, c->args[0], ctl_int(c, "ttl"), &s);
    enter(&s, trivet_str(""), &oldest, &revision);
    if (oldest != s.revision && !wait_turn(&s, &revision))
        fail_waiting(&s, "mutex: session is expired");
    if (c->args_count > 1) {
        c->args[c->args_count] = NULL;
        return run_locked(&s, c->args + 1, revision);
    }
    if (!print_key(&s))
        ctl_fail(c, CTL_ERROR, "lock lost on init");
    if (!hold())
        ctl_fail(c, CTL_ERROR, "session expired");
    leave(&s);
    return CTL_OK;
}

static const struct ctl_flag lock_flags[] = {
    {"ttl", 0, CTL_INT, "10", "seconds after which others get it when this one is cut off"},
    {NULL},
};

const struct ctl_command ctl_cmd_lock = {
    .name = "lock",
    .usage = "<lockname> [exec-command arg1 arg2 ...]",
    .brief = "Waits for a lock and holds it, for a command or until it is interrupted",
    .group = "Concurrency commands",
    .flags = lock_flags,
    .run = run_lock,
};

/* --- elect --- */

static void resign(struct session *s)
{
    struct trivet_compare mine = {
        .target = TRIVET_COMPARE_CREATE, .key = s->key, .number = s->revision};
    struct trivet_request del = {.method = TRIVET_DELETE, .u.del.key = s->key};
    struct trivet_request q = {
        .method = TRIVET_TXN,
        .u.txn = {.compares = &mine, .compares_count = 1, .success = &del, .success_count = 1}};
    struct trivet_result r;
    call(s->c, &q, &r);
    trivet_result_clear(&r);
}

static int campaign(struct ctl *c)
{
    struct session s;
    int64_t oldest, now;
    open_session(c, c->args[0], SESSION_TTL, &s);
    enter(&s, trivet_str(c->args[1]), &oldest, &now);
    if (oldest != s.revision && !wait_turn(&s, &now))
        fail_waiting(&s, "election: session is expired");
    (void)print_key(&s);
    if (!hold())
        ctl_fail(c, CTL_ERROR, "elect: session expired");
    resign(&s);
    return CTL_OK;
}

/* Called by the engine's thread, which alone prints meanwhile. */
static void on_observed(const struct trivet_result *r, void *arg)
{
    struct ctl *c = arg;
    if (r->part)
        kv_print_pair(c, &r->header, &r->u.contest.kv, 0);
    else
        tell(&state.lost);
}

static int observe(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_OBSERVE, .u.contest.name = trivet_str(c->args[0])};
    if (trivet_start(ctl_client(c), &q, NULL, on_observed, c) != 0)
        ctl_fail(c, CTL_ERROR, "elect: observer lost");
    if (!hold())
        ctl_fail(c, CTL_ERROR, "elect: observer lost");
    return CTL_OK;
}

static int run_elect(struct ctl *c)
{
    bool listen = ctl_bool(c, "listen");
    if (c->args_count != 1 && c->args_count != 2)
        ctl_fail(c, CTL_BAD_ARGS,
                 "elect takes one election name argument and an optional proposal argument");
    if (c->args_count == 1 && !listen)
        ctl_fail(c, CTL_BAD_ARGS, "no proposal argument but -l not set");
    if (c->args_count == 2 && listen)
        ctl_fail(c, CTL_BAD_ARGS, "proposal given but -l is set");
    catch_signals(c);
    return listen ? observe(c) : campaign(c);
}

static const struct ctl_flag elect_flags[] = {
    {"listen", 'l', CTL_BOOL, NULL, "print who leads, and who comes after"},
    {NULL},
};

const struct ctl_command ctl_cmd_elect = {
    .name = "elect",
    .usage = "<election-name> [proposal]",
    .brief = "Stands for an election, or watches it",
    .group = "Concurrency commands",
    .flags = elect_flags,
    .run = run_elect,
};

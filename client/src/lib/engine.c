/* The loop: what is posted, the tick, opening and closing. */
#include "engine.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/prompt.h"
#include "proto/tls.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TICK_BUSY_MS = 20, TICK_HURRY_MS = 5, TICK_IDLE_MS = 250 };

/* --- SIGPIPE: libuv writes to sockets without MSG_NOSIGNAL --- */

static void sigpipe_only(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGPIPE);
}

struct sigpipe {
    sigset_t before;
    bool was_pending;
};

static void sigpipe_block(struct sigpipe *s)
{
    sigset_t set, pending;
    sigpipe_only(&set);
    (void)sigpending(&pending);
    s->was_pending = sigismember(&pending, SIGPIPE) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &set, &s->before);
}

static void sigpipe_restore(const struct sigpipe *s)
{
    sigset_t set, pending;
    static const struct timespec at_once = {0};
    sigpipe_only(&set);
    (void)sigpending(&pending);
    if (!s->was_pending && sigismember(&pending, SIGPIPE) == 1)
        (void)sigtimedwait(&set, NULL, &at_once);
    (void)pthread_sigmask(SIG_SETMASK, &s->before, NULL);
}

/* --- running --- */

uint64_t engine__now_ns(void)
{
    return clock_mono_ns();
}

/* Never 0. */
static uint64_t this_thread(void)
{
    return (uint64_t)pthread_self(); /* no variable of the thread: that might be made only now */
}

bool engine__is_mine(struct trivet_client *c)
{
    return atomic_load_explicit(&c->thread_id, memory_order_relaxed) == this_thread();
}

void engine__post(struct trivet_client *c, struct post *p)
{
    if (mpsc_push(&c->inbox, &p->node))
        (void)uv_async_send(&c->async);
}

static void on_async(uv_async_t *async)
{
    struct trivet_client *c = async->data;
    struct mpsc_node *node;
    mpsc_begin(&c->inbox);
    while ((node = mpsc_pop(&c->inbox)) != NULL) {
        struct post *p = CONTAINER_OF(node, struct post, node);
        p->run(c, p);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct trivet_client *c = timer->data;
    uint64_t now_ns = engine__now_ns();
    if (c->stopped)
        return;
    calls__tick(c, now_ns);
    leases__tick(c, now_ns);
    watches__tick(c, now_ns);
    endpoints__tick(c, now_ns);
    discover__tick(c, now_ns);
    uint64_t next_ms = TICK_IDLE_MS;
    if (!list_is_empty(&c->waiting) || !list_is_empty(&c->young))
        next_ms = TICK_HURRY_MS;
    else if (!list_is_empty(&c->calls) || !list_is_empty(&c->watches_lost))
        next_ms = TICK_BUSY_MS;
    (void)uv_timer_start(&c->timer, on_timer, next_ms, 0);
}

void engine__hurry(struct trivet_client *c)
{
    if (!c->stopped && uv_timer_get_due_in(&c->timer) > TICK_BUSY_MS)
        (void)uv_timer_start(&c->timer, on_timer, TICK_HURRY_MS, 0);
}

static void run_once(struct trivet_client *c, uv_run_mode mode)
{
    struct sigpipe s;
    uint64_t before = atomic_load_explicit(&c->thread_id, memory_order_relaxed);
    sigpipe_block(&s);
    atomic_store_explicit(&c->thread_id, this_thread(), memory_order_relaxed);
    (void)uv_run(&c->loop, mode);
    if (!c->stopped)
        grpc_loop_flush(c->grpc);
    atomic_store_explicit(&c->thread_id, before, memory_order_relaxed);
    sigpipe_restore(&s);
}

void engine__run_until(struct trivet_client *c, const _Atomic bool *done)
{
    while (!atomic_load(done))
        run_once(c, UV_RUN_ONCE);
}

void engine__step(struct trivet_client *c)
{
    run_once(c, UV_RUN_ONCE);
}

/* --- from another thread, and back --- */

struct sync {
    struct post post;
    void (*run)(struct trivet_client *c, void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void run_sync(struct trivet_client *c, struct post *p)
{
    struct sync *s = CONTAINER_OF(p, struct sync, post);
    s->run(c, s->arg);
    (void)pthread_mutex_lock(&s->lock);
    s->done = true;
    (void)pthread_cond_signal(&s->cond);
    (void)pthread_mutex_unlock(&s->lock);
}

void engine__sync(struct trivet_client *c, void (*run)(struct trivet_client *c, void *arg),
                  void *arg)
{
    struct sync s = {.post = {.run = run_sync}, .run = run, .arg = arg};
    if (engine__is_mine(c) || c->o.own_loop) {
        run(c, arg);
        return;
    }
    (void)pthread_mutex_init(&s.lock, NULL);
    (void)pthread_cond_init(&s.cond, NULL);
    engine__post(c, &s.post);
    (void)pthread_mutex_lock(&s.lock);
    while (!s.done)
        (void)pthread_cond_wait(&s.cond, &s.lock);
    (void)pthread_mutex_unlock(&s.lock);
    (void)pthread_cond_destroy(&s.cond);
    (void)pthread_mutex_destroy(&s.lock);
}

int trivet_fd(const struct trivet_client *c)
{
    return uv_backend_fd(&c->loop);
}

int trivet_timeout_ms(const struct trivet_client *c)
{
    return uv_backend_timeout(&c->loop);
}

void trivet_process(struct trivet_client *c)
{
    ASSERT(c->o.own_loop);
    run_once(c, UV_RUN_NOWAIT);
}

/* --- the end --- */

static void stop(struct trivet_client *c)
{
    c->stopped = true;
    watches__end_all(c);
    leases__fini(c);
    calls__end_all(c);
    endpoints__close(c);
    auth__fini(c);
    uv_close((uv_handle_t *)&c->timer, NULL);
    uv_close((uv_handle_t *)&c->async, NULL);
    grpc_loop_free(c->grpc);
}

static void run_stop(struct trivet_client *c, struct post *p)
{
    (void)p;
    stop(c);
}

static void *engine_main(void *arg)
{
    struct trivet_client *c = arg;
    sigset_t all;
    (void)sigfillset(&all); /* signals are the program's business */
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    (void)pthread_setname_np(pthread_self(), "trivet-client");
    prompt_thread();
    atomic_store_explicit(&c->thread_id, this_thread(), memory_order_relaxed);
    (void)uv_run(&c->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void client_free(struct trivet_client *c)
{
    for (uint32_t i = 0; i < c->o.endpoints_count; i++)
        mem_free(c->endpoint_texts[i]);
    mem_free((void *)c->endpoint_texts);
    mem_free((char *)c->o.endpoints_file);
    mem_free((char *)c->o.zone);
    mem_free((char *)c->o.user);
    mem_free((char *)c->o.password);
    mem_free((char *)c->o.token);
    tls_context_free(c->tls);
    arena_fini(&c->scratch);
    mem_free(c);
}

void trivet_close(struct trivet_client *c)
{
    if (c == NULL)
        return;
    struct post p = {.run = run_stop};
    atomic_store(&c->closing, true);
    engine__post(c, &p);
    if (c->has_thread) {
        (void)pthread_join(c->thread, NULL);
    } else {
        while (!c->stopped)
            run_once(c, UV_RUN_ONCE);
        (void)uv_run(&c->loop, UV_RUN_DEFAULT);
    }
    int rv = uv_loop_close(&c->loop);
    ASSERT(rv == 0);
    client_free(c);
}

/* --- the beginning --- */

void trivet_options_init(struct trivet_options *o)
{
    *o = (struct trivet_options){
        .endpoints_interval_ms = 5000,
        .timeout_ms = 5000,
        .connect_timeout_ms = 2000,
        .read_attempt_ms = 1000,
        .retry_percent = 20,
        .keepalive_ms = 10000,
        .keepalive_timeout_ms = 3000,
        .connections_max = 2,
        .slow_start_ms = 10000,
        .calls_max = 10000,
        .bytes_max = 64 << 20,
        .response_bytes_max = 256 << 20,
        .watch_bytes_max = 16 << 20,
    };
}

/* False: there is no memory. */
static bool dup_text(const char **to, const char *text)
{
    *to = text == NULL ? NULL : mem_try_strdup(text);
    return *to != NULL || text == NULL;
}

static const char *null_if_empty(const char *text)
{
    return text == NULL || text[0] == '\0' ? NULL : text;
}

static int check(const struct trivet_options *o, char *err_text, size_t err_size)
{
    const char *why = NULL;
    if ((o->endpoints_count == 0) == (o->endpoints_file == NULL))
        why = "endpoints or endpoints_file must be given, and not both";
    else if (o->endpoints_count > BALANCER_ENDPOINTS_MAX)
        why = "more than 64 endpoints";
    else if (o->connections_max < 1 || o->connections_max > ENDPOINT_CONNECTIONS_MAX)
        why = "connections_max is not 1 to 8";
    else if (o->calls_max == 0)
        why = "calls_max is 0";
    else if (o->keepalive_ms != 0 && o->keepalive_ms < 5000)
        why = "keepalive_ms is under 5000: servers send such clients away";
    else if ((o->cert_file == NULL) != (o->key_file == NULL))
        why = "cert_file and key_file belong together";
    else if ((o->user == NULL) != (o->password == NULL))
        why = "user and password belong together";
    else if (o->token != NULL && o->user != NULL)
        why = "token takes the place of user and password";
    else if (o->response_bytes_max == 0 || o->response_bytes_max > INT32_MAX)
        why = "response_bytes_max is not 1 to 2147483647";
    if (why != NULL) {
        (void)snprintf(err_text, err_size, "%s", why);
        return TRIVET_INVALID;
    }
    bool secure = o->ca_file != NULL || o->cert_file != NULL || o->insecure_skip_verify;
    for (uint32_t i = 0; i < o->endpoints_count; i++) {
        if (endpoints__check(o->endpoints[i], secure) == 0)
            continue;
        (void)snprintf(err_text, err_size, "\"%s\" is not an endpoint", o->endpoints[i]);
        return TRIVET_INVALID;
    }
    return 0;
}

/* False: there is no memory; client_free() frees what was copied. */
static bool copy_options(struct trivet_client *c, const struct trivet_options *o)
{
    c->o = *o;
    c->o.endpoints = NULL;
    c->o.ca_file = c->o.cert_file = c->o.key_file = NULL; /* the TLS context has them */
    c->is_secure = o->ca_file != NULL || o->cert_file != NULL || o->insecure_skip_verify;
    bool all = dup_text(&c->o.endpoints_file, null_if_empty(o->endpoints_file));
    all = dup_text(&c->o.zone, null_if_empty(o->zone)) && all;
    all = dup_text(&c->o.user, null_if_empty(o->user)) && all;
    all = dup_text(&c->o.password, o->password) && all;
    all = dup_text(&c->o.token, null_if_empty(o->token)) && all; /* auth__init() takes it */
    c->endpoint_texts = mem_try_alloc_zero(sizeof(char *) * (o->endpoints_count + 1));
    if (c->endpoint_texts == NULL) {
        c->o.endpoints_count = 0;
        return false;
    }
    for (uint32_t i = 0; i < o->endpoints_count; i++) {
        c->endpoint_texts[i] = mem_try_strdup(o->endpoints[i]);
        all = all && c->endpoint_texts[i] != NULL;
    }
    c->o.endpoints = (const char *const *)c->endpoint_texts;
    return all;
}

static void on_ignored(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events;
}

/* libuv ends the process when its table of file descriptors cannot grow. So let it be as large as
 * it is likely to become while a failure can still be told, or nearly. */
static void grow_table(uv_loop_t *loop)
{
    enum { DESCRIPTORS = 16384 };
    struct rlimit limit;
    uv_poll_t poll;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    int most = limit.rlim_cur < DESCRIPTORS ? (int)limit.rlim_cur : DESCRIPTORS;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, most - 1);
    if (high >= 0 && uv_poll_init(loop, &poll, high) == 0) {
        (void)uv_poll_start(&poll, UV_READABLE, on_ignored);
        uv_close((uv_handle_t *)&poll, NULL);
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
    if (high >= 0)
        (void)close(high);
    (void)close(fd);
}

/* 0, or libuv's error: nothing is open then. */
static int init_loop(struct trivet_client *c)
{
    int rv = uv_loop_init(&c->loop);
    if (rv != 0)
        return rv;
    grow_table(&c->loop);
    rv = uv_async_init(&c->loop, &c->async, on_async);
    if (rv == 0) {
        c->grpc = grpc_loop_try_new(&c->loop);
        if (c->grpc == NULL) {
            uv_close((uv_handle_t *)&c->async, NULL);
            rv = UV_ENOMEM;
        }
    }
    if (rv != 0) {
        (void)uv_run(&c->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&c->loop);
        return rv;
    }
    (void)uv_timer_init(&c->loop, &c->timer);
    c->async.data = c;
    c->timer.data = c;
    (void)uv_timer_start(&c->timer, on_timer, 0, 0);
    return 0;
}

static void init_state(struct trivet_client *c)
{
    uint64_t seed = c->o.seed != 0 ? c->o.seed : rng_seed_from_os();
    rng_init(&c->rng, seed);
    mpsc_init(&c->inbox);
    arena_init(&c->scratch);
    balancer_init(&c->balancer, c->o.subset, c->o.slow_start_ms * NS_PER_MS, rng_next(&c->rng));
    retry_budget_init(&c->budget, c->o.retry_percent);
    list_init(&c->calls);
    list_init(&c->waiting);
    list_init(&c->young);
    list_init(&c->old);
    list_init(&c->writes);
    list_init(&c->watches);
    list_init(&c->watches_lost);
    list_init(&c->watches_ended);
    leases__init(c);
    auth__init(c);
}

static int refuse(int rv, const char *why, char *err_text, size_t err_size)
{
    (void)snprintf(err_text, err_size, "%s", why);
    return rv;
}

static int open_client(struct trivet_client *c, const struct trivet_options *o, char *err_text,
                       size_t err_size)
{
    const char *no_memory = tv_err_text(TV_ENOMEM);
    if (!copy_options(c, o)) {
        client_free(c);
        return refuse(TRIVET_NO_MEMORY, no_memory, err_text, err_size);
    }
    init_state(c);
    int rv = init_loop(c);
    if (rv != 0) {
        client_free(c);
        return refuse(rv == UV_ENOMEM ? TRIVET_NO_MEMORY : TRIVET_UNAVAILABLE, uv_strerror(rv),
                      err_text, err_size);
    }
    bool begun = discover__begin(c);
    if (begun && !o->own_loop) {
        rv = pthread_create(&c->thread, NULL, engine_main, c);
        c->has_thread = begun = rv == 0;
    }
    if (begun)
        return 0;
    trivet_close(c);
    return refuse(TRIVET_NO_MEMORY, rv != 0 ? strerror(rv) : no_memory, err_text, err_size);
}

/* Where it does not the system's CAs need not be read, which takes longer than all else. */
static bool may_speak_tls(const struct trivet_options *o)
{
    bool may = o->ca_file != NULL || o->cert_file != NULL || o->insecure_skip_verify ||
               o->endpoints_file != NULL || o->members_refresh;
    for (uint32_t i = 0; i < o->endpoints_count && !may; i++)
        may = strncmp(o->endpoints[i], "https://", strlen("https://")) == 0 ||
              strncmp(o->endpoints[i], "unixs://", strlen("unixs://")) == 0;
    return may;
}

static int open_tls(const struct trivet_options *o, struct tls_context **ret, char *err_text,
                    size_t err_size)
{
    struct tls_options t = {.ca_file = o->ca_file,
                            .cert_file = o->cert_file,
                            .key_file = o->key_file,
                            .insecure_skip_verify = o->insecure_skip_verify};
    *ret = tls_context_new(&t, err_text, err_size);
    if (*ret != NULL)
        return 0;
    return strstr(err_text, tv_err_text(TV_ENOMEM)) != NULL ? TRIVET_NO_MEMORY : TRIVET_INVALID;
}

int trivet_open(const struct trivet_options *o, struct trivet_client **ret, char *err_text,
                size_t err_size)
{
    *ret = NULL;
    int rv = check(o, err_text, err_size);
    if (rv != 0)
        return rv;
    struct tls_context *tls = NULL;
    if (may_speak_tls(o)) {
        rv = open_tls(o, &tls, err_text, err_size);
        if (rv != 0)
            return rv;
    }
    struct trivet_client *c = mem_try_alloc_zero(sizeof(*c));
    if (c == NULL) {
        tls_context_free(tls);
        return refuse(TRIVET_NO_MEMORY, tv_err_text(TV_ENOMEM), err_text, err_size);
    }
    c->tls = tls;
    rv = open_client(c, o, err_text, err_size);
    if (rv == 0)
        *ret = c;
    return rv;
}

const char *trivet_version(void)
{
    return "0.1.0";
}

const char *trivet_status_name(int status)
{
    static const char *const names[] = {
        "TRIVET_OK",        "TRIVET_REFUSED",     "TRIVET_UNKNOWN",   "TRIVET_DEADLINE",
        "TRIVET_CANCELED",  "TRIVET_UNAVAILABLE", "TRIVET_INVALID",   "TRIVET_BUSY",
        "TRIVET_COMPACTED", "TRIVET_EXPIRED",     "TRIVET_MALFORMED", "TRIVET_CLOSED",
        "TRIVET_TIMEOUT",   "TRIVET_NO_MEMORY",
    };
    return status >= 0 && (size_t)status < sizeof(names) / sizeof(names[0]) ? names[status]
                                                                            : "TRIVET_?";
}

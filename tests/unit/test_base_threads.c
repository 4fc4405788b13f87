/* What threads of base share: the queue, the epochs, the log and the CPU. */
#include "unit.h"

#include "base/assert.h"
#include "base/background.h"
#include "base/clock.h"
#include "base/epoch.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mpsc.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- mpsc --- */

enum { PRODUCERS = 3, PER_PRODUCER = 50000 };

struct item {
    struct mpsc_node node;
    int producer;
    int number;
};

static struct mpsc queue;
static _Atomic uint64_t wakes;

static void *produce(void *arg)
{
    int me = *(int *)arg;
    for (int i = 0; i < PER_PRODUCER; i++) {
        struct item *it = mem_alloc(sizeof(*it));
        it->producer = me;
        it->number = i;
        if (mpsc_push(&queue, &it->node))
            atomic_fetch_add(&wakes, 1);
    }
    return NULL;
}

START_TEST(test_mpsc_keeps_each_producers_order)
{
    pthread_t threads[PRODUCERS];
    int ids[PRODUCERS], next[PRODUCERS] = {0};
    mpsc_init(&queue);
    ck_assert_ptr_null(mpsc_pop(&queue));
    for (int i = 0; i < PRODUCERS; i++) {
        ids[i] = i;
        pthread_create(&threads[i], NULL, produce, &ids[i]);
    }
    int left = PRODUCERS * PER_PRODUCER;
    uint64_t woken = 0;
    while (left > 0) {
        /* The consumer sleeps until a push says "wake": a lost wake-up would hang here. */
        while (atomic_load(&wakes) == woken)
            sched_yield();
        woken = atomic_load(&wakes);
        mpsc_begin(&queue);
        struct mpsc_node *n;
        while ((n = mpsc_pop(&queue)) != NULL) {
            struct item *it = CONTAINER_OF(n, struct item, node);
            ck_assert_int_eq(it->number, next[it->producer]++);
            mem_free(it);
            left--;
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

/* --- epoch --- */

enum { OBJECT_ALIVE = 0x5ca1ab1e, SWAPS = 100000 };

static struct epoch epoch;
static _Atomic(_Atomic int *) shared;
static atomic_bool stop;

static void free_object(void *p)
{
    atomic_store((_Atomic int *)p, 0);
    mem_free(p);
}

static _Atomic int *new_object(void)
{
    _Atomic int *p = mem_alloc(sizeof(*p));
    atomic_init(p, OBJECT_ALIVE);
    return p;
}

static void *read_objects(void *arg)
{
    (void)arg;
    struct epoch_reader *r = epoch_register(&epoch);
    ASSERT(r != NULL);
    while (!atomic_load(&stop)) {
        epoch_enter(&epoch, r);
        _Atomic int *p = atomic_load(&shared);
        for (int i = 0; i < 20; i++)
            ASSERT(atomic_load(p) == OBJECT_ALIVE);
        epoch_leave(r);
    }
    epoch_unregister(r);
    return NULL;
}

START_TEST(test_epoch_frees_only_what_nobody_sees)
{
    pthread_t threads[2];
    epoch_init(&epoch);
    atomic_store(&stop, false);
    atomic_store(&shared, new_object());
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, read_objects, NULL);
    for (int i = 0; i < SWAPS; i++) {
        _Atomic int *before = atomic_exchange(&shared, new_object());
        epoch_retire(&epoch, (void *)before, free_object);
        if (i % 16 == 0)
            epoch_collect(&epoch);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    epoch_collect(&epoch);
    ck_assert_uint_eq(epoch.count, 0);
    mem_free((void *)atomic_load(&shared));
    epoch_fini(&epoch);
}
END_TEST

static int freed;

static void count_free(void *p)
{
    (void)p;
    freed++;
}

START_TEST(test_epoch_waits_for_a_reader_inside)
{
    epoch_init(&epoch);
    struct epoch_reader *r = epoch_register(&epoch);
    epoch_enter(&epoch, r);
    epoch_retire(&epoch, &freed, count_free);
    epoch_collect(&epoch);
    epoch_collect(&epoch);
    ck_assert_int_eq(freed, 0);
    epoch_leave(r);
    epoch_collect(&epoch);
    ck_assert_int_eq(freed, 1);
    epoch_unregister(r);
    epoch_fini(&epoch);
}
END_TEST

/* --- the log's thread --- */

enum { LOG_LINES = 20000 };

struct log_reader {
    int fd;
    uint64_t lines;
    uint64_t lost;
};

static void count_line(struct log_reader *r, const char *line)
{
    const char *lost = strstr(line, "\"lines\":");
    if (lost != NULL)
        r->lost += strtoull(lost + strlen("\"lines\":"), NULL, 10);
    else
        r->lines++;
}

static void *read_log(void *arg)
{
    struct log_reader *r = arg;
    FILE *f = fdopen(r->fd, "r");
    char line[512];
    while (fgets(line, sizeof(line), f) != NULL)
        count_line(r, line);
    fclose(f);
    return NULL;
}

/* Nobody reads for a while: who logs does not wait, and every line comes or is counted. */
START_TEST(test_log_behind_a_slow_reader)
{
    int ends[2];
    struct log_reader r = {0};
    pthread_t reader;
    ck_assert_int_eq(pipe(ends), 0);
    log_set_fd(ends[1]);
    log_start_thread();
    for (int i = 0; i < LOG_LINES; i++)
        LOG_WANTED(LOG_INFO, "one of many lines that nobody reads", LOG_INT("number", i));
    r.fd = ends[0];
    pthread_create(&reader, NULL, read_log, &r);
    log_write(LOG_FATAL, "x/y.c", 1, "the last words", NULL, 0);
    log_stop_thread();
    close(ends[1]);
    pthread_join(reader, NULL);
    log_set_fd(2);
    ck_assert_uint_gt(r.lost, 0);
    ck_assert_uint_eq(r.lines + r.lost, LOG_LINES + 1);
}
END_TEST

/* --- background --- */

struct worker {
    bool gives_way;
    int cpu;
    atomic_bool *stop;
    uint64_t cpu_ns;
    struct metric_counter paused_ns;
};

/* All on one CPU: who works there takes it from the others. */
static void *work(void *arg)
{
    struct worker *x = arg;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)x->cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    while (!atomic_load(x->stop)) {
        if (x->gives_way)
            background_give_way(&x->paused_ns);
    }
    struct timespec t;
    ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    x->cpu_ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    return NULL;
}

START_TEST(test_background_gives_way)
{
    if (access("/proc/thread-self/schedstat", R_OK) != 0)
        return; /* such a kernel does not say who waits */
    atomic_bool done = false;
    int cpu = sched_getcpu();
    struct worker workers[] = {{.cpu = cpu, .stop = &done},
                               {.gives_way = true, .cpu = cpu, .stop = &done}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    uint64_t from_ns = clock_mono_ns();
    usleep(500000);
    atomic_store(&done, true);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_gt(workers[1].cpu_ns, 0);
    ck_assert_uint_gt(workers[0].cpu_ns, 2 * workers[1].cpu_ns);
    /* It paused, and neither worked nor waited meanwhile. */
    uint64_t took_ns = clock_mono_ns() - from_ns;
    ck_assert_uint_gt(metric_read(&workers[1].paused_ns), took_ns / 8);
    ck_assert_uint_lt(metric_read(&workers[1].paused_ns), took_ns - workers[1].cpu_ns);
}
END_TEST

UNIT_MAIN("base_threads", test_mpsc_keeps_each_producers_order,
          test_epoch_frees_only_what_nobody_sees, test_epoch_waits_for_a_reader_inside,
          test_log_behind_a_slow_reader, test_background_gives_way)

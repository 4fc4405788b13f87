#include "crew.h"

#include "monitor.h"

#include "base/assert.h"
#include "base/clock.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    READY_POLL_US = 500,
    FINISHED_POLL_US =
        20000, /* a process that looked more often would take from what it measures */
};

/* Where this process' workers run. */
struct crew {
    struct run *run;
    struct worker *workers;
    pid_t processes[BENCH_PROCESSES_MAX]; /* 0: ended well, and waited for */
    uint32_t processes_count;             /* 0: the workers are threads of our own */
};

void *crew_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        tv_fatal("no memory to share with the processes of the load");
    return memory;
}

static double seconds_of(int who)
{
    struct rusage u;
    (void)getrusage(who, &u); /* cannot fail */
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

double cpu_seconds(void)
{
    return seconds_of(RUSAGE_SELF) + seconds_of(RUSAGE_CHILDREN);
}

static void *thread_main(void *arg)
{
    worker_run(arg);
    return NULL;
}

/* The workers of one process, beginning with this one. */
static void start_threads(struct worker *first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (pthread_create(&first[i].thread, NULL, thread_main, &first[i]) != 0)
            tv_fatal("cannot start a thread");
}

static void join_threads(struct worker *first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pthread_join(first[i].thread, NULL);
}

/* Ends with its parent, however that ends. */
_Noreturn static void process_main(struct crew *c, uint32_t number, pid_t parent)
{
    uint32_t threads = c->run->o->threads;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(EXIT_FAILURE);
    start_threads(&c->workers[number * threads], threads);
    join_threads(&c->workers[number * threads], threads);
    _exit(EXIT_SUCCESS);
}

static void start_processes(struct crew *c)
{
    pid_t parent = getpid();
    fflush(NULL); /* what is buffered is not to be written by each */
    for (uint32_t i = 0; i < c->run->o->processes; i++) {
        pid_t pid = fork();
        if (pid < 0)
            tv_fatal("cannot start a process");
        if (pid == 0)
            process_main(c, i, parent);
        c->processes[c->processes_count++] = pid;
    }
}

/* Collects those that have ended. False when one did not end well. */
static bool processes_are_well(struct crew *c, int flags)
{
    bool well = true;
    for (uint32_t i = 0; i < c->processes_count; i++) {
        int status = 0;
        if (c->processes[i] == 0 || waitpid(c->processes[i], &status, flags) != c->processes[i])
            continue;
        c->processes[i] = 0;
        well = well && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
    }
    return well;
}

static void kill_processes(struct crew *c)
{
    for (uint32_t i = 0; i < c->processes_count; i++)
        if (c->processes[i] != 0)
            (void)kill(c->processes[i], SIGKILL);
    (void)processes_are_well(c, 0);
}

/* Until all workers have come to a point. False when they never will. */
static bool wait_for(struct crew *c, const _Atomic uint32_t *count, unsigned poll_us,
                     struct monitor *monitor)
{
    while (atomic_load(count) < c->run->o->parts) {
        usleep(poll_us);
        if (!processes_are_well(c, WNOHANG))
            return false;
        if (monitor != NULL)
            monitor_tick(monitor);
    }
    return true;
}

static void set_times(struct run *run)
{
    const struct bench_options *o = run->o;
    run->cpu_seconds_before = cpu_seconds();
    run->start_ns = clock_mono_ns();
    run->warm_ns = run->start_ns + (uint64_t)(o->warmup_s * 1e9);
    run->end_ns = o->total > 0 ? UINT64_MAX : run->warm_ns + (uint64_t)(o->duration_s * 1e9);
}

bool crew_run(struct run *run, struct worker *workers, struct monitor *monitor)
{
    const struct bench_options *o = run->o;
    struct crew c = {.run = run, .workers = workers};
    for (uint32_t i = 0; i < o->parts; i++) {
        workers[i].run = run;
        workers[i].part = i;
    }
    if (o->processes > 1)
        start_processes(&c);
    else
        start_threads(workers, o->threads);
    bool well = wait_for(&c, &run->ready, READY_POLL_US, NULL);
    if (well) {
        set_times(run);
        bool begins = !atomic_load(&run->failed);
        if (begins)
            monitor_begin(monitor);
        atomic_store(&run->go, true);
        well = wait_for(&c, &run->finished, FINISHED_POLL_US, begins ? monitor : NULL) && begins;
    }
    if (well)
        monitor_end(monitor);
    if (c.processes_count == 0)
        join_threads(workers, o->threads);
    else if (well)
        well = processes_are_well(&c, 0);
    else
        kill_processes(&c);
    if (!well && !atomic_load(&run->failed))
        fprintf(stderr, "trivet-bench: a process of the load ended before its time\n");
    return well;
}

#include "report.h"

#include "probes.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { JOBS_MAX = 64, STRETCH_MAX = 32, SECONDS_MAX = 300, FAILURES_SHOWN_MAX = 5 };

struct slot *slots_new(uint32_t count)
{
    void *p = mmap(NULL, count * sizeof(struct slot), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(p != MAP_FAILED);
    return p;
}

/* --- marks on rare branches --- */

struct probe_walk {
    uint32_t at;
    uint64_t *hits;
};

static void add_hits(const struct probe *p, void *arg)
{
    struct probe_walk *w = arg;
    ASSERT(w->at < PROBES_MAX);
    w->hits[w->at++] += atomic_load(&p->hits);
}

/* --- processes --- */

static void add_stats(struct sim_stats *sum, const struct sim_stats *s)
{
    /* Nothing but counters. */
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)s;
    for (size_t i = 0; i < sizeof(*s) / sizeof(*to); i++)
        to[i] += from[i];
}

static struct sim_options nth(const struct sim_options *o, enum series series, uint64_t n)
{
    struct sim_options run = *o;
    if (series == SERIES_SEEDS)
        run.seed += n;
    else
        run.crash_at = n + 1;
    return run;
}

/* Runs first ... first + count - 1 of a series. */
struct stretch {
    uint64_t first;
    uint64_t count;
};

static void run_stretch(const struct sim_options *o, enum series series, struct stretch s,
                        struct slot *slot)
{
    for (uint64_t i = 0; i < s.count; i++) {
        struct sim_options run = nth(o, series, s.first + i);
        memset(&slot->result, 0, sizeof(slot->result));
        (void)alarm(SECONDS_MAX);
        sim_run(&run, &slot->result);
        add_stats(&slot->sum, &slot->result.stats);
        slot->passed++;
    }
    struct probe_walk w = {.hits = slot->probe_hits};
    probe_each(add_hits, &w);
}

static pid_t start(const struct sim_options *o, enum series series, struct stretch s,
                   struct slot *slot)
{
    memset(slot, 0, sizeof(*slot));
    (void)fflush(NULL);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid > 0)
        return pid;
    run_stretch(o, series, s, slot);
    exit(0);
}

static void note_end(struct slot *slot, int status)
{
    if (WIFSIGNALED(status) && slot->result.failure[0] == '\0')
        (void)snprintf(slot->result.failure, sizeof(slot->result.failure),
                       "the process ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    else if (WIFEXITED(status) && WEXITSTATUS(status) != 0 && slot->result.failure[0] == '\0')
        (void)snprintf(slot->result.failure, sizeof(slot->result.failure),
                       "the process ended with status %d", WEXITSTATUS(status));
}

bool run_alone(const struct sim_options *o, struct slot *slot)
{
    pid_t pid = start(o, SERIES_SEEDS, (struct stretch){.count = 1}, slot);
    int status;
    pid_t ended = waitpid(pid, &status, 0);
    ASSERT(ended == pid);
    note_end(slot, status);
    return slot->result.failure[0] == '\0';
}

static void take_failure(struct report *r, const struct sim_options *o, const struct slot *slot,
                         bool shrink)
{
    add_stats(&r->sum, &slot->result.stats);
    r->failed++;
    if (r->failed > FAILURES_SHOWN_MAX)
        return;
    printf("seed %" PRIu64, o->seed);
    if (o->crash_at != 0)
        printf(", crash at operation %" PRIu64 ",", o->crash_at);
    printf(" FAILED after %" PRIu64 " ms: %s\n", slot->result.failed_at_ms, slot->result.failure);
    if (shrink)
        shrink_and_print(o, &slot->result);
    (void)fflush(stdout);
}

/* --- many --- */

struct many {
    const struct sim_options *o;
    const struct series_options *so;
    struct report *report;
    struct slot *slots;
    struct stretch stretches[JOBS_MAX];
    pid_t pids[JOBS_MAX];
    uint64_t begun;
    uint64_t running;
};

static void begin(struct many *m, uint32_t job, struct stretch s)
{
    m->stretches[job] = s;
    m->pids[job] = start(m->o, m->so->series, s, &m->slots[job]);
    m->running++;
}

/* Short enough that the jobs end together. */
static struct stretch next_stretch(struct many *m)
{
    uint64_t left = m->so->count - m->begun;
    uint64_t share = left / (4 * (uint64_t)m->so->jobs) + 1;
    struct stretch s = {.first = m->begun, .count = share < STRETCH_MAX ? share : STRETCH_MAX};
    m->begun += s.count;
    return s;
}

static void take_end(struct many *m, uint32_t job, int status)
{
    struct slot *slot = &m->slots[job];
    struct stretch s = m->stretches[job];
    m->pids[job] = 0;
    m->running--;
    note_end(slot, status);
    add_stats(&m->report->sum, &slot->sum);
    m->report->passed += slot->passed;
    for (uint32_t i = 0; i < PROBES_MAX; i++)
        m->report->probe_hits[i] += slot->probe_hits[i];
    if (slot->result.failure[0] == '\0')
        return;
    struct sim_options failed = nth(m->o, m->so->series, s.first + slot->passed);
    take_failure(m->report, &failed, slot, m->so->shrink);
    s.first += slot->passed + 1;
    s.count -= slot->passed + 1;
    if (s.count > 0 && !m->so->stop)
        begin(m, job, s);
}

void run_many(const struct sim_options *o, const struct series_options *so, struct report *ret)
{
    struct many m = {.o = o, .so = so, .report = ret, .slots = slots_new(JOBS_MAX)};
    uint32_t jobs = so->jobs < JOBS_MAX ? so->jobs : JOBS_MAX;
    *ret = (struct report){0};
    for (;;) {
        bool more = m.begun < so->count && !(so->stop && ret->failed > 0);
        for (uint32_t i = 0; i < jobs && more; i++) {
            if (m.pids[i] == 0)
                begin(&m, i, next_stretch(&m));
            more = m.begun < so->count;
        }
        if (m.running == 0)
            break;
        int status;
        pid_t pid = wait(&status);
        uint32_t job = 0;
        while (job < jobs && m.pids[job] != pid)
            job++;
        ASSERT(job < jobs);
        take_end(&m, job, status);
    }
    (void)munmap(m.slots, JOBS_MAX * sizeof(*m.slots));
}

/* --- figures --- */

static const struct {
    const char *name;
    const char *why;
} elsewhere[] = {
#define X(name, why) {#name, why},
    PROBES_ELSEWHERE(X)
#undef X
};

static const char *reached_elsewhere(const char *name)
{
    for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
        if (strcmp(elsewhere[i].name, name) == 0)
            return elsewhere[i].why;
    return NULL;
}

void report_probes_elsewhere(void)
{
    for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
        printf("%s\n", elsewhere[i].name);
}

struct missed_walk {
    const struct report *r;
    uint32_t at, watched, missed, not_here;
};

static void show_missed(const struct probe *p, void *arg)
{
    struct missed_walk *w = arg;
    uint64_t hits = w->r->probe_hits[w->at++];
    if (strstr(p->file, "raft/") == NULL && strstr(p->file, "/wal") == NULL)
        return;
    const char *why = reached_elsewhere(p->name);
    const char *file = strrchr(p->file, '/');
    file = file == NULL ? p->file : file + 1;
    w->watched++;
    if (why != NULL)
        w->not_here++;
    if (why != NULL && hits > 0)
        printf("  reached after all, see probes.h: %s (%s)\n", p->name, file);
    else if (why != NULL)
        printf("  not reached here: %s (%s): %s\n", p->name, file, why);
    else if (hits == 0)
        printf("  never reached: %s (%s)\n", p->name, file);
    w->missed += why == NULL && hits == 0;
}

static void print_members(const struct sim_stats *s)
{
    static const char *const changes[MEMBER_KINDS_COUNT] = {
        [MEMBER_ADD] = "added",        [MEMBER_ADD_LEARNER] = "added as learners",
        [MEMBER_PROMOTE] = "promoted", [MEMBER_REMOVE] = "removed",
        [MEMBER_UPDATE] = "moved",     [MEMBER_REPLACE] = "replaced"};
    printf("  members:");
    for (int kind = 0; kind < MEMBER_KINDS_COUNT; kind++)
        printf(" %" PRIu64 " %s,", s->member_changes[kind], changes[kind]);
    printf(" asked for %" PRIu64 ", refused or lost %" PRIu64 "; data lost %" PRIu64
           ", begun without data %" PRIu64 ", left %" PRIu64 "\n",
           s->changes_asked, s->changes_refused, s->data_lost, s->joined, s->left);
}

void report_print(const struct report *r, double seconds)
{
    const struct sim_stats *s = &r->sum;
    printf("%" PRIu64 " runs in %.1f s (%.1f/s): %.1f virtual hours, %" PRIu64 " events\n",
           r->passed + r->failed, seconds, (double)(r->passed + r->failed) / seconds,
           (double)s->virtual_us / 3.6e9, s->events);
    printf("  %" PRIu64 " entries committed, %" PRIu64 " requests in pieces, %" PRIu64
           " messages, %" PRIu64 " elections won, %" PRIu64 " members restarted\n",
           s->entries, s->in_pieces, s->messages, s->elections, s->restarts);
    printf("  operations: %" PRIu64 " answered, %" PRIu64 " with an error of the API, %" PRIu64
           " of unknown outcome; %" PRIu64 " reads checked, %" PRIu64 " compactions\n",
           s->ops_ok, s->ops_refused, s->ops_unknown, s->reads_checked, s->compactions);
    printf("  watches: %" PRIu64 " streams, %" PRIu64 " events checked; leases: %" PRIu64
           " granted, %" PRIu64 " renewals, %" PRIu64 " ended\n",
           s->watch_streams, s->watch_events, s->leases_granted, s->leases_renewed,
           s->leases_ended);
    printf("  snapshots: %" PRIu64 " sent, %" PRIu64 " not, %" PRIu64 " installed\n",
           s->snapshots_sent, s->snapshots_failed, s->snapshots_installed);
    printf("  disks: damage that the log named %" PRIu64 ", that it could not know %" PRIu64
           "; starts refused for space %" PRIu64 ", alarms %" PRIu64 ", writes refused %" PRIu64
           "\n",
           s->damage_found, s->damage_beyond_log, s->starts_without_room, s->alarms,
           s->refused_for_space);
    print_members(s);
    printf("  faults:");
    for (int f = 0; f < FAULTS_COUNT; f++)
        printf("%s %s %" PRIu64, f == 0 ? "" : ",", fault_text((enum fault)f), s->faults[f]);
    printf("\n");
    struct missed_walk w = {.r = r};
    probe_each(show_missed, &w);
    printf("  marks on rare branches of raft and the log: %u; %u are for other tests, of %u never "
           "reached %u\n",
           w.watched, w.not_here, w.watched - w.not_here, w.missed);
}

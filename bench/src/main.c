/* trivet-bench: read the command line, run the load, say what came of it. Read next: load.h. */
#include "compare.h"
#include "crew.h"
#include "kubernetes.h"
#include "leader.h"
#include "monitor.h"
#include "page.h"
#include "report.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

/* Read by jemalloc: keep the memory of a large answer for the next one, so that page faults of this
 * program are not counted as the server's time. */
extern const char *malloc_conf;
const char *malloc_conf = "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1";

static struct run *interruptible;

/* The end comes early, for every process; what has been measured is reported. */
static void on_interrupt(int number)
{
    (void)number;
    uint64_t now = clock_mono_ns();
    if (atomic_load(&interruptible->end_ns) > now)
        atomic_store(&interruptible->end_ns, now);
}

static void make_value(struct run *run, uint32_t size)
{
    struct rng rng;
    run->value = bref_new(size);
    rng_init(&rng, run->o->seed);
    for (uint32_t i = 0; i < size; i++)
        run->value->data[i] = (uint8_t)rng_next(&rng); /* does not compress */
}

static bool write_json(const struct run *run, const struct total *t, const struct series *series)
{
    const char *path = run->o->json_path;
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *out = to_stdout ? stdout : fopen(path, "w");
    if (out != NULL)
        report_write(out, run, t, series);
    if (out != NULL && fflush(out) == 0 && !ferror(out) && (to_stdout || fclose(out) == 0))
        return true;
    fprintf(stderr, "trivet-bench: %s: %s\n", path, strerror(errno));
    return false;
}

static bool say(const struct run *run, const struct worker *workers, const struct series *series)
{
    struct total *t = total_new(run, workers);
    const char *path = run->o->json_path;
    bool said = true;
    if (path == NULL || strcmp(path, "-") != 0)
        report_print(run, t);
    if (path != NULL)
        said = write_json(run, t, series);
    total_free(t);
    return said;
}

static bool load(struct run *run)
{
    const struct bench_options *o = run->o;
    struct worker *workers = crew_memory(o->parts * sizeof(*workers));
    if (o->command == BENCH_KUBERNETES && !kube_populate(run))
        return false;
    struct monitor *monitor = monitor_new(run, workers);
    interruptible = run;
    (void)signal(SIGINT, on_interrupt);
    bool well = crew_run(run, workers, monitor) && say(run, workers, monitor_series(monitor));
    monitor_free(monitor);
    return well;
}

static int load_main(int argc, char **argv)
{
    struct bench_options o;
    struct run *run = crew_memory(sizeof(*run));
    bench_options_parse(argc, argv, &o);
    run->o = &o;
    (void)signal(SIGPIPE, SIG_IGN);
    bool well = o.to != BENCH_TO_LEADER || leader_choose(&o);
    if (well) {
        keys_init(&run->keys, &o);
        make_value(run, o.command == BENCH_KUBERNETES ? kube_value_size(&o) : o.value_size);
        well = load(run);
        kube_free_all(run);
        bref_unref(run->value);
    }
    bench_options_fini(&o);
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "report") == 0)
        return page_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "compare") == 0)
        return compare_main(argc - 1, argv + 1);
    return load_main(argc, argv);
}

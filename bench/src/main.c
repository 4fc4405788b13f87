/* trivet-bench: read the command line, run the load, say what came of it. Read next: load.h. */
#include "leader.h"
#include "load.h"
#include "report.h"

#include "base/clock.h"
#include "base/mem.h"

#include <signal.h>
#include <stdlib.h>

/* Read by jemalloc: keep the memory of a large answer for the next one, so that page faults of this
 * program are not counted as the server's time. */
extern const char *malloc_conf;
const char *malloc_conf = "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1";

static struct run *interruptible;

/* The end comes early; what has been measured is reported. */
static void on_interrupt(int number)
{
    (void)number;
    uint64_t now = clock_mono_ns();
    if (atomic_load(&interruptible->end_ns) > now)
        atomic_store(&interruptible->end_ns, now);
}

int main(int argc, char **argv)
{
    struct bench_options o;
    struct run run = {.o = &o};
    struct rng rng;
    bench_options_parse(argc, argv, &o);
    (void)signal(SIGPIPE, SIG_IGN);
    if (o.to_leader && !leader_choose(&o)) {
        bench_options_fini(&o);
        return EXIT_FAILURE;
    }
    interruptible = &run;
    (void)signal(SIGINT, on_interrupt);
    keys_init(&run.keys, &o);
    run.value = bref_new(o.value_size);
    rng_init(&rng, o.seed);
    for (uint32_t i = 0; i < o.value_size; i++)
        run.value->data[i] = (uint8_t)rng_next(&rng); /* does not compress */
    struct worker *workers = mem_alloc_zero(o.threads * sizeof(*workers));
    bool began = load_run(&run, workers);
    if (began)
        report(&run, workers);
    load_free(&run, workers);
    mem_free(workers);
    bref_unref(run.value);
    bench_options_fini(&o);
    return began ? EXIT_SUCCESS : EXIT_FAILURE;
}

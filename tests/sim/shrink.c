/* The smallest scenario that still fails: kinds of faults and of operations are left out one by
 * one, then the span is halved while it goes on failing. Any failure will do: it may show the same
 * cause in another place. */
#include "report.h"

#include "client.h"

#include <inttypes.h>
#include <stdio.h>

enum { SPAN_MS_MIN = 50 };

static bool still_fails(const struct sim_options *o, struct slot *slot, struct sim_options *best,
                        struct sim_result *found)
{
    if (run_alone(o, slot))
        return false;
    *best = *o;
    *found = slot->result;
    return true;
}

static void leave_out(uint64_t *mask, int count, struct sim_options *best, struct slot *slot,
                      struct sim_options *o, struct sim_result *found)
{
    for (int i = 0; i < count; i++) {
        if ((*mask >> i & 1) != 0)
            continue;
        *mask |= 1ull << i;
        if (!still_fails(o, slot, best, found))
            *mask &= ~(1ull << i);
    }
}

static void shorten(struct sim_options *best, struct slot *slot, struct sim_result *found)
{
    struct sim_options o = *best;
    uint64_t high = found->failed_at_ms, low = 0;
    if (high == 0 || o.crash_at != 0)
        return;
    while (high - low > SPAN_MS_MIN) {
        o.span_ms = low + (high - low) / 2;
        if (still_fails(&o, slot, best, found))
            high = o.span_ms;
        else
            low = o.span_ms;
    }
}

static void print_command(const struct sim_options *o)
{
    printf("    ./dev sim --verbose --seed %" PRIu64, o->seed);
    if (o->span_ms != 0)
        printf(" --span %" PRIu64, o->span_ms);
    if (o->crash_at != 0)
        printf(" --crash-at %" PRIu64, o->crash_at);
    for (int f = 0; f < FAULTS_COUNT; f++)
        if ((o->faults_off >> f & 1) != 0)
            printf(" --without %s", fault_name((enum fault)f));
    for (int w = 0; w < WORKS_COUNT; w++)
        if ((o->works_off >> w & 1) != 0)
            printf(" --without %s", work_name((enum work)w));
    printf("\n");
}

void shrink_and_print(const struct sim_options *o, const struct sim_result *result)
{
    struct slot *slot = slots_new(1);
    struct sim_options best = *o, next = *o;
    struct sim_result found = *result;
    next.verbose = false;
    leave_out(&next.faults_off, FAULTS_COUNT, &best, slot, &next, &found);
    next = best;
    leave_out(&next.works_off, WORKS_COUNT, &best, slot, &next, &found);
    shorten(&best, slot, &found);
    printf("  smallest: %s\n", found.failure);
    print_command(&best);
}

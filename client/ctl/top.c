#include "top.h"

#include "screen.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 2000, INTERVAL_MS_MIN = 200, INTERVAL_MS_MAX = 60000 };

static const struct ctl_flag flags[] = {
    {.name = "interval",
     .letter = 'n',
     .type = CTL_DURATION,
     .preset = "2s",
     .help = "time between two looks"},
    {.name = "once", .type = CTL_BOOL, .help = "print once and end; also when this is no terminal"},
    {.name = "count",
     .type = CTL_UINT,
     .preset = "0",
     .help = "end after so many looks (0: never); with -o json, one object a line each"},
    {.name = "sort",
     .type = CTL_STRING,
     .preset = "name",
     .help = "order of the members: name, lag, keys, puts, gets, events, cpu, memory",
     .words = "name lag keys puts gets events cpu memory"},
    {NULL},
};

struct top_run {
    struct ctl *c;
    struct gatherer g;
    struct cluster_now before; /* members NULL: there is none yet */
    struct cluster_now now;
    struct top_view *view;
    struct top_look look;
};

static void look_again(struct top_run *t)
{
    cluster_now_fini(&t->before);
    t->before = t->now;
    gather(&t->g, &t->now);
    top_view(t->before.members == NULL ? NULL : &t->before, &t->now, t->view);
    top_sort(t->view, t->look.sort, t->look.reverse);
}

static int sort_by_name(struct ctl *c, const char *name)
{
    for (int i = 0; i < TOP_SORTS_COUNT; i++)
        if (strcmp(name, top_sorts[i]) == 0)
            return i;
    ctl_fail(c, CTL_BAD_FEATURE, "unknown order \"%s\"", name);
}

/* --- without a screen --- */

static void print(struct top_run *t)
{
    if (ctl_is_doc(t->c)) {
        struct doc d;
        doc_init(&d);
        top_doc(t->view, &d);
        ctl_print_doc(t->c, &d);
        doc_fini(&d);
    } else {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        top_draw(t->view, &t->look, &out);
        (void)fwrite(out.data, 1, out.size, stdout);
        (void)fflush(stdout);
        buf_fini(&out);
    }
}

static int run_plain(struct top_run *t, uint64_t count)
{
    look_again(t); /* rates need two */
    for (uint64_t i = 0; count == 0 || i < count; i++) {
        (void)usleep((useconds_t)(t->look.interval_s * 1e6));
        look_again(t);
        if (i > 0 && !ctl_is_doc(t->c))
            (void)fputc('\n', stdout);
        print(t);
        if (ferror(stdout))
            return CTL_IO;
    }
    return CTL_OK;
}

/* --- with one --- */

static void show(struct top_run *t)
{
    struct buf out;
    int rows, columns;
    screen_size(&rows, &columns);
    t->look.rows = rows;
    buf_init(&out, SIZE_MAX);
    top_draw(t->view, &t->look, &out);
    screen_show(buf_slice(&out));
    buf_fini(&out);
}

/* False: it is over. */
static bool take_key(struct top_run *t, int key)
{
    struct top_look *l = &t->look;
    switch (key) {
    case SCREEN_ENDED:
    case 'q':
    case 'Q':
        return false;
    case 's':
        l->sort = (l->sort + 1) % TOP_SORTS_COUNT;
        break;
    case 'r':
        l->reverse = !l->reverse;
        break;
    case 'p':
    case ' ':
        l->paused = !l->paused;
        break;
    case 'h':
    case '?':
        l->help = !l->help;
        break;
    case '+':
        l->interval_s = l->interval_s * 2 > INTERVAL_MS_MAX / 1000.0 ? INTERVAL_MS_MAX / 1000.0
                                                                     : l->interval_s * 2;
        break;
    case '-':
        l->interval_s = l->interval_s / 2 < INTERVAL_MS_MIN / 1000.0 ? INTERVAL_MS_MIN / 1000.0
                                                                     : l->interval_s / 2;
        break;
    default:
        break; /* a new size, too */
    }
    top_sort(t->view, l->sort, l->reverse);
    show(t);
    return true;
}

static int run_screen(struct top_run *t, uint64_t count)
{
    for (uint64_t i = 0; count == 0 || i < count; i++) {
        uint64_t begun = clock_mono_ns();
        look_again(t);
        show(t);
        for (;;) {
            uint64_t passed_ms = (clock_mono_ns() - begun) / 1000000;
            uint64_t interval_ms = (uint64_t)(t->look.interval_s * 1000);
            if (!t->look.paused && passed_ms >= interval_ms)
                break;
            int wait_ms = t->look.paused ? -1 : (int)(interval_ms - passed_ms);
            int key = screen_key(wait_ms);
            if (key != SCREEN_NOTHING && !take_key(t, key))
                return CTL_OK;
        }
    }
    return CTL_OK;
}

int ctl_top(struct ctl *c)
{
    uint64_t interval_ms = ctl_duration_ns(c, "interval") / 1000000;
    uint64_t count = ctl_uint(c, "count");
    if (c->args_count > 0)
        ctl_fail(c, CTL_BAD_ARGS, "top command needs no argument");
    if (interval_ms < INTERVAL_MS_MIN || interval_ms > INTERVAL_MS_MAX)
        ctl_fail(c, CTL_BAD_ARGS, "--interval must be between 200ms and 1m");
    if (!ctl_is_doc(c) && c->format != CTL_SIMPLE && c->format != CTL_TABLE)
        ctl_fail_format(c);
    struct top_run *t = mem_alloc_zero(sizeof(*t));
    t->c = c;
    t->view = mem_alloc_zero(sizeof(*t->view));
    t->look = (struct top_look){.interval_s = (double)interval_ms / 1000,
                                .sort = sort_by_name(c, ctl_text(c, "sort"))};
    gatherer_init(&t->g, c, TIMEOUT_MS);
    int status;
    if (ctl_bool(c, "once") || (count == 0 && !ctl_is_doc(c) && isatty(STDOUT_FILENO) != 1)) {
        status = run_plain(t, 1);
    } else if (!ctl_is_doc(c) && screen_open()) {
        t->look.color = true;
        status = run_screen(t, count);
        screen_close();
    } else {
        status = run_plain(t, count);
    }
    cluster_now_fini(&t->before);
    cluster_now_fini(&t->now);
    gatherer_fini(&t->g);
    mem_free(t->view);
    mem_free(t);
    return status;
}

const struct ctl_command ctl_cmd_top = {
    .name = "top",
    .usage = "[options]",
    .brief = "Shows members, rates, latencies, hot prefixes and slow clients, live",
    .help = "Shows the cluster as it is now and every two seconds again: each member's role, log, "
            "size, rates,\nlatencies, CPU and memory; and of trivet the prefixes that are read and "
            "written most, the clients\nthat wait longest and those that move most. Keys: h tells.",
    .examples = "trivetctl top\n"
                "trivetctl top --once --sort cpu\n"
                "trivetctl top -o json --count 10",
    .group = "Cluster maintenance commands",
    .flags = flags,
    .run = ctl_top,
};

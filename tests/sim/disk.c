#include "disk.h"

#include "base/mem.h"
#include "member.h"

#include <stdio.h>

enum { LATENCY_US = 80 };

static struct sim_disk *sim_disk_of(struct disk *d)
{
    return CONTAINER_OF(d, struct sim_disk, d);
}

/* What a dead member asks of its disk is done, on a disk that nobody will look at again. */
static void on_operation(struct sim_disk *d)
{
    (void)member_operation(d->member);
    sim_disk_schedule(d);
}

static int disk_open_file_(struct disk *d, const char *name, struct disk_file **ret)
{
    return disk_open_file(sim_disk_of(d)->mem, name, ret);
}

static int disk_list_(struct disk *d, void (*each)(void *ctx, const char *name), void *ctx)
{
    return disk_list(sim_disk_of(d)->mem, each, ctx);
}

static void disk_write_(struct disk *d, struct disk_write *req)
{
    on_operation(sim_disk_of(d));
    disk_write(sim_disk_of(d)->mem, req);
}

static void disk_chore_(struct disk *d, struct disk_chore *req)
{
    on_operation(sim_disk_of(d));
    disk_do_chore(sim_disk_of(d)->mem, req);
}

static int disk_fd_(struct disk *d)
{
    (void)d;
    return -1;
}

static void disk_poll_(struct disk *d, bool wait)
{
    struct sim_disk *sd = sim_disk_of(d);
    (void)member_operation(sd->member);
    disk_poll(sd->mem, wait);
}

static void disk_close_(struct disk *d)
{
    (void)d;
    ASSERT(!"a simulated disk is freed by its member");
}

struct sim_disk *sim_disk_new(struct member *m, uint64_t seed)
{
    static struct disk_ops ops;
    struct sim_disk *d = mem_alloc_zero(sizeof(*d));
    d->mem = disk_mem_new(seed);
    ops = *d->mem->ops; /* what is done to an open file needs no disk */
    ops.open_file = disk_open_file_;
    ops.list = disk_list_;
    ops.write = disk_write_;
    ops.chore = disk_chore_;
    ops.fd = disk_fd_;
    ops.poll = disk_poll_;
    ops.close = disk_close_;
    d->d = (struct disk){.ops = &ops, .dir = d->mem->dir, .writes_max = d->mem->writes_max};
    (void)snprintf(d->d.description, sizeof(d->d.description), "simulated");
    d->member = m;
    d->latency_us = LATENCY_US;
    rng_init(&d->rng, seed + 1);
    disk_mem_set_completion_percent(d->mem, 70);
    return d;
}

void sim_disk_free(struct sim_disk *d)
{
    disk_mem_crash(d->mem);
    disk_close(d->mem);
    mem_free(d);
}

void sim_disk_replace(struct sim_disk *d, struct disk *mem)
{
    disk_mem_crash(d->mem);
    disk_close(d->mem);
    d->mem = mem;
    d->d.dir = mem->dir;
    disk_mem_set_completion_percent(mem, 70);
}

void sim_disk_schedule(struct sim_disk *d)
{
    struct member *m = d->member;
    if (m->disk_due || !m->up)
        return;
    m->disk_due = true;
    uint64_t at = m->sim->now_us + sim_exponential(&d->rng, d->latency_us);
    if (at < d->stalled_until_us)
        at = d->stalled_until_us;
    events_push(
        &m->sim->events,
        &(struct event){.at_us = at, .kind = EVENT_DISK, .who = m->number, .life = m->life});
}

#include "disk.h"

#include "base/mem.h"
#include "member.h"

#include <errno.h>
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

/* An open file does not know its disk; only the member whose code runs reads. */
static ssize_t disk_read_(struct disk_file *f, uint64_t offset, void *data, size_t size)
{
    struct sim_disk *d = sim_now->current->disk;
    if (d->reads_left == 0 && !d->member->dying) {
        d->reads_left = UINT64_MAX;
        d->read_failed = true;
        d->member->sim->stats->faults[FAULT_READ_ERROR]++;
        return -EIO;
    }
    if (d->reads_left != UINT64_MAX)
        d->reads_left--;
    return d->mem->ops->read(f, offset, data, size);
}

static void disk_write_(struct disk *d, struct disk_write *req)
{
    sim_disk_of(d)->writes++;
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
    if (!sd->damaged && !sd->member->dying && disk_mem_damages(sd->mem) > 0) {
        sd->damaged = true;
        sd->member->sim->stats->faults[sd->lie]++;
        sim_say(sd->member->sim, "%s: member %u", fault_text(sd->lie), sd->member->number);
    }
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
    ops.read = disk_read_;
    ops.write = disk_write_;
    ops.chore = disk_chore_;
    ops.fd = disk_fd_;
    ops.poll = disk_poll_;
    ops.close = disk_close_;
    d->d = (struct disk){.ops = &ops, .dir = d->mem->dir, .writes_max = d->mem->writes_max};
    (void)snprintf(d->d.description, sizeof(d->d.description), "simulated");
    d->member = m;
    d->latency_us = LATENCY_US;
    d->reads_left = UINT64_MAX;
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
    d->read_failed = false;
    d->damaged = disk_mem_damages(mem) > 0;
    disk_mem_set_completion_percent(mem, 70);
    disk_mem_set_capacity(mem, d->capacity_bytes);
}

void sim_disk_renew(struct sim_disk *d, uint64_t seed)
{
    sim_disk_replace(d, disk_mem_new(seed));
    d->attested = d->settled = d->at_risk = false;
}

/* --- what is wrong with it --- */

void sim_disk_fill(struct sim_disk *d, uint64_t until_us, uint64_t room_bytes, bool store_too)
{
    d->full_until_us = until_us;
    d->store_is_full = store_too;
    d->capacity_bytes = disk_mem_used_bytes(d->mem) + room_bytes + 1;
    disk_mem_set_capacity(d->mem, d->capacity_bytes);
}

static void make_room(struct sim_disk *d)
{
    d->full_until_us = d->capacity_bytes = 0;
    d->store_is_full = false;
    disk_mem_set_capacity(d->mem, 0);
}

void sim_disk_tend(struct sim_disk *d)
{
    if (d->full_until_us != 0 && d->member->sim->now_us >= d->full_until_us)
        make_room(d);
}

void sim_disk_lie(struct sim_disk *d, enum fault how, uint64_t countdown)
{
    d->lie = how;
    disk_mem_lie_after(d->mem, countdown,
                       how == FAULT_LOST_WRITE ? DISK_MEM_LOST : DISK_MEM_ELSEWHERE);
}

bool sim_disk_rot(struct sim_disk *d)
{
    d->damaged = disk_mem_rot(d->mem);
    return d->damaged;
}

void sim_disk_heal(struct sim_disk *d)
{
    make_room(d);
    d->stalled_until_us = 0;
    d->latency_us = LATENCY_US;
    d->reads_left = UINT64_MAX;
}

/* A batch says which one was durable when it was written. So what was damaged is spoken of once all
 * that was under way is written, and then another batch is. */
void sim_disk_looked(struct sim_disk *d, const struct wal *w)
{
    if (!d->damaged || d->attested || d->member->dying || !wal_idle(w))
        return;
    if (!d->settled)
        d->writes_when_settled = d->writes;
    else
        d->attested = d->writes > d->writes_when_settled;
    d->settled = true;
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

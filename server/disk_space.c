#include "server/disk_space.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

enum { HYSTERESIS_BYTES_MIN = 64 << 20 };

struct watched {
    struct disk_space *space;
    char *dir; /* NULL: none */
    uv_fs_t req;
    bool asking;
    bool low;
    bool failed; /* said so */
};

struct disk_space {
    struct disk_space_options o;
    uv_timer_t timer;
    struct watched watched[DISK_SPACE_DIRS_MAX];
    bool low;
    bool stopped;
};

bool disk_space_is_low(bool was_low, uint64_t free_bytes, uint64_t reserve_bytes)
{
    if (!was_low)
        return free_bytes < reserve_bytes;
    uint64_t more = reserve_bytes / 4;
    if (more < HYSTERESIS_BYTES_MIN)
        more = HYSTERESIS_BYTES_MIN;
    return free_bytes < reserve_bytes + more;
}

static void note_change(struct disk_space *s)
{
    bool low = false;
    for (uint32_t i = 0; i < DISK_SPACE_DIRS_MAX; i++)
        low = low || s->watched[i].low;
    if (low == s->low)
        return;
    s->low = low;
    s->o.changed(s->o.ctx, low);
}

static void on_answer(uv_fs_t *req)
{
    struct watched *w = req->data;
    struct disk_space *s = w->space;
    w->asking = false;
    if (s->stopped) {
        uv_fs_req_cleanup(req);
        return;
    }
    if (req->result != 0) {
        if (!w->failed)
            log_warn("cannot tell how much room is left on a disk", LOG_STR("path", w->dir),
                     LOG_STR("error", uv_strerror((int)req->result)));
        w->failed = true; /* what was known stays */
        uv_fs_req_cleanup(req);
        return;
    }
    w->failed = false;
    const uv_statfs_t *st = req->ptr;
    uint64_t free_bytes = st->f_bavail * st->f_bsize;
    uv_fs_req_cleanup(req);
    bool low = disk_space_is_low(w->low, free_bytes, s->o.reserve_bytes);
    if (low != w->low)
        LOG_AT(low ? LOG_WARN : LOG_INFO,
               low ? "little room is left on a disk; writes are refused"
                   : "there is room on the disk again",
               LOG_STR("path", w->dir), LOG_UINT("free-bytes", free_bytes),
               LOG_UINT("reserve-bytes", s->o.reserve_bytes));
    w->low = low;
    note_change(s);
}

static void on_timer(uv_timer_t *timer)
{
    struct disk_space *s = timer->data;
    for (uint32_t i = 0; i < DISK_SPACE_DIRS_MAX; i++) {
        struct watched *w = &s->watched[i];
        if (w->dir == NULL || w->asking)
            continue;
        w->req.data = w;
        w->asking = uv_fs_statfs(timer->loop, &w->req, w->dir, on_answer) == 0;
    }
}

struct disk_space *disk_space_new(const struct disk_space_options *o)
{
    ASSERT(o->reserve_bytes > 0);
    struct disk_space *s = mem_alloc_zero(sizeof(*s));
    s->o = *o;
    for (uint32_t i = 0; i < DISK_SPACE_DIRS_MAX; i++) {
        s->watched[i].space = s;
        s->watched[i].dir = o->dirs[i] == NULL ? NULL : mem_strdup(o->dirs[i]);
    }
    uv_timer_init(o->loop, &s->timer);
    s->timer.data = s;
    uv_timer_start(&s->timer, on_timer, 0, DISK_SPACE_INTERVAL_MS);
    return s;
}

void disk_space_stop(struct disk_space *s)
{
    s->stopped = true;
    uv_timer_stop(&s->timer);
}

void disk_space_free(struct disk_space *s)
{
    for (uint32_t i = 0; i < DISK_SPACE_DIRS_MAX; i++) {
        ASSERT(!s->watched[i].asking);
        mem_free(s->watched[i].dir);
    }
    mem_free(s);
}

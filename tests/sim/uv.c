/* The functions of libuv that a worker uses, on virtual time: its loop is the simulation's. */
#include "member.h"

static struct member *member_of_idle(const uv_idle_t *h)
{
    return member_of_worker(h->data);
}

int uv_idle_init(uv_loop_t *loop, uv_idle_t *h)
{
    (void)loop;
    h->data = NULL;
    return 0;
}

int uv_idle_start(uv_idle_t *h, uv_idle_cb cb)
{
    struct member *m = member_of_idle(h);
    m->idle = cb;
    if (!m->idle_due) {
        m->idle_due = true;
        events_push(&m->sim->events, &(struct event){.at_us = m->sim->now_us + 1,
                                                     .kind = EVENT_IDLE,
                                                     .who = m->number,
                                                     .life = m->life});
    }
    return 0;
}

int uv_idle_stop(uv_idle_t *h)
{
    member_of_idle(h)->idle = NULL;
    return 0;
}

/* A worker's only one: that of what it gathers for watchers. */
int uv_timer_init(uv_loop_t *loop, uv_timer_t *h)
{
    (void)loop;
    h->data = NULL;
    return 0;
}

int uv_timer_start(uv_timer_t *h, uv_timer_cb cb, uint64_t timeout_ms, uint64_t repeat_ms)
{
    struct member *m = member_of_worker(h->data);
    ASSERT(m->gathered == NULL && repeat_ms == 0);
    m->gathered = cb;
    events_push(&m->sim->events, &(struct event){.at_us = m->sim->now_us + timeout_ms * 1000,
                                                 .kind = EVENT_GATHERED,
                                                 .who = m->number,
                                                 .life = m->life});
    return 0;
}

int uv_timer_stop(uv_timer_t *h)
{
    member_of_worker(h->data)->gathered = NULL;
    return 0;
}

int uv_is_active(const uv_handle_t *h)
{
    struct member *m = member_of_worker(h->data);
    return h == (const uv_handle_t *)&m->worker.idle ? m->idle != NULL : m->gathered != NULL;
}

/* With one worker on the core's loop nothing crosses threads. */
int uv_async_init(uv_loop_t *loop, uv_async_t *a, uv_async_cb cb)
{
    (void)loop;
    (void)a;
    (void)cb;
    return 0;
}

int uv_async_send(uv_async_t *a)
{
    (void)a;
    ASSERT(!"nothing crosses threads here");
    return 0;
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run, uv_after_work_cb done)
{
    (void)loop;
    struct member *m = sim_now->current;
    ASSERT(m->works_count < WORKS_MAX);
    m->works[m->works_count++] = (struct member_work){.work = work, .run = run, .done = done};
    if (!m->idle_due) {
        m->idle_due = true;
        events_push(&m->sim->events, &(struct event){.at_us = m->sim->now_us + 100,
                                                     .kind = EVENT_IDLE,
                                                     .who = m->number,
                                                     .life = m->life});
    }
    return 0;
}

/* Work is done in one go when its time comes; nobody ever waits for it. */
int uv_cancel(uv_req_t *req)
{
    struct member *m = sim_now->current;
    for (uint32_t i = 0; i < m->works_count; i++)
        if ((uv_req_t *)m->works[i].work == req)
            m->works[i].cancelled = true;
    return 0;
}

int uv_sem_init(uv_sem_t *sem, unsigned int value)
{
    (void)sem;
    (void)value;
    return 0;
}

void uv_sem_destroy(uv_sem_t *sem)
{
    (void)sem;
}

void uv_sem_post(uv_sem_t *sem)
{
    (void)sem;
}

void uv_sem_wait(uv_sem_t *sem)
{
    (void)sem;
}

/* Whether a call was slow is not looked at here. */
uint64_t uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return 0;
}

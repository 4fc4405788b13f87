#include "server/svc_password.h"

#include "base/assert.h"
#include "base/err.h"

void password_job_init(struct password_job *job, struct worker *w)
{
    *job = (struct password_job){.worker = w};
    list_init(&job->link);
}

static void begin_next(struct worker *w);

static void on_run(uv_work_t *work)
{
    struct password_job *job = work->data;
    job->run(job);
}

static void on_done(uv_work_t *work, int status)
{
    struct password_job *job = work->data;
    struct worker *w = job->worker;
    (void)status;
    ASSERT(job->running);
    job->running = false;
    w->passwords_running--;
    begin_next(w);
    job->done(job);
}

static void begin_next(struct worker *w)
{
    if (w->passwords_running >= PASSWORDS_AT_ONCE || list_is_empty(&w->passwords))
        return;
    struct password_job *job = CONTAINER_OF(w->passwords.next, struct password_job, link);
    list_remove(&job->link);
    w->passwords_waiting--;
    w->passwords_running++;
    job->running = true;
    job->work.data = job;
    uv_queue_work(w->loop, &job->work, on_run, on_done);
}

int password_job_start(struct password_job *job, void (*run)(struct password_job *job),
                       void (*done)(struct password_job *job))
{
    struct worker *w = job->worker;
    ASSERT(!job->running);
    if (w->passwords_waiting == PASSWORDS_WAITING_MAX)
        return TV_TOO_MANY_REQUESTS;
    job->run = run;
    job->done = done;
    list_push_back(&w->passwords, &job->link);
    w->passwords_waiting++;
    begin_next(w);
    return 0;
}

bool password_job_cancel(struct password_job *job)
{
    if (job->running || !list_is_linked(&job->link))
        return false;
    list_remove(&job->link);
    job->worker->passwords_waiting--;
    return true;
}

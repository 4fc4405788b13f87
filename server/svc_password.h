/* What takes long about passwords and signatures, done in libuv's pool and in turn:
 * PASSWORDS_AT_ONCE of a worker at a time, so that snapshots and hashes of the store find threads
 * too; then PASSWORDS_WAITING_MAX wait, and more are refused.
 *
 * Owner: the worker's thread, but for `run`. */
#ifndef SERVER_SVC_PASSWORD_H
#define SERVER_SVC_PASSWORD_H

#include "server/worker.h"

enum { PASSWORDS_AT_ONCE = 2, PASSWORDS_WAITING_MAX = 1024 };

struct password_job {
    struct list link; /* while it waits */
    uv_work_t work;
    struct worker *worker;
    bool running;
    void (*run)(struct password_job *job);  /* in the pool */
    void (*done)(struct password_job *job); /* on the worker's thread */
};

void password_job_init(struct password_job *job, struct worker *w);
/* done() follows, not from inside. Errors: TV_TOO_MANY_REQUESTS: it does not. */
int password_job_start(struct password_job *job, void (*run)(struct password_job *job),
                       void (*done)(struct password_job *job));
/* True: it had not begun, and done() does not come. */
bool password_job_cancel(struct password_job *job);

#endif

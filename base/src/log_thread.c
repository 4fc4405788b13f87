/* Lines of the log on their way through a thread, so that whoever says something does not wait for
 * the file, the terminal or the journal behind it: a disk that stands still would otherwise stop
 * those who are to notice.
 *
 * Two buffers: one is filled, the other is being written. What finds no room is lost, and how many
 * lines that were is said when there is room again. */
#include "log_internal.h"

#include "base/assert.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum {
    BUFFER_BYTES = 512 << 10, /* each of the two */
    FATAL_PATIENCE_S = 1,     /* for what was said before the last words */
};

/* The lock protects all but `running`. */
static struct {
    _Atomic bool running;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_cond_t written;
    char *filling;
    size_t size;
    char *writing;
    bool is_writing;
    bool stopping;
    uint64_t lost;
} behind = {.lock = PTHREAD_MUTEX_INITIALIZER,
            .more = PTHREAD_COND_INITIALIZER,
            .written = PTHREAD_COND_INITIALIZER};

/* What the thread itself says goes out at once. */
static _Thread_local bool is_the_thread;

static void lock(void)
{
    (void)pthread_mutex_lock(&behind.lock);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&behind.lock);
}

bool log__queue(const char *text, size_t size)
{
    if (is_the_thread || !atomic_load_explicit(&behind.running, memory_order_acquire))
        return false;
    lock();
    if (behind.size + size <= BUFFER_BYTES) {
        memcpy(behind.filling + behind.size, text, size);
        behind.size += size;
    } else {
        behind.lost++;
    }
    (void)pthread_cond_signal(&behind.more);
    unlock();
    return true;
}

void log__wait_for_queue(void)
{
    if (!atomic_load_explicit(&behind.running, memory_order_acquire))
        return;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FATAL_PATIENCE_S;
    lock();
    while ((behind.size > 0 || behind.is_writing) &&
           pthread_cond_timedwait(&behind.written, &behind.lock, &until) == 0)
        continue;
    unlock();
}

/* Called and left with the lock held. */
static void write_buffer(void)
{
    char *text = behind.filling;
    size_t size = behind.size;
    uint64_t lost = behind.lost;
    behind.filling = behind.writing;
    behind.writing = text;
    behind.size = 0;
    behind.lost = 0;
    behind.is_writing = true;
    unlock();
    log__out(text, size);
    lock();
    behind.is_writing = false;
    (void)pthread_cond_broadcast(&behind.written);
    if (lost == 0)
        return;
    unlock();
    log_warn("lines of the log are lost: what takes them is too slow", LOG_UINT("lines", lost));
    lock();
}

static void *run(void *arg)
{
    (void)arg;
    is_the_thread = true;
    (void)pthread_setname_np(pthread_self(), "log");
    lock();
    while (!behind.stopping || behind.size > 0) {
        if (behind.size > 0)
            write_buffer();
        else
            (void)pthread_cond_wait(&behind.more, &behind.lock);
    }
    unlock();
    return NULL;
}

void log_start_thread(void)
{
    behind.filling = mem_alloc(BUFFER_BYTES);
    behind.writing = mem_alloc(BUFFER_BYTES);
    behind.stopping = false;
    int rv = pthread_create(&behind.thread, NULL, run, NULL);
    ASSERT(rv == 0);
    atomic_store_explicit(&behind.running, true, memory_order_release);
}

void log_stop_thread(void)
{
    if (!atomic_exchange_explicit(&behind.running, false, memory_order_acq_rel))
        return;
    lock();
    behind.stopping = true;
    (void)pthread_cond_signal(&behind.more);
    unlock();
    (void)pthread_join(behind.thread, NULL);
    mem_free(behind.filling);
    mem_free(behind.writing);
}

/* snapshot save: a stream into a file that has its name only when it is whole. */
#include "commands.h"
#include "progress.h"
#include "restore.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HASH_BYTES = 32, SECTOR_BYTES = 512, DRAW_NS = 100000000, NS_PER_S = 1000000000 };

/* Written by the engine's thread until `done`. */
struct save {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    struct trivet_context *context; /* canceled when the file cannot be written */
    int fd;
    int write_errno; /* 0: all was written */
    uint64_t bytes;
    uint64_t remaining; /* as the last part says */
    char version[64];
    char *error; /* NULL: none */
};

/* A line of the log, as etcdctl writes them. */
static void log_line(const char *msg, const char *name, const char *value)
{
    char time[64];
    struct timespec now;
    struct tm utc;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    fprintf(stderr, "{\"level\":\"info\",\"ts\":\"%s.%06ldZ\",\"msg\":\"%s\",\"%s\":%s}\n", time,
            now.tv_nsec / 1000, msg, name, ctl_quoted(trivet_str(value)));
}

static int write_all(int fd, struct trivet_bytes bytes)
{
    const char *p = bytes.data;
    while (bytes.size > 0) {
        ssize_t n = write(fd, p, bytes.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        p += n;
        bytes.size -= (size_t)n;
    }
    return 0;
}

static void on_part(const struct trivet_result *r, void *arg)
{
    struct save *s = arg;
    const struct trivet_maintenance_result *m = &r->u.maintenance;
    if (r->part) {
        (void)pthread_mutex_lock(&s->lock);
        s->bytes += m->blob.size;
        s->remaining = m->remaining_bytes;
        (void)pthread_mutex_unlock(&s->lock);
        if (m->version.size > 0)
            (void)snprintf(s->version, sizeof(s->version), "%.*s", (int)m->version.size,
                           (const char *)m->version.data);
        if (s->write_errno == 0)
            s->write_errno = write_all(s->fd, m->blob);
        if (s->write_errno != 0)
            trivet_context_cancel(s->context);
        return;
    }
    if (r->status != TRIVET_OK)
        s->error = ctl_copy(trivet_str(ctl_error(r)));
    (void)pthread_mutex_lock(&s->lock);
    s->done = true;
    (void)pthread_cond_signal(&s->cond);
    (void)pthread_mutex_unlock(&s->lock);
}

/* Until all has come, or nothing more does; tells how far it is meanwhile. */
static void await(struct save *s)
{
    struct progress p;
    progress_begin(&p, "saving", PROGRESS_BYTES, 0);
    (void)pthread_mutex_lock(&s->lock);
    while (!s->done) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += DRAW_NS;
        until.tv_sec += until.tv_nsec / NS_PER_S;
        until.tv_nsec %= NS_PER_S;
        (void)pthread_cond_timedwait(&s->cond, &s->lock, &until);
        progress_set_total(&p, s->remaining > 0 ? s->bytes + s->remaining : 0);
        progress_set(&p, s->bytes);
    }
    (void)pthread_mutex_unlock(&s->lock);
    progress_end(&p);
}

/* NULL, or why the stream is not whole. */
static char *fetch(struct ctl *c, const char *endpoint, struct save *s)
{
    const uint64_t ns_per_ms = 1000000;
    struct trivet_request q = {.method = TRIVET_SNAPSHOT};
    s->context = trivet_context_new(ctl_client(c));
    struct trivet_call_options o = {.endpoint = endpoint, .context = s->context};
    /* Without the flag it takes the time that it takes. */
    o.timeout_ms = ctl_given(c, "command-timeout") ? c->command_timeout_ns / ns_per_ms + 1
                                                   : UINT64_C(86400) * 365 * 1000;
    if (trivet_start(c->client, &q, &o, on_part, s) != 0)
        return ctl_sprintf("the snapshot cannot be asked for");
    await(s);
    trivet_context_free(s->context);
    if (s->write_errno != 0)
        return ctl_sprintf("could not write snapshot: %s", ctl_strerror(s->write_errno));
    if (s->error == NULL && (s->remaining != 0 || s->bytes % SECTOR_BYTES != HASH_BYTES))
        return ctl_sprintf("sha256 checksum not found [bytes: %llu]", (unsigned long long)s->bytes);
    return s->error;
}

/* The folder's entry is durable as well. */
static int sync_folder(const char *path)
{
    char *folder = ctl_copy(trivet_str(path));
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder ? 1 : 0] = '\0';
    int fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rv = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0)
        (void)close(fd); /* only read */
    return rv;
}

/* NULL, or why it could not be put in its place. */
static char *finish(struct save *s, const char *part, const char *path)
{
    if (fsync(s->fd) != 0)
        return ctl_sprintf("could not fsync snapshot: %s", ctl_strerror(errno));
    if (close(s->fd) != 0)
        return ctl_sprintf("could not close file descriptor: %s", ctl_strerror(errno));
    if (rename(part, path) != 0 || sync_folder(path) != 0)
        return ctl_sprintf("could not rename %s to %s (%s)", part, path, ctl_strerror(errno));
    return NULL;
}

static int run_save(struct ctl *c)
{
    uint32_t count;
    char size[16];
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "snapshot save expects one argument <filename>");
    const char *path = c->args[0];
    char **endpoints = ctl_seeds(c, &count);
    struct save s = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    (void)ctl_client(c);
    if (count != 1) {
        char *all = ctl_copy(trivet_str(""));
        for (uint32_t i = 0; i < count; i++)
            all = ctl_sprintf("%s%s%s", all, i > 0 ? " " : "", endpoints[i]);
        ctl_fail(c, CTL_INTERRUPTED,
                 "snapshot must be requested to one selected node, not multiple [%s]", all);
    }
    char *part = ctl_sprintf("%s.part", path);
    s.fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (s.fd < 0)
        ctl_fail(c, CTL_INTERRUPTED, "could not open %s (open %s: %s)", part, part,
                 ctl_strerror(errno));
    log_line("created temporary db file", "path", part);
    log_line("fetching snapshot", "endpoint", endpoints[0]);
    char *why = fetch(c, ctl_endpoint(c, endpoints[0]), &s);
    if (why == NULL) {
        log_line("fetched snapshot", "size", ctl_size(size, s.bytes));
        why = finish(&s, part, path);
    }
    if (why != NULL) {
        (void)unlink(part); /* what came is of no use */
        ctl_fail(c, CTL_INTERRUPTED, "%s", why);
    }
    log_line("saved", "path", path);
    printf("Snapshot saved at %s\n", path);
    if (s.version[0] != '\0')
        printf("Server version %s\n", s.version);
    return CTL_OK;
}

static const struct ctl_command subs[] = {
    {.name = "save",
     .usage = "<filename>",
     .brief = "Saves a member's data in a file",
     .run = run_save},
    {.name = "status",
     .usage = "<filename>",
     .brief = "What is in a file that was saved",
     .options = CTL_LOCAL,
     .run = snapshot_status_run},
    {.name = "restore",
     .usage = "<filename> [options]",
     .brief = "Makes a member's data folder of a file that was saved",
     .help = "Makes a member's data folder of a file that trivet or etcd saved. Each member of the "
             "new\n"
             "cluster is made of the same file with the same flags, but for --name and\n"
             "--initial-advertise-peer-urls.",
     .flags = snapshot_restore_flags,
     .options = CTL_LOCAL,
     .run = snapshot_restore_run},
    {NULL},
};

const struct ctl_command ctl_cmd_snapshot = {
    .name = "snapshot",
    .usage = "<subcommand>",
    .brief = "Snapshots: saved, looked at, restored",
    .examples = "  trivetctl snapshot save --endpoints 10.0.0.1:2379 /backup/$(date +%F).db\n"
                "  trivetctl snapshot status -w table /backup/2026-01-01.db\n"
                "  trivetctl snapshot restore /backup/2026-01-01.db --data-dir /var/lib/trivet",
    .group = "Cluster maintenance commands",
    .subs = subs,
};

/* /debug/vars has etcd's keys. `memstats` are Go's own there; here it is what the system counts.
 *
 * Of Go's profiles a C program has none. Under the same paths are what answers the same questions:
 * cmdline; heap, the allocator's own account; threadcreate, the threads there are. For profile and
 * trace there is perf(1), which the answer says. */
#include "server/http_debug.h"

#include "server/node.h"
#include "server/top_page.h"

#include "base/mem.h"
#include "proto/json.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PAGE_BYTES_MAX = 1 << 20 };

static const char text_plain[] = "text/plain; charset=utf-8";

static void respond(struct http1_exchange *x, int status, const char *type, struct buf *body)
{
    http1_respond(x, status, type, buf_slice(body));
    buf_fini(body);
}

/* All of a small file; what is beyond the buffer's bound is left out. */
static void put_file(struct buf *out, const char *path)
{
    char piece[4096];
    FILE *f = fopen(path, "re");
    size_t size;
    if (f == NULL)
        return;
    while ((size = fread(piece, 1, sizeof(piece), f)) > 0)
        if (buf_append(out, piece, size) != 0)
            break;
    (void)fclose(f);
}

/* --- /debug/vars --- */

static void put_cmdline(struct buf *out)
{
    struct buf text;
    buf_init(&text, PAGE_BYTES_MAX / 8);
    put_file(&text, "/proc/self/cmdline");
    (void)buf_printf(out, "\"cmdline\": [");
    for (size_t at = 0; at < text.size;) {
        size_t size = strnlen((const char *)text.data + at, text.size - at);
        if (at > 0)
            (void)buf_printf(out, ",");
        if (json_write_string(slice_of(text.data + at, size), JSON_ESCAPED, out) != 0)
            (void)buf_printf(out, "\"");
        at += size + 1;
    }
    (void)buf_printf(out, "]");
    buf_fini(&text);
}

static uint64_t resident_bytes(void)
{
    struct buf text;
    unsigned long long pages = 0;
    buf_init(&text, PAGE_BYTES_MAX);
    put_file(&text, "/proc/self/statm");
    (void)buf_append(&text, "", 1);
    (void)sscanf((const char *)text.data, "%*u %llu", &pages);
    buf_fini(&text);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_raft(struct buf *out, const struct node *n)
{
    struct core_status s;
    core_status(n->core, &s);
    const char *state = s.leader == n->member_id                      ? "StateLeader"
                        : s.standing == CORE_LEARNER || s.leader != 0 ? "StateFollower"
                                                                      : "StateCandidate";
    (void)buf_printf(out,
                     "\"raft.status\": {\"id\":\"%" PRIx64 "\",\"term\":%" PRIu64
                     ",\"commit\":%" PRIu64 ",\"lead\":\"%" PRIx64
                     "\",\"raftState\":\"%s\",\"applied\":%" PRIu64 "}",
                     n->member_id, s.term, s.commit_index, s.leader, state, s.applied_index);
}

static void serve_vars(struct http1_exchange *x, const struct http1_request *req, struct node *n)
{
    struct buf body;
    struct rlimit files = {0};
    buf_init(&body, PAGE_BYTES_MAX);
    if (!slice_equal(req->method, SLICE_LITERAL("GET"))) {
        http1_add_header(x, "Allow", "GET");
        http1_add_header(x, "X-Content-Type-Options", "nosniff");
        (void)buf_printf(&body, "Method Not Allowed\n");
        respond(x, 405, text_plain, &body);
        return;
    }
    (void)getrlimit(RLIMIT_NOFILE, &files);
    (void)buf_printf(&body, "{\n");
    put_cmdline(&body);
    (void)buf_printf(&body, ",\n\"file_descriptor_limit\": %llu",
                     (unsigned long long)files.rlim_cur);
    (void)buf_printf(&body, ",\n\"memstats\": {\"Sys\":%" PRIu64 "},\n", resident_bytes());
    put_raft(&body, n);
    (void)buf_printf(&body, "\n}\n");
    respond(x, 200, "application/json; charset=utf-8", &body);
}

/* --- /debug/pprof/ --- */

/* jemalloc's, when it is the allocator. */
extern void malloc_stats_print(void (*write)(void *ctx, const char *text), void *ctx,
                               const char *options) __attribute__((weak));

static void on_stats(void *ctx, const char *text)
{
    (void)buf_append(ctx, text, strlen(text));
}

static void put_threads(struct buf *out)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    struct buf names;
    uint32_t count = 0;
    buf_init(&names, PAGE_BYTES_MAX / 2);
    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[320];
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
        (void)buf_printf(&names, "%s ", e->d_name);
        put_file(&names, path);
        count++;
    }
    if (d != NULL)
        (void)closedir(d);
    (void)buf_printf(out, "threadcreate profile: total %" PRIu32 "\n", count);
    (void)buf_append(out, names.data, names.size);
    buf_fini(&names);
}

/* The status. */
static int put_profile(struct buf *out, struct slice name)
{
    if (slice_equal(name, SLICE_LITERAL("cmdline"))) {
        put_file(out, "/proc/self/cmdline");
        if (out->size > 0)
            out->size--; /* the last one's end */
    } else if (slice_equal(name, SLICE_LITERAL("threadcreate"))) {
        put_threads(out);
    } else if (slice_equal(name, SLICE_LITERAL("heap")) && malloc_stats_print != NULL) {
        malloc_stats_print(on_stats, out, NULL);
    } else if (slice_equal(name, SLICE_LITERAL("profile")) ||
               slice_equal(name, SLICE_LITERAL("trace"))) {
        (void)buf_printf(out, "trivet has no profiler of its own: use perf record -p %d\n",
                         (int)getpid());
        return 501;
    } else {
        (void)buf_printf(out, "Unknown profile\n");
        return 404;
    }
    return 200;
}

static void serve_profile(struct http1_exchange *x, struct slice name)
{
    struct buf body;
    buf_init(&body, PAGE_BYTES_MAX);
    http1_add_header(x, "X-Content-Type-Options", "nosniff");
    if (name.size > 0) {
        int status = put_profile(&body, name);
        if (status == 404)
            http1_add_header(x, "X-Go-Pprof", "1");
        respond(x, status, text_plain, &body);
        return;
    }
    static const char *const names[] = {"cmdline", "heap", "threadcreate"};
    (void)buf_printf(
        &body,
        "<html>\n<head>\n<title>/debug/pprof/</title>\n</head>\n<body>\n/debug/pprof/\n<ul>\n");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)buf_printf(&body, "<li><a href='%s'>%s</a></li>\n", names[i], names[i]);
    (void)buf_printf(&body, "</ul>\n</body>\n</html>\n");
    respond(x, 200, "text/html; charset=utf-8", &body);
}

bool http_debug_serve(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                      struct worker *w)
{
    struct slice pprof = SLICE_LITERAL("/debug/pprof/");
    if (slice_equal(path, SLICE_LITERAL("/debug/vars"))) {
        serve_vars(x, req, w->node);
        return true;
    }
    if (slice_equal(path, SLICE_LITERAL("/debug/top"))) {
        top_page_serve(x, req, w);
        return true;
    }
    if (!w->node->config->enable_pprof || !slice_starts_with(path, pprof))
        return false;
    serve_profile(x, slice_of(path.data + pprof.size, path.size - pprof.size));
    return true;
}

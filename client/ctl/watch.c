/* watch: events as they come, for one key or range, or interactively for many. */
#include "commands.h"
#include "kv.h"
#include "resume.h"

#include "base/mem.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { NEXT_MS = 3600 * 1000 };

/* What is watched and what is done with it. */
struct watching {
    struct ctl *c;
    struct trivet_watch *watch;
    char **program; /* NULL: none; else ends with NULL */
    int program_count;
    struct resume *resume; /* NULL: nothing is kept */
};

/* Watches have a thread each when they are interactive; held while one prints. */
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

/* --- printing --- */

static const char *type_name(const struct trivet_event *e)
{
    return e->type == 0 ? "PUT" : "DELETE";
}

static void event_doc(struct doc *d, const struct trivet_event *e)
{
    doc_open(d, NULL, 11);
    doc_int(d, "type", 1, e->type);
    kv_doc(d, "kv", 2, &e->kv);
    if (e->prev_kv.key.size > 0)
        kv_doc(d, "prev_kv", 3, &e->prev_kv);
    doc_close(d);
}

static void header_fields(struct doc *d, const struct trivet_header *h)
{
    doc_uint(d, "cluster_id", 1, h->cluster_id);
    doc_uint(d, "member_id", 2, h->member_id);
    doc_int(d, "revision", 3, h->revision);
    doc_uint(d, "raft_term", 4, h->raft_term);
    doc_close(d);
}

/* The client's own view of an answer, not the message. */
static void json_doc(struct doc *d, const struct trivet_watch_message *m)
{
    doc_open(d, "Header", DOC_PLAIN);
    header_fields(d, &m->header);
    if (m->events_count == 0)
        doc_null(d, "Events");
    else
        doc_open_list(d, "Events", DOC_PLAIN);
    for (uint32_t i = 0; i < m->events_count; i++)
        event_doc(d, &m->events[i]);
    if (m->events_count > 0)
        doc_close(d);
    doc_int(d, "CompactRevision", DOC_PLAIN, m->compact_revision);
    doc_bool(d, "Canceled", DOC_PLAIN, m->status != TRIVET_OK);
    doc_bool(d, "Created", DOC_PLAIN, false);
    doc_string(d, "CancelReason", DOC_PLAIN, "");
}

static void protobuf_doc(struct doc *d, const struct trivet_watch_message *m)
{
    doc_open(d, "header", 1);
    header_fields(d, &m->header);
    doc_bool(d, "canceled", 4, m->status != TRIVET_OK);
    doc_int(d, "compact_revision", 5, m->compact_revision);
    doc_open_list(d, "events", 11);
    for (uint32_t i = 0; i < m->events_count; i++)
        event_doc(d, &m->events[i]);
    doc_close(d);
}

static void print_simple(struct ctl *c, const struct trivet_event *e)
{
    puts(type_name(e));
    if (e->prev_kv.key.size > 0)
        kv_print_simple(c, &e->prev_kv, false);
    kv_print_simple(c, &e->kv, false);
}

static void print_fields(struct ctl *c, const struct trivet_event *e)
{
    printf("\"Type\" : %s\n", type_name(e));
    if (e->prev_kv.key.size > 0)
        kv_print_fields(c, "Prev", &e->prev_kv);
    kv_print_fields(c, "", &e->kv);
}

static void print_message(struct ctl *c, const struct trivet_watch_message *m)
{
    if (c->format == CTL_TABLE)
        ctl_fail_format(c);
    if (ctl_is_doc(c)) {
        struct doc d;
        doc_init(&d);
        if (c->format == CTL_PROTOBUF)
            protobuf_doc(&d, m);
        else
            json_doc(&d, m);
        ctl_print_doc(c, &d);
        doc_fini(&d);
        return;
    }
    if (c->format == CTL_FIELDS)
        ctl_field_header(c, &m->header);
    for (uint32_t i = 0; i < m->events_count; i++) {
        if (c->format == CTL_FIELDS)
            print_fields(c, &m->events[i]);
        else
            print_simple(c, &m->events[i]);
    }
    fflush(stdout);
}

/* --- the program for each event --- */

static void fail_program(struct watching *w, const char *why)
{
    fputs("command [", stderr);
    for (int i = 0; i < w->program_count; i++)
        fprintf(stderr, i > 0 ? " %s" : "%s", ctl_quoted(trivet_str(w->program[i])));
    fprintf(stderr, "] error (%s)\n", why);
    exit(CTL_ERROR);
}

static void run_program(struct watching *w, const struct trivet_watch_message *m,
                        const struct trivet_event *e)
{
    char *key = ctl_quoted(e->kv.key), *value = ctl_quoted(e->kv.value);
    char *more[] = {ctl_sprintf("ETCD_WATCH_REVISION=%" PRId64, m->header.revision),
                    ctl_sprintf("ETCD_WATCH_EVENT_TYPE=\"%s\"", type_name(e)),
                    ctl_sprintf("ETCD_WATCH_KEY=%s", key),
                    ctl_sprintf("ETCD_WATCH_VALUE=%s", value), NULL};
    const char *why = NULL;
    int status = ctl_run_program(w->program, more, &why);
    if (status != 0 && why == NULL)
        why = WIFSIGNALED(status) ? ctl_sprintf("signal: %s", strsignal(WTERMSIG(status)))
                                  : ctl_sprintf("exit status %d", WEXITSTATUS(status));
    if (why != NULL)
        fail_program(w, why);
    for (size_t i = 0; more[i] != NULL; i++)
        mem_free(more[i]);
    free(key);
    free(value);
}

/* --- one watch --- */

static void handle(struct watching *w, const struct trivet_watch_message *m)
{
    bool ended = m->status != TRIVET_OK;
    if (m->created)
        return;
    if (ended)
        fprintf(stderr, "watch was canceled (%s)\n", ctl_watch_error(m));
    bool progress = !ended && m->events_count == 0;
    if (progress && w->resume != NULL && !ctl_bool(w->c, "progress-notify"))
        return; /* only the file is to know */
    if (progress)
        printf("progress notify: %" PRId64 "\n", m->header.revision);
    print_message(w->c, m);
    for (uint32_t i = 0; i < m->events_count && w->program != NULL; i++)
        run_program(w, m, &m->events[i]);
}

/* The revision up to which all is told by then. */
static int64_t told(const struct trivet_watch_message *m)
{
    return m->events_count > 0 ? m->events[m->events_count - 1].kv.mod_revision
                               : m->header.revision;
}

/* A watch from now on begins behind the revision that it is made at; an older one says nothing yet.
 */
static void keep_place(struct watching *w, const struct trivet_watch_message *m)
{
    if (m->status == TRIVET_OK &&
        (!m->created || (w->resume->revision == 0 && !ctl_int(w->c, "rev"))))
        resume_note(w->resume, m->header.cluster_id, told(m));
    if (m->status != TRIVET_OK || m->created)
        resume_save(w->resume);
}

static void follow(struct watching *w)
{
    for (;;) {
        struct trivet_watch_message m;
        uint64_t wait_ms = w->resume == NULL ? NEXT_MS : resume_wait_ms(w->resume, NEXT_MS);
        int status = trivet_watch_next(w->watch, wait_ms, &m);
        if (status == TRIVET_TIMEOUT) {
            if (w->resume != NULL && w->resume->dirty)
                resume_save(w->resume);
            continue;
        }
        (void)pthread_mutex_lock(&printing);
        handle(w, &m);
        if (w->resume != NULL)
            keep_place(w, &m);
        (void)pthread_mutex_unlock(&printing);
        trivet_watch_message_clear(&m);
        if (status != TRIVET_OK)
            return;
    }
}

/* NULL, or why not. `c` has the flags, key and range the rest. */
static const char *open_watch(struct ctl *c, char **keys, int keys_count, struct watching *ret)
{
    struct trivet_watch_options o = {.start_revision = ctl_int(c, "rev"),
                                     .prev_kv = ctl_bool(c, "prev-kv"),
                                     .progress_notify = ctl_bool(c, "progress-notify")};
    if (keys_count < 1)
        return "bad number of arguments";
    bool prefix = ctl_bool(c, "prefix");
    o.key = trivet_str(keys[0]);
    if (keys_count == 2 && prefix)
        return "`range_end` and `--prefix` are mutually exclusive";
    if (keys_count == 2)
        o.range_end = trivet_str(keys[1]);
    if (o.key.size == 0)
        o.key = trivet_bytes("\0", 1);
    if (prefix)
        o.range_end = *keys[0] == '\0' ? o.key : ctl_prefix_end(o.key);
    if (*ctl_text(c, "resume") != '\0') {
        ret->resume = mem_alloc(sizeof(*ret->resume));
        resume_open(ret->resume, c, ctl_text(c, "resume"), o.key, o.range_end);
        o.progress_notify = true; /* so that the place moves on when nothing happens */
        if (ret->resume->revision > 0)
            o.start_revision = ret->resume->revision + 1;
    }
    if (trivet_watch_open(ctl_client(c), &o, NULL, NULL, &ret->watch) != 0)
        return "too many watches";
    ret->c = c;
    return NULL;
}

/* What stands before and behind "--", with the key of the environment. NULL, or why not. */
static const char *split_args(struct ctl *c, char ***ret_keys, int *ret_count, struct watching *w)
{
    const char *key = getenv("ETCDCTL_WATCH_KEY"), *end = getenv("ETCDCTL_WATCH_RANGE_END");
    bool has_key = key != NULL && *key != '\0';
    int count = c->dash_at >= 0 ? c->dash_at : c->args_count;
    if (c->dash_at >= 0 && c->dash_at == c->args_count)
        return "bad number of arguments (found separator --, but no commands)";
    if (has_key && count > 0)
        return "bad number of arguments (found conflicting environment key)";
    *ret_keys = c->args;
    *ret_count = count;
    if (c->dash_at >= 0) {
        w->program_count = c->args_count - c->dash_at;
        w->program = mem_alloc_zero((size_t)(w->program_count + 1) * sizeof(w->program[0]));
        memcpy(w->program, c->args + c->dash_at, (size_t)w->program_count * sizeof(w->program[0]));
    }
    if (has_key) {
        *ret_keys = mem_alloc(2 * sizeof((*ret_keys)[0]));
        (*ret_keys)[0] = (char *)key;
        (*ret_keys)[1] = (char *)end;
        *ret_count = end != NULL && *end != '\0' ? 2 : 1;
    }
    return NULL;
}

/* --- interactive --- */

static void *thread_main(void *arg)
{
    follow(arg);
    return NULL;
}

/* All that were opened, for "progress". */
static struct watching **opened;
static uint32_t opened_count;

static void begin(struct ctl *c, const char *line, char **words, int count)
{
    struct ctl *sub = mem_alloc(sizeof(*sub));
    struct watching *w = mem_alloc_zero(sizeof(*w));
    char **keys;
    int keys_count;
    const char *why = ctl_parse_words(c, &ctl_cmd_watch, words, count, sub);
    if (why == NULL)
        why = split_args(sub, &keys, &keys_count, w);
    if (why == NULL && keys_count < 1)
        why = "bad number of arguments";
    if (why == NULL && *ctl_text(sub, "resume") != '\0')
        why = "--resume is for one watch, not interactive ones";
    if (why != NULL)
        ctl_fail(c, CTL_BAD_ARGS, "%s", why);
    why = open_watch(sub, keys, keys_count, w);
    if (why != NULL) {
        fprintf(stderr, "Invalid command %s (%s)\n", line, why);
        return;
    }
    opened = mem_realloc(opened, (opened_count + 1) * sizeof(opened[0]));
    opened[opened_count++] = w;
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, w) != 0)
        ctl_fail(c, CTL_ERROR, "too many watches");
    (void)pthread_detach(thread);
}

static int run_interactive(struct ctl *c, bool has_key)
{
    char *line = NULL;
    size_t capacity = 0;
    (void)ctl_client(c);
    for (;;) {
        char **words;
        ssize_t size = getline(&line, &capacity, stdin);
        if (size <= 0 || line[size - 1] != '\n')
            ctl_fail(c, CTL_INVALID_INPUT, "error reading watch request line: EOF");
        line[size - 1] = '\0';
        int count = ctl_split(c, line, &words);
        if (count < 1)
            fprintf(stderr, "Invalid command: %s (watch and progress supported)\n", line);
        else if (strcmp(words[0], "progress") == 0)
            for (uint32_t i = 0; i < opened_count; i++)
                trivet_watch_progress(opened[i]->watch);
        else if (strcmp(words[0], "watch") != 0)
            fprintf(stderr, "Invalid command %s (only support watch)\n", line);
        else if (count < 2 && !has_key)
            fprintf(stderr, "Invalid command %s (command type or key is not provided)\n", line);
        else
            begin(c, line, words + 1, count - 1);
    }
}

static int run_watch(struct ctl *c)
{
    const char *key = getenv("ETCDCTL_WATCH_KEY"), *end = getenv("ETCDCTL_WATCH_RANGE_END");
    bool has_key = key != NULL && *key != '\0';
    struct watching w = {0};
    char **keys;
    int keys_count;
    if (!has_key && end != NULL && *end != '\0')
        ctl_fail(c, CTL_BAD_ARGS,
                 "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=\"%s\"", end);
    if (ctl_bool(c, "interactive"))
        return run_interactive(c, has_key);
    const char *why = split_args(c, &keys, &keys_count, &w);
    if (why == NULL)
        why = open_watch(c, keys, keys_count, &w);
    if (why != NULL)
        ctl_fail(c, CTL_BAD_ARGS, "%s", why);
    follow(&w);
    ctl_fail(c, CTL_INTERRUPTED, "watch is canceled by the server");
}

static const struct ctl_flag watch_flags[] = {
    {"interactive", 'i', CTL_BOOL, NULL,
     "read lines \"watch ...\" and \"progress\" from standard input"},
    {"prefix", 0, CTL_BOOL, NULL, "all keys that begin with the key"},
    {"rev", 0, CTL_INT, NULL, "from this revision on"},
    {"prev-kv", 0, CTL_BOOL, NULL, "print what was there before as well"},
    {"progress-notify", 0, CTL_BOOL, NULL, "print how far it is when nothing happens for long"},
    {"resume", 0, CTL_STRING, NULL,
     "keep in this file how far it is, and go on there the next time: no event is lost; none comes "
     "twice in an output that is a file"},
    {NULL},
};

const struct ctl_command ctl_cmd_watch = {
    .name = "watch",
    .usage = "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    .brief = "Prints the events of a key or a range as they come",
    .help =
        "Prints the events of a key or a range as they come, until it is interrupted.\n\n"
        "A command behind \"--\" is run for each, with ETCD_WATCH_REVISION, _EVENT_TYPE, _KEY\n"
        "and _VALUE in its environment. ETCDCTL_WATCH_KEY and _RANGE_END take the place of the\n"
        "arguments.",
    .group = "Key-value commands",
    .flags = watch_flags,
    .run = run_watch,
};

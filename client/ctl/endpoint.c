/* endpoint: health, status and hashkv of each member that --endpoints names. */
#include "commands.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

static const char no_command[] = "Failed to get the %s of endpoint %s (%s)\n";

/* --- health --- */

struct health {
    struct ctl *c;
    const char *endpoint;
    bool healthy;
    uint64_t took_ns;
    char *error; /* NULL: none */
};

static char *alarms_of(const struct trivet_alarm_result *r)
{
    char *text = ctl_copy(trivet_str("Active Alarm(s): "));
    for (uint32_t i = 0; i < r->alarms_count; i++) {
        int alarm = r->alarms[i].alarm;
        text = ctl_sprintf("%s%s", text,
                           alarm == 1   ? "NOSPACE "
                           : alarm == 2 ? "CORRUPT "
                                        : "UNKNOWN ");
    }
    return text;
}

/* A linearizable read goes through the members' agreement; who may not read was let through it. */
static void *look(void *arg)
{
    struct health *h = arg;
    struct trivet_request get = {.method = TRIVET_RANGE, .u.range.key = trivet_str("health")};
    struct trivet_request list = {.method = TRIVET_ALARM};
    struct trivet_result r;
    uint64_t began_ns = clock_mono_ns(), timeout_ns = h->c->command_timeout_ns;
    int status = ctl_try(h->c, &get, h->endpoint, timeout_ns, &r);
    h->took_ns = clock_mono_ns() - began_ns;
    h->healthy = status == TRIVET_OK || strcmp(r.error, "etcdserver: permission denied") == 0;
    if (!h->healthy)
        h->error = ctl_copy(trivet_str(ctl_error(&r)));
    trivet_result_clear(&r);
    if (!h->healthy)
        return NULL;
    timeout_ns = timeout_ns > h->took_ns ? timeout_ns - h->took_ns : 1;
    if (ctl_try(h->c, &list, h->endpoint, timeout_ns, &r) != TRIVET_OK)
        h->error = ctl_copy(trivet_str("Unable to fetch the alarm list"));
    else if (r.u.alarm.alarms_count > 0)
        h->error = alarms_of(&r.u.alarm);
    h->healthy = h->error == NULL;
    trivet_result_clear(&r);
    return NULL;
}

static void print_health_doc(struct ctl *c, const struct health *all, uint32_t count)
{
    struct doc d;
    doc_init(&d);
    d.is_list = true;
    for (uint32_t i = 0; i < count; i++) {
        char *took = mem_alloc(32);
        doc_open(&d, NULL, DOC_PLAIN);
        doc_string(&d, "endpoint", DOC_PLAIN, all[i].endpoint);
        doc_bool(&d, "health", DOC_PLAIN, all[i].healthy);
        doc_string(&d, "took", DOC_PLAIN, ctl_duration(took, all[i].took_ns));
        if (all[i].error != NULL)
            doc_string(&d, "error", DOC_PLAIN, all[i].error);
        doc_close(&d);
    }
    ctl_print_doc(c, &d);
    doc_fini(&d);
}

static void print_health_table(const struct health *all, uint32_t count)
{
    enum { COLUMNS = 4 };
    static const char *const heads[COLUMNS] = {"endpoint", "health", "took", "error"};
    const char **cells = mem_alloc((count + 1) * COLUMNS * sizeof(cells[0]));
    for (uint32_t i = 0; i < count; i++) {
        const char **row = cells + i * COLUMNS;
        row[0] = all[i].endpoint;
        row[1] = all[i].healthy ? "true" : "false";
        row[2] = ctl_duration(mem_alloc(32), all[i].took_ns);
        row[3] = all[i].error != NULL ? all[i].error : "";
    }
    ctl_print_table(heads, COLUMNS, cells, count);
}

static void print_health(struct ctl *c, const struct health *h)
{
    char took[32];
    (void)ctl_duration(took, h->took_ns);
    if (c->format == CTL_FIELDS)
        printf("\"Endpoint\" : %s\n\"Health\" : %s\n\"Took\" : %s\n\"Error\" : %s\n\n",
               ctl_quoted(trivet_str(h->endpoint)), h->healthy ? "true" : "false", took,
               h->error != NULL ? h->error : "");
    else if (h->error == NULL)
        printf("%s is healthy: successfully committed proposal: took = %s\n", h->endpoint, took);
    else
        fprintf(stderr, "%s is unhealthy: failed to commit proposal: %s\n", h->endpoint, h->error);
}

static int run_health(struct ctl *c)
{
    uint32_t count, failed = 0;
    char **endpoints = ctl_endpoints(c, &count);
    struct health *all = mem_alloc_zero((count + 1) * sizeof(all[0]));
    pthread_t *threads = mem_alloc((count + 1) * sizeof(threads[0]));
    (void)ctl_client(c);
    for (uint32_t i = 0; i < count; i++) {
        all[i] = (struct health){.c = c, .endpoint = endpoints[i]};
        if (pthread_create(&threads[i], NULL, look, &all[i]) != 0)
            ctl_fail(c, CTL_ERROR, "too many endpoints");
    }
    for (uint32_t i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
        failed += all[i].error != NULL;
    }
    if (c->format == CTL_PROTOBUF)
        ctl_fail_format(c);
    if (ctl_is_doc(c))
        print_health_doc(c, all, count);
    else if (c->format == CTL_TABLE)
        print_health_table(all, count);
    for (uint32_t i = 0; i < count && (c->format == CTL_SIMPLE || c->format == CTL_FIELDS); i++)
        print_health(c, &all[i]);
    if (failed > 0)
        ctl_fail(c, CTL_ERROR, "unhealthy cluster");
    return CTL_OK;
}

/* --- answers of each --- */

struct answers {
    const char **endpoints;
    struct trivet_result *results;
    uint32_t count;
    char *error; /* the last one; NULL: none */
};

/* Those that answered; the others are told on stderr. */
static void ask_each(struct ctl *c, const struct trivet_request *q, const char *what,
                     struct answers *ret)
{
    uint32_t count;
    char **endpoints = ctl_endpoints(c, &count);
    *ret = (struct answers){.endpoints = mem_alloc((count + 1) * sizeof(ret->endpoints[0])),
                            .results = mem_alloc((count + 1) * sizeof(ret->results[0]))};
    for (uint32_t i = 0; i < count; i++) {
        struct trivet_result *r = &ret->results[ret->count];
        ret->endpoints[ret->count] = endpoints[i];
        if (ctl_try(c, q, endpoints[i], c->command_timeout_ns, r) == TRIVET_OK) {
            ret->count++;
            continue;
        }
        int status = ctl_status_of(c, r, CTL_OK);
        if (status != CTL_OK)
            ctl_fail_call(c, status, r);
        ret->error = ctl_copy(trivet_str(ctl_error(r)));
        fprintf(stderr, no_command, what, endpoints[i], ret->error);
        trivet_result_clear(r);
    }
}

/* A table, or lines of the same with commas between. */
static void print_cells(struct ctl *c, const char *const *heads, uint32_t columns,
                        const char *const *cells, uint32_t rows)
{
    if (c->format == CTL_TABLE) {
        ctl_print_table(heads, columns, cells, rows);
        return;
    }
    for (uint32_t i = 0; i < rows * columns; i++)
        printf(i % columns == columns - 1 ? "%s\n" : "%s, ", cells[i]);
}

/* --- status --- */

enum { STATUS_COLUMNS = 16 };

static const char *yes_or_no(bool yes)
{
    return yes ? "true" : "false";
}

static char *number_text(uint64_t number)
{
    return ctl_sprintf("%" PRIu64, number);
}

static const char *size_text(int64_t bytes)
{
    return ctl_size(mem_alloc(16), (uint64_t)bytes);
}

static char *errors_text(const struct trivet_status_result *s, const char *between)
{
    char *all = ctl_copy(trivet_str(""));
    for (uint32_t i = 0; i < s->errors_count; i++)
        all = ctl_sprintf("%s%s%s", all, i > 0 ? between : "", ctl_copy(s->errors[i]));
    return all;
}

static void status_row(const char *endpoint, const struct trivet_result *r, const char **cells)
{
    const struct trivet_status_result *s = &r->u.status;
    int64_t used = s->db_size > 0 ? s->db_size_in_use * 100 / s->db_size : 100;
    *cells++ = endpoint;
    *cells++ = ctl_sprintf("%" PRIx64, r->header.member_id);
    *cells++ = ctl_copy(s->version);
    *cells++ = ctl_copy(s->storage_version);
    *cells++ = size_text(s->db_size);
    *cells++ = size_text(s->db_size_in_use);
    *cells++ = ctl_sprintf("%" PRId64 "%%", 100 - used);
    *cells++ = size_text(s->db_size_quota);
    *cells++ = yes_or_no(s->leader == r->header.member_id);
    *cells++ = yes_or_no(s->is_learner);
    *cells++ = number_text(s->raft_term);
    *cells++ = number_text(s->raft_index);
    *cells++ = number_text(s->raft_applied_index);
    *cells++ = errors_text(s, ", ");
    *cells++ = ctl_copy(s->downgrade_target);
    *cells = yes_or_no(s->downgrade_enabled);
}

static void print_status_fields(struct ctl *c, const char *endpoint, const struct trivet_result *r)
{
    const struct trivet_status_result *s = &r->u.status;
    ctl_field_header(c, &r->header);
    ctl_field_text("Version", s->version);
    ctl_field_text("StorageVersion", s->storage_version);
    ctl_field_int("DBSize", s->db_size);
    ctl_field_int("DBSizeInUse", s->db_size_in_use);
    ctl_field_int("DBSizeQuota", s->db_size_quota);
    ctl_field_uint("Leader", s->leader);
    ctl_field_bool("IsLearner", s->is_learner);
    ctl_field_uint("RaftIndex", s->raft_index);
    ctl_field_uint("RaftTerm", s->raft_term);
    ctl_field_uint("RaftAppliedIndex", s->raft_applied_index);
    printf("\"Errors\" : [%s]\n", errors_text(s, " "));
    ctl_field_text("Endpoint", trivet_str(endpoint));
    ctl_field_text("DowngradeTargetVersion", s->downgrade_target);
    ctl_field_bool("DowngradeEnabled", s->downgrade_enabled);
    putchar('\n');
}

static void status_doc(struct doc *d, const struct trivet_result *r)
{
    const struct trivet_status_result *s = &r->u.status;
    doc_header(d, &r->header);
    doc_text(d, "version", 2, s->version);
    doc_int(d, "dbSize", 3, s->db_size);
    doc_uint(d, "leader", 4, s->leader);
    doc_uint(d, "raftIndex", 5, s->raft_index);
    doc_uint(d, "raftTerm", 6, s->raft_term);
    doc_uint(d, "raftAppliedIndex", 7, s->raft_applied_index);
    doc_open_list(d, "errors", 8);
    for (uint32_t i = 0; i < s->errors_count; i++)
        doc_text(d, NULL, DOC_PLAIN, s->errors[i]);
    doc_close(d);
    doc_int(d, "dbSizeInUse", 9, s->db_size_in_use);
    doc_bool(d, "isLearner", 10, s->is_learner);
    doc_text(d, "storageVersion", 11, s->storage_version);
    doc_int(d, "dbSizeQuota", 12, s->db_size_quota);
    doc_open(d, "downgradeInfo", 13);
    doc_bool(d, "enabled", 1, s->downgrade_enabled);
    doc_text(d, "targetVersion", 2, s->downgrade_target);
    doc_close(d);
}

static void hash_doc(struct doc *d, const struct trivet_result *r)
{
    doc_header(d, &r->header);
    doc_uint(d, "hash", 2, r->u.maintenance.hash);
    doc_int(d, "compact_revision", 3, r->u.maintenance.compact_revision);
    doc_int(d, "hash_revision", 4, r->u.maintenance.hash_revision);
}

static void print_docs(struct ctl *c, const struct answers *a, const char *name,
                       void (*inside)(struct doc *d, const struct trivet_result *r))
{
    struct doc d;
    if (c->format == CTL_PROTOBUF)
        ctl_fail_format(c);
    doc_init(&d);
    d.is_list = true;
    if (a->count == 0 && c->format == CTL_JSON) { /* Go's list that never was one */
        puts("null");
        return;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        doc_open(&d, NULL, DOC_PLAIN);
        doc_string(&d, "Endpoint", DOC_PLAIN, a->endpoints[i]);
        doc_open(&d, name, DOC_PLAIN);
        inside(&d, &a->results[i]);
        doc_close(&d);
        doc_close(&d);
    }
    ctl_print_doc(c, &d);
    doc_fini(&d);
}

static void print_status(struct ctl *c, const struct answers *a)
{
    static const char *const heads[STATUS_COLUMNS] = {"endpoint",
                                                      "ID",
                                                      "version",
                                                      "storage version",
                                                      "db size",
                                                      "in use",
                                                      "percentage not in use",
                                                      "quota",
                                                      "is leader",
                                                      "is learner",
                                                      "raft term",
                                                      "raft index",
                                                      "raft applied index",
                                                      "errors",
                                                      "downgrade target version",
                                                      "downgrade enabled"};
    const char **cells = mem_alloc((a->count + 1) * STATUS_COLUMNS * sizeof(cells[0]));
    for (uint32_t i = 0; i < a->count; i++)
        status_row(a->endpoints[i], &a->results[i], cells + i * STATUS_COLUMNS);
    print_cells(c, heads, STATUS_COLUMNS, cells, a->count);
}

static int run_status(struct ctl *c)
{
    const struct trivet_request q = {.method = TRIVET_STATUS};
    struct answers a;
    ask_each(c, &q, "status", &a);
    if (ctl_is_doc(c))
        print_docs(c, &a, "Status", status_doc);
    else if (c->format != CTL_FIELDS)
        print_status(c, &a);
    for (uint32_t i = 0; i < a.count && c->format == CTL_FIELDS; i++)
        print_status_fields(c, a.endpoints[i], &a.results[i]);
    return a.error != NULL ? CTL_ERROR : CTL_OK;
}

/* --- hashkv --- */

static void print_hashes(struct ctl *c, const struct answers *a)
{
    enum { COLUMNS = 3 };
    static const char *const heads[COLUMNS] = {"endpoint", "hash", "hash_revision"};
    const char **cells = mem_alloc((a->count + 1) * COLUMNS * sizeof(cells[0]));
    for (uint32_t i = 0; i < a->count; i++) {
        const struct trivet_maintenance_result *m = &a->results[i].u.maintenance;
        cells[i * COLUMNS] = a->endpoints[i];
        cells[i * COLUMNS + 1] = number_text(m->hash);
        cells[i * COLUMNS + 2] = ctl_sprintf("%" PRId64, m->hash_revision);
    }
    print_cells(c, heads, COLUMNS, cells, a->count);
}

static int run_hashkv(struct ctl *c)
{
    const struct trivet_request q = {.method = TRIVET_HASH_KV,
                                     .u.maintenance.revision = ctl_int(c, "rev")};
    struct answers a;
    ask_each(c, &q, "hash", &a);
    if (ctl_is_doc(c))
        print_docs(c, &a, "HashKV", hash_doc);
    else if (c->format != CTL_FIELDS)
        print_hashes(c, &a);
    for (uint32_t i = 0; i < a.count && c->format == CTL_FIELDS; i++) {
        ctl_field_header(c, &a.results[i].header);
        ctl_field_text("Endpoint", trivet_str(a.endpoints[i]));
        ctl_field_uint("Hash", a.results[i].u.maintenance.hash);
        ctl_field_int("HashRevision", a.results[i].u.maintenance.hash_revision);
        putchar('\n');
    }
    if (a.error != NULL)
        ctl_fail(c, CTL_ERROR, "%s", a.error);
    return CTL_OK;
}

static const struct ctl_flag endpoint_flags[] = {
    {"cluster", 0, CTL_BOOL, NULL, "all members of the cluster, as its member list names them"},
    {NULL},
};

static const struct ctl_flag hashkv_flags[] = {
    {"rev", 0, CTL_INT, NULL, "up to this revision (default: the last one)"},
    {NULL},
};

static const struct ctl_command subs[] = {
    {.name = "hashkv",
     .usage = "",
     .brief = "The hash of each member's keys and their history",
     .flags = hashkv_flags,
     .run = run_hashkv},
    {.name = "health", .usage = "", .brief = "Whether each member can serve", .run = run_health},
    {.name = "status",
     .usage = "",
     .brief = "How each member is",
     .help =
         "How each member is. With the format simple a line for each: endpoint, id, version,\n"
         "version of the storage, size of the database, of that in use, percentage not in use,\n"
         "quota, is it leader, is it learner, term, index, applied index, errors, and the\n"
         "downgrade that is under way.",
     .run = run_status},
    {NULL},
};

const struct ctl_command ctl_cmd_endpoint = {
    .name = "endpoint",
    .usage = "<subcommand>",
    .brief = "Health, status and hash of each member",
    .group = "Cluster maintenance commands",
    .flags = endpoint_flags,
    .subs = subs,
};

/* trivetctl check: gathers twice, has the rules judge, and prints. */
#include "checks.h"

#include "commands.h"

#include "base/mem.h"

#include <inttypes.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOKS_APART_MS = 1000, TIMEOUT_MS = 2000 };

const struct check_rule *const check_rules[] = {check_members_rules, check_load_rules,
                                                check_safety_rules, NULL};

/* --- what rules need --- */

void check_find(struct check_report *r, const struct check_rule *rule, enum check_severity severity,
                const char *what, ...)
{
    va_list args;
    if (severity > r->worst)
        r->worst = severity;
    if (r->count == CHECK_FINDINGS_MAX)
        return;
    struct check_finding *f = &r->findings[r->count++];
    *f = (struct check_finding){
        .severity = severity, .rule = rule->name, .why = rule->why, .todo = rule->todo};
    va_start(args, what);
    (void)vsnprintf(f->what, sizeof(f->what), what, args);
    va_end(args);
}

void check_advise(struct check_report *r, const char *todo)
{
    if (r->count > 0)
        r->findings[r->count - 1].todo = todo;
}

bool check_found(const struct check_report *r, const struct check_rule *rule)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (strcmp(r->findings[i].rule, rule->name) == 0)
            return true;
    return false;
}

const char *check_name(const struct member_now *m)
{
    return m->name[0] != '\0' ? m->name : m->address;
}

const struct member_now *check_earlier(const struct check_facts *f, const struct member_now *m)
{
    const struct member_now *old = cluster_now_find(f->before, m->id);
    return old != NULL && old->has_metrics ? old : NULL;
}

bool check_is_loopback(const char *address)
{
    const char *behind = strstr(address, "://");
    if (strncmp(address, "unix", 4) == 0)
        return true;
    const char *host = behind == NULL ? address : behind + 3;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost:", 10) == 0 ||
           strncmp(host, "[::1]", 5) == 0;
}

void check_judge(const struct check_facts *f, struct check_report *ret)
{
    *ret = (struct check_report){0};
    for (const struct check_rule *const *table = check_rules; *table != NULL; table++)
        for (const struct check_rule *rule = *table; rule->name != NULL; rule++)
            rule->look(f, rule, ret);
}

/* --- the command --- */

const struct ctl_flag ctl_check_flags[] = {
    {.name = "hash",
     .type = CTL_BOOL,
     .help = "compare the contents of the members, too; reads "
             "all of the store of each"},
    {NULL},
};

static int64_t cert_until(const char *path)
{
    struct tm until;
    int64_t s = 0;
    FILE *file = path == NULL ? NULL : fopen(path, "re");
    X509 *cert = file == NULL ? NULL : PEM_read_X509(file, NULL, NULL, NULL);
    if (cert != NULL && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until) == 1)
        s = timegm(&until);
    X509_free(cert);
    if (file != NULL)
        (void)fclose(file);
    return s;
}

/* Does a member refuse who shows no certificate? */
static bool asks_for_certs(const struct gatherer *g, const struct cluster_now *n)
{
    for (uint32_t i = 0; i < n->count; i++) {
        const struct member_now *m = &n->members[i];
        struct http_get_options o = g->http;
        struct http_page page;
        if (!m->metrics_page.is_tls || g->http.cert_file == NULL)
            continue;
        o.cert_file = o.key_file = NULL;
        o.body_bytes_max = 1 << 20;
        http_get(m->address, "/health", &o, &page);
        bool refused = page.status == 0;
        buf_fini(&page.body);
        return refused;
    }
    return false;
}

static struct check_hash *ask_hashes(struct gatherer *g, const struct cluster_now *n)
{
    struct check_hash *hashes = mem_alloc_zero((n->count + 1) * sizeof(*hashes));
    int64_t revision = INT64_MAX;
    for (uint32_t i = 0; i < n->count; i++)
        if (n->members[i].answers && n->members[i].status.header.revision < revision)
            revision = n->members[i].status.header.revision;
    for (uint32_t i = 0; i < n->count; i++) {
        struct trivet_result r;
        const struct trivet_request q = {.method = TRIVET_HASH_KV,
                                         .u.maintenance = {.revision = revision}};
        char *address =
            ctl_sprintf("%.*s", (int)strcspn(n->members[i].address, ";"), n->members[i].address);
        const struct trivet_call_options o = {.timeout_ms = 60000, .endpoint = address};
        if (!n->members[i].answers)
            continue;
        if (trivet_call(g->client, &q, &o, &r) == TRIVET_OK)
            hashes[i] = (struct check_hash){.known = true,
                                            .hash = r.u.maintenance.hash,
                                            .compact_revision = r.u.maintenance.compact_revision};
        trivet_result_clear(&r);
    }
    return hashes;
}

static const char *const severities[] = {"ok", "warn", "bad"};

static void print_doc(struct ctl *c, const struct check_report *r)
{
    struct doc d;
    doc_init(&d);
    doc_string(&d, "status", DOC_PLAIN, severities[r->worst]);
    doc_open_list(&d, "findings", DOC_PLAIN);
    for (uint32_t i = 0; i < r->count; i++) {
        const struct check_finding *f = &r->findings[i];
        doc_open(&d, NULL, DOC_PLAIN);
        doc_string(&d, "check", DOC_PLAIN, f->rule);
        doc_string(&d, "severity", DOC_PLAIN, severities[f->severity]);
        doc_string(&d, "what", DOC_PLAIN, f->what);
        doc_string(&d, "why", DOC_PLAIN, f->why);
        doc_string(&d, "do", DOC_PLAIN, f->todo);
        doc_close(&d);
    }
    doc_close(&d);
    doc_open_list(&d, "passed", DOC_PLAIN);
    for (const struct check_rule *const *table = check_rules; *table != NULL; table++)
        for (const struct check_rule *rule = *table; rule->name != NULL; rule++)
            if (!check_found(r, rule))
                doc_string(&d, NULL, DOC_PLAIN, rule->name);
    doc_close(&d);
    ctl_print_doc(c, &d);
    doc_fini(&d);
}

static void print_finding(const struct check_finding *f, bool color)
{
    const char *on = !color ? "" : f->severity == CHECK_BAD ? "\033[1;31m" : "\033[1;33m";
    printf("%s%-4s%s  %-14s %s\n", on, f->severity == CHECK_BAD ? "BAD" : "WARN",
           color ? "\033[0m" : "", f->rule, f->what);
    printf("      why: %s\n      do:  %s\n", f->why, f->todo);
}

static void print_text(const struct check_report *r)
{
    bool color = isatty(STDOUT_FILENO) == 1;
    uint32_t passed = 0, warned = 0;
    for (int severity = CHECK_BAD; severity > CHECK_OK; severity--)
        for (uint32_t i = 0; i < r->count; i++)
            if ((int)r->findings[i].severity == severity) {
                print_finding(&r->findings[i], color);
                warned += severity == CHECK_WARN;
            }
    for (const struct check_rule *const *table = check_rules; *table != NULL; table++)
        for (const struct check_rule *rule = *table; rule->name != NULL; rule++)
            if (!check_found(r, rule)) {
                printf("ok    %-14s %s\n", rule->name, rule->title);
                passed++;
            }
    printf("%s: %" PRIu32 " bad, %" PRIu32 " to be looked at, %" PRIu32 " checks are fine\n",
           r->worst == CHECK_OK     ? "healthy"
           : r->worst == CHECK_WARN ? "works, but"
                                    : "NOT HEALTHY",
           r->count - warned, warned, passed);
}

int ctl_check_cluster(struct ctl *c)
{
    struct gatherer g;
    struct cluster_now before, now;
    struct check_report *r = mem_alloc(sizeof(*r));
    if (c->args_count > 0)
        ctl_fail(c, CTL_BAD_ARGS, "check takes no argument but 'perf' or 'datascale'");
    if (!ctl_is_doc(c) && c->format != CTL_SIMPLE)
        ctl_fail_format(c);
    gatherer_init(&g, c, TIMEOUT_MS);
    gather(&g, &before);
    (void)usleep(LOOKS_APART_MS * 1000);
    gather(&g, &now);
    struct check_facts f = {.before = &before,
                            .now = &now,
                            .own_cert_until_s = cert_until(g.options.cert_file),
                            .client_certs_asked = asks_for_certs(&g, &now)};
    struct check_hash *hashes = ctl_bool(c, "hash") ? ask_hashes(&g, &now) : NULL;
    f.hashes = hashes;
    check_judge(&f, r);
    if (ctl_is_doc(c))
        print_doc(c, r);
    else
        print_text(r);
    int status = (int)r->worst;
    mem_free(hashes);
    cluster_now_fini(&before);
    cluster_now_fini(&now);
    gatherer_fini(&g);
    mem_free(r);
    return status;
}

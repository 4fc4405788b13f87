/* What `trivetctl top` knows, as lines of text and as a document. */
#include "top.h"

#include "screen.h"

#include "base/buf.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum {
    COLUMNS_MAX = 18,
    ROWS_MAX = GATHER_MEMBERS_MAX + 1,
    CELL_BYTES = 112,
    LIST_ROWS_DEFAULT = 10,
    MEMBER_COLUMNS = 18,
};

#define REVERSE "\033[7m"
#define BOLD "\033[1m"
#define RED "\033[1;31m"
#define YELLOW "\033[33m"
#define PLAIN "\033[0m"

/* --- a table --- */

struct grid {
    uint32_t columns;
    uint32_t rows;
    uint32_t left; /* bits: columns that begin on the left */
    const char *colors[ROWS_MAX];
    char cells[ROWS_MAX][COLUMNS_MAX][CELL_BYTES];
};

static int cell_width(const char *cell)
{
    return screen_width(slice_of_string(cell));
}

static void draw_grid(const struct grid *g, bool color, struct buf *out)
{
    int widths[COLUMNS_MAX] = {0};
    for (uint32_t row = 0; row < g->rows; row++)
        for (uint32_t i = 0; i < g->columns; i++)
            if (cell_width(g->cells[row][i]) > widths[i])
                widths[i] = cell_width(g->cells[row][i]);
    for (uint32_t row = 0; row < g->rows; row++) {
        const char *on = row == 0 ? REVERSE : g->colors[row];
        if (color && on != NULL)
            (void)buf_printf(out, "%s", on);
        for (uint32_t i = 0; i < g->columns; i++) {
            const char *cell = g->cells[row][i];
            int fill = widths[i] - cell_width(cell);
            bool left = (g->left >> i & 1) != 0;
            bool last = i + 1 == g->columns;
            (void)buf_printf(out, "%s%*s%s%*s", i == 0 ? "" : "  ", left ? 0 : fill, "", cell,
                             left && !last ? fill : 0, "");
        }
        (void)buf_printf(out, "%s\n", color && on != NULL ? PLAIN : "");
    }
}

/* --- numbers, short --- */

static const char *count_text(char *dst, size_t size, double n)
{
    if (n < 0)
        (void)snprintf(dst, size, "-");
    else if (n < 10 && n != (double)(int)n)
        (void)snprintf(dst, size, "%.1f", n);
    else if (n < 100000)
        (void)snprintf(dst, size, "%.0f", n);
    else if (n < 1e7)
        (void)snprintf(dst, size, "%.0fk", n / 1e3);
    else
        (void)snprintf(dst, size, "%.1fM", n / 1e6);
    return dst;
}

static const char *bytes_text(char *dst, size_t size, double n)
{
    if (n < 0)
        (void)snprintf(dst, size, "-");
    else if (n < 1000)
        (void)snprintf(dst, size, "%.0f", n);
    else if (n < 1e6)
        (void)snprintf(dst, size, "%.0fk", n / 1e3);
    else if (n < 1e9)
        (void)snprintf(dst, size, "%.1fM", n / 1e6);
    else
        (void)snprintf(dst, size, "%.2fG", n / 1e9);
    return dst;
}

static const char *time_text(char *dst, size_t size, double ms)
{
    if (ms < 0)
        (void)snprintf(dst, size, "-");
    else
        (void)snprintf(dst, size, "%.*fms", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
    return dst;
}

static void put_head(struct grid *g, const char *const *heads, uint32_t columns)
{
    g->columns = columns;
    g->rows = 1;
    for (uint32_t i = 0; i < columns; i++)
        (void)snprintf(g->cells[0][i], CELL_BYTES, "%s", heads[i]);
}

/* --- members --- */

static void put_member(struct grid *g, const struct top_member *t)
{
    const struct trivet_status_result *s = &t->m->status.u.status;
    char(*cell)[CELL_BYTES] = g->cells[g->rows];
    bool up = t->m->answers;
    char a[24], b[24];
    g->colors[g->rows] = !up || t->alarms[0] != '\0'         ? RED
                         : strcmp(t->role, "leader") == 0    ? BOLD
                         : strcmp(t->role, "no leader") == 0 ? YELLOW
                                                             : NULL;
    g->rows++;
    (void)snprintf(cell[0], CELL_BYTES, "%.40s",
                   t->m->name[0] != '\0' ? t->m->name : t->m->address);
    (void)snprintf(cell[1], CELL_BYTES, "%s", t->m->zone[0] == '\0' ? "-" : t->m->zone);
    (void)snprintf(cell[2], CELL_BYTES, "%s", t->role);
    (void)snprintf(cell[3], CELL_BYTES, up ? "%" PRIu64 : "-", s->raft_term);
    (void)snprintf(cell[4], CELL_BYTES, up ? "%" PRIu64 : "-", s->raft_index);
    (void)snprintf(cell[5], CELL_BYTES, t->lag >= 0 ? "%" PRId64 : "-", t->lag);
    (void)bytes_text(cell[6], CELL_BYTES, up ? (double)s->db_size : -1);
    (void)bytes_text(cell[7], CELL_BYTES, up ? (double)s->db_size_in_use : -1);
    (void)count_text(cell[8], CELL_BYTES, t->keys);
    (void)count_text(cell[9], CELL_BYTES, t->puts);
    (void)count_text(cell[10], CELL_BYTES, t->gets);
    (void)count_text(cell[11], CELL_BYTES, t->txns);
    (void)count_text(cell[12], CELL_BYTES, t->events);
    (void)snprintf(cell[13], CELL_BYTES, "%s/%s", time_text(a, sizeof(a), t->write_p50_s * 1000),
                   time_text(b, sizeof(b), t->write_p99_s * 1000));
    (void)snprintf(cell[14], CELL_BYTES, "%s/%s", time_text(a, sizeof(a), t->read_p50_s * 1000),
                   time_text(b, sizeof(b), t->read_p99_s * 1000));
    if (t->cpu < 0)
        (void)snprintf(cell[15], CELL_BYTES, "-");
    else
        (void)snprintf(cell[15], CELL_BYTES, "%.0f%%", t->cpu * 100);
    (void)bytes_text(cell[16], CELL_BYTES, t->memory);
    (void)snprintf(cell[17], CELL_BYTES, "%s", t->alarms[0] == '\0' ? "-" : t->alarms);
}

static void draw_members(const struct top_view *v, const struct top_look *look, struct buf *out)
{
    static const char *const heads[MEMBER_COLUMNS] = {
        "MEMBER",  "ZONE",          "ROLE",         "TERM",  "INDEX", "LAG",
        "DB",      "IN USE",        "KEYS",         "PUT/S", "GET/S", "TXN/S",
        "EVENT/S", "WRITE p50/p99", "READ p50/p99", "CPU",   "MEM",   "ALARMS"};
    struct grid g = {.left = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 17};
    put_head(&g, heads, MEMBER_COLUMNS);
    for (uint32_t i = 0; i < v->members_count; i++)
        put_member(&g, &v->members[i]);
    draw_grid(&g, look->color, out);
}

static void draw_errors(const struct top_view *v, const struct top_look *look, struct buf *out)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        const struct member_now *m = v->members[i].m;
        if (!m->answers)
            (void)buf_printf(out, "%s%.60s: %.300s%s\n", look->color ? RED : "",
                             m->name[0] != '\0' ? m->name : m->address, m->error,
                             look->color ? PLAIN : "");
        else if (!m->has_metrics)
            (void)buf_printf(out, "%.60s: no metrics at %.200s: %.200s\n",
                             m->name[0] != '\0' ? m->name : m->address, m->address,
                             m->metrics_page.status == 0 ? m->metrics_page.error : "refused");
    }
}

/* --- prefixes and clients --- */

/* Keys are bytes: what is not printable ASCII is shown by its number. */
static void put_key(char *dst, size_t size, const char *text, size_t text_size)
{
    size_t at = 0;
    for (size_t i = 0; i < text_size && at + 5 < size; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c < ' ' || c >= 0x7f)
            at += (size_t)snprintf(dst + at, size - at, "\\x%02x", c);
        else
            dst[at++] = (char)c;
    }
    dst[at] = '\0';
}

static void draw_prefixes(const struct top_view *v, const struct top_look *look, uint32_t rows,
                          struct buf *out)
{
    static const char *const heads[] = {"PREFIX", "READ/S", "WRITE/S", "BYTE/S"};
    struct grid g = {.left = 1};
    put_head(&g, heads, 4);
    for (uint32_t i = 0; i < v->prefixes_count && g.rows <= rows; i++) {
        const struct top_prefix *p = &v->prefixes[i];
        char(*cell)[CELL_BYTES] = g.cells[g.rows];
        if (p->hidden)
            continue;
        g.rows++;
        put_key(cell[0], CELL_BYTES, p->text, p->size);
        (void)count_text(cell[1], CELL_BYTES, p->reads);
        (void)count_text(cell[2], CELL_BYTES, p->writes);
        (void)bytes_text(cell[3], CELL_BYTES, p->bytes);
    }
    draw_grid(&g, look->color, out);
}

static void draw_clients(const struct top_client *clients, uint32_t count, const char *head,
                         const struct top_look *look, uint32_t rows, struct buf *out)
{
    const char *const heads[] = {head,    "NAME", "MEMBER", "CALL/S",
                                 "WORST", "MEAN", "IN/S",   "OUT/S"};
    struct grid g = {.left = 7};
    put_head(&g, heads, 8);
    for (uint32_t i = 0; i < count && g.rows <= rows; i++) {
        const struct top_client *t = &clients[i];
        char(*cell)[CELL_BYTES] = g.cells[g.rows++];
        (void)snprintf(cell[0], CELL_BYTES, "%s", t->peer);
        (void)snprintf(cell[1], CELL_BYTES, "%s", t->name[0] == '\0' ? "-" : t->name);
        (void)snprintf(cell[2], CELL_BYTES, "%.40s", t->member);
        (void)count_text(cell[3], CELL_BYTES, t->calls);
        (void)time_text(cell[4], CELL_BYTES, t->worst_ms);
        (void)time_text(cell[5], CELL_BYTES, t->mean_ms);
        (void)bytes_text(cell[6], CELL_BYTES, t->received);
        (void)bytes_text(cell[7], CELL_BYTES, t->sent);
    }
    draw_grid(&g, look->color, out);
}

/* --- the whole --- */

static void draw_help(struct buf *out)
{
    (void)buf_printf(
        out, "q       end\n"
             "s       sort by the next column\n"
             "r       the other way round\n"
             "p       stand still, go on (space, too)\n"
             "+ -     more or less time between looks\n"
             "h ?     this page, and back\n\n"
             "LAG     log entries that the leader has and the member has not applied\n"
             "p50/p99 of the calls answered since the last look, as the member measures them\n"
             "CPU     100%% is one of them, all the time\n"
             "PREFIX  of keys, by the calls of about ten seconds; one call of 32 is looked at\n"
             "WORST   the longest call of about ten seconds\n");
}

static void draw_head(const struct top_view *v, const struct top_look *look, struct buf *out)
{
    const struct member_now *leader = cluster_now_find(v->now, v->leader);
    uint32_t up = 0;
    char when[32];
    struct tm tm;
    time_t now = (time_t)v->now->wall_s;
    (void)localtime_r(&now, &tm);
    (void)strftime(when, sizeof(when), "%H:%M:%S", &tm);
    for (uint32_t i = 0; i < v->members_count; i++)
        up += v->members[i].m->answers;
    (void)buf_printf(out, "trivetctl top  %s  %" PRIu32 " of %" PRIu32 " members up, leader: %.60s",
                     when, up, v->members_count,
                     leader == NULL            ? "NONE"
                     : leader->name[0] != '\0' ? leader->name
                                               : leader->address);
    if (v->now->leases >= 0)
        (void)buf_printf(out, ", %" PRId64 " leases", v->now->leases);
    if (look->rows > 0)
        (void)buf_printf(out, "  every %.1f s, by %s%s%s  h: help", look->interval_s,
                         top_sorts[look->sort], look->reverse ? " reversed" : "",
                         look->paused ? "  STANDING STILL" : "");
    (void)buf_printf(out, "\n\n");
}

static uint32_t lines_of(const struct buf *out)
{
    uint32_t lines = 0;
    for (size_t i = 0; i < out->size; i++)
        lines += out->data[i] == '\n';
    return lines;
}

void top_draw(const struct top_view *v, const struct top_look *look, struct buf *out)
{
    draw_head(v, look, out);
    if (look->help) {
        draw_help(out);
        return;
    }
    draw_members(v, look, out);
    draw_errors(v, look, out);
    if (!v->tells_prefixes)
        return;
    uint32_t rows = LIST_ROWS_DEFAULT;
    if (look->rows > 0) {
        uint32_t used = lines_of(out) + 6; /* blank lines, heads */
        rows = used >= (uint32_t)look->rows ? 0 : ((uint32_t)look->rows - used) / 3;
    }
    if (rows == 0)
        return;
    if (rows > ROWS_MAX - 1)
        rows = ROWS_MAX - 1;
    (void)buf_printf(out, "\n");
    draw_prefixes(v, look, rows, out);
    (void)buf_printf(out, "\n");
    draw_clients(v->slow, v->slow_count, "SLOWEST CLIENT", look, rows, out);
    (void)buf_printf(out, "\n");
    draw_clients(v->busy, v->busy_count, "BUSIEST CLIENT", look, rows, out);
}

/* --- as a document --- */

/* What is not known is left out. */
static void maybe(struct doc *d, const char *name, double value)
{
    if (value >= 0)
        doc_double(d, name, value);
}

static void member_doc(const struct top_member *t, struct doc *d)
{
    const struct trivet_status_result *s = &t->m->status.u.status;
    doc_open(d, NULL, DOC_PLAIN);
    doc_id(d, "member_id", DOC_PLAIN, t->m->id);
    doc_string(d, "name", DOC_PLAIN, t->m->name);
    doc_string(d, "endpoint", DOC_PLAIN, t->m->address);
    doc_string(d, "zone", DOC_PLAIN, t->m->zone);
    doc_string(d, "role", DOC_PLAIN, t->role);
    if (t->m->answers) {
        doc_text(d, "version", DOC_PLAIN, s->version);
        doc_uint(d, "term", DOC_PLAIN, s->raft_term);
        doc_uint(d, "raft_index", DOC_PLAIN, s->raft_index);
        doc_int(d, "db_size", DOC_PLAIN, s->db_size);
        doc_int(d, "db_size_in_use", DOC_PLAIN, s->db_size_in_use);
    } else {
        doc_string(d, "error", DOC_PLAIN, t->m->error);
    }
    if (t->lag >= 0)
        doc_int(d, "lag", DOC_PLAIN, t->lag);
    maybe(d, "keys", t->keys);
    maybe(d, "puts_per_second", t->puts);
    maybe(d, "gets_per_second", t->gets);
    maybe(d, "txns_per_second", t->txns);
    maybe(d, "events_per_second", t->events);
    maybe(d, "write_p50_seconds", t->write_p50_s);
    maybe(d, "write_p99_seconds", t->write_p99_s);
    maybe(d, "read_p50_seconds", t->read_p50_s);
    maybe(d, "read_p99_seconds", t->read_p99_s);
    maybe(d, "cpu", t->cpu);
    maybe(d, "memory_bytes", t->memory);
    doc_string(d, "alarms", DOC_PLAIN, t->alarms);
    doc_close(d);
}

static void clients_doc(const char *name, const struct top_client *clients, uint32_t count,
                        struct doc *d)
{
    doc_open_list(d, name, DOC_PLAIN);
    for (uint32_t i = 0; i < count; i++) {
        const struct top_client *t = &clients[i];
        doc_open(d, NULL, DOC_PLAIN);
        doc_string(d, "peer", DOC_PLAIN, t->peer);
        doc_string(d, "name", DOC_PLAIN, t->name);
        doc_string(d, "member", DOC_PLAIN, t->member);
        doc_double(d, "calls_per_second", t->calls);
        doc_double(d, "received_bytes_per_second", t->received);
        doc_double(d, "sent_bytes_per_second", t->sent);
        doc_double(d, "mean_ms", t->mean_ms);
        doc_double(d, "worst_ms", t->worst_ms);
        doc_close(d);
    }
    doc_close(d);
}

void top_doc(const struct top_view *v, struct doc *d)
{
    doc_int(d, "time", DOC_PLAIN, v->now->wall_s);
    doc_id(d, "leader", DOC_PLAIN, v->leader);
    if (v->now->leases >= 0)
        doc_int(d, "leases", DOC_PLAIN, v->now->leases);
    doc_open_list(d, "members", DOC_PLAIN);
    for (uint32_t i = 0; i < v->members_count; i++)
        member_doc(&v->members[i], d);
    doc_close(d);
    doc_open_list(d, "prefixes", DOC_PLAIN);
    for (uint32_t i = 0; i < v->prefixes_count; i++) {
        const struct top_prefix *p = &v->prefixes[i];
        doc_open(d, NULL, DOC_PLAIN);
        doc_bytes(d, "prefix", DOC_PLAIN, trivet_bytes(p->text, p->size));
        doc_double(d, "reads_per_second", p->reads);
        doc_double(d, "writes_per_second", p->writes);
        doc_double(d, "bytes_per_second", p->bytes);
        doc_close(d);
    }
    doc_close(d);
    clients_doc("slow_clients", v->slow, v->slow_count, d);
    clients_doc("busy_clients", v->busy, v->busy_count, d);
}

/* What is printed for people: tables, fields, sizes, durations. Go's forms, as etcdctl has them. */
#include "ctl.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

bool ctl_is_doc(const struct ctl *c)
{
    return c->format == CTL_JSON || c->format == CTL_YAML || c->format == CTL_PROTOBUF;
}

void ctl_print_doc(struct ctl *c, const struct doc *d)
{
    static bool another;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    if (c->format == CTL_YAML) {
        if (another)
            fputs("---\n", stdout);
        doc_write_yaml(d, &out);
    } else if (c->format == CTL_PROTOBUF) {
        doc_write_protobuf(d, &out);
    } else {
        doc_write_json(d, &out);
        (void)buf_append(&out, "\n", 1); /* the buffer has no limit */
    }
    another = true;
    (void)fwrite(out.data, 1, out.size, stdout); /* main() looks at ferror(stdout) */
    fflush(stdout);
    buf_fini(&out);
}

void ctl_fail_format(struct ctl *c)
{
    static const char *const names[] = {
        [CTL_SIMPLE] = "simple", [CTL_JSON] = "json",         [CTL_TABLE] = "table",
        [CTL_FIELDS] = "fields", [CTL_PROTOBUF] = "protobuf", [CTL_YAML] = "yaml",
    };
    ctl_fail(c, CTL_BAD_FEATURE, "%s not supported as output format", names[c->format]);
}

bool ctl_print_header(struct ctl *c, const struct trivet_header *h)
{
    if (c->format == CTL_SIMPLE)
        return false;
    if (c->format == CTL_TABLE)
        ctl_fail_format(c);
    if (c->format == CTL_FIELDS) {
        ctl_field_header(c, h);
        return true;
    }
    struct doc d;
    doc_init(&d);
    doc_header(&d, h);
    ctl_print_doc(c, &d);
    doc_fini(&d);
    return true;
}

/* --- tables --- */

static void print_line(const size_t *widths, uint32_t count, const char *left, const char *middle,
                       const char *right)
{
    for (uint32_t i = 0; i < count; i++) {
        fputs(i == 0 ? left : middle, stdout);
        for (size_t j = 0; j < widths[i] + 2; j++)
            fputs("\u2500", stdout);
    }
    printf("%s\n", right);
}

/* Columns that a text takes: characters, not bytes. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

static void print_head(const char *head, size_t width)
{
    size_t room = width - width_of(head);
    printf("\u2502 %*s", (int)(room / 2), "");
    for (const char *p = head; *p != '\0'; p++) {
        char letter = *p == '_' ? ' ' : *p;
        putchar(letter >= 'a' && letter <= 'z' ? letter - 'a' + 'A' : letter);
    }
    printf("%*s ", (int)(room - room / 2), "");
}

void ctl_print_table(const char *const *heads, uint32_t columns, const char *const *cells,
                     uint32_t rows)
{
    size_t *widths = mem_alloc_zero(columns * sizeof(widths[0]));
    for (uint32_t i = 0; i < columns; i++) {
        widths[i] = width_of(heads[i]);
        for (uint32_t row = 0; row < rows; row++) {
            size_t width = width_of(cells[row * columns + i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    print_line(widths, columns, "\u250c", "\u252c", "\u2510");
    for (uint32_t i = 0; i < columns; i++)
        print_head(heads[i], widths[i]);
    fputs("\u2502\n", stdout);
    if (rows > 0)
        print_line(widths, columns, "\u251c", "\u253c", "\u2524");
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t i = 0; i < columns; i++) {
            const char *cell = cells[row * columns + i];
            printf("\u2502 %*s%s ", (int)(widths[i] - width_of(cell)), "", cell);
        }
        fputs("\u2502\n", stdout);
    }
    print_line(widths, columns, "\u2514", "\u2534", "\u2518");
    mem_free(widths);
}

/* --- bytes and fields --- */

void ctl_print_bytes(const struct ctl *c, struct trivet_bytes b)
{
    const uint8_t *p = b.data;
    if (!c->hex) {
        (void)fwrite(b.data, 1, b.size, stdout);
        return;
    }
    for (size_t i = 0; i < b.size; i++)
        printf("\\x%02x", p[i]);
}

/* Does Go print it as it is? Spaces other than ' ' and what only formats are escaped. */
static bool is_printable(uint32_t rune)
{
    static locale_t utf8;
    if (utf8 == 0)
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", 0);
    if (rune == 0xa0 || rune == 0xad || rune == 0x1680 || rune == 0x3000 || rune == 0xfeff ||
        (rune >= 0x2000 && rune <= 0x200f) || (rune >= 0x2028 && rune <= 0x202f) ||
        (rune >= 0x205f && rune <= 0x206f) || (rune >= 0xe000 && rune <= 0xf8ff) || rune >= 0xe0000)
        return false;
    return utf8 != 0 && iswprint_l((wint_t)rune, utf8) != 0;
}

static void put_rune(FILE *to, const uint8_t *p, size_t n, uint32_t rune)
{
    static const char named[] = "abtnvfr";
    if (n == 0)
        fprintf(to, "\\x%02x", p[0]);
    else if (rune == '"' || rune == '\\')
        fprintf(to, "\\%c", (char)rune);
    else if (rune >= '\a' && rune <= '\r')
        fprintf(to, "\\%c", named[rune - '\a']);
    else if (rune < ' ' || rune == 0x7f)
        fprintf(to, "\\x%02x", (unsigned)rune);
    else if (rune < 0x7f || is_printable(rune))
        (void)fwrite(p, 1, n, to);
    else
        fprintf(to, rune < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)rune);
}

static void put_quoted(FILE *to, struct trivet_bytes b)
{
    const uint8_t *p = b.data;
    fputc('"', to);
    for (size_t i = 0; i < b.size;) {
        uint32_t rune = 0;
        size_t n = utf8_get(p + i, b.size - i, &rune);
        put_rune(to, p + i, n, rune);
        i += n == 0 ? 1 : n;
    }
    fputc('"', to);
}

void ctl_print_quoted(struct trivet_bytes b)
{
    put_quoted(stdout, b);
}

char *ctl_quoted(struct trivet_bytes b)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    ASSERT(to != NULL);
    put_quoted(to, b);
    (void)fclose(to); /* memory alone */
    return text;
}

void ctl_field_int(const char *name, int64_t value)
{
    printf("\"%s\" : %" PRId64 "\n", name, value);
}

void ctl_field_uint(const char *name, uint64_t value)
{
    printf("\"%s\" : %" PRIu64 "\n", name, value);
}

void ctl_field_bool(const char *name, bool value)
{
    printf("\"%s\" : %s\n", name, value ? "true" : "false");
}

void ctl_field_text(const char *name, struct trivet_bytes value)
{
    printf("\"%s\" : ", name);
    ctl_print_quoted(value);
    putchar('\n');
}

void ctl_field_id(const struct ctl *c, const char *name, uint64_t value)
{
    printf(c->hex ? "\"%s\" : %" PRIx64 "\n" : "\"%s\" : %" PRIu64 "\n", name, value);
}

void ctl_field_header(const struct ctl *c, const struct trivet_header *h)
{
    ctl_field_id(c, "ClusterID", h->cluster_id);
    ctl_field_id(c, "MemberID", h->member_id);
    if (h->revision > 0)
        ctl_field_int("Revision", h->revision);
    ctl_field_uint("RaftTerm", h->raft_term);
}

/* --- figures --- */

/* In thousands, one digit below ten. Rounded to a tenth first and then to what is shown, as etcd's
 * tools do (humanize.Bytes()): 10,460,000 is 10.5 MB and then, half to even, "10 MB". */
const char *ctl_size(char *dst, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (uint64_t rest = bytes; rest >= 1000; rest /= 1000) {
        value /= 1000;
        unit++;
    }
    double tenths = floor(value * 10 + 0.5);
    bool whole = bytes < 10 || tenths >= 100;
    (void)snprintf(dst, 16, whole ? "%.0f %s" : "%.1f %s", tenths / 10, units[unit]);
    return dst;
}

/* Digits behind the point as many as there are, no zeros at the end. `unit` is at most 10^9. */
static void fraction(char *dst, size_t size, uint64_t value, uint64_t unit, const char *name)
{
    char digits[24];
    (void)snprintf(digits, sizeof(digits), ".%09" PRIu64, value % unit * (1000000000 / unit));
    size_t count = strlen(digits);
    while (digits[count - 1] == '0')
        count--;
    digits[count == 1 ? 0 : count] = '\0';
    (void)snprintf(dst, size, "%" PRIu64 "%s%s", value / unit, digits, name);
}

const char *ctl_duration(char *dst, uint64_t ns)
{
    enum { SIZE = 32 };
    const uint64_t second = 1000000000;
    int size = 0;
    if (ns == 0)
        return memcpy(dst, "0s", sizeof("0s"));
    if (ns < 1000)
        fraction(dst, SIZE, ns, 1, "ns");
    else if (ns < 1000000)
        fraction(dst, SIZE, ns, 1000, "\u00b5s");
    else if (ns < second)
        fraction(dst, SIZE, ns, 1000000, "ms");
    if (ns < second)
        return dst;
    uint64_t minutes = ns / (60 * second);
    if (minutes >= 60)
        size = snprintf(dst, SIZE, "%" PRIu64 "h%" PRIu64 "m", minutes / 60, minutes % 60);
    else if (minutes > 0)
        size = snprintf(dst, SIZE, "%" PRIu64 "m", minutes);
    fraction(dst + size, (size_t)(SIZE - size), ns % (60 * second), second, "s");
    return dst;
}

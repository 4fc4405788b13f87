#include "log_internal.h"

#include "base/assert.h"
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

/* A longer line is cut; its JSON stays whole. */
enum { LINE_BYTES_MAX = 8192, LINE_TAIL_BYTES = 32 };

static _Atomic int level_min = LOG_INFO;
static _Atomic int out_fd = 2;
static _Atomic int line_format = LOG_JSON;
/* Set before others log. */
static log_sink out_sink;
static void *out_ctx;

struct line {
    char text[LINE_BYTES_MAX];
    size_t size;
};

static void put(struct line *l, const char *text, size_t size)
{
    if (size > LINE_BYTES_MAX - LINE_TAIL_BYTES - l->size)
        size = LINE_BYTES_MAX - LINE_TAIL_BYTES - l->size;
    memcpy(l->text + l->size, text, size);
    l->size += size;
}

TV_PRINTF(2, 3) static void putf(struct line *l, const char *fmt, ...)
{
    char text[128];
    va_list ap;
    va_start(ap, fmt);
    int size = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put(l, text, (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1);
}

static bool fits(const struct line *l, size_t size)
{
    return l->size + size <= LINE_BYTES_MAX - LINE_TAIL_BYTES;
}

/* Escapes go out whole or not at all, so that a cut line still parses. */
static void put_json_string(struct line *l, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    put(l, "\"", 1);
    for (size_t i = 0; i < s.size && fits(l, 8); i++) {
        uint8_t c = s.data[i];
        if (c == '"' || c == '\\')
            put(l, (char[]){'\\', (char)c}, 2);
        else if (c == '\n')
            put(l, "\\n", 2);
        else if (c == '\t')
            put(l, "\\t", 2);
        else if (c < 0x20 || c == 0x7f)
            put(l, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        else
            put(l, (const char *)&s.data[i], 1);
    }
    l->text[l->size++] = '"'; /* the tail has room */
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "debug";
    case LOG_INFO:
        return "info";
    case LOG_WARN:
        return "warn";
    case LOG_ERROR:
        return "error";
    case LOG_DPANIC:
        return "dpanic";
    case LOG_PANIC:
        return "panic";
    case LOG_FATAL:
        return "fatal";
    }
    return "info";
}

static void put_time(struct line *l)
{
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    putf(l, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
         tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000);
}

static void put_value(struct line *l, const struct log_field *f)
{
    switch (f->kind) {
    case LOG_KIND_STRING:
        put_json_string(l, f->string);
        break;
    case LOG_KIND_INT:
        putf(l, "%lld", (long long)f->i);
        break;
    case LOG_KIND_UINT:
        putf(l, "%llu", (unsigned long long)f->u);
        break;
    case LOG_KIND_DOUBLE:
        putf(l, "%.6g", f->d);
        break;
    case LOG_KIND_BOOL:
        put(l, f->i != 0 ? "true" : "false", f->i != 0 ? 4 : 5);
        break;
    case LOG_KIND_HEX:
        putf(l, "\"%llx\"", (unsigned long long)f->u);
        break;
    case LOG_KIND_RAW:
        put(l, (const char *)f->string.data, f->string.size);
        break;
    }
}

/* A field is written only when all of it has room, for the same reason. */
static bool field_fits(const struct line *l, const struct log_field *f)
{
    size_t value = f->kind == LOG_KIND_RAW ? f->string.size : 64;
    return fits(l, strlen(f->key) + value + 16);
}

/* "server/main.c:12", as zap writes it: the last folder and the file. */
static const char *short_path(const char *file)
{
    const char *slash = strrchr(file, '/');
    while (slash != NULL && slash > file && slash[-1] != '/')
        slash--;
    return slash != NULL ? slash : file;
}

/* Each with `before` in front of it, and `colon` behind its name. */
static void put_fields(struct line *l, const struct log_field *fields, size_t count,
                       const char *first, const char *before, const char *colon)
{
    for (size_t i = 0; i < count && field_fits(l, &fields[i]); i++) {
        const char *text = i == 0 ? first : before;
        put(l, text, strlen(text));
        put_json_string(l, slice_of_string(fields[i].key));
        put(l, colon, strlen(colon));
        put_value(l, &fields[i]);
    }
}

static void put_json(struct line *l, enum log_level level, const char *file, int line,
                     const char *msg, const struct log_field *fields, size_t fields_count)
{
    putf(l, "{\"level\":\"%s\",\"ts\":\"", level_name(level));
    put_time(l);
    putf(l, "\",\"caller\":\"%s:%d\",\"msg\":", short_path(file), line);
    put_json_string(l, slice_of_string(msg));
    put_fields(l, fields, fields_count, ",", ",", ":");
    l->text[l->size++] = '}';
}

static void put_console(struct line *l, enum log_level level, const char *file, int line,
                        const char *msg, const struct log_field *fields, size_t fields_count)
{
    put_time(l);
    putf(l, "\t%s\t%s:%d\t", level_name(level), short_path(file), line);
    put(l, msg, strlen(msg));
    put_fields(l, fields, fields_count, "\t{", ", ", ": ");
    if (fields_count > 0)
        l->text[l->size++] = '}';
}

void log_write(enum log_level level, const char *file, int line, const char *msg,
               const struct log_field *fields, size_t fields_count)
{
    struct line l;
    l.size = 0;
    if (atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_JSON)
        put_json(&l, level, file, line, msg, fields, fields_count);
    else
        put_console(&l, level, file, line, msg, fields, fields_count);
    l.text[l.size++] = '\n';
    if (level < LOG_FATAL && log__queue(l.text, l.size))
        return;
    if (level >= LOG_FATAL)
        log__wait_for_queue();
    log__out(l.text, l.size);
}

void log_write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, text, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* nobody is left to tell */
        text += written;
        size -= (size_t)written;
    }
}

void log__out(const char *text, size_t size)
{
    int fd = atomic_load_explicit(&out_fd, memory_order_relaxed);
    if (out_sink != NULL) {
        out_sink(out_ctx, text, size);
        return;
    }
    log_write_all(fd, text, size);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_min, level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&level_min, memory_order_relaxed);
}

void log_set_fd(int fd)
{
    atomic_store_explicit(&out_fd, fd, memory_order_relaxed);
}

void log_set_sink(log_sink sink, void *ctx)
{
    out_sink = sink;
    out_ctx = ctx;
}

void log_set_format(enum log_format format)
{
    atomic_store_explicit(&line_format, format, memory_order_relaxed);
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    if (*name == '\0') {
        *ret_level = LOG_INFO;
        return 0;
    }
    if (strcasecmp(name, "warning") == 0)
        name = "warn";
    for (int level = LOG_DEBUG; level <= LOG_FATAL; level++) {
        if (strcasecmp(name, level_name((enum log_level)level)) == 0) {
            *ret_level = (enum log_level)level;
            return 0;
        }
    }
    return TV_EINVAL;
}

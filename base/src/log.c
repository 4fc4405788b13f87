#include "log_internal.h"

#include "base/assert.h"
#include "base/err.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

/* A longer line is cut; its JSON stays whole. */
enum { LINE_BYTES_MAX = 8192, LINE_TAIL_BYTES = 32 };

static _Atomic int level_min = LOG_INFO;
static _Atomic int out_fd = 2;

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

void log_write(enum log_level level, const char *file, int line, const char *msg,
               const struct log_field *fields, size_t fields_count)
{
    struct line l;
    l.size = 0;
    putf(&l, "{\"level\":\"%s\",\"ts\":\"", level_name(level));
    put_time(&l);
    putf(&l, "\",\"caller\":\"%s:%d\",\"msg\":", short_path(file), line);
    put_json_string(&l, slice_of_string(msg));
    for (size_t i = 0; i < fields_count && field_fits(&l, &fields[i]); i++) {
        put(&l, ",", 1);
        put_json_string(&l, slice_of_string(fields[i].key));
        put(&l, ":", 1);
        put_value(&l, &fields[i]);
    }
    l.text[l.size++] = '}';
    l.text[l.size++] = '\n';
    if (level < LOG_FATAL && log__queue(l.text, l.size))
        return;
    if (level >= LOG_FATAL)
        log__wait_for_queue();
    log__out(log__fd(), l.text, l.size);
}

int log__fd(void)
{
    return atomic_load_explicit(&out_fd, memory_order_relaxed);
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

int log_level_parse(const char *name, enum log_level *ret_level)
{
    static const struct {
        const char *name;
        enum log_level level;
    } names[] = {
        {"debug", LOG_DEBUG}, {"info", LOG_INFO},   {"warn", LOG_WARN},
        {"error", LOG_ERROR}, {"panic", LOG_FATAL}, {"fatal", LOG_FATAL},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i].name) == 0) {
            *ret_level = names[i].level;
            return 0;
        }
    }
    return TV_EINVAL;
}

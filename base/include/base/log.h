/* Structured log lines in the two forms that etcd writes them in (zap's): level, ts, caller, msg,
 * then fields.
 *
 * Thread: any; a line is formatted on the caller's stack and written with one write(2), or left to
 * a thread of the log's own. Libraries
 * (raft, storage, proto) log nothing above debug; server/ logs once, where it handles. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* zap's. */
enum log_level {
    LOG_DEBUG = -1,
    LOG_INFO = 0,
    LOG_WARN = 1,
    LOG_ERROR = 2,
    LOG_DPANIC = 3,
    LOG_PANIC = 4,
    LOG_FATAL = 5
};

enum log_format {
    LOG_JSON,    /* an object a line */
    LOG_CONSOLE, /* time, level, caller, message and the fields, with tabs between them */
};

/* Takes whole lines, one or many. Thread: any, but not two at once from the log's own thread; of
 * fatal lines, whoever says them. */
typedef void (*log_sink)(void *ctx, const char *lines, size_t size);

enum log_field_kind {
    LOG_KIND_STRING,
    LOG_KIND_INT,
    LOG_KIND_UINT,
    LOG_KIND_DOUBLE,
    LOG_KIND_BOOL,
    LOG_KIND_HEX,
    LOG_KIND_RAW
};

struct log_field {
    const char *key;
    enum log_field_kind kind;
    union {
        struct slice string;
        int64_t i;
        uint64_t u;
        double d;
    };
};

#define LOG_STR(k, v) \
    ((struct log_field){.key = (k), .kind = LOG_KIND_STRING, .string = slice_of_string(v)})
#define LOG_SLICE(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_STRING, .string = (v)})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_INT, .i = (v)})
#define LOG_UINT(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_UINT, .u = (v)})
#define LOG_DOUBLE(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_DOUBLE, .d = (v)})
#define LOG_BOOL(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_BOOL, .i = (v)})
/* Ids, as etcd prints them: lower-case hex in quotes. */
#define LOG_HEX(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_HEX, .u = (v)})
/* `v` is JSON already, an array of URLs for instance. */
#define LOG_RAW(k, v) \
    ((struct log_field){.key = (k), .kind = LOG_KIND_RAW, .string = slice_of_string(v)})

/* Of a line with the same level and message the first hundred in a second are written, and of the
 * others each hundredth: who says one for each request must not make requests slower. As etcd's. */
enum { LOG_SAMPLE_FIRST = 100, LOG_SAMPLE_EACH = 100 };

/* Whether such a line is to be written; to be asked once for each, since it counts. */
bool log_wants(enum log_level level, const char *msg);
/* Whatever the level is, and however often. */
void log_write(enum log_level level, const char *file, int line, const char *msg,
               const struct log_field *fields, size_t fields_count);

/* Lines below this level are dropped; LOG_INFO to begin with. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* The file descriptor that lines go to; 2 to begin with. Borrowed. */
void log_set_fd(int fd);
/* All of it, unless nobody takes it. */
void log_write_all(int fd, const char *text, size_t size);
/* Lines go to `sink` instead; NULL: to the file descriptor again. Thread: one, before others log.
 */
void log_set_sink(log_sink sink, void *ctx);
void log_set_format(enum log_format format);
/* From here on lines are written by a thread of their own, and who logs never waits; but for fatal
 * ones, which wait up to a second for those before them. A line that finds more than 512 KiB
 * waiting is lost, and counted. Thread: one, before others log. */
void log_start_thread(void);
/* What is waiting is written. When no other thread logs any more. */
void log_stop_thread(void);
/* "debug", "info" (or ""), "warn", "error", "dpanic", "panic" or "fatal" in any case, as zap has
 * them; TV_EINVAL otherwise. */
int log_level_parse(const char *name, enum log_level *ret_level);

/* For a line that log_wants(). */
#define LOG_WANTED(level, msg, ...)                                                \
    do {                                                                           \
        const struct log_field log_fields_here[] = {{.key = NULL}, ##__VA_ARGS__}; \
        log_write((level), __FILE__, __LINE__, (msg), log_fields_here + 1,         \
                  sizeof(log_fields_here) / sizeof(log_fields_here[0]) - 1);       \
    } while (0)

#define LOG_AT(level, msg, ...)                    \
    do {                                           \
        if (log_wants(level, msg))                 \
            LOG_WANTED(level, msg, ##__VA_ARGS__); \
    } while (0)

#define log_debug(msg, ...) LOG_AT(LOG_DEBUG, msg, ##__VA_ARGS__)
#define log_info(msg, ...) LOG_AT(LOG_INFO, msg, ##__VA_ARGS__)
#define log_warn(msg, ...) LOG_AT(LOG_WARN, msg, ##__VA_ARGS__)
#define log_error(msg, ...) LOG_AT(LOG_ERROR, msg, ##__VA_ARGS__)

#endif

/* In the order of etcd's server/embed/config_logging.go, and with its words. */
#include "server/log_setup.h"

#include "server/log_journal.h"
#include "server/log_rotate.h"

#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUTPUTS_MAX = 32 };

struct output {
    int fd;                    /* -1: the next */
    struct log_rotate *rotate; /* NULL: the file descriptor */
    bool is_file;              /* ours to close */
    bool is_journal;
};

static struct {
    pthread_mutex_t lock; /* the log's thread, and who has last words */
    struct output items[OUTPUTS_MAX];
    uint32_t count;
    char identifier[64];
} outputs = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void write_lines(void *ctx, const char *lines, size_t size)
{
    (void)ctx;
    (void)pthread_mutex_lock(&outputs.lock);
    for (uint32_t i = 0; i < outputs.count; i++) {
        struct output *o = &outputs.items[i];
        if (o->rotate != NULL) {
            if (!log_rotate_write(o->rotate, lines, size))
                log_write_all(STDERR_FILENO, lines, size);
        } else if (o->is_journal) {
            log_journal_write(o->fd, outputs.identifier, lines, size);
        } else {
            log_write_all(o->fd, lines, size);
        }
    }
    (void)pthread_mutex_unlock(&outputs.lock);
}

/* --- what is asked for --- */

struct names {
    char *text; /* owns */
    char *items[OUTPUTS_MAX];
    uint32_t count;
};

static bool split(const char *list, struct names *ret)
{
    ret->text = mem_strdup(list);
    ret->count = 0;
    char *rest = ret->text, *item;
    while (ret->count < OUTPUTS_MAX && (item = strsep(&rest, ",")) != NULL)
        ret->items[ret->count++] = item;
    return rest == NULL;
}

static bool has(const struct names *n, const char *name)
{
    for (uint32_t i = 0; i < n->count; i++)
        if (strcmp(n->items[i], name) == 0)
            return true;
    return false;
}

static bool is_standard(const char *name)
{
    return strcmp(name, "default") == 0 || strcmp(name, "stderr") == 0 ||
           strcmp(name, "stdout") == 0;
}

static int check_rotation(const struct config_log *log, const struct names *n,
                          struct log_rotate_options *ret, char *err_text, size_t err_size)
{
    uint32_t files = 0;
    for (uint32_t i = 0; i < n->count; i++)
        files += !is_standard(n->items[i]);
    if (files > 1 || (n->count == 1 && files == 0)) {
        snprintf(err_text, err_size,
                 "--log-outputs requires a single file path when "
                 "--log-rotate-config-json is defined");
        return TV_EINVAL;
    }
    return log_rotate_parse(log->rotation, ret, err_text, err_size);
}

static int check_format(const struct config_log *log, enum log_format *ret, char *err_text,
                        size_t err_size)
{
    *ret = strcmp(log->format, "console") == 0 ? LOG_CONSOLE : LOG_JSON;
    if (*log->format == '\0' || *ret == LOG_CONSOLE || strcmp(log->format, "json") == 0)
        return 0;
    snprintf(err_text, err_size, "unknown log format: %s, supported values json, console",
             log->format);
    return TV_EINVAL;
}

static int check_journal(const struct names *n, char *err_text, size_t err_size)
{
    if (n->count == 1)
        return 0;
    char list[1024];
    size_t used = 0;
    for (uint32_t i = 0; i < n->count && used < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s\"%s\"", i == 0 ? "" : " ",
                                 n->items[i]);
    snprintf(err_text, err_size,
             "running with systemd/journal but other '--log-outputs' values ([%s]) are configured "
             "with 'default'; override 'default' value with something else",
             list);
    return TV_EINVAL;
}

/* --- what is opened --- */

static void add(struct output o)
{
    outputs.items[outputs.count++] = o;
}

static int open_journal(char *err_text, size_t err_size)
{
    int fd = log_journal_open(LOG_JOURNAL_SOCKET);
    if (fd < 0) {
        char why[128];
        snprintf(why, sizeof(why), "%s", strerror(errno));
        why[0] = (char)tolower((unsigned char)why[0]);
        snprintf(err_text, err_size, "dial unixgram %s: connect: %s", LOG_JOURNAL_SOCKET, why);
        return TV_EIO;
    }
    snprintf(outputs.identifier, sizeof(outputs.identifier), "%s", program_invocation_short_name);
    add((struct output){.fd = fd, .is_file = true, .is_journal = true});
    return 0;
}

static int open_file(const char *name, char *err_text, size_t err_size)
{
    const char *path = strncmp(name, "file://", 7) == 0 ? name + 7 : name;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        char why[128];
        snprintf(why, sizeof(why), "%s", strerror(errno));
        why[0] = (char)tolower((unsigned char)why[0]);
        snprintf(err_text, err_size, "open sink \"%s\": open %s: %s", name, path, why);
        return TV_EIO;
    }
    add((struct output){.fd = fd, .is_file = true});
    return 0;
}

/* "default" is stderr, and each of them is written to once. */
static int open_one(const struct names *n, uint32_t at, const struct log_rotate_options *rotate,
                    char *err_text, size_t err_size)
{
    const char *name = n->items[at];
    if (has(n, "/dev/null") && strcmp(name, "/dev/null") != 0)
        return 0; /* as etcd: that one discards all */
    if (strcmp(name, "stdout") == 0)
        add((struct output){.fd = STDOUT_FILENO});
    else if (is_standard(name))
        add((struct output){.fd = STDERR_FILENO});
    else if (rotate != NULL)
        add((struct output){.fd = -1, .rotate = log_rotate_new(name, rotate)});
    else
        return open_file(name, err_text, err_size);
    return 0;
}

static enum config_outcome open_all(const struct config_log *log, const struct names *n,
                                    char *err_text, size_t err_size)
{
    struct log_rotate_options rotation;
    enum log_level level;
    enum log_format format;
    if (n->count > 1 && has(n, "default")) {
        snprintf(err_text, err_size, "multi logoutput for \"default\" is not supported yet");
        return CONFIG_INVALID;
    }
    if (log->rotate && check_rotation(log, n, &rotation, err_text, err_size) != 0)
        return CONFIG_INVALID;
    bool journal = has(n, "systemd/journal");
    int err = journal ? check_journal(n, err_text, err_size) : 0;
    if (err == 0 && journal)
        err = open_journal(err_text, err_size);
    if (err != 0)
        return CONFIG_INVALID;
    if (log_level_parse(log->level, &level) != 0) {
        snprintf(err_text, err_size, "unrecognized level: \"%s\"", log->level);
        return CONFIG_PANIC;
    }
    err = check_format(log, &format, err_text, err_size);
    for (uint32_t i = 0; i < n->count && err == 0 && !journal; i++)
        err = open_one(n, i, log->rotate ? &rotation : NULL, err_text, err_size);
    if (err != 0)
        return CONFIG_INVALID;
    log_set_level(level);
    log_set_format(format);
    log_set_sink(write_lines, NULL);
    return CONFIG_OK;
}

enum config_outcome log_setup(const struct config_log *log, char *err_text, size_t err_size)
{
    struct names n;
    if (strcmp(log->logger, "capnslog") == 0) {
        snprintf(err_text, err_size, "--logger=capnslog is removed in v3.5");
        return CONFIG_INVALID;
    }
    if (strcmp(log->logger, "zap") != 0) {
        snprintf(err_text, err_size, "unknown logger option \"%s\"", log->logger);
        return CONFIG_INVALID;
    }
    enum config_outcome outcome = CONFIG_INVALID;
    if (split(log->outputs, &n))
        outcome = open_all(log, &n, err_text, err_size);
    else
        snprintf(err_text, err_size, "--log-outputs has more than %d values", OUTPUTS_MAX);
    mem_free(n.text);
    if (outcome != CONFIG_OK)
        log_setup_close();
    return outcome;
}

void log_setup_close(void)
{
    log_set_sink(NULL, NULL);
    for (uint32_t i = 0; i < outputs.count; i++) {
        struct output *o = &outputs.items[i];
        if (o->rotate != NULL)
            log_rotate_free(o->rotate);
        if (o->is_file)
            (void)close(o->fd); /* a log is not synced */
    }
    outputs.count = 0;
}

/* A log file that is set aside when it is full, as lumberjack does it for etcd: name-TIME.ext
 * beside it, TIME in UTC or local time; old ones are deleted by number and age, or compressed, by a
 * thread of their own.
 *
 * Thread: one at a time. */
#ifndef SERVER_LOG_ROTATE_H
#define SERVER_LOG_ROTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_rotate_options {
    uint64_t size_max_bytes; /* of a file */
    uint32_t age_max_days;   /* of old ones; 0 = any */
    uint32_t backups_max;    /* 0 = any number */
    bool local_time;
    bool compress; /* old ones, by gzip */
};

struct log_rotate;

/* --log-rotation-config-json. Errors: TV_EINVAL, with etcd's text. */
int log_rotate_parse(const char *json, struct log_rotate_options *ret, char *err_text,
                     size_t err_size);
/* Nothing is opened before the first line is written, as lumberjack has it. */
struct log_rotate *log_rotate_new(const char *path, const struct log_rotate_options *o);
/* Waits for what is being compressed. */
void log_rotate_free(struct log_rotate *r);
/* Whole lines. One line alone never spans two files. False with errno when it cannot be written. */
bool log_rotate_write(struct log_rotate *r, const char *lines, size_t size);

#endif

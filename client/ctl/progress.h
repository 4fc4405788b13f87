/* A line about long work on stderr, when that is a terminal: how far, how fast, how long still.
 * Otherwise nothing. There is one at a time. Thread: one. */
#ifndef CLIENT_CTL_PROGRESS_H
#define CLIENT_CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum progress_unit { PROGRESS_BYTES, PROGRESS_COUNT };

struct progress {
    bool on;
    const char *what; /* borrowed: "copying" */
    enum progress_unit unit;
    uint64_t total; /* 0: not known */
    uint64_t done;
    uint64_t begun_ns;
    uint64_t drawn_ns;
};

void progress_begin(struct progress *p, const char *what, enum progress_unit unit, uint64_t total);
/* `done` of all, so far. Costs next to nothing when it is called more often than drawn. */
void progress_set(struct progress *p, uint64_t done);
void progress_set_total(struct progress *p, uint64_t total);
/* The line goes away. */
void progress_end(struct progress *p);
/* A line of the caller's own in its place, drawn as seldom. */
__attribute__((format(printf, 2, 3))) void progress_say(struct progress *p, const char *fmt, ...);
/* The line's text, for `columns`; returns `dst`. */
const char *progress_text(const struct progress *p, uint64_t now_ns, int columns, char *dst,
                          uint64_t size);

#endif

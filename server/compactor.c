#include "server/compactor.h"

#include "server/config.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOUR_MS = 3600000,
    REVISION_INTERVAL_MS = 300000,
    RETRIES = 10, /* of a period */
};

/* strconv.Atoi(), of what is not below 0. */
static bool parse_count(const char *text, int64_t *ret)
{
    uint64_t value = 0;
    text += *text == '+';
    if (*text == '\0')
        return false;
    for (; isdigit((unsigned char)*text); text++)
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return false;
    *ret = (int64_t)value;
    return *text == '\0' && value <= INT64_MAX;
}

static bool is_unit(const char *text, size_t size)
{
    static const char *const units[] = {"ns", "us", "\u00b5s", "\u03bcs", "ms", "s", "m", "h"};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strlen(units[i]) == size && memcmp(units[i], text, size) == 0)
            return true;
    return false;
}

/* What time.ParseDuration() has against it. */
static void say_why(const char *text, char *err_text, size_t err_size)
{
    const char *p = text + (*text == '-' || *text == '+');
    for (;;) {
        size_t whole = strspn(p, "0123456789"), part = 0;
        const char *rest = p + whole;
        if (*rest == '.') {
            part = strspn(rest + 1, "0123456789");
            rest += 1 + part;
        }
        size_t unit = strcspn(rest, "0123456789.");
        if (whole + part == 0 || whole > 18)
            break;
        if (unit == 0) {
            snprintf(err_text, err_size,
                     "error parsing CompactionRetention: time: missing unit in duration \"%s\"",
                     text);
            return;
        }
        if (!is_unit(rest, unit)) {
            snprintf(err_text, err_size,
                     "error parsing CompactionRetention: time: unknown unit \"%.*s\" in duration "
                     "\"%s\"",
                     (int)unit, rest, text);
            return;
        }
        p = rest + unit;
    }
    snprintf(err_text, err_size, "error parsing CompactionRetention: time: invalid duration \"%s\"",
             text);
}

static uint64_t period_ms(const struct compactor_options *o)
{
    uint64_t ms = (uint64_t)o->retention / 1000000;
    return ms > 0 ? ms : 1;
}

static uint64_t retry_ms(const struct compactor_options *o)
{
    uint64_t ms = period_ms(o);
    if (o->by_revision)
        return REVISION_INTERVAL_MS;
    ms = (ms < HOUR_MS ? ms : HOUR_MS) / RETRIES;
    return ms > 0 ? ms : 1;
}

int compactor_parse(const char *mode, const char *retention, struct compactor_options *ret,
                    char *err_text, size_t err_size)
{
    struct compactor_options o = {.by_revision = strcmp(mode, "revision") == 0};
    if (*retention == '\0')
        retention = "0";
    if (parse_count(retention, &o.retention)) {
        if (!o.by_revision &&
            __builtin_mul_overflow(o.retention, INT64_C(3600000000000), &o.retention))
            o.retention = INT64_MAX;
    } else if (config_parse_duration(retention, &o.retention) != 0) {
        say_why(retention, err_text, err_size);
        return TV_EINVAL;
    }
    if (o.retention < 0) {
        snprintf(err_text, err_size, "--auto-compaction-retention must not be below 0 (set to %s)",
                 retention);
        return TV_EINVAL;
    }
    if (!o.by_revision && o.retention > 0 &&
        period_ms(&o) / retry_ms(&o) >= COMPACTOR_REVISIONS_MAX) {
        snprintf(err_text, err_size, "--auto-compaction-retention is too long (set to %s)",
                 retention);
        return TV_EINVAL;
    }
    *ret = o;
    return 0;
}

static void note(struct compactor *c, int64_t revision)
{
    if (c->options.by_revision)
        return;
    if (c->count == c->count_max) {
        memmove(c->revisions, c->revisions + 1, (c->count - 1) * sizeof(c->revisions[0]));
        c->count--;
    }
    c->revisions[c->count++] = revision;
}

void compactor_init(struct compactor *c, const struct compactor_options *o, uint64_t now_ms)
{
    *c = (struct compactor){.options = *o, .succeeded_ms = now_ms};
    if (o->retention == 0)
        return;
    c->retry_ms = retry_ms(o);
    c->due_ms = now_ms + c->retry_ms;
    if (o->by_revision)
        return;
    c->wait_ms = period_ms(o);
    c->count_max = (uint32_t)(period_ms(o) / c->retry_ms) + 1;
    c->revisions = mem_alloc(c->count_max * sizeof(c->revisions[0]));
}

void compactor_fini(struct compactor *c)
{
    mem_free(c->revisions);
    *c = (struct compactor){0};
}

static int64_t choose(const struct compactor *c, uint64_t now_ms, int64_t revision)
{
    if (c->options.by_revision)
        return revision > c->options.retention ? revision - c->options.retention : 0;
    return now_ms - c->succeeded_ms >= c->wait_ms ? c->revisions[0] : 0;
}

int64_t compactor_tick(struct compactor *c, uint64_t now_ms, int64_t revision, bool is_leader)
{
    if (c->options.retention == 0 || c->under_way)
        return 0;
    if (c->count == 0)
        note(c, revision); /* the first one, as it begins */
    if (now_ms < c->due_ms)
        return 0;
    int64_t chosen = is_leader ? choose(c, now_ms, revision) : 0;
    if (chosen > 0 && chosen != c->last) {
        if (!c->options.by_revision)
            c->wait_ms = period_ms(&c->options) < HOUR_MS ? period_ms(&c->options) : HOUR_MS;
        c->under_way = true;
        c->asked = chosen;
        return chosen;
    }
    note(c, revision);
    c->due_ms = now_ms + c->retry_ms;
    return 0;
}

void compactor_done(struct compactor *c, uint64_t now_ms, int64_t revision, bool ok)
{
    ASSERT(c->under_way);
    c->under_way = false;
    if (ok) {
        c->last = c->asked;
        c->succeeded_ms = now_ms;
    }
    note(c, revision);
    c->due_ms = now_ms + c->retry_ms;
}

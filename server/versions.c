#include "server/versions.h"

#include "server/config.h"

#include "base/assert.h"
#include "base/err.h"
#include "proto/wirefield.h"

#include <stdio.h>
#include <stdlib.h>

enum { OWN_MINOR = CONFIG_CLUSTER_MINOR, TEXT_BYTES_MAX = 64 };

static uint64_t pack(const struct versions_now *n)
{
    return (uint64_t)n->minor | (uint64_t)n->target_minor << 16 | (uint64_t)n->downgrade << 32;
}

static void set(struct versions *v, const struct versions_now *n)
{
    atomic_store_explicit(&v->state, pack(n), memory_order_release);
}

void versions_init(struct versions *v)
{
    set(v, &(struct versions_now){.minor = OWN_MINOR});
}

void versions_now(const struct versions *v, struct versions_now *ret)
{
    uint64_t state = atomic_load_explicit(&v->state, memory_order_acquire);
    *ret = (struct versions_now){.minor = (uint16_t)state,
                                 .target_minor = (uint16_t)(state >> 16),
                                 .downgrade = (state >> 32 & 1) != 0};
}

void versions_text(uint16_t minor, char ret[VERSIONS_TEXT_BYTES])
{
    (void)snprintf(ret, VERSIONS_TEXT_BYTES, "%d.%u.0", VERSIONS_MAJOR, minor);
}

void versions_short_text(uint16_t minor, char ret[VERSIONS_TEXT_BYTES])
{
    (void)snprintf(ret, VERSIONS_TEXT_BYTES, "%d.%u", VERSIONS_MAJOR, minor);
}

/* --- parsing --- */

/* Digits, up to `end` or a NUL. */
static bool parse_number(const char **at, char end, int64_t *ret)
{
    enum { DIGITS_MAX = 18 };
    const char *p = *at;
    *ret = 0;
    while (*p >= '0' && *p <= '9' && p - *at < DIGITS_MAX)
        *ret = *ret * 10 + (*p++ - '0');
    if (p == *at || *p != end)
        return false;
    *at = p + (end != '\0');
    return true;
}

/* Identifiers of a pre-release or of metadata. */
static bool is_suffix(const char *p)
{
    for (; *p != '\0'; p++)
        if (!(*p >= '0' && *p <= '9') && !(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') &&
            *p != '-' && *p != '.' && *p != '+')
            return false;
    return true;
}

bool versions_parse(struct slice text, int64_t *ret_major, int64_t *ret_minor)
{
    char copy[TEXT_BYTES_MAX];
    int64_t patch;
    if (text.size == 0 || text.size >= sizeof(copy) || memchr(text.data, '\0', text.size) != NULL)
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    size_t size = strcspn(copy, "-+");
    bool suffixed = copy[size] != '\0';
    if (!is_suffix(copy + size))
        return false;
    copy[size] = '\0';
    const char *p = copy;
    if (!parse_number(&p, '.', ret_major))
        return false;
    const char *minor = p;
    if (!suffixed && parse_number(&p, '\0', ret_minor))
        return true; /* major.minor */
    p = minor;
    return parse_number(&p, '.', ret_minor) && parse_number(&p, '\0', &patch);
}

/* A version of ours: its minor part. */
static bool parse_minor(struct slice text, uint16_t *ret)
{
    int64_t major, minor;
    if (!versions_parse(text, &major, &minor) || major != VERSIONS_MAJOR || minor > UINT16_MAX)
        return false;
    *ret = (uint16_t)minor;
    return true;
}

/* --- the leader's --- */

bool versions_to_set(const struct versions *v, uint16_t *ret_minor)
{
    struct versions_now n;
    versions_now(v, &n);
    *ret_minor = n.downgrade ? n.target_minor : OWN_MINOR;
    return *ret_minor != n.minor;
}

/* --- entries --- */

size_t versions_put_cluster_set(uint8_t *dst, size_t size_max, uint16_t minor)
{
    char text[VERSIONS_TEXT_BYTES];
    versions_text(minor, text);
    struct slice ver = slice_of_string(text);
    ASSERT(wire_bytes_size(1, ver) <= size_max);
    return (size_t)(wire_bytes_put(dst, 1, ver) - dst);
}

size_t versions_put_downgrade_set(uint8_t *dst, size_t size_max, bool enabled, uint16_t minor)
{
    char text[VERSIONS_TEXT_BYTES];
    versions_text(minor, text);
    struct slice ver = enabled ? slice_of_string(text) : SLICE_EMPTY;
    ASSERT(wire_uint_size(1, enabled) + wire_bytes_size(2, ver) <= size_max);
    return (size_t)(wire_bytes_put(wire_uint_put(dst, 1, enabled), 2, ver) - dst);
}

int versions_apply_cluster_set(struct versions *v, struct slice body)
{
    struct wire_reader r = wire_reader_of(body);
    struct wire_field f;
    struct versions_now n;
    struct slice ver = SLICE_EMPTY;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_BYTES)
            ver = f.bytes;
    versions_now(v, &n);
    if (rv == 0 && parse_minor(ver, &n.minor))
        set(v, &n);
    return rv;
}

int versions_apply_downgrade_set(struct versions *v, struct slice body)
{
    struct wire_reader r = wire_reader_of(body);
    struct wire_field f;
    struct versions_now n;
    struct slice ver = SLICE_EMPTY;
    bool enabled = false;
    int rv;
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.number == 1 && f.type == WIRE_VARINT)
            enabled = f.value != 0;
        else if (f.number == 2 && f.type == WIRE_BYTES)
            ver = f.bytes;
    }
    versions_now(v, &n);
    n.target_minor = 0;
    n.downgrade = enabled && parse_minor(ver, &n.target_minor);
    if (rv == 0)
        set(v, &n);
    return rv;
}

/* --- the record --- */

void versions_encode(const struct versions *v, uint8_t ret[VERSIONS_RECORD_BYTES])
{
    uint64_t state = atomic_load_explicit(&v->state, memory_order_relaxed);
    for (int i = 0; i < VERSIONS_RECORD_BYTES; i++)
        ret[i] = (uint8_t)(state >> (8 * i));
}

int versions_decode(struct versions *v, struct slice record)
{
    uint64_t state = 0;
    if (record.size == 0) {
        versions_init(v); /* never set */
        return 0;
    }
    if (record.size != VERSIONS_RECORD_BYTES)
        return TV_ECORRUPT;
    for (int i = 0; i < VERSIONS_RECORD_BYTES; i++)
        state |= (uint64_t)record.data[i] << (8 * i);
    if (state >> 33 != 0 || (state & 0xffff) == 0)
        return TV_ECORRUPT;
    atomic_store_explicit(&v->state, state, memory_order_release);
    return 0;
}

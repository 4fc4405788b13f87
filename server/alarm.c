#include "server/alarm.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/wirefield.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* AlarmRequest: 1 action, 2 memberID, 3 alarm; ours: 1000 reason. AlarmMember: 1 memberID, 2 alarm;
 * in the store: 3 reasons. */
enum { REASON_FIELD = 1000, RESPONSE_ALARMS = 2, STORED_ALARM = 1 };

#define BIT_OTHER 1u
#define BIT_DISK (1u << 31)

/* --- requests --- */

int alarm_request_decode(struct slice msg, struct alarm_request *ret)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct alarm_request){0};
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.type != WIRE_VARINT)
            continue;
        if (f.number == 1)
            ret->action = (int32_t)f.value;
        else if (f.number == 2)
            ret->member_id = f.value;
        else if (f.number == 3)
            ret->type = (int32_t)f.value;
        else if (f.number == REASON_FIELD)
            ret->reason = (uint32_t)f.value;
    }
    return rv;
}

/* An enum on the wire: a negative one has ten bytes. */
static uint64_t enum_value(int32_t value)
{
    return (uint64_t)(int64_t)value;
}

size_t alarm_request_size(const struct alarm_request *r)
{
    return wire_uint_size(1, enum_value(r->action)) + wire_uint_size(2, r->member_id) +
           wire_uint_size(3, enum_value(r->type)) + wire_uint_size(REASON_FIELD, r->reason);
}

uint8_t *alarm_request_put(uint8_t *dst, const struct alarm_request *r)
{
    dst = wire_uint_put(dst, 1, enum_value(r->action));
    dst = wire_uint_put(dst, 2, r->member_id);
    dst = wire_uint_put(dst, 3, enum_value(r->type));
    return wire_uint_put(dst, REASON_FIELD, r->reason);
}

const char *alarm_type_name(int32_t type)
{
    return type == ALARM_NOSPACE ? "NOSPACE" : type == ALARM_CORRUPT ? "CORRUPT" : "unknown";
}

/* --- which there are --- */

void alarms_init(struct alarms *a)
{
    *a = (struct alarms){0};
    (void)pthread_mutex_init(&a->lock, NULL);
}

void alarms_fini(struct alarms *a)
{
    mem_free(a->items);
    (void)pthread_mutex_destroy(&a->lock);
}

static void note_active(struct alarms *a)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct alarm *it = &a->items[i];
        bool known = it->type == ALARM_NOSPACE || it->type == ALARM_CORRUPT;
        if (it->type == ALARM_CORRUPT && it->reasons == ALARM_FOR_DIFFERENCE)
            continue; /* that member alone is concerned */
        bits |= known ? 1u << it->type : BIT_OTHER;
        if (it->type == ALARM_NOSPACE && (it->reasons & ALARM_FOR_DISK) != 0)
            bits |= BIT_DISK;
    }
    atomic_store_explicit(&a->active, bits, memory_order_release);
}

/* Where the alarm is, or would go. */
static uint32_t find(const struct alarms *a, int32_t type, uint64_t member_id, bool *ret_found)
{
    uint32_t at = 0;
    while (at < a->count && (a->items[at].type < type ||
                             (a->items[at].type == type && a->items[at].member_id < member_id)))
        at++;
    *ret_found = at < a->count && a->items[at].type == type && a->items[at].member_id == member_id;
    return at;
}

static void insert(struct alarms *a, uint32_t at, struct alarm alarm)
{
    if (a->count == a->capacity) {
        a->capacity = a->capacity == 0 ? 4 : a->capacity * 2;
        a->items = mem_realloc(a->items, a->capacity * sizeof(*a->items));
    }
    memmove(&a->items[at + 1], &a->items[at], (a->count - at) * sizeof(*a->items));
    a->items[at] = alarm;
    a->count++;
}

static size_t member_size(const struct alarm *it)
{
    return wire_uint_size(1, it->member_id) + wire_uint_size(2, enum_value(it->type));
}

static uint8_t *member_put(uint8_t *p, const struct alarm *it)
{
    return wire_uint_put(wire_uint_put(p, 1, it->member_id), 2, enum_value(it->type));
}

static void answer(struct buf *ret, const struct alarm *it)
{
    size_t size = member_size(it), whole = wire_item_size(RESPONSE_ALARMS, size);
    uint8_t *p = buf_reserve(ret, whole);
    ASSERT(p != NULL);
    (void)member_put(wire_item_put_head(p, RESPONSE_ALARMS, size), it);
    ret->size += whole;
}

static int activate(struct alarms *a, const struct alarm_request *r, struct buf *ret, bool *changed)
{
    if (r->type == ALARM_NONE)
        return 0;
    bool found;
    uint32_t at = find(a, r->type, r->member_id, &found);
    uint32_t reasons = r->reason == 0 ? ALARM_FOR_ASKED : r->reason;
    if (!found && a->count == ALARMS_MAX)
        return TV_TOO_MANY_REQUESTS;
    if (!found)
        insert(a, at, (struct alarm){.member_id = r->member_id, .type = r->type});
    *changed = (a->items[at].reasons | reasons) != a->items[at].reasons;
    a->items[at].reasons |= reasons;
    answer(ret, &a->items[at]);
    return 0;
}

static void deactivate(struct alarms *a, const struct alarm_request *r, struct buf *ret,
                       bool *changed)
{
    bool found;
    uint32_t at = find(a, r->type, r->member_id, &found);
    if (!found)
        return;
    struct alarm *it = &a->items[at];
    uint32_t left = r->reason == 0 ? 0 : it->reasons & ~r->reason;
    *changed = left != it->reasons;
    it->reasons = left;
    if (left != 0)
        return;
    answer(ret, it);
    memmove(it, it + 1, (--a->count - at) * sizeof(*it));
}

int alarms_apply(struct alarms *a, const struct alarm_request *r, struct buf *ret,
                 bool *ret_changed)
{
    int err = 0;
    *ret_changed = false;
    (void)pthread_mutex_lock(&a->lock);
    switch (r->action) {
    case ALARM_GET:
        for (uint32_t i = 0; i < a->count; i++)
            if (r->type == ALARM_NONE || r->type == a->items[i].type)
                answer(ret, &a->items[i]);
        break;
    case ALARM_ACTIVATE:
        err = activate(a, r, ret, ret_changed);
        break;
    case ALARM_DEACTIVATE:
        deactivate(a, r, ret, ret_changed);
        break;
    default: /* an action from the future: nothing happens, as in etcd */
        break;
    }
    note_active(a);
    (void)pthread_mutex_unlock(&a->lock);
    return err;
}

/* --- in the store --- */

void alarms_encode(struct alarms *a, struct buf *ret)
{
    (void)pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct alarm *it = &a->items[i];
        size_t size = member_size(it) + wire_uint_size(3, it->reasons);
        size_t whole = wire_item_size(STORED_ALARM, size);
        uint8_t *p = buf_reserve(ret, whole);
        ASSERT(p != NULL);
        p = member_put(wire_item_put_head(p, STORED_ALARM, size), it);
        (void)wire_uint_put(p, 3, it->reasons);
        ret->size += whole;
    }
    (void)pthread_mutex_unlock(&a->lock);
}

static int decode_alarm(struct slice msg, struct alarm *ret)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct alarm){0};
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.type != WIRE_VARINT)
            continue;
        if (f.number == 1)
            ret->member_id = f.value;
        else if (f.number == 2)
            ret->type = (int32_t)f.value;
        else if (f.number == 3)
            ret->reasons = (uint32_t)f.value;
    }
    return rv == 0 && (ret->type == ALARM_NONE || ret->reasons == 0) ? TV_EMALFORMED : rv;
}

int alarms_decode(struct alarms *a, struct slice encoded)
{
    struct alarms read = {0};
    struct wire_reader reader = wire_reader_of(encoded);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        struct alarm it;
        if (f.number != STORED_ALARM || f.type != WIRE_BYTES)
            continue;
        rv = read.count == ALARMS_MAX ? TV_EMALFORMED : decode_alarm(f.bytes, &it);
        if (rv != 0)
            break;
        bool found;
        uint32_t at = find(&read, it.type, it.member_id, &found);
        if (!found)
            insert(&read, at, it);
    }
    if (rv != 0) {
        mem_free(read.items);
        return rv;
    }
    (void)pthread_mutex_lock(&a->lock);
    mem_free(a->items);
    a->items = read.items;
    a->count = read.count;
    a->capacity = read.capacity;
    note_active(a);
    (void)pthread_mutex_unlock(&a->lock);
    return 0;
}

/* --- asking --- */

static bool has_bit(const struct alarms *a, uint32_t bit)
{
    return (atomic_load_explicit(&a->active, memory_order_acquire) & bit) != 0;
}

bool alarms_active(const struct alarms *a, enum alarm_type type)
{
    return has_bit(a, 1u << type);
}

bool alarms_active_other(const struct alarms *a)
{
    return has_bit(a, BIT_OTHER);
}

bool alarms_active_for_disk(const struct alarms *a)
{
    return has_bit(a, BIT_DISK);
}

bool alarms_raised(struct alarms *a, enum alarm_type type)
{
    bool raised = false;
    (void)pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < a->count; i++)
        raised = raised || a->items[i].type == (int32_t)type;
    (void)pthread_mutex_unlock(&a->lock);
    return raised;
}

uint32_t alarms_reasons(struct alarms *a, uint64_t member_id, enum alarm_type type)
{
    bool found;
    (void)pthread_mutex_lock(&a->lock);
    uint32_t at = find(a, (int32_t)type, member_id, &found);
    uint32_t reasons = found ? a->items[at].reasons : 0;
    (void)pthread_mutex_unlock(&a->lock);
    return reasons;
}

uint32_t alarms_members(struct alarms *a, enum alarm_type type, enum alarm_reason reason,
                        uint64_t *ret_ids, uint32_t max)
{
    uint32_t count = 0;
    (void)pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < a->count && count < max; i++)
        if (a->items[i].type == (int32_t)type && (a->items[i].reasons & reason) != 0)
            ret_ids[count++] = a->items[i].member_id;
    (void)pthread_mutex_unlock(&a->lock);
    return count;
}

/* As Go prints the message: a field that is 0 is left out, an enum without a name is its number. */
static size_t describe(const struct alarm *it, char *text, size_t size)
{
    char member[40] = "", type[24];
    if (it->member_id != 0)
        (void)snprintf(member, sizeof(member), "memberID:%" PRIu64 " ", it->member_id);
    (void)snprintf(type, sizeof(type), "%" PRId32, it->type);
    bool known = it->type == ALARM_NOSPACE || it->type == ALARM_CORRUPT;
    const char *name = known ? alarm_type_name(it->type) : type;
    return (size_t)snprintf(text, size, "%salarm:%s", member, name);
}

void alarms_describe(struct alarms *a, uint32_t number, struct buf *ret)
{
    char text[96];
    (void)pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < a->count; i++) {
        size_t size = describe(&a->items[i], text, sizeof(text));
        size_t whole = wire_item_size(number, size);
        uint8_t *p = buf_reserve(ret, whole);
        ASSERT(p != NULL);
        (void)wire_item_put(p, number, slice_of(text, size));
        ret->size += whole;
    }
    (void)pthread_mutex_unlock(&a->lock);
}

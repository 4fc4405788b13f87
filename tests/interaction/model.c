/* Disk and messages of a simulated member, see model.h. */
#include "model.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

static void entries_unref(struct raft_entry *entries, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        bref_unref(entries[i].owner);
}

static struct raft_entry *entries_copy(const struct raft_entry *entries, uint32_t count)
{
    if (count == 0)
        return NULL;
    struct raft_entry *copy = mem_dup(entries, count * sizeof(*copy));
    for (uint32_t i = 0; i < count; i++)
        if (copy[i].owner != NULL)
            bref_ref(copy[i].owner);
    return copy;
}

void model_disk_init(struct model_disk *d, const struct raft_membership *membership)
{
    *d = (struct model_disk){.membership = *membership};
}

void model_disk_fini(struct model_disk *d)
{
    model_disk_crash(d, 0, 0);
    entries_unref(d->entries, d->entries_count);
    mem_free(d->entries);
    mem_free(d->writes);
}

void model_disk_write(struct model_disk *d, const struct raft_ready *rd)
{
    ASSERT(rd->persist_seq != 0);
    ASSERT(d->writes_count == 0 || rd->persist_seq > d->writes[d->writes_count - 1].seq);
    if (d->writes_count == d->writes_capacity) {
        d->writes_capacity = d->writes_capacity == 0 ? 16 : 2 * d->writes_capacity;
        d->writes = mem_realloc(d->writes, d->writes_capacity * sizeof(*d->writes));
    }
    d->writes[d->writes_count++] =
        (struct model_write){.seq = rd->persist_seq,
                             .entries = entries_copy(rd->entries, rd->entries_count),
                             .entries_count = rd->entries_count,
                             .hard_state = rd->hard_state,
                             .hard_state_changed = rd->hard_state_changed};
}

static void apply_write(struct model_disk *d, struct model_write *w)
{
    for (uint32_t i = 0; i < w->entries_count; i++) {
        uint64_t at = w->entries[i].log_index - d->start_index - 1;
        ASSERT(w->entries[i].log_index > d->start_index);
        ASSERT(at <= d->entries_count);
        if (i == 0) {
            entries_unref(d->entries + at, d->entries_count - at);
            d->entries_count = at;
        }
        ASSERT(at == d->entries_count);
        if (d->entries_count == d->entries_capacity) {
            d->entries_capacity = d->entries_capacity == 0 ? 64 : 2 * d->entries_capacity;
            d->entries = mem_realloc(d->entries, d->entries_capacity * sizeof(*d->entries));
        }
        d->entries[d->entries_count++] = w->entries[i];
    }
    if (w->hard_state_changed)
        d->hard_state = w->hard_state;
    mem_free(w->entries);
}

uint64_t model_disk_finish(struct model_disk *d, uint32_t count)
{
    if (count > d->writes_count)
        count = d->writes_count;
    uint64_t seq = 0;
    for (uint32_t i = 0; i < count; i++) {
        seq = d->writes[i].seq;
        apply_write(d, &d->writes[i]);
    }
    d->writes_count -= count;
    for (uint32_t i = 0; i < d->writes_count; i++)
        d->writes[i] = d->writes[i + count];
    return seq;
}

void model_disk_crash(struct model_disk *d, uint32_t survivors, uint32_t torn_entries)
{
    (void)model_disk_finish(d, survivors);
    if (d->writes_count > 0 && torn_entries > 0) {
        struct model_write torn = d->writes[0];
        if (torn.entries_count > torn_entries)
            torn.entries_count = torn_entries;
        torn.entries = entries_copy(torn.entries, torn.entries_count);
        torn.hard_state_changed = false;
        apply_write(d, &torn);
    }
    for (uint32_t i = 0; i < d->writes_count; i++) {
        entries_unref(d->writes[i].entries, d->writes[i].entries_count);
        mem_free(d->writes[i].entries);
    }
    d->writes_count = 0;
}

void model_disk_cut(struct model_disk *d, uint64_t log_index)
{
    ASSERT(log_index <= d->start_index + d->entries_count);
    if (log_index <= d->start_index)
        return;
    d->membership = model_disk_membership(d, log_index);
    uint64_t count = log_index - d->start_index;
    d->start_term = d->entries[count - 1].term;
    d->start_index = log_index;
    entries_unref(d->entries, count);
    d->entries_count -= count;
    memmove(d->entries, d->entries + count, d->entries_count * sizeof(*d->entries));
}

void model_disk_restart(struct model_disk *d, uint64_t log_index, uint64_t term,
                        const struct raft_membership *membership)
{
    entries_unref(d->entries, d->entries_count);
    d->entries_count = 0;
    d->start_index = log_index;
    d->start_term = term;
    d->membership = *membership;
    for (uint32_t i = 0; i < d->writes_count; i++) {
        entries_unref(d->writes[i].entries, d->writes[i].entries_count);
        d->writes[i].entries_count = 0;
    }
}

struct raft_membership model_disk_membership(const struct model_disk *d, uint64_t log_index)
{
    ASSERT(log_index >= d->start_index && log_index <= d->start_index + d->entries_count);
    struct raft_membership m = d->membership;
    for (uint64_t i = 0; i < log_index - d->start_index; i++) {
        struct raft_conf_change change;
        if (d->entries[i].type == RAFT_ENTRY_CONF &&
            raft_conf_change_decode(d->entries[i].data, &change) == 0)
            (void)raft_membership_change(&m, &change); /* refused alike everywhere */
    }
    return m;
}

int model_disk_read(void *ctx, uint64_t lo, uint64_t hi, size_t bytes_max,
                    struct raft_entry *ret_entries, uint32_t *count)
{
    struct model_disk *d = ctx;
    if (lo <= d->start_index)
        return TV_ECOMPACTED_LOG;
    ASSERT(lo < hi && hi <= d->start_index + d->entries_count + 1);
    uint32_t done = 0;
    size_t bytes = 0;
    while (done < *count && lo + done < hi) {
        const struct raft_entry *e = &d->entries[lo + done - d->start_index - 1];
        if (done > 0 && bytes + e->data.size > bytes_max)
            break;
        bytes += e->data.size;
        ret_entries[done] = *e;
        if (e->owner != NULL)
            bref_ref(e->owner);
        done++;
    }
    *count = done;
    return 0;
}

struct raft_msg model_msg_copy(const struct raft_msg *msg)
{
    struct raft_msg copy = *msg;
    copy.entries = entries_copy(msg->entries, msg->entries_count);
    return copy;
}

void model_msg_fini(struct raft_msg *msg)
{
    struct raft_entry *entries = (struct raft_entry *)(uintptr_t)msg->entries;
    entries_unref(entries, msg->entries_count);
    mem_free(entries);
}

struct raft_entry model_entry(const void *data, size_t size)
{
    struct raft_entry e = {.type = RAFT_ENTRY_NORMAL};
    if (size == 0)
        return e;
    e.owner = bref_new(size);
    memcpy(e.owner->data, data, size);
    e.data = slice_of(e.owner->data, size);
    return e;
}

struct raft_entry model_conf_entry(const struct raft_conf_change *change)
{
    struct buf b;
    buf_init(&b, 4096);
    int rv = raft_conf_change_encode(change, &b);
    ASSERT(rv == 0);
    struct raft_entry e = model_entry(b.data, b.size);
    e.type = RAFT_ENTRY_CONF;
    buf_fini(&b);
    return e;
}

#include "proto/peerwire.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"

static const uint8_t magic[4] = {'T', 'R', 'V', 'T'};

enum { FLAG_REJECT = 1, FLAG_TRANSFER = 2, FLAG_IS_REPLY = 1 };

static uint8_t *put(uint8_t *dst, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *dst++ = (uint8_t)(value >> (8 * i));
    return dst;
}

static uint64_t get(const uint8_t **p, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)*(*p)++ << (8 * i);
    return value;
}

uint8_t peerwire_kind(struct slice frame)
{
    return frame.size == 0 ? 0 : frame.data[0];
}

/* --- hello --- */

uint8_t *peerwire_hello_put(uint8_t *dst, const struct peerwire_hello *h)
{
    dst = put(dst, PEERWIRE_HELLO, 1);
    memcpy(dst, magic, sizeof(magic));
    dst = put(dst + sizeof(magic), h->version, 2);
    dst = put(dst, 0, 2);
    dst = put(dst, h->cluster_id, 8);
    dst = put(dst, h->from, 8);
    dst = put(dst, h->to, 8);
    dst = put(dst, h->urls_count, 1);
    for (uint32_t i = 0; i < h->urls_count; i++) {
        dst = put(dst, h->urls[i].size, 2);
        memcpy(dst, h->urls[i].data, h->urls[i].size);
        dst += h->urls[i].size;
    }
    return dst;
}

size_t peerwire_hello_size(const struct peerwire_hello *h)
{
    size_t size = PEERWIRE_HELLO_BYTES;
    for (uint32_t i = 0; i < h->urls_count; i++)
        size += 2 + h->urls[i].size;
    return size;
}

static int hello_urls_decode(struct slice rest, uint32_t count, struct peerwire_hello *ret)
{
    if (count > PEERWIRE_URLS_MAX)
        return TV_EMALFORMED;
    for (uint32_t i = 0; i < count; i++) {
        if (rest.size < 2)
            return TV_EMALFORMED;
        const uint8_t *p = rest.data;
        size_t size = get(&p, 2);
        if (rest.size - 2 < size)
            return TV_EMALFORMED;
        ret->urls[i] = slice_of(p, size);
        rest = slice_of(p + size, rest.size - 2 - size);
    }
    ret->urls_count = count;
    return rest.size == 0 ? 0 : TV_EMALFORMED;
}

int peerwire_hello_decode(struct slice frame, struct peerwire_hello *ret)
{
    if (frame.size < PEERWIRE_HELLO_BYTES || frame.data[0] != PEERWIRE_HELLO ||
        memcmp(frame.data + 1, magic, sizeof(magic)) != 0)
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + 1 + sizeof(magic);
    ret->version = (uint16_t)get(&p, 2);
    (void)get(&p, 2);
    ret->cluster_id = get(&p, 8);
    ret->from = get(&p, 8);
    ret->to = get(&p, 8);
    uint32_t count = (uint32_t)get(&p, 1);
    return hello_urls_decode(slice_of(p, frame.size - PEERWIRE_HELLO_BYTES), count, ret);
}

/* --- raft --- */

uint8_t *peerwire_raft_put_head(uint8_t *dst, const struct peerwire_raft *m)
{
    dst = put(dst, PEERWIRE_RAFT, 1);
    dst = put(dst, m->type, 1);
    dst = put(dst, (m->reject ? FLAG_REJECT : 0) | (m->transfer ? FLAG_TRANSFER : 0), 1);
    dst = put(dst, 0, 1);
    const uint64_t fields[] = {m->from,      m->to,     m->term,        m->log_term,
                               m->log_index, m->commit, m->reject_hint, m->context};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        dst = put(dst, fields[i], 8);
    return put(dst, m->entries_count, 4);
}

uint8_t *peerwire_entry_put_head(uint8_t *dst, const struct peerwire_entry *e)
{
    ASSERT(e->data.size <= UINT32_MAX);
    dst = put(dst, e->term, 8);
    dst = put(dst, e->log_index, 8);
    dst = put(dst, e->type, 1);
    return put(dst, e->data.size, 4);
}

static int entry_decode(struct slice *entries, struct peerwire_entry *ret)
{
    if (entries->size < PEERWIRE_ENTRY_HEAD_BYTES)
        return TV_EMALFORMED;
    const uint8_t *p = entries->data;
    ret->term = get(&p, 8);
    ret->log_index = get(&p, 8);
    ret->type = (uint8_t)get(&p, 1);
    size_t size = get(&p, 4);
    size_t left = entries->size - PEERWIRE_ENTRY_HEAD_BYTES;
    if (size > left)
        return TV_EMALFORMED;
    ret->data = slice_of(p, size);
    *entries = slice_of(p + size, left - size);
    return 0;
}

bool peerwire_next_entry(struct slice *entries, struct peerwire_entry *ret)
{
    if (entries->size == 0)
        return false;
    int err = entry_decode(entries, ret);
    ASSERT(err == 0); /* peerwire_raft_decode() has seen them all */
    return true;
}

int peerwire_raft_decode(struct slice frame, struct peerwire_raft *ret)
{
    if (frame.size < PEERWIRE_RAFT_HEAD_BYTES || frame.data[0] != PEERWIRE_RAFT)
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + 1;
    ret->type = (uint8_t)get(&p, 1);
    uint8_t flags = (uint8_t)get(&p, 1);
    ret->reject = (flags & FLAG_REJECT) != 0;
    ret->transfer = (flags & FLAG_TRANSFER) != 0;
    (void)get(&p, 1);
    uint64_t *const fields[] = {&ret->from,      &ret->to,     &ret->term,        &ret->log_term,
                                &ret->log_index, &ret->commit, &ret->reject_hint, &ret->context};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        *fields[i] = get(&p, 8);
    ret->entries_count = (uint32_t)get(&p, 4);
    if (ret->entries_count > PEERWIRE_ENTRIES_MAX)
        return TV_EMALFORMED;
    ret->entries = slice_of(p, frame.size - PEERWIRE_RAFT_HEAD_BYTES);
    struct slice rest = ret->entries;
    struct peerwire_entry e;
    for (uint32_t i = 0; i < ret->entries_count; i++)
        if (entry_decode(&rest, &e) != 0)
            return TV_EMALFORMED;
    return rest.size == 0 ? 0 : TV_EMALFORMED;
}

/* --- questions --- */

uint8_t *peerwire_question_put(uint8_t *dst, const struct peerwire_question *q)
{
    dst = put(dst, PEERWIRE_QUESTION, 1);
    dst = put(dst, q->is_reply ? FLAG_IS_REPLY : 0, 1);
    dst = put(dst, q->about, 1);
    dst = put(dst, q->token, 8);
    dst = put(dst, q->subject, 8);
    dst = put(dst, (uint64_t)q->ttl, 8);
    dst = put(dst, (uint64_t)q->granted_ttl, 8);
    return put(dst, (uint32_t)q->err, 4);
}

int peerwire_question_decode(struct slice frame, struct peerwire_question *ret)
{
    if (frame.size != PEERWIRE_QUESTION_BYTES || frame.data[0] != PEERWIRE_QUESTION)
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + 1;
    uint8_t flags = (uint8_t)get(&p, 1);
    ret->is_reply = (flags & FLAG_IS_REPLY) != 0;
    ret->about = (uint8_t)get(&p, 1);
    ret->token = get(&p, 8);
    ret->subject = get(&p, 8);
    ret->ttl = (int64_t)get(&p, 8);
    ret->granted_ttl = (int64_t)get(&p, 8);
    ret->err = (int32_t)get(&p, 4);
    return 0;
}

/* --- snapshots --- */

enum { SEAL_BYTES = 5 }; /* kind, CRC */

static void seal(uint8_t *frame, enum peerwire_kind kind, size_t size)
{
    (void)put(frame, (uint8_t)kind, 1);
    (void)put(frame + 1, crc32c(kind, frame + SEAL_BYTES, size - SEAL_BYTES), 4);
}

/* size_min = the whole size, but for pieces. */
static bool seal_holds(struct slice frame, enum peerwire_kind kind, size_t size_min, bool longer)
{
    if (frame.size < size_min || (frame.size > size_min && !longer) || frame.data[0] != kind)
        return false;
    const uint8_t *p = frame.data + 1;
    return get(&p, 4) == crc32c(kind, frame.data + SEAL_BYTES, frame.size - SEAL_BYTES);
}

uint8_t *peerwire_report_put(uint8_t *dst, const struct peerwire_report *r)
{
    return put(put(put(dst, PEERWIRE_REPORT, 1), r->mark, 8), r->digest, 8);
}

uint8_t *peerwire_probe_put(uint8_t *dst, const struct peerwire_probe *p)
{
    return put(put(put(dst, PEERWIRE_PROBE, 1), p->is_reply, 1), p->sent_ns, 8);
}

int peerwire_probe_decode(struct slice frame, struct peerwire_probe *ret)
{
    if (frame.size != PEERWIRE_PROBE_BYTES || frame.data[0] != PEERWIRE_PROBE || frame.data[1] > 1)
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + 1;
    ret->is_reply = get(&p, 1) != 0;
    ret->sent_ns = get(&p, 8);
    return 0;
}

int peerwire_report_decode(struct slice frame, struct peerwire_report *ret)
{
    if (frame.size != PEERWIRE_REPORT_BYTES || frame.data[0] != PEERWIRE_REPORT)
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + 1;
    ret->mark = get(&p, 8);
    ret->digest = get(&p, 8);
    return 0;
}

uint8_t *peerwire_snap_head_put(uint8_t *dst, const struct peerwire_snap_head *h)
{
    uint8_t *p = put(dst + SEAL_BYTES, h->log_index, 8);
    p = put(p, h->term, 8);
    p = put(p, (uint64_t)h->revision, 8);
    p = put(p, (uint64_t)h->compacted, 8);
    p = put(p, h->content_sum, 8);
    p = put(p, (uint64_t)h->content_compacted, 8);
    p = put(p, h->chain, 8);
    seal(dst, PEERWIRE_SNAP_HEAD, PEERWIRE_SNAP_HEAD_BYTES);
    return p;
}

int peerwire_snap_head_decode(struct slice frame, struct peerwire_snap_head *ret)
{
    if (!seal_holds(frame, PEERWIRE_SNAP_HEAD, PEERWIRE_SNAP_HEAD_BYTES, false))
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + SEAL_BYTES;
    ret->log_index = get(&p, 8);
    ret->term = get(&p, 8);
    ret->revision = (int64_t)get(&p, 8);
    ret->compacted = (int64_t)get(&p, 8);
    ret->content_sum = get(&p, 8);
    ret->content_compacted = (int64_t)get(&p, 8);
    ret->chain = get(&p, 8);
    return 0;
}

void peerwire_snap_piece_seal(uint8_t *frame, const struct peerwire_snap_piece *piece)
{
    ASSERT(piece->bytes.data == frame + PEERWIRE_SNAP_PIECE_HEAD_BYTES);
    (void)put(put(frame + SEAL_BYTES, piece->number, 8), piece->records_count, 4);
    seal(frame, PEERWIRE_SNAP_PIECE, PEERWIRE_SNAP_PIECE_HEAD_BYTES + piece->bytes.size);
}

int peerwire_snap_piece_decode(struct slice frame, struct peerwire_snap_piece *ret)
{
    if (!seal_holds(frame, PEERWIRE_SNAP_PIECE, PEERWIRE_SNAP_PIECE_HEAD_BYTES, true))
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + SEAL_BYTES;
    ret->number = get(&p, 8);
    ret->records_count = (uint32_t)get(&p, 4);
    ret->bytes = slice_of(p, frame.size - PEERWIRE_SNAP_PIECE_HEAD_BYTES);
    return 0;
}

uint8_t *peerwire_snap_end_put(uint8_t *dst, const struct peerwire_snap_end *e)
{
    uint8_t *p = put(dst + SEAL_BYTES, e->pieces_count, 8);
    p = put(p, e->records_count, 8);
    p = put(p, e->bytes_count, 8);
    memcpy(p, e->hash, sizeof(e->hash));
    seal(dst, PEERWIRE_SNAP_END, PEERWIRE_SNAP_END_BYTES);
    return p + sizeof(e->hash);
}

int peerwire_snap_end_decode(struct slice frame, struct peerwire_snap_end *ret)
{
    if (!seal_holds(frame, PEERWIRE_SNAP_END, PEERWIRE_SNAP_END_BYTES, false))
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + SEAL_BYTES;
    ret->pieces_count = get(&p, 8);
    ret->records_count = get(&p, 8);
    ret->bytes_count = get(&p, 8);
    memcpy(ret->hash, p, sizeof(ret->hash));
    return 0;
}

uint8_t *peerwire_snap_done_put(uint8_t *dst, uint64_t log_index)
{
    uint8_t *p = put(dst + SEAL_BYTES, log_index, 8);
    seal(dst, PEERWIRE_SNAP_DONE, PEERWIRE_SNAP_DONE_BYTES);
    return p;
}

int peerwire_snap_done_decode(struct slice frame, uint64_t *ret_log_index)
{
    if (!seal_holds(frame, PEERWIRE_SNAP_DONE, PEERWIRE_SNAP_DONE_BYTES, false))
        return TV_EMALFORMED;
    const uint8_t *p = frame.data + SEAL_BYTES;
    *ret_log_index = get(&p, 8);
    return 0;
}

#include "header_cache.h"

#include "internal.h"

#include "base/mem.h"

enum {
    ENTRIES = 4, /* reads, writes, transactions, leases */
    BLOCK_BYTES_MAX = 256,
    METADATA_BYTES_MAX = 384,
};

struct header_entry {
    uint16_t block_size; /* 0 = none */
    uint16_t metadata_size;
    uint32_t header_list_bytes;
    bool content_type_proto;
    bool deadline_set;
    uint64_t timeout_ns;
    const struct grpc_method *method;
    struct field_block fields;
    uint8_t block[BLOCK_BYTES_MAX];
    uint8_t metadata[METADATA_BYTES_MAX];
};

struct header_cache {
    uint8_t head[SCAN_FRAME_HEADER_BYTES]; /* of a frame whose header came in two reads */
    size_t head_have;
    size_t passing;                 /* bytes until the next frame begins */
    uint8_t block[BLOCK_BYTES_MAX]; /* SCAN_FRESH: of the frame that was looked at */
    size_t block_size;
    uint32_t found; /* SCAN_KNOWN: the entry */
    uint32_t next;  /* to be replaced */
    struct header_entry entries[ENTRIES];
};

struct header_cache *header_cache_new(void)
{
    struct header_cache *c = mem_alloc_zero(sizeof(*c));
    c->passing = NGHTTP2_CLIENT_MAGIC_LEN;
    return c;
}

void header_cache_free(struct header_cache *c)
{
    mem_free(c);
}

static void forget_all(struct header_cache *c)
{
    for (uint32_t i = 0; i < ENTRIES; i++)
        c->entries[i].block_size = 0;
}

/* --- blocks --- */

/* Step over an integer of HPACK (RFC 7541, 5.1) with `bits` in its first byte; NULL when it is cut
 * off or larger than any length that fits a block. */
static const uint8_t *pass_integer(const uint8_t *p, const uint8_t *end, unsigned bits,
                                   uint32_t *ret)
{
    uint32_t max = (1u << bits) - 1;
    *ret = *p++ & max;
    if (*ret < max)
        return p;
    for (unsigned shift = 0; p < end && shift < 21; shift += 7) {
        *ret += (uint32_t)(*p & 0x7f) << shift;
        if ((*p++ & 0x80) == 0)
            return p;
    }
    return NULL;
}

static const uint8_t *pass_string(const uint8_t *p, const uint8_t *end)
{
    uint32_t size;
    if (p == NULL || p == end)
        return NULL;
    p = pass_integer(p, end, 7, &size);
    return p == NULL || size > (size_t)(end - p) ? NULL : p + size;
}

/* RFC 7541, 6: true when all its fields are indexed, or literal and not to be indexed. */
static bool leaves_table_alone(const uint8_t *p, const uint8_t *end)
{
    enum { INDEXED = 0x80, ADDS_OR_RESIZES = 0x60, NAME_BITS = 4, INDEX_BITS = 7 };
    uint32_t index;
    while (p != NULL && p < end) {
        if ((*p & INDEXED) != 0) {
            p = pass_integer(p, end, INDEX_BITS, &index);
            continue;
        }
        if ((*p & ADDS_OR_RESIZES) != 0)
            return false;
        p = pass_integer(p, end, NAME_BITS, &index);
        if (p != NULL && index == 0)
            p = pass_string(p, end);
        p = pass_string(p, end);
    }
    return p != NULL;
}

static bool find(struct header_cache *c, const uint8_t *block, size_t size)
{
    for (uint32_t i = 0; i < ENTRIES; i++) {
        if (c->entries[i].block_size == size && memcmp(c->entries[i].block, block, size) == 0) {
            c->found = i;
            return true;
        }
    }
    return false;
}

/* --- frames --- */

struct frame_head {
    size_t size; /* of the payload */
    uint8_t type;
    uint8_t flags;
};

static struct frame_head head_of(const uint8_t *p)
{
    return (struct frame_head){(size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2], p[3], p[4]};
}

static bool has_block(uint8_t type)
{
    return type == NGHTTP2_HEADERS || type == NGHTTP2_CONTINUATION || type == NGHTTP2_PUSH_PROMISE;
}

/* A frame that lies in one piece and is a whole header block. */
static enum scan_kind look_at(struct header_cache *c, const struct frame_head *head,
                              const uint8_t *block)
{
    bool whole = head->type == NGHTTP2_HEADERS &&
                 (head->flags & ~NGHTTP2_FLAG_END_STREAM) == NGHTTP2_FLAG_END_HEADERS;
    if (whole && head->size > 0 && head->size <= BLOCK_BYTES_MAX) {
        if (find(c, block, head->size))
            return SCAN_KNOWN;
        if (leaves_table_alone(block, block + head->size)) {
            memcpy(c->block, block, head->size);
            c->block_size = head->size;
            return SCAN_FRESH;
        }
    }
    if (has_block(head->type))
        forget_all(c);
    return SCAN_PLAIN;
}

/* The rest of a frame's header that the last read cut off. */
static size_t complete_head(struct header_cache *c, struct slice in)
{
    size_t take = SCAN_FRAME_HEADER_BYTES - c->head_have;
    take = take < in.size ? take : in.size;
    memcpy(c->head + c->head_have, in.data, take);
    c->head_have += take;
    if (c->head_have < SCAN_FRAME_HEADER_BYTES)
        return take;
    struct frame_head head = head_of(c->head);
    c->head_have = 0;
    c->passing = head.size;
    if (has_block(head.type))
        forget_all(c);
    return take;
}

static size_t pass(struct header_cache *c, size_t available)
{
    size_t take = c->passing < available ? c->passing : available;
    c->passing -= take;
    return take;
}

enum scan_kind header_cache_scan(struct header_cache *c, struct slice in, size_t *ret_size)
{
    size_t at = pass(c, in.size);
    while (at < in.size) {
        const uint8_t *p = in.data + at;
        size_t left = in.size - at;
        if (c->head_have > 0 || left < SCAN_FRAME_HEADER_BYTES) {
            at += complete_head(c, slice_of(p, left));
            at += pass(c, in.size - at);
            continue;
        }
        struct frame_head head = head_of(p);
        size_t size = SCAN_FRAME_HEADER_BYTES + head.size;
        if (head.type == NGHTTP2_HEADERS && at > 0)
            break; /* what came before it first */
        enum scan_kind kind = SCAN_PLAIN;
        if (size <= left)
            kind = look_at(c, &head, p + SCAN_FRAME_HEADER_BYTES);
        else if (has_block(head.type))
            forget_all(c);
        if (kind != SCAN_PLAIN) {
            *ret_size = size;
            return kind;
        }
        c->passing = size;
        at += pass(c, left);
    }
    *ret_size = at;
    return SCAN_PLAIN;
}

/* --- what they came to --- */

void header_cache_keep(struct header_cache *c, const struct grpc_call *call)
{
    if (call->metadata.size > METADATA_BYTES_MAX)
        return;
    struct header_entry *e = &c->entries[c->next];
    c->next = (c->next + 1) % ENTRIES;
    e->block_size = (uint16_t)c->block_size;
    memcpy(e->block, c->block, c->block_size);
    e->header_list_bytes = call->header_list_bytes;
    e->content_type_proto = call->content_type_proto;
    e->deadline_set = call->deadline_set;
    e->timeout_ns = call->timeout_ns;
    e->method = call->method;
    e->fields = call->fields;
    e->metadata_size = (uint16_t)call->metadata.size;
    if (call->metadata.size > 0)
        memcpy(e->metadata, call->metadata.data, call->metadata.size);
}

void header_cache_apply(const struct header_cache *c, struct grpc_call *call)
{
    const struct header_entry *e = &c->entries[c->found];
    call->header_list_bytes = e->header_list_bytes;
    call->content_type_ok = true;
    call->content_type_proto = e->content_type_proto;
    call->deadline_set = e->deadline_set;
    call->timeout_ns = e->timeout_ns;
    call->method = e->method;
    call->fields = e->fields;
    (void)buf_append(&call->metadata, e->metadata, e->metadata_size);
}

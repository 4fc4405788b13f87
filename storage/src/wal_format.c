/* Encoding and checking of segment headers and batches; no I/O. */
#include "wal_format.h"

#include "base/assert.h"
#include "base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CRC_END = 8 }; /* magic and crc: where the checksummed part begins */

void wal__segment_name(char name[DISK_NAME_MAX], uint64_t seq)
{
    (void)snprintf(name, DISK_NAME_MAX, "%016" PRIx64 ".wal", seq);
}

bool wal__segment_name_parse(const char *name, uint64_t *ret_seq)
{
    uint64_t seq = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9')
            seq = seq << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            seq = seq << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    if (strcmp(name + 16, ".wal") != 0 || seq == 0)
        return false;
    *ret_seq = seq;
    return true;
}

void wal__header_encode(uint8_t *block, const struct wal_header *h)
{
    struct wal_header out = *h;
    out.magic = WAL_HEADER_MAGIC;
    out.version = WAL_VERSION;
    out.block_bytes = WAL_BLOCK_BYTES;
    memset(block, 0, WAL_BLOCK_BYTES);
    memcpy(block, &out, sizeof(out));
    out.crc = crc32c(0, block + CRC_END, WAL_BLOCK_BYTES - CRC_END);
    memcpy(block, &out, sizeof(out));
}

bool wal__header_decode(const uint8_t *block, struct wal_header *ret)
{
    memcpy(ret, block, sizeof(*ret));
    return ret->magic == WAL_HEADER_MAGIC &&
           ret->crc == crc32c(0, block + CRC_END, WAL_BLOCK_BYTES - CRC_END);
}

static uint32_t frame_crc(const uint8_t *data, uint64_t size, uint64_t salt, uint64_t segment_seq)
{
    uint64_t seed[2] = {salt, segment_seq};
    return crc32c(crc32c(0, seed, sizeof(seed)), data + CRC_END, size - CRC_END);
}

void wal__frame_encode(uint8_t *data, const struct wal_frame *f, uint64_t salt)
{
    uint64_t size = wal__frame_bytes(f->body_bytes);
    uint64_t used = sizeof(*f) + f->body_bytes;
    struct wal_frame out = *f;
    out.magic = WAL_FRAME_MAGIC;
    memset(data + used, 0, size - used);
    memcpy(data, &out, sizeof(out));
    out.crc = frame_crc(data, size, salt, f->segment_seq);
    memcpy(data, &out, sizeof(out));
}

bool wal__frame_peek(const uint8_t *block, uint64_t segment_seq, uint64_t bytes_max,
                     struct wal_frame *ret)
{
    memcpy(ret, block, sizeof(*ret));
    return ret->magic == WAL_FRAME_MAGIC && ret->segment_seq == segment_seq &&
           wal__frame_bytes(ret->body_bytes) <= bytes_max;
}

bool wal__frame_verify(const uint8_t *data, const struct wal_frame *f, uint64_t salt)
{
    return f->crc == frame_crc(data, wal__frame_bytes(f->body_bytes), salt, f->segment_seq);
}

bool wal__record_next(const uint8_t *data, const struct wal_frame *f, uint32_t *at,
                      struct wal_entry *ret)
{
    struct wal_record r;
    const uint8_t *body = data + sizeof(*f);
    ASSERT(*at <= f->body_bytes);
    if (f->body_bytes - *at < sizeof(r))
        return false;
    memcpy(&r, body + *at, sizeof(r));
    if (f->body_bytes - *at - sizeof(r) < r.size_bytes)
        return false;
    ret->term = r.term;
    ret->type = r.type;
    ret->data = slice_of(body + *at + sizeof(r), r.size_bytes);
    ret->owner = NULL;
    *at += (uint32_t)sizeof(r) + r.size_bytes;
    return true;
}

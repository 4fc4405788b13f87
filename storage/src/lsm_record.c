/* The records that a copy of the database consists of, read. */
#include "lsm_internal.h"

#include "base/assert.h"

enum { RECORD_HEAD_BYTES = 8 };

static uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool lsm_record_next(struct slice *records, struct slice *ret_key, struct slice *ret_value)
{
    if (records->size == 0)
        return false;
    ASSERT(records->size >= RECORD_HEAD_BYTES);
    const uint8_t *p = records->data;
    size_t key_size = get_le32(p), value_size = get_le32(p + 4);
    size_t size = RECORD_HEAD_BYTES + key_size + value_size;
    ASSERT(size <= records->size);
    *ret_key = slice_of(p + RECORD_HEAD_BYTES, key_size);
    *ret_value = slice_of(p + RECORD_HEAD_BYTES + key_size, value_size);
    *records = slice_of(p + size, records->size - size);
    return true;
}

bool lsm__lease_parse(struct slice key, struct slice value, struct lsm_lease *ret)
{
    if (key.size != LSM_LEASE_KEY_BYTES || key.data[0] != 'l' ||
        value.size != LSM_LEASE_VALUE_BYTES)
        return false;
    *ret = (struct lsm_lease){.id = (int64_t)lsm__get_be64(key.data + 1),
                              .granted_ttl = (int64_t)lsm__get_be64(value.data),
                              .remaining_ttl = (int64_t)lsm__get_be64(value.data + 8)};
    return true;
}

void lsm_record_parse(struct slice key, struct slice value, struct lsm_record *ret)
{
    *ret = (struct lsm_record){.kind = LSM_RECORD_OTHER};
    if (lsm__kv_key_parse(key.data, key.size, &ret->main, &ret->sub, &ret->tombstone)) {
        ret->kind = LSM_RECORD_VERSION;
    } else if (lsm__lease_parse(key, value, &ret->lease)) {
        ret->kind = LSM_RECORD_LEASE;
    } else if (key.size > 1 && key.data[0] == 'm') {
        ret->kind = LSM_RECORD_NAMED;
        ret->name = slice_of(key.data + 1, key.size - 1);
    }
}

/* ask:    1 version, 2 replaced id, 3 new id, 4 peer URLs
 * answer: 1 state, 2 cluster (cluster_encode()), 3 error of a replacement, without its sign */
#include "server/join.h"

#include "base/assert.h"
#include "base/err.h"
#include "proto/wirefield.h"

enum { ASK_VERSION = 1, ASK_REPLACED_ID, ASK_NEW_ID, ASK_PEER_URL };
enum { ANSWER_STATE = 1, ANSWER_CLUSTER, ANSWER_ERR };
enum { NUMBERS_BYTES_MAX = 64 };

void join_ask_encode(const struct join_ask *ask, struct buf *out)
{
    size_t size = NUMBERS_BYTES_MAX;
    for (uint32_t i = 0; i < ask->peer_urls_count; i++)
        size += wire_item_size(ASK_PEER_URL, ask->peer_urls[i].size);
    uint8_t *begin = buf_reserve(out, size);
    ASSERT(begin != NULL);
    uint8_t *p = wire_uint_put(begin, ASK_VERSION, ask->version);
    p = wire_uint_put(p, ASK_REPLACED_ID, ask->replaced_id);
    p = wire_uint_put(p, ASK_NEW_ID, ask->new_id);
    for (uint32_t i = 0; i < ask->peer_urls_count; i++)
        p = wire_item_put(p, ASK_PEER_URL, ask->peer_urls[i]);
    out->size += (size_t)(p - begin);
}

int join_ask_decode(struct slice msg, struct join_ask *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct join_ask){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type == WIRE_VARINT && f.number == ASK_VERSION)
            ret->version = (uint32_t)f.value;
        else if (f.type == WIRE_VARINT && f.number == ASK_REPLACED_ID)
            ret->replaced_id = f.value;
        else if (f.type == WIRE_VARINT && f.number == ASK_NEW_ID)
            ret->new_id = f.value;
        if (f.type != WIRE_BYTES || f.number != ASK_PEER_URL)
            continue;
        if (ret->peer_urls_count == CLUSTER_URLS_MAX)
            return TV_EMALFORMED;
        ret->peer_urls[ret->peer_urls_count++] = f.bytes;
    }
    return rv;
}

void join_answer_encode(enum join_state state, const struct cluster *cluster, int err,
                        struct buf *out)
{
    struct buf encoded;
    ASSERT(err <= 0);
    buf_init(&encoded, SIZE_MAX);
    if (cluster != NULL)
        cluster_encode(cluster, &encoded);
    uint8_t *begin =
        buf_reserve(out, NUMBERS_BYTES_MAX + wire_item_size(ANSWER_CLUSTER, encoded.size));
    ASSERT(begin != NULL);
    uint8_t *p = wire_uint_put(begin, ANSWER_STATE, state);
    if (cluster != NULL)
        p = wire_item_put(p, ANSWER_CLUSTER, buf_slice(&encoded));
    p = wire_uint_put(p, ANSWER_ERR, (uint64_t)-err);
    out->size += (size_t)(p - begin);
    buf_fini(&encoded);
}

int join_answer_decode(struct slice msg, struct join_answer *ret, int *ret_err)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    struct slice cluster = SLICE_EMPTY;
    uint64_t state = 0, err = 0;
    int rv;
    *ret = (struct join_answer){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        if (f.type == WIRE_VARINT && f.number == ANSWER_STATE)
            state = f.value;
        else if (f.type == WIRE_VARINT && f.number == ANSWER_ERR)
            err = f.value;
        else if (f.type == WIRE_BYTES && f.number == ANSWER_CLUSTER)
            cluster = f.bytes;
    }
    if (rv != 0 || state < JOIN_FRESH || state > JOIN_SETTLED || err > 1000)
        return TV_EMALFORMED;
    if (state != JOIN_FRESH && cluster_decode(cluster, &ret->cluster) != 0)
        return TV_EMALFORMED;
    ret->state = (enum join_state)state;
    *ret_err = -(int)err;
    return 0;
}

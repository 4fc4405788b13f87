/* Any text as JSON of any request, and any bytes as any answer: nothing is read beyond them, and
 * what became a message is one that protobuf-c takes, can be written, and read again comes out the
 * same but for the order. The first byte picks the kind. */
#include "proto/json.h"

#include "base/assert.h"

#include "etcdserverpb.pb-c.h"
#include "v3electionpb.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const kinds[] = {
    &etcdserverpb__range_request__descriptor,         &etcdserverpb__txn_request__descriptor,
    &etcdserverpb__watch_request__descriptor,         &etcdserverpb__member_add_request__descriptor,
    &etcdserverpb__auth_user_add_request__descriptor, &etcdserverpb__range_response__descriptor,
    &etcdserverpb__watch_response__descriptor,        &v3electionpb__campaign_response__descriptor,
};
enum { KINDS_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

static void check_message(struct slice msg, const ProtobufCMessageDescriptor *kind)
{
    struct buf text, once, twice, err;
    struct slice rest, value;
    buf_init(&text, SIZE_MAX);
    buf_init(&once, SIZE_MAX);
    buf_init(&twice, SIZE_MAX);
    buf_init(&err, SIZE_MAX);
    if (json_write(msg, kind, JSON_PLAIN, &text) == 0) {
        rest = buf_slice(&text);
        int rv = json_next_value(&rest, &value, &err);
        ASSERT(rv == JSON_VALUE && rest.size == 0);
        rv = json_read(value, kind, &once, &err);
        ASSERT(rv == 0);
        buf_clear(&text);
        rv = json_write(buf_slice(&once), kind, JSON_ESCAPED, &text);
        ASSERT(rv == 0);
        rest = buf_slice(&text);
        rv = json_next_value(&rest, &value, &err);
        ASSERT(rv == JSON_VALUE);
        rv = json_read(value, kind, &twice, &err);
        ASSERT(rv == 0 && slice_equal(buf_slice(&once), buf_slice(&twice)));
    }
    buf_fini(&text);
    buf_fini(&once);
    buf_fini(&twice);
    buf_fini(&err);
}

static void check_text(struct slice text, const ProtobufCMessageDescriptor *kind)
{
    struct buf msg, err;
    struct slice value;
    int rv;
    buf_init(&msg, SIZE_MAX);
    buf_init(&err, SIZE_MAX);
    while ((rv = json_next_value(&text, &value, &err)) == JSON_VALUE) {
        buf_clear(&msg);
        if (json_read(value, kind, &msg, &err) != 0)
            break;
        ProtobufCMessage *m = protobuf_c_message_unpack(kind, NULL, msg.size, msg.data);
        ASSERT(m != NULL);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    ASSERT(rv == JSON_NOTHING || err.size > 0);
    buf_fini(&msg);
    buf_fini(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const ProtobufCMessageDescriptor *kind = kinds[data[0] / 2 % KINDS_COUNT];
    struct slice rest = slice_of(data + 1, size - 1);
    if (data[0] % 2 == 0)
        check_text(rest, kind);
    else
        check_message(rest, kind);
    return 0;
}

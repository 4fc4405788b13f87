/* JSON to messages and back. What etcd says to each text is compared in
 * tests/clients/gateway_diff.py; here are the forms, the bounds, and texts and messages that nobody
 * would write. */
#include "unit.h"

#include "proto/json.h"
#include "proto/wirefield.h"

#include "base/err.h"
#include "base/rng.h"

#include "authpb.pb-c.h"
#include "etcdserverpb.pb-c.h"
#include "mvccpb.pb-c.h"
#include "v3electionpb.pb-c.h"
#include "v3lockpb.pb-c.h"

#define RANGE &etcdserverpb__range_request__descriptor
#define TXN &etcdserverpb__txn_request__descriptor
#define WATCH &etcdserverpb__watch_request__descriptor
#define USER &etcdserverpb__auth_user_add_request__descriptor
#define LEASE &etcdserverpb__lease_grant_request__descriptor
#define MEMBER &etcdserverpb__member_add_request__descriptor

/* Read a text from memory of its exact size. */
static int read_text(struct slice text, const ProtobufCMessageDescriptor *desc, struct buf *out,
                     struct buf *err)
{
    uint8_t *copy = malloc(text.size + (text.size == 0));
    memcpy(copy, text.data, text.size);
    struct slice rest = slice_of(copy, text.size), value;
    int rv = json_next_value(&rest, &value, err);
    if (rv == JSON_VALUE)
        rv = json_read(value, desc, out, err);
    else
        rv = rv == JSON_NOTHING ? 0 : TV_EMALFORMED;
    free(copy);
    return rv;
}

static const struct {
    const ProtobufCMessageDescriptor *desc;
    const char *text;
    const char *wire; /* in hex; or */
    const char *err;
} texts[] = {
    {RANGE, "{}", "", NULL},
    {RANGE, " ", "", NULL},
    {RANGE, "{\"key\":\"YQ==\",\"limit\":\"5\"}", "0a01611805", NULL},
    {RANGE, "{\"limit\":50e-1,\"key\":\"YQ\"}x", "18050a0161", NULL},
    {RANGE, "{\"rangeEnd\":\"-_8\",\"range_End\":1,\"x\":[{\"a\":{}}]}", "1202fbff", NULL},
    {RANGE, "{\"limit\":0,\"key\":\"\",\"serializable\":false,\"sort_order\":\"NONE\"}", "", NULL},
    {RANGE, "{\"limit\":-1}", "18ffffffffffffffffff01", NULL},
    {RANGE, "{\"sort_order\":\"DESCEND\",\"sortTarget\":4}", "28023004", NULL},
    {RANGE, "{\"sort_order\":\"nothing\"}", "", NULL},
    {USER, "{\"name\":\"\\ud83d\\ude00\\u00e9\\n\"}", "0a07f09f9880c3a90a", NULL},
    {MEMBER, "{\"peerURLs\":[\"a\",\"\"],\"isLearner\":true}", "0a01610a001001", NULL},
    {TXN, "{\"compare\":[{},{\"version\":0}],\"success\":[{\"request_txn\":{\"failure\":[{}]}}]}",
     "0a000a022000"
     "12042202"
     "1a00",
     NULL},
    {WATCH, "{\"create_request\":{\"filters\":[1,\"NOPUT\"]}}", "0a0428012800", NULL},
    {WATCH, "{\"progress_request\":{}}", "1a00", NULL},
    {RANGE, "{\"key\":\"=\"}", NULL,
     "proto:\xc2\xa0(line 1:8): invalid value for bytes field key: \"=\""},
    {RANGE, "{\n \"sortOrder\":true}", NULL,
     "proto:\xc2\xa0(line 2:14): invalid value for enum field sortOrder: true"},
    {LEASE, "{\"TTL\":9223372036854775808}", NULL,
     "proto:\xc2\xa0(line 1:8): invalid value for int64 field TTL: 9223372036854775808"},
    {RANGE, "{\"key\":\"\",\"key\":null}", NULL,
     "proto:\xc2\xa0(line 1:11): duplicate field \"key\""},
    {RANGE, "{\"key\"", NULL, "unexpected EOF"},
    {RANGE, "{\"key\":tru\xff", NULL, "invalid character 'ÿ' in literal true (expecting 'e')"},
    {TXN, "{\"compare\":7}", NULL, "proto:\xc2\xa0syntax error (line 1:12): unexpected token 7"},
    {TXN, "{\"compare\":[null]}", NULL,
     "proto:\xc2\xa0syntax error (line 1:13): unexpected token null"},
    {WATCH, "{\"create_request\":{},\"cancelRequest\":{}}", NULL,
     "proto:\xc2\xa0(line 1:22): error parsing \"cancelRequest\", oneof "
     "etcdserverpb.WatchRequest.request_union is already set"},
};

START_TEST(test_read)
{
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf out, err, hex;
        char byte[3];
        buf_init(&out, SIZE_MAX);
        buf_init(&err, SIZE_MAX);
        buf_init(&hex, SIZE_MAX);
        int rv = read_text(slice_of_string(texts[i].text), texts[i].desc, &out, &err);
        for (size_t k = 0; k < out.size; k++) {
            snprintf(byte, sizeof(byte), "%02x", out.data[k]);
            (void)buf_append(&hex, byte, 2);
        }
        (void)buf_append(&hex, "", 1);
        (void)buf_append(&err, "", 1);
        if (texts[i].wire != NULL) {
            ck_assert_msg(rv == 0, "%s: %s", texts[i].text, (char *)err.data);
            ck_assert_str_eq((char *)hex.data, texts[i].wire);
        } else {
            ck_assert_int_eq(rv, TV_EMALFORMED);
            ck_assert_str_eq((char *)err.data, texts[i].err);
        }
        buf_fini(&out);
        buf_fini(&err);
        buf_fini(&hex);
    }
}
END_TEST

START_TEST(test_write)
{
    static const uint8_t range[] = {
        0x0a, 0x04, 0x08, 0x01, 0x18, 0x05, /* header: cluster 1, revision 5 */
        0x12, 0x05, 0x0a, 0x03, 'a',  'b',  'c', 0x12, 0x00, 0x20, 0x02};
    static const uint8_t odd[] = {0x18, 0x00, 0x08, 0x01, 0x08, 0x02, 0x7a, 0x01, 'x'};
    static const uint8_t bad[] = {0x0a, 0x05, 0x01};
    static const uint8_t not_text[] = {0x12, 0x01, 0xff};
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ck_assert_int_eq(json_write(slice_of(range, sizeof(range)),
                                &etcdserverpb__range_response__descriptor, JSON_PLAIN, &out),
                     0);
    ck_assert(slice_equal(buf_slice(&out),
                          SLICE_LITERAL("{\"header\":{\"cluster_id\":\"1\",\"revision\":\"5\"},"
                                        "\"kvs\":[{\"key\":\"YWJj\"},{}],\"count\":\"2\"}")));
    buf_clear(&out);
    /* The last of two, a default that is written, and a field that nobody knows. */
    ck_assert_int_eq(json_write(slice_of(odd, sizeof(odd)),
                                &etcdserverpb__response_header__descriptor, JSON_ESCAPED, &out),
                     0);
    ck_assert(slice_equal(buf_slice(&out), SLICE_LITERAL("{\"cluster_id\":\"2\"}")));
    ck_assert_int_eq(json_write(slice_of(bad, sizeof(bad)), RANGE, JSON_ESCAPED, &out),
                     TV_EMALFORMED);
    ck_assert_int_eq(json_write(slice_of(not_text, sizeof(not_text)), USER, JSON_ESCAPED, &out),
                     TV_EMALFORMED);
    buf_clear(&out);
    ck_assert_int_eq(
        json_write_string(SLICE_LITERAL("<\xe2\x80\xa8&\"\\\x01\x7f"), JSON_ESCAPED, &out), 0);
    ck_assert_int_eq(json_write_string(SLICE_LITERAL("<\xe2\x80\xa8&\b"), JSON_PLAIN, &out), 0);
    ck_assert(slice_equal(
        buf_slice(&out),
        SLICE_LITERAL("\"\\u003c\\u2028\\u0026\\\"\\\\\\u0001\x7f\"\"<\xe2\x80\xa8&\\b\"")));
    buf_fini(&out);
    buf_init(&out, 10);
    ck_assert_int_eq(json_write(slice_of(range, sizeof(range)),
                                &etcdserverpb__range_response__descriptor, JSON_PLAIN, &out),
                     TV_ETOOLARGE);
    buf_fini(&out);
}
END_TEST

/* --- whatever the schema has --- */

static const ProtobufCServiceDescriptor *const services[] = {
    &etcdserverpb__kv__descriptor,
    &etcdserverpb__watch__descriptor,
    &etcdserverpb__lease__descriptor,
    &etcdserverpb__cluster__descriptor,
    &etcdserverpb__maintenance__descriptor,
    &etcdserverpb__auth__descriptor,
    &v3lockpb__lock__descriptor,
    &v3electionpb__election__descriptor,
};
enum { SERVICES_COUNT = sizeof(services) / sizeof(services[0]) };

static void put_random(struct rng *rng, const ProtobufCMessageDescriptor *desc, uint32_t depth,
                       struct buf *out);

static void put_field(struct rng *rng, const ProtobufCFieldDescriptor *f, uint32_t depth,
                      struct buf *out)
{
    struct buf inner;
    uint8_t head[2 * WIRE_VARINT_SIZE_MAX];
    uint64_t value = rng_next(rng) >> (rng_next(rng) % 64) | 1;
    bool bytes = f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_BYTES ||
                 f->type == PROTOBUF_C_TYPE_STRING;
    buf_init(&inner, SIZE_MAX);
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        put_random(rng, f->descriptor, depth + 1, &inner);
    } else if (bytes) {
        static const char *const pieces[] = {"a", "\"", "\\", "\n", "\x01", "é", "😀", "<"};
        for (uint64_t n = 1 + rng_next(rng) % 9; n > 0; n--) {
            const char *piece = pieces[rng_next(rng) % 8];
            (void)buf_append(&inner, piece, strlen(piece));
        }
    } else if (f->type == PROTOBUF_C_TYPE_BOOL) {
        value = 1;
    } else if (f->type == PROTOBUF_C_TYPE_UINT32) {
        value = (uint32_t)value;
    } else if (f->type == PROTOBUF_C_TYPE_ENUM || f->type == PROTOBUF_C_TYPE_INT32) {
        value = (uint64_t)(int64_t)(int32_t)(value % 7 == 0 ? value : 1 + value % 3);
    }
    uint8_t *p = bytes ? wire_item_put_head(head, f->id, inner.size)
                       : wire_varint_put(wire_tag_put(head, f->id, WIRE_VARINT), value);
    (void)buf_append(out, head, (size_t)(p - head));
    if (bytes)
        (void)buf_append(out, inner.data, inner.size);
    buf_fini(&inner);
}

/* As encoders write it: in order, without what is by default. */
static void put_random(struct rng *rng, const ProtobufCMessageDescriptor *desc, uint32_t depth,
                       struct buf *out)
{
    enum { DEPTH_MAX = 5 };
    bool oneof = false;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &desc->fields[i];
        bool is_oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        if (rng_next(rng) % 3 == 0 || (is_oneof && oneof) ||
            (f->type == PROTOBUF_C_TYPE_MESSAGE && depth >= DEPTH_MAX))
            continue;
        oneof = oneof || is_oneof;
        uint64_t count = f->label == PROTOBUF_C_LABEL_REPEATED ? rng_next(rng) % 4 : 1;
        for (; count > 0; count--)
            put_field(rng, f, depth, out);
    }
}

static const ProtobufCMessageDescriptor *random_message(struct rng *rng)
{
    const ProtobufCServiceDescriptor *s = services[rng_next(rng) % SERVICES_COUNT];
    const ProtobufCMethodDescriptor *m = &s->methods[rng_next(rng) % s->n_methods];
    return rng_next(rng) % 2 == 0 ? m->input : m->output;
}

START_TEST(test_supports)
{
    for (size_t i = 0; i < SERVICES_COUNT; i++)
        for (unsigned k = 0; k < services[i]->n_methods; k++) {
            ck_assert(json_supports(services[i]->methods[k].input));
            ck_assert(json_supports(services[i]->methods[k].output));
        }
}
END_TEST

START_TEST(test_round_trip)
{
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 20000; i++) {
        const ProtobufCMessageDescriptor *desc = random_message(&rng);
        struct buf msg, text, again, err;
        buf_init(&msg, SIZE_MAX);
        buf_init(&text, SIZE_MAX);
        buf_init(&again, SIZE_MAX);
        buf_init(&err, SIZE_MAX);
        put_random(&rng, desc, 0, &msg);
        enum json_style style = i % 2 == 0 ? JSON_PLAIN : JSON_ESCAPED;
        ck_assert_int_eq(json_write(buf_slice(&msg), desc, style, &text), 0);
        int rv = read_text(buf_slice(&text), desc, &again, &err);
        ck_assert_msg(rv == 0, "%s: %.*s: %.*s", desc->name, (int)err.size, (char *)err.data,
                      (int)text.size, (char *)text.data);
        ck_assert_msg(slice_equal(buf_slice(&msg), buf_slice(&again)), "%s: %.*s", desc->name,
                      (int)text.size, (char *)text.data);
        buf_fini(&msg);
        buf_fini(&text);
        buf_fini(&again);
        buf_fini(&err);
    }
}
END_TEST

static void spoil(struct rng *rng, struct buf *b)
{
    static const char liked[] = "{}[]\",:\\u0d8-+.eEtfn\x80\xff \n";
    for (uint64_t n = 1 + rng_next(rng) % 3; n > 0 && b->size > 0; n--) {
        size_t at = rng_next(rng) % b->size;
        switch (rng_next(rng) % 4) {
        case 0:
            b->size = at;
            break;
        case 1:
            memmove(b->data + at, b->data + at + 1, b->size - at - 1);
            b->size--;
            break;
        default:
            b->data[at] = (uint8_t)liked[rng_next(rng) % (sizeof(liked) - 1)];
        }
    }
}

/* Whatever comes: an error with a text, or a message that protobuf-c takes and that can be written.
 */
START_TEST(test_spoiled)
{
    struct rng rng;
    uint32_t taken = 0, refused = 0;
    rng_init(&rng, 2);
    for (int i = 0; i < 60000; i++) {
        const ProtobufCMessageDescriptor *desc = random_message(&rng);
        struct buf msg, text, again, err;
        buf_init(&msg, SIZE_MAX);
        buf_init(&text, SIZE_MAX);
        buf_init(&again, SIZE_MAX);
        buf_init(&err, SIZE_MAX);
        put_random(&rng, desc, 0, &msg);
        (void)json_write(buf_slice(&msg), desc, JSON_PLAIN, &text);
        spoil(&rng, &text);
        if (read_text(buf_slice(&text), desc, &again, &err) == 0) {
            ProtobufCMessage *m = protobuf_c_message_unpack(desc, NULL, again.size, again.data);
            ck_assert_ptr_nonnull(m);
            protobuf_c_message_free_unpacked(m, NULL);
            buf_clear(&text);
            ck_assert_int_eq(json_write(buf_slice(&again), desc, JSON_PLAIN, &text), 0);
            taken++;
        } else {
            ck_assert_uint_gt(err.size, 0);
            refused++;
        }
        spoil(&rng, &msg);
        (void)json_write(buf_slice(&msg), desc, JSON_ESCAPED, &text);
        buf_fini(&msg);
        buf_fini(&text);
        buf_fini(&again);
        buf_fini(&err);
    }
    ck_assert_uint_gt(taken, 1000);
    ck_assert_uint_gt(refused, 1000);
}
END_TEST

/* Open, `count` times, and what is inside. */
static int read_nested(const char *open, const char *inside, const char *close, uint32_t count)
{
    struct buf text, out, err;
    buf_init(&text, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    buf_init(&err, SIZE_MAX);
    for (uint32_t i = 0; i < count; i++)
        (void)buf_append(&text, open, strlen(open));
    (void)buf_append(&text, inside, strlen(inside));
    for (uint32_t i = 0; i < count; i++)
        (void)buf_append(&text, close, strlen(close));
    int rv = read_text(buf_slice(&text), TXN, &out, &err);
    if (rv == 0) {
        buf_clear(&text);
        rv = json_write(buf_slice(&out), TXN, JSON_ESCAPED, &text);
    }
    buf_fini(&text);
    buf_fini(&out);
    buf_fini(&err);
    return rv;
}

START_TEST(test_depth)
{
    static const char open[] = "{\"success\":[{\"request_txn\":", close[] = "}]}";
    ck_assert_int_eq(read_nested(open, "{}", close, JSON_MESSAGES_DEPTH_MAX / 2 - 1), 0);
    ck_assert_int_eq(read_nested(open, "{}", close, JSON_MESSAGES_DEPTH_MAX / 2), TV_EMALFORMED);
    ck_assert_int_eq(read_nested(open, "{}", close, 100000), TV_EMALFORMED);
    ck_assert_int_eq(read_nested("{\"x\":", "1", "}", JSON_DEPTH_MAX), 0);
    ck_assert_int_eq(read_nested("{\"x\":", "1", "}", JSON_DEPTH_MAX + 1), TV_EMALFORMED);
    ck_assert_int_eq(read_nested("[", "", "]", JSON_DEPTH_MAX + 1), TV_EMALFORMED);
}
END_TEST

START_TEST(test_values)
{
    struct slice rest = SLICE_LITERAL(" {\"a\":[1]}{} 12true\"x\" [ "), value;
    static const char *const want[] = {"{\"a\":[1]}", "{}", "12", "true", "\"x\""};
    struct buf err;
    buf_init(&err, SIZE_MAX);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(json_next_value(&rest, &value, &err), JSON_VALUE);
        ck_assert(slice_equal(value, slice_of_string(want[i])));
    }
    ck_assert_int_eq(json_next_value(&rest, &value, &err), JSON_CUT_OFF);
    rest = SLICE_LITERAL(" \n");
    ck_assert_int_eq(json_next_value(&rest, &value, &err), JSON_NOTHING);
    rest = SLICE_EMPTY;
    ck_assert_int_eq(json_next_value(&rest, &value, &err), JSON_NOTHING);
    buf_fini(&err);
}
END_TEST

UNIT_MAIN("json", test_read, test_write, test_supports, test_round_trip, test_spoiled, test_depth,
          test_values)

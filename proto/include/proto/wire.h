/* The messages of etcd's API that are on a hot path: requests decoded in place, responses encoded
 * in two passes (size, then put), both without an allocation. The other messages are compiled from
 * proto/schema by protobuf-c. Field numbers are those of etcd v3.7.1's rpc.proto, kv.proto and
 * raft_internal.proto.
 *
 * Decoding: wire_x_decode() gives 0 or TV_EMALFORMED, and on an error *ret is unspecified. Slices
 * point into the message. Fields may come in any order; unknown ones, and known ones with a wire
 * type that is not theirs, are passed over; of a scalar that comes twice the last one counts; a
 * submessage that comes twice is merged, as protobuf demands. Enums are kept as they came: the
 * caller refuses values it does not know.
 *
 * Encoding: the bytes are those that google.golang.org/protobuf emits: fields by number, zero
 * values left out. x_put() writes exactly x_size() bytes and returns where they end.
 *
 * Thread: any; nothing here has state. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include "base/buf.h"
#include "proto/wirefield.h"

enum {
    WIRE_TXN_DEPTH_MAX = 64, /* a txn in a txn in a txn ...; deeper is TV_EMALFORMED */
    WIRE_MEMBER_URLS_MAX = 16,
};

/* --- requests: KV --- */

enum wire_sort_order { WIRE_SORT_NONE, WIRE_SORT_ASCEND, WIRE_SORT_DESCEND };
enum wire_sort_target {
    WIRE_SORT_KEY,
    WIRE_SORT_VERSION,
    WIRE_SORT_CREATE,
    WIRE_SORT_MOD,
    WIRE_SORT_VALUE,
};

struct wire_range_request {
    struct slice key;
    struct slice range_end;
    int64_t limit;
    int64_t revision;
    int32_t sort_order;  /* enum wire_sort_order, or what the client made up */
    int32_t sort_target; /* enum wire_sort_target, likewise */
    bool serializable;
    bool keys_only;
    bool count_only;
    int64_t min_mod_revision;
    int64_t max_mod_revision;
    int64_t min_create_revision;
    int64_t max_create_revision;
};

struct wire_put_request {
    struct slice key;
    struct slice value;
    int64_t lease;
    bool prev_kv;
    bool ignore_value;
    bool ignore_lease;
};

struct wire_delete_range_request {
    struct slice key;
    struct slice range_end;
    bool prev_kv;
};

struct wire_compaction_request {
    int64_t revision;
    bool physical;
};

int wire_range_request_decode(struct slice msg, struct wire_range_request *ret);
int wire_put_request_decode(struct slice msg, struct wire_put_request *ret);
int wire_delete_range_request_decode(struct slice msg, struct wire_delete_range_request *ret);
int wire_compaction_request_decode(struct slice msg, struct wire_compaction_request *ret);

size_t wire_range_request_size(const struct wire_range_request *r);
uint8_t *wire_range_request_put(uint8_t *dst, const struct wire_range_request *r);
size_t wire_put_request_size(const struct wire_put_request *r);
uint8_t *wire_put_request_put(uint8_t *dst, const struct wire_put_request *r);
size_t wire_delete_range_request_size(const struct wire_delete_range_request *r);
uint8_t *wire_delete_range_request_put(uint8_t *dst, const struct wire_delete_range_request *r);
size_t wire_compaction_request_size(const struct wire_compaction_request *r);
uint8_t *wire_compaction_request_put(uint8_t *dst, const struct wire_compaction_request *r);

/* --- requests: Txn --- */

/* A txn that was found well-formed, everything in it included. It is read through iterators, which
 * cannot fail any more. Copied freely; lives as long as the message. */
struct wire_txn {
    struct slice body;
    bool in_op; /* `body` is a RequestOp, and the txn is in its fields 4 */
    uint32_t compares_count;
    uint32_t success_count;
    uint32_t failure_count;
};

/* Checks the whole, txns in it included. Errors: TV_EMALFORMED, also when nested beyond
 * WIRE_TXN_DEPTH_MAX. */
int wire_txn_decode(struct slice msg, struct wire_txn *ret);

struct wire_txn_it {
    struct wire_reader pieces; /* of a txn that came in several, see wire_txn.in_op */
    struct wire_reader fields;
    uint32_t number;
};

enum wire_compare_result {
    WIRE_COMPARE_EQUAL,
    WIRE_COMPARE_GREATER,
    WIRE_COMPARE_LESS,
    WIRE_COMPARE_NOT_EQUAL,
};

enum wire_compare_target {
    WIRE_COMPARE_VERSION,
    WIRE_COMPARE_CREATE,
    WIRE_COMPARE_MOD,
    WIRE_COMPARE_VALUE,
    WIRE_COMPARE_LEASE,
};

struct wire_compare {
    int32_t result; /* enum wire_compare_result, or what the client made up */
    int32_t target; /* enum wire_compare_target, likewise */
    struct slice key;
    struct slice range_end;
    /* The operand. `with` says which member came, as an enum wire_compare_target, -1 when none: it
     * may differ from `target`, and etcd then compares with 0 or nothing. */
    int32_t with;
    int64_t number;     /* VERSION, CREATE, MOD, LEASE; else 0 */
    struct slice value; /* VALUE; else empty */
};

enum wire_op_kind {
    WIRE_OP_NONE, /* the client sent an empty RequestOp */
    WIRE_OP_RANGE,
    WIRE_OP_PUT,
    WIRE_OP_DELETE_RANGE,
    WIRE_OP_TXN,
};

struct wire_op {
    enum wire_op_kind kind;
    union {
        struct wire_range_request range;
        struct wire_put_request put;
        struct wire_delete_range_request delete_range;
        struct wire_txn txn;
    };
};

void wire_txn_compares(const struct wire_txn *txn, struct wire_txn_it *ret);
bool wire_next_compare(struct wire_txn_it *it, struct wire_compare *ret);
/* The operations of the `success` branch or of the other. */
void wire_txn_ops(const struct wire_txn *txn, bool success, struct wire_txn_it *ret);
bool wire_next_op(struct wire_txn_it *it, struct wire_op *ret);

/* For clients: a Compare or a RequestOp of its own; a TxnRequest is compares as items of field 1
 * (wire_item_*), operations of success as items of 2 and of failure as items of 3, in this order.
 * An op of kind TXN cannot be put this way. */
enum { WIRE_TXN_COMPARE = 1, WIRE_TXN_SUCCESS = 2, WIRE_TXN_FAILURE = 3 };
size_t wire_compare_size(const struct wire_compare *c);
uint8_t *wire_compare_put(uint8_t *dst, const struct wire_compare *c);
size_t wire_op_size(const struct wire_op *op);
uint8_t *wire_op_put(uint8_t *dst, const struct wire_op *op);

/* --- requests: Lease --- */

struct wire_lease_grant_request {
    int64_t ttl;
    int64_t id;
};

struct wire_lease_id_request {
    int64_t id;
};

struct wire_lease_ttl_request {
    int64_t id;
    bool keys;
};

int wire_lease_grant_request_decode(struct slice msg, struct wire_lease_grant_request *ret);
/* LeaseRevokeRequest and LeaseKeepAliveRequest have the same shape. */
int wire_lease_revoke_request_decode(struct slice msg, struct wire_lease_id_request *ret);
int wire_lease_keepalive_request_decode(struct slice msg, struct wire_lease_id_request *ret);
int wire_lease_ttl_request_decode(struct slice msg, struct wire_lease_ttl_request *ret);

/* LeaseCheckpoint; a LeaseCheckpointRequest is such messages as items of field 1. */
struct wire_lease_checkpoint {
    int64_t id;
    int64_t remaining_ttl;
};
enum { WIRE_CHECKPOINTS_ITEM = 1 };
int wire_lease_checkpoint_decode(struct slice msg, struct wire_lease_checkpoint *ret);
size_t wire_lease_checkpoint_size(const struct wire_lease_checkpoint *c);
uint8_t *wire_lease_checkpoint_put(uint8_t *dst, const struct wire_lease_checkpoint *c);

size_t wire_lease_grant_request_size(const struct wire_lease_grant_request *r);
uint8_t *wire_lease_grant_request_put(uint8_t *dst, const struct wire_lease_grant_request *r);
size_t wire_lease_revoke_request_size(int64_t id);
uint8_t *wire_lease_revoke_request_put(uint8_t *dst, int64_t id);
size_t wire_lease_keepalive_request_size(int64_t id);
uint8_t *wire_lease_keepalive_request_put(uint8_t *dst, int64_t id);
size_t wire_lease_ttl_request_size(const struct wire_lease_ttl_request *r);
uint8_t *wire_lease_ttl_request_put(uint8_t *dst, const struct wire_lease_ttl_request *r);

/* --- requests: Watch --- */

enum { WIRE_WATCH_NOPUT = 1 << 0, WIRE_WATCH_NODELETE = 1 << 1 };

struct wire_watch_create {
    struct slice key;
    struct slice range_end;
    int64_t start_revision;
    bool progress_notify;
    uint32_t filters; /* bits WIRE_WATCH_NO*; filters that nobody knows are ignored, as etcd does */
    bool prev_kv;
    int64_t watch_id;
    bool fragment;
};

enum wire_watch_kind {
    WIRE_WATCH_NONE, /* the client sent an empty WatchRequest */
    WIRE_WATCH_CREATE,
    WIRE_WATCH_CANCEL,
    WIRE_WATCH_PROGRESS,
};

struct wire_watch_request {
    enum wire_watch_kind kind;
    struct wire_watch_create create; /* CREATE */
    int64_t cancel_watch_id;         /* CANCEL */
};

int wire_watch_request_decode(struct slice msg, struct wire_watch_request *ret);
size_t wire_watch_request_size(const struct wire_watch_request *r);
uint8_t *wire_watch_request_put(uint8_t *dst, const struct wire_watch_request *r);

/* --- the log's payload: InternalRaftRequest --- */

/* Fields of InternalRaftRequest; a kind is the number of the field its body is in. */
enum wire_raft_kind {
    WIRE_RAFT_NONE = 0,
    WIRE_RAFT_RANGE = 3,
    WIRE_RAFT_PUT = 4,
    WIRE_RAFT_DELETE_RANGE = 5,
    WIRE_RAFT_TXN = 6,
    WIRE_RAFT_COMPACTION = 7,
    WIRE_RAFT_LEASE_GRANT = 8,
    WIRE_RAFT_LEASE_REVOKE = 9,
    WIRE_RAFT_ALARM = 10,
    WIRE_RAFT_LEASE_CHECKPOINT = 11,
    WIRE_RAFT_HEADER = 100, /* not a kind */
    WIRE_RAFT_AUTH_ENABLE = 1000,
    WIRE_RAFT_AUTH_DISABLE = 1011,
    WIRE_RAFT_AUTHENTICATE = 1012,
    WIRE_RAFT_AUTH_STATUS = 1013,
    WIRE_RAFT_USER_ADD = 1100,
    WIRE_RAFT_USER_DELETE = 1101,
    WIRE_RAFT_USER_GET = 1102,
    WIRE_RAFT_USER_CHANGE_PASSWORD = 1103,
    WIRE_RAFT_USER_GRANT_ROLE = 1104,
    WIRE_RAFT_USER_REVOKE_ROLE = 1105,
    WIRE_RAFT_USER_LIST = 1106,
    WIRE_RAFT_ROLE_LIST = 1107,
    WIRE_RAFT_ROLE_ADD = 1200,
    WIRE_RAFT_ROLE_DELETE = 1201,
    WIRE_RAFT_ROLE_GET = 1202,
    WIRE_RAFT_ROLE_GRANT_PERMISSION = 1203,
    WIRE_RAFT_ROLE_REVOKE_PERMISSION = 1204,
    WIRE_RAFT_CLUSTER_VERSION_SET = 1300,
    WIRE_RAFT_MEMBER_ATTR_SET = 1301,
    WIRE_RAFT_DOWNGRADE_INFO_SET = 1302,
    /* trivet's own, about the others' contents; see server/agree.h. */
    WIRE_RAFT_MARK = 2000,
    WIRE_RAFT_VERDICT = 2001,
    WIRE_RAFT_FIELD_MAX = 9999,
};

struct wire_raft_request {
    uint64_t id;           /* of the header; 0 when there is none */
    struct slice username; /* who asks, and the revision of auth in which he was identified */
    uint64_t auth_revision;
    uint32_t kind; /* the body's field number, one above 1 that is not HEADER; 0 = none */
    struct slice body;
};

/* `body` goes in unchanged as the field `kind`. */
size_t wire_raft_request_size(uint32_t kind, uint64_t id, struct slice body);
uint8_t *wire_raft_request_put(uint8_t *dst, uint32_t kind, uint64_t id, struct slice body);
/* All of the fields. */
size_t wire_raft_request_whole_size(const struct wire_raft_request *r);
uint8_t *wire_raft_request_whole_put(uint8_t *dst, const struct wire_raft_request *r);
/* The body is not looked into. Errors: TV_EMALFORMED, also when there are two bodies: no proposer
 * writes that. */
int wire_raft_request_decode(struct slice msg, struct wire_raft_request *ret);

/* The body of WIRE_RAFT_VERDICT: 1 mark, 2 digest (varints). A mark's body is empty. */
struct wire_verdict {
    uint64_t mark;
    uint64_t digest;
};
int wire_verdict_decode(struct slice msg, struct wire_verdict *ret);
size_t wire_verdict_size(const struct wire_verdict *v);
uint8_t *wire_verdict_put(uint8_t *dst, const struct wire_verdict *v);

/* membershippb.ClusterMemberAttrSetRequest, the body of WIRE_RAFT_MEMBER_ATTR_SET. */
struct wire_member_attr {
    uint64_t member_id;
    struct slice name;
    uint32_t client_urls_count;
    struct slice client_urls[WIRE_MEMBER_URLS_MAX];
};

/* Errors: TV_EMALFORMED; TV_ETOOLARGE: more than WIRE_MEMBER_URLS_MAX urls. */
int wire_member_attr_decode(struct slice msg, struct wire_member_attr *ret);
size_t wire_member_attr_size(const struct wire_member_attr *m);
uint8_t *wire_member_attr_put(uint8_t *dst, const struct wire_member_attr *m);

/* --- mvccpb.KeyValue --- */

struct wire_kv {
    struct slice key;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version;
    struct slice value;
    int64_t lease;
};

int wire_kv_decode(struct slice msg, struct wire_kv *ret);
size_t wire_kv_size(const struct wire_kv *kv);
uint8_t *wire_kv_put(uint8_t *dst, const struct wire_kv *kv);
/* The encoded KeyValue around its value, for a range with keys_only: concatenated they are the same
 * KeyValue without one. `kv` was encoded by wire_kv_put(): asserts that it is well-formed. */
void wire_kv_split_value(struct slice kv, struct slice *ret_before, struct slice *ret_after);

/* --- responses --- */

/* Every response begins with this as its field 1. The functions below take it by pointer; with NULL
 * the response has none. A header of zeros is there, with no bytes in it, as etcd sends it. */
struct wire_header {
    uint64_t cluster_id;
    uint64_t member_id;
    int64_t revision;
    uint64_t raft_term;
};

/* With the tag and length of field 1; nothing for NULL. These alone are a whole response for
 * compaction and lease revocation. */
size_t wire_header_size(const struct wire_header *h);
uint8_t *wire_header_put(uint8_t *dst, const struct wire_header *h);
/* Of the submessage's contents. */
int wire_header_decode(struct slice msg, struct wire_header *ret);

/* An encoded KeyValue of `kv_size` bytes in the repeated field 2 of a RangeResponse. After the head
 * the caller puts the bytes. */
enum { WIRE_RANGE_KVS = 2, WIRE_DELETE_RANGE_PREV_KVS = 3 };

static inline size_t wire_kv_field_size(size_t kv_size)
{
    return wire_item_size(WIRE_RANGE_KVS, kv_size);
}

static inline uint8_t *wire_kv_field_put_head(uint8_t *dst, size_t kv_size)
{
    return wire_item_put_head(dst, WIRE_RANGE_KVS, kv_size);
}

/* RangeResponse: header, then the kvs' fields (kvs_bytes in all), then the tail. */
size_t wire_range_response_size(const struct wire_header *h, size_t kvs_bytes, bool more,
                                int64_t count);
size_t wire_range_tail_size(bool more, int64_t count);
uint8_t *wire_range_tail_put(uint8_t *dst, bool more, int64_t count);

/* RangeStreamResponse: one item with this number, a RangeResponse. */
enum { WIRE_RANGE_STREAM_RESPONSE = 1 };

/* `prev_kv`: an encoded KeyValue; empty = none. */
size_t wire_put_response_size(const struct wire_header *h, struct slice prev_kv);
uint8_t *wire_put_response_put(uint8_t *dst, const struct wire_header *h, struct slice prev_kv);

/* DeleteRangeResponse without its prev_kvs, which follow as items of WIRE_DELETE_RANGE_PREV_KVS. */
size_t wire_delete_range_response_size(const struct wire_header *h, int64_t deleted);
uint8_t *wire_delete_range_response_put(uint8_t *dst, const struct wire_header *h, int64_t deleted);

/* TxnResponse without its responses, which follow as items of WIRE_TXN_RESPONSES; each is a
 * ResponseOp, in which the response of an operation is the item whose number is wire_op_field(). */
enum { WIRE_TXN_RESPONSES = 3 };
size_t wire_txn_response_size(const struct wire_header *h, bool succeeded);
uint8_t *wire_txn_response_put(uint8_t *dst, const struct wire_header *h, bool succeeded);
/* The field of a RequestOp and of a ResponseOp that holds an operation of this kind; not for NONE.
 */
uint32_t wire_op_field(enum wire_op_kind kind);

size_t wire_lease_grant_response_size(const struct wire_header *h, int64_t id, int64_t ttl);
uint8_t *wire_lease_grant_response_put(uint8_t *dst, const struct wire_header *h, int64_t id,
                                       int64_t ttl);
size_t wire_lease_keepalive_response_size(const struct wire_header *h, int64_t id, int64_t ttl);
uint8_t *wire_lease_keepalive_response_put(uint8_t *dst, const struct wire_header *h, int64_t id,
                                           int64_t ttl);
/* LeaseTimeToLiveResponse without its keys, which follow as items of WIRE_LEASE_TTL_KEYS. */
enum { WIRE_LEASE_TTL_KEYS = 5 };
size_t wire_lease_ttl_response_size(const struct wire_header *h, int64_t id, int64_t ttl,
                                    int64_t granted_ttl);
uint8_t *wire_lease_ttl_response_put(uint8_t *dst, const struct wire_header *h, int64_t id,
                                     int64_t ttl, int64_t granted_ttl);
/* One LeaseStatus of a LeaseLeasesResponse, tag and length included; they follow the header. */
size_t wire_lease_status_size(int64_t id);
uint8_t *wire_lease_status_put(uint8_t *dst, int64_t id);

struct wire_watch_response {
    struct wire_header header;
    int64_t watch_id;
    bool created;
    bool canceled;
    int64_t compact_revision;
    struct slice cancel_reason;
    bool fragment;
    struct slice events; /* read by the client's iterator; not counted or put: the caller appends */
};

/* Without the events, which follow as wire_event_put() makes them. */
size_t wire_watch_response_size(const struct wire_watch_response *r);
uint8_t *wire_watch_response_put(uint8_t *dst, const struct wire_watch_response *r);

/* mvccpb.Event as an item of WatchResponse's field 11, tag and length included. `type`: 0 = put, 1
 * = delete. `kv` and `prev_kv` are encoded KeyValues; an empty prev_kv is none. */
size_t wire_event_size(int type, struct slice kv, struct slice prev_kv);
uint8_t *wire_event_put(uint8_t *dst, int type, struct slice kv, struct slice prev_kv);

/* --- responses of unknown size, written forwards into a buffer ---
 *
 * For a txn: its operations are executed in order, and how large an operation's response becomes is
 * known only when it is done. wire_nest_begin() opens an item; what is appended until
 * wire_nest_end() is its contents; then the length is put in front of it. With a good guess of the
 * size nothing is moved. Nests nest.
 *
 *   size_t item = wire_nest_begin(b, WIRE_TXN_RESPONSES, guess);
 *   size_t put = wire_nest_begin(b, wire_op_field(WIRE_OP_PUT), guess);
 *   uint8_t *p = buf_reserve(b, wire_put_response_size(&h, prev)); ...; b->size += ...;
 *   wire_nest_end(b, put);
 *   wire_nest_end(b, item);
 *
 * The buffer must have been made with a limit that cannot be passed here: they assert it. */
size_t wire_nest_begin(struct buf *b, uint32_t number, size_t size_guess);
void wire_nest_end(struct buf *b, size_t nest);

/* --- responses, read by clients --- */

struct wire_range_response {
    struct wire_header header;
    struct slice msg; /* wire_next_kv(reader of this, WIRE_RANGE_KVS, ...) */
    uint32_t kvs_count;
    bool more;
    int64_t count;
};

struct wire_put_response {
    struct wire_header header;
    struct slice prev_kv; /* encoded; empty = none */
};

struct wire_delete_range_response {
    struct wire_header header;
    struct slice msg;
    int64_t deleted;
};

struct wire_txn_response {
    struct wire_header header;
    struct slice msg;
    bool succeeded;
    uint32_t responses_count;
};

struct wire_lease_response {
    struct wire_header header;
    int64_t id;
    int64_t ttl;
    int64_t granted_ttl; /* LeaseTimeToLive only */
    struct slice msg;    /* LeaseTimeToLive: its keys are items of WIRE_LEASE_TTL_KEYS */
};

struct wire_event {
    int32_t type; /* 0 = put, 1 = delete */
    struct wire_kv kv;
    bool has_prev_kv;
    struct wire_kv prev_kv;
};

int wire_range_response_decode(struct slice msg, struct wire_range_response *ret);
/* The RangeResponse in a RangeStreamResponse; data is NULL when there is none. Errors:
 * TV_EMALFORMED, also when there are two: no server writes that. */
int wire_range_stream_response_decode(struct slice msg, struct slice *ret_range_response);
int wire_put_response_decode(struct slice msg, struct wire_put_response *ret);
int wire_delete_range_response_decode(struct slice msg, struct wire_delete_range_response *ret);
int wire_txn_response_decode(struct slice msg, struct wire_txn_response *ret);
/* LeaseGrantResponse, LeaseKeepAliveResponse; also compaction's and revocation's: header only. */
int wire_lease_response_decode(struct slice msg, struct wire_lease_response *ret);
int wire_lease_ttl_response_decode(struct slice msg, struct wire_lease_response *ret);
/* `events` of the result is the message itself: read it with wire_next_event(). */
int wire_watch_response_decode(struct slice msg, struct wire_watch_response *ret);

/* The next item with this number of a message that was decoded before. False at the end. */
bool wire_next_item(struct wire_reader *r, uint32_t number, struct slice *ret);
/* 1, 0 at the end, or TV_EMALFORMED. */
int wire_next_kv(struct wire_reader *r, uint32_t number, struct wire_kv *ret);
int wire_next_event(struct wire_reader *r, struct wire_event *ret);
/* What a ResponseOp holds: its kind and the response's bytes. Errors: TV_EMALFORMED. */
int wire_response_op_decode(struct slice msg, enum wire_op_kind *ret_kind, struct slice *ret_body);

#endif

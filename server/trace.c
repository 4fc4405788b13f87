#include "server/trace.h"

#include "server/node.h"
#include "server/trace_http.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "proto/wirefield.h"

#include <stdlib.h>
#include <string.h>

enum {
    SEND_EVERY_MS = 1000,
    SEND_SPANS = 512, /* or when so many wait */
    SEND_TIMEOUT_MS = 10000,
    RATE_UNIT = 1000000,
    STATE_BYTES_MAX = 512,
    EVENTS_MAX = 4,
};

/* opentelemetry.proto.trace.v1.Span and what is in it */
enum { SPAN_TRACE_ID = 1, SPAN_ID = 2, SPAN_STATE = 3, SPAN_PARENT = 4, SPAN_NAME = 5 };
enum { SPAN_KIND = 6, SPAN_START = 7, SPAN_END = 8, SPAN_ATTRIBUTES = 9, SPAN_EVENTS = 11 };
enum { SPAN_STATUS = 15, SPAN_FLAGS = 16, STATUS_MESSAGE = 2, STATUS_CODE = 3, STATUS_ERROR = 2 };
enum { EVENT_TIME = 1, EVENT_NAME = 2, KIND_INTERNAL = 1, KIND_SERVER = 2 };
enum { VALUE_STRING = 1, VALUE_BOOL = 2, VALUE_INT = 3 };
enum { FLAG_SAMPLED = 1, FLAG_HAS_REMOTE = 0x100, FLAG_IS_REMOTE = 0x200 };

static const char export_path[] = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

struct event {
    const char *name;
    uint64_t at_ns;
};

/* A call that is traced. Times are of clock_mono_ns(). */
struct trace {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t parent_id[8];
    bool has_parent;
    uint64_t started_ns;
    struct buf state; /* the client's tracestate, handed on */

    /* What is done for it: begun when `work_name` is set. */
    const char *work_name;
    uint8_t work_id[8];
    uint64_t work_started_ns;
    struct buf work_attributes; /* encoded */

    struct event events[EVENTS_MAX];
    uint32_t events_count;
};

struct tracer {
    struct worker *worker;
    struct grpc_channel *channel; /* NULL: by HTTP */
    struct grpc_call *call;       /* the request under way */
    struct http_post *post;       /* or this */
    bool closing;
    struct rng rng;
    uint64_t rate_bound; /* of the last 63 bits of a trace id */
    uint64_t wall_offset_ns;
    struct buf spans; /* encoded, as they stand in a ScopeSpans */
    uint32_t spans_count;
    uint32_t under_way;
    uint64_t sent_ms;
    struct buf scratch;
};

/* --- encoding: into buffers that grow --- */

static void put_tag_number(struct buf *b, uint32_t field, uint64_t value)
{
    uint8_t *p = buf_reserve(b, 20);
    ASSERT(p != NULL);
    uint8_t *end = wire_varint_put(wire_tag_put(p, field, WIRE_VARINT), value);
    b->size += (size_t)(end - p);
}

static void put_bytes(struct buf *b, uint32_t field, struct slice bytes)
{
    uint8_t *p = buf_reserve(b, wire_item_size(field, bytes.size));
    ASSERT(p != NULL);
    b->size += (size_t)(wire_item_put(p, field, bytes) - p);
}

static void put_text(struct buf *b, uint32_t field, const char *text)
{
    put_bytes(b, field, slice_of_string(text));
}

static void put_fixed64(struct buf *b, uint32_t field, uint64_t value)
{
    uint8_t *p = buf_reserve(b, 20);
    ASSERT(p != NULL);
    uint8_t *end = wire_tag_put(p, field, WIRE_FIXED64);
    for (int i = 0; i < 8; i++)
        *end++ = (uint8_t)(value >> (8 * i));
    b->size += (size_t)(end - p);
}

static void put_fixed32(struct buf *b, uint32_t field, uint32_t value)
{
    uint8_t *p = buf_reserve(b, 12);
    ASSERT(p != NULL);
    uint8_t *end = wire_tag_put(p, field, WIRE_FIXED32);
    for (int i = 0; i < 4; i++)
        *end++ = (uint8_t)(value >> (8 * i));
    b->size += (size_t)(end - p);
}

/* KeyValue: 1 key, 2 AnyValue, which has one field. */
static void put_attribute(struct buf *b, uint32_t field, const char *key, uint32_t value_field,
                          struct slice text, uint64_t number)
{
    uint8_t value[16];
    size_t value_size = 0;
    if (value_field != VALUE_STRING)
        value_size =
            (size_t)(wire_varint_put(wire_tag_put(value, value_field, WIRE_VARINT), number) -
                     value);
    else
        value_size = wire_item_size(VALUE_STRING, text.size);
    struct slice name = slice_of_string(key);
    size_t size = wire_item_size(1, name.size) + wire_item_size(2, value_size);
    uint8_t *p = buf_reserve(b, wire_item_size(field, size));
    ASSERT(p != NULL);
    uint8_t *at = wire_item_put(wire_item_put_head(p, field, size), 1, name);
    at = wire_item_put_head(at, 2, value_size);
    at = value_field == VALUE_STRING ? wire_item_put(at, VALUE_STRING, text)
                                     : wire_raw_put(at, slice_of(value, value_size));
    b->size += (size_t)(at - p);
}

/* A string in protobuf is UTF-8, a key of the store anything: what is not ASCII is shown as '?'. */
static void put_text_attribute(struct buf *b, const char *key, struct slice text)
{
    uint8_t plain[TRACE_TEXT_MAX];
    size_t size = text.size < sizeof(plain) ? text.size : sizeof(plain);
    for (size_t i = 0; i < size; i++)
        plain[i] = text.data[i] < 0x80 ? text.data[i] : '?';
    put_attribute(b, SPAN_ATTRIBUTES, key, VALUE_STRING, slice_of(plain, size), 0);
}

static void put_int_attribute(struct buf *b, const char *key, int64_t value)
{
    put_attribute(b, SPAN_ATTRIBUTES, key, VALUE_INT, SLICE_EMPTY, (uint64_t)value);
}

static void put_bool_attribute(struct buf *b, const char *key, bool value)
{
    put_attribute(b, SPAN_ATTRIBUTES, key, VALUE_BOOL, SLICE_EMPTY, value);
}

/* --- what is done for a call: etcd's attributes --- */

/* The first key, kind and lease among the operations, each wherever it is found. */
struct first_op {
    struct slice key;
    const char *type;
    int64_t lease;
};

static struct slice key_of(const struct wire_op *op)
{
    switch (op->kind) {
    case WIRE_OP_RANGE:
        return op->range.key;
    case WIRE_OP_PUT:
        return op->put.key;
    case WIRE_OP_DELETE_RANGE:
        return op->delete_range.key;
    case WIRE_OP_TXN:
    case WIRE_OP_NONE:
        break;
    }
    return SLICE_EMPTY;
}

static void find_first(const struct wire_txn *txn, struct first_op *ret)
{
    static const char *const types[] = {[WIRE_OP_RANGE] = "range",
                                        [WIRE_OP_PUT] = "put",
                                        [WIRE_OP_DELETE_RANGE] = "delete_range",
                                        [WIRE_OP_TXN] = "txn"};
    struct wire_txn_it it;
    struct wire_op op;
    bool has_lease = false;
    *ret = (struct first_op){.key = SLICE_EMPTY, .type = "", .lease = -1};
    wire_txn_ops(txn, true, &it);
    while (wire_next_op(&it, &op)) {
        if (ret->key.size == 0)
            ret->key = key_of(&op);
        if (*ret->type == '\0' && op.kind != WIRE_OP_NONE)
            ret->type = types[op.kind];
        if (!has_lease && op.kind == WIRE_OP_PUT)
            ret->lease = op.put.lease;
        has_lease = has_lease || op.kind == WIRE_OP_PUT;
    }
}

static void put_txn_attributes(struct buf *b, struct slice body, bool reads_only)
{
    struct wire_txn txn;
    struct wire_txn_it it;
    struct wire_compare compare;
    struct first_op first;
    if (wire_txn_decode(body, &txn) != 0)
        return;
    int64_t compares = 0;
    struct slice compare_key = SLICE_EMPTY;
    wire_txn_compares(&txn, &it);
    for (; wire_next_compare(&it, &compare); compares++)
        if (compare_key.size == 0)
            compare_key = compare.key;
    find_first(&txn, &first);
    put_text_attribute(b, "compare_first_key", compare_key);
    put_text_attribute(b, "success_first_key", first.key);
    put_text_attribute(b, "success_first_type", slice_of_string(first.type));
    put_int_attribute(b, "success_first_lease", first.lease);
    put_int_attribute(b, "compare_len", compares);
    put_int_attribute(b, "success_len", txn.success_count);
    put_int_attribute(b, "failure_len", txn.failure_count);
    put_bool_attribute(b, "read_only", reads_only);
}

static void put_range_attributes(struct buf *b, struct slice body)
{
    struct wire_range_request r;
    if (wire_range_request_decode(body, &r) != 0)
        return;
    put_text_attribute(b, "range_begin", r.key);
    put_text_attribute(b, "range_end", r.range_end);
    put_int_attribute(b, "rev", r.revision);
    put_int_attribute(b, "limit", r.limit);
    put_bool_attribute(b, "count_only", r.count_only);
    put_bool_attribute(b, "keys_only", r.keys_only);
}

/* NULL: etcd has no span for such an entry. */
static const char *describe_work(struct buf *b, uint32_t kind, struct slice body, bool reads_only)
{
    struct wire_put_request put;
    struct wire_delete_range_request del;
    struct wire_compaction_request compact;
    struct wire_lease_grant_request grant;
    struct wire_lease_id_request revoke;
    switch (kind) {
    case WIRE_RAFT_RANGE:
        put_range_attributes(b, body);
        return "range";
    case WIRE_RAFT_PUT:
        if (wire_put_request_decode(body, &put) == 0)
            put_text_attribute(b, "key", put.key);
        return "put";
    case WIRE_RAFT_DELETE_RANGE:
        if (wire_delete_range_request_decode(body, &del) == 0) {
            put_text_attribute(b, "range_begin", del.key);
            put_text_attribute(b, "range_end", del.range_end);
        }
        return "delete_range";
    case WIRE_RAFT_TXN:
        put_txn_attributes(b, body, reads_only);
        return "txn";
    case WIRE_RAFT_COMPACTION:
        if (wire_compaction_request_decode(body, &compact) == 0) {
            put_bool_attribute(b, "is_physical", compact.physical);
            put_int_attribute(b, "rev", compact.revision);
        }
        return "compact";
    case WIRE_RAFT_LEASE_GRANT:
        if (wire_lease_grant_request_decode(body, &grant) == 0) {
            put_int_attribute(b, "id", grant.id);
            put_int_attribute(b, "ttl", grant.ttl);
        }
        return "lease_grant";
    case WIRE_RAFT_LEASE_REVOKE:
        if (wire_lease_revoke_request_decode(body, &revoke) == 0)
            put_int_attribute(b, "id", revoke.id);
        return "lease_revoke";
    }
    return NULL;
}

void trace_work(struct grpc_call *call, uint32_t raft_kind, struct slice body, bool reads_only)
{
    struct trace *t = trace_of(call);
    if (t == NULL || t->work_name != NULL)
        return;
    t->work_started_ns = clock_mono_ns();
    t->work_name = describe_work(&t->work_attributes, raft_kind, body, reads_only);
}

static void add_event(struct trace *t, const char *name, uint64_t at_ns)
{
    if (at_ns != 0 && t->events_count < EVENTS_MAX)
        t->events[t->events_count++] = (struct event){name, at_ns};
}

void trace_proposed(struct grpc_call *call, struct request *req)
{
    struct trace *t = trace_of(call);
    if (t == NULL)
        return;
    req->traced = true;
    req->proposed_ns = req->applied_ns = 0;
    add_event(t, "Send raft proposal", clock_mono_ns());
}

void trace_answered(const struct request *req)
{
    struct trace *t = req->call == NULL ? NULL : trace_of(req->call);
    if (t == NULL)
        return;
    add_event(t, "Propose", req->proposed_ns);
    add_event(t, "Apply", req->applied_ns);
    if (req->applied)
        add_event(t, "Receive raft result", clock_mono_ns());
}

/* --- a call --- */

static bool parse_hex(const uint8_t *text, uint8_t *ret, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < 2 * size; i++) {
        uint8_t c = text[i];
        uint8_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint8_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint8_t)(c - 'a' + 10);
        else
            return false;
        ret[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : ret[i / 2] | digit);
        any |= digit;
    }
    return any != 0 || size == 1;
}

/* version "-" trace id "-" parent id "-" flags; later versions may have more behind that. */
bool trace_parse_parent(struct slice text, struct trace_parent *ret)
{
    enum { TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53, SIZE = 55, VERSION_INVALID = 0xff };
    uint8_t version, flags;
    if (text.size < SIZE || text.data[2] != '-' || text.data[35] != '-' || text.data[52] != '-')
        return false;
    if (!parse_hex(text.data, &version, 1) || version == VERSION_INVALID ||
        (version == 0 ? text.size != SIZE : text.size > SIZE && text.data[SIZE] != '-'))
        return false;
    if (!parse_hex(text.data + TRACE_AT, ret->trace_id, sizeof(ret->trace_id)) ||
        !parse_hex(text.data + PARENT_AT, ret->span_id, sizeof(ret->span_id)) ||
        !parse_hex(text.data + FLAGS_AT, &flags, 1))
        return false;
    ret->sampled = (flags & FLAG_SAMPLED) != 0;
    return true;
}

static void make_id(struct tracer *t, uint8_t *ret, size_t size)
{
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t random = rng_next(&t->rng) | 1; /* never all zeros */
        memcpy(ret + i, &random, sizeof(random));
    }
}

static bool chosen(const struct tracer *t, const uint8_t trace_id[16])
{
    uint64_t last = 0;
    for (int i = 8; i < 16; i++)
        last = last << 8 | trace_id[i];
    return last >> 1 < t->rate_bound;
}

void trace_begin(struct tracer *t, struct grpc_call *call)
{
    struct trace_parent parent;
    struct trace made = {.started_ns = clock_mono_ns()};
    made.has_parent = trace_parse_parent(grpc_call_metadata(call, "traceparent"), &parent);
    if (made.has_parent) {
        memcpy(made.trace_id, parent.trace_id, sizeof(made.trace_id));
        memcpy(made.parent_id, parent.span_id, sizeof(made.parent_id));
    } else if (t->rate_bound > 0) {
        make_id(t, made.trace_id, sizeof(made.trace_id));
    }
    if (made.has_parent ? !parent.sampled : !chosen(t, made.trace_id))
        return;
    make_id(t, made.span_id, sizeof(made.span_id));
    make_id(t, made.work_id, sizeof(made.work_id));
    struct trace *trace = mem_alloc(sizeof(*trace));
    *trace = made;
    buf_init(&trace->state, STATE_BYTES_MAX);
    buf_init(&trace->work_attributes, SIZE_MAX);
    struct slice state = grpc_call_metadata(call, "tracestate");
    if (made.has_parent && state.size > 0)
        (void)buf_append(&trace->state, state.data, state.size); /* longer ones are left out */
    grpc_call_set_trace(call, trace);
}

/* Fields 1 to 8 of a span. */
static void put_head(const struct tracer *t, struct buf *b, const struct trace *trace,
                     const uint8_t id[8], const uint8_t *parent, const char *name, uint32_t kind)
{
    put_bytes(b, SPAN_TRACE_ID, slice_of(trace->trace_id, sizeof(trace->trace_id)));
    put_bytes(b, SPAN_ID, slice_of(id, 8));
    if (trace->state.size > 0)
        put_bytes(b, SPAN_STATE, buf_slice(&trace->state));
    if (parent != NULL)
        put_bytes(b, SPAN_PARENT, slice_of(parent, 8));
    put_text(b, SPAN_NAME, name);
    put_tag_number(b, SPAN_KIND, kind);
    (void)t;
}

static void put_times(const struct tracer *t, struct buf *b, uint64_t start_ns, uint64_t end_ns)
{
    put_fixed64(b, SPAN_START, start_ns + t->wall_offset_ns);
    put_fixed64(b, SPAN_END, end_ns + t->wall_offset_ns);
}

static void put_events(const struct tracer *t, struct buf *b, const struct trace *trace)
{
    struct buf event;
    buf_init(&event, SIZE_MAX);
    for (uint32_t i = 0; i < trace->events_count; i++) {
        buf_clear(&event);
        put_fixed64(&event, EVENT_TIME, trace->events[i].at_ns + t->wall_offset_ns);
        put_text(&event, EVENT_NAME, trace->events[i].name);
        put_bytes(b, SPAN_EVENTS, buf_slice(&event));
    }
    buf_fini(&event);
}

/* The span in `scratch` is complete. */
static void queue_span(struct tracer *t)
{
    if (t->spans_count >= TRACE_SPANS_MAX || t->spans.size + t->scratch.size > TRACE_BYTES_MAX) {
        metric_add(&t->worker->meters.spans_dropped, 1);
        return;
    }
    enum { SCOPE_SPANS_SPANS = 2 };
    put_bytes(&t->spans, SCOPE_SPANS_SPANS, buf_slice(&t->scratch));
    t->spans_count++;
}

static void put_place(const struct tracer *t, struct buf *b, const struct grpc_call *call)
{
    const struct ports *ports = &t->worker->node->ports;
    const struct grpc_conn *conn = grpc_call_conn(call);
    for (uint32_t i = 0; conn != NULL && i < ports->clients_count; i++) {
        const char *address = url_address(ports->clients[i].url);
        const char *colon = strrchr(address, ':');
        if (&ports->clients[i].port != grpc_conn_port(conn) || colon == NULL)
            continue;
        put_text_attribute(b, "server.address", slice_of(address, (size_t)(colon - address)));
        put_int_attribute(b, "server.port", (int64_t)strtoul(colon + 1, NULL, 10));
    }
}

static const char *const code_names[GRPC_CODES_COUNT] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

/* Of a server's span only these are errors, as the conventions have it. */
static bool is_servers_fault(enum grpc_code code)
{
    const uint32_t faults = 1u << GRPC_UNKNOWN | 1u << GRPC_DEADLINE_EXCEEDED |
                            1u << GRPC_UNIMPLEMENTED | 1u << GRPC_INTERNAL |
                            1u << GRPC_UNAVAILABLE | 1u << GRPC_DATA_LOSS;
    return (faults >> code & 1) != 0;
}

static void put_status(struct buf *b, struct slice text)
{
    struct buf status;
    buf_init(&status, SIZE_MAX);
    put_bytes(&status, STATUS_MESSAGE, text);
    put_tag_number(&status, STATUS_CODE, STATUS_ERROR);
    put_bytes(b, SPAN_STATUS, buf_slice(&status));
    buf_fini(&status);
}

static void end_work(struct tracer *t, const struct trace *trace, uint64_t now_ns)
{
    struct buf *b = &t->scratch;
    buf_clear(b);
    put_head(t, b, trace, trace->work_id, trace->span_id, trace->work_name, KIND_INTERNAL);
    put_times(t, b, trace->work_started_ns, now_ns);
    (void)buf_append(b, trace->work_attributes.data, trace->work_attributes.size);
    put_events(t, b, trace);
    put_fixed32(b, SPAN_FLAGS, FLAG_SAMPLED | FLAG_HAS_REMOTE);
    queue_span(t);
}

void trace_end(struct tracer *t, struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct trace *trace = trace_of(call);
    if (trace == NULL)
        return;
    uint64_t now_ns = clock_mono_ns();
    const char *method = grpc_call_method(call)->path + 1;
    struct buf *b = &t->scratch;
    if (trace->work_name != NULL)
        end_work(t, trace, now_ns);
    buf_clear(b);
    put_head(t, b, trace, trace->span_id, trace->has_parent ? trace->parent_id : NULL, method,
             KIND_SERVER);
    put_times(t, b, trace->started_ns, now_ns);
    put_text_attribute(b, "rpc.method", slice_of_string(method));
    put_text_attribute(b, "rpc.system.name", SLICE_LITERAL("grpc"));
    put_place(t, b, call);
    put_text_attribute(b, "rpc.response.status_code", slice_of_string(code_names[code]));
    if (trace->work_name == NULL)
        put_events(t, b, trace);
    if (is_servers_fault(code))
        put_status(b, text);
    put_fixed32(b, SPAN_FLAGS,
                FLAG_SAMPLED | FLAG_HAS_REMOTE | (trace->has_parent ? FLAG_IS_REMOTE : 0));
    queue_span(t);
    grpc_call_set_trace(call, NULL);
    buf_fini(&trace->state);
    buf_fini(&trace->work_attributes);
    mem_free(trace);
}

void trace_renewed(struct tracer *t, struct grpc_call *call, int64_t lease_id, uint64_t from_ns)
{
    const struct trace *trace = trace_of(call);
    uint8_t id[8];
    if (trace == NULL)
        return;
    make_id(t, id, sizeof(id));
    buf_clear(&t->scratch);
    put_head(t, &t->scratch, trace, id, trace->span_id, "lease_renew", KIND_INTERNAL);
    put_times(t, &t->scratch, from_ns, clock_mono_ns());
    put_int_attribute(&t->scratch, "id", lease_id);
    put_fixed32(&t->scratch, SPAN_FLAGS, FLAG_SAMPLED | FLAG_HAS_REMOTE);
    queue_span(t);
}

/* --- to the collector --- */

static void export_ended(struct tracer *t, bool ok)
{
    struct worker_meters *m = &t->worker->meters;
    metric_add(ok ? &m->spans_sent : &m->spans_dropped, t->under_way);
    t->under_way = 0;
    t->call = NULL;
    t->post = NULL;
}

static void on_exported(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    (void)text;
    export_ended(grpc_call_user(call), code == GRPC_OK);
}

static void on_posted(void *ctx, bool ok)
{
    export_ended(ctx, ok);
}

static const struct grpc_call_ops export_ops = {.closed = on_exported};

/* Resource: 1 attributes. */
static void put_resource(const struct tracer *t, struct buf *b)
{
    const struct config *c = t->worker->node->config;
    struct buf resource;
    buf_init(&resource, SIZE_MAX);
    put_attribute(&resource, 1, "service.name", VALUE_STRING, slice_of_string(c->trace_service), 0);
    if (*c->trace_instance != '\0')
        put_attribute(&resource, 1, "service.instance.id", VALUE_STRING,
                      slice_of_string(c->trace_instance), 0);
    put_bytes(b, 1, buf_slice(&resource));
    buf_fini(&resource);
}

/* ExportTraceServiceRequest: 1 ResourceSpans: 1 resource, 2 ScopeSpans: 1 scope (1 name, 2
 * version), 2 spans. What is before the spans, up to the head of the ScopeSpans. */
static void put_request_head(const struct tracer *t, struct buf *ret)
{
    struct buf scope, inner;
    buf_init(&scope, SIZE_MAX);
    buf_init(&inner, SIZE_MAX);
    struct buf name;
    buf_init(&name, SIZE_MAX);
    put_text(&name, 1, "trivet");
    put_text(&name, 2, CONFIG_TRIVET_VERSION);
    put_bytes(&scope, 1, buf_slice(&name));
    size_t scope_spans_size = scope.size + t->spans.size;

    put_resource(t, &inner);
    size_t whole = inner.size + wire_item_size(2, scope_spans_size);
    uint8_t *p = buf_reserve(ret, whole - scope_spans_size + scope.size + 32);
    ASSERT(p != NULL);
    uint8_t *at = wire_item_put_head(p, 1, whole);
    at = wire_raw_put(at, buf_slice(&inner));
    at = wire_item_put_head(at, 2, scope_spans_size);
    at = wire_raw_put(at, buf_slice(&scope));
    ret->size += (size_t)(at - p);
    buf_fini(&name);
    buf_fini(&scope);
    buf_fini(&inner);
}

static void send_by_grpc(struct tracer *t, struct slice head)
{
    struct slice parts[] = {head, buf_slice(&t->spans)};
    t->call = grpc_start(t->channel,
                         &(struct grpc_start_options){
                             .path = export_path,
                             .deadline_ns = clock_mono_ns() + SEND_TIMEOUT_MS * UINT64_C(1000000),
                             .ops = &export_ops,
                             .user = t});
    (void)grpc_send(t->call, parts, 2); /* when it is refused, closed() says so */
    grpc_half_close(t->call);
}

void tracer_flush(struct tracer *t)
{
    if (t->call != NULL || t->post != NULL || t->spans_count == 0)
        return;
    struct buf head;
    buf_init(&head, SIZE_MAX);
    put_request_head(t, &head);
    t->under_way = t->spans_count;
    if (t->channel != NULL)
        send_by_grpc(t, buf_slice(&head));
    else
        t->post =
            http_post_start(t->worker->loop, t->worker->node->config->trace_address, "/v1/traces",
                            buf_slice(&head), buf_slice(&t->spans), SEND_TIMEOUT_MS, on_posted, t);
    buf_fini(&head);
    buf_clear(&t->spans);
    t->spans_count = 0;
}

void tracer_tick(struct tracer *t, uint64_t now_ms)
{
    if (t == NULL || t->spans_count == 0)
        return;
    if (t->spans_count < SEND_SPANS && now_ms < t->sent_ms + SEND_EVERY_MS)
        return;
    t->sent_ms = now_ms;
    tracer_flush(t);
}

struct tracer *tracer_new(struct worker *w, struct grpc_loop *gl)
{
    const struct config *c = w->node->config;
    if (!c->trace_enabled)
        return NULL;
    struct grpc_channel *channel = NULL;
    if (!http_post_is_url(c->trace_address)) {
        struct grpc_channel_options o;
        grpc_channel_options_init(&o);
        o.addresses = (const char *const[]){c->trace_address};
        o.addresses_count = 1;
        o.calls_max = 1;
        channel = grpc_channel_new(gl, &o);
        if (channel == NULL) {
            log_warn("cannot send traces: this is no address",
                     LOG_STR("address", c->trace_address));
            return NULL;
        }
    }
    struct tracer *t = mem_alloc_zero(sizeof(*t));
    t->worker = w;
    t->channel = channel;
    rng_init(&t->rng, rng_seed_from_os());
    t->rate_bound = (UINT64_C(1) << 63) / RATE_UNIT * (uint64_t)c->trace_rate;
    t->wall_offset_ns = (uint64_t)clock_wall_us() * 1000 - clock_mono_ns();
    buf_init(&t->spans, TRACE_BYTES_MAX + TRACE_BYTES_MAX / 2);
    buf_init(&t->scratch, SIZE_MAX);
    return t;
}

void tracer_free(struct tracer *t)
{
    if (t == NULL)
        return;
    if (t->channel != NULL)
        grpc_channel_close(t->channel);
    if (t->post != NULL)
        http_post_abandon(t->post);
    buf_fini(&t->spans);
    buf_fini(&t->scratch);
    mem_free(t);
}

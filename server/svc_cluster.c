/* etcdserverpb.Cluster: who the members are, and changes of that. */
#include "server/services.h"

#include "server/member.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

/* --- MemberList --- */

static void ask_members(struct grpc_call *call, struct worker *w)
{
    if (service_lacks_user(call))
        return;
    struct request *req = worker_request(w, REQUEST_MEMBER_LIST, call, service_answered);
    service_tie(call, req);
    worker_post(w, req);
}

static void serve_members(struct read *r)
{
    struct worker *w = r->worker;
    struct grpc_call *call = r->call;
    worker_read_free(r);
    ask_members(call, w);
}

/* MemberListRequest: 1 linearizable. */
static void on_member_list(struct grpc_call *call, struct slice msg)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    bool linearizable = false;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1)
        if (f.number == 1 && f.type == WIRE_VARINT)
            linearizable = f.value != 0;
    if (rv != 0)
        service_malformed(call);
    else if (service_refused(call))
        return;
    else if (linearizable)
        worker_read(service_worker(call), call, SLICE_EMPTY, true, serve_members);
    else
        ask_members(call, service_worker(call));
}

const struct grpc_call_ops cluster_member_list_ops = {.message = on_member_list,
                                                      .closed = worker_call_closed};

/* --- what a request says --- */

/* The fields of all four requests that change something. */
struct member_request {
    uint64_t id;
    bool learner;
    struct slice urls[CLUSTER_URLS_MAX];
    uint32_t urls_count;
    bool too_many_urls;
};

enum { ADD_URLS = 1, ADD_IS_LEARNER = 2, ID = 1, UPDATE_URLS = 2 };

static void take_url(struct member_request *ret, struct slice url)
{
    if (ret->urls_count < CLUSTER_URLS_MAX)
        ret->urls[ret->urls_count++] = url;
    else
        ret->too_many_urls = true;
}

static int decode_add(struct slice msg, struct member_request *ret)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == ADD_URLS && f.type == WIRE_BYTES)
            take_url(ret, f.bytes);
        if (f.number == ADD_IS_LEARNER && f.type == WIRE_VARINT)
            ret->learner = f.value != 0;
    }
    return rv;
}

/* MemberRemoveRequest, MemberPromoteRequest: 1 ID; MemberUpdateRequest: 2 peerURLs as well. */
static int decode_id(struct slice msg, struct member_request *ret)
{
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == ID && f.type == WIRE_VARINT)
            ret->id = f.value;
        if (f.number == UPDATE_URLS && f.type == WIRE_BYTES)
            take_url(ret, f.bytes);
    }
    return rv;
}

/* In etcd's form, sorted. False: not all of them are URLs of members. */
static bool parse_urls(const struct member_request *r, struct urls *ret)
{
    char text[URL_BYTES_MAX], why[256];
    *ret = (struct urls){0};
    for (uint32_t i = 0; i < r->urls_count; i++) {
        char *url;
        if (r->urls[i].size >= sizeof(text))
            return false;
        memcpy(text, r->urls[i].data, r->urls[i].size);
        text[r->urls[i].size] = '\0';
        if (url_parse(text, &url, why, sizeof(why)) != 0 || urls_add(ret, url) != 0)
            return false;
    }
    return ret->count > 0 && !r->too_many_urls;
}

/* --- onto the log --- */

static void propose(struct grpc_call *call, struct member_change *change, const struct urls *urls)
{
    struct worker *w = service_worker(call);
    struct request *req = worker_request(w, REQUEST_MEMBER_CHANGE, call, service_answered);
    req->id = core_next_request_id(w->node->core);
    req->target = change->id;
    change->request_id = req->id;
    int64_t learners_max = w->node->config->learners_max;
    change->learners_max = learners_max < UINT32_MAX ? (uint32_t)learners_max : UINT32_MAX;
    for (uint32_t i = 0; i < urls->count; i++)
        change->peer_urls[change->peer_urls_count++] = slice_of_string(urls->items[i]);

    struct buf data;
    buf_init(&data, SIZE_MAX);
    member_change_encode(change, &data);
    req->payload_size = (uint32_t)data.size;
    req->payload = bref_new(data.size);
    memcpy(req->payload->data, data.data, data.size);
    buf_fini(&data);
    service_tie(call, req);
    worker_post(w, req);
}

/* etcd takes any text as a URL in an update, and then cannot reach the member: what is no URL is
 * refused here too, after what etcd refuses. */
static void change_with_urls(struct grpc_call *call, const struct member_request *r,
                             enum member_change_kind kind)
{
    struct urls urls;
    if (service_refused(call))
        return;
    struct member_change change = {.kind = kind, .id = r->id};
    bool good = parse_urls(r, &urls);
    /* An update's URLs are looked at after who asks for it, an addition's before. */
    if (!good && kind != MEMBER_UPDATE) {
        worker_fail(call, TV_MEMBER_BAD_URLS);
    } else if (service_lacks_root(call)) {
        /* refused */
    } else if (kind == MEMBER_UPDATE && r->id == 0) {
        worker_fail(call, TV_MEMBER_NOT_FOUND);
    } else if (kind == MEMBER_UPDATE) {
        propose(call, &change,
                good ? &urls : &(struct urls){0}); /* none: refused, if it is there */
    } else {
        change.id = cluster_new_id(urls.items, urls.count, (uint64_t)clock_wall_us() / 1000000);
        propose(call, &change, &urls);
    }
    urls_fini(&urls);
}

static void on_member_add(struct grpc_call *call, struct slice msg)
{
    struct member_request r = {0};
    if (decode_add(msg, &r) != 0)
        service_malformed(call);
    else
        change_with_urls(call, &r, r.learner ? MEMBER_ADD_LEARNER : MEMBER_ADD);
}

static void change_by_id(struct grpc_call *call, struct slice msg, enum member_change_kind kind)
{
    struct member_request r = {0};
    struct urls none = {0};
    if (decode_id(msg, &r) != 0) {
        service_malformed(call);
        return;
    }
    if (service_refused(call) || service_lacks_root(call))
        return;
    if (r.id == 0) {
        worker_fail(call, TV_MEMBER_NOT_FOUND);
        return;
    }
    struct member_change change = {.kind = kind, .id = r.id};
    propose(call, &change, &none);
}

static void on_member_remove(struct grpc_call *call, struct slice msg)
{
    change_by_id(call, msg, MEMBER_REMOVE);
}

static void on_member_promote(struct grpc_call *call, struct slice msg)
{
    change_by_id(call, msg, MEMBER_PROMOTE);
}

static void on_member_update(struct grpc_call *call, struct slice msg)
{
    struct member_request r = {0};
    if (decode_id(msg, &r) != 0)
        service_malformed(call);
    else
        change_with_urls(call, &r, MEMBER_UPDATE);
}

const struct grpc_call_ops cluster_member_add_ops = {.message = on_member_add,
                                                     .closed = worker_call_closed};
const struct grpc_call_ops cluster_member_remove_ops = {.message = on_member_remove,
                                                        .closed = worker_call_closed};
const struct grpc_call_ops cluster_member_update_ops = {.message = on_member_update,
                                                        .closed = worker_call_closed};
const struct grpc_call_ops cluster_member_promote_ops = {.message = on_member_promote,
                                                         .closed = worker_call_closed};

/* Which proposals go to raft next, and how many at once.
 *
 * A log is a queue: whatever is on it goes before what comes. So a member puts only as much on it
 * as keeps the disks and the network busy (a window of bytes and of entries that are proposed and
 * not applied), and what waits for that waits here, where it can be chosen: the connections take
 * turns, by bytes. A connection that had nothing waiting goes before those that have, every other
 * time; so a client that asks now and then is in the next batch however much others have under way.
 *
 * What has its turn still goes through the window: with 512 of each member on the log that takes
 * several times as long as the disks and the network need. A window as deep is worth more than half
 * of the throughput to those who have thousands under way, and costs them nothing that they would
 * notice. So it is as deep until they share it with a connection that asks now and then; then it is
 * what keeps the way through it short (pace.h), and those that crowd rest when they had it: a
 * window of a few entries, refilled at once, keeps the CPUs as busy as a deep one, and who asks now
 * and then needs them, too.
 *
 * Large requests have a lane and a window of their own, or a few of them would fill the window for
 * the small ones. A member forwards large ones a few at a time; the leader does not put them on the
 * log as they come but in its own lane, as a guest each, the members and its own connections taking
 * turns: what of large requests is on the log is bounded for the whole cluster. One of them keeps
 * disks and network busy for milliseconds, and small ones wait behind it: as long as small ones
 * come, too, it goes in pieces (core_pieces.c), and when large ones wait for each other, their lane
 * rests after each piece.
 *
 *     incoming -> (a lane's flows) -> unproposed -> proposals -> answered, when applied
 *
 * Usually no flow has anything, and a proposal costs two counters.
 *
 * What was proposed may be lost with a leader or a connection, and then never ends: a window counts
 * nothing any more that was proposed before such a loss, or longer ago than an election takes. */
#include "server/core_internal.h"

enum {
    PROPOSE_BATCH_MAX = 1024,
    SMALL_WINDOW_BYTES = 1 << 20,
    SMALL_WINDOW_COUNT = 512,
    SHARED_WINDOW_MS = 1000,
    CROWD = 64,
    LARGE_WINDOW_LEADER_BYTES = 1 << 20,
    LARGE_WINDOW_FORWARD_BYTES = 4 << 20, /* the leader has the next one when one is done */
    REST = 4,                             /* times what it took */
    LARGE_REST = 8,
    TOOK_MAX_NS = 20000000,      /* so much of that counts */
    GUESTS_BYTES_MAX = 64 << 20, /* above it they are dropped, like lost messages */
    /* Of a turn. What a request costs beside its bytes counts as some more of them. */
    SMALL_TURN_BYTES = 1 << 10,
    LARGE_TURN_BYTES = 256 << 10,
    REQUEST_COST_BYTES = 512,
};

/* Those of one connection, or, at the leader, of one member. */
struct proposal_flow {
    struct list link; /* of its lane's fresh or flows */
    struct list requests;
    uint32_t requests_count;
    uint64_t id;
    uint64_t credit_bytes;
    bool fresh;
    bool of_member;
};

void core__proposals_init(struct core *c)
{
    list_init(&c->unproposed);
    list_init(&c->proposals);
    u64map_init(&c->proposal_by_id);
    c->window_epoch = 1;
    for (uint32_t i = 0; i < PROPOSAL_LANES; i++) {
        list_init(&c->lanes[i].fresh);
        list_init(&c->lanes[i].flows);
        u64map_init(&c->lanes[i].flow_by_id);
        pace_init(&c->lanes[i].pace);
    }
}

/* --- the window --- */

static struct proposal_lane *lane_of(struct core *c, const struct request *req)
{
    return &c->lanes[req->payload_size < c->o.large_bytes ? PROPOSAL_SMALL : PROPOSAL_LARGE];
}

static uint32_t small_window(const struct core *c, const struct proposal_lane *l)
{
    return c->now_ms < l->shared_until_ms ? l->pace.count : SMALL_WINDOW_COUNT;
}

/* Of small ones only those of who has more waiting do: for the sake of who has not. */
static bool rests(const struct core *c, const struct proposal_lane *l)
{
    return l->rest_until_ns != 0 && core__clock_ns(c) < l->rest_until_ns;
}

static bool all_rest(const struct core *c, const struct proposal_lane *l)
{
    return l == &c->lanes[PROPOSAL_LARGE] && rests(c, l);
}

bool core__small_come(const struct core *c)
{
    return c->now_ms < c->lanes[PROPOSAL_LARGE].shared_until_ms;
}

bool core__large_rest(const struct core *c)
{
    return rests(c, &c->lanes[PROPOSAL_LARGE]);
}

static size_t large_window(const struct core *c)
{
    if (!core__leading(c))
        return LARGE_WINDOW_FORWARD_BYTES;
    return core__small_come(c) ? core__piece_bytes(c) : LARGE_WINDOW_LEADER_BYTES;
}

static bool fits(const struct core *c, const struct proposal_lane *l, const struct request *req)
{
    bool small = l == &c->lanes[PROPOSAL_SMALL];
    if (!small && c->pieces.payload != NULL)
        return false;
    if (l->in_flight == 0)
        return true;
    size_t bytes = l->in_flight_bytes + req->payload_size;
    if (small)
        return l->in_flight < small_window(c, l) && bytes <= SMALL_WINDOW_BYTES;
    return bytes <= large_window(c);
}

static void count_in(struct core *c, struct request *req)
{
    struct proposal_lane *l = lane_of(c, req);
    l->in_flight++;
    l->in_flight_bytes += req->payload_size;
    req->window_epoch = c->window_epoch;
    if (l->timed == NULL && c->o.env.clock_ns != NULL) {
        l->timed = req;
        l->timed_from_ns = core__clock_ns(c);
        l->timed_under_way = l->in_flight;
    }
}

/* The one whose way is timed is through. */
static void note_time(struct core *c, struct proposal_lane *l)
{
    uint64_t now_ns = core__clock_ns(c);
    l->timed = NULL;
    l->took_ns = now_ns - l->timed_from_ns;
    if (l == &c->lanes[PROPOSAL_SMALL])
        pace_took(&l->pace, l->took_ns, l->timed_under_way, now_ns);
}

/* One of `size` is through. Those that fill the window together rest as long together; what took
 * long because nothing got on says nothing. */
static void rest_after(struct core *c, struct proposal_lane *l, uint64_t size)
{
    bool small = l == &c->lanes[PROPOSAL_SMALL];
    bool shared = c->now_ms < l->shared_until_ms && (small || c->now_ms < l->crowded_until_ms);
    if (!shared || c->o.env.wake_in == NULL)
        return;
    uint64_t now_ns = core__clock_ns(c);
    uint64_t from_ns = l->rest_until_ns > now_ns ? l->rest_until_ns : now_ns;
    uint64_t took_ns = l->took_ns < TOOK_MAX_NS ? l->took_ns : TOOK_MAX_NS;
    uint64_t window = large_window(c);
    if (size > window)
        size = window;
    uint64_t part_ns = small ? took_ns / small_window(c, l) : took_ns * size / window;
    uint64_t times = small ? REST : LARGE_REST;
    uint64_t until_ns = from_ns + times * part_ns;
    uint64_t latest_ns = now_ns + times * took_ns; /* the window was larger when it was filled */
    if (until_ns > latest_ns)
        until_ns = latest_ns > from_ns ? latest_ns : from_ns;
    l->rest_until_ns = until_ns;
}

void core__rest_after_piece(struct core *c, uint64_t took_ns, uint32_t size)
{
    struct proposal_lane *l = &c->lanes[PROPOSAL_LARGE];
    uint64_t small_ns = c->lanes[PROPOSAL_SMALL].took_ns; /* that is how long anything takes */
    l->took_ns = took_ns > small_ns + took_ns / 4 ? took_ns - small_ns : took_ns / 4;
    rest_after(c, l, size);
    c->window_moved = true;
}

static void count_out(struct core *c, struct request *req)
{
    if (req->window_epoch != c->window_epoch)
        return;
    struct proposal_lane *l = lane_of(c, req);
    ASSERT(l->in_flight > 0 && l->in_flight_bytes >= req->payload_size);
    l->in_flight--;
    l->in_flight_bytes -= req->payload_size;
    req->window_epoch = 0;
    c->window_moved = true;
    if (req->in_pieces) {
        l->timed = l->timed == req ? NULL : l->timed;
        return;
    }
    if (l->timed == req)
        note_time(c, l);
    rest_after(c, l, req->payload_size);
}

void core__note_small(struct core *c)
{
    if (core__leading(c))
        c->lanes[PROPOSAL_LARGE].shared_until_ms = c->now_ms + SHARED_WINDOW_MS;
}

void core__forget_window(struct core *c)
{
    c->window_epoch++;
    c->window_moved = true;
    for (uint32_t i = 0; i < PROPOSAL_LANES; i++) {
        c->lanes[i].in_flight = 0;
        c->lanes[i].in_flight_bytes = 0;
        c->lanes[i].timed = NULL;
        c->lanes[i].rest_until_ns = 0;
    }
    LIST_EACH (it, &c->unproposed)
        count_in(c, CONTAINER_OF(it, struct request, link));
}

/* --- the lanes --- */

static struct proposal_flow *flow_for(struct proposal_lane *l, const struct request *req)
{
    struct proposal_flow *f = u64map_get(&l->flow_by_id, req->flow);
    if (f != NULL)
        return f;
    f = mem_alloc_zero(sizeof(*f));
    f->id = req->flow;
    f->fresh = true;
    f->of_member = req->guest;
    list_init(&f->requests);
    list_push_back(&l->fresh, &f->link);
    u64map_put(&l->flow_by_id, f->id, f);
    l->connections += !f->of_member;
    return f;
}

static void flow_free(struct proposal_lane *l, struct proposal_flow *f)
{
    list_remove(&f->link);
    u64map_remove(&l->flow_by_id, f->id);
    l->connections -= !f->of_member;
    mem_free(f);
}

static void proposed(struct core *c, struct request *req)
{
    list_remove(&req->link);
    list_push_back(&c->proposals, &req->link);
    req->proposed = true;
    req->proposed_ms = c->now_ms;
    if (req->traced)
        req->proposed_ns = core__clock_ns(c);
    if (!req->guest) {
        u64map_put(&c->proposal_by_id, req->id, req);
        return; /* the worker may want to say what it was: see slow.h */
    }
    c->guests_bytes -= req->payload_size;
    bref_unref(req->payload); /* raft holds its own */
    req->payload = NULL;
}

static void admit(struct core *c, struct request *req)
{
    list_remove(&req->link);
    list_push_back(&c->unproposed, &req->link);
    req->waits = false;
    count_in(c, req);
    if (!core__goes_in_pieces(c, req))
        return;
    req->in_pieces = true;
    core__pieces_begin(c, req);
    proposed(c, req);
}

void core__take_proposal(struct core *c, struct request *req)
{
    struct proposal_lane *l = lane_of(c, req);
    if (req->flow == 0)
        req->flow = c->o.member_id; /* the node's own */
    else if (l == &c->lanes[PROPOSAL_SMALL])
        core__note_small(c);
    if (l->waiting == 0 && !all_rest(c, l) && fits(c, l, req)) {
        admit(c, req);
        return;
    }
    PROBE(core_proposal_waits);
    if (l->in_flight > 0)
        l->crowded_until_ms = c->now_ms + SHARED_WINDOW_MS;
    struct proposal_flow *f = flow_for(l, req);
    list_remove(&req->link);
    list_push_back(&f->requests, &req->link);
    req->waits = true;
    l->waiting++;
    l->crowds += ++f->requests_count == CROWD;
}

/* One of its requests goes. */
static void count_off(struct proposal_lane *l, struct proposal_flow *f)
{
    l->waiting--;
    l->crowds -= f->requests_count-- == CROWD;
}

/* A member's turn is as long as those of all our connections together. */
static uint64_t turn_bytes(const struct core *c, const struct proposal_lane *l,
                           const struct proposal_flow *f)
{
    uint64_t bytes = l == &c->lanes[PROPOSAL_SMALL] ? SMALL_TURN_BYTES : LARGE_TURN_BYTES;
    return f->of_member && l->connections > 1 ? bytes * l->connections : bytes;
}

/* The flow whose turn it is; there is one that has something. NULL: those that have rest. */
static struct proposal_flow *choose(struct core *c, struct proposal_lane *l, bool rest)
{
    bool fresh_turn = l->fresh_turn || rest || list_is_empty(&l->flows);
    if (!list_is_empty(&l->fresh) && fresh_turn)
        return CONTAINER_OF(l->fresh.next, struct proposal_flow, link);
    if (rest)
        return NULL;
    for (;;) {
        struct proposal_flow *f = CONTAINER_OF(l->flows.next, struct proposal_flow, link);
        const struct request *req = CONTAINER_OF(f->requests.next, struct request, link);
        if (f->credit_bytes >= req->payload_size + REQUEST_COST_BYTES)
            return f;
        f->credit_bytes += turn_bytes(c, l, f);
        list_remove(&f->link);
        list_push_back(&l->flows, &f->link);
    }
}

static void took_from(struct core *c, struct proposal_lane *l, struct proposal_flow *f,
                      const struct request *req)
{
    count_off(l, f);
    bool asks_now_and_then = f->fresh && f->requests_count < CROWD;
    if (asks_now_and_then && l->waiting > SMALL_WINDOW_COUNT && l->crowds > 0)
        l->shared_until_ms = c->now_ms + SHARED_WINDOW_MS;
    l->fresh_turn = !f->fresh;
    if (!f->fresh)
        f->credit_bytes -= req->payload_size + REQUEST_COST_BYTES;
    if (list_is_empty(&f->requests)) {
        flow_free(l, f);
    } else if (f->fresh) {
        f->fresh = false;
        list_remove(&f->link);
        list_push_back(&l->flows, &f->link);
    }
}

static void admit_waiting(struct core *c, struct proposal_lane *l)
{
    if (all_rest(c, l))
        return;
    bool rest = rests(c, l);
    while (l->waiting > 0) {
        struct proposal_flow *f = choose(c, l, rest);
        if (f == NULL)
            return;
        struct request *req = CONTAINER_OF(f->requests.next, struct request, link);
        if (!fits(c, l, req))
            return;
        admit(c, req);
        took_from(c, l, f, req);
    }
}

/* Take a waiting one out of the order. */
static void withdraw(struct core *c, struct request *req)
{
    struct proposal_lane *l = lane_of(c, req);
    struct proposal_flow *f = u64map_get(&l->flow_by_id, req->flow);
    ASSERT(f != NULL && l->waiting > 0);
    list_remove(&req->link);
    req->waits = false;
    count_off(l, f);
    if (list_is_empty(&f->requests))
        flow_free(l, f);
}

/* --- guests --- */

/* In no list any more. */
static void guest_free(struct core *c, struct request *req)
{
    if (!req->proposed)
        c->guests_bytes -= req->payload_size;
    bref_unref(req->payload);
    mem_free(req);
}

/* NULL when it cannot be one: then it goes on as it came. */
static struct request *guest_new(struct core *c, uint64_t from, const struct raft_entry *e)
{
    struct wire_raft_request entry;
    if (e->type != RAFT_ENTRY_NORMAL || e->data.size < c->o.large_bytes ||
        wire_raft_request_decode(e->data, &entry) != 0 || entry.id == 0 ||
        u64map_get(&c->proposal_by_id, entry.id) != NULL)
        return NULL;
    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = REQUEST_PROPOSE;
    req->guest = true;
    req->id = entry.id;
    req->flow = from;
    req->deadline_ms = c->now_ms + c->request_timeout_ms;
    req->payload = bref_ref(e->owner);
    req->payload_at = e->data.data;
    req->payload_size = (uint32_t)e->data.size;
    c->guests_bytes += e->data.size;
    u64map_put(&c->proposal_by_id, req->id, req);
    return req;
}

static bool has_large(const struct core *c, const struct raft_msg *msg)
{
    for (uint32_t i = 0; i < msg->entries_count; i++)
        if (msg->entries[i].data.size >= c->o.large_bytes)
            return true;
    return false;
}

uint32_t core__take_guests(struct core *c, const struct raft_msg *msg, struct raft_entry *ret_rest)
{
    uint32_t rest = 0;
    for (uint32_t i = 0; i < msg->entries_count; i++) {
        const struct raft_entry *e = &msg->entries[i];
        if (e->data.size >= c->o.large_bytes && c->guests_bytes + e->data.size > GUESTS_BYTES_MAX) {
            PROBE(core_guests_limit);
            continue;
        }
        struct request *req = guest_new(c, msg->from, e);
        if (req != NULL)
            core__take_proposal(c, req);
        else
            ret_rest[rest++] = *e;
    }
    c->o.env.wake(c->o.env.ctx);
    return rest;
}

bool core__has_guests(const struct core *c, const struct raft_msg *msg)
{
    return msg->type == RAFT_MSG_PROPOSE && core__leading(c) && has_large(c, msg) &&
           raft_membership_has(raft_membership(c->raft), msg->from);
}

/* --- to raft --- */

/* Give raft everything that may go, as one batch. What it will not take now (no leader yet) stays.
 */
void core__propose_waiting(struct core *c)
{
    c->window_moved = false;
    for (uint32_t i = 0; i < PROPOSAL_LANES; i++) {
        c->lanes[i].rested = rests(c, &c->lanes[i]);
        admit_waiting(c, &c->lanes[i]);
    }
    if (c->pieces.payload != NULL)
        core__propose_piece(c);
    struct raft_entry batch[PROPOSE_BATCH_MAX];
    while (!list_is_empty(&c->unproposed)) {
        uint32_t count = 0;
        LIST_EACH (it, &c->unproposed) {
            struct request *req = CONTAINER_OF(it, struct request, link);
            const uint8_t *data = req->guest ? req->payload_at : req->payload->data;
            batch[count++] = (struct raft_entry){.type = RAFT_ENTRY_NORMAL,
                                                 .data = slice_of(data, req->payload_size),
                                                 .owner = req->payload};
            if (count == PROPOSE_BATCH_MAX)
                break;
        }
        if (raft_propose(c->raft, batch, count) != 0)
            return;
        for (uint32_t i = 0; i < count; i++)
            proposed(c, CONTAINER_OF(c->unproposed.next, struct request, link));
    }
}

bool core__may_propose_more(const struct core *c)
{
    return c->window_moved && (c->pieces.payload != NULL || c->lanes[PROPOSAL_SMALL].waiting > 0 ||
                               c->lanes[PROPOSAL_LARGE].waiting > 0);
}

void core__propose_after_rest(struct core *c)
{
    if (c->o.env.wake_in == NULL)
        return;
    for (uint32_t i = 0; i < PROPOSAL_LANES; i++) {
        const struct proposal_lane *l = &c->lanes[i];
        bool waits = l->waiting > 0 || (i == PROPOSAL_LARGE && c->pieces.payload != NULL);
        if (!waits || !l->rested)
            continue;
        uint64_t now_ns = core__clock_ns(c); /* the rest may be over by now */
        uint64_t left_ns = l->rest_until_ns > now_ns ? l->rest_until_ns - now_ns : 0;
        c->o.env.wake_in(c->o.env.ctx, 1 + left_ns / 1000000);
    }
}

/* --- the end --- */

/* It lies in whatever list it lies in. */
static void leave_list(struct core *c, struct request *req)
{
    if (req->waits)
        withdraw(c, req);
    else
        list_remove(&req->link);
}

struct request *core__proposal_applied(struct core *c, uint64_t id)
{
    struct request *req = id != 0 ? u64map_remove(&c->proposal_by_id, id) : NULL;
    if (req == NULL || req->kind != REQUEST_PROPOSE)
        return req;
    count_out(c, req);
    if (!req->guest)
        return req;
    leave_list(c, req);
    guest_free(c, req);
    return NULL;
}

static void end(struct core *c, struct request *req, int err)
{
    count_out(c, req);
    leave_list(c, req);
    if (req->guest || req->proposed)
        (void)u64map_remove(&c->proposal_by_id, req->id);
    if (req->guest) {
        guest_free(c, req);
        return;
    }
    c->proposals_count--;
    metric_add(&c->meters.proposals_failed, 1);
    core__answer(c, req, err);
}

static void end_all(struct core *c, struct list *requests, int err)
{
    LIST_EACH_SAFE (it, after, requests)
        end(c, CONTAINER_OF(it, struct request, link), err);
}

/* Why nothing came of it in time: etcd's parseProposeCtxErr() (server/etcdserver/v3_server.go). */
static int timeout_of(const struct core *c, const struct request *req)
{
    uint64_t patience_ms = req->patience_ms != 0 ? req->patience_ms : c->request_timeout_ms;
    uint64_t began_ms = req->deadline_ms - patience_ms;
    if (began_ms < c->led_since_ms && began_ms + 2 * c->o.election_ms > c->led_since_ms)
        return TV_TIMEOUT_LEADER_FAIL;
    bool linked = c->leader == 0 || (core__leading(c) ? core__quorum_linked_since(c, began_ms)
                                                      : core__linked_since(c, c->leader, began_ms));
    return linked ? TV_TIMEOUT : TV_TIMEOUT_CONNECTION_LOST;
}

/* The flow goes with its last request. `err` 0: those whose time is up, with what that means. */
static void end_flows(struct core *c, struct list *flows, int err)
{
    LIST_EACH_SAFE (at, next, flows) {
        struct proposal_flow *f = CONTAINER_OF(at, struct proposal_flow, link);
        bool last = false;
        while (!last) {
            struct request *req = CONTAINER_OF(f->requests.next, struct request, link);
            if (err == 0 && req->deadline_ms > c->now_ms)
                break;
            last = req->link.next == &f->requests;
            PROBE(core_waiting_timeout);
            end(c, req, err != 0 ? err : timeout_of(c, req));
        }
    }
}

void core__propose_anew(struct core *c, uint64_t request_id)
{
    struct request *req = u64map_get(&c->proposal_by_id, request_id);
    if (req == NULL || req->kind != REQUEST_PROPOSE)
        return; /* its time was up */
    if (req->guest) {
        end(c, req, TV_EDROPPED); /* who sent it waits as for other lost messages */
        return;
    }
    (void)u64map_remove(&c->proposal_by_id, request_id);
    list_remove(&req->link);
    list_push_back(&c->unproposed, &req->link);
    req->proposed = req->in_pieces = false;
    if (req->window_epoch != c->window_epoch)
        count_in(c, req);
}

void core__drop_unproposed(struct core *c, int err)
{
    for (uint32_t i = 0; i < PROPOSAL_LANES; i++) {
        end_flows(c, &c->lanes[i].fresh, err);
        end_flows(c, &c->lanes[i].flows, err);
    }
    end_all(c, &c->unproposed, err);
}

void core__proposals_fini(struct core *c)
{
    core__pieces_end(c);
    core__drop_unproposed(c, TV_STOPPED);
    end_all(c, &c->proposals, TV_STOPPED);
    u64map_fini(&c->proposal_by_id);
    for (uint32_t i = 0; i < PROPOSAL_LANES; i++)
        u64map_fini(&c->lanes[i].flow_by_id);
}

/* Those are not in the order of their deadlines: some waited for their turn longer than others. */
static void expire_list(struct core *c, struct list *requests)
{
    LIST_EACH_SAFE (it, after, requests) {
        struct request *req = CONTAINER_OF(it, struct request, link);
        if (req->deadline_ms <= c->now_ms) {
            PROBE(core_request_timeout);
            end(c, req, timeout_of(c, req));
        } else if (req->proposed && req->proposed_ms + c->o.election_ms <= c->now_ms) {
            count_out(c, req);
        }
    }
}

void core__expire_proposals(struct core *c)
{
    for (uint32_t i = 0; i < PROPOSAL_LANES; i++) {
        end_flows(c, &c->lanes[i].fresh, 0);
        end_flows(c, &c->lanes[i].flows, 0);
    }
    expire_list(c, &c->unproposed);
    expire_list(c, &c->proposals);
}

/* Large requests in pieces.
 *
 * An entry is written, sent and acknowledged as a whole, and what is behind it on the log waits:
 * 1 MB keeps three disks and the network busy for milliseconds. So while small requests come, the
 * leader proposes a large one as several entries, each when the one before is applied, and small
 * ones go between them. Members put the pieces together as they apply them: the request takes its
 * place in the order where its last piece is.
 *
 * The pieces of a request are of one term, and no others of that term are between them. So what
 * was begun in a term that is over stays incomplete, and its leader may propose the request again
 * as long as the last piece was not proposed.
 *
 * A store that held what lies between two pieces would lose the request by a restart, which begins
 * behind it in the log: nothing goes to RocksDB while pieces are gathered (core_apply.c). */
#include "server/core_internal.h"

enum { PIECES_MAX = 32 }; /* of a request: a very large one has larger ones, and is in time, too */

static bool is_piece(const struct raft_entry *e)
{
    return e->type == RAFT_ENTRY_PIECE_FIRST || e->type == RAFT_ENTRY_PIECE ||
           e->type == RAFT_ENTRY_PIECE_LAST;
}

/* --- the leader --- */

uint32_t core__piece_bytes(const struct core *c)
{
    return 4 * c->o.large_bytes;
}

bool core__goes_in_pieces(const struct core *c, const struct request *req)
{
    return req->payload_size > core__piece_bytes(c) && c->pieces.payload == NULL &&
           core__leading(c) && core__small_come(c);
}

void core__pieces_begin(struct core *c, const struct request *req)
{
    c->pieces = (struct pieces){.payload = bref_ref(req->payload),
                                .data = req->guest ? req->payload_at : req->payload->data,
                                .size = req->payload_size,
                                .term = raft_term(c->raft),
                                .request_id = req->id};
}

void core__pieces_end(struct core *c)
{
    bref_unref(c->pieces.payload);
    c->pieces = (struct pieces){0};
}

static enum raft_entry_type next_type(const struct pieces *p, uint32_t size)
{
    if (p->proposed == 0)
        return RAFT_ENTRY_PIECE_FIRST;
    return p->proposed + size == p->size ? RAFT_ENTRY_PIECE_LAST : RAFT_ENTRY_PIECE;
}

void core__propose_piece(struct core *c)
{
    struct pieces *p = &c->pieces;
    if (!core__leading(c) || raft_term(c->raft) != p->term) {
        PROBE(core_pieces_lost);
        bool all_proposed = p->proposed == p->size;
        uint64_t id = p->request_id;
        core__pieces_end(c);
        if (!all_proposed)
            core__propose_anew(c, id);
        return;
    }
    if (p->on_log || core__large_rest(c))
        return;
    uint32_t least = (p->size + PIECES_MAX - 1) / PIECES_MAX, rest = p->size - p->proposed;
    uint32_t size = core__piece_bytes(c);
    size = size > least ? size : least;
    size = size < rest ? size : rest;
    struct raft_entry e = {.type = next_type(p, size),
                           .data = slice_of(p->data + p->proposed, size),
                           .owner = p->payload};
    if (raft_propose(c->raft, &e, 1) != 0)
        return; /* leadership is handed over, or too much is under way: a later turn tries again */
    p->proposed += size;
    p->on_log = true;
    p->from_ns = core__clock_ns(c);
}

void core__piece_applied(struct core *c, const struct raft_entry *e)
{
    struct pieces *p = &c->pieces;
    if (!is_piece(e) || p->payload == NULL || e->term != p->term)
        return;
    p->on_log = false;
    core__rest_after_piece(c, core__clock_ns(c) - p->from_ns, (uint32_t)e->data.size);
    if (p->proposed == p->size)
        core__pieces_end(c);
}

/* --- every member --- */

bool core__assemble(struct core *c, const struct raft_entry *e, struct slice *ret_request)
{
    struct assembly *a = &c->assembly;
    if (e->term != a->term && a->term != 0) {
        PROBE(core_pieces_incomplete);
        a->term = 0;
    }
    if (!is_piece(e)) {
        *ret_request = e->data;
        return e->type == RAFT_ENTRY_NORMAL && e->data.size > 0;
    }
    if (e->type == RAFT_ENTRY_PIECE_FIRST) {
        buf_clear(&a->bytes);
        a->term = e->term;
    }
    if (a->term == 0 || buf_append(&a->bytes, e->data.data, e->data.size) != 0) {
        a->term = 0; /* no correct leader's */
        return false;
    }
    if (e->type != RAFT_ENTRY_PIECE_LAST)
        return false;
    PROBE(core_pieces_whole);
    a->term = 0;
    *ret_request = buf_slice(&a->bytes);
    return true;
}

bool core__assembles(const struct core *c)
{
    return c->assembly.term != 0;
}

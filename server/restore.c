#include "server/restore.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

void restore_init(struct restore *r, uint64_t applied_index)
{
    *r = (struct restore){.applied_index = applied_index};
}

void restore_fini(struct restore *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        bref_unref(r->entries[i].owner);
    mem_free(r->entries);
}

static int on_entry(void *ctx, const struct wal_entry *e)
{
    struct restore *r = ctx;
    /* A lower index replaces what was there from it on, applied entries included: what such a one
     * replaced was appended before it and must not stay. */
    while (r->count > 0 && r->entries[r->count - 1].log_index >= e->log_index)
        bref_unref(r->entries[--r->count].owner);
    if (e->log_index <= r->applied_index)
        return 0;
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 1024 : r->capacity * 2;
        r->entries = mem_realloc(r->entries, r->capacity * sizeof(*r->entries));
    }
    r->entries[r->count++] = (struct raft_entry){
        .term = e->term,
        .log_index = e->log_index,
        .type = (enum raft_entry_type)e->type,
        .data = e->data,
        .owner = e->owner == NULL ? NULL : bref_ref(e->owner),
    };
    return 0;
}

static void on_hard_state(void *ctx, const struct wal_hard_state *hs)
{
    struct restore *r = ctx;
    r->hard_state =
        (struct raft_hard_state){.term = hs->term, .vote = hs->vote, .commit = hs->commit};
}

/* What came before is void. */
static void on_start(void *ctx, uint64_t log_index, uint64_t term)
{
    struct restore *r = ctx;
    (void)log_index;
    (void)term;
    while (r->count > 0)
        bref_unref(r->entries[--r->count].owner);
}

struct wal_replay restore_replay(struct restore *r)
{
    return (struct wal_replay){
        .ctx = r, .entry = on_entry, .hard_state = on_hard_state, .start = on_start};
}

void restore_finish_install(struct restore *r, struct wal *w, uint64_t installed_index,
                            uint64_t applied_term)
{
    if (installed_index == 0 || r->applied_index != installed_index)
        return;
    bool term_raised = r->hard_state.term < applied_term;
    if (term_raised)
        r->hard_state =
            (struct raft_hard_state){.term = applied_term, .commit = r->hard_state.commit};
    bool known = wal_first_index(w) <= installed_index + 1 &&
                 installed_index <= wal_last_index(w) &&
                 wal_term(w, installed_index) == applied_term;
    if (known && !term_raised)
        return;
    if (!known) {
        PROBE(restore_log_restarted);
        on_start(r, 0, 0);
        r->hard_state.commit = installed_index;
        wal_restart(w, 0, installed_index, applied_term);
    }
    struct wal_hard_state hs = {
        .term = r->hard_state.term, .vote = r->hard_state.vote, .commit = r->hard_state.commit};
    wal_append(w, 0, NULL, 0, &hs);
    wal_flush(w);
}

int restore_check(struct restore *r, const struct wal *w)
{
    if (wal_last_index(w) < r->applied_index || wal_first_index(w) > r->applied_index + 1)
        return TV_ECORRUPT;
    if (r->applied_term != 0 && wal_term(w, r->applied_index) != r->applied_term)
        return TV_ECORRUPT;
    if (r->hard_state.commit < r->applied_index)
        r->hard_state.commit = r->applied_index;
    return 0;
}

void restore_lease_keys(struct lessor *l, struct mvcc *m)
{
    if (lessor_count(l) == 0)
        return;
    struct mvcc_iter it;
    mvcc_iter_init(&it, m, SLICE_LITERAL("\0"), SLICE_LITERAL("\0"), 0);
    const struct mvcc_version *v;
    while ((v = mvcc_iter_next(&it)) != NULL) {
        int64_t lease = mvcc_version_lease(v);
        if (lease != 0)
            lessor_attach(l, lease, mvcc_version_key(v));
    }
}

#include "store.h"

#include "base/mem.h"
#include "member.h"
#include "sim.h"

void store_init(struct store *s, struct member *m)
{
    *s = (struct store){.member = m, .meta = LSM_META_FRESH};
}

static void drop_records(struct store *s, uint32_t count)
{
    while (s->count > count)
        bref_unref(s->records[--s->count].kv);
}

void store_fini(struct store *s)
{
    drop_records(s, 0);
    mem_free(s->records);
    for (uint32_t i = 0; i < s->metas_count; i++) {
        bref_unref(s->metas[i].key);
        bref_unref(s->metas[i].value);
    }
    mem_free(s->metas);
}

static struct bref *copy_of(const void *data, size_t size)
{
    struct bref *b = bref_new(size);
    if (size > 0)
        memcpy(b->data, data, size);
    return b;
}

static void on_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    (void)m;
    *ret_meta = ((struct store *)ctx)->meta;
}

static void on_put(void *ctx, const struct mvcc_version *v)
{
    struct store *s = ctx;
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 64 : s->capacity * 2;
        s->records = mem_realloc(s->records, s->capacity * sizeof(*s->records));
    }
    struct slice kv = mvcc_version_stored_kv(v);
    s->records[s->count++] = (struct store_record){.main = mvcc_version_mod_revision(v),
                                                   .sub = mvcc_version_sub(v),
                                                   .is_tombstone = mvcc_version_is_tombstone(v),
                                                   .size = (uint32_t)kv.size,
                                                   .kv = copy_of(kv.data, kv.size)};
}

static struct store_meta *meta_slot(struct store *s, struct slice key)
{
    for (uint32_t i = 0; i < s->metas_count; i++)
        if (slice_equal(slice_of(s->metas[i].key->data, s->metas[i].key_size), key))
            return &s->metas[i];
    if (s->metas_count == s->metas_capacity) {
        s->metas_capacity = s->metas_capacity == 0 ? 16 : s->metas_capacity * 2;
        s->metas = mem_realloc(s->metas, s->metas_capacity * sizeof(*s->metas));
    }
    struct store_meta *slot = &s->metas[s->metas_count++];
    *slot = (struct store_meta){.key = copy_of(key.data, key.size), .key_size = (uint32_t)key.size};
    return slot;
}

/* Oldest first: the list has the newest in front. */
static void take_metas(struct store *s, const struct persist_meta *p)
{
    if (p == NULL)
        return;
    take_metas(s, p->next);
    struct store_meta *slot = meta_slot(s, slice_of(p->data, p->key_size));
    bref_unref(slot->value);
    slot->value = p->is_delete ? NULL : copy_of(p->data + p->key_size, p->value_size);
    slot->value_size = p->value_size;
}

static void on_commit(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas)
{
    struct store *s = ctx;
    if (!member_operation(s->member))
        return;
    judge_stored(s->member, meta->applied_index, meta->applied_term);
    s->committed = s->count;
    s->meta = *meta;
    take_metas(s, metas);
}

static void on_detach(void *ctx)
{
    struct store *s = ctx;
    drop_records(s, s->committed);
}

struct persist_store store_ops(struct store *s)
{
    return (struct persist_store){
        .ctx = s, .attach = on_attach, .put = on_put, .commit = on_commit, .detach = on_detach};
}

static uint64_t be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

void store_load(struct store *s, struct mvcc *m, struct lessor *l, uint64_t now_ms)
{
    mvcc_load_begin(m);
    for (uint32_t i = 0; i < s->committed; i++) {
        const struct store_record *r = &s->records[i];
        struct mvcc_version *v;
        int err =
            mvcc_version_new(r->main, r->sub, r->is_tombstone, slice_of(r->kv->data, r->size), &v);
        ASSERT(err == 0);
        err = mvcc_load_add(m, v);
        ASSERT(err == 0);
    }
    uint64_t sum =
        mvcc_load_end_summed(m, s->meta.revision, s->meta.compacted, s->meta.content.compacted);
    if (sum != s->meta.content.sum)
        sim_fail("member %u: what it stored does not add up", s->member->number);
    for (uint32_t i = 0; i < s->metas_count; i++) {
        const struct store_meta *meta = &s->metas[i];
        if (meta->value == NULL || meta->key->data[0] != 'l')
            continue;
        int64_t granted;
        (void)lessor_grant(l, (int64_t)be64(meta->key->data + 1), (int64_t)be64(meta->value->data),
                           now_ms, &granted);
    }
}

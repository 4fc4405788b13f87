#include "store.h"

#include "base/err.h"
#include "base/folder.h"
#include "base/mem.h"
#include "member.h"
#include "sim.h"

/* --- one database --- */

static struct contents *contents_new(struct member *m, const struct lsm_meta *meta)
{
    struct contents *c = mem_alloc_zero(sizeof(*c));
    *c = (struct contents){.member = m, .meta = *meta};
    return c;
}

static void drop_records(struct contents *c, uint32_t count)
{
    while (c->count > count)
        bref_unref(c->records[--c->count].kv);
}

static void contents_free(struct contents *c)
{
    if (c == NULL)
        return;
    drop_records(c, 0);
    mem_free(c->records);
    for (uint32_t i = 0; i < c->metas_count; i++) {
        bref_unref(c->metas[i].key);
        bref_unref(c->metas[i].value);
    }
    mem_free(c->metas);
    mem_free(c);
}

static struct bref *copy_of(const void *data, size_t size)
{
    struct bref *b = bref_new(size);
    if (size > 0)
        memcpy(b->data, data, size);
    return b;
}

static struct store_record *add_record(struct contents *c)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity == 0 ? 64 : c->capacity * 2;
        c->records = mem_realloc(c->records, c->capacity * sizeof(*c->records));
    }
    return &c->records[c->count++];
}

static struct store_meta *find_meta(const struct contents *c, struct slice key)
{
    for (uint32_t i = 0; i < c->metas_count; i++)
        if (slice_equal(slice_of(c->metas[i].key->data, c->metas[i].key_size), key))
            return &c->metas[i];
    return NULL;
}

static void set_meta(struct contents *c, struct slice key, const struct slice *value)
{
    struct store_meta *slot = find_meta(c, key);
    if (slot == NULL) {
        if (c->metas_count == c->metas_capacity) {
            c->metas_capacity = c->metas_capacity == 0 ? 16 : c->metas_capacity * 2;
            c->metas = mem_realloc(c->metas, c->metas_capacity * sizeof(*c->metas));
        }
        slot = &c->metas[c->metas_count++];
        *slot =
            (struct store_meta){.key = copy_of(key.data, key.size), .key_size = (uint32_t)key.size};
    }
    bref_unref(slot->value);
    slot->value = value == NULL ? NULL : copy_of(value->data, value->size);
    slot->value_size = value == NULL ? 0 : (uint32_t)value->size;
}

/* Oldest first: the list has the newest in front. */
static void take_metas(struct contents *c, const struct persist_meta *p)
{
    if (p == NULL)
        return;
    take_metas(c, p->next);
    struct slice value = slice_of(p->data + p->key_size, p->value_size);
    set_meta(c, slice_of(p->data, p->key_size), p->is_delete ? NULL : &value);
}

static struct slice get(const struct contents *c, struct slice name)
{
    uint8_t key[32] = "m";
    ASSERT(name.size < sizeof(key));
    memcpy(key + 1, name.data, name.size);
    const struct store_meta *m = find_meta(c, slice_of(key, name.size + 1));
    return m == NULL || m->value == NULL ? SLICE_EMPTY : slice_of(m->value->data, m->value_size);
}

/* --- the store of a member --- */

void store_init(struct store *s, struct member *m, struct slice members)
{
    *s = (struct store){.member = m};
    struct contents *c = contents_new(m, &LSM_META_FRESH);
    struct persist_meta *metas = NULL;
    persist_meta_put(&metas, STATE_RECORD_MEMBERS, members);
    take_metas(c, metas);
    persist_metas_free(metas);
    s->parts[INSTALL_STORE] = c;
}

void store_fini(struct store *s)
{
    for (int part = 0; part < INSTALL_PARTS_COUNT; part++)
        contents_free(s->parts[part]);
}

struct slice store_get(const struct store *s, struct slice name)
{
    return get(s->parts[INSTALL_STORE], name);
}

uint64_t store_installed_index(const struct store *s)
{
    uint64_t index = 0;
    struct slice value = store_get(s, STATE_RECORD_INSTALLED);
    if (value.size == sizeof(index))
        memcpy(&index, value.data, sizeof(index));
    return index;
}

/* --- below the persist thread --- */

/* Between the two moves of an installation there is only the old one: a member that died there goes
 * on with it, unseen. */
static struct contents *open_contents(struct store *s)
{
    struct contents *c = s->parts[INSTALL_STORE];
    ASSERT(c != NULL || s->member->dying);
    return c != NULL ? c : s->parts[INSTALL_OLD];
}

static void on_attach(void *ctx, struct mvcc *m, struct lsm_meta *ret_meta)
{
    (void)m;
    *ret_meta = open_contents(ctx)->meta;
}

static void on_put(void *ctx, const struct mvcc_version *v)
{
    struct store *s = ctx;
    struct slice kv = mvcc_version_stored_kv(v);
    *add_record(open_contents(s)) =
        (struct store_record){.main = mvcc_version_mod_revision(v),
                              .sub = mvcc_version_sub(v),
                              .is_tombstone = mvcc_version_is_tombstone(v),
                              .size = (uint32_t)kv.size,
                              .kv = copy_of(kv.data, kv.size)};
}

static void on_commit(void *ctx, const struct lsm_meta *meta, const struct persist_meta *metas)
{
    struct store *s = ctx;
    struct contents *c = open_contents(s);
    if (!member_operation(s->member))
        return;
    judge_stored(s->member, meta->applied_index, meta->applied_term);
    c->committed = c->count;
    c->meta = *meta;
    take_metas(c, metas);
}

static bool on_has_room(void *ctx)
{
    return !((struct store *)ctx)->member->disk->store_is_full;
}

static void on_detach(void *ctx)
{
    struct contents *c = open_contents(ctx);
    drop_records(c, c->committed);
}

struct persist_store store_ops(struct store *s)
{
    return (struct persist_store){.ctx = s,
                                  .attach = on_attach,
                                  .put = on_put,
                                  .commit = on_commit,
                                  .has_room = on_has_room,
                                  .detach = on_detach};
}

/* --- its place, for server/install.c --- */

static bool on_exists(void *ctx, enum install_part part)
{
    return ((struct store *)ctx)->parts[part] != NULL;
}

static int on_move(void *ctx, enum install_part from, enum install_part to)
{
    struct store *s = ctx;
    if (!member_operation(s->member))
        return 0;
    ASSERT(s->parts[from] != NULL && s->parts[to] == NULL);
    s->parts[to] = s->parts[from];
    s->parts[from] = NULL;
    return 0;
}

static void on_remove(void *ctx, enum install_part part)
{
    struct store *s = ctx;
    if (s->parts[part] == NULL || !member_operation(s->member))
        return;
    contents_free(s->parts[part]);
    s->parts[part] = NULL;
}

static void on_close(void *ctx)
{
    (void)ctx; /* persist has let go of it */
}

static void on_open(void *ctx, struct persist_options *ret)
{
    member_persist_options(((struct store *)ctx)->member, ret);
}

struct install_place store_place(struct store *s)
{
    return (struct install_place){.ctx = s,
                                  .exists = on_exists,
                                  .move = on_move,
                                  .remove = on_remove,
                                  .close = on_close,
                                  .open = on_open};
}

/* The receiver of a snapshot begins with, and leaves, nothing. */
void __wrap_folder_remove(const char *dir);

void __wrap_folder_remove(const char *dir)
{
    (void)dir;
    on_remove(&sim_now->current->store, INSTALL_INCOMING);
}

/* --- loading --- */

static uint64_t be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static void load_versions(const struct contents *c, uint32_t count, struct mvcc *m)
{
    mvcc_load_begin(m);
    for (uint32_t i = 0; i < count; i++) {
        const struct store_record *r = &c->records[i];
        struct mvcc_version *v;
        int err =
            mvcc_version_new(r->main, r->sub, r->is_tombstone, slice_of(r->kv->data, r->size), &v);
        ASSERT(err == 0);
        err = mvcc_load_add(m, v);
        ASSERT(err == 0);
    }
    uint64_t sum =
        mvcc_load_end_summed(m, c->meta.revision, c->meta.compacted, c->meta.content.compacted);
    if (sum != c->meta.content.sum)
        sim_fail("member %u: what it stored does not add up", c->member->number);
}

static void load_leases(const struct contents *c, void (*lease)(void *, const struct lsm_lease *),
                        void *ctx)
{
    for (uint32_t i = 0; i < c->metas_count; i++) {
        const struct store_meta *meta = &c->metas[i];
        if (meta->value == NULL || meta->key->data[0] != 'l')
            continue;
        const struct lsm_lease loaded = {.id = (int64_t)be64(meta->key->data + 1),
                                         .granted_ttl = (int64_t)be64(meta->value->data),
                                         .remaining_ttl = (int64_t)be64(meta->value->data + 8)};
        lease(ctx, &loaded);
    }
}

static void on_lease(void *ctx, const struct lsm_lease *lease)
{
    lessor_load(ctx, lease);
}

void store_load(struct store *s, struct mvcc *m, struct lessor *l)
{
    struct contents *c = s->parts[INSTALL_STORE];
    load_versions(c, c->committed, m);
    load_leases(c, on_lease, l);
}

/* --- copies for other members: storage/lsm.h's functions, on the store in memory --- */

struct lsm_copy {
    struct member *member;
    struct slice skip;
    struct lsm_meta meta;
    uint32_t at;
    uint32_t records_count;
    struct buf *records; /* each as it travels; those of named records and leases come last */
};

static void put_le32(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> (8 * i));
}

static uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_be(uint8_t *p, uint64_t x, int bytes)
{
    for (int i = bytes; i-- > 0; x >>= 8)
        p[i] = (uint8_t)x;
}

enum { RECORD_HEAD_BYTES = 8, VERSION_KEY_BYTES = 14 };

static void make_record(struct buf *b, struct slice key, struct slice value)
{
    buf_init(b, SIZE_MAX);
    size_t size = RECORD_HEAD_BYTES + key.size + value.size;
    uint8_t *p = buf_reserve(b, size);
    put_le32(p, (uint32_t)key.size);
    put_le32(p + 4, (uint32_t)value.size);
    memcpy(p + RECORD_HEAD_BYTES, key.data, key.size);
    if (value.size > 0)
        memcpy(p + RECORD_HEAD_BYTES + key.size, value.data, value.size);
    b->size = size;
}

static void copy_version(struct buf *b, const struct store_record *r)
{
    uint8_t key[VERSION_KEY_BYTES] = "k";
    put_be(key + 1, (uint64_t)r->main, 8);
    put_be(key + 9, r->sub, 4);
    key[13] = r->is_tombstone;
    make_record(b, slice_of(key, sizeof(key)), slice_of(r->kv->data, r->size));
}

static bool is_copied(const struct lsm_copy *c, const struct store_meta *m)
{
    struct slice name = slice_of(m->key->data + 1, m->key_size - 1);
    return m->value != NULL && !(m->key->data[0] == 'm' && slice_equal(name, c->skip));
}

/* The store is as one commit left it: what was put since then is not part of it. */
int lsm_copy_open(struct lsm *l, struct slice skip, struct lsm_copy **ret_copy,
                  struct lsm_meta *ret_meta)
{
    struct store *s = (struct store *)l;
    const struct contents *from = open_contents(s);
    struct lsm_copy *c = mem_alloc_zero(sizeof(*c));
    *c = (struct lsm_copy){.member = s->member, .skip = skip, .meta = from->meta};
    c->records = mem_alloc((from->committed + from->metas_count + 1) * sizeof(*c->records));
    for (uint32_t i = 0; i < from->committed; i++)
        copy_version(&c->records[c->records_count++], &from->records[i]);
    for (uint32_t i = 0; i < from->metas_count; i++) {
        const struct store_meta *m = &from->metas[i];
        if (is_copied(c, m))
            make_record(&c->records[c->records_count++], slice_of(m->key->data, m->key_size),
                        slice_of(m->value->data, m->value_size));
    }
    *ret_copy = c;
    *ret_meta = c->meta;
    return 0;
}

/* The pieces are small, so that even a small store travels in many. */
int lsm_copy_next(struct lsm_copy *c, size_t bytes_max, struct buf *ret, uint32_t *count)
{
    size_t begin = ret->size, most = c->member->sim->shape.piece_bytes;
    *count = 0;
    if (most > bytes_max)
        most = bytes_max;
    while (c->at < c->records_count) {
        struct slice r = buf_slice(&c->records[c->at]);
        if (*count > 0 && ret->size - begin + r.size > most)
            break;
        int err = buf_append(ret, r.data, r.size);
        ASSERT(err == 0);
        c->at++;
        (*count)++;
    }
    return 0;
}

int lsm_copy_rewind(struct lsm_copy *c)
{
    c->at = 0;
    return 0;
}

int lsm_copy_get(struct lsm_copy *c, struct slice name, struct buf *ret)
{
    c->at = 0;
    for (uint32_t i = 0; i < c->records_count; i++) {
        struct slice rest = buf_slice(&c->records[i]), key, value;
        struct lsm_record r;
        (void)lsm_record_next(&rest, &key, &value);
        lsm_record_parse(key, value, &r);
        if (r.kind == LSM_RECORD_NAMED && slice_equal(r.name, name))
            return buf_append(ret, value.data, value.size);
    }
    return TV_ENOTFOUND;
}

const char *lsm_copy_error(const struct lsm_copy *c)
{
    (void)c;
    return ""; /* the simulated store cannot be damaged */
}

void lsm_copy_close(struct lsm_copy *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->records_count; i++)
        buf_fini(&c->records[i]);
    mem_free(c->records);
    mem_free(c);
}

/* --- and what they fill --- */

struct lsm_intake {
    struct store *store;
    struct contents *contents; /* of INSTALL_INCOMING, later of INSTALL_STORE */
    bool written;              /* the contents are not ours alone */
};

int lsm_intake_open(const char *dir, const struct lsm_meta *meta, struct lsm_intake **ret,
                    char *err_text, size_t err_text_size)
{
    struct member *m = sim_now->current;
    (void)dir;
    (void)err_text;
    (void)err_text_size;
    struct lsm_intake *in = mem_alloc_zero(sizeof(*in));
    *in = (struct lsm_intake){.store = &m->store, .contents = contents_new(m, meta)};
    *ret = in;
    return 0;
}

static int take_record(struct contents *c, struct slice key, struct slice value)
{
    if (key.size == 0)
        return TV_ECORRUPT;
    if (key.data[0] != 'k') {
        set_meta(c, key, &value);
        return 0;
    }
    if (key.size != VERSION_KEY_BYTES)
        return TV_ECORRUPT;
    *add_record(c) = (struct store_record){.main = (int64_t)be64(key.data + 1),
                                           .sub = (uint32_t)(be64(key.data + 5) & UINT32_MAX),
                                           .is_tombstone = key.data[13] != 0,
                                           .size = (uint32_t)value.size,
                                           .kv = copy_of(value.data, value.size)};
    return 0;
}

int lsm_intake_add(struct lsm_intake *in, struct slice records)
{
    while (records.size > 0) {
        if (records.size < RECORD_HEAD_BYTES)
            return TV_ECORRUPT;
        uint64_t key_size = get_le32(records.data), size = get_le32(records.data + 4);
        if (records.size - RECORD_HEAD_BYTES < key_size + size)
            return TV_ECORRUPT;
        const uint8_t *p = records.data + RECORD_HEAD_BYTES;
        int err = take_record(in->contents, slice_of(p, key_size), slice_of(p + key_size, size));
        if (err != 0)
            return err;
        records = slice_of(p + key_size + size, records.size - RECORD_HEAD_BYTES - key_size - size);
    }
    return 0;
}

/* Nothing of it is durable before: a crash leaves no more than a folder to be removed. */
void lsm_intake_commit(struct lsm_intake *in, struct persist_meta *metas)
{
    take_metas(in->contents, metas);
    persist_metas_free(metas);
    in->contents->committed = in->contents->count;
    faults_in_install(in->store->member);
    if (!member_operation(in->store->member))
        return;
    ASSERT(in->store->parts[INSTALL_INCOMING] == NULL);
    in->store->parts[INSTALL_INCOMING] = in->contents;
    in->written = true;
}

const struct lsm_meta *lsm_intake_meta(const struct lsm_intake *in)
{
    return &in->contents->meta;
}

struct slice lsm_intake_get(const struct lsm_intake *in, struct slice name)
{
    return get(in->contents, name);
}

int lsm_intake_load(struct lsm_intake *in, struct mvcc *m,
                    void (*lease)(void *ctx, const struct lsm_lease *lease), void *ctx)
{
    load_versions(in->contents, in->contents->count, m);
    load_leases(in->contents, lease, ctx);
    return 0;
}

void lsm_intake_free(struct lsm_intake *in)
{
    if (in == NULL)
        return;
    if (!in->written)
        contents_free(in->contents);
    mem_free(in);
}

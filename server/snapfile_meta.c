/* What etcd keeps beside keys and leases, in its own words; see server/snapfile_meta.h. */
#include "server/snapfile_meta.h"

#include "server/alarm.h"
#include "server/apply.h"
#include "server/config.h"
#include "state/cluster.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "proto/wirefield.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORD_BYTES_MAX = 64 << 20 };

static const char *const bucket_names[SNAPFILE_BUCKETS_COUNT] = {
    [SNAPFILE_ALARM] = "alarm",
    [SNAPFILE_AUTH] = "auth",
    [SNAPFILE_AUTH_ROLES] = "authRoles",
    [SNAPFILE_AUTH_USERS] = "authUsers",
    [SNAPFILE_CLUSTER] = "cluster",
    [SNAPFILE_KEY] = "key",
    [SNAPFILE_LEASE] = "lease",
    [SNAPFILE_MEMBERS] = "members",
    [SNAPFILE_META] = "meta",
    [SNAPFILE_MEMBERS_REMOVED] = "members_removed",
};

struct slice snapfile_bucket_name(enum snapfile_bucket bucket)
{
    return slice_of_string(bucket_names[bucket]);
}

static void put_be64(uint8_t *p, uint64_t x)
{
    x = __builtin_bswap64(x);
    memcpy(p, &x, sizeof(x));
}

size_t snapfile_put_revision(uint8_t *dst, int64_t main, uint32_t sub, bool tombstone)
{
    put_be64(dst, (uint64_t)main);
    dst[8] = '_';
    put_be64(dst + 9, sub);
    dst[17] = 't';
    return tombstone ? 18 : 17;
}

/* --- entries --- */

static void add(struct snapfile_entries *e, enum snapfile_bucket bucket, struct slice key,
                struct slice value)
{
    if (e->count == e->capacity) {
        e->capacity = e->capacity == 0 ? 32 : e->capacity * 2;
        e->items = mem_realloc(e->items, e->capacity * sizeof(*e->items));
    }
    uint8_t *copy = mem_alloc(key.size + value.size);
    memcpy(copy, key.data, key.size);
    if (value.size > 0)
        memcpy(copy + key.size, value.data, value.size);
    e->items[e->count++] = (struct snapfile_entry){.bucket = bucket,
                                                   .key = slice_of(copy, key.size),
                                                   .value = slice_of(copy + key.size, value.size)};
}

void snapfile_entries_free(struct snapfile_entries *e)
{
    for (uint32_t i = 0; i < e->count; i++)
        mem_free((void *)e->items[i].key.data);
    mem_free(e->items);
    *e = (struct snapfile_entries){0};
}

static int compare_entries(const void *a, const void *b)
{
    const struct snapfile_entry *x = a, *y = b;
    if (x->bucket != y->bucket)
        return x->bucket < y->bucket ? -1 : 1;
    return slice_compare(x->key, y->key);
}

/* --- JSON, as Go writes it --- */

__attribute__((format(printf, 2, 3))) static void put_text(struct buf *b, const char *format, ...)
{
    char text[128];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ASSERT(size >= 0 && (size_t)size < sizeof(text));
    (void)buf_append(b, text, (size_t)size);
}

static void put_string(struct buf *b, const char *text)
{
    put_text(b, "\"");
    for (const char *p = text; *p != '\0'; p++) {
        uint8_t c = (uint8_t)*p;
        if (c == '"' || c == '\\')
            put_text(b, "\\%c", c);
        else if (c < 0x20 || c == '<' || c == '>' || c == '&')
            put_text(b, "\\u%04x", c);
        else
            (void)buf_append(b, p, 1);
    }
    put_text(b, "\"");
}

static void put_strings(struct buf *b, char *const *texts, uint32_t count)
{
    put_text(b, "[");
    for (uint32_t i = 0; i < count; i++) {
        put_text(b, "%s", i > 0 ? "," : "");
        put_string(b, texts[i]);
    }
    put_text(b, "]");
}

static void put_ids(struct buf *b, const char *name, const struct raft_ids *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        put_text(b, i == 0 ? "\"%s\":[%" PRIu64 : ",%.0s%" PRIu64, name, set->ids[i]);
    if (set->count > 0)
        put_text(b, "],");
}

/* --- members --- */

static void add_member(struct snapfile_entries *e, const struct cluster_member *m, struct buf *b)
{
    char key[24];
    (void)snprintf(key, sizeof(key), "%" PRIx64, m->id);
    buf_clear(b);
    put_text(b, "{\"id\":%" PRIu64 ",\"peerURLs\":", m->id);
    put_strings(b, m->peer_urls, m->peer_urls_count);
    put_text(b, "%s", m->learner ? ",\"isLearner\":true" : "");
    if (*m->name != '\0') {
        put_text(b, ",\"name\":");
        put_string(b, m->name);
    }
    if (m->client_urls_count > 0) {
        put_text(b, ",\"clientURLs\":");
        put_strings(b, m->client_urls, m->client_urls_count);
    }
    put_text(b, "}");
    add(e, SNAPFILE_MEMBERS, slice_of_string(key), buf_slice(b));
}

static void add_conf_state(struct snapfile_entries *e, const struct raft_membership *m,
                           struct buf *b)
{
    buf_clear(b);
    put_text(b, "{");
    put_ids(b, "voters", &m->voters);
    put_ids(b, "learners", &m->learners);
    put_ids(b, "voters_outgoing", &m->voters_outgoing);
    put_ids(b, "learners_next", &m->learners_next);
    put_text(b, "\"auto_leave\":%s}", m->auto_leave ? "true" : "false");
    add(e, SNAPFILE_META, SLICE_LITERAL("confState"), buf_slice(b));
}

static int add_members(struct snapfile_entries *e, struct slice record, struct buf *b)
{
    struct cluster c;
    if (cluster_decode(record, &c) != 0)
        return TV_ECORRUPT;
    for (uint32_t i = 0; i < c.members_count; i++)
        add_member(e, &c.members[i], b);
    for (uint32_t i = 0; i < c.removed_count; i++) {
        char key[24];
        (void)snprintf(key, sizeof(key), "%" PRIx64, c.removed[i]);
        add(e, SNAPFILE_MEMBERS_REMOVED, slice_of_string(key), SLICE_LITERAL("removed"));
    }
    add_conf_state(e, &c.raft, b);
    cluster_fini(&c);
    return 0;
}

/* --- alarms, users, the cluster's version --- */

/* etcdserverpb.AlarmMember, which is a key without a value: 1 memberID, 2 alarm. */
static int add_alarms(struct snapfile_entries *e, struct slice record)
{
    struct alarms alarms;
    alarms_init(&alarms);
    int err = alarms_decode(&alarms, record) == 0 ? 0 : TV_ECORRUPT;
    for (uint32_t i = 0; i < alarms.count; i++) {
        uint8_t key[32], *p = wire_uint_put(key, 1, alarms.items[i].member_id);
        p = wire_uint_put(p, 2, (uint64_t)alarms.items[i].type);
        add(e, SNAPFILE_ALARM, slice_of(key, (size_t)(p - key)), SLICE_EMPTY);
    }
    alarms_fini(&alarms);
    return err;
}

/* The cluster's version, which the storage's follows. */
static int add_versions(struct snapfile_entries *e, struct slice record, struct buf *b)
{
    struct versions v;
    struct versions_now now;
    char target[VERSIONS_TEXT_BYTES] = "";
    if (versions_decode(&v, record) != 0)
        return TV_ECORRUPT;
    versions_now(&v, &now);
    versions_text(now.minor, e->version);
    add(e, SNAPFILE_CLUSTER, SLICE_LITERAL("clusterVersion"), slice_of_string(e->version));
    if (record.size == 0)
        return 0;
    if (now.downgrade)
        versions_text(now.target_minor, target);
    buf_clear(b);
    put_text(b, "{\"target-version\":\"%s\",\"enabled\":%s}", target,
             now.downgrade ? "true" : "false");
    add(e, SNAPFILE_CLUSTER, SLICE_LITERAL("downgrade"), buf_slice(b));
    return 0;
}

/* The named record, empty when there is none. */
static int read_record(struct lsm_copy *copy, struct slice name, struct buf *ret)
{
    buf_clear(ret);
    int err = lsm_copy_get(copy, name, ret);
    return err == TV_ENOTFOUND ? 0 : err;
}

/* Of the copy, a record at a time. */
struct records {
    struct lsm_copy *copy;
    struct buf record;
    int err;
};

static struct slice get_record(void *ctx, struct slice name)
{
    struct records *r = ctx;
    int err = read_record(r->copy, name, &r->record);
    if (err != 0 && r->err == 0)
        r->err = err;
    return buf_slice(&r->record);
}

static int add_auth(struct snapfile_entries *e, struct lsm_copy *copy, struct buf *b)
{
    struct records records = {.copy = copy};
    struct auth auth;
    buf_init(&records.record, RECORD_BYTES_MAX);
    auth_init(&auth, NULL);
    int err = auth_load(&auth, get_record, &records) == 0 ? 0 : TV_ECORRUPT;
    if (records.err != 0)
        err = records.err;
    const struct auth_view *v = auth_view(&auth);
    for (uint32_t i = 0; err == 0 && i < v->users_count; i++) {
        buf_clear(b);
        auth_user_encode(v->users[i], b);
        add(e, SNAPFILE_AUTH_USERS, v->users[i]->name, buf_slice(b));
    }
    for (uint32_t i = 0; err == 0 && i < v->roles_count; i++) {
        buf_clear(b);
        auth_role_encode(v->roles[i], b);
        add(e, SNAPFILE_AUTH_ROLES, v->roles[i]->name, buf_slice(b));
    }
    uint8_t revision[8];
    put_be64(revision, v->revision);
    add(e, SNAPFILE_AUTH, SLICE_LITERAL("authEnabled"), slice_of(v->enabled ? "\1" : "\0", 1));
    add(e, SNAPFILE_AUTH, SLICE_LITERAL("authRevision"), slice_of(revision, sizeof(revision)));
    auth_fini(&auth);
    buf_fini(&records.record);
    return err;
}

static void add_number(struct snapfile_entries *e, const char *name, uint64_t number)
{
    uint8_t value[8];
    put_be64(value, number);
    add(e, SNAPFILE_META, slice_of_string(name), slice_of(value, sizeof(value)));
}

static void add_meta(struct snapfile_entries *e, const struct lsm_meta *meta)
{
    add_number(e, "consistent_index", meta->applied_index);
    add_number(e, "term", meta->applied_term);
    add(e, SNAPFILE_META, SLICE_LITERAL("storageVersion"), slice_of_string(e->version));
    if (meta->compacted <= 0)
        return;
    uint8_t revision[SNAPFILE_REVISION_BYTES_MAX];
    struct slice compacted =
        slice_of(revision, snapfile_put_revision(revision, meta->compacted, 0, false));
    add(e, SNAPFILE_META, SLICE_LITERAL("scheduledCompactRev"), compacted);
    add(e, SNAPFILE_META, SLICE_LITERAL("finishedCompactRev"), compacted);
}

int snapfile_entries_read(struct lsm_copy *copy, const struct lsm_meta *meta,
                          struct snapfile_entries *ret)
{
    struct buf record, text;
    *ret = (struct snapfile_entries){0};
    buf_init(&record, RECORD_BYTES_MAX);
    buf_init(&text, SIZE_MAX);
    int err = read_record(copy, STATE_RECORD_MEMBERS, &record);
    if (err == 0)
        err = add_members(ret, buf_slice(&record), &text);
    if (err == 0)
        err = read_record(copy, STATE_RECORD_ALARMS, &record);
    if (err == 0)
        err = add_alarms(ret, buf_slice(&record));
    if (err == 0)
        err = read_record(copy, STATE_RECORD_VERSIONS, &record);
    if (err == 0)
        err = add_versions(ret, buf_slice(&record), &text);
    if (err == 0)
        err = add_auth(ret, copy, &text);
    add_meta(ret, meta);
    qsort(ret->items, ret->count, sizeof(*ret->items), compare_entries);
    buf_fini(&record);
    buf_fini(&text);
    return err;
}

/* Users and roles: what ranges of several roles permit together, against a model that looks at
 * single keys; the records, whole and damaged; what entries change and leave behind. */
#include "unit.h"

#include "server/apply.h"
#include "server/auth_check.h"
#include "server/auth_request.h"
#include "server/password.h"

#include "base/base64.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

static struct slice text(const char *s)
{
    return slice_of_string(s);
}

static struct auth_permission permission(int32_t access, struct slice key, struct slice range_end)
{
    return (struct auth_permission){.access = access, .key = key, .range_end = range_end};
}

/* --- what is permitted --- */

static int check(const struct auth *a, const char *user, struct slice key, struct slice range_end,
                 enum auth_access access)
{
    struct auth_caller c = {.known = true, .name = text(user), .revision = auth_revision(a)};
    return auth_check(auth_view(a), &c, key, range_end, access);
}

static void add_root_and_enable(struct auth *a)
{
    struct auth_change ch;
    ck_assert_int_eq(auth_enable(a, &ch), TV_ROOT_USER_NOT_EXIST);
    ck_assert_int_eq(auth_add_user(a, AUTH_ROOT, text("h"), false, &ch), 0);
    ck_assert_int_eq(auth_enable(a, &ch), TV_ROOT_ROLE_NOT_EXIST);
    ck_assert_int_eq(auth_grant_role(a, AUTH_ROOT, AUTH_ROOT, &ch), 0);
    ck_assert_int_eq(auth_enable(a, &ch), 0);
    ck_assert(auth_is_enabled(a));
}

START_TEST(test_ranges)
{
    struct auth a;
    struct auth_change ch;
    struct auth_permission p;
    auth_init(&a, NULL);
    add_root_and_enable(&a);
    ck_assert_int_eq(auth_add_user(&a, text("u"), text("h"), false, &ch), 0);
    ck_assert_int_eq(auth_add_role(&a, text("r"), &ch), 0);
    ck_assert_int_eq(auth_add_role(&a, text("s"), &ch), 0);
    ck_assert_int_eq(auth_grant_role(&a, text("u"), text("r"), &ch), 0);
    ck_assert_int_eq(auth_grant_role(&a, text("u"), text("s"), &ch), 0);
    p = permission(AUTH_READ, text("b"), text("d"));
    ck_assert_int_eq(auth_grant_permission(&a, text("r"), &p, &ch), 0);
    p = permission(AUTH_READWRITE, text("d"), text("f"));
    ck_assert_int_eq(auth_grant_permission(&a, text("s"), &p, &ch), 0);
    p = permission(AUTH_WRITE, text("x"), SLICE_EMPTY);
    ck_assert_int_eq(auth_grant_permission(&a, text("s"), &p, &ch), 0);

    /* Over the seam between two roles, and not beyond. */
    ck_assert_int_eq(check(&a, "u", text("b"), text("f"), AUTH_READ), 0);
    ck_assert_int_eq(check(&a, "u", text("b"), text("f\x01"), AUTH_READ), TV_PERMISSION_DENIED);
    ck_assert_int_eq(check(&a, "u", text("a"), text("c"), AUTH_READ), TV_PERMISSION_DENIED);
    ck_assert_int_eq(check(&a, "u", text("b"), text("f"), AUTH_WRITE), TV_PERMISSION_DENIED);
    ck_assert_int_eq(check(&a, "u", text("d"), text("f"), AUTH_WRITE), 0);
    ck_assert_int_eq(check(&a, "u", text("b"), slice_of("", 1), AUTH_READ), TV_PERMISSION_DENIED);
    /* One key is not those behind it. */
    ck_assert_int_eq(check(&a, "u", text("x"), SLICE_EMPTY, AUTH_WRITE), 0);
    ck_assert_int_eq(check(&a, "u", text("x"), slice_of("", 1), AUTH_WRITE), TV_PERMISSION_DENIED);
    ck_assert_int_eq(check(&a, "u", text("xx"), SLICE_EMPTY, AUTH_WRITE), TV_PERMISSION_DENIED);
    ck_assert_int_eq(check(&a, "u", text("x"), slice_of("x", 2), AUTH_WRITE), 0);
    ck_assert_int_eq(check(&a, "nobody", text("b"), SLICE_EMPTY, AUTH_READ), TV_PERMISSION_DENIED);
    ck_assert_int_eq(check(&a, "root", text("b"), slice_of("", 1), AUTH_WRITE), 0);

    struct auth_caller c = {0};
    ck_assert_int_eq(auth_check(auth_view(&a), &c, text("b"), SLICE_EMPTY, AUTH_READ),
                     TV_USER_EMPTY);
    c = (struct auth_caller){.name = text("u"), .revision = auth_revision(&a) - 1};
    ck_assert_int_eq(auth_check(auth_view(&a), &c, text("b"), SLICE_EMPTY, AUTH_READ),
                     TV_AUTH_OLD_REVISION);
    auth_disable(&a, &ch);
    ck_assert_int_eq(auth_check(auth_view(&a), &c, text("zz"), SLICE_EMPTY, AUTH_READ), 0);
    auth_fini(&a);
}
END_TEST

/* Keys of the model: of one or two letters out of four, and what lies right behind each. */
enum { MODEL_ROLES = 4, MODEL_USERS = 3, LETTERS = 4, MODEL_KEYS = LETTERS * (LETTERS + 1) };

static struct slice model_key(uint32_t i)
{
    static const char letters[] = {0x00, 'a', 'b', (char)0xff};
    static char keys[MODEL_KEYS][2];
    uint32_t first = i / (LETTERS + 1), second = i % (LETTERS + 1);
    keys[i][0] = letters[first];
    if (second > 0)
        keys[i][1] = letters[second - 1];
    return slice_of(keys[i], second > 0 ? 2 : 1);
}

struct grant {
    uint32_t role;
    int32_t access;
    uint32_t key;
    uint32_t end; /* MODEL_KEYS: the key alone; MODEL_KEYS + 1: no end */
};

static struct slice end_slice(uint32_t end)
{
    if (end == MODEL_KEYS)
        return SLICE_EMPTY;
    return end > MODEL_KEYS ? slice_of("", 1) : model_key(end);
}

/* Is `key` (with a NUL behind it, when `after`: what a range that ends there would need no more) in
 * the grant? */
static bool grant_has(const struct grant *g, struct slice key)
{
    if (g->end == MODEL_KEYS)
        return slice_equal(model_key(g->key), key);
    return slice_compare(model_key(g->key), key) <= 0 &&
           (g->end > MODEL_KEYS || slice_compare(key, model_key(g->end)) < 0);
}

/* A range is permitted when each key in it is: it is enough to look at where any grant begins or
 * ends, right behind those, and where the range begins. */
static bool model_permits(const struct grant *grants, uint32_t count, uint32_t roles,
                          enum auth_access access, struct slice key, struct slice range_end)
{
    struct slice probes[4 * MODEL_KEYS + 2];
    static uint8_t behind[MODEL_KEYS][3];
    uint32_t probes_count = 0;
    bool open = range_end.size == 1 && range_end.data[0] == 0;
    probes[probes_count++] = key;
    for (uint32_t i = 0; range_end.size > 0 && i < MODEL_KEYS; i++) {
        struct slice k = model_key(i);
        memcpy(behind[i], k.data, k.size);
        behind[i][k.size] = 0;
        probes[probes_count++] = k;
        probes[probes_count++] = slice_of(behind[i], k.size + 1);
    }
    for (uint32_t i = 0; i < probes_count; i++) {
        bool in_range = i == 0 || (slice_compare(key, probes[i]) <= 0 &&
                                   (open || slice_compare(probes[i], range_end) < 0));
        bool permitted = !in_range;
        for (uint32_t g = 0; g < count && !permitted; g++)
            permitted =
                (roles >> grants[g].role & 1) != 0 &&
                (grants[g].access == (int32_t)access || grants[g].access == AUTH_READWRITE) &&
                grant_has(&grants[g], probes[i]);
        if (!permitted)
            return false;
    }
    return true;
}

static void one_model(uint64_t seed)
{
    struct rng rng;
    struct auth a;
    struct auth_change ch;
    struct grant grants[10];
    uint32_t roles_of[MODEL_USERS], count = (uint32_t)(seed % 10);
    char name[8];
    rng_init(&rng, seed);
    auth_init(&a, NULL);
    add_root_and_enable(&a);
    for (uint32_t r = 0; r < MODEL_ROLES; r++) {
        snprintf(name, sizeof(name), "r%u", r);
        ck_assert_int_eq(auth_add_role(&a, text(name), &ch), 0);
    }
    for (uint32_t u = 0; u < MODEL_USERS; u++) {
        char user[8];
        snprintf(user, sizeof(user), "u%u", u);
        ck_assert_int_eq(auth_add_user(&a, text(user), text("h"), false, &ch), 0);
        roles_of[u] = (uint32_t)rng_below(&rng, 1 << MODEL_ROLES);
        for (uint32_t r = 0; r < MODEL_ROLES; r++) {
            snprintf(name, sizeof(name), "r%u", r);
            if ((roles_of[u] >> r & 1) != 0)
                ck_assert_int_eq(auth_grant_role(&a, text(user), text(name), &ch), 0);
        }
    }
    for (uint32_t g = 0; g < count; g++) {
        struct grant *it = &grants[g];
        it->role = g % MODEL_ROLES;
        it->access = (int32_t)rng_below(&rng, 4); /* one that nobody knows, too */
        it->key = (uint32_t)rng_below(&rng, MODEL_KEYS);
        do
            it->end = (uint32_t)rng_below(&rng, MODEL_KEYS + 2);
        while (it->end < MODEL_KEYS && slice_compare(model_key(it->key), model_key(it->end)) >= 0 &&
               !slice_equal(model_key(it->end), slice_of("", 1)));
        if (it->end < MODEL_KEYS && slice_equal(model_key(it->end), slice_of("", 1)))
            it->end = MODEL_KEYS + 1;
        for (uint32_t before = 0; before < g; before++) /* a second one for the same replaces it */
            if (grants[before].role == it->role && grants[before].key == it->key)
                it->key = UINT32_MAX;
        if (it->key == UINT32_MAX) {
            count = g;
            break;
        }
        snprintf(name, sizeof(name), "r%u", it->role);
        struct auth_permission p = permission(it->access, model_key(it->key), end_slice(it->end));
        ck_assert_int_eq(auth_grant_permission(&a, text(name), &p, &ch), 0);
    }
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t u = (uint32_t)rng_below(&rng, MODEL_USERS);
        struct slice key = model_key((uint32_t)rng_below(&rng, MODEL_KEYS));
        struct slice end = end_slice((uint32_t)rng_below(&rng, MODEL_KEYS + 2));
        enum auth_access access = rng_below(&rng, 2) == 0 ? AUTH_READ : AUTH_WRITE;
        bool open = end.size == 1 && end.data[0] == 0;
        if (end.size > 0 && !open && slice_compare(key, end) >= 0)
            continue;
        snprintf(name, sizeof(name), "u%u", u);
        bool wanted = model_permits(grants, count, roles_of[u], access, key, end);
        ck_assert_msg((check(&a, name, key, end, access) == 0) == wanted, "seed %llu, question %u",
                      (unsigned long long)seed, i);
    }
    auth_fini(&a);
}

START_TEST(test_model)
{
    for (uint64_t seed = 1; seed <= 400; seed++)
        one_model(seed);
}
END_TEST

/* --- changes --- */

START_TEST(test_changes)
{
    struct auth a;
    struct auth_change ch;
    struct auth_permission p;
    auth_init(&a, NULL);
    ck_assert_uint_eq(auth_revision(&a), 1);
    add_root_and_enable(&a);
    uint64_t rev = auth_revision(&a);
    ck_assert_uint_eq(rev, 3); /* to enable is no change */

    /* What is refused changes nothing. */
    ck_assert_int_eq(auth_add_user(&a, SLICE_EMPTY, SLICE_EMPTY, false, &ch), TV_USER_EMPTY);
    ck_assert_int_eq(auth_add_user(&a, AUTH_ROOT, SLICE_EMPTY, false, &ch), TV_USER_ALREADY_EXIST);
    ck_assert_int_eq(auth_delete_user(&a, AUTH_ROOT, &ch), TV_INVALID_AUTH_MGMT);
    ck_assert_int_eq(auth_revoke_role(&a, AUTH_ROOT, AUTH_ROOT, &ch), TV_INVALID_AUTH_MGMT);
    ck_assert_int_eq(auth_delete_role(&a, AUTH_ROOT, &ch), TV_INVALID_AUTH_MGMT);
    ck_assert_int_eq(auth_delete_user(&a, text("x"), &ch), TV_USER_NOT_FOUND);
    ck_assert_int_eq(auth_grant_role(&a, AUTH_ROOT, text("x"), &ch), TV_ROLE_NOT_FOUND);
    ck_assert_int_eq(auth_grant_permission(&a, text("x"), NULL, &ch), TV_PERMISSION_NOT_GIVEN);
    p = permission(AUTH_READ, text("b"), text("a"));
    ck_assert_int_eq(auth_grant_permission(&a, text("x"), &p, &ch), TV_INVALID_AUTH_MGMT);
    ck_assert(!ch.state && ch.users == 0 && ch.roles == 0);
    ck_assert_uint_eq(auth_revision(&a), rev);

    /* A role that goes is taken from all, and the records of those are named. */
    ck_assert_int_eq(auth_add_role(&a, text("r"), &ch), 0);
    ck_assert(ch.roles != 0 && ch.users == 0 && ch.state);
    ck_assert_int_eq(auth_add_user(&a, text("u"), text("h"), false, &ch), 0);
    ck_assert_int_eq(auth_grant_role(&a, text("u"), text("r"), &ch), 0);
    ck_assert_int_eq(auth_grant_role(&a, text("u"), text("r"), &ch), 0);
    ck_assert(!ch.state); /* he has it */
    ck_assert_int_eq(auth_delete_role(&a, text("r"), &ch), 0);
    ck_assert(ch.roles != 0 && ch.users != 0);
    ck_assert_uint_eq(auth_find_user(auth_view(&a), text("u"))->roles_count, 0);

    /* Nothing for who has no password. */
    ck_assert_int_eq(auth_add_user(&a, text("n"), text("h"), true, &ch), 0);
    ck_assert_int_eq(auth_set_password(&a, text("n"), text("h"), &ch), 0);
    ck_assert_uint_eq(auth_find_user(auth_view(&a), text("n"))->password.size, 0);
    auth_disable(&a, &ch);
    ck_assert_int_eq(auth_delete_user(&a, AUTH_ROOT, &ch), 0);
    auth_fini(&a);
}
END_TEST

START_TEST(test_bound)
{
    struct auth a;
    struct auth_change ch;
    auth_init(&a, NULL);
    size_t size = 8 << 20;
    char *big = mem_alloc(size), name[8];
    memset(big, 'h', size);
    int err = 0;
    for (uint32_t i = 0; err == 0; i++) {
        snprintf(name, sizeof(name), "u%u", i);
        err = auth_add_user(&a, text(name), slice_of(big, size), false, &ch);
        ck_assert_uint_lt(i, 9);
    }
    ck_assert_int_eq(err, TV_NO_SPACE);
    ck_assert_uint_le(auth_view(&a)->bytes, AUTH_BYTES_MAX);
    ck_assert_int_eq(auth_delete_user(&a, text("u0"), &ch), 0);
    ck_assert_int_eq(auth_add_user(&a, text("v"), slice_of(big, size), false, &ch), 0);
    mem_free(big);
    auth_fini(&a);
}
END_TEST

/* --- in the store --- */

enum { RECORDS_MAX = 2 * AUTH_BUCKETS_COUNT + 1 };

struct records {
    struct buf contents[RECORDS_MAX];
    uint32_t damaged; /* this one is given out cut by a byte; UINT32_MAX: none */
    uint32_t missing;
};

static uint32_t record_number(struct slice name)
{
    char made[AUTH_RECORD_NAME_MAX];
    for (uint32_t i = 0; i < RECORDS_MAX; i++) {
        enum auth_record record = i == 0                    ? AUTH_RECORD_STATE
                                  : i <= AUTH_BUCKETS_COUNT ? AUTH_RECORD_USERS
                                                            : AUTH_RECORD_ROLES;
        uint32_t bucket = i == 0 ? 0 : (i - 1) % AUTH_BUCKETS_COUNT;
        if (slice_equal(auth_record_name(record, bucket, made), name))
            return i;
    }
    ck_abort_msg("no such record");
    return 0;
}

static void save(const struct auth *a, struct records *r)
{
    *r = (struct records){.damaged = UINT32_MAX, .missing = UINT32_MAX};
    for (uint32_t i = 0; i < RECORDS_MAX; i++) {
        buf_init(&r->contents[i], SIZE_MAX);
        if (i == 0)
            auth_encode(a, AUTH_RECORD_STATE, 0, &r->contents[i]);
        else
            auth_encode(a, i <= AUTH_BUCKETS_COUNT ? AUTH_RECORD_USERS : AUTH_RECORD_ROLES,
                        (i - 1) % AUTH_BUCKETS_COUNT, &r->contents[i]);
    }
}

static struct slice get(void *ctx, struct slice name)
{
    struct records *r = ctx;
    uint32_t i = record_number(name);
    struct slice s = buf_slice(&r->contents[i]);
    if (i == r->missing)
        return SLICE_EMPTY;
    if (i == r->damaged)
        return slice_of(s.data, s.size - 1);
    return s;
}

static void free_records(struct records *r)
{
    for (uint32_t i = 0; i < RECORDS_MAX; i++)
        buf_fini(&r->contents[i]);
}

START_TEST(test_records)
{
    struct auth a, b;
    struct auth_change ch;
    struct records r, again;
    char name[16];
    auth_init(&a, NULL);
    add_root_and_enable(&a);
    for (uint32_t i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "n%u", i * 7919);
        struct auth_permission p = permission((int32_t)i % 3, text(name), slice_of("", i % 2));
        ck_assert_int_eq(auth_add_role(&a, text(name), &ch), 0);
        ck_assert_int_eq(auth_grant_permission(&a, text(name), &p, &ch), 0);
        ck_assert_int_eq(auth_add_user(&a, text(name), text("hash"), i % 5 == 0, &ch), 0);
        ck_assert_int_eq(auth_grant_role(&a, text(name), text(name), &ch), 0);
        ck_assert_int_eq(auth_grant_role(&a, text(name), AUTH_ROOT, &ch), 0);
    }
    save(&a, &r);
    auth_init(&b, NULL);
    ck_assert_int_eq(auth_load(&b, get, &r), 0);
    ck_assert(auth_is_enabled(&b));
    ck_assert_uint_eq(auth_revision(&b), auth_revision(&a));
    ck_assert_uint_eq(auth_view(&b)->bytes, auth_view(&a)->bytes);
    save(&b, &again);
    for (uint32_t i = 0; i < RECORDS_MAX; i++)
        ck_assert(slice_equal(buf_slice(&r.contents[i]), buf_slice(&again.contents[i])));

    /* Each record cut, and each away: refused, and what was loaded stays. */
    for (uint32_t i = 0; i < RECORDS_MAX; i++) {
        if (r.contents[i].size == 0)
            continue;
        r.damaged = i;
        ck_assert_int_eq(auth_load(&b, get, &r), TV_EMALFORMED);
        r.damaged = UINT32_MAX;
        r.missing = i;
        ck_assert_int_eq(auth_load(&b, get, &r), TV_EMALFORMED);
        r.missing = UINT32_MAX;
    }
    ck_assert_uint_eq(auth_view(&b)->users_count, 201);
    /* Two records in each other's place. */
    struct buf swapped = r.contents[1];
    r.contents[1] = r.contents[2];
    r.contents[2] = swapped;
    ck_assert_int_eq(auth_load(&b, get, &r), TV_EMALFORMED);
    free_records(&r);
    free_records(&again);
    auth_fini(&a);
    auth_fini(&b);
}
END_TEST

/* Any one bit: read back as something else, or refused; never anything worse. */
START_TEST(test_flipped_bits)
{
    struct auth a, b;
    struct auth_change ch;
    struct records r;
    auth_init(&a, NULL);
    add_root_and_enable(&a);
    struct auth_permission p = permission(AUTH_READ, text("k"), text("l"));
    ck_assert_int_eq(auth_add_role(&a, text("r"), &ch), 0);
    ck_assert_int_eq(auth_grant_permission(&a, text("r"), &p, &ch), 0);
    ck_assert_int_eq(auth_add_user(&a, text("n"), SLICE_EMPTY, true, &ch), 0);
    save(&a, &r);
    uint32_t refused = 0, taken = 0;
    for (uint32_t i = 0; i < RECORDS_MAX; i++) {
        for (size_t bit = 0; bit < r.contents[i].size * 8; bit++) {
            r.contents[i].data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            auth_init(&b, NULL);
            if (auth_load(&b, get, &r) == 0)
                taken++;
            else
                refused++;
            auth_fini(&b);
            r.contents[i].data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    ck_assert_uint_gt(refused, 100);
    ck_assert_uint_gt(taken, 0);
    free_records(&r);
    auth_fini(&a);
}
END_TEST

/* --- entries --- */

struct rig {
    struct mvcc *mvcc;
    struct lessor *lessor;
    struct cluster cluster;
    struct applier applier;
    struct auth_tokens *tokens;
    uint64_t next_id;
};

static void rig_init(struct rig *r)
{
    char err_text[128];
    *r = (struct rig){.mvcc = mvcc_new(NULL), .lessor = lessor_new(1)};
    ck_assert_int_eq(
        cluster_from_initial("a=http://a:1", "t", &r->cluster, err_text, sizeof(err_text)), 0);
    applier_init(&r->applier, r->mvcc, r->lessor, &r->cluster, 1);
    r->tokens = auth_tokens_new("simple", 0, err_text, sizeof(err_text));
    r->applier.tokens = r->tokens;
}

static void rig_fini(struct rig *r)
{
    applier_fini(&r->applier);
    auth_tokens_free(r->tokens);
    lessor_free(r->lessor);
    mvcc_free(r->mvcc);
    cluster_fini(&r->cluster);
}

static int apply_by(struct rig *r, const char *user, uint64_t revision, uint32_t kind,
                    struct slice body)
{
    struct request req = {.kind = REQUEST_PROPOSE};
    struct wire_raft_request entry = {.id = ++r->next_id,
                                      .username = text(user),
                                      .auth_revision = revision,
                                      .kind = kind,
                                      .body = body},
                             decoded;
    size_t size = wire_raft_request_whole_size(&entry);
    uint8_t *bytes = mem_alloc(size);
    ck_assert_ptr_eq(wire_raft_request_whole_put(bytes, &entry), bytes + size);
    applier_decode(slice_of(bytes, size), &decoded);
    ck_assert(slice_equal(decoded.username, entry.username) && decoded.auth_revision == revision);
    r->applier.log_index++;
    applier_apply(&r->applier, &decoded, &req);
    mvcc_publish(r->mvcc);
    bref_unref(req.reply);
    mem_free(bytes);
    return req.err;
}

static int apply_pair(struct rig *r, uint32_t kind, const char *first, const char *second)
{
    uint8_t body[128], *p = wire_bytes_put(body, 1, text(first));
    p = wire_bytes_put(p, 2, text(second));
    return apply_by(r, "root", auth_revision(&r->applier.auth), kind,
                    slice_of(body, (size_t)(p - body)));
}

static int put_by(struct rig *r, const char *user, uint64_t revision, const char *key,
                  int64_t lease, bool prev_kv)
{
    uint8_t body[64];
    struct wire_put_request put = {
        .key = text(key), .value = text("v"), .lease = lease, .prev_kv = prev_kv};
    return apply_by(r, user, revision, WIRE_RAFT_PUT,
                    slice_of(body, (size_t)(wire_put_request_put(body, &put) - body)));
}

static int grant_by_log(struct rig *r, int32_t access, const char *key, const char *end)
{
    uint8_t body[128], *p = wire_bytes_put(body, 1, text("r"));
    struct auth_permission perm = permission(access, text(key), text(end));
    p = wire_item_put_head(p, 2, auth_permission_size(&perm));
    p = auth_permission_put(p, &perm);
    return apply_by(r, "root", 1, WIRE_RAFT_ROLE_GRANT_PERMISSION,
                    slice_of(body, (size_t)(p - body)));
}

START_TEST(test_entries)
{
    struct rig r;
    uint8_t body[64];
    rig_init(&r);
    struct auth *a = &r.applier.auth;
    ck_assert_int_eq(apply_pair(&r, WIRE_RAFT_USER_ADD, "root", ""), 0);
    ck_assert_int_eq(apply_pair(&r, WIRE_RAFT_USER_GRANT_ROLE, "root", "root"), 0);
    ck_assert_int_eq(apply_pair(&r, WIRE_RAFT_USER_ADD, "u", ""), 0);
    ck_assert_int_eq(apply_pair(&r, WIRE_RAFT_ROLE_ADD, "r", ""), 0);
    ck_assert_int_eq(apply_pair(&r, WIRE_RAFT_USER_GRANT_ROLE, "u", "r"), 0);
    ck_assert_int_eq(grant_by_log(&r, AUTH_WRITE, "k", "l"), 0);
    ck_assert_int_eq(put_by(&r, "", 0, "other", 0, false), 0);
    ck_assert_int_eq(apply_by(&r, "", 0, WIRE_RAFT_AUTH_ENABLE, SLICE_EMPTY), 0);
    uint64_t chain = r.applier.chain;

    uint64_t rev = auth_revision(a);
    int64_t kv_rev = mvcc_txn_revision(r.mvcc);
    ck_assert_int_eq(put_by(&r, "", 0, "k", 0, false), TV_USER_EMPTY);
    ck_assert_int_eq(put_by(&r, "u", rev - 1, "k", 0, false), TV_AUTH_OLD_REVISION);
    ck_assert_int_eq(put_by(&r, "u", rev, "other", 0, false), TV_PERMISSION_DENIED);
    ck_assert_int_eq(put_by(&r, "u", rev, "k", 0, true), TV_PERMISSION_DENIED);
    ck_assert_int_eq(put_by(&r, "nobody", rev, "k", 0, false), TV_PERMISSION_DENIED);
    ck_assert_int_eq(mvcc_txn_revision(r.mvcc), kv_rev);
    ck_assert_uint_ne(r.applier.chain, chain); /* what is refused is agreed upon, too */
    ck_assert_int_eq(put_by(&r, "u", rev, "k", 0, false), 0);

    /* A lease with another's key is not to be taken, nor ended; the leader's own word ends any. */
    struct wire_lease_grant_request lease = {.ttl = 100, .id = 7};
    wire_lease_grant_request_put(body, &lease);
    ck_assert_int_eq(apply_by(&r, "u", rev, WIRE_RAFT_LEASE_GRANT,
                              slice_of(body, wire_lease_grant_request_size(&lease))),
                     0);
    ck_assert_int_eq(put_by(&r, "root", rev, "other", 7, false), 0);
    ck_assert_int_eq(put_by(&r, "u", rev, "k", 7, false), TV_PERMISSION_DENIED);
    struct slice id = slice_of(body, wire_lease_revoke_request_size(7));
    wire_lease_revoke_request_put(body, 7);
    ck_assert_int_eq(apply_by(&r, "u", rev, WIRE_RAFT_LEASE_REVOKE, id), TV_PERMISSION_DENIED);
    ck_assert_int_eq(apply_by(&r, "", 0, WIRE_RAFT_LEASE_REVOKE, id), TV_USER_EMPTY);
    uint32_t size;
    struct bref *own = applier_encode_revoke(7, 99, &size);
    struct wire_raft_request entry;
    applier_decode(slice_of(own->data, size), &entry);
    struct request req = {.kind = REQUEST_PROPOSE};
    applier_apply(&r.applier, &entry, &req);
    ck_assert_int_eq(req.err, 0);
    ck_assert(!lessor_exists(r.lessor, 7));
    bref_unref(own);

    /* Users and roles are root's business, but for what is one's own. */
    uint8_t name[8], *p = wire_bytes_put(name, 1, text("u"));
    struct slice about_u = slice_of(name, (size_t)(p - name));
    ck_assert_int_eq(apply_by(&r, "u", rev, WIRE_RAFT_USER_GET, about_u), 0);
    ck_assert_int_eq(apply_by(&r, "u", rev, WIRE_RAFT_USER_DELETE, about_u), TV_PERMISSION_DENIED);
    ck_assert_int_eq(apply_by(&r, "", 0, WIRE_RAFT_USER_GET, about_u), TV_USER_EMPTY);
    ck_assert_int_eq(apply_by(&r, "x", rev, WIRE_RAFT_USER_LIST, SLICE_EMPTY), TV_USER_NOT_FOUND);
    ck_assert_int_eq(apply_by(&r, "", 0, WIRE_RAFT_AUTH_STATUS, SLICE_EMPTY), 0);

    /* A token is known when its entry is applied, and gone with its user. */
    struct auth_request login = {.name = text("u"), .letters = text("abcdefghijklmnop")};
    struct slice ask =
        slice_of(body, (size_t)(auth_request_put(body, WIRE_RAFT_AUTHENTICATE, &login) - body));
    ck_assert_int_eq(apply_by(&r, "", 0, WIRE_RAFT_AUTHENTICATE, ask), 0);
    ck_assert_uint_eq(auth_tokens_count(r.tokens), 1);
    ck_assert_int_eq(apply_by(&r, "root", rev, WIRE_RAFT_USER_DELETE, about_u), 0);
    ck_assert_uint_eq(auth_tokens_count(r.tokens), 0);
    ck_assert_int_eq(apply_by(&r, "", 0, WIRE_RAFT_AUTHENTICATE, ask), TV_AUTH_FAILED);
    ck_assert_int_eq(apply_by(&r, "root", 1, WIRE_RAFT_AUTH_DISABLE, SLICE_EMPTY), 0);
    ck_assert_int_eq(apply_by(&r, "", 0, WIRE_RAFT_AUTHENTICATE, ask), TV_AUTH_NOT_ENABLED);
    ck_assert_int_eq(put_by(&r, "", 0, "other", 0, false), 0);
    rig_fini(&r);
}
END_TEST

/* --- passwords --- */

START_TEST(test_passwords)
{
    char hash[PASSWORD_HASH_BYTES], again[PASSWORD_HASH_BYTES], long_one[80];
    memset(long_one, 'p', sizeof(long_one));
    ck_assert_int_eq(password_validate(slice_of(long_one, 72)), 0);
    ck_assert_int_eq(password_validate(slice_of(long_one, 73)), TV_PASSWORD_TOO_LONG);
    ck_assert_int_eq(password_validate(slice_of("a\0b", 3)), TV_PASSWORD_HAS_NUL);
    ck_assert_int_eq(password_hash(text("s3cret"), 4, hash), 0);
    ck_assert_int_eq(password_hash(text("s3cret"), 4, again), 0);
    ck_assert_mem_ne(hash, again, sizeof(hash));
    ck_assert_mem_eq(hash, "$2a$04$", 7);
    ck_assert(password_matches(text("s3cret"), slice_of(hash, sizeof(hash))));
    ck_assert(!password_matches(text("s3cre"), slice_of(hash, sizeof(hash))));
    ck_assert(!password_matches(slice_of("s3cret\0x", 8), slice_of(hash, sizeof(hash))));
    ck_assert(!password_matches(text(""), SLICE_EMPTY));
    ck_assert(!password_matches(text("abc"), text("abc")));
    /* John the Ripper's and OpenBSD's known answers. */
    ck_assert(password_matches(
        text("U*U"), text("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW")));
    ck_assert(password_matches(
        text(""), text("$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy")));
    ck_assert(!password_matches(
        text("U*U*"), text("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW")));
}
END_TEST

START_TEST(test_base64)
{
    struct rng rng;
    rng_init(&rng, 5);
    for (uint32_t i = 0; i < 2000; i++) {
        uint8_t bytes[40];
        size_t size = rng_below(&rng, sizeof(bytes));
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t)rng_next(&rng);
        enum base64_form form = i % 2 == 0 ? BASE64_STANDARD : BASE64_URL;
        struct buf coded, back;
        buf_init(&coded, SIZE_MAX);
        buf_init(&back, SIZE_MAX);
        base64_encode(slice_of(bytes, size), form, &coded);
        ck_assert_int_eq(base64_decode(buf_slice(&coded), form, &back), 0);
        ck_assert(slice_equal(buf_slice(&back), slice_of(bytes, size)));
        if (size % 3 != 0) /* cut */
            ck_assert(base64_decode(slice_of(coded.data, coded.size - 1), form, &back) != 0 ||
                      form == BASE64_URL);
        buf_fini(&coded);
        buf_fini(&back);
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ck_assert_int_ne(base64_decode(text("a"), BASE64_URL, &out), 0);
    ck_assert_int_ne(base64_decode(text("ab=="), BASE64_URL, &out), 0);
    ck_assert_int_ne(base64_decode(text("ab"), BASE64_STANDARD, &out), 0);
    ck_assert_int_ne(base64_decode(text("ab==cd=="), BASE64_STANDARD, &out), 0);
    ck_assert_int_ne(base64_decode(text("a b="), BASE64_STANDARD, &out), 0);
    ck_assert_uint_eq(out.size, 0);
    buf_fini(&out);
}
END_TEST

UNIT_MAIN("auth", test_ranges, test_model, test_changes, test_bound, test_records,
          test_flipped_bits, test_entries, test_passwords, test_base64)

#include "state/cluster.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- ids --- */

static uint64_t hash_id(const void *data, size_t size)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int digest_size;
    if (EVP_Digest(data, size, digest, &digest_size, EVP_sha1(), NULL) != 1)
        tv_fatal("SHA-1 is not available in this machine's OpenSSL");
    uint64_t id = 0;
    for (uint32_t i = 0; i < 8; i++)
        id = id << 8 | digest[i];
    return id;
}

/* The peer URLs are sorted. */
static uint64_t member_id(char *const *peer_urls, uint32_t count, const char *suffix)
{
    struct buf b;
    buf_init(&b, SIZE_MAX);
    for (uint32_t i = 0; i < count; i++)
        buf_append(&b, peer_urls[i], strlen(peer_urls[i]));
    buf_append(&b, suffix, strlen(suffix));
    uint64_t id = hash_id(b.data, b.size);
    buf_fini(&b);
    return id;
}

uint64_t cluster_new_id(char *const *peer_urls, uint32_t count, uint64_t unix_s)
{
    char seconds[24];
    (void)snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long)unix_s);
    return member_id(peer_urls, count, seconds);
}

/* The members are sorted. */
static uint64_t cluster_id(const struct cluster *c)
{
    uint8_t ids[CLUSTER_MEMBERS_MAX * 8];
    for (uint32_t i = 0; i < c->members_count; i++)
        for (uint32_t byte = 0; byte < 8; byte++)
            ids[i * 8 + byte] = (uint8_t)(c->members[i].id >> (56 - 8 * byte));
    return hash_id(ids, c->members_count * 8);
}

/* --- from the command line --- */

static void urls_clear(char **urls, uint32_t *count)
{
    for (uint32_t i = 0; i < *count; i++)
        mem_free(urls[i]);
    *count = 0;
}

void cluster_fini(struct cluster *c)
{
    for (uint32_t i = 0; i < c->members_count; i++) {
        struct cluster_member *m = &c->members[i];
        mem_free(m->name);
        urls_clear(m->peer_urls, &m->peer_urls_count);
        urls_clear(m->client_urls, &m->client_urls_count);
    }
    mem_free(c->members);
    mem_free(c->removed);
    *c = (struct cluster){0};
}

static struct cluster_member *member_add(struct cluster *c, const char *name)
{
    if (c->members_count == CLUSTER_MEMBERS_MAX)
        return NULL;
    if (c->members == NULL)
        c->members = mem_alloc(CLUSTER_MEMBERS_MAX * sizeof(*c->members));
    struct cluster_member *m = &c->members[c->members_count++];
    *m = (struct cluster_member){.name = mem_strdup(name)};
    return m;
}

static bool has_peer_url(const struct cluster *c, const char *url)
{
    for (uint32_t i = 0; i < c->members_count; i++)
        for (uint32_t j = 0; j < c->members[i].peer_urls_count; j++)
            if (strcmp(c->members[i].peer_urls[j], url) == 0)
                return true;
    return false;
}

static int compare_urls(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_members(const void *a, const void *b)
{
    uint64_t x = ((const struct cluster_member *)a)->id;
    uint64_t y = ((const struct cluster_member *)b)->id;
    return (x > y) - (x < y);
}

/* One "name=url" of `text`. Without '=' it is a name without a URL, as in etcd. */
static int add_pair(struct cluster *c, char *pair, const char *text, char *err_text,
                    size_t err_size)
{
    char *value = strchr(pair, '=');
    if (value != NULL)
        *value++ = '\0';
    char *url;
    int err = url_parse(value == NULL ? "" : value, &url, err_text, err_size);
    if (err != 0)
        return err;
    if (has_peer_url(c, url)) {
        snprintf(err_text, err_size, "initial cluster %s has duplicate url", text);
        mem_free(url);
        return TV_EINVAL;
    }
    struct cluster_member *m = cluster_find_name(c, pair);
    if (m == NULL)
        m = member_add(c, pair);
    if (m == NULL || m->peer_urls_count == CLUSTER_URLS_MAX) {
        snprintf(err_text, err_size, "more than %d members, or %d URLs of one: %s",
                 CLUSTER_MEMBERS_MAX, CLUSTER_URLS_MAX, text);
        mem_free(url);
        return TV_EINVAL;
    }
    m->peer_urls[m->peer_urls_count++] = url;
    return 0;
}

static int add_pairs(struct cluster *c, const char *text, char *err_text, size_t err_size)
{
    char *copy = mem_strdup(text);
    char *rest = copy;
    int err = 0;
    while (err == 0 && rest != NULL) {
        char *pair = strsep(&rest, ",");
        if (*pair != '\0')
            err = add_pair(c, pair, text, err_text, err_size);
    }
    mem_free(copy);
    if (err == 0 && c->members_count == 0) {
        snprintf(err_text, err_size, "initial cluster unset and no discovery endpoints found");
        err = TV_EINVAL;
    }
    return err;
}

static int give_ids(struct cluster *c, const char *token, char *err_text, size_t err_size)
{
    for (uint32_t i = 0; i < c->members_count; i++) {
        struct cluster_member *m = &c->members[i];
        qsort(m->peer_urls, m->peer_urls_count, sizeof(m->peer_urls[0]), compare_urls);
        m->id = member_id(m->peer_urls, m->peer_urls_count, token);
    }
    qsort(c->members, c->members_count, sizeof(*c->members), compare_members);
    for (uint32_t i = 0; i < c->members_count; i++) {
        bool twice = i > 0 && c->members[i - 1].id == c->members[i].id;
        if (twice || c->members[i].id == 0) {
            snprintf(err_text, err_size, "member exists with identical ID %s", c->members[i].name);
            return TV_EINVAL;
        }
    }
    c->id = cluster_id(c);
    for (uint32_t i = 0; i < c->members_count; i++)
        c->raft.voters.ids[i] = c->members[i].id;
    c->raft.voters.count = c->members_count;
    return 0;
}

int cluster_from_initial(const char *initial_cluster, const char *token, struct cluster *ret,
                         char *err_text, size_t err_size)
{
    *ret = (struct cluster){0};
    int err = add_pairs(ret, initial_cluster, err_text, err_size);
    if (err == 0)
        err = give_ids(ret, token, err_text, err_size);
    if (err != 0)
        cluster_fini(ret);
    return err;
}

/* --- is it us? --- */

static bool in(const char *url, char *const *urls, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(url, urls[i]) == 0)
            return true;
    return false;
}

/* Those of `urls` that are not among `others`, as "<prefix>url,<prefix>url". */
static void join_missing(char *const *urls, uint32_t count, char *const *others,
                         uint32_t others_count, const char *prefix, char *ret_text, size_t size)
{
    struct urls missing = {0};
    for (uint32_t i = 0; i < count; i++)
        if (!in(urls[i], others, others_count))
            missing.items[missing.count++] = urls[i]; /* borrowed */
    urls_join(&missing, prefix, ret_text, size);
}

int cluster_check_local(const struct cluster *c, const char *name, const struct urls *advertised,
                        char *err_text, size_t err_size)
{
    const struct cluster_member *m = cluster_find_name(c, name);
    if (m == NULL) {
        snprintf(err_text, err_size,
                 "couldn't find local name \"%s\" in the initial cluster configuration", name);
        return TV_EINVAL;
    }
    char prefix[256], missing[1024], all[1024];
    snprintf(prefix, sizeof(prefix), "%s=", name);
    join_missing(m->peer_urls, m->peer_urls_count, advertised->items, advertised->count, prefix,
                 missing, sizeof(missing));
    if (missing[0] != '\0') {
        urls_join(advertised, "", all, sizeof(all));
        snprintf(err_text, err_size,
                 "--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s",
                 missing, all);
        return TV_EINVAL;
    }
    join_missing(advertised->items, advertised->count, m->peer_urls, m->peer_urls_count, "",
                 missing, sizeof(missing));
    if (missing[0] != '\0') {
        urls_join(advertised, prefix, all, sizeof(all));
        snprintf(err_text, err_size,
                 "--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s",
                 missing, all);
        return TV_EINVAL;
    }
    return 0;
}

/* --- while it runs --- */

struct cluster_member *cluster_find(const struct cluster *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->members_count; i++)
        if (c->members[i].id == id)
            return &c->members[i];
    return NULL;
}

struct cluster_member *cluster_find_name(const struct cluster *c, const char *name)
{
    for (uint32_t i = 0; i < c->members_count; i++)
        if (strcmp(c->members[i].name, name) == 0)
            return &c->members[i];
    return NULL;
}

static char *string_of(struct slice s)
{
    return mem_text(s.data, s.size);
}

void cluster_set_attributes(struct cluster *c, uint64_t id, struct slice name,
                            const struct slice *client_urls, uint32_t client_urls_count)
{
    struct cluster_member *m = cluster_find(c, id);
    if (m == NULL)
        return;
    m->started = true;
    mem_free(m->name);
    m->name = string_of(name);
    urls_clear(m->client_urls, &m->client_urls_count);
    for (uint32_t i = 0; i < client_urls_count && i < CLUSTER_URLS_MAX; i++)
        m->client_urls[m->client_urls_count++] = string_of(client_urls[i]);
}

struct cluster_member *cluster_find_urls(const struct cluster *c, char *const *peer_urls,
                                         uint32_t count)
{
    for (uint32_t i = 0; i < c->members_count; i++) {
        struct cluster_member *m = &c->members[i];
        uint32_t same = 0;
        while (same < count && same < m->peer_urls_count &&
               strcmp(m->peer_urls[same], peer_urls[same]) == 0)
            same++;
        if (same == count && m->peer_urls_count == count)
            return m;
    }
    return NULL;
}

uint32_t cluster_member_addresses(const struct cluster_member *m, const char *ret[CLUSTER_URLS_MAX])
{
    for (uint32_t i = 0; i < m->peer_urls_count; i++)
        ret[i] = m->peer_urls[i];
    return m->peer_urls_count;
}

bool cluster_was_removed(const struct cluster *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->removed_count; i++)
        if (c->removed[i] == id)
            return true;
    return false;
}

/* --- changes --- */

struct cluster_member *cluster_add(struct cluster *c, uint64_t id)
{
    ASSERT(id != 0 && cluster_find(c, id) == NULL);
    struct cluster_member *m = member_add(c, "");
    if (m == NULL)
        return NULL;
    m->id = id;
    qsort(c->members, c->members_count, sizeof(*c->members), compare_members);
    return cluster_find(c, id);
}

static void remember_removed(struct cluster *c, uint64_t id)
{
    if (c->removed == NULL)
        c->removed = mem_alloc(CLUSTER_REMOVED_MAX * sizeof(*c->removed));
    if (c->removed_count == CLUSTER_REMOVED_MAX)
        memmove(c->removed, c->removed + 1, --c->removed_count * sizeof(*c->removed));
    c->removed[c->removed_count++] = id;
}

void cluster_remove(struct cluster *c, uint64_t id)
{
    struct cluster_member *m = cluster_find(c, id);
    ASSERT(m != NULL);
    mem_free(m->name);
    urls_clear(m->peer_urls, &m->peer_urls_count);
    urls_clear(m->client_urls, &m->client_urls_count);
    size_t behind = (size_t)(c->members + c->members_count - (m + 1));
    memmove(m, m + 1, behind * sizeof(*m));
    c->members_count--;
    remember_removed(c, id);
}

void cluster_set_peer_urls(struct cluster_member *m, const struct slice *urls, uint32_t count)
{
    ASSERT(count <= CLUSTER_URLS_MAX);
    urls_clear(m->peer_urls, &m->peer_urls_count);
    for (uint32_t i = 0; i < count; i++)
        m->peer_urls[m->peer_urls_count++] = string_of(urls[i]);
    qsort(m->peer_urls, m->peer_urls_count, sizeof(m->peer_urls[0]), compare_urls);
}

/* --- in the store: version, cluster id, members, removed ids, raft's membership, CRC-32C of all
 * that; little-endian --- */

enum { ENCODING_VERSION = 2, FLAG_LEARNER = 1, FLAG_STARTED = 2, FLAG_REPLACEMENT = 4 };

static void put_uint(struct buf *out, uint64_t value, uint32_t size)
{
    uint8_t *p = buf_reserve(out, size);
    ASSERT(p != NULL);
    for (uint32_t i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * i));
    out->size += size;
}

static void put_string(struct buf *out, const char *text)
{
    size_t size = strlen(text);
    put_uint(out, size, 4);
    int err = buf_append(out, text, size);
    ASSERT(err == 0);
}

static void put_strings(struct buf *out, char *const *texts, uint32_t count)
{
    put_uint(out, count, 1);
    for (uint32_t i = 0; i < count; i++)
        put_string(out, texts[i]);
}

void cluster_encode(const struct cluster *c, struct buf *out)
{
    size_t start = out->size;
    put_uint(out, ENCODING_VERSION, 1);
    put_uint(out, c->id, 8);
    put_uint(out, c->members_count, 1);
    for (uint32_t i = 0; i < c->members_count; i++) {
        const struct cluster_member *m = &c->members[i];
        put_uint(out, m->id, 8);
        put_uint(out,
                 (m->learner ? FLAG_LEARNER : 0u) | (m->started ? FLAG_STARTED : 0u) |
                     (m->replacement ? FLAG_REPLACEMENT : 0u),
                 1);
        put_string(out, m->name);
        put_strings(out, m->peer_urls, m->peer_urls_count);
        put_strings(out, m->client_urls, m->client_urls_count);
    }
    put_uint(out, c->removed_count, 2);
    for (uint32_t i = 0; i < c->removed_count; i++)
        put_uint(out, c->removed[i], 8);
    int err = raft_membership_encode(&c->raft, out);
    ASSERT(err == 0);
    put_uint(out, crc32c(0, out->data + start, out->size - start), 4);
}

/* What is left to read; after an error nothing, and `bad`. */
struct reader {
    struct slice rest;
    bool bad;
};

static uint64_t get_uint(struct reader *r, uint32_t size)
{
    if (r->rest.size < size) {
        *r = (struct reader){.bad = true};
        return 0;
    }
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++)
        value |= (uint64_t)r->rest.data[i] << (8 * i);
    r->rest = slice_of(r->rest.data + size, r->rest.size - size);
    return value;
}

/* NULL after an error. A NUL inside would cut the string short: also an error. */
static char *get_string(struct reader *r)
{
    size_t size = get_uint(r, 4);
    if (r->bad || size > r->rest.size || memchr(r->rest.data, '\0', size) != NULL) {
        *r = (struct reader){.bad = true};
        return NULL;
    }
    char *text = string_of(slice_of(r->rest.data, size));
    r->rest = slice_of(r->rest.data + size, r->rest.size - size);
    return text;
}

static void get_strings(struct reader *r, char **ret_texts, uint32_t *ret_count)
{
    uint64_t count = get_uint(r, 1);
    if (count > CLUSTER_URLS_MAX)
        *r = (struct reader){.bad = true};
    while (!r->bad && *ret_count < count) {
        char *text = get_string(r);
        if (text != NULL)
            ret_texts[(*ret_count)++] = text;
    }
}

static void get_member(struct reader *r, struct cluster *c)
{
    struct cluster_member *m = member_add(c, "");
    m->id = get_uint(r, 8);
    uint64_t flags = get_uint(r, 1);
    m->learner = (flags & FLAG_LEARNER) != 0;
    m->started = (flags & FLAG_STARTED) != 0;
    m->replacement = (flags & FLAG_REPLACEMENT) != 0;
    char *name = get_string(r);
    if (name != NULL) {
        mem_free(m->name);
        m->name = name;
    }
    get_strings(r, m->peer_urls, &m->peer_urls_count);
    /* There will be connections to it. */
    if (m->peer_urls_count == 0)
        r->bad = true;
    for (uint32_t i = 0; i < m->peer_urls_count; i++)
        if (!url_is_valid(slice_of_string(m->peer_urls[i])))
            r->bad = true;
    get_strings(r, m->client_urls, &m->client_urls_count);
    bool in_order = c->members_count == 1 || c->members[c->members_count - 2].id < m->id;
    if (!in_order || m->id == 0)
        r->bad = true;
}

int cluster_decode(struct slice encoded, struct cluster *ret)
{
    *ret = (struct cluster){0};
    if (encoded.size < 4)
        return TV_ECORRUPT;
    struct reader tail = {.rest = slice_of(encoded.data + encoded.size - 4, 4)};
    if (get_uint(&tail, 4) != crc32c(0, encoded.data, encoded.size - 4))
        return TV_ECORRUPT;
    struct reader r = {.rest = slice_of(encoded.data, encoded.size - 4)};
    if (get_uint(&r, 1) != ENCODING_VERSION)
        return TV_ECORRUPT;
    ret->id = get_uint(&r, 8);
    uint64_t count = get_uint(&r, 1);
    if (count == 0 || count > CLUSTER_MEMBERS_MAX)
        r.bad = true;
    while (!r.bad && ret->members_count < count)
        get_member(&r, ret);
    uint64_t removed = get_uint(&r, 2);
    for (uint64_t i = 0; !r.bad && i < removed && i < CLUSTER_REMOVED_MAX; i++)
        remember_removed(ret, get_uint(&r, 8));
    if (!r.bad && raft_membership_decode(r.rest, &ret->raft) == 0)
        return 0;
    cluster_fini(ret);
    return TV_ECORRUPT;
}

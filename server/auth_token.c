#include "server/auth_token.h"

#include "server/auth_jwt.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/u64map.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>

enum { OPTIONS_MAX = 16 };

struct simple_token {
    struct list link;
    uint64_t log_index; /* which no other has */
    uint64_t ends_ms;
    uint32_t token_size;
    uint32_t user_size;
    uint8_t bytes[]; /* the token, then the user */
};

struct auth_tokens {
    enum auth_token_kind kind;
    struct auth_jwt *jwt;
    uint64_t ttl_ms;
    pthread_mutex_t lock; /* over what follows */
    struct u64map by_index;
    struct list by_use; /* that of the longest ago first: all live equally long */
};

/* --- --auth-token --- */

static struct slice next_part(struct slice *rest, char separator)
{
    size_t size = 0;
    while (size < rest->size && rest->data[size] != (uint8_t)separator)
        size++;
    struct slice part = slice_of(rest->data, size);
    /* Past the end: nothing is left, not even an empty part. */
    *rest =
        size == rest->size ? SLICE_EMPTY : slice_of(rest->data + size + 1, rest->size - size - 1);
    return part;
}

/* False: not all are name=value, or one comes twice. */
static bool parse_options(struct slice spec, struct auth_jwt_option *ret, uint32_t *ret_count)
{
    *ret_count = 0;
    while (spec.data != NULL) {
        struct slice value = next_part(&spec, ',');
        struct slice name = next_part(&value, '=');
        bool twice = false;
        if (value.data == NULL || memchr(value.data, '=', value.size) != NULL)
            return false;
        for (uint32_t i = 0; i < *ret_count; i++)
            twice |= slice_equal(ret[i].name, name);
        if (twice || *ret_count == OPTIONS_MAX)
            return false;
        ret[(*ret_count)++] = (struct auth_jwt_option){.name = name, .value = value};
    }
    return true;
}

struct auth_tokens *auth_tokens_new(const char *spec, uint64_t ttl_ms, char *err_text,
                                    size_t err_size)
{
    struct auth_jwt_option options[OPTIONS_MAX];
    uint32_t count;
    struct slice rest = slice_of_string(spec);
    struct slice type = next_part(&rest, ',');
    bool simple = slice_equal(type, SLICE_LITERAL("simple"));
    bool is_jwt = slice_equal(type, SLICE_LITERAL("jwt"));
    snprintf(err_text, err_size, "%s", tv_err_text(TV_INVALID_AUTH_OPTS));
    if (!parse_options(rest, options, &count)) {
        log_error("invalid token option", LOG_STR("option", spec));
        return NULL;
    }
    if (!simple && !is_jwt && type.size > 0) {
        log_warn("unknown token type", LOG_SLICE("type", type));
        return NULL;
    }
    struct auth_jwt *jwt = NULL;
    if (is_jwt && (jwt = auth_jwt_new(options, count, err_text, err_size)) == NULL)
        return NULL;
    struct auth_tokens *t = mem_alloc_zero(sizeof(*t));
    t->kind = simple ? AUTH_TOKEN_SIMPLE : is_jwt ? AUTH_TOKEN_JWT : AUTH_TOKEN_NONE;
    t->jwt = jwt;
    t->ttl_ms = ttl_ms == 0 ? AUTH_TOKEN_TTL_MS_DEFAULT : ttl_ms;
    (void)pthread_mutex_init(&t->lock, NULL);
    u64map_init(&t->by_index);
    list_init(&t->by_use);
    return t;
}

void auth_tokens_free(struct auth_tokens *t)
{
    auth_tokens_forget_all(t);
    u64map_fini(&t->by_index);
    (void)pthread_mutex_destroy(&t->lock);
    if (t->jwt != NULL)
        auth_jwt_free(t->jwt);
    mem_free(t);
}

enum auth_token_kind auth_tokens_kind(const struct auth_tokens *t)
{
    return t->kind;
}

/* --- simple tokens; the lock is held --- */

static struct slice user_of(const struct simple_token *s)
{
    return slice_of(s->bytes + s->token_size, s->user_size);
}

static void drop(struct auth_tokens *t, struct simple_token *s)
{
    list_remove(&s->link);
    (void)u64map_remove(&t->by_index, s->log_index);
    OPENSSL_cleanse(s->bytes, s->token_size);
    mem_free(s);
}

static void drop_old(struct auth_tokens *t, uint64_t now_ms)
{
    while (!list_is_empty(&t->by_use)) {
        struct simple_token *s = CONTAINER_OF(t->by_use.next, struct simple_token, link);
        if (s->ends_ms >= now_ms && t->by_index.count < AUTH_TOKENS_MAX)
            return;
        drop(t, s);
    }
}

/* letters.index */
static bool parse_index(struct slice token, uint64_t *ret)
{
    size_t at = 0;
    while (at < token.size && token.data[at] != '.')
        at++;
    if (at + 1 >= token.size)
        return false;
    uint64_t index = 0;
    for (at++; at < token.size; at++) {
        uint8_t c = token.data[at];
        if (c < '0' || c > '9' || index > (UINT64_MAX - (uint64_t)(c - '0')) / 10)
            return false;
        index = index * 10 + (uint64_t)(c - '0');
    }
    *ret = index;
    return true;
}

static struct simple_token *find(struct auth_tokens *t, struct slice token)
{
    uint64_t index;
    if (!parse_index(token, &index) || index == 0)
        return NULL;
    struct simple_token *s = u64map_get(&t->by_index, index);
    if (s == NULL || s->token_size != token.size ||
        CRYPTO_memcmp(s->bytes, token.data, token.size) != 0)
        return NULL;
    return s;
}

static int identify_simple(struct auth_tokens *t, struct slice token, uint64_t now_ms,
                           struct buf *ret_user)
{
    struct simple_token *s = find(t, token);
    if (s == NULL)
        return TV_INVALID_AUTH_TOKEN;
    if (s->ends_ms < now_ms) {
        drop(t, s);
        return TV_INVALID_AUTH_TOKEN;
    }
    s->ends_ms = now_ms + t->ttl_ms;
    list_remove(&s->link);
    list_push_back(&t->by_use, &s->link);
    struct slice user = user_of(s);
    int err = buf_append(ret_user, user.data, user.size);
    ASSERT(err == 0);
    return 0;
}

/* --- the rest --- */

int auth_tokens_identify(struct auth_tokens *t, struct slice token, uint64_t now_ms, int64_t now_s,
                         struct buf *ret_user, uint64_t *ret_revision)
{
    buf_clear(ret_user);
    *ret_revision = 0;
    if (t->kind == AUTH_TOKEN_NONE)
        return TV_INVALID_AUTH_TOKEN;
    if (t->kind == AUTH_TOKEN_JWT)
        return auth_jwt_verify(t->jwt, token, now_s, ret_user, ret_revision);
    (void)pthread_mutex_lock(&t->lock);
    int err = identify_simple(t, token, now_ms, ret_user);
    (void)pthread_mutex_unlock(&t->lock);
    return err;
}

uint64_t auth_tokens_index(const struct auth_tokens *t, struct slice token)
{
    uint64_t index;
    return t->kind == AUTH_TOKEN_SIMPLE && parse_index(token, &index) ? index : 0;
}

int auth_token_letters(char ret[AUTH_TOKEN_LETTERS])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    enum { LETTERS = sizeof(letters) - 1, FAIR = 256 / LETTERS * LETTERS };
    uint32_t count = 0;
    while (count < AUTH_TOKEN_LETTERS) {
        uint8_t bytes[2 * AUTH_TOKEN_LETTERS];
        if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
            return TV_EIO;
        for (size_t i = 0; i < sizeof(bytes) && count < AUTH_TOKEN_LETTERS; i++)
            if (bytes[i] < FAIR)
                ret[count++] = letters[bytes[i] % LETTERS];
    }
    return 0;
}

int auth_tokens_sign(const struct auth_tokens *t, struct slice user, uint64_t revision,
                     int64_t now_s, struct buf *ret)
{
    if (t->kind == AUTH_TOKEN_NONE)
        return TV_INVALID_AUTH_OPTS;
    ASSERT(t->kind == AUTH_TOKEN_JWT);
    return auth_jwt_sign(t->jwt, user, revision, now_s, ret);
}

void auth_tokens_assign(struct auth_tokens *t, struct slice user, struct slice letters,
                        uint64_t log_index, uint64_t now_ms, struct buf *ret)
{
    char index[24];
    if (t->kind != AUTH_TOKEN_SIMPLE)
        return;
    size_t begin = ret->size;
    int size = snprintf(index, sizeof(index), ".%" PRIu64, log_index);
    int err = buf_append(ret, letters.data, letters.size);
    ASSERT(err == 0);
    err = buf_append(ret, index, (size_t)size);
    ASSERT(err == 0);
    struct slice token = slice_of(ret->data + begin, ret->size - begin);
    struct simple_token *s = mem_alloc(sizeof(*s) + token.size + user.size);
    *s = (struct simple_token){.log_index = log_index,
                               .ends_ms = now_ms + t->ttl_ms,
                               .token_size = (uint32_t)token.size,
                               .user_size = (uint32_t)user.size};
    memcpy(s->bytes, token.data, token.size);
    if (user.size > 0)
        memcpy(s->bytes + token.size, user.data, user.size);
    list_init(&s->link);

    (void)pthread_mutex_lock(&t->lock);
    drop_old(t, now_ms);
    struct simple_token *before = u64map_get(&t->by_index, log_index);
    if (before != NULL)
        drop(t, before); /* the entry is applied again */
    u64map_put(&t->by_index, log_index, s);
    list_push_back(&t->by_use, &s->link);
    (void)pthread_mutex_unlock(&t->lock);
}

void auth_tokens_forget_user(struct auth_tokens *t, struct slice user)
{
    (void)pthread_mutex_lock(&t->lock);
    LIST_EACH_SAFE (it, after, &t->by_use) {
        struct simple_token *s = CONTAINER_OF(it, struct simple_token, link);
        if (slice_equal(user_of(s), user))
            drop(t, s);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

void auth_tokens_forget_all(struct auth_tokens *t)
{
    (void)pthread_mutex_lock(&t->lock);
    LIST_EACH_SAFE (it, after, &t->by_use)
        drop(t, CONTAINER_OF(it, struct simple_token, link));
    (void)pthread_mutex_unlock(&t->lock);
}

uint64_t auth_tokens_count(struct auth_tokens *t)
{
    (void)pthread_mutex_lock(&t->lock);
    uint64_t count = t->by_index.count;
    (void)pthread_mutex_unlock(&t->lock);
    return count;
}

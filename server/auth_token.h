/* Tokens: what a client shows with each call once it has given its password.
 *
 * Simple ones (the default) are 16 random letters, a dot, and the index of the log's entry by which
 * they were given out: all members learn them when they apply it. One lives for a while after its
 * last use at this member, and none outlives the process, but for those whose entries are applied
 * again. At most AUTH_TOKENS_MAX are kept; then the one goes that was used longest ago.
 * JSON web tokens: see auth_jwt.h.
 *
 * This is no replicated state: what members hold may differ.
 *
 * Thread: any. Source: etcd server/auth/simple_token.go. */
#ifndef SERVER_AUTH_TOKEN_H
#define SERVER_AUTH_TOKEN_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    AUTH_TOKENS_MAX = 65536,
    AUTH_TOKEN_LETTERS = 16,
    AUTH_TOKEN_TTL_MS_DEFAULT = 300000,
};

enum auth_token_kind {
    AUTH_TOKEN_SIMPLE,
    AUTH_TOKEN_JWT,
    AUTH_TOKEN_NONE, /* --auth-token '': nobody gets one */
};

struct auth_tokens;

/* What --auth-token says; `ttl_ms` is for simple tokens, 0 the default. NULL with etcd's words in
 * err_text when it is no such thing. */
struct auth_tokens *auth_tokens_new(const char *spec, uint64_t ttl_ms, char *err_text,
                                    size_t err_size);
void auth_tokens_free(struct auth_tokens *t);
enum auth_token_kind auth_tokens_kind(const struct auth_tokens *t);

/* Who shows the token; he is copied to *ret_user, which is cleared first. *ret_revision is that of
 * a JSON web token, 0 for a simple one. `now_ms` is monotonic, `now_s` since 1970.
 * Errors: TV_INVALID_AUTH_TOKEN. */
int auth_tokens_identify(struct auth_tokens *t, struct slice token, uint64_t now_ms, int64_t now_s,
                         struct buf *ret_user, uint64_t *ret_revision);
/* The entry of the log by which it was given out, so that this member may not have heard of it yet;
 * 0 when that cannot be. */
uint64_t auth_tokens_index(const struct auth_tokens *t, struct slice token);

/* Random letters for a simple token. Errors: TV_EIO. */
int auth_token_letters(char ret[AUTH_TOKEN_LETTERS]);
/* Appends a JSON web token; errors as auth_jwt_sign(); TV_INVALID_AUTH_OPTS: AUTH_TOKEN_NONE. */
int auth_tokens_sign(const struct auth_tokens *t, struct slice user, uint64_t revision,
                     int64_t now_s, struct buf *ret);

/* --- when entries are applied; of simple tokens, else without effect --- */

/* Appends the token to *ret. */
void auth_tokens_assign(struct auth_tokens *t, struct slice user, struct slice letters,
                        uint64_t log_index, uint64_t now_ms, struct buf *ret);
void auth_tokens_forget_user(struct auth_tokens *t, struct slice user);
void auth_tokens_forget_all(struct auth_tokens *t);
uint64_t auth_tokens_count(struct auth_tokens *t);

#endif

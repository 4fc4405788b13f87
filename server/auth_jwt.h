/* JSON web tokens (RFC 7519): who has one that is signed with the cluster's key is the user that it
 * names, until it expires. Nothing is kept of them, so any member takes any token, also after a
 * restart; and none can be taken back.
 *
 * Claims: "username", "revision" (of auth, when it was made), "exp"; "nbf" is heeded.
 *
 * Thread: any. Source: etcd server/auth/jwt.go, options.go; RFC 7515, 7518, 8037. */
#ifndef SERVER_AUTH_JWT_H
#define SERVER_AUTH_JWT_H

#include "base/buf.h"

struct auth_jwt;

/* One option of --auth-token jwt,name=value,... */
struct auth_jwt_option {
    struct slice name;
    struct slice value;
};

/* Reads the key files. NULL with etcd's words in err_text when that cannot be done. */
struct auth_jwt *auth_jwt_new(const struct auth_jwt_option *options, uint32_t options_count,
                              char *err_text, size_t err_size);
void auth_jwt_free(struct auth_jwt *j);

/* Appends the token to *ret. `now_s` since 1970. Errors: TV_AUTH_VERIFY_ONLY: there is no private
 * key; TV_EIO. */
int auth_jwt_sign(const struct auth_jwt *j, struct slice username, uint64_t revision, int64_t now_s,
                  struct buf *ret);
/* *ret_username is cleared and filled. Errors: TV_INVALID_AUTH_TOKEN, whatever the reason. */
int auth_jwt_verify(const struct auth_jwt *j, struct slice token, int64_t now_s,
                    struct buf *ret_username, uint64_t *ret_revision);

#endif

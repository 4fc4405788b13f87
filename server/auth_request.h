/* The messages of etcdserverpb.Auth, and what becomes of them on the log.
 *
 * Thread: any; nothing here has state. */
#ifndef SERVER_AUTH_REQUEST_H
#define SERVER_AUTH_REQUEST_H

#include "state/auth.h"

/* The fields of all of them. Slices into the message. */
struct auth_request {
    struct slice name; /* a user's, or of those about roles alone the role's */
    struct slice role; /* of those about both */
    struct slice password;
    struct slice hashed_password; /* base64 of the hash */
    struct slice letters;         /* InternalAuthenticateRequest: of a simple token */
    bool has_options;
    bool no_password;
    bool has_permission;
    struct auth_permission permission; /* of ROLE_REVOKE_PERMISSION without a kind */
};

/* Is it one of those (enum wire_raft_kind)? */
bool auth_request_is_kind(uint32_t kind);
/* `kind` says which message it is. Errors: TV_EMALFORMED; TV_EINVAL: a string that is not UTF-8. */
int auth_request_decode(uint32_t kind, struct slice msg, struct auth_request *ret);
/* USER_ADD and USER_CHANGE_PASSWORD, with the hash and without the password; AUTHENTICATE without
 * it, too. */
size_t auth_request_size(uint32_t kind, const struct auth_request *r);
uint8_t *auth_request_put(uint8_t *dst, uint32_t kind, const struct auth_request *r);

#endif

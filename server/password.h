/* Passwords: bcrypt, as etcd has it. Slow on purpose (a tenth of a second with the default cost),
 * so none of this is called on a loop.
 *
 * Thread: any; nothing here has state. Source: etcd server/auth/store.go,
 * golang.org/x/crypto/bcrypt.
 */
#ifndef SERVER_PASSWORD_H
#define SERVER_PASSWORD_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PASSWORD_BYTES_MAX = 72, /* bcrypt's */
    PASSWORD_HASH_BYTES = 60,
    PASSWORD_COST_MIN = 4,
    PASSWORD_COST_MAX = 31,
    PASSWORD_COST_DEFAULT = 10,
};

/* May it be set? Errors: TV_PASSWORD_TOO_LONG, TV_PASSWORD_HAS_NUL: libcrypt would not see what is
 * behind it. */
int password_validate(struct slice password);
/* "$2a$10$...", with a salt of its own; of a valid password. Errors: TV_EIO: no entropy. */
int password_hash(struct slice password, uint32_t cost, char ret_hash[PASSWORD_HASH_BYTES]);
/* False, too, when `hash` is none. */
bool password_matches(struct slice password, struct slice hash);

#endif

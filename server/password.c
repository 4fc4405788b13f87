#include "server/password.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <crypt.h>
#include <openssl/crypto.h>

enum { MINOR_AT = 2, HASH_DOLLAR_AT = 6, SALT_END = 29 };

int password_validate(struct slice password)
{
    if (password.size > PASSWORD_BYTES_MAX)
        return TV_PASSWORD_TOO_LONG;
    if (password.size > 0 && memchr(password.data, 0, password.size) != NULL)
        return TV_PASSWORD_HAS_NUL;
    return 0;
}

/* The hash with this salt and cost, `setting` being a hash or the beginning of one. All of the
 * letters of bcrypt name the same function for us; libcrypt's $2a$ is made to differ from it for
 * some passwords, its $2b$ is not. */
static bool hash_with(struct slice password, const char *setting, char ret[PASSWORD_HASH_BYTES])
{
    char text[PASSWORD_BYTES_MAX + 1], like[PASSWORD_HASH_BYTES + 1];
    size_t size = password.size < PASSWORD_BYTES_MAX ? password.size : PASSWORD_BYTES_MAX;
    if (size > 0)
        memcpy(text, password.data, size);
    text[size] = '\0';
    memcpy(like, setting, SALT_END);
    like[SALT_END] = '\0';
    like[MINOR_AT] = 'b';
    struct crypt_data *data = mem_alloc_zero(sizeof(*data));
    const char *hash = crypt_rn(text, like, data, sizeof(*data));
    bool ok = hash != NULL && strlen(hash) == PASSWORD_HASH_BYTES;
    if (ok)
        memcpy(ret, hash, PASSWORD_HASH_BYTES);
    OPENSSL_cleanse(data, sizeof(*data));
    OPENSSL_cleanse(text, sizeof(text));
    mem_free(data);
    return ok;
}

int password_hash(struct slice password, uint32_t cost, char ret_hash[PASSWORD_HASH_BYTES])
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    ASSERT(password_validate(password) == 0);
    ASSERT(cost >= PASSWORD_COST_MIN && cost <= PASSWORD_COST_MAX);
    if (crypt_gensalt_rn("$2b$", cost, NULL, 0, setting, sizeof(setting)) == NULL ||
        strlen(setting) != SALT_END || !hash_with(password, setting, ret_hash))
        return TV_EIO;
    ret_hash[MINOR_AT] = 'a'; /* as etcd writes it */
    return 0;
}

bool password_matches(struct slice password, struct slice hash)
{
    char made[PASSWORD_HASH_BYTES];
    if (hash.size != PASSWORD_HASH_BYTES || memcmp(hash.data, "$2", 2) != 0 ||
        hash.data[HASH_DOLLAR_AT] != '$')
        return false;
    if (password.size > 0 && memchr(password.data, 0, password.size) != NULL)
        return false; /* none such can have been set */
    if (!hash_with(password, (const char *)hash.data, made))
        return false;
    return CRYPTO_memcmp(made + SALT_END, hash.data + SALT_END, PASSWORD_HASH_BYTES - SALT_END) ==
           0;
}

#include "server/auth_jwt.h"

#include "server/config.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>

enum {
    TTL_MS_DEFAULT = 300000,
    KEY_FILE_BYTES_MAX = 1 << 20,
    TOKEN_BYTES_MAX = 64 << 10,
    SIGNATURE_BYTES_MAX = 2048, /* RSA with 16384 bits */
};

enum family { FAMILY_HMAC, FAMILY_RSA, FAMILY_PSS, FAMILY_EC, FAMILY_ED };

struct method {
    const char *name;
    enum family family;
    const char *digest;
    uint32_t curve_bits;
};

static const struct method methods[] = {
    {"HS256", FAMILY_HMAC, "SHA256", 0}, {"HS384", FAMILY_HMAC, "SHA384", 0},
    {"HS512", FAMILY_HMAC, "SHA512", 0}, {"RS256", FAMILY_RSA, "SHA256", 0},
    {"RS384", FAMILY_RSA, "SHA384", 0},  {"RS512", FAMILY_RSA, "SHA512", 0},
    {"PS256", FAMILY_PSS, "SHA256", 0},  {"PS384", FAMILY_PSS, "SHA384", 0},
    {"PS512", FAMILY_PSS, "SHA512", 0},  {"ES256", FAMILY_EC, "SHA256", 256},
    {"ES384", FAMILY_EC, "SHA384", 384}, {"ES512", FAMILY_EC, "SHA512", 521},
    {"EdDSA", FAMILY_ED, NULL, 0},
};

struct auth_jwt {
    const struct method *method;
    uint64_t ttl_ms;
    bool verify_only;
    EVP_PKEY *key;     /* NULL for HMAC */
    struct buf secret; /* HMAC's */
};

/* --- options --- */

static const char *const option_names[] = {"sign-method", "pub-key", "priv-key", "ttl"};
enum { OPTION_METHOD, OPTION_PUBLIC, OPTION_PRIVATE, OPTION_TTL, OPTIONS_COUNT };

static int refuse(char *err_text, size_t err_size, const char *why)
{
    snprintf(err_text, err_size, "%s", why);
    return TV_EINVAL;
}

/* What etcd says in its log, and what it ends with. */
static int refuse_option(char *err_text, size_t err_size, const char *why)
{
    log_error("problem loading JWT options", LOG_STR("error", why));
    return refuse(err_text, err_size, tv_err_text(TV_INVALID_AUTH_OPTS));
}

static int read_file(struct slice path, struct buf *ret)
{
    char name[4096], chunk[4096];
    if (path.size >= sizeof(name))
        return TV_EINVAL;
    memcpy(name, path.data, path.size);
    name[path.size] = '\0';
    FILE *f = fopen(name, "re");
    if (f == NULL)
        return TV_EIO;
    int err = 0;
    size_t got;
    while (err == 0 && (got = fread(chunk, 1, sizeof(chunk), f)) > 0)
        err = buf_append(ret, chunk, got);
    if (ferror(f) != 0)
        err = TV_EIO;
    fclose(f);
    OPENSSL_cleanse(chunk, sizeof(chunk));
    return err;
}

static const struct method *find_method(struct slice name)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (slice_equal(name, slice_of_string(methods[i].name)))
            return &methods[i];
    return NULL;
}

static EVP_PKEY *parse_private(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return key;
}

/* A public key, or a certificate with one. */
static EVP_PKEY *parse_public(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    EVP_PKEY *key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (key != NULL)
        return key;
    bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (cert != NULL)
        key = X509_get_pubkey(cert);
    X509_free(cert);
    return key;
}

static bool fits(const struct method *m, const EVP_PKEY *key)
{
    switch (m->family) {
    case FAMILY_RSA:
    case FAMILY_PSS:
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    case FAMILY_EC:
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
               (uint32_t)EVP_PKEY_get_bits(key) == m->curve_bits;
    case FAMILY_ED:
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    case FAMILY_HMAC:
        break;
    }
    return false;
}

static int take_keys(struct auth_jwt *j, struct slice pub, struct slice priv, char *err_text,
                     size_t err_size)
{
    if (j->method->family == FAMILY_HMAC) {
        if (priv.size == 0)
            return refuse(err_text, err_size, "auth: missing key data");
        return buf_append(&j->secret, priv.data, priv.size);
    }
    EVP_PKEY *public_key = pub.size == 0 ? NULL : parse_public(pub);
    j->key = priv.size == 0 ? NULL : parse_private(priv);
    int err = 0;
    if ((priv.size > 0 && (j->key == NULL || !fits(j->method, j->key))) ||
        (pub.size > 0 && (public_key == NULL || !fits(j->method, public_key))))
        err = refuse(err_text, err_size,
                     "invalid key: it does not parse, or is of another kind "
                     "than the signing method");
    else if (j->key == NULL && public_key == NULL)
        err = refuse(err_text, err_size, "auth: missing key data");
    else if (j->key != NULL && public_key != NULL && EVP_PKEY_eq(j->key, public_key) != 1)
        err = refuse(err_text, err_size, "auth: public and private keys don't match");
    j->verify_only = j->key == NULL;
    if (j->key == NULL)
        j->key = public_key;
    else
        EVP_PKEY_free(public_key);
    return err;
}

static int load_keys(struct auth_jwt *j, const struct slice *values, char *err_text,
                     size_t err_size)
{
    struct buf pub, priv;
    buf_init(&pub, KEY_FILE_BYTES_MAX);
    buf_init(&priv, KEY_FILE_BYTES_MAX);
    int err;
    if ((values[OPTION_PUBLIC].size > 0 && read_file(values[OPTION_PUBLIC], &pub) != 0) ||
        (values[OPTION_PRIVATE].size > 0 && read_file(values[OPTION_PRIVATE], &priv) != 0))
        err = refuse_option(err_text, err_size, "a key file cannot be read");
    else if ((j->method = find_method(values[OPTION_METHOD])) == NULL)
        err = refuse_option(err_text, err_size, "auth: invalid auth signature method");
    else
        err = take_keys(j, buf_slice(&pub), buf_slice(&priv), err_text, err_size);
    OPENSSL_cleanse(priv.data, priv.size);
    buf_fini(&pub);
    buf_fini(&priv);
    return err;
}

static int take_options(struct auth_jwt *j, const struct auth_jwt_option *options, uint32_t count,
                        char *err_text, size_t err_size)
{
    struct slice values[OPTIONS_COUNT] = {{0}};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = 0;
        while (at < OPTIONS_COUNT &&
               !slice_equal(options[i].name, slice_of_string(option_names[at])))
            at++;
        if (at < OPTIONS_COUNT)
            values[at] = options[i].value;
        else
            log_warn("unknown JWT options", LOG_SLICE("keys", options[i].name));
    }
    char ttl[64];
    j->ttl_ms = TTL_MS_DEFAULT;
    if (values[OPTION_TTL].size > 0) {
        snprintf(ttl, sizeof(ttl), "%.*s", (int)values[OPTION_TTL].size, values[OPTION_TTL].data);
        int64_t ttl_ns;
        if (values[OPTION_TTL].size >= sizeof(ttl) || config_parse_duration(ttl, &ttl_ns) != 0 ||
            ttl_ns < 0)
            return refuse_option(err_text, err_size, "time: invalid duration");
        j->ttl_ms = (uint64_t)ttl_ns / 1000000;
    }
    return load_keys(j, values, err_text, err_size);
}

struct auth_jwt *auth_jwt_new(const struct auth_jwt_option *options, uint32_t options_count,
                              char *err_text, size_t err_size)
{
    struct auth_jwt *j = mem_alloc_zero(sizeof(*j));
    buf_init(&j->secret, KEY_FILE_BYTES_MAX);
    if (take_options(j, options, options_count, err_text, err_size) == 0)
        return j;
    auth_jwt_free(j);
    return NULL;
}

void auth_jwt_free(struct auth_jwt *j)
{
    EVP_PKEY_free(j->key);
    OPENSSL_cleanse(j->secret.data, j->secret.size);
    buf_fini(&j->secret);
    mem_free(j);
}

/* --- signatures --- */

static bool set_padding(const struct method *m, EVP_PKEY_CTX *ctx, int salt_size)
{
    if (m->family != FAMILY_PSS)
        return true;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt_size) == 1;
}

static const EVP_MD *digest_of(const struct method *m)
{
    return m->digest == NULL ? NULL : EVP_get_digestbyname(m->digest);
}

static bool sign_hmac(const struct auth_jwt *j, struct slice text, uint8_t *ret, size_t *size)
{
    unsigned int got = 0;
    if (HMAC(digest_of(j->method), j->secret.data, (int)j->secret.size, text.data, text.size, ret,
             &got) == NULL)
        return false;
    *size = got;
    return true;
}

/* The two numbers of an ECDSA signature: side by side here, ASN.1 in OpenSSL. */
static size_t number_size(const struct method *m)
{
    return (m->curve_bits + 7) / 8;
}

static bool flatten(const struct method *m, uint8_t *signature, size_t *size)
{
    const uint8_t *p = signature;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)*size);
    size_t half = number_size(m);
    bool ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), signature, (int)half) >= 0 &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), signature + half, (int)half) >= 0;
    *size = 2 * half;
    ECDSA_SIG_free(sig);
    return ok;
}

static bool unflatten(const struct method *m, struct slice flat, uint8_t *ret, size_t *size)
{
    size_t half = number_size(m);
    if (flat.size != 2 * half)
        return false;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(flat.data, (int)half, NULL);
    BIGNUM *s = BN_bin2bn(flat.data + half, (int)half, NULL);
    bool ok = ECDSA_SIG_set0(sig, r, s) == 1;
    int der_size = ok ? i2d_ECDSA_SIG(sig, NULL) : -1;
    ok = der_size > 0 && der_size <= SIGNATURE_BYTES_MAX;
    if (ok)
        *size = (size_t)i2d_ECDSA_SIG(sig, &ret);
    ECDSA_SIG_free(sig);
    return ok;
}

/* `ret` has room for SIGNATURE_BYTES_MAX. */
static bool make_signature(const struct auth_jwt *j, struct slice text, uint8_t *ret, size_t *size)
{
    if (j->method->family == FAMILY_HMAC)
        return sign_hmac(j, text, ret, size);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey = NULL;
    *size = SIGNATURE_BYTES_MAX;
    bool ok = EVP_DigestSignInit(ctx, &pkey, digest_of(j->method), NULL, j->key) == 1 &&
              set_padding(j->method, pkey, RSA_PSS_SALTLEN_DIGEST) &&
              EVP_DigestSign(ctx, ret, size, text.data, text.size) == 1 &&
              (j->method->family != FAMILY_EC || flatten(j->method, ret, size));
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool signature_is_good(const struct auth_jwt *j, struct slice text, struct slice signature)
{
    uint8_t bytes[SIGNATURE_BYTES_MAX];
    size_t size;
    if (j->method->family == FAMILY_HMAC)
        return sign_hmac(j, text, bytes, &size) && size == signature.size &&
               CRYPTO_memcmp(bytes, signature.data, size) == 0;
    if (j->method->family == FAMILY_EC) {
        if (!unflatten(j->method, signature, bytes, &size))
            return false;
        signature = slice_of(bytes, size);
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey = NULL;
    bool ok = EVP_DigestVerifyInit(ctx, &pkey, digest_of(j->method), NULL, j->key) == 1 &&
              set_padding(j->method, pkey, RSA_PSS_SALTLEN_AUTO) &&
              EVP_DigestVerify(ctx, signature.data, signature.size, text.data, text.size) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* --- tokens --- */

static void put_text(struct buf *b, const char *text)
{
    int err = buf_append(b, text, strlen(text));
    ASSERT(err == 0);
}

static void put_json_string(struct buf *b, struct slice s)
{
    char escape[8];
    put_text(b, "\"");
    for (size_t i = 0; i < s.size; i++) {
        uint8_t c = s.data[i];
        if (c < ' ' || c == '"' || c == '\\') {
            snprintf(escape, sizeof(escape), "\\u%04x", c);
            put_text(b, escape);
        } else {
            (void)buf_append(b, &c, 1);
        }
    }
    put_text(b, "\"");
}

static void put_claims(const struct auth_jwt *j, struct slice username, uint64_t revision,
                       int64_t now_s, struct buf *ret)
{
    char numbers[96];
    snprintf(numbers, sizeof(numbers),
             "{\"exp\":%" PRId64 ",\"revision\":%" PRIu64 ",\"username\":",
             now_s + (int64_t)(j->ttl_ms / 1000), revision);
    put_text(ret, numbers);
    put_json_string(ret, username);
    put_text(ret, "}");
}

int auth_jwt_sign(const struct auth_jwt *j, struct slice username, uint64_t revision, int64_t now_s,
                  struct buf *ret)
{
    if (j->verify_only)
        return TV_AUTH_VERIFY_ONLY;
    char header[64];
    struct buf claims;
    size_t begin = ret->size;
    snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"typ\":\"JWT\"}", j->method->name);
    buf_init(&claims, SIZE_MAX);
    put_claims(j, username, revision, now_s, &claims);
    base64_encode(slice_of_string(header), BASE64_URL, ret);
    put_text(ret, ".");
    base64_encode(buf_slice(&claims), BASE64_URL, ret);
    buf_fini(&claims);

    uint8_t signature[SIGNATURE_BYTES_MAX];
    size_t size;
    if (!make_signature(j, slice_of(ret->data + begin, ret->size - begin), signature, &size)) {
        ret->size = begin;
        return TV_EIO;
    }
    put_text(ret, ".");
    base64_encode(slice_of(signature, size), BASE64_URL, ret);
    return 0;
}

/* The parts between two dots; false when there are not just two. */
static bool split(struct slice token, struct slice parts[3])
{
    uint32_t count = 0;
    size_t from = 0;
    for (size_t i = 0; i <= token.size; i++) {
        if (i < token.size && token.data[i] != '.')
            continue;
        if (count == 3)
            return false;
        parts[count++] = slice_of(token.data + from, i - from);
        from = i + 1;
    }
    return count == 3;
}

static bool header_is_ours(const struct auth_jwt *j, struct slice text)
{
    struct slice header, name, value;
    bool ours = false;
    if (json_scan_whole(text, &header) != 0 || json_kind(header) != JSON_OBJECT)
        return false;
    struct json_walk w = json_walk_of(header);
    while (json_walk_next(&w, &name, &value))
        if (json_string_is(name, "alg"))
            ours = json_string_is(value, j->method->name);
    return ours;
}

struct claims {
    bool has_username;
    bool has_revision;
    bool bad;
    double revision;
    double exp; /* 0: none */
    double nbf;
};

static void take_claim(struct slice name, struct slice value, struct claims *c,
                       struct buf *ret_username)
{
    bool is_exp = json_string_is(name, "exp");
    if (json_string_is(name, "username")) {
        c->has_username = json_kind(value) == JSON_STRING;
        buf_clear(ret_username);
        uint8_t *room = c->has_username ? buf_reserve(ret_username, value.size) : NULL;
        if (room != NULL)
            ret_username->size = json_string_copy(value, (char *)room, value.size);
        else
            c->bad |= c->has_username;
    } else if (json_string_is(name, "revision")) {
        c->has_revision = json_number(value, &c->revision);
    } else if (is_exp || json_string_is(name, "nbf")) {
        c->bad |= !json_number(value, is_exp ? &c->exp : &c->nbf);
    }
}

static bool claims_hold(struct slice text, int64_t now_s, struct buf *ret_username,
                        uint64_t *ret_revision)
{
    struct slice all, name, value;
    struct claims c = {0};
    if (json_scan_whole(text, &all) != 0 || json_kind(all) != JSON_OBJECT)
        return false;
    struct json_walk w = json_walk_of(all);
    while (json_walk_next(&w, &name, &value))
        take_claim(name, value, &c, ret_username);
    if (c.bad || !c.has_username || !c.has_revision)
        return false;
    if ((c.exp != 0 && (double)now_s >= c.exp) || (c.nbf != 0 && (double)now_s < c.nbf))
        return false;
    if (!(c.revision >= 0 && c.revision < 0x1p64))
        return false;
    *ret_revision = (uint64_t)c.revision;
    return true;
}

int auth_jwt_verify(const struct auth_jwt *j, struct slice token, int64_t now_s,
                    struct buf *ret_username, uint64_t *ret_revision)
{
    struct slice parts[3];
    struct buf header, claims, signature;
    if (token.size > TOKEN_BYTES_MAX || !split(token, parts))
        return TV_INVALID_AUTH_TOKEN;
    buf_init(&header, TOKEN_BYTES_MAX);
    buf_init(&claims, TOKEN_BYTES_MAX);
    buf_init(&signature, TOKEN_BYTES_MAX);
    struct slice signed_part = slice_of(token.data, parts[0].size + 1 + parts[1].size);
    bool good = base64_decode(parts[0], BASE64_URL, &header) == 0 &&
                base64_decode(parts[1], BASE64_URL, &claims) == 0 &&
                base64_decode(parts[2], BASE64_URL, &signature) == 0 &&
                header_is_ours(j, buf_slice(&header)) &&
                signature_is_good(j, signed_part, buf_slice(&signature)) &&
                claims_hold(buf_slice(&claims), now_s, ret_username, ret_revision);
    buf_fini(&header);
    buf_fini(&claims);
    buf_fini(&signature);
    return good ? 0 : TV_INVALID_AUTH_TOKEN;
}

/* Tokens: how long simple ones live, by a clock of the test's own; JSON web tokens of every signing
 * method, and forged ones; the JSON in them. */
#include "unit.h"

#include "server/auth_token.h"

#include "base/base64.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct auth_tokens *open_tokens(const char *spec)
{
    char why[256];
    return auth_tokens_new(spec, 1000, why, sizeof(why));
}

static int identify(struct auth_tokens *t, struct slice token, uint64_t now_ms, const char *wanted)
{
    struct buf user;
    uint64_t revision;
    buf_init(&user, SIZE_MAX);
    int err = auth_tokens_identify(t, token, now_ms, (int64_t)(now_ms / 1000), &user, &revision);
    if (err == 0)
        ck_assert(slice_equal(buf_slice(&user), slice_of_string(wanted)));
    buf_fini(&user);
    return err;
}

/* --- simple ones --- */

static struct buf assign(struct auth_tokens *t, const char *user, uint64_t index, uint64_t now_ms)
{
    struct buf token;
    char letters[AUTH_TOKEN_LETTERS];
    buf_init(&token, SIZE_MAX);
    ck_assert_int_eq(auth_token_letters(letters), 0);
    auth_tokens_assign(t, slice_of_string(user), slice_of(letters, sizeof(letters)), index, now_ms,
                       &token);
    return token;
}

START_TEST(test_simple)
{
    struct auth_tokens *t = open_tokens("simple");
    struct buf a = assign(t, "al", 17, 5000), b = assign(t, "bo", 18, 5000);
    ck_assert_mem_eq(a.data + AUTH_TOKEN_LETTERS, ".17", 3);
    ck_assert_uint_eq(auth_tokens_index(t, buf_slice(&a)), 17);
    ck_assert_uint_eq(auth_tokens_index(t, slice_of_string("x.y.1")), 0);
    ck_assert_uint_eq(auth_tokens_index(t, slice_of_string("x.99999999999999999999")), 0);
    ck_assert_int_eq(identify(t, buf_slice(&a), 5000, "al"), 0);
    ck_assert_int_eq(identify(t, buf_slice(&b), 6000, "bo"), 0);
    /* Used in time it lives on; not used it does not. */
    ck_assert_int_eq(identify(t, buf_slice(&b), 7000, "bo"), 0);
    ck_assert_int_eq(identify(t, buf_slice(&a), 6001, NULL), TV_INVALID_AUTH_TOKEN);
    ck_assert_int_eq(identify(t, buf_slice(&a), 5000, NULL), TV_INVALID_AUTH_TOKEN);
    /* Any other letter or number is none. */
    for (size_t i = 0; i < b.size; i++) {
        b.data[i] ^= 1;
        ck_assert_int_eq(identify(t, buf_slice(&b), 7000, NULL), TV_INVALID_AUTH_TOKEN);
        b.data[i] ^= 1;
    }
    ck_assert_int_eq(identify(t, slice_of(b.data, b.size - 1), 7000, NULL), TV_INVALID_AUTH_TOKEN);
    ck_assert_int_eq(identify(t, SLICE_EMPTY, 7000, NULL), TV_INVALID_AUTH_TOKEN);

    struct buf c = assign(t, "bo", 19, 7000), d = assign(t, "al", 20, 7000);
    auth_tokens_forget_user(t, slice_of_string("bo"));
    ck_assert_int_eq(identify(t, buf_slice(&b), 7000, NULL), TV_INVALID_AUTH_TOKEN);
    ck_assert_int_eq(identify(t, buf_slice(&c), 7000, NULL), TV_INVALID_AUTH_TOKEN);
    ck_assert_int_eq(identify(t, buf_slice(&d), 7000, "al"), 0);
    auth_tokens_forget_all(t);
    ck_assert_int_eq(identify(t, buf_slice(&d), 7000, NULL), TV_INVALID_AUTH_TOKEN);
    buf_fini(&a);
    buf_fini(&b);
    buf_fini(&c);
    buf_fini(&d);
    auth_tokens_free(t);
}
END_TEST

START_TEST(test_bound)
{
    struct auth_tokens *t = open_tokens("simple");
    struct buf first = assign(t, "al", 1, 0), second = assign(t, "al", 2, 0);
    ck_assert_int_eq(identify(t, buf_slice(&first), 1, "al"), 0); /* so the second goes first */
    for (uint64_t i = 3; i <= AUTH_TOKENS_MAX + 1; i++) {
        struct buf token = assign(t, "bo", i, 1);
        buf_fini(&token);
    }
    ck_assert_uint_eq(auth_tokens_count(t), AUTH_TOKENS_MAX);
    ck_assert_int_eq(identify(t, buf_slice(&second), 1, NULL), TV_INVALID_AUTH_TOKEN);
    ck_assert_int_eq(identify(t, buf_slice(&first), 1, "al"), 0);
    buf_fini(&second);
    /* All that have ended go when the next one comes. */
    second = assign(t, "al", 1 << 20, 5000);
    ck_assert_uint_eq(auth_tokens_count(t), 1);
    buf_fini(&first);
    buf_fini(&second);
    auth_tokens_free(t);
}
END_TEST

START_TEST(test_specs)
{
    static const char *const bad[] = {"x",
                                      "simple,",
                                      "simple,a",
                                      "jwt",
                                      "jwt,sign-method=",
                                      "jwt,a=b=c",
                                      "jwt,a=1,a=2",
                                      "jwt,sign-method=none",
                                      "jwt,sign-method=HS256",
                                      "jwt,sign-method=RS256,pub-key=/nothing/here"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(open_tokens(bad[i]) == NULL, "%s", bad[i]);
    struct auth_tokens *t = open_tokens("");
    ck_assert_int_eq(auth_tokens_kind(t), AUTH_TOKEN_NONE);
    struct buf none;
    buf_init(&none, SIZE_MAX);
    ck_assert_int_eq(auth_tokens_sign(t, slice_of_string("root"), 1, 1, &none),
                     TV_INVALID_AUTH_OPTS);
    ck_assert_int_eq(identify(t, SLICE_EMPTY, 0, NULL), TV_INVALID_AUTH_TOKEN);
    buf_fini(&none);
    auth_tokens_free(t);
}
END_TEST

/* --- JSON web tokens --- */

struct key_files {
    char dir[32];
    char private_path[64];
    char public_path[64];
};

static void make_dir(struct key_files *k)
{
    snprintf(k->dir, sizeof(k->dir), "/tmp/test_token_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(k->dir));
    snprintf(k->private_path, sizeof(k->private_path), "%s/key", k->dir);
    snprintf(k->public_path, sizeof(k->public_path), "%s/pub", k->dir);
}

static void remove_dir(struct key_files *k)
{
    (void)unlink(k->private_path);
    (void)unlink(k->public_path);
    (void)rmdir(k->dir);
}

static void make_keys(struct key_files *k, const char *method)
{
    EVP_PKEY *key = NULL;
    make_dir(k);
    if (method[0] == 'R' || method[0] == 'P')
        key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    else if (strcmp(method, "EdDSA") == 0)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    else if (method[0] == 'E')
        key = EVP_PKEY_Q_keygen(NULL, NULL, "EC",
                                method[2] == '2'   ? "P-256"
                                : method[2] == '3' ? "P-384"
                                                   : "P-521");
    FILE *f = fopen(k->private_path, "w");
    if (key == NULL) {
        fputs("the secret of the cluster", f);
    } else {
        ck_assert_int_eq(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
        FILE *pub = fopen(k->public_path, "w");
        ck_assert_int_eq(PEM_write_PUBKEY(pub, key), 1);
        fclose(pub);
    }
    fclose(f);
    EVP_PKEY_free(key);
}

static struct auth_tokens *open_jwt(const struct key_files *k, const char *method,
                                    bool with_private)
{
    char spec[256];
    snprintf(spec, sizeof(spec), "jwt,sign-method=%s,ttl=1m,%s=%s", method,
             with_private ? "priv-key" : "pub-key",
             with_private ? k->private_path : k->public_path);
    return open_tokens(spec);
}

enum { NOW_S = 1000000, NOW_MS = NOW_S * 1000 };

static void each_method(const char *method)
{
    struct key_files keys, others;
    make_keys(&keys, method);
    make_keys(&others, method);
    struct auth_tokens *t = open_jwt(&keys, method, true);
    ck_assert_ptr_nonnull(t);
    struct buf token;
    buf_init(&token, SIZE_MAX);
    ck_assert_int_eq(auth_tokens_sign(t, slice_of_string("a\"\n\xc3\xa4"), 7, NOW_S, &token), 0);
    ck_assert_int_eq(identify(t, buf_slice(&token), NOW_MS, "a\"\n\xc3\xa4"), 0);
    ck_assert_int_eq(identify(t, buf_slice(&token), NOW_MS + 59999, "a\"\n\xc3\xa4"), 0);
    ck_assert_int_eq(identify(t, buf_slice(&token), NOW_MS + 60000, NULL), TV_INVALID_AUTH_TOKEN);
    /* Every letter matters, but for the last ones of a part, which may hold bits of nothing. */
    uint32_t taken = 0;
    for (size_t i = 0; i < token.size; i++) {
        uint8_t before = token.data[i];
        token.data[i] = before == 'A' ? 'B' : 'A';
        taken += identify(t, buf_slice(&token), NOW_MS, "a\"\n\xc3\xa4") == 0;
        token.data[i] = before;
    }
    ck_assert_uint_le(taken, 1);
    if (method[0] != 'H') {
        struct auth_tokens *verifier = open_jwt(&keys, method, false);
        struct buf none;
        buf_init(&none, SIZE_MAX);
        ck_assert_int_eq(identify(verifier, buf_slice(&token), NOW_MS, "a\"\n\xc3\xa4"), 0);
        ck_assert_int_eq(auth_tokens_sign(verifier, slice_of_string("a"), 7, NOW_S, &none),
                         TV_AUTH_VERIFY_ONLY);
        auth_tokens_free(verifier);
        struct auth_tokens *stranger = open_jwt(&others, method, false);
        ck_assert_int_eq(identify(stranger, buf_slice(&token), NOW_MS, NULL),
                         TV_INVALID_AUTH_TOKEN);
        auth_tokens_free(stranger);
        buf_fini(&none);
        /* Two keys that are no pair. */
        char spec[256];
        snprintf(spec, sizeof(spec), "jwt,sign-method=%s,priv-key=%s,pub-key=%s", method,
                 keys.private_path, others.public_path);
        ck_assert_ptr_null(open_tokens(spec));
    }
    buf_fini(&token);
    auth_tokens_free(t);
    remove_dir(&keys);
    remove_dir(&others);
}

START_TEST(test_methods)
{
    static const char *const methods[] = {"HS256", "HS384", "HS512", "RS256", "RS384",
                                          "RS512", "PS256", "PS384", "PS512", "ES256",
                                          "ES384", "ES512", "EdDSA"};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        each_method(methods[i]);
}
END_TEST

/* A key of another kind, or of another curve, than the method wants. */
START_TEST(test_wrong_keys)
{
    struct key_files keys;
    make_keys(&keys, "ES256");
    ck_assert_ptr_null(open_jwt(&keys, "RS256", true));
    ck_assert_ptr_null(open_jwt(&keys, "ES384", true));
    ck_assert_ptr_null(open_jwt(&keys, "EdDSA", false));
    remove_dir(&keys);
}
END_TEST

static void append_part(struct buf *b, const char *text)
{
    base64_encode(slice_of_string(text), BASE64_URL, b);
}

/* With a good HMAC, by the secret of make_keys(). */
static int identify_made(struct auth_tokens *t, const char *header, const char *claims,
                         const char *wanted)
{
    static const char secret[] = "the secret of the cluster";
    struct buf token;
    uint8_t mac[32];
    unsigned int mac_size;
    buf_init(&token, SIZE_MAX);
    append_part(&token, header);
    ck_assert_int_eq(buf_append(&token, ".", 1), 0);
    append_part(&token, claims);
    HMAC(EVP_sha256(), secret, sizeof(secret) - 1, token.data, token.size, mac, &mac_size);
    ck_assert_int_eq(buf_append(&token, ".", 1), 0);
    base64_encode(slice_of(mac, mac_size), BASE64_URL, &token);
    int err = identify(t, buf_slice(&token), NOW_MS, wanted);
    buf_fini(&token);
    return err;
}

START_TEST(test_claims)
{
    static const char header[] = "{\"alg\":\"HS256\"}";
    static const char *const bad_headers[] = {"{\"alg\":\"none\"}",
                                              "{\"alg\":\"HS512\"}",
                                              "{\"alg\":7}",
                                              "{}",
                                              "",
                                              "{\"alg\":\"HS256\",\"alg\":\"none\"}"};
    static const char *const bad_claims[] = {
        "{\"username\":\"a\"}",
        "{\"revision\":1}",
        "{\"username\":1,\"revision\":1}",
        "{\"username\":\"a\",\"revision\":\"1\"}",
        "{\"username\":\"a\",\"revision\":-1}",
        "{\"username\":\"a\",\"revision\":1,\"exp\":1000000}",
        "{\"username\":\"a\",\"revision\":1,\"exp\":\"never\"}",
        "{\"username\":\"a\",\"revision\":1,\"nbf\":1000001}",
        "{\"username\":\"a\",\"revision\":1}x",
        "{\"username\":\"a\",\"revision\":1",
        "[]",
        "",
    };
    struct key_files keys;
    make_keys(&keys, "HS256");
    struct auth_tokens *t = open_jwt(&keys, "HS256", true);
    ck_assert_int_eq(identify_made(t, header, "{\"username\":\"a\",\"revision\":1}", "a"), 0);
    ck_assert_int_eq(identify_made(t, header,
                                   " { \"x\" : [1,{\"y\":null}] , \"username\":\"\\u00e4\", "
                                   "\"revision\": 1e0, \"exp\":1000001, \"nbf\":1000000 } ",
                                   "\xc3\xa4"),
                     0);
    for (size_t i = 0; i < sizeof(bad_headers) / sizeof(bad_headers[0]); i++)
        ck_assert_int_eq(
            identify_made(t, bad_headers[i], "{\"username\":\"a\",\"revision\":1}", NULL),
            TV_INVALID_AUTH_TOKEN);
    for (size_t i = 0; i < sizeof(bad_claims) / sizeof(bad_claims[0]); i++)
        ck_assert_int_eq(identify_made(t, header, bad_claims[i], NULL), TV_INVALID_AUTH_TOKEN);
    auth_tokens_free(t);
    remove_dir(&keys);
}
END_TEST

UNIT_MAIN("auth_token", test_simple, test_bound, test_specs, test_methods, test_wrong_keys,
          test_claims)

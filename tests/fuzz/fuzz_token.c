/* Any text as a token, and any header and claims in one that is signed: whoever is let in is named.
 * With bit 0 of the first byte the text is header and claims, by a line's end, and is signed here;
 * bits 1 and 2 pick the method. */
#include "server/auth_jwt.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/json.h"
#include "base/mem.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { METHODS = 3, NOW_S = 1700000000 };

static const char secret[] = "0123456789abcdef";
static struct auth_jwt *readers[METHODS];

static void make_readers(void)
{
    static const char *const names[METHODS] = {"HS256", "HS384", "HS512"};
    char path[] = "/tmp/trivet-fuzz-key-XXXXXX", why[256];
    int fd = mkstemp(path);
    ASSERT(fd >= 0);
    ssize_t n = write(fd, secret, sizeof(secret) - 1);
    ASSERT(n == sizeof(secret) - 1);
    (void)close(fd);
    for (int i = 0; i < METHODS; i++) {
        struct auth_jwt_option o[] = {
            {SLICE_LITERAL("sign-method"), slice_of_string(names[i])},
            {SLICE_LITERAL("priv-key"), slice_of_string(path)},
            {SLICE_LITERAL("ttl"), SLICE_LITERAL("5m")},
        };
        readers[i] = auth_jwt_new(o, 3, why, sizeof(why));
        ASSERT(readers[i] != NULL);
    }
    (void)unlink(path);
}

static void sign(struct slice in, int method, struct buf *ret)
{
    const EVP_MD *const digests[METHODS] = {EVP_sha256(), EVP_sha384(), EVP_sha512()};
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_size;
    const uint8_t *end = in.size > 0 ? memchr(in.data, '\n', in.size) : NULL;
    size_t head = end == NULL ? in.size : (size_t)(end - in.data);
    base64_encode(slice_of(in.data, head), BASE64_URL, ret);
    (void)buf_append(ret, ".", 1);
    if (end != NULL)
        base64_encode(slice_of(end + 1, in.size - head - 1), BASE64_URL, ret);
    HMAC(digests[method], secret, sizeof(secret) - 1, ret->data, ret->size, mac, &mac_size);
    (void)buf_append(ret, ".", 1);
    base64_encode(slice_of(mac, mac_size), BASE64_URL, ret);
}

static void read_all(struct slice text)
{
    struct slice value, name, inner;
    char *room = mem_alloc(text.size + 1);
    if (json_scan_whole(text, &value) == 0) {
        struct json_walk w = json_walk_of(value);
        while (json_walk_next(&w, &name, &inner)) {
            size_t size = json_string_copy(inner, room, text.size + 1);
            ASSERT(size < inner.size);
        }
        ASSERT(slice_equal(w.rest, SLICE_EMPTY) || w.rest.size == 1); /* the bracket */
    }
    mem_free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf token, user;
    uint64_t revision;
    if (readers[0] == NULL)
        make_readers();
    if (size == 0)
        return 0;
    struct slice in = slice_of(data + 1, size - 1);
    int method = (data[0] >> 1) % METHODS;
    buf_init(&token, SIZE_MAX);
    buf_init(&user, SIZE_MAX);
    if ((data[0] & 1) != 0)
        sign(in, method, &token);
    else
        (void)buf_append(&token, in.data, in.size);
    if (auth_jwt_verify(readers[method], buf_slice(&token), NOW_S, &user, &revision) == 0) {
        /* The only way in is through the key; and who is in can be named again. */
        ASSERT((data[0] & 1) != 0 || token.size > 40);
        buf_clear(&token);
        int rv = auth_jwt_sign(readers[method], buf_slice(&user), revision, NOW_S, &token);
        ASSERT(rv == 0);
    }
    read_all(in);
    buf_fini(&token);
    buf_fini(&user);
    return 0;
}

/* Go's names of versions and cipher suites, and OpenSSL's. */
#include "tls.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* crypto/tls's, the insecure ones too, and two older names that etcd takes. Those of TLS 1.3 are
 * taken and change nothing, as in Go; the ones without a name here are in no OpenSSL of today. */
static const struct {
    const char *go;
    const char *openssl;
} suites[] = {
    {"TLS_AES_128_GCM_SHA256", NULL},
    {"TLS_AES_256_GCM_SHA384", NULL},
    {"TLS_CHACHA20_POLY1305_SHA256", NULL},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA"},
    {"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    {"TLS_RSA_WITH_RC4_128_SHA", NULL},
    {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", NULL},
    {"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", NULL},
    {"TLS_ECDHE_RSA_WITH_RC4_128_SHA", NULL},
    {"TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", NULL},
};

enum { SUITES_COUNT = sizeof(suites) / sizeof(suites[0]) };

static size_t find(const char *name, size_t size)
{
    size_t i = 0;
    while (i < SUITES_COUNT &&
           (strlen(suites[i].go) != size || memcmp(suites[i].go, name, size) != 0))
        i++;
    return i;
}

int tls_ciphers_check(const char *names, char *err_text, size_t err_size)
{
    while (*names != '\0') {
        size_t size = strcspn(names, ",");
        if (find(names, size) == SUITES_COUNT) {
            snprintf(err_text, err_size, "unexpected TLS cipher suite \"%.*s\"", (int)size, names);
            return TV_EINVAL;
        }
        names += size + (names[size] == ',');
    }
    return 0;
}

char *tls__ciphers_of_go(const char *names)
{
    struct buf list;
    bool any_13 = false;
    buf_init(&list, SIZE_MAX);
    while (*names != '\0') {
        size_t size = strcspn(names, ",");
        size_t i = find(names, size);
        const char *name = i < SUITES_COUNT ? suites[i].openssl : NULL;
        any_13 = any_13 || (i < SUITES_COUNT && strstr(suites[i].go, "_WITH_") == NULL);
        if (name != NULL) {
            (void)buf_append(&list, ":", list.size > 0);
            (void)buf_append(&list, name, strlen(name));
        }
        names += size + (names[size] == ',');
    }
    /* Only TLS 1.3's: Go then has no suite for TLS 1.2, and OpenSSL wants one in its list. */
    if (list.size == 0 && any_13)
        (void)buf_append(&list, "ECDHE-ECDSA-AES128-GCM-SHA256", 29);
    (void)buf_append(&list, "", list.size > 0); /* the end of the text */
    char *text = list.size > 0 ? mem_strdup((const char *)list.data) : NULL;
    buf_fini(&list);
    return text;
}

int tls_version_parse(const char *text, enum tls_version *ret, char *err_text, size_t err_size)
{
    if (*text == '\0') {
        *ret = TLS_VERSION_DEFAULT;
    } else if (strcmp(text, "TLS1.2") == 0) {
        *ret = TLS_VERSION_1_2;
    } else if (strcmp(text, "TLS1.3") == 0) {
        *ret = TLS_VERSION_1_3;
    } else {
        snprintf(err_text, err_size,
                 "unexpected TLS version \"%s\" (must be one of: TLS1.2, TLS1.3)", text);
        return TV_EINVAL;
    }
    return 0;
}

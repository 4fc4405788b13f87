#include "base/srv.h"

#include "base/err.h"
#include "base/mem.h"

#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_BYTES_MAX = 65535, HEAD_BYTES = 12, RECORD_BYTES = 10, CLASS_IN = 1, TYPE_SRV = 33 };

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* Behind the name at `p`; NULL when it is malformed. */
static const uint8_t *take_name(const uint8_t *answer, const uint8_t *end, const uint8_t *p,
                                char *ret, size_t size)
{
    if (p >= end)
        return NULL;
    int taken = dn_expand(answer, end, p, ret, (int)size);
    return taken < 0 || taken > end - p ? NULL : p + taken;
}

static int by_priority(const void *a, const void *b)
{
    const struct srv_record *x = a, *y = b;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return strcmp(x->target, y->target);
}

int srv_parse(const uint8_t *answer, size_t size, struct srv_record ret[SRV_RECORDS_MAX])
{
    const uint8_t *end = answer + size, *p = answer + HEAD_BYTES;
    char name[256];
    int count = 0;
    if (size < HEAD_BYTES)
        return TV_EMALFORMED;
    uint32_t questions = get16(answer + 4), records = get16(answer + 6);
    for (; questions > 0; questions--) {
        p = take_name(answer, end, p, name, sizeof(name));
        if (p == NULL || end - p < 4)
            return TV_EMALFORMED;
        p += 4;
    }
    for (; records > 0 && count < SRV_RECORDS_MAX; records--) {
        p = take_name(answer, end, p, name, sizeof(name));
        if (p == NULL || end - p < RECORD_BYTES || end - p - RECORD_BYTES < get16(p + 8))
            return TV_EMALFORMED;
        const uint8_t *body = p + RECORD_BYTES, *next = body + get16(p + 8);
        if (get16(p) == TYPE_SRV && get16(p + 2) == CLASS_IN) {
            struct srv_record *r = &ret[count];
            if (next - body < 7 ||
                take_name(answer, end, body + 6, r->target, sizeof(r->target)) == NULL)
                return TV_EMALFORMED;
            r->priority = get16(body);
            r->weight = get16(body + 2);
            r->port = get16(body + 4);
            count++;
        }
        p = next;
    }
    qsort(ret, (size_t)count, sizeof(ret[0]), by_priority);
    return count;
}

int srv_look_up(const char *service, const char *domain, struct srv_record *ret, char *why,
                size_t why_size)
{
    char name[512];
    uint8_t *answer = mem_try_alloc(ANSWER_BYTES_MAX);
    if (answer == NULL) {
        snprintf(why, why_size, "cannot allocate memory");
        return TV_ENOMEM;
    }
    snprintf(name, sizeof(name), "_%s._tcp.%s", service, domain);
    int size = res_query(name, CLASS_IN, TYPE_SRV, answer, ANSWER_BYTES_MAX);
    bool silent = size < 0 && (h_errno == TRY_AGAIN || h_errno == NO_RECOVERY);
    int count = silent ? TV_EAGAIN : size < 0 ? TV_ENOTFOUND : srv_parse(answer, (size_t)size, ret);
    if (count <= 0)
        snprintf(why, why_size, "error querying DNS SRV records for _%s lookup %s: %s", service,
                 name,
                 silent                   ? "server misbehaving"
                 : count == TV_EMALFORMED ? "the answer is malformed"
                                          : "no such host");
    mem_free(answer);
    return count == 0 ? TV_ENOTFOUND : count;
}

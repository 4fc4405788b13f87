/* Memory for nghttp2, which takes and gives back half a dozen small pieces for each call: kept by
 * size, so that most of them cost a few instructions. At most POOL_KEPT_BYTES_MAX are kept.
 *
 * Owner: the loop's thread. */
#ifndef PROTO_TRANSPORT_POOL_H
#define PROTO_TRANSPORT_POOL_H

#include <nghttp2/nghttp2.h>

enum {
    POOL_STEP_BYTES = 64,
    POOL_CLASSES = 8, /* larger pieces are not kept */
    POOL_KEPT_BYTES_MAX = 4 << 20,
};

struct pool_piece;

struct pool {
    nghttp2_mem mem; /* to give to nghttp2 */
    struct pool_piece *kept[POOL_CLASSES];
    size_t kept_bytes;
};

void pool_init(struct pool *p);
/* Everything has come back. */
void pool_fini(struct pool *p);

#endif

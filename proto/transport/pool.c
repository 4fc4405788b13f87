#include "pool.h"

#include "base/mem.h"

#include <string.h>

/* In front of each piece. */
struct pool_piece {
    union {
        struct pool_piece *next; /* while it is kept */
        size_t size;             /* of what follows, a multiple of POOL_STEP_BYTES */
    };
    size_t unused; /* what follows is aligned for anything */
};

/* A sanitizer sees more when each piece is an allocation of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { KEEPS = 0 };
#else
enum { KEEPS = 1 };
#endif

static size_t rounded(size_t size)
{
    return size == 0 ? POOL_STEP_BYTES
                     : (size + POOL_STEP_BYTES - 1) / POOL_STEP_BYTES * POOL_STEP_BYTES;
}

static struct pool_piece *piece_of(void *p)
{
    return (struct pool_piece *)p - 1;
}

static void *take(size_t size, void *user)
{
    struct pool *pool = user;
    size = rounded(size);
    size_t class = size / POOL_STEP_BYTES - 1;
    struct pool_piece *piece = class < POOL_CLASSES ? pool->kept[class] : NULL;
    if (piece != NULL) {
        pool->kept[class] = piece->next;
        pool->kept_bytes -= size;
    } else {
        piece = mem_try_alloc(sizeof(*piece) + size);
        if (piece == NULL)
            return NULL;
    }
    piece->size = size;
    return piece + 1;
}

static void give_back(void *p, void *user)
{
    struct pool *pool = user;
    if (p == NULL)
        return;
    struct pool_piece *piece = piece_of(p);
    size_t size = piece->size, class = size / POOL_STEP_BYTES - 1;
    if (!KEEPS || class >= POOL_CLASSES || pool->kept_bytes + size > POOL_KEPT_BYTES_MAX) {
        mem_free(piece);
        return;
    }
    piece->next = pool->kept[class];
    pool->kept[class] = piece;
    pool->kept_bytes += size;
}

static void *take_zeroed(size_t count, size_t size, void *user)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *p = take(bytes, user);
    return p == NULL ? NULL : memset(p, 0, bytes);
}

static void *resize(void *p, size_t size, void *user)
{
    size_t have = p == NULL ? 0 : piece_of(p)->size;
    if (p != NULL && size <= have)
        return p;
    void *larger = take(size, user);
    if (larger == NULL)
        return NULL;
    if (have > 0)
        memcpy(larger, p, have);
    give_back(p, user);
    return larger;
}

void pool_init(struct pool *p)
{
    *p = (struct pool){.mem = {.mem_user_data = p,
                               .malloc = take,
                               .free = give_back,
                               .calloc = take_zeroed,
                               .realloc = resize}};
}

void pool_fini(struct pool *p)
{
    for (int i = 0; i < POOL_CLASSES; i++) {
        while (p->kept[i] != NULL) {
            struct pool_piece *piece = p->kept[i];
            p->kept[i] = piece->next;
            mem_free(piece);
        }
    }
}

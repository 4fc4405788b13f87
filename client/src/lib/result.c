/* What an answer becomes for the caller: borrowed in a callback, owned in the other forms. */
#include "engine.h"

#include "base/mem.h"
#include "proto/wire.h"

#include <stdio.h>

enum { ERROR_BYTES = 160 };

struct holding {
    struct buf message;
    struct arena arena;
    char error[ERROR_BYTES];
    char *long_error; /* one that is longer */
};

struct holding *holding__new(void)
{
    struct holding *h = mem_try_alloc_zero(sizeof(*h));
    if (h == NULL)
        return NULL;
    arena_init(&h->arena);
    buf_init(&h->message, SIZE_MAX);
    return h;
}

void holding__free(struct holding *h)
{
    if (h == NULL)
        return;
    buf_fini(&h->message);
    arena_fini(&h->arena);
    mem_free(h->long_error);
    mem_free(h);
}

/* Without memory a long text is cut. */
static const char *keep_error(struct holding *h, struct slice text)
{
    if (text.size >= sizeof(h->error) && (h->long_error = mem_try_alloc(text.size + 1)) != NULL) {
        memcpy(h->long_error, text.data, text.size);
        h->long_error[text.size] = '\0';
        return h->long_error;
    }
    (void)snprintf(h->error, sizeof(h->error), "%.*s", (int)text.size, (const char *)text.data);
    return h->error;
}

static int decode(struct call *call, struct slice msg, struct arena *arena,
                  struct trivet_result *ret)
{
    int rv = message_response_decode(call->m, msg, arena, ret);
    if (rv == 0) {
        ret->status = TRIVET_OK;
        if (call->answered_by != BALANCER_NONE)
            endpoints__learn(call->client, call->answered_by, &ret->header);
        return 0;
    }
    memset(&ret->u, 0, sizeof(ret->u));
    ret->status = call->is_read ? rv : TRIVET_UNKNOWN;
    ret->error = rv == TRIVET_NO_MEMORY ? tv_err_text(TV_ENOMEM) : "the answer cannot be read";
    call->client->metrics.calls_failed += !call->own;
    return rv;
}

/* RangeStream wraps its answers once more. */
static struct slice unwrap(const struct call *call, struct slice msg)
{
    struct slice inner;
    if (!call->m->wrapped)
        return msg;
    return wire_range_stream_response_decode(msg, &inner) == 0 ? inner : msg;
}

static void begin(const struct call *call, const struct call_end *end, struct trivet_result *ret)
{
    *ret = (struct trivet_result){.status = end->status,
                                  .method = call->method,
                                  .code = (int32_t)end->code,
                                  .error = "",
                                  .part = end->part,
                                  .attempts = call->attempts_count};
}

void result__borrow(struct call *call, const struct call_end *end, struct trivet_result *ret,
                    char *error, size_t error_size)
{
    begin(call, end, ret);
    (void)snprintf(error, error_size, "%.*s", (int)end->text.size, (const char *)end->text.data);
    ret->error = error;
    arena_clear(&call->client->scratch);
    if (end->status == TRIVET_OK && end->message != NULL)
        (void)decode(call, unwrap(call, buf_slice(end->message)), &call->client->scratch, ret);
}

void result__own(struct call *call, const struct call_end *end, struct holding *h,
                 struct trivet_result *ret)
{
    begin(call, end, ret);
    ret->error = keep_error(h, end->text);
    ret->memory = h;
    if (end->status != TRIVET_OK || end->message == NULL)
        return;
    h->message = *end->message;
    buf_init(end->message, end->message->size_max);
    (void)decode(call, buf_slice(&h->message), &h->arena, ret);
}

void trivet_result_clear(struct trivet_result *r)
{
    holding__free(r->memory);
    *r = (struct trivet_result){.error = ""};
}

size_t trivet_prefix_end(struct trivet_bytes prefix, void *ret)
{
    uint8_t *end = ret;
    size_t size = prefix.size;
    if (size > 0)
        memcpy(end, prefix.data, size);
    while (size > 0 && end[size - 1] == 0xff)
        size--;
    if (size == 0) {
        end[0] = 0;
        return 1;
    }
    end[size - 1]++;
    return size;
}

#include "server/range_stream.h"

#include "base/assert.h"

enum { FIRST_MESSAGE_KEYS = 10 };

int range_stream_begin(struct range_stream *s, struct mvcc *m, const struct wire_range_request *req,
                       uint64_t bytes_wanted)
{
    struct wire_range_request first = *req;
    *s = (struct range_stream){.limit = req->limit, .bytes_wanted = bytes_wanted};
    /* To etcd a negative limit is none, also of a message. Only where it shows, when a message is
     * sorted, must all be in one here. */
    if (s->limit == 0 || (s->limit < 0 && req->sort_target == WIRE_SORT_KEY))
        s->limit = INT64_MAX;
    first.limit = s->limit < FIRST_MESSAGE_KEYS ? s->limit : FIRST_MESSAGE_KEYS;
    int err = range_begin(&s->range, m, &first, false);
    if (err == 0 && !req->count_only)
        s->range.total = 0; /* found out with the last message */
    return err;
}

/* As large as etcd's answer to the request for this message: it has more in it than is sent. */
static uint64_t size_in_etcd(const struct range_stream *s)
{
    const struct range *r = &s->range;
    const struct wire_header header = {.revision = r->header_rev};
    return wire_header_size(&header) + r->body_size + wire_range_tail_size(true, r->req.limit + 1) -
           wire_range_tail_size(r->more, r->total);
}

static int64_t limit_after(const struct range_stream *s)
{
    int64_t limit = s->range.req.limit;
    int64_t left = s->limit - s->keys_count;
    uint64_t size = size_in_etcd(s);
    if (size < s->bytes_wanted / 2)
        limit *= 2;
    else if (size > s->bytes_wanted * 2)
        limit /= 2;
    if (limit < 1)
        limit = 1;
    if (limit > RANGE_STREAM_KEYS_MAX && !s->range.sorted)
        limit = RANGE_STREAM_KEYS_MAX;
    return limit < left ? limit : left;
}

bool range_stream_collect(struct range_stream *s, uint64_t keys_max)
{
    struct range *r = &s->range;
    ASSERT(!s->last);
    if (s->gathered)
        range_next(r, s->next_limit);
    s->gathered = !range_collect(r, keys_max);
    if (!s->gathered)
        return true;
    s->keys_count += (int64_t)r->count;
    s->last = !r->more || s->keys_count == s->limit;
    if (!s->last) {
        s->next_limit = limit_after(s);
        range_set_tail(r, false, 0);
    } else if (!r->req.count_only) {
        range_set_tail(r, r->more, s->keys_count + (r->more ? range_count_rest(r) : 0));
    }
    return false;
}

/* Of the RangeResponse. */
static size_t response_size(const struct range_stream *s, const struct wire_header *header)
{
    return (s->last ? wire_header_size(header) : 0) + s->range.body_size;
}

size_t range_stream_head_size(const struct range_stream *s, const struct wire_header *header)
{
    return wire_item_size(WIRE_RANGE_STREAM_RESPONSE, response_size(s, header)) -
           s->range.body_size;
}

uint8_t *range_stream_put_head(const struct range_stream *s, const struct wire_header *header,
                               uint8_t *dst)
{
    dst = wire_item_put_head(dst, WIRE_RANGE_STREAM_RESPONSE, response_size(s, header));
    return s->last ? wire_header_put(dst, header) : dst;
}

/* A RangeStream: a Range's answer as a row of messages, gathered one at a time.
 *
 * What is held between two messages is a pin and the last key's version, and while a message is on
 * its way to the client, 8 bytes for each of its keys: however long the list is.
 *
 *   range_stream_begin -> range_stream_collect until it says false -> range_write, or range_read in
 * pieces, of `range` behind range_stream_put_head -> range_stream_collect ... until `last`
 *
 * The sections are as with a struct range: range_suspend() before one is left, range_resume() in
 * the next, range_fini() at the end, each on `range`.
 *
 * Which keys a message has, and what else is in it, is as in etcd (server/etcdserver/v3_server.go,
 * rangeStream): 10 keys in the first one, then twice as many in each until about bytes_wanted are
 * reached. Header, more and count are in the last one alone. Two things are better here: the pin
 * keeps the revision when it is compacted meanwhile, where etcd's stream ends with an error; and no
 * message has more than RANGE_STREAM_KEYS_MAX keys, so that nobody else waits for long while one is
 * gathered, and a client that does not read costs 8 KiB.
 *
 * A sort target without an order, which etcd lets pass, sorts each message by itself, and the next
 * one begins behind the key that came last: keys may be missing then, or come twice. The same keys
 * as in etcd are: it is not for us to make up others.
 *
 * Owner: the thread that began it. */
#ifndef SERVER_RANGE_STREAM_H
#define SERVER_RANGE_STREAM_H

#include "server/range.h"

enum {
    RANGE_STREAM_KEYS_MAX = 1023, /* and one more is looked at */
    RANGE_STREAM_HEAD_BYTES_MAX = 80,
};

struct range_stream {
    struct range range;    /* the message that is gathered or on its way */
    int64_t limit;         /* the client's: keys in all; INT64_MAX = none */
    int64_t next_limit;    /* keys in the next message */
    int64_t keys_count;    /* in all messages so far */
    uint64_t bytes_wanted; /* of a message */
    bool gathered;
    bool last;
};

/* Thread, errors: as range_begin(). */
int range_stream_begin(struct range_stream *s, struct mvcc *m, const struct wire_range_request *req,
                       uint64_t bytes_wanted);
/* Gather up to `keys_max` more of the message, of the next one when one was gathered already; true
 * when there are more to gather. */
bool range_stream_collect(struct range_stream *s, uint64_t keys_max);
/* What comes before range.body_size bytes of the message that is gathered. `header` goes into the
 * last one. */
size_t range_stream_head_size(const struct range_stream *s, const struct wire_header *header);
uint8_t *range_stream_put_head(const struct range_stream *s, const struct wire_header *header,
                               uint8_t *dst);

#endif

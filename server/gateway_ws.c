/* The gateway by WebSocket (RFC 6455), as etcd has it from grpc-websocket-proxy: what the client's
 * messages hold is the request's body, and each line of the answer is a message. The connection
 * ends when the answer does, without a goodbye.
 *
 * Other than there, a call of one message is answered when that has come; etcd waits for the end of
 * the connection, and then nobody is left to answer.
 *
 * Limits: a message, and a value, as http1_body_bytes_max; a value comes in PIECES_MAX messages. */
#include "server/gateway_internal.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/mem.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

enum {
    OP_CONTINUED = 0,
    OP_TEXT = 1,
    OP_BINARY = 2,
    OP_CLOSE = 8,
    OP_PING = 9,
    OP_PONG = 10,
    CONTROL_BYTES_MAX = 125,
    PIECES_MAX = 16,
    BACKLOG_BYTES_MAX = 64 << 10,
    CLOSE_PROTOCOL = 1002,
    CLOSE_TOO_LARGE = 1009,
};

struct gateway_ws {
    struct gateway_metadata metadata; /* until the call begins */
    struct buf message;               /* in fragments */
    bool in_message;
    struct buf body; /* what is no whole value yet */
    uint32_t pieces;
    uint32_t message_bytes_max;
    bool deaf; /* nothing that comes is a request any more */
};

/* --- the handshake --- */

/* Is the word among those of a header, by commas? */
static bool has_word(struct slice list, const char *word)
{
    size_t size = strlen(word);
    size_t at = 0;
    while (at < list.size) {
        while (at < list.size &&
               (list.data[at] == ' ' || list.data[at] == ',' || list.data[at] == '\t'))
            at++;
        size_t from = at;
        while (at < list.size && list.data[at] != ',' && list.data[at] != ' ' &&
               list.data[at] != '\t')
            at++;
        if (at - from == size && strncasecmp((const char *)list.data + from, word, size) == 0)
            return true;
    }
    return false;
}

bool gateway_ws_is_wanted(const struct http1_request *req)
{
    return has_word(http1_header(req, "connection"), "upgrade") &&
           has_word(http1_header(req, "upgrade"), "websocket");
}

static void refuse(struct http1_exchange *x, int status, const char *text)
{
    http1_add_header(x, "Sec-Websocket-Version", "13");
    http1_add_header(x, "X-Content-Type-Options", "nosniff");
    http1_respond(x, status, "text/plain; charset=utf-8", slice_of_string(text));
}

static void accept_text(struct slice key, char ret[64])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    struct buf text, encoded;
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_size;
    buf_init(&text, SIZE_MAX);
    buf_init(&encoded, SIZE_MAX);
    (void)buf_append(&text, key.data, key.size);
    (void)buf_append(&text, magic, sizeof(magic) - 1);
    int ok = EVP_Digest(text.data, text.size, digest, &digest_size, EVP_sha1(), NULL);
    ASSERT(ok == 1);
    base64_encode(slice_of(digest, digest_size), BASE64_STANDARD, &encoded);
    (void)snprintf(ret, 64, "%.*s", (int)encoded.size, (const char *)encoded.data);
    buf_fini(&text);
    buf_fini(&encoded);
}

/* 16 bytes as base64. */
static bool is_key(struct slice key)
{
    struct buf bytes;
    buf_init(&bytes, SIZE_MAX);
    bool ok = key.size > 0 && base64_decode(key, BASE64_STANDARD, &bytes) == 0 && bytes.size == 16;
    buf_fini(&bytes);
    return ok;
}

struct gateway_ws *gateway_ws_open(struct http1_exchange *x, const struct http1_request *req,
                                   uint32_t message_bytes_max)
{
    char text[64];
    struct slice key = http1_header(req, "sec-websocket-key");
    if (!slice_equal(req->method, SLICE_LITERAL("GET"))) {
        refuse(x, 405, "Method Not Allowed\n");
        return NULL;
    }
    if (!has_word(http1_header(req, "sec-websocket-version"), "13") || !is_key(key)) {
        refuse(x, 400, "Bad Request\n");
        return NULL;
    }
    if (!http1_can_upgrade(x)) {
        refuse(x, 500, "Internal Server Error\n");
        return NULL;
    }
    accept_text(key, text);
    http1_clear_headers(x);
    http1_add_header(x, "Upgrade", "websocket");
    http1_add_header(x, "Connection", "Upgrade");
    http1_add_header(x, "Sec-WebSocket-Accept", text);
    if (slice_starts_with(http1_header(req, "sec-websocket-protocol"), SLICE_LITERAL("Bearer")))
        http1_add_header(x, "Sec-WebSocket-Protocol", "Bearer");
    http1_upgrade(x);
    struct gateway_ws *ws = mem_alloc_zero(sizeof(*ws));
    gateway_metadata_init(&ws->metadata);
    buf_init(&ws->message, message_bytes_max);
    buf_init(&ws->body, (size_t)message_bytes_max + 1);
    ws->message_bytes_max = message_bytes_max;
    return ws;
}

/* The cookie "token"; data is NULL when there is none. */
static struct slice token_cookie(struct slice cookies)
{
    while (cookies.size > 0) {
        const uint8_t *end = memchr(cookies.data, ';', cookies.size);
        size_t size = end == NULL ? cookies.size : (size_t)(end - cookies.data);
        struct slice one = slice_trim(slice_of(cookies.data, size), " \t");
        if (slice_starts_with(one, SLICE_LITERAL("token=")))
            return slice_of(one.data + 6, one.size - 6);
        size_t used = end == NULL ? size : size + 1;
        cookies = slice_of(cookies.data + used, cookies.size - used);
    }
    return SLICE_EMPTY;
}

struct slice gateway_ws_authorization(const struct http1_request *req, struct buf *text)
{
    static const char word[] = "Bearer,";
    struct slice protocols = http1_header(req, "sec-websocket-protocol");
    struct slice cookie = token_cookie(http1_header(req, "cookie"));
    if (protocols.size == 0 && cookie.data == NULL)
        return SLICE_EMPTY;
    struct slice token = cookie;
    if (token.data == NULL) {
        const uint8_t *at = memmem(protocols.data, protocols.size, word, sizeof(word) - 1);
        if (at == NULL)
            return SLICE_LITERAL("");
        at += sizeof(word) - 1;
        token = slice_trim(slice_of(at, (size_t)(protocols.data + protocols.size - at)), " ");
    }
    (void)buf_append(text, "Bearer ", 7);
    (void)buf_append(text, token.data, token.size);
    return buf_slice(text);
}

/* --- what goes out --- */

static void send_frame(struct gateway_call *c, uint8_t op, struct slice payload)
{
    uint8_t head[10] = {(uint8_t)(0x80 | op)};
    size_t head_size = 2;
    if (payload.size <= CONTROL_BYTES_MAX) {
        head[1] = (uint8_t)payload.size;
    } else {
        size_t bytes = payload.size <= UINT16_MAX ? 2 : 8;
        head[1] = bytes == 2 ? 126 : 127;
        for (size_t i = 0; i < bytes; i++)
            head[2 + i] = (uint8_t)(payload.size >> (8 * (bytes - 1 - i)));
        head_size += bytes;
    }
    http1_respond_write(c->exchange, slice_of(head, head_size));
    http1_respond_write(c->exchange, payload);
}

void gateway_ws_send(struct gateway_call *c, struct slice text)
{
    while (text.size > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        size_t size = end == NULL ? text.size : (size_t)(end - text.data);
        if (size > 0)
            send_frame(c, OP_TEXT, slice_of(text.data, size));
        size_t used = end == NULL ? size : size + 1;
        text = slice_of(text.data + used, text.size - used);
    }
}

/* Say why, if there is a reason, and end. */
static void end(struct gateway_call *c, uint16_t code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    send_frame(c, OP_CLOSE, slice_of(payload, code != 0 ? 2 : 0));
    http1_respond_end(c->exchange);
    c->exchange = NULL;
    gateway_call_free(c);
}

/* --- what comes in: each of these is false when the call is over --- */

/* A call of one message has it. */
static bool start_unary(struct gateway_call *c, struct slice value, struct buf *err)
{
    struct buf framed;
    buf_init(&framed, SIZE_MAX);
    bool ok = gateway_call_read(c, value, &framed, err);
    c->ws->deaf = true;
    if (ok) {
        gateway_call_start(c, &c->ws->metadata);
        grpc_local_send(c->local, framed.data, framed.size);
        grpc_local_half_close(c->local);
    } else {
        gateway_call_fail(c, GRPC_INVALID_ARGUMENT, buf_slice(err));
    }
    buf_fini(&framed);
    return ok;
}

/* What is no JSON ends a stream's requests without a word, as by HTTP. */
static bool take_bad(struct gateway_call *c, struct slice why)
{
    c->ws->deaf = true;
    if (c->method->client_streaming) {
        grpc_local_half_close(c->local);
        return true;
    }
    gateway_call_fail(c, GRPC_INVALID_ARGUMENT, why);
    return false;
}

static bool take_values(struct gateway_call *c)
{
    struct gateway_ws *ws = c->ws;
    struct slice rest = buf_slice(&ws->body), value;
    struct buf err;
    bool alive = true;
    int rv;
    buf_init(&err, SIZE_MAX);
    while ((rv = json_next_value(&rest, &value, &err)) == JSON_VALUE && alive && !ws->deaf) {
        ws->pieces = 0;
        if (!c->method->client_streaming)
            alive = start_unary(c, value, &err);
        else if (c->local == NULL || !gateway_call_send(c, value, &err))
            alive = take_bad(c, buf_slice(&err));
    }
    if (alive && !ws->deaf && (rv < 0 || (rv == JSON_CUT_OFF && ++ws->pieces == PIECES_MAX)))
        alive = take_bad(c, buf_slice(&err));
    if (alive && (ws->deaf || rv == JSON_NOTHING))
        buf_fini(&ws->body);
    else if (alive)
        buf_consume(&ws->body, (size_t)(rest.data - ws->body.data));
    buf_fini(&err);
    return alive;
}

static bool take_message(struct gateway_call *c, struct slice message)
{
    struct gateway_ws *ws = c->ws;
    if (ws->deaf)
        return true;
    if (buf_append(&ws->body, message.data, message.size) != 0 ||
        buf_append(&ws->body, "\n", 1) != 0) {
        end(c, CLOSE_TOO_LARGE);
        return false;
    }
    return take_values(c);
}

struct frame {
    uint8_t op;
    bool last;
    size_t head_size;
    uint64_t size;
    uint8_t mask[4];
};

/* 1: it is there; 0: more is needed; < 0: the code to close with, negated. */
static int parse_frame(struct slice in, uint32_t size_max, struct frame *f)
{
    if (in.size < 2)
        return 0;
    f->op = in.data[0] & 15;
    f->last = (in.data[0] & 0x80) != 0;
    f->size = in.data[1] & 127;
    f->head_size = 2;
    size_t more = f->size == 126 ? 2 : f->size == 127 ? 8 : 0;
    if ((in.data[0] & 0x70) != 0 || (in.data[1] & 0x80) == 0)
        return -CLOSE_PROTOCOL;
    if (f->op >= OP_CLOSE && (f->op > OP_PONG || more > 0 || !f->last))
        return -CLOSE_PROTOCOL;
    if (f->op > OP_BINARY && f->op < OP_CLOSE)
        return -CLOSE_PROTOCOL;
    if (in.size < f->head_size + more + sizeof(f->mask))
        return 0;
    for (size_t i = 0; i < more; i++)
        f->size = (i == 0 ? 0 : f->size << 8) | in.data[2 + i];
    f->head_size += more;
    memcpy(f->mask, in.data + f->head_size, sizeof(f->mask));
    f->head_size += sizeof(f->mask);
    if (f->size > size_max)
        return -CLOSE_TOO_LARGE;
    return in.size - f->head_size >= f->size;
}

static bool take_control(struct gateway_call *c, const struct frame *f, struct slice payload)
{
    if (f->op == OP_PING && http1_queued_bytes(c->exchange) < GATEWAY_QUEUED_BYTES_MAX)
        send_frame(c, OP_PONG, payload);
    if (f->op != OP_CLOSE)
        return true;
    end(c, payload.size >= 2 ? (uint16_t)(payload.data[0] << 8 | payload.data[1]) : 0);
    return false;
}

static void take_frame(struct gateway_call *c, const struct frame *f, struct slice masked)
{
    struct gateway_ws *ws = c->ws;
    struct buf payload;
    buf_init(&payload, SIZE_MAX);
    if (f->op >= OP_CLOSE) {
        for (size_t i = 0; i < masked.size; i++) {
            uint8_t b = masked.data[i] ^ f->mask[i & 3];
            (void)buf_append(&payload, &b, 1);
        }
        (void)take_control(c, f, buf_slice(&payload));
        buf_fini(&payload);
        return;
    }
    if ((f->op == OP_CONTINUED) != ws->in_message) {
        end(c, CLOSE_PROTOCOL);
        return;
    }
    uint8_t *p = masked.size > 0 ? buf_reserve(&ws->message, masked.size) : NULL;
    if (p == NULL && masked.size > 0) {
        end(c, CLOSE_TOO_LARGE);
        return;
    }
    for (size_t i = 0; i < masked.size; i++)
        p[i] = masked.data[i] ^ f->mask[i & 3];
    ws->message.size += masked.size;
    ws->in_message = !f->last;
    if (!f->last)
        return;
    struct buf message = ws->message;
    buf_init(&ws->message, ws->message_bytes_max);
    (void)take_message(c, buf_slice(&message));
    buf_fini(&message);
}

size_t gateway_ws_data(struct gateway_call *c, struct slice in)
{
    struct frame f;
    if (c->local != NULL && grpc_local_backlog(c->local) > BACKLOG_BYTES_MAX) {
        http1_stop_data(c->exchange);
        return 0;
    }
    int rv = parse_frame(in, c->ws->message_bytes_max, &f);
    if (rv < 0)
        end(c, (uint16_t)-rv);
    if (rv <= 0)
        return 0;
    take_frame(c, &f, slice_of(in.data + f.head_size, (size_t)f.size));
    return f.head_size + (size_t)f.size;
}

/* --- life --- */

void gateway_ws_begin(struct gateway_call *c, const struct gateway_metadata *md)
{
    if (c->method->client_streaming) {
        gateway_call_start(c, md);
        return;
    }
    struct gateway_metadata *kept = &c->ws->metadata;
    (void)buf_reserve(&kept->names, md->names.size + 1);
    for (uint32_t i = 0; i < md->count; i++)
        gateway_metadata_add(kept, "", md->pairs[i].name, md->pairs[i].value);
}

void gateway_ws_free(struct gateway_ws *ws)
{
    if (ws == NULL)
        return;
    gateway_metadata_fini(&ws->metadata);
    buf_fini(&ws->message);
    buf_fini(&ws->body);
    mem_free(ws);
}

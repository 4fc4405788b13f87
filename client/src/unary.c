#include "client/unary.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "proto/grpc.h"
#include "proto/tls.h"

#include <stdbool.h>
#include <stdio.h>

struct unary {
    uv_loop_t loop;
    struct grpc_loop *grpc;
    struct grpc_channel *channel;
    struct tls_context *tls;
    /* Of the call under way. */
    struct buf *response;
    enum grpc_code code;
    bool done;
};

static struct grpc_channel *open_channel(struct unary *u, const char *const *endpoints,
                                         uint32_t endpoints_count, const struct client_tls *tls)
{
    struct grpc_channel *channel = NULL;
    char **addresses = mem_alloc_zero(sizeof(*addresses) * (endpoints_count + 1));
    uint32_t count = 0;
    while (count < endpoints_count) {
        addresses[count] = client_endpoint(tls, endpoints[count]);
        if (addresses[count] == NULL)
            break;
        count++;
    }
    if (count == endpoints_count) {
        struct grpc_channel_options o;
        grpc_channel_options_init(&o);
        o.addresses = (const char *const *)addresses;
        o.addresses_count = count;
        o.user_agent = "trivetctl";
        o.tls = u->tls;
        channel = grpc_channel_new(u->grpc, &o);
    }
    for (uint32_t i = 0; i < count; i++)
        mem_free(addresses[i]);
    mem_free(addresses);
    return channel;
}

static void close_loop(struct unary *u)
{
    grpc_loop_free(u->grpc);
    (void)uv_run(&u->loop, UV_RUN_DEFAULT); /* the closing of what is left */
    int rv = uv_loop_close(&u->loop);
    ASSERT(rv == 0);
}

struct unary *unary_new(const char *const *endpoints, uint32_t endpoints_count,
                        const struct client_tls *tls, char *err_text, size_t err_size)
{
    struct tls_context *context = client_tls_context(tls, err_text, err_size);
    if (context == NULL)
        return NULL;
    struct unary *u = mem_alloc_zero(sizeof(*u));
    int rv = uv_loop_init(&u->loop);
    ASSERT(rv == 0);
    u->grpc = grpc_loop_new(&u->loop);
    u->tls = context;
    u->channel = open_channel(u, endpoints, endpoints_count, tls);
    if (u->channel == NULL) {
        (void)snprintf(err_text, err_size,
                       "an endpoint is not of the form https://host:port, http://host:port or "
                       "host:port");
        close_loop(u);
        tls_context_free(u->tls);
        mem_free(u);
        return NULL;
    }
    return u;
}

void unary_free(struct unary *u)
{
    grpc_channel_close(u->channel);
    close_loop(u);
    tls_context_free(u->tls);
    mem_free(u);
}

static void on_message(struct grpc_call *call, struct slice msg)
{
    struct unary *u = grpc_call_user(call);
    buf_clear(u->response);
    if (buf_append(u->response, msg.data, msg.size) != 0)
        grpc_cancel(call);
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct unary *u = grpc_call_user(call);
    u->code = code;
    u->done = true;
    if (code != GRPC_OK) {
        buf_clear(u->response);
        (void)buf_append(u->response, text.data, text.size); /* a cut text is still a text */
    }
}

enum grpc_code unary_call(struct unary *u, const char *path, struct slice request,
                          uint64_t timeout_ms, struct buf *ret_response)
{
    static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};
    struct grpc_start_options o = {
        .path = path,
        .deadline_ns = clock_mono_ns() + timeout_ms * 1000000,
        .wait_for_ready = true,
        .ops = &ops,
        .user = u,
    };
    buf_clear(ret_response);
    u->response = ret_response;
    u->done = false;
    struct grpc_call *call = grpc_start(u->channel, &o);
    if (grpc_send(call, &request, 1) == 0)
        grpc_half_close(call);
    else
        grpc_cancel(call);
    while (!u->done)
        (void)uv_run(&u->loop, UV_RUN_ONCE);
    return u->code;
}

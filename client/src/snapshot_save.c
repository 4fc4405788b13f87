/* trivetctl snapshot save: a stream into a file that has its name only when it is whole. */
#include "client/snapshot.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "proto/grpc.h"
#include "proto/tls.h"
#include "proto/wirefield.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { HASH_BYTES = 32, SECTOR_BYTES = 512, PATH_BYTES = 4096 };

struct save {
    int fd;
    uint64_t bytes;
    uint64_t remaining; /* as the last message says */
    int write_errno;    /* 0: all was written */
    bool malformed;
    char *version;
    size_t version_size;
    char *err_text;
    size_t err_size;
    enum grpc_code code;
    bool done;
};

static int write_all(int fd, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t n = write(fd, bytes.data, bytes.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        bytes = slice_of(bytes.data + n, bytes.size - (size_t)n);
    }
    return 0;
}

/* SnapshotResponse: 2 remaining_bytes, 3 blob, 4 version. */
static void on_message(struct grpc_call *call, struct slice msg)
{
    struct save *s = grpc_call_user(call);
    struct wire_reader reader = wire_reader_of(msg);
    struct wire_field f;
    struct slice blob = SLICE_EMPTY;
    int rv;
    s->remaining = 0;
    while ((rv = wire_next_field(&reader, &f)) == 1) {
        if (f.number == 2 && f.type == WIRE_VARINT)
            s->remaining = f.value;
        else if (f.number == 3 && f.type == WIRE_BYTES)
            blob = f.bytes;
        else if (f.number == 4 && f.type == WIRE_BYTES)
            (void)snprintf(s->version, s->version_size, "%.*s", (int)f.bytes.size,
                           (const char *)f.bytes.data);
    }
    s->malformed = s->malformed || rv != 0;
    if (s->write_errno == 0)
        s->write_errno = write_all(s->fd, blob);
    s->bytes += blob.size;
    if (s->malformed || s->write_errno != 0)
        grpc_cancel(call);
}

static void on_closed(struct grpc_call *call, enum grpc_code code, struct slice text)
{
    struct save *s = grpc_call_user(call);
    s->code = code;
    s->done = true;
    if (code != GRPC_OK)
        (void)snprintf(s->err_text, s->err_size, "%.*s", (int)text.size, (const char *)text.data);
}

static int receive(struct save *s, uv_loop_t *loop, struct grpc_loop *grpc, const char *address,
                   struct tls_context *tls, uint64_t timeout_ms)
{
    static const struct grpc_call_ops ops = {.message = on_message, .closed = on_closed};
    struct grpc_channel_options o;
    grpc_channel_options_init(&o);
    o.addresses = &address;
    o.addresses_count = 1;
    o.user_agent = "trivetctl";
    o.tls = tls;
    struct grpc_channel *channel = address == NULL ? NULL : grpc_channel_new(grpc, &o);
    if (channel == NULL) {
        (void)snprintf(s->err_text, s->err_size,
                       "an endpoint is not of the form https://host:port, http://host:port or "
                       "host:port");
        return TV_EINVAL;
    }
    struct grpc_start_options start = {
        .path = "/etcdserverpb.Maintenance/Snapshot",
        .deadline_ns = timeout_ms == 0 ? 0 : clock_mono_ns() + timeout_ms * 1000000,
        .wait_for_ready = timeout_ms != 0,
        .ops = &ops,
        .user = s,
    };
    struct grpc_call *call = grpc_start(channel, &start);
    (void)grpc_send(call, &SLICE_EMPTY, 1);
    grpc_half_close(call);
    while (!s->done)
        (void)uv_run(loop, UV_RUN_ONCE);
    grpc_channel_close(channel);
    return s->code == GRPC_OK ? 0 : TV_EAGAIN;
}

/* The whole stream into the open file. */
static int fetch(struct save *s, const char *endpoint, const struct client_tls *tls,
                 uint64_t timeout_ms)
{
    struct tls_context *context = client_tls_context(tls, s->err_text, s->err_size);
    if (context == NULL)
        return TV_EINVAL;
    char *address = client_endpoint(tls, endpoint);
    uv_loop_t loop;
    int rv = uv_loop_init(&loop);
    ASSERT(rv == 0);
    struct grpc_loop *grpc = grpc_loop_new(&loop);
    int err = receive(s, &loop, grpc, address, context, timeout_ms);
    grpc_loop_free(grpc);
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* the closing of what is left */
    rv = uv_loop_close(&loop);
    ASSERT(rv == 0);
    tls_context_free(context);
    mem_free(address);

    if (s->write_errno != 0) {
        (void)snprintf(s->err_text, s->err_size, "could not write snapshot: %s",
                       strerror(s->write_errno));
        return TV_EIO;
    }
    if (s->malformed) {
        (void)snprintf(s->err_text, s->err_size, "the answer cannot be read");
        return TV_EMALFORMED;
    }
    if (err == 0 && (s->remaining != 0 || s->bytes % SECTOR_BYTES != HASH_BYTES)) {
        (void)snprintf(s->err_text, s->err_size, "sha256 checksum not found [bytes: %llu]",
                       (unsigned long long)s->bytes);
        return TV_ECORRUPT;
    }
    return err;
}

int snapshot_save(const char *endpoint, const struct client_tls *tls, uint64_t timeout_ms,
                  const char *path, char *ret_version, size_t version_size, char *err_text,
                  size_t err_size)
{
    char part[PATH_BYTES];
    struct save s = {.version = ret_version,
                     .version_size = version_size,
                     .err_text = err_text,
                     .err_size = err_size};
    *ret_version = '\0';
    if ((size_t)snprintf(part, sizeof(part), "%s.part", path) >= sizeof(part)) {
        (void)snprintf(err_text, err_size, "the path is too long");
        return TV_EINVAL;
    }
    s.fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (s.fd < 0) {
        (void)snprintf(err_text, err_size, "could not open %.3000s (%s)", part, strerror(errno));
        return TV_EIO;
    }
    int err = fetch(&s, endpoint, tls, timeout_ms);
    if (err == 0 && fsync(s.fd) != 0) {
        (void)snprintf(err_text, err_size, "could not fsync snapshot: %s", strerror(errno));
        err = TV_EIO;
    }
    if (close(s.fd) != 0 && err == 0) {
        (void)snprintf(err_text, err_size, "could not close file descriptor: %s", strerror(errno));
        err = TV_EIO;
    }
    if (err == 0 && rename(part, path) != 0) {
        (void)snprintf(err_text, err_size, "could not rename %.1500s to %.1500s (%s)", part, path,
                       strerror(errno));
        err = TV_EIO;
    }
    if (err != 0)
        (void)unlink(part); /* what came is of no use */
    return err;
}

#include "fuzz_node.h"

#include "base/folder.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sanitizer/lsan_interface.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INPUTS_OF_A_NODE = 5000,
    INPUTS_AFTER_CHANGE = 200, /* of one with users, or with members that are not there */
    QUIET_TURNS = 8,
    TURNS_MAX = 200,
    CLOSE_TURNS_MAX = 100000,
    START_TURNS_MAX = 100000,
};

struct fuzz_conn {
    int fd;
    uint64_t conns_before;
    enum fuzz_port port;
};

static char dir[64];
static struct config config;
static struct node_history history;
static struct node *node;
static uint32_t inputs_left;
static uint32_t inputs_changed; /* since it is not as new */
static struct fuzz_conn conn;

/* --- the node --- */

static void remove_dir(void)
{
    folder_remove(dir);
}

static void stop(void);

static void stop_at_exit(void)
{
    if (node != NULL)
        stop();
}

static void configure(void)
{
    static char data[96], clients[96], peers[96], members[112], err_text[4096];
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(dir, sizeof(dir), "%s/trivet-fuzz-XXXXXX", base);
    ASSERT(mkdtemp(dir) != NULL);
    (void)atexit(remove_dir);
    (void)snprintf(data, sizeof(data), "--data-dir=%s/data", dir);
    (void)snprintf(clients, sizeof(clients), "unix://%s/clients", dir);
    (void)snprintf(peers, sizeof(peers), "unix://%s/peers", dir);
    (void)snprintf(members, sizeof(members), "f=%s", peers);
    char *argv[] = {"trivetd",
                    "--name=f",
                    data,
                    "--listen-client-urls",
                    clients,
                    "--advertise-client-urls",
                    clients,
                    "--listen-peer-urls",
                    peers,
                    "--initial-advertise-peer-urls",
                    peers,
                    "--initial-cluster",
                    members,
                    "--unsafe-no-fsync",
                    "--bcrypt-cost=4",
                    "--quota-backend-bytes=67108864",
                    "--log-segment-bytes=16777216",
                    "--disk-reserve-bytes=0",
                    "--enable-pprof",
                    NULL};
    int argc = (int)(sizeof(argv) / sizeof(argv[0])) - 1;
    enum config_outcome outcome =
        config_parse(&config, argc, argv, (char *[]){NULL}, 1, NULL, err_text, sizeof(err_text));
    if (outcome != CONFIG_OK)
        (void)fprintf(stderr, "%s\n", err_text);
    ASSERT(outcome == CONFIG_OK);
    config.io_threads = 0;
}

static bool is_led(void)
{
    struct core_status s;
    core_status(node->core, &s);
    return s.leader != 0 && node->ready;
}

static void start(void)
{
    if (node == NULL && dir[0] == '\0') {
        log_set_level(LOG_FATAL);
        (void)signal(SIGPIPE, SIG_IGN);
        configure();
    }
    char inputs[80];
    (void)snprintf(inputs, sizeof(inputs), "%s/inputs", dir);
    folder_remove(inputs);
    ASSERT(mkdir(inputs, 0700) == 0);
    node = node_start(&config, &history);
    ASSERT(node != NULL);
    static bool will_stop;
    if (!will_stop)
        (void)atexit(stop_at_exit); /* before what RocksDB has made by now goes */
    will_stop = true;
    for (uint32_t i = 0; !is_led(); i++) {
        ASSERT(i < START_TURNS_MAX);
        (void)uv_run(&node->loop, UV_RUN_ONCE);
    }
    inputs_left = INPUTS_OF_A_NODE;
    inputs_changed = 0;
}

static void stop(void)
{
    (void)node_stop(node);
    node = NULL;
    folder_remove(config.data_dir);
    ASSERT(__lsan_do_recoverable_leak_check() == 0);
}

/* Serves the next input as the first one. */
static bool is_as_new(void)
{
    return node->cluster.raft.voters.count == 1 && node->cluster.members_count == 1 &&
           !auth_is_enabled(&node->applier.auth);
}

/* --- a connection --- */

static struct grpc_server *server_of(enum fuzz_port port)
{
    return port == FUZZ_CLIENTS ? node->workers[0].server : peers_server(node->peers);
}

static uint64_t conns_count(enum fuzz_port port)
{
    struct grpc_server_stats s;
    grpc_server_stats(server_of(port), &s);
    return s.conns;
}

void fuzz_node_note(struct slice input)
{
    char path[96];
    if (node == NULL)
        start();
    (void)snprintf(path, sizeof(path), "%s/inputs/%06u", dir, INPUTS_OF_A_NODE - inputs_left);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0);
    ssize_t n = write(fd, input.data, input.size);
    ASSERT(n == (ssize_t)input.size);
    (void)close(fd);
}

struct fuzz_conn *fuzz_conn_open(enum fuzz_port port)
{
    static const struct grpc_port plain = {.plain = true};
    int fds[2];
    conn = (struct fuzz_conn){.port = port, .conns_before = conns_count(port)};
    int rv = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
    ASSERT(rv == 0);
    conn.fd = fds[0];
    rv = grpc_server_adopt(server_of(port), fds[1], &plain);
    ASSERT(rv == 0);
    return &conn;
}

/* What the node has said is read and forgotten. */
static bool drain(struct fuzz_conn *c, bool *ret_some)
{
    static uint8_t bytes[65536];
    ssize_t n = recv(c->fd, bytes, sizeof(bytes), 0);
    *ret_some = n > 0;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool run_until_quiet(struct fuzz_conn *c)
{
    bool some;
    uint32_t quiet = 0;
    for (uint32_t i = 0; i < TURNS_MAX && quiet < QUIET_TURNS; i++) {
        (void)uv_run(&node->loop, UV_RUN_NOWAIT);
        if (!drain(c, &some))
            return false;
        quiet = some ? 0 : quiet + 1;
    }
    return true;
}

bool fuzz_conn_send(struct fuzz_conn *c, struct slice bytes)
{
    bool stuck = false;
    while (bytes.size > 0) {
        ssize_t n = send(c->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0)
            bytes = slice_of(bytes.data + n, bytes.size - (size_t)n);
        else if (stuck)
            return true; /* it does not read: it has its reasons */
        stuck = n <= 0;
        if (bytes.size > 0 && !run_until_quiet(c))
            return false;
    }
    return run_until_quiet(c);
}

bool fuzz_conn_send_in_pieces(struct fuzz_conn *c, struct slice bytes, size_t piece_bytes)
{
    enum { PIECES_MAX = 64 };
    for (uint32_t i = 0; piece_bytes > 0 && i < PIECES_MAX && bytes.size > piece_bytes; i++) {
        if (!fuzz_conn_send(c, slice_of(bytes.data, piece_bytes)))
            return false;
        bytes = slice_of(bytes.data + piece_bytes, bytes.size - piece_bytes);
    }
    return fuzz_conn_send(c, bytes);
}

void fuzz_conn_close(struct fuzz_conn *c)
{
    struct grpc_server_stats s;
    (void)close(c->fd);
    for (uint32_t i = 0; conns_count(c->port) > c->conns_before; i++) {
        ASSERT(i < CLOSE_TURNS_MAX);
        (void)uv_run(&node->loop, UV_RUN_NOWAIT);
    }
    grpc_server_stats(server_of(c->port), &s);
    ASSERT(s.calls == 0);
    if (!is_as_new() && inputs_changed++ > INPUTS_AFTER_CHANGE)
        inputs_left = 1;
    if (--inputs_left == 0 || node->stopping || node->removed)
        stop();
}

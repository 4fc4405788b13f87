/* Any arguments, variables and configuration file of a server. An input is arguments, a line each;
 * a line that begins with "ETCD_" is a variable, and what is behind a line "---" is the file. Then
 * what they say is looked at as far as that goes without a network: tokens, keys of TLS, the
 * members. */
#include "server/auth_token.h"
#include "server/compactor.h"
#include "server/config.h"
#include "server/log_rotate.h"
#include "state/cluster.h"

#include "base/assert.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 64 };

static char file_path[64];

static void remove_file(void)
{
    (void)unlink(file_path);
}

static void make_file(void)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(file_path, sizeof(file_path), "%s/trivet-fuzz-config-XXXXXX", base);
    int fd = mkstemp(file_path);
    ASSERT(fd >= 0);
    (void)close(fd);
    (void)atexit(remove_file);
    log_set_level(LOG_FATAL);
}

static void write_file(const char *text)
{
    int fd = open(file_path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    ASSERT(fd >= 0);
    ssize_t n = write(fd, text, strlen(text));
    ASSERT(n == (ssize_t)strlen(text));
    (void)close(fd);
}

/* No file of this machine but the one that is the input's. */
static bool is_harmless(const char *line)
{
    return strstr(line, "config-file") == NULL && strstr(line, "CONFIG_FILE") == NULL;
}

static void use(const struct config *c)
{
    char why[4096];
    struct cluster members;
    struct log_rotate_options rotate;
    struct auth_tokens *tokens = NULL;
    if (strchr(c->auth_token, '/') == NULL) /* nor a key */
        tokens = auth_tokens_new(c->auth_token, 0, why, sizeof(why));
    if (tokens != NULL)
        auth_tokens_free(tokens);
    if (cluster_from_initial(c->initial_cluster, c->initial_cluster_token, &members, why,
                             sizeof(why)) == 0) {
        (void)cluster_check_local(&members, c->name, &c->advertise_peer_urls, why, sizeof(why));
        cluster_fini(&members);
    }
    (void)log_rotate_parse(c->log.rotation, &rotate, why, sizeof(why));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *argv[LINES_MAX + 3] = {(char *)"trivetd"}, *env[LINES_MAX + 1] = {NULL}, err_text[4096];
    int argc = 1, env_count = 0;
    if (file_path[0] == '\0')
        make_file();
    char *text = mem_alloc(size + 1), *rest = text, *line, named[96];
    memcpy(text, data, size);
    text[size] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL && argc < LINES_MAX && env_count < LINES_MAX) {
        if (strcmp(line, "---") == 0) {
            (void)snprintf(named, sizeof(named), "--config-file=%s", file_path);
            argv[argc++] = named;
            write_file(rest != NULL ? rest : "");
            break;
        }
        if (is_harmless(line) && strncmp(line, "ETCD_", 5) == 0)
            env[env_count++] = line;
        else if (is_harmless(line))
            argv[argc++] = line;
    }
    struct config c;
    err_text[0] = '\0';
    enum config_outcome outcome =
        config_parse(&c, argc, argv, env, 2, NULL, err_text, sizeof(err_text));
    if (outcome == CONFIG_OK)
        use(&c);
    else
        ASSERT(err_text[0] != '\0' || outcome == CONFIG_HELP || outcome == CONFIG_VERSION);
    config_fini(&c);
    mem_free(text);
    return 0;
}

/* Options from a file, in YAML or JSON. Types are as strict as Go's encoding/json, and errors are
 * in its words; names that nobody knows are passed over, with a warning that etcd does not give. */
#include "server/config_internal.h"

#include "server/yaml.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 128, VALUE_BYTES_MAX = 64 << 10 };

struct reading {
    struct parser *p;
    /* What is looked at when all else has the right type: by flag. */
    char *later[FLAGS_MAX];
    bool peer_security_is_null;
    bool type_failed; /* p->err_text has the first one */
};

/* The maps within, and what Go calls them. */
static const struct folder {
    const char *path;
    const char *type;    /* of the map itself */
    const char *package; /* that the type is in */
    const char *root;    /* of configYAML's two parts, the one that it is in */
} folders[] = {
    {"client-transport-security", "securityConfig", "embed", "configJSON"},
    {"peer-transport-security", "securityConfig", "embed", "configJSON"},
    {"discovery-config", "DiscoveryConfig", "v3discovery", "Config"},
    {"discovery-config.client", "ConfigSpec", "clientv3", "Config"},
    {"discovery-config.client.secure", "SecureConfig", "clientv3", "Config"},
    {"discovery-config.client.auth", "AuthConfig", "clientv3", "Config"},
    {"socket-options", "SocketOpts", "transport", "Config"},
};

enum { FOLDERS_COUNT = sizeof(folders) / sizeof(folders[0]) };

static const struct folder *find_folder(const char *path)
{
    for (uint32_t i = 0; i < FOLDERS_COUNT; i++)
        if (strcasecmp(folders[i].path, path) == 0)
            return &folders[i];
    return NULL;
}

static const char *path_of(const struct flag *f)
{
    return f->in_file != NULL ? f->in_file : f->name;
}

static uint32_t find_by_path(const char *path)
{
    for (uint32_t i = 0; i < config_flags_count; i++)
        if (strcasecmp(path_of(&config_flags[i]), path) == 0)
            return i;
    return UINT32_MAX;
}

/* --- types --- */

static bool is_list(const struct flag *f)
{
    return f->kind == FLAG_STRINGS ||
           (f->kind == FLAG_NAMES && strcmp(f->name, "host-whitelist") != 0);
}

static const char *go_type(const struct flag *f)
{
    switch (f->kind) {
    case FLAG_UINT:
        return strncmp(f->name, "snapshot-", 9) == 0 ? "uint64" : "uint";
    case FLAG_UINT_CLAMPED:
        return "uint";
    case FLAG_UINT32:
        return "uint32";
    case FLAG_INT:
        return "int";
    case FLAG_QUOTA:
        return "int64";
    case FLAG_DURATION:
    case FLAG_DURATION_NS:
        return "time.Duration";
    case FLAG_BOOL:
        return "bool";
    case FLAG_V2_STAGES:
        return "config.V2DeprecationEnum";
    default:
        return "string";
    }
}

/* Those that Go reads as text first. */
static bool is_in_config_json(const struct flag *f)
{
    return (f->kind == FLAG_URLS && strcmp(f->name, "listen-metrics-urls") != 0) ||
           f->kind == FLAG_ORIGINS || f->kind == FLAG_FEATURES ||
           strcmp(f->name, "host-whitelist") == 0;
}

static void describe(const struct yaml_node *node, bool with_number, char *ret, size_t size)
{
    static const char *const names[] = {
        [YAML_NULL] = "null",    [YAML_BOOL] = "bool",     [YAML_INT] = "number",
        [YAML_FLOAT] = "number", [YAML_STRING] = "string", [YAML_LIST] = "array",
        [YAML_MAP] = "object"};
    bool number = node->kind == YAML_INT || node->kind == YAML_FLOAT;
    if (number && with_number)
        snprintf(ret, size, "number %.*s", (int)node->text.size, node->text.data);
    else
        snprintf(ret, size, "%s", names[node->kind]);
}

/* The first one is told. `folder` is the map that it is in, NULL for the whole. */
static void wrong_type(struct reading *r, const struct yaml_node *node, bool with_number,
                       const struct folder *folder, const char *root, const char *path,
                       const char *type)
{
    char what[96];
    if (r->type_failed)
        return;
    r->type_failed = true;
    describe(node, with_number, what, sizeof(what));
    snprintf(r->p->err_text, r->p->err_size,
             "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal %s into Go "
             "struct field %s.%s.%s of type %s",
             what, folder != NULL ? folder->type : "configYAML", root, path, type);
}

static void wrong_value(struct reading *r, const struct yaml_node *node, bool with_number,
                        const struct folder *folder, const struct flag *f, const char *type)
{
    const char *root = folder != NULL         ? folder->root
                       : is_in_config_json(f) ? "configJSON"
                                              : "Config";
    wrong_type(r, node, with_number, folder, root, path_of(f), type);
}

/* --- values --- */

static bool is_number(const struct flag *f)
{
    return f->kind == FLAG_UINT || f->kind == FLAG_UINT_CLAMPED || f->kind == FLAG_UINT32 ||
           f->kind == FLAG_INT || f->kind == FLAG_QUOTA || f->kind == FLAG_DURATION ||
           f->kind == FLAG_DURATION_NS;
}

static void read_number(struct reading *r, const struct folder *folder, const struct flag *f,
                        const struct yaml_node *node)
{
    if (node->kind != YAML_INT && node->kind != YAML_FLOAT) {
        wrong_value(r, node, true, folder, f, go_type(f));
        return;
    }
    bool duration = f->kind == FLAG_DURATION || f->kind == FLAG_DURATION_NS;
    char text[96];
    snprintf(text, sizeof(text), "%.*s%s", (int)node->text.size, node->text.data,
             duration ? "ns" : "");
    bool whole = memchr(node->text.data, '.', node->text.size) == NULL &&
                 memchr(node->text.data, 'e', node->text.size) == NULL;
    if (!whole || !config__set(r->p, f, text))
        wrong_value(r, node, true, folder, f, go_type(f));
}

/* Joined with commas, as the flag has it. */
static void read_list(struct reading *r, const struct folder *folder, const struct flag *f,
                      const struct yaml_node *node)
{
    if (node->kind != YAML_LIST) {
        wrong_value(r, node, false, folder, f, "[]string");
        return;
    }
    struct buf joined;
    buf_init(&joined, VALUE_BYTES_MAX);
    int err = 0;
    for (const struct yaml_node *it = node->first; it != NULL && err == 0; it = it->next) {
        if (it->kind != YAML_STRING && it->kind != YAML_NULL)
            wrong_value(r, it, false, folder, f, "string");
        if (it != node->first)
            err = buf_append(&joined, ",", 1);
        if (err == 0 && it->kind == YAML_STRING)
            err = buf_append(&joined, it->text.data, it->text.size);
    }
    char *text = mem_text(joined.data, joined.size);
    /* Empty lists are as if they were not there. */
    if (err == 0 && (node->first == NULL || config__set(r->p, f, text)))
        err = 0;
    else if (!r->type_failed) {
        r->type_failed = true;
        snprintf(r->p->err_text, r->p->err_size, "%s: too many values", path_of(f));
    }
    mem_free(text);
    buf_fini(&joined);
}

static void read_text(struct reading *r, const struct folder *folder, const struct flag *f,
                      const struct yaml_node *node)
{
    struct parser *p = r->p;
    if (node->kind != YAML_STRING) {
        wrong_value(r, node, false, folder, f, go_type(f));
        return;
    }
    uint32_t i = (uint32_t)(f - config_flags);
    char *text = mem_text(node->text.data, node->text.size);
    if (f->kind == FLAG_URLS || f->kind == FLAG_ORIGINS || f->kind == FLAG_FEATURES) {
        mem_free(r->later[i]); /* the same option twice, in other letters: the last one counts */
        r->later[i] = text;
        return;
    }
    if (f->kind == FLAG_CLUSTER_STATE) {
        /* Anything goes until it is checked; nothing is "new". */
        snprintf(p->cluster_state, sizeof(p->cluster_state), "%s", *text == '\0' ? "new" : text);
        p->config->cluster_is_new = strcmp(p->cluster_state, "new") == 0;
    } else if (f->kind == FLAG_NAMES && *text == '\0') {
        p->set[i] = true; /* as if it was not there */
    } else if (f->kind != FLAG_V2_STAGES && !config__set(p, f, text) && !r->type_failed) {
        r->type_failed = true;
        snprintf(p->err_text, p->err_size, "invalid value \"%s\" for %s: %s", text, f->name,
                 p->why);
    }
    mem_free(text);
}

static void read_value(struct reading *r, const struct folder *folder, uint32_t i,
                       const struct yaml_node *node)
{
    const struct flag *f = &config_flags[i];
    r->p->set[i] = true;
    if (node->kind == YAML_NULL)
        return;
    if (is_number(f)) {
        read_number(r, folder, f, node);
    } else if (f->kind == FLAG_BOOL) {
        if (node->kind == YAML_BOOL)
            (void)config__set(r->p, f, node->boolean ? "true" : "false"); /* cannot fail */
        else
            wrong_value(r, node, false, folder, f, "bool");
    } else if (is_list(f)) {
        read_list(r, folder, f, node);
    } else {
        read_text(r, folder, f, node);
    }
}

/* --- the whole --- */

static void read_map(struct reading *r, const struct folder *folder, const struct yaml_node *map)
{
    for (const struct yaml_node *it = map->first; it != NULL; it = it->next) {
        char path[PATH_BYTES_MAX];
        snprintf(path, sizeof(path), "%s%s%.*s", folder != NULL ? folder->path : "",
                 folder != NULL ? "." : "", (int)it->key.size, it->key.data);
        const struct folder *inner = find_folder(path);
        uint32_t i = find_by_path(path);
        if (inner != NULL && it->kind == YAML_MAP) {
            read_map(r, inner, it);
        } else if (inner != NULL && it->kind == YAML_NULL) {
            r->peer_security_is_null |= strcmp(inner->path, "peer-transport-security") == 0;
        } else if (inner != NULL) {
            char type[96];
            const char *dot = strrchr(inner->path, '.');
            char outer[PATH_BYTES_MAX] = "";
            if (dot != NULL)
                snprintf(outer, sizeof(outer), "%.*s", (int)(dot - inner->path), inner->path);
            snprintf(type, sizeof(type), "%s.%s", inner->package, inner->type);
            wrong_type(r, it, false, find_folder(outer), inner->root, inner->path, type);
        } else if (i != UINT32_MAX && *path_of(&config_flags[i]) != '\0') {
            read_value(r, folder, i, it);
        } else {
            log_warn("an option in the configuration file that nobody knows is ignored",
                     LOG_STR("option", path));
        }
    }
}

/* What etcd reads from text when all types are right, in its order. */
static enum config_outcome read_later(struct reading *r)
{
    static const char *const names[] = {"feature-gates",
                                        "listen-peer-urls",
                                        "listen-client-urls",
                                        "listen-client-http-urls",
                                        "initial-advertise-peer-urls",
                                        "advertise-client-urls",
                                        "listen-metrics-urls",
                                        "cors"};
    struct parser *p = r->p;
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        uint32_t i = config_find_flag(names[n], strlen(names[n]));
        const struct flag *f = &config_flags[i];
        const char *text = r->later[i];
        if (text == NULL || *text == '\0' || config__set(p, f, text)) {
            if (n == 0 && r->peer_security_is_null) {
                snprintf(p->err_text, p->err_size, "invalid peer-transport-security");
                return CONFIG_INVALID;
            }
            continue;
        }
        if (f->kind == FLAG_FEATURES)
            snprintf(p->err_text, p->err_size, "%s", p->why);
        else if (f->kind == FLAG_ORIGINS)
            snprintf(p->err_text, p->err_size, "new UniqueURLs should never fail: %s", p->why);
        else
            snprintf(p->err_text, p->err_size, "unexpected error setting up %s: %s",
                     strcmp(f->name, "advertise-client-urls") == 0 ? "advertise-peer-urls"
                                                                   : f->name,
                     p->why);
        return f->kind == FLAG_FEATURES  ? CONFIG_INVALID
               : f->kind == FLAG_ORIGINS ? CONFIG_PANIC
                                         : CONFIG_PLAIN;
    }
    return CONFIG_OK;
}

static enum config_outcome read_root(struct parser *p, const struct yaml_node *root)
{
    struct reading r = {.p = p};
    if (root->kind == YAML_NULL)
        return CONFIG_OK;
    if (root->kind != YAML_MAP) {
        char what[96];
        describe(root, false, what, sizeof(what));
        snprintf(p->err_text, p->err_size,
                 "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal %s into Go "
                 "value of type embed.configYAML",
                 what);
        return CONFIG_INVALID;
    }
    read_map(&r, NULL, root);
    enum config_outcome outcome = r.type_failed ? CONFIG_INVALID : read_later(&r);
    for (uint32_t i = 0; i < FLAGS_MAX; i++)
        mem_free(r.later[i]);
    return outcome;
}

/* What the system says, as Go says it. */
static void say_errno(struct parser *p, const char *what, const char *path, int number)
{
    char text[128];
    snprintf(text, sizeof(text), "%s", strerror(number));
    text[0] = (char)tolower((unsigned char)text[0]);
    snprintf(p->err_text, p->err_size, "%s %s: %s", what, path, text);
}

static int read_all(struct parser *p, const char *path, struct buf *contents)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        say_errno(p, "open", path, errno);
        return TV_EIO;
    }
    int err = 0;
    ssize_t size = 1;
    while (err == 0 && size > 0) {
        uint8_t *at = buf_reserve(contents, 4096);
        if (at == NULL) {
            snprintf(p->err_text, p->err_size, "%s has more than %d bytes", path, YAML_BYTES_MAX);
            err = TV_ETOOLARGE;
            break;
        }
        size = read(fd, at, 4096);
        if (size > 0)
            contents->size += (size_t)size;
        else if (size < 0 && errno == EINTR)
            size = 1;
        else if (size < 0) {
            say_errno(p, "read", path, errno);
            err = TV_EIO;
        }
    }
    (void)close(fd); /* it was only read */
    return err;
}

enum config_outcome config__read_file(struct parser *p, const char *path)
{
    struct buf contents;
    struct arena arena;
    const struct yaml_node *root;
    char why[400];
    enum config_outcome outcome = CONFIG_INVALID;
    buf_init(&contents, YAML_BYTES_MAX + 4096);
    arena_init(&arena);
    if (read_all(p, path, &contents) == 0) {
        if (yaml_parse(buf_slice(&contents), &arena, &root, why, sizeof(why)) != 0)
            snprintf(p->err_text, p->err_size, "error converting YAML to JSON: %s", why);
        else
            outcome = read_root(p, root);
    }
    arena_fini(&arena);
    buf_fini(&contents);
    return outcome;
}

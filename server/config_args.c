/* The command line, as Go's package flag reads it, and the environment, as etcd's pkg/flags. */
#include "server/config_internal.h"

#include "base/assert.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENV_NAME_BYTES_MAX = 128 };

bool config__is_set(const struct parser *p, const char *name)
{
    uint32_t i = config_find_flag(name, strlen(name));
    ASSERT(i != UINT32_MAX);
    return p->set[i];
}

/* --- the command line --- */

static enum config_outcome set_flag(struct parser *p, uint32_t i, const char *value)
{
    const struct flag *f = &config_flags[i];
    p->set[i] = true;
    if (config__set(p, f, value))
        return CONFIG_OK;
    const char *what = f->kind == FLAG_BOOL ? "boolean value" : "value";
    const char *of = f->kind == FLAG_BOOL ? "" : "flag ";
    snprintf(p->err_text, p->err_size, "invalid %s \"%s\" for %s-%s: %s", what, value, of, f->name,
             p->why);
    return CONFIG_USAGE;
}

static enum config_outcome parse_version(struct parser *p, const char *value, bool *ret_wanted)
{
    if (config__parse_bool(value, ret_wanted))
        return CONFIG_OK;
    snprintf(p->err_text, p->err_size, "invalid boolean value \"%s\" for -version: parse error",
             value);
    return CONFIG_USAGE;
}

/* argv[*at], and its value if that is the argument behind; `name` is without the dashes. */
static enum config_outcome parse_flag(struct parser *p, int argc, char *const *argv, int *at,
                                      const char *name, bool *ret_version)
{
    if (*name == '\0' || *name == '-' || *name == '=') {
        snprintf(p->err_text, p->err_size, "bad flag syntax: %s", argv[*at]);
        return CONFIG_USAGE;
    }
    const char *equals = strchr(name, '=');
    size_t name_size = equals == NULL ? strlen(name) : (size_t)(equals - name);
    uint32_t i = config_find_flag(name, name_size);
    if (i == UINT32_MAX) {
        bool help =
            (name_size == 4 && memcmp(name, "help", 4) == 0) || (name_size == 1 && *name == 'h');
        if (help)
            return CONFIG_HELP;
        snprintf(p->err_text, p->err_size, "flag provided but not defined: -%.*s", (int)name_size,
                 name);
        return CONFIG_USAGE;
    }
    const char *value = equals == NULL ? "true" : equals + 1;
    if (equals == NULL && !flag_is_bool(&config_flags[i])) {
        if (*at + 1 >= argc) {
            snprintf(p->err_text, p->err_size, "flag needs an argument: -%s", name);
            return CONFIG_USAGE;
        }
        value = argv[++*at];
    }
    if (config_flags[i].kind == FLAG_VERSION)
        return parse_version(p, value, ret_version);
    return set_flag(p, i, value);
}

enum config_outcome config__parse_args(struct parser *p, int argc, char *const *argv)
{
    bool version = false;
    int at = 1;
    for (; at < argc; at++) {
        const char *arg = argv[at];
        if (arg[0] != '-' || arg[1] == '\0')
            break;
        if (strcmp(arg, "--") == 0) {
            at++;
            break;
        }
        const char *name = arg[1] == '-' ? arg + 2 : arg + 1;
        enum config_outcome outcome = parse_flag(p, argc, argv, &at, name, &version);
        if (outcome != CONFIG_OK)
            return outcome;
    }
    if (at < argc) {
        snprintf(p->err_text, p->err_size, "\"%s\" is not a valid flag", argv[at]);
        return CONFIG_INVALID;
    }
    return version ? CONFIG_VERSION : CONFIG_OK;
}

/* --- the environment --- */

static void env_name(const struct flag *f, char *ret_name)
{
    int size = snprintf(ret_name, ENV_NAME_BYTES_MAX, "ETCD_%s", f->name);
    ASSERT(size < ENV_NAME_BYTES_MAX);
    for (char *c = ret_name + 5; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

const char *config__variable(const struct parser *p, const struct flag *f)
{
    char name[ENV_NAME_BYTES_MAX];
    env_name(f, name);
    size_t size = strlen(name);
    for (char *const *it = p->env; *it != NULL; it++)
        if (strncmp(*it, name, size) == 0 && (*it)[size] == '=')
            return (*it)[size + 1] == '\0' ? NULL : *it + size + 1;
    return NULL;
}

/* The flag that the variable "NAME=value" stands for; UINT32_MAX when there is none. */
static uint32_t flag_of_variable(const char *variable, const char *equals)
{
    for (uint32_t i = 0; i < config_flags_count; i++) {
        char name[ENV_NAME_BYTES_MAX];
        env_name(&config_flags[i], name);
        size_t size = strlen(name);
        if ((size_t)(equals - variable) == size && memcmp(variable, name, size) == 0)
            return i;
    }
    return UINT32_MAX;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(config_flags[*(const uint32_t *)a].name, config_flags[*(const uint32_t *)b].name);
}

static enum config_outcome use_variable(struct parser *p, uint32_t i, const char *value)
{
    const struct flag *f = &config_flags[i];
    char name[ENV_NAME_BYTES_MAX];
    env_name(f, name);
    p->set[i] = true;
    if (!config__set(p, f, value)) {
        snprintf(p->err_text, p->err_size, "invalid value \"%s\" for %s: %s", value, name, p->why);
        return CONFIG_INVALID;
    }
    log_info("recognized and used environment variable", LOG_STR("variable-name", name),
             LOG_STR("variable-value", value));
    return CONFIG_OK;
}

/* In the order of the flags' names; of several that do not parse the last one is told, as etcd
 * does. */
static enum config_outcome use_variables(struct parser *p, const bool *by_flag, bool *used)
{
    enum config_outcome outcome = CONFIG_OK;
    uint32_t order[FLAGS_MAX];
    for (uint32_t i = 0; i < config_flags_count; i++)
        order[i] = i;
    qsort(order, config_flags_count, sizeof(order[0]), by_name);
    for (uint32_t at = 0; at < config_flags_count; at++) {
        uint32_t i = order[at];
        const char *value = config__variable(p, &config_flags[i]);
        if (value == NULL || by_flag[i] || config_flags[i].kind == FLAG_VERSION)
            continue;
        used[i] = true;
        if (use_variable(p, i, value) != CONFIG_OK)
            outcome = CONFIG_INVALID;
    }
    return outcome;
}

enum config_outcome config__parse_env(struct parser *p)
{
    bool by_flag[FLAGS_MAX], used[FLAGS_MAX] = {false};
    memcpy(by_flag, p->set, sizeof(by_flag));
    uint32_t version = config_find_flag("version", 7);
    const char *value = config__variable(p, &config_flags[version]);
    if (value != NULL)
        log_warn("cannot set special environment variable", LOG_STR("key", "ETCD_VERSION"),
                 LOG_STR("value", value));
    enum config_outcome outcome = use_variables(p, by_flag, used);
    for (char *const *it = p->env; *it != NULL; it++) {
        const char *equals = strchr(*it, '=');
        if (equals == NULL || strncmp(*it, "ETCD_", 5) != 0)
            continue;
        uint32_t i = flag_of_variable(*it, equals);
        if (i != UINT32_MAX && by_flag[i]) {
            snprintf(p->err_text, p->err_size, "%.*s", (int)(equals - *it), *it);
            return CONFIG_SHADOWED;
        }
        if (i == UINT32_MAX || (!used[i] && (i != version || equals[1] == '\0')))
            log_warn("unrecognized environment variable", LOG_STR("environment-variable", *it));
    }
    return outcome;
}

#include "server/feature_gates.h"

#include "server/config_internal.h"

#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum feature_stage stage;
    bool value;
    const char *meaning;
} gates[FEATURES_COUNT] = {
    {"CompactHashCheck", FEATURE_ALPHA, false,
     "members are compared all the time, and not only after compactions"},
    {"FastLeaseKeepAlive", FEATURE_BETA, true,
     "what is committed is applied at once: there is nothing that a renewal would wait for"},
    {"InitialCorruptCheck", FEATURE_ALPHA, false, NULL},
    {"LeaseCheckpoint", FEATURE_ALPHA, false, NULL},
    {"LeaseCheckpointPersist", FEATURE_ALPHA, false,
     "checkpoints are always kept, as in etcd from 3.6 on"},
    {"PriorityRequest", FEATURE_ALPHA, false, NULL},
    {"SetMemberLocalAddr", FEATURE_ALPHA, false, NULL},
    {"StopGRPCServiceOnDefrag", FEATURE_ALPHA, false, "a defragmentation stops nobody"},
    {"TxnModeWriteWithSharedBuffer", FEATURE_BETA, true,
     "reads are from memory and share no buffer"},
};

void features_init(struct features *f)
{
    *f = (struct features){0};
    for (uint32_t i = 0; i < FEATURES_COUNT; i++)
        f->enabled[i] = gates[i].value;
}

const char *feature_name(enum feature which)
{
    return gates[which].name;
}

enum feature_stage feature_stage(enum feature which)
{
    return gates[which].stage;
}

const char *feature_meaning(enum feature which)
{
    return gates[which].meaning;
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t size = strlen(text);
    while (size > 0 && isspace((unsigned char)text[size - 1]))
        text[--size] = '\0';
    return text;
}

/* What "AllAlpha" and "AllBeta" were set to. */
struct wholesale {
    bool set[2];
    bool value[2];
};

static int set_one(struct features *f, struct wholesale *all, const char *name, bool value,
                   char *err_text, size_t err_size)
{
    for (uint32_t i = 0; i < FEATURES_COUNT; i++) {
        if (strcmp(name, gates[i].name) == 0) {
            f->enabled[i] = value;
            f->set[i] = true;
            return 0;
        }
    }
    bool beta = strcmp(name, "AllBeta") == 0;
    if (!beta && strcmp(name, "AllAlpha") != 0) {
        snprintf(err_text, err_size, "unrecognized feature gate: %s", name);
        return TV_EINVAL;
    }
    all->set[beta] = true;
    all->value[beta] = value;
    return 0;
}

static int set_item(struct features *f, struct wholesale *all, char *item, char *err_text,
                    size_t err_size)
{
    char *equals = strchr(item, '=');
    if (equals != NULL)
        *equals = '\0';
    const char *name = trim(item), *text = equals == NULL ? NULL : trim(equals + 1);
    bool value;
    if (text == NULL)
        snprintf(err_text, err_size, "missing bool value for %s", name);
    else if (!config__parse_bool(text, &value))
        snprintf(err_text, err_size,
                 "invalid value of %s=%s, err: strconv.ParseBool: parsing \"%s\": invalid syntax",
                 name, text, text);
    else
        return set_one(f, all, name, value, err_text, err_size);
    return TV_EINVAL;
}

int features_set(struct features *f, const char *text, char *err_text, size_t err_size)
{
    struct features next = *f;
    struct wholesale all = {0};
    char *copy = mem_strdup(text), *rest = copy, *item;
    int err = 0;
    while (err == 0 && (item = strsep(&rest, ",")) != NULL)
        if (*item != '\0')
            err = set_item(&next, &all, item, err_text, err_size);
    mem_free(copy);
    if (err != 0)
        return err;
    for (uint32_t i = 0; i < FEATURES_COUNT; i++) {
        if (all.set[gates[i].stage] && !next.set[i]) {
            next.enabled[i] = all.value[gates[i].stage];
            next.set[i] = true;
        }
    }
    *f = next;
    return 0;
}

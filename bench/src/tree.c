#include "tree.h"

struct parser {
    struct arena *arena;
    const char *error;
};

static void *fail(struct parser *p, const char *why)
{
    if (p->error == NULL)
        p->error = why;
    return NULL;
}

/* Without its escapes. */
static const char *copy_string(struct parser *p, struct slice value)
{
    char *text = arena_alloc(p->arena, value.size);
    size_t size = json_string_copy(value, text, value.size);
    return strlen(text) == size ? text : fail(p, "a string has a zero byte");
}

static struct tree *make(struct parser *p, struct slice value, uint32_t depth);

static struct tree *make_members(struct parser *p, struct tree *t, struct slice value,
                                 uint32_t depth)
{
    struct tree **last = &t->first;
    struct slice name, member;
    struct json_walk w = json_walk_of(value);
    while (json_walk_next(&w, &name, &member)) {
        struct tree *one = make(p, member, depth);
        if (one != NULL && name.data != NULL)
            one->name = copy_string(p, name);
        if (p->error != NULL)
            return NULL;
        *last = one;
        last = &one->next;
        t->count++;
    }
    return t;
}

static struct tree *make(struct parser *p, struct slice value, uint32_t depth)
{
    struct tree *t = arena_alloc_zero(p->arena, sizeof(*t));
    t->type = json_kind(value);
    switch (t->type) {
    case JSON_NULL:
        return t;
    case JSON_BOOL:
        t->number = json_bool(value);
        return t;
    case JSON_NUMBER:
        return json_number(value, &t->number) ? t : fail(p, "a number is too large");
    case JSON_STRING:
        t->text = copy_string(p, value);
        return t->text != NULL ? t : NULL;
    default:
        return depth < TREE_DEPTH_MAX ? make_members(p, t, value, depth + 1)
                                      : fail(p, "it is too deep");
    }
}

struct tree *tree_parse(struct arena *a, struct slice text, const char **ret_error)
{
    struct parser p = {.arena = a};
    struct slice value;
    struct tree *t = json_scan_whole(text, &value) == 0 ? make(&p, value, 0)
                                                        : fail(&p, "it is not JSON, or not whole");
    *ret_error = p.error;
    return t;
}

struct tree *tree_get(const struct tree *t, const char *name)
{
    if (t == NULL || t->type != JSON_OBJECT)
        return NULL;
    for (struct tree *it = t->first; it != NULL; it = it->next)
        if (strcmp(it->name, name) == 0)
            return it;
    return NULL;
}

double tree_number(const struct tree *t, const char *name, double otherwise)
{
    const struct tree *found = tree_get(t, name);
    return found != NULL && found->type == JSON_NUMBER ? found->number : otherwise;
}

const char *tree_text(const struct tree *t, const char *name, const char *otherwise)
{
    const struct tree *found = tree_get(t, name);
    return found != NULL && found->type == JSON_STRING ? found->text : otherwise;
}

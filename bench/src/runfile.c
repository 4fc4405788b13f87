#include "runfile.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { READ_BYTES_FIRST = 1 << 20 };

/* The whole file; NULL with errno. */
static char *read_file(const char *path, size_t *ret_size)
{
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        return NULL;
    size_t capacity = READ_BYTES_FIRST;
    size_t size = 0;
    char *text = mem_alloc(capacity);
    size_t got;
    while ((got = fread(text + size, 1, capacity - size, in)) > 0 && size + got <= TREE_BYTES_MAX) {
        size += got;
        if (size == capacity)
            text = mem_realloc(text, capacity *= 2);
    }
    int why = ferror(in) ? errno : got > 0 ? EFBIG : 0;
    (void)fclose(in); /* only read */
    if (why == 0) {
        *ret_size = size;
        return text;
    }
    mem_free(text);
    errno = why;
    return NULL;
}

static const char *understand(struct runfile *f)
{
    if (tree_number(f->root, "format", 0) != 1)
        return "it is not what trivet-bench --json writes";
    f->latency = tree_get(f->root, "latency");
    f->series = tree_get(f->root, "series");
    f->operations = tree_get(f->series, "operations");
    const struct tree *at = tree_get(f->series, "at_s");
    if (f->latency == NULL || f->operations == NULL || at == NULL || at->type != JSON_ARRAY)
        return "it has no latency or no series";
    f->points_count = at->count;
    return NULL;
}

struct runfile *runfile_open(const char *path)
{
    size_t size;
    const char *error = NULL;
    char *text = read_file(path, &size);
    if (text == NULL) {
        fprintf(stderr, "trivet-bench: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    struct runfile *f = mem_alloc_zero(sizeof(*f));
    f->path = path;
    arena_init(&f->arena);
    f->root = tree_parse(&f->arena, slice_of(text, size), &error);
    mem_free(text);
    if (f->root != NULL)
        error = understand(f);
    if (error == NULL)
        return f;
    fprintf(stderr, "trivet-bench: %s: %s\n", path, error);
    runfile_close(f);
    return NULL;
}

void runfile_close(struct runfile *f)
{
    arena_fini(&f->arena);
    mem_free(f);
}

bool runfile_array(const struct runfile *f, const struct tree *of, const char *name, double *ret)
{
    const struct tree *array = tree_get(of, name);
    uint32_t i = 0;
    if (array == NULL || array->type != JSON_ARRAY || array->count != f->points_count)
        return false;
    for (const struct tree *it = array->first; it != NULL; it = it->next)
        ret[i++] = it->type == JSON_NUMBER ? it->number : 0;
    return true;
}

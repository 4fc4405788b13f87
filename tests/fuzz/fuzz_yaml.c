/* Any bytes as a configuration file: it is read or refused, and nothing beyond it is read. */
#include "server/yaml.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    const struct yaml_node *root;
    char why[256];
    uint8_t *copy = mem_dup(data, size);
    arena_init(&arena);
    (void)yaml_parse(slice_of(copy, size), &arena, &root, why, sizeof(why)); /* whatever it says */
    arena_fini(&arena);
    mem_free(copy);
    return 0;
}

/* Between the parts of the YAML reader. */
#ifndef SERVER_YAML_INTERNAL_H
#define SERVER_YAML_INTERNAL_H

#include "server/yaml.h"

/* Kind and value of a plain scalar. */
void yaml__resolve(struct yaml_node *node, struct slice s, struct arena *arena);

#endif

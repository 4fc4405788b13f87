/* Looking things up in a JSON text, without building a tree. */
#ifndef CLIENT_CTL_JSON_LOOK_H
#define CLIENT_CTL_JSON_LOOK_H

#include "base/slice.h"

#include <stdbool.h>

/* The value of a member of an object, as text; data NULL: it is not there, or no object. */
struct slice json_look(struct slice object, const char *name);
/* The values of an array in turn: begin with *rest = the array. */
bool json_look_next(struct slice *rest, struct slice *ret);
double json_look_number(struct slice object, const char *name);
/* A string's bytes, at most size - 1 of them and a zero byte, with \uXXXX below 256 as a byte;
 * returns how many. 0 when it is no string. */
size_t json_look_bytes(struct slice object, const char *name, char *ret, size_t size);

#endif

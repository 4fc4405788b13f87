/* A document to print: what a command found, in a form that is written as JSON, YAML or protobuf.
 *
 * It is built in one pass, in the order in which it is printed:
 *     doc_open(d, "header", 1); doc_int(d, "revision", 3, 7); doc_close(d);
 *
 * `number` is the field's number in the API's message. A field that has one is left out when it is
 * zero or empty, as in protobuf; one with DOC_PLAIN is always there, and no part of protobuf.
 * In a list the name is NULL. The document itself is an object that is open from the beginning. */
#ifndef CLIENT_CTL_DOC_H
#define CLIENT_CTL_DOC_H

#include "base/buf.h"
#include "trivet.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DOC_PLAIN = 0,
    DOC_THROUGH = -1, /* of doc_open(): protobuf has what is inside without the shell */
};

struct doc_node;
struct doc {
    struct doc_node *nodes;
    uint32_t nodes_count;
    uint32_t nodes_capacity;
    bool is_list; /* the document is a list; set before anything is added */
    bool hex;     /* ids as hexadecimal text */
};

void doc_init(struct doc *d);
void doc_fini(struct doc *d);

void doc_open(struct doc *d, const char *name, int number);
/* A list. Empty ones are left out, but with DOC_PLAIN. */
void doc_open_list(struct doc *d, const char *name, int number);
void doc_close(struct doc *d);

/* Names and numbers as above; texts are borrowed until doc_fini(). */
void doc_int(struct doc *d, const char *name, int number, int64_t value);
void doc_uint(struct doc *d, const char *name, int number, uint64_t value);
/* A member's or cluster's id: an unsigned number, with `hex` text, which is never left out. */
void doc_id(struct doc *d, const char *name, int number, uint64_t value);
void doc_double(struct doc *d, const char *name, double value);
void doc_bool(struct doc *d, const char *name, int number, bool value);
void doc_text(struct doc *d, const char *name, int number, struct trivet_bytes value);
void doc_string(struct doc *d, const char *name, int number, const char *value);
/* base64 in JSON and YAML. */
void doc_bytes(struct doc *d, const char *name, int number, struct trivet_bytes value);
void doc_null(struct doc *d, const char *name);
void doc_header(struct doc *d, const struct trivet_header *h);

void doc_write_json(const struct doc *d, struct buf *out);
void doc_write_yaml(const struct doc *d, struct buf *out);
void doc_write_protobuf(const struct doc *d, struct buf *out);
size_t doc_protobuf_size(const struct doc *d);

#endif

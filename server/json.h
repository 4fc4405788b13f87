/* The members of one JSON object (RFC 8259): strings, numbers and booleans are given out, whatever
 * else is in it is checked and passed over.
 *
 * Thread: any. */
#ifndef SERVER_JSON_H
#define SERVER_JSON_H

#include "base/buf.h"

enum json_kind { JSON_STRING, JSON_NUMBER, JSON_BOOL, JSON_NULL, JSON_OTHER };

struct json_member {
    struct slice name;
    enum json_kind kind;
    struct slice string; /* of a STRING, unescaped */
    double number;
    struct slice literal; /* a NUMBER as it is written */
    bool boolean;
};

struct json_reader {
    const uint8_t *at;
    const uint8_t *end;
    struct buf text; /* what the names and strings point into */
    bool begun;
};

/* `text` is borrowed as long as the reader. */
void json_reader_init(struct json_reader *r, struct slice text);
void json_reader_fini(struct json_reader *r);
/* 1: there is one, borrowed until the next call; 0: the object has ended, and with it the text; or
 * TV_EMALFORMED. */
int json_next_member(struct json_reader *r, struct json_member *ret);

#endif

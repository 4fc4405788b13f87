#include "server/auth_request.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/utf8.h"
#include "proto/wire.h"

enum { NAME = 1, ROLE_OF_USER = 2, PASSWORD = 2, OPTIONS = 3, NO_PASSWORD = 1 };
enum { ADD_HASHED = 4, CHANGE_HASHED = 3, LETTERS = 3, PERMISSION = 2, KEY = 2, RANGE_END = 3 };

bool auth_request_is_kind(uint32_t kind)
{
    switch (kind) {
    case WIRE_RAFT_AUTH_ENABLE:
    case WIRE_RAFT_AUTH_DISABLE:
    case WIRE_RAFT_AUTHENTICATE:
    case WIRE_RAFT_AUTH_STATUS:
        return true;
    default:
        return (kind >= WIRE_RAFT_USER_ADD && kind <= WIRE_RAFT_ROLE_LIST) ||
               (kind >= WIRE_RAFT_ROLE_ADD && kind <= WIRE_RAFT_ROLE_REVOKE_PERMISSION);
    }
}

static bool is_utf8(struct slice s)
{
    for (size_t i = 0, n; i < s.size; i += n) {
        n = utf8_size(s.data + i, s.size - i);
        if (n == 0)
            return false;
    }
    return true;
}

static int decode_options(struct slice msg, struct auth_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    ret->has_options = true;
    while ((rv = wire_next_field(&r, &f)) == 1)
        if (f.number == NO_PASSWORD && f.type == WIRE_VARINT)
            ret->no_password = f.value != 0;
    return rv;
}

static int take_string(struct slice bytes, struct slice *ret)
{
    *ret = bytes;
    return is_utf8(bytes) ? 0 : TV_EINVAL;
}

/* What a field of type bytes is, behind the first. */
static int take_field(uint32_t kind, const struct wire_field *f, struct auth_request *ret)
{
    uint32_t n = f->number;
    switch (kind) {
    case WIRE_RAFT_USER_ADD:
        if (n == OPTIONS)
            return decode_options(f->bytes, ret);
        if (n == ADD_HASHED)
            return take_string(f->bytes, &ret->hashed_password);
        return n == PASSWORD ? take_string(f->bytes, &ret->password) : 0;
    case WIRE_RAFT_USER_CHANGE_PASSWORD:
        if (n == CHANGE_HASHED)
            return take_string(f->bytes, &ret->hashed_password);
        return n == PASSWORD ? take_string(f->bytes, &ret->password) : 0;
    case WIRE_RAFT_AUTHENTICATE:
        if (n == LETTERS)
            return take_string(f->bytes, &ret->letters);
        return n == PASSWORD ? take_string(f->bytes, &ret->password) : 0;
    case WIRE_RAFT_USER_GRANT_ROLE:
    case WIRE_RAFT_USER_REVOKE_ROLE:
        return n == ROLE_OF_USER ? take_string(f->bytes, &ret->role) : 0;
    case WIRE_RAFT_ROLE_GRANT_PERMISSION:
        if (n != PERMISSION)
            return 0;
        ret->has_permission = true;
        return auth_permission_decode(f->bytes, &ret->permission);
    case WIRE_RAFT_ROLE_REVOKE_PERMISSION:
        if (n == KEY)
            ret->permission.key = f->bytes;
        else if (n == RANGE_END)
            ret->permission.range_end = f->bytes;
        return 0;
    default:
        return 0;
    }
}

static bool has_name(uint32_t kind)
{
    return kind >= WIRE_RAFT_USER_ADD ? kind != WIRE_RAFT_USER_LIST && kind != WIRE_RAFT_ROLE_LIST
                                      : kind == WIRE_RAFT_AUTHENTICATE;
}

int auth_request_decode(uint32_t kind, struct slice msg, struct auth_request *ret)
{
    struct wire_reader r = wire_reader_of(msg);
    struct wire_field f;
    int rv;
    *ret = (struct auth_request){0};
    while ((rv = wire_next_field(&r, &f)) == 1) {
        int err = 0;
        if (f.type == WIRE_BYTES && f.number == NAME && has_name(kind))
            err = take_string(f.bytes, &ret->name);
        else if (f.type == WIRE_BYTES)
            err = take_field(kind, &f, ret);
        if (err != 0)
            return err;
    }
    return rv;
}

size_t auth_request_size(uint32_t kind, const struct auth_request *r)
{
    size_t size = wire_bytes_size(NAME, r->name);
    if (kind == WIRE_RAFT_AUTHENTICATE)
        return size + wire_bytes_size(LETTERS, r->letters);
    if (kind == WIRE_RAFT_USER_CHANGE_PASSWORD)
        return size + wire_bytes_size(CHANGE_HASHED, r->hashed_password);
    ASSERT(kind == WIRE_RAFT_USER_ADD);
    if (r->has_options)
        size += wire_item_size(OPTIONS, wire_uint_size(NO_PASSWORD, r->no_password));
    return size + wire_bytes_size(ADD_HASHED, r->hashed_password);
}

uint8_t *auth_request_put(uint8_t *dst, uint32_t kind, const struct auth_request *r)
{
    dst = wire_bytes_put(dst, NAME, r->name);
    if (kind == WIRE_RAFT_AUTHENTICATE)
        return wire_bytes_put(dst, LETTERS, r->letters);
    if (kind == WIRE_RAFT_USER_CHANGE_PASSWORD)
        return wire_bytes_put(dst, CHANGE_HASHED, r->hashed_password);
    if (r->has_options) {
        dst = wire_item_put_head(dst, OPTIONS, wire_uint_size(NO_PASSWORD, r->no_password));
        dst = wire_uint_put(dst, NO_PASSWORD, r->no_password);
    }
    return wire_bytes_put(dst, ADD_HASHED, r->hashed_password);
}

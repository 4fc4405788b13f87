#include "base/err.h"

const char *tv_err_text(int err)
{
    switch (err) {
    case 0:
        return "ok";
#define X(name, number, code, text) \
    case -(number):                 \
        return text;
        TV_ERR_MAP(X)
#undef X
    }
    return "unknown error";
}

const char *tv_err_name(int err)
{
    switch (err) {
    case 0:
        return "TV_OK";
#define X(name, number, code, text) \
    case -(number):                 \
        return "TV_" #name;
        TV_ERR_MAP(X)
#undef X
    }
    return "unknown";
}

enum grpc_code tv_err_code(int err)
{
    switch (err) {
    case 0:
        return GRPC_OK;
#define X(name, number, code, text) \
    case -(number):                 \
        return GRPC_##code;
        TV_ERR_MAP(X)
#undef X
    }
    return GRPC_UNKNOWN;
}

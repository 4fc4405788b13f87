/* What the kinds of operations are called, on the screen and in reports. */
#include "load.h"

static const char *const names[OP_KINDS_COUNT] = {
    [OP_PUT] = "put",
    [OP_GET] = "get",
    [OP_TXN] = "txn",
    [OP_LIST] = "list",
    [OP_FILL] = "fill",
    [OP_LEASE] = "lease",
    [OP_GRANT] = "grant",
    [OP_KEEPALIVE] = "keepalive",
    [OP_COMPACT] = "compact",
    [OP_SNAPSHOT] = "snapshot",
    [OP_NODE_LEASE] = "node-lease",
    [OP_NODE_STATUS] = "node-status",
    [OP_SYSTEM_LEASE] = "system-lease",
    [OP_POD_CREATE] = "pod-create",
    [OP_POD_BIND] = "pod-bind",
    [OP_POD_STATUS] = "pod-status",
    [OP_POD_TERMINATE] = "pod-terminate",
    [OP_POD_DELETE] = "pod-delete",
    [OP_EVENT_CREATE] = "event-create",
    [OP_EVENT_LEASE] = "event-lease",
    [OP_OBJECT_GET] = "object-get",
    [OP_CONSISTENT_READ] = "consistent-read",
    [OP_COUNT] = "count",
    [OP_RELIST] = "relist",
    [OP_COMPACT_TRY] = "compact-try",
};

const char *op_name(enum op_kind kind)
{
    return names[kind];
}

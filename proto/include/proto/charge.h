/* What a request takes from its delivery until it is answered, which may be later than the end of
 * its call and of its connection: whoever keeps it takes a charge and returns it, on the thread of
 * the call's grpc_loop and before that is freed. Counts for conn_bytes_max and loop_bytes_max of
 * grpc_server_options. */
#ifndef PROTO_CHARGE_H
#define PROTO_CHARGE_H

#include <stddef.h>

struct conn_account;
struct grpc_call;

struct grpc_charge {
    struct conn_account *account; /* NULL: none taken, or returned */
    size_t bytes;
};

void grpc_charge_take(struct grpc_charge *ret, struct grpc_call *call, size_t bytes);
/* Nothing happens when none is taken. */
void grpc_charge_return(struct grpc_charge *charge);

#endif

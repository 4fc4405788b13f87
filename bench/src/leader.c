#include "leader.h"

#include "base/mem.h"
#include "client/unary.h"
#include "proto/wire.h"

#include <stdio.h>

enum {
    STATUS_HEADER = 1, /* fields of StatusResponse */
    STATUS_LEADER = 4,
    STATUS_BYTES_MAX = 1 << 20,
    STATUS_PATIENCE_MS = 5000,
};

static bool says_it_leads(struct slice status)
{
    struct wire_reader r = wire_reader_of(status);
    struct wire_field f;
    struct wire_header header = {0};
    uint64_t leader = 0;
    while (wire_next_field(&r, &f) == 1) {
        if (f.number == STATUS_HEADER && f.type == WIRE_BYTES)
            (void)wire_header_decode(f.bytes, &header); /* zeros lead nobody */
        else if (f.number == STATUS_LEADER && f.type == WIRE_VARINT)
            leader = f.value;
    }
    return leader != 0 && leader == header.member_id;
}

static bool is_leader(const char *endpoint, const struct client_tls *tls)
{
    struct buf answer;
    char unused[256];
    struct unary *u = unary_new(&endpoint, 1, tls, unused, sizeof(unused));
    if (u == NULL)
        return false;
    buf_init(&answer, STATUS_BYTES_MAX);
    bool leads = unary_call(u, "/etcdserverpb.Maintenance/Status", slice_of("", 0),
                            STATUS_PATIENCE_MS, &answer) == GRPC_OK &&
                 says_it_leads(buf_slice(&answer));
    buf_fini(&answer);
    unary_free(u);
    return leads;
}

bool leader_choose(struct bench_options *o)
{
    for (uint32_t i = 0; i < o->endpoints_count; i++) {
        if (is_leader(o->endpoints[i], &o->tls)) {
            const char *leader = o->endpoints[i];
            for (uint32_t other = 0; other < o->endpoints_count; other++)
                if (other != i)
                    mem_free((char *)o->endpoints[other]);
            o->endpoints[0] = leader;
            o->endpoints_count = 1;
            return true;
        }
    }
    fprintf(stderr, "trivet-bench: none of the endpoints is the leader's\n");
    return false;
}

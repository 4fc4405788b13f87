/* How long large answers (bulk: LISTs) rest between two pieces, while others share the loop with
 * whoever reads them.
 *
 * Where CPUs are free bulk costs the others a piece's time at most, and bulk does not rest. Where
 * they are not, a thread that works all the time gets its next turn late, and with it everybody
 * whose requests it has. So it is told by what a piece took beside what it worked: when others had
 * the CPU meanwhile, it rests longer, up to REST_MAX times what it worked; when not, less and less.
 *
 * Pure; the caller has the clocks. */
#ifndef PROTO_TRANSPORT_REST_H
#define PROTO_TRANSPORT_REST_H

#include <stdint.h>

enum { REST_MAX = 8 };

struct rest {
    uint32_t sixteenths; /* of what was worked last */
    uint64_t until_ns;
};

/* A piece is out: it took so long, of which this thread worked `cpu_ns`. */
void rest_after(struct rest *r, uint64_t took_ns, uint64_t cpu_ns, uint64_t now_ns);
/* Nobody shares the loop: there is no rest. */
void rest_forget(struct rest *r);

#endif

/* --to leader: which of the endpoints leads. */
#ifndef BENCH_LEADER_H
#define BENCH_LEADER_H

#include "options.h"

/* Leaves in *o the leader's endpoint alone. False when none of them says that it leads; it was
 * said.
 */
bool leader_choose(struct bench_options *o);

#endif

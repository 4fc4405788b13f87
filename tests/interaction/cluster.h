/* A cluster of raft members that is driven by commands and tells in words what goes out of them.
 *
 *   nodes N [option=value ...]  a new cluster of members 1..N; options: pre-vote, check-quorum,
 *                               window, msg-bytes, inflight, uncommitted, lease, lease-margin
 *                               (numbers)
 *   join N                      one more member, that knows nothing
 *   conf N [joint|explicit] [voter=N] [learner=N] [remove=N] [keep=N] ...  propose this change
 *   conf N leave                propose to leave the joint configuration
 *   campaign N                  stand for election
 *   propose N data ...          one batch of entries
 *   read N context
 *   transfer N to
 *   tick N count
 *   deliver A->B [count]        the oldest messages on their way from A to B; all without count
 *   drop A->B                   lose them all
 *   forge A->B type key=value ...   a message that A never sent; prints what B says to it
 *   stabilize                   deliver everything until nothing moves
 *   hold N / go N               between them inputs of N collect; `go` carries out the outputs
 *   quiet command ...           carry it out without telling
 *   cut N ... / heal            isolate members from the others (not from each other) / undo
 *   disk N slow|fast            slow: writes wait for `persist`
 *   persist N [count]           the oldest writes are durable
 *   crash N / restart N         unfinished writes are lost
 *   compact N log_index         the disk keeps only entries after this one
 *   reader N later|now          later: reads of old entries say TV_EAGAIN; now: they are there
 *   snapshot A->B [fails|unheard]   B installs what A has applied, and A hears of it (unheard: it
 *                               does not; fails: it hears that B did not)
 *   unreachable N peer
 *   members N
 *   status / progress N / log N
 *
 * After each input the member's outputs are carried out: messages go to the network, writes to the
 * disk. */
#ifndef TESTS_INTERACTION_CLUSTER_H
#define TESTS_INTERACTION_CLUSTER_H

#include "base/buf.h"

struct cluster;

struct cluster *cluster_new(void);
void cluster_free(struct cluster *c);
/* Carries out one line (which it cuts into words) and appends to `out` what there is to see. */
void cluster_run(struct cluster *c, char *line, struct buf *out);

#endif

/* The network between members: frames as they go over the wire (proto/peerwire.h), each on its way
 * for a time of its own. Without faults a link keeps the order. */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "server/core.h"

struct bref;
struct event;
struct member;
struct sim;

struct net *net_new(struct sim *s);
void net_free(struct net *n);

void net_send(struct member *from, const struct raft_msg *msg);
void net_send_lease(struct member *from, uint64_t to, const struct core_question *msg);
void net_send_report(struct member *from, uint64_t to, const struct agree_report *r);
/* A frame has arrived: give it to the member's core. */
void net_deliver(struct member *m, struct bref *frame);
/* May the frame pass now? */
bool net_passes(const struct sim *s, uint32_t from, uint32_t to);

/* Does what this EVENT_MESSAGE carries reach whom it was meant for, and does that one listen? A
 * member that was removed is told so instead. */
bool net_arrives(const struct sim *s, const struct event *e);

/* Cut the link in this direction until then. */
void net_cut(struct sim *s, uint32_t from, uint32_t to, uint64_t until_us);
/* Pass and cut in turn, for `period_us` each. */
void net_flap(struct sim *s, uint32_t from, uint32_t to, uint64_t period_us, uint64_t until_us);
void net_heal(struct sim *s);

/* The others notice that its connections are gone. */
void net_peer_lost(struct sim *s, struct member *m);

#endif

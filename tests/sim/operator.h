/* Who runs the cluster: adds members, promotes, updates and removes them, through the service that
 * `etcdctl member` uses; starts a machine for each that was added, and asks no more of the cluster
 * than the faults of the run leave room for.
 *
 * A majority of the voters always has its data, by the newest membership and by every other that a
 * member may still go by: that is what faults that take data away must leave (operator_spares), and
 * what a removal must leave. All the rest is the cluster's own care. */
#ifndef TESTS_SIM_OPERATOR_H
#define TESTS_SIM_OPERATOR_H

#include "sim.h"

struct event;
struct member;

struct overseer *operator_new(struct sim *s);
void operator_free(struct overseer *op);
/* EVENT_OPERATOR. */
void operator_event(struct sim *s, const struct event *e);
/* May this member's data be lost now? */
bool operator_spares(const struct sim *s, const struct member *m);

/* Is every member there that should be, with a voice if it is owed one, and nobody else? */
bool operator_is_content(const struct sim *s);
void operator_explain(struct sim *s);

#endif

/* What the API servers of a Kubernetes cluster ask of their store, in open loop. docs/benchmark.md
 * derives what is done how often; in short:
 *
 *   every object is written by a Txn that compares its mod_revision, and read back in the other
 *   branch when it was another;
 *   node k renews its Lease every 10 s and writes its status every 5 min;
 *   a pod is created, bound, written three times by its kubelet, told to end, and deleted; five
 *   events, under a shared lease, tell of it;
 *   each API server watches each resource over a connection of its own, reads some objects
 * directly, serves consistent lists from the watch's cache, counts, relists in pages at one
 * revision, and compacts.
 *
 * Each kind is due at a fixed rate, from the beginning: `struct kube_stream`. An object has one
 * write under way at a time; a second waits, its latency counting from when it was due.
 *
 * API servers, nodes and pods are dealt out to the workers, who share nothing. */
#ifndef BENCH_KUBERNETES_H
#define BENCH_KUBERNETES_H

#include "load.h"

#define KUBE_NO_OBJECT UINT32_MAX

/* --- main: before the workers are there --- */

/* Makes run->kubes, deletes what is under the prefix and writes the nodes and pods. False: it was
 * said why not. */
bool kube_populate(struct run *run);
void kube_free_all(struct run *run);
/* Bytes that the largest object takes. */
uint32_t kube_value_size(const struct bench_options *o);

/* --- the engine: all of them for `kubernetes` alone, but for those that say otherwise --- */

void kube_open(struct worker *w);
void kube_watches_open(struct worker *w);
/* Nothing is asked any more. */
void kube_stop(struct worker *w);
uint32_t kube_channels_count(const struct worker *w);
uint32_t kube_slots_count(const struct worker *w);
/* When the next operation is due; kube_choose() gives that one to a slot. */
uint64_t kube_next_due(const struct worker *w);
uint64_t kube_due_before_end(const struct worker *w);
void kube_choose(struct slot *s);

const char *kube_path(const struct slot *s);
void kube_send(struct slot *s, struct grpc_call *call);
void kube_answer(struct slot *s, struct slice msg);
bool kube_continues(struct slot *s);

bool kube__blocks(struct slot *s);
void kube__release(struct slot *s);
bool kube__parks(struct slot *s);

/* Any load: whether the slot waits until its object is free; it is begun then. */
static inline bool kube_blocks(struct slot *s)
{
    return s->worker->kube != NULL && kube__blocks(s);
}

/* Any load: the slot has done with its object. */
static inline void kube_release(struct slot *s)
{
    if (s->worker->kube != NULL)
        kube__release(s);
}

/* Any load: whether the slot waits for something else than an answer; slot_done() ends that. */
static inline bool kube_parks(struct slot *s)
{
    return s->worker->kube != NULL && kube__parks(s);
}

#endif

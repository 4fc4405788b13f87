/* Listeners: what the server itself wants to hear of changes, beside clients' watches. A hub offers
 * them each version in order and wakes those that it concerns when the round is over.
 *
 * Limit: what makes listeners bounds them, a call each (server/contest.h). Owner: the worker's
 * thread. */
#ifndef SERVER_WATCH_LISTEN_H
#define SERVER_WATCH_LISTEN_H

#include "server/interest.h"

#include "storage/mvcc.h"

/* Its fields are the owner's. */
struct watch_listener {
    struct interest in;
    struct list due_link;
    /* A change of the range, in order, each once, in a section of the store: true to be woken.
     * Nothing of the hub may be called here. */
    bool (*event)(struct watch_listener *l, const struct mvcc_version *v);
    /* After a round of events. `lost`: there are changes that nobody will tell, because another
     * member's snapshot took the store's place. The listener may be freed here. */
    void (*woken)(struct watch_listener *l, bool lost);
    /* The server stops. */
    void (*stopped)(struct watch_listener *l);
    bool lost;
};

/* All of a hub. */
struct watch_listeners {
    struct interests interests;
    struct list due; /* to be woken */
    bool waking;
};

void watch_listeners_init(struct watch_listeners *s);
/* Nobody listens. */
void watch_listeners_fini(struct watch_listeners *s);
bool watch_listeners_is_empty(const struct watch_listeners *s);
/* Of one that does not listen; its owner sets its fields then, and watch_listeners_add() keeps
 * them. */
void watch_listener_init(struct watch_listener *l);
void watch_listeners_add(struct watch_listeners *s, struct watch_listener *l);
/* Harmless when it does not listen. */
void watch_listeners_remove(struct watch_listeners *s, struct watch_listener *l);
/* In a section of the store. */
void watch_listeners_offer(struct watch_listeners *s, const struct mvcc_version *v);
/* Changes were lost: all are due. */
void watch_listeners_lost(struct watch_listeners *s);
/* Those that are due; not from inside itself: who is woken may look at what is new. */
void watch_listeners_wake(struct watch_listeners *s);
/* The server stops: all are told. */
void watch_listeners_stop(struct watch_listeners *s);

#endif

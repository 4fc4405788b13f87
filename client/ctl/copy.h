/* `trivetctl copy`: a live mirror of another cluster.
 *
 * First everything is copied as of one revision of the source, in pages and in the order of the
 * keys (copy_walk.c); then what changed since is watched and written (copy_follow.c). What is
 * written goes in transactions (copy_write.c), each of which also moves on the state: a key of the
 * destination that says how far the copy is, and that the transaction compares with what it was. So
 * each step is done once, even when its answer was lost and it was sent again, and of two copiers
 * one stops; and a copy that was ended, however, goes on where it was.
 *
 * All of a revision is written in one transaction, unless it has more than OPS_MAX changes. With
 * --with-leases keys have their leases (copy_lease.c). */
#ifndef CLIENT_CTL_COPY_H
#define CLIENT_CTL_COPY_H

#include "ctl.h"
#include "progress.h"

#include "base/arena.h"
#include "base/u64map.h"

#include <signal.h>
#include <string.h>

enum {
    COPY_OPS_MAX = 100, /* etcd takes 128 operations in a transaction by default */
    COPY_BATCH_BYTES_MAX = 512 << 10,
    COPY_STATE_BYTES_MAX = 8192,
};

enum copy_phase { COPY_PHASE_WALK, COPY_PHASE_FOLLOW };

/* What the state key says. */
struct copy_state {
    uint64_t cluster_id; /* the source's */
    uint64_t copier;     /* who wrote it: a number of his own */
    enum copy_phase phase;
    int64_t revision; /* WALK: that is copied; FOLLOW: up to here all is done */
    uint8_t *key;     /* WALK: the last one that is done; NULL: none */
    size_t key_size;
    bool leases; /* keys have their leases; who goes on must know */
};

/* Text, one word a field; returns its size; false of _parse: it is no state. */
size_t copy_state_write(const struct copy_state *s, struct trivet_bytes prefix,
                        struct trivet_bytes dest_prefix, char *dst, size_t size);
bool copy_state_parse(struct trivet_bytes text, struct copy_state *ret,
                      struct trivet_bytes *ret_prefix, struct trivet_bytes *ret_dest_prefix);

struct copy {
    struct ctl *c;
    struct trivet_client *source;
    struct trivet_client *dest;
    struct trivet_bytes prefix;      /* of the source's keys */
    struct trivet_bytes dest_prefix; /* that takes its place */
    const char *state_key;           /* "": there is none, and nothing is fenced */
    bool delete_others;
    bool with_leases;
    struct progress progress;

    uint64_t copier; /* we */
    struct copy_state state;
    char *state_text; /* as it is at the destination; NULL: the key is not there */
    size_t state_size;

    /* The batch that is being put together; copy_write.c's. */
    struct arena arena;
    struct trivet_request ops[COPY_OPS_MAX];
    uint32_t ops_count;
    size_t ops_bytes;
    bool lease_missing; /* it could not be written for a lease that the destination has not */

    /* copy_lease.c's */
    struct u64map leases; /* by ID: those of keys that are copied */
    bool lease_wanted;    /* one of them is not at the destination yet */
    uint32_t lease_round; /* of looking which the source has */
    uint64_t lease_poll_ms;

    uint64_t keys; /* written */
    uint64_t same; /* were there already */
    uint64_t deleted;
    uint64_t changes; /* followed */
    uint64_t leased;  /* written without the lease that they have at the source */
};

extern volatile sig_atomic_t copy_stopped; /* by a signal */

static inline bool copy_begins_with(struct trivet_bytes b, struct trivet_bytes prefix)
{
    return b.size >= prefix.size &&
           (prefix.size == 0 || memcmp(b.data, prefix.data, prefix.size) == 0);
}

/* --- copy_write.c --- */

/* Add to the batch; bytes are copied. `kv` and `key` are the source's. */
void copy_put(struct copy *x, const struct trivet_kv *kv);
void copy_delete(struct copy *x, struct trivet_bytes key);
bool copy_batch_has(const struct copy *x, struct trivet_bytes key);
/* No more of this size can be added. */
bool copy_batch_is_full(const struct copy *x, size_t more_ops, size_t more_bytes);
/* Write the batch, and `next` as the state; waits until it is done, whatever fails meanwhile. Takes
 * over next->key. False: stopped before. */
bool copy_flush(struct copy *x, struct copy_state next);
/* The key's name at the destination; lives as long as the arena. */
struct trivet_bytes copy_map(struct copy *x, struct trivet_bytes key);
/* And back: `key` begins with the destination's prefix. */
struct trivet_bytes copy_unmap(struct copy *x, struct trivet_bytes key);
/* A call that changes nothing, again and again until it is answered; false: stopped before, or the
 * cluster refuses, as *r says. */
bool copy_read(struct copy *x, struct trivet_client *client, const struct trivet_request *q,
               struct trivet_result *r);
/* Several calls that may be made twice, at once; `results` to be cleared. False: stopped before,
 * and they are cleared. */
bool copy_call_all(struct copy *x, struct trivet_client *client, const struct trivet_request *q,
                   uint32_t count, struct trivet_result *results);
/* The cluster as it is now: its id and revision. False: stopped before. */
bool copy_ask(struct copy *x, struct trivet_client *client, struct trivet_header *ret);
/* The cluster refuses, as *r says: that is said, and what is to be done where it is known. */
_Noreturn void copy_refused(struct copy *x, const struct trivet_client *client,
                            const struct trivet_result *r);

/* --- copy_lease.c; false: stopped before --- */

/* The source lets whoever copies ask for them; else that is said, before anything is written. */
bool copy_lease_may_ask(struct copy *x);
/* A key that has it is copied: it must be there before. */
void copy_lease_want(struct copy *x, int64_t id);
/* All that are wanted are at the destination, or the source has them no more. */
bool copy_lease_ensure(struct copy *x);
bool copy_lease_is_kept(const struct copy *x, int64_t id);
/* The destination says that one of the batch's is not there. */
void copy_lease_missing(struct copy *x);
/* Once all is copied up to a revision, by whomever: take over the leases, and write again what was
 * deleted with one that ended because nobody kept it. The batch is empty. */
bool copy_lease_resume(struct copy *x);
/* Now and then, with an empty batch: make again what was lost, let go what the source lost. */
bool copy_lease_tick(struct copy *x, struct trivet_watch *watch);
/* Something is to be made again still. */
bool copy_lease_is_broken_any(const struct copy *x);

/* --- copy_walk.c --- */

/* False: stopped, or the revision is compacted (x->state.revision is 0 then). */
bool copy_walk(struct copy *x);
/* Compare both at the state's revision. Returns how many keys are not as they should be. */
uint64_t copy_verify(struct copy *x, uint64_t *ret_missing, uint64_t *ret_different,
                     uint64_t *ret_others);

/* --- copy_follow.c --- */

enum copy_end { COPY_DONE, COPY_STOPPED, COPY_COMPACTED };
/* Until `until` is done (0: for ever). */
enum copy_end copy_follow(struct copy *x, int64_t until);

extern const struct ctl_command ctl_cmd_copy;

#endif

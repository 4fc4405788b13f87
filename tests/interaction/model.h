/* What a member of a simulated cluster stands on: a disk that loses what it has not finished
 * writing, and messages that outlive the raft_ready() they came from. Shared by the interaction
 * tests and the randomised cluster. */
#ifndef TESTS_INTERACTION_MODEL_H
#define TESTS_INTERACTION_MODEL_H

#include "raft/raft.h"

/* A write on its way to the platter. */
struct model_write {
    uint64_t seq;
    struct raft_entry *entries;
    uint32_t entries_count;
    struct raft_hard_state hard_state;
    bool hard_state_changed;
};

struct model_disk {
    /* Durable: entries start_index + 1 .. start_index + entries_count. */
    struct raft_entry *entries;
    uint64_t entries_count;
    uint64_t entries_capacity;
    uint64_t start_index;
    uint64_t start_term;
    struct raft_membership membership; /* as of start_index */
    struct raft_hard_state hard_state;

    struct model_write *writes; /* in order, not durable yet */
    uint32_t writes_count;
    uint32_t writes_capacity;
};

void model_disk_init(struct model_disk *d, const struct raft_membership *membership);
void model_disk_fini(struct model_disk *d);
/* Begin the write of `rd`. */
void model_disk_write(struct model_disk *d, const struct raft_ready *rd);
/* Finish the oldest `count` writes; the sequence number to report, 0 when there were none. */
uint64_t model_disk_finish(struct model_disk *d, uint32_t count);
/* Power fails: unfinished writes are gone, but for the oldest `survivors` and the first
 * `torn_entries` entries, without hard state, of the one after them. */
void model_disk_crash(struct model_disk *d, uint32_t survivors, uint32_t torn_entries);
/* Entries up to `log_index` are no longer kept. */
void model_disk_cut(struct model_disk *d, uint64_t log_index);
/* The state comes from a snapshot: the log is empty, also of what is being written. */
void model_disk_restart(struct model_disk *d, uint64_t log_index, uint64_t term,
                        const struct raft_membership *membership);
/* As after all the changes up to `log_index`, which the disk must have. */
struct raft_membership model_disk_membership(const struct model_disk *d, uint64_t log_index);
/* As struct raft_log_reader wants it; `ctx` is the disk. */
int model_disk_read(void *ctx, uint64_t lo, uint64_t hi, size_t bytes_max,
                    struct raft_entry *ret_entries, uint32_t *count);

/* A message with entries of its own. */
struct raft_msg model_msg_copy(const struct raft_msg *msg);
void model_msg_fini(struct raft_msg *msg);

/* An entry to propose; the caller drops the owner's reference. */
struct raft_entry model_entry(const void *data, size_t size);
struct raft_entry model_conf_entry(const struct raft_conf_change *change);

#endif

/* The log's disk: one that is silent, one that is full, and how much of the log is kept. */
#include "server/core_internal.h"

enum {
    LOG_CUTS_PER_TICK = 4,     /* segments */
    LOG_KEEP_FACTOR_MAX = 4,   /* of what is kept, for a member that is there and lags */
    NEWCOMER_STALL_MS = 30000, /* without progress: the log is not kept for it any longer */
    LOG_MARK_MS = 10000,
    DISK_RETRY_MS = 1000, /* a segment that found no room, and the alarm about it */
};

/* A leader whose disk does not answer holds up everybody: its own followers could go on without it.
 * So another one shall lead, and this member does not stand again until its disk answers. */
void core__watch_log_writes(struct core *c)
{
    if (c->log_answered >= c->log_asked)
        return;
    if (++c->log_wait_ticks < c->election_ticks)
        return;
    if (!c->disk_stalled) {
        PROBE(core_disk_stalled);
        c->disk_stalled = true;
        c->hand_over_at = c->log_wait_ticks;
        raft_set_standing(c->raft, false);
        log_warn("the disk of the log does not answer; until it does, this member will not lead",
                 LOG_UINT("waited-ms", c->log_wait_ticks * c->o.heartbeat_ms),
                 LOG_BOOL("leader", core__leading(c)));
    }
    if (core__leading(c) && c->log_wait_ticks >= c->hand_over_at && core_hand_over(c)) {
        c->hand_over_at = c->log_wait_ticks + c->election_ticks; /* should it not be taken */
        log_warn("handing leadership over: the disk of the log does not answer",
                 LOG_UINT("waited-ms", c->log_wait_ticks * c->o.heartbeat_ms));
    }
}

void core_disk_low(struct core *c, bool low)
{
    c->disk_low = low;
}

bool core_lacks_room(const struct core *c)
{
    return atomic_load_explicit(&c->lacks_room, memory_order_relaxed);
}

static void propose_disk_alarm(struct core *c, uint64_t member_id, bool raise)
{
    struct alarm_request r = {.action = raise ? ALARM_ACTIVATE : ALARM_DEACTIVATE,
                              .member_id = member_id,
                              .type = ALARM_NOSPACE,
                              .reason = ALARM_FOR_DISK};
    uint32_t size;
    struct bref *payload = applier_encode_alarm(&r, core_next_request_id(c), &size);
    struct raft_entry e = {
        .type = RAFT_ENTRY_NORMAL, .data = slice_of(payload->data, size), .owner = payload};
    (void)raft_propose(c->raft, &e, 1); /* the next look tries again */
    bref_unref(payload);
}

/* Who was removed, or replaced, with a full disk cannot take its alarm back. */
static void end_alarms_of_removed(struct core *c)
{
    uint64_t ids[CLUSTER_MEMBERS_MAX];
    if (!core__leading(c))
        return;
    uint32_t count = alarms_members(&c->applier->alarms, ALARM_NOSPACE, ALARM_FOR_DISK, ids,
                                    CLUSTER_MEMBERS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (cluster_find(c->o.cluster, ids[i]) == NULL)
            propose_disk_alarm(c, ids[i], false);
}

/* The alarm that this member raised for its disk follows the disk: what was decided is on the log,
 * so a restart or another leader changes nothing. */
void core__tend_disk_space(struct core *c)
{
    bool low = c->disk_low || wal_lacks_room(c->o.wal) || persist_lacks_room(c->o.persist);
    bool changed = atomic_exchange_explicit(&c->lacks_room, low, memory_order_relaxed) != low;
    if (!changed && c->now_ms < c->disk_retry_ms)
        return;
    c->disk_retry_ms = c->now_ms + DISK_RETRY_MS;
    wal_retry_room(c->o.wal);
    uint32_t reasons = alarms_reasons(&c->applier->alarms, c->o.member_id, ALARM_NOSPACE);
    if (low != ((reasons & ALARM_FOR_DISK) != 0))
        propose_disk_alarm(c, c->o.member_id, low);
    end_alarms_of_removed(c);
}

/* The entry that members which are there, and lag, go on behind. Not one that needs a snapshot:
 * what it needs of the log is held then. */
static uint64_t needed_by_followers(const struct core *c)
{
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t count = core__leading(c) ? raft_progress(c->raft, peers, RAFT_PEERS_MAX) : 0;
    uint64_t needed = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_progress *p = &peers[i];
        if (p->id == c->o.member_id || !p->active || p->state == RAFT_PROGRESS_SNAPSHOT)
            continue;
        uint64_t has = p->state == RAFT_PROGRESS_PROBE ? p->next_index - 1 : p->match_index;
        if (has < needed)
            needed = has;
    }
    return needed;
}

void core__hold_for_newcomer(struct core *c, uint64_t id, uint64_t log_index)
{
    uint32_t i = 0;
    while (i < c->newcomers_count && c->newcomers[i].id != id)
        i++;
    if (i == RAFT_PEERS_MAX)
        return;
    c->newcomers[i] = (struct core_newcomer){.id = id, .has = log_index, .progress_ms = c->now_ms};
    if (i == c->newcomers_count)
        c->newcomers_count++;
}

/* Takes note of what it has by now; false: it needs no more than others. */
static bool newcomer_lags(struct core *c, struct core_newcomer *n,
                          const struct raft_progress *peers, uint32_t count)
{
    const struct raft_progress *p = peers;
    while (p < peers + count && p->id != n->id)
        p++;
    if (p == peers + count || p->match_index + c->o.snapshot_count / 2 >= raft_last_index(c->raft))
        return false;
    if (p->match_index > n->has) {
        n->has = p->match_index;
        n->progress_ms = c->now_ms;
    }
    return c->now_ms - n->progress_ms < NEWCOMER_STALL_MS;
}

/* While a snapshot travels and is installed, the log may grow far beyond what is kept for members
 * that lag, and the member answers nothing: it does not count as being there. */
static uint64_t needed_by_newcomers(struct core *c)
{
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t count = core__leading(c) && !atomic_load(&c->lacks_room)
                         ? raft_progress(c->raft, peers, RAFT_PEERS_MAX)
                         : 0;
    uint64_t needed = UINT64_MAX;
    for (uint32_t i = 0; i < c->newcomers_count;) {
        struct core_newcomer *n = &c->newcomers[i];
        if (!newcomer_lags(c, n, peers, count)) {
            *n = c->newcomers[--c->newcomers_count];
            continue;
        }
        if (n->has < needed)
            needed = n->has;
        i++;
    }
    return needed;
}

/* The last entry that is older than LOG_MARK_MS; or one that is not twice as old. */
static uint64_t log_aged(struct core *c)
{
    if (c->now_ms >= c->log_mark_ms + LOG_MARK_MS) {
        c->log_mark_before = c->log_mark;
        c->log_mark = raft_last_index(c->raft);
        c->log_mark_ms = c->now_ms;
    }
    return c->log_mark_before;
}

/* For LOG_MARK_MS no segment was begun. */
static bool log_is_calm(struct core *c)
{
    uint64_t segment = wal_active_segment(c->o.wal);
    if (segment != c->log_segment) {
        c->log_segment = segment;
        c->log_segment_ms = c->now_ms;
    }
    return c->now_ms >= c->log_segment_ms + LOG_MARK_MS;
}

/* The entry up to which the log may go; 0 when nothing may. Two reasons: it takes more than its
 * share of the disk; or it is longer than the store itself. Then a snapshot is the shorter way for
 * a member that was away, unless it was away for a moment only; and at twice its share, of large
 * entries, even then. What only the second reason asks for waits until a segment can be used again,
 * while segments are needed: to remove one and make another keeps a disk busy twice. */
static uint64_t log_cut_limit(struct core *c, uint64_t aged, bool calm)
{
    uint64_t bytes = wal_size_bytes(c->o.wal), flushed = persist_flushed_index(c->o.persist);
    uint64_t limit = 0;
    if (flushed == 0)
        return 0;
    if (bytes > c->o.log_keep_bytes && flushed > c->o.snapshot_count)
        limit = flushed - c->o.snapshot_count;
    bool much = bytes > 2 * c->o.log_keep_bytes;
    struct mvcc_stats store;
    mvcc_stats(c->mvcc, &store);
    if (bytes > store.version_bytes && (much || calm || wal_reuses_oldest(c->o.wal))) {
        uint64_t moment = much || aged >= flushed ? flushed - 1 : aged;
        limit = moment > limit ? moment : limit;
    }
    return limit;
}

/* Entries that RocksDB holds are kept for members that were away, within the limits above; the
 * oldest segments go first. What a snapshot under way or a member that just took one needs next is
 * kept too, or under load it would need a snapshot again and again. */
void core__cut_log(struct core *c)
{
    uint64_t needed_by_new = needed_by_newcomers(c), aged = log_aged(c);
    bool calm = log_is_calm(c);
    for (uint32_t i = 0; i < LOG_CUTS_PER_TICK; i++) {
        uint64_t limit = log_cut_limit(c, aged, calm);
        if (limit == 0)
            return;
        if (c->log_held < limit)
            limit = c->log_held;
        if (needed_by_new < limit)
            limit = needed_by_new;
        if (wal_size_bytes(c->o.wal) <= LOG_KEEP_FACTOR_MAX * c->o.log_keep_bytes) {
            uint64_t needed = needed_by_followers(c);
            if (needed < limit)
                limit = needed;
        }
        uint64_t end = wal_oldest_end(c->o.wal);
        if (end == UINT64_MAX && wal_size_bytes(c->o.wal) <= c->o.log_keep_bytes)
            wal_drop_spare(c->o.wal); /* a whole segment has not been written for some time */
        if (end > limit)
            return;
        wal_cut(c->o.wal, end);
    }
}

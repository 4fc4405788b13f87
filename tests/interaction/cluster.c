/* The commands of the interaction tests, see cluster.h. */
#include "cluster.h"
#include "model.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { NODES_MAX = 12, NET_MAX = 1000, WORDS_MAX = 32 };

struct node {
    uint64_t id;
    struct raft *raft; /* NULL = crashed or not there */
    struct model_disk disk;
    bool disk_slow;
    bool reader_later;
    bool isolated;
    bool held;
    uint64_t applied;
    uint64_t applied_term;
    enum raft_role role;
    uint64_t leader;
};

struct cluster {
    uint32_t nodes_count;
    struct node nodes[NODES_MAX];
    struct raft_options options;
    struct raft_msg net[NET_MAX];
    uint32_t net_count;
    struct buf *out;
    bool quiet;
};

static void say(struct cluster *c, const char *fmt, ...) TV_PRINTF(2, 3);

static void say(struct cluster *c, const char *fmt, ...)
{
    if (c->quiet)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    ASSERT(size >= 0 && (size_t)size < sizeof(text));
    int rv = buf_append(c->out, text, (size_t)size);
    ASSERT(rv == 0);
}

static void say_conf(struct cluster *c, struct slice data)
{
    static const char *const ops[] = {"voter", "learner", "remove", "keep"};
    static const char *const transitions[] = {"conf", "joint conf", "explicit joint conf"};
    struct raft_conf_change change;
    if (raft_conf_change_decode(data, &change) != 0) {
        say(c, "malformed conf");
        return;
    }
    say(c, "%s", transitions[change.transition]);
    if (change.transition == RAFT_CONF_AUTO && change.changes_count == 0)
        say(c, " leave");
    for (uint32_t i = 0; i < change.changes_count; i++)
        say(c, " %s=%llu", ops[change.changes[i].op], (unsigned long long)change.changes[i].id);
}

static void say_entries(struct cluster *c, const struct raft_entry *entries, uint64_t count)
{
    say(c, " [");
    for (uint64_t i = 0; i < count; i++) {
        say(c, "%s%llu/%llu ", i > 0 ? ", " : "", (unsigned long long)entries[i].log_index,
            (unsigned long long)entries[i].term);
        if (entries[i].type == RAFT_ENTRY_CONF)
            say_conf(c, entries[i].data);
        else
            say(c, "%.*s", (int)entries[i].data.size,
                entries[i].data.size > 0 ? (const char *)entries[i].data.data : "");
    }
    say(c, "]");
}

static void say_ids(struct cluster *c, const char *name, const struct raft_ids *set)
{
    if (set->count == 0)
        return;
    say(c, " %s", name);
    for (uint32_t i = 0; i < set->count; i++)
        say(c, "%s%llu", i > 0 ? "," : " ", (unsigned long long)set->ids[i]);
}

static void say_membership(struct cluster *c, const struct node *n)
{
    const struct raft_membership *m = raft_membership(n->raft);
    say(c, "%llu has", (unsigned long long)n->id);
    say_ids(c, "voters", &m->voters);
    say_ids(c, "outgoing", &m->voters_outgoing);
    say_ids(c, "learners", &m->learners);
    say_ids(c, "learners next", &m->learners_next);
    say(c, "%s%s\n", m->auto_leave ? " auto-leave" : "",
        m->voters.count == 0 ? " no members yet" : "");
}

static void say_msg(struct cluster *c, const struct raft_msg *m)
{
    say(c, "%llu->%llu %s", (unsigned long long)m->from, (unsigned long long)m->to,
        raft_msg_type_name(m->type));
    if (m->term != 0)
        say(c, " term %llu", (unsigned long long)m->term);
    if (m->reject)
        say(c, " REJECT");
    if (m->transfer)
        say(c, " transfer");
    bool has_position =
        m->type == RAFT_MSG_APPEND || m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_PRE_VOTE;
    if (has_position)
        say(c, " after %llu/%llu", (unsigned long long)m->log_index,
            (unsigned long long)m->log_term);
    else if (m->log_index != 0)
        say(c, " index %llu", (unsigned long long)m->log_index);
    if (m->reject && m->type == RAFT_MSG_APPEND_REPLY)
        say(c, " hint %llu/%llu", (unsigned long long)m->reject_hint,
            (unsigned long long)m->log_term);
    if (m->type == RAFT_MSG_APPEND || m->type == RAFT_MSG_HEARTBEAT)
        say(c, " commit %llu", (unsigned long long)m->commit);
    if (m->context != 0)
        say(c, " context %llu", (unsigned long long)m->context);
    if (m->entries_count > 0)
        say_entries(c, m->entries, m->entries_count);
    say(c, "\n");
}

/* --- nodes --- */

static int read_entries(void *ctx, uint64_t lo, uint64_t hi, size_t bytes_max,
                        struct raft_entry *ret_entries, uint32_t *count)
{
    struct node *n = ctx;
    if (n->reader_later)
        return TV_EAGAIN;
    return model_disk_read(&n->disk, lo, hi, bytes_max, ret_entries, count);
}

static void node_start(struct cluster *c, struct node *n)
{
    struct raft_options o = c->options;
    o.id = n->id;
    o.membership = n->disk.membership;
    o.seed = n->id;
    o.reader = (struct raft_log_reader){.ctx = n, .read = read_entries};
    o.hard_state = n->disk.hard_state;
    o.log_start_index = n->disk.start_index;
    o.log_start_term = n->disk.start_term;
    o.applied_index = n->disk.start_index;
    n->applied = n->disk.start_index;
    n->applied_term = n->disk.start_term;
    n->role = RAFT_FOLLOWER;
    n->leader = 0;
    n->raft = raft_new(&o);
    raft_restore(n->raft, n->disk.entries, (uint32_t)n->disk.entries_count);
}

static void node_stop(struct node *n)
{
    raft_free(n->raft);
    n->raft = NULL;
    model_disk_crash(&n->disk, 0, 0);
}

static void send(struct cluster *c, const struct raft_msg *msg)
{
    say_msg(c, msg);
    if (msg->to > c->nodes_count ||
        c->nodes[msg->from - 1].isolated != c->nodes[msg->to - 1].isolated)
        return;
    ASSERT(c->net_count < NET_MAX);
    c->net[c->net_count++] = model_msg_copy(msg);
}

static void apply(struct cluster *c, struct node *n, const struct raft_ready *rd)
{
    say(c, "%llu applies", (unsigned long long)n->id);
    say_entries(c, rd->committed, rd->committed_count);
    say(c, "\n");
    for (uint32_t i = 0; i < rd->committed_count; i++) {
        struct raft_conf_change change;
        n->applied++;
        n->applied_term = rd->committed[i].term;
        if (rd->committed[i].type != RAFT_ENTRY_CONF)
            continue;
        int rv = raft_conf_change_decode(rd->committed[i].data, &change);
        if (rv == 0)
            rv = raft_apply_conf(n->raft, &change);
        if (rv != 0)
            say(c, "%llu: %s\n", (unsigned long long)n->id, tv_err_text(rv));
        else
            say_membership(c, n);
    }
    raft_applied(n->raft, n->applied);
}

static void say_write(struct cluster *c, const struct node *n, const struct raft_ready *rd)
{
    say(c, "%llu writes #%llu", (unsigned long long)n->id, (unsigned long long)rd->persist_seq);
    if (rd->entries_count > 0)
        say_entries(c, rd->entries, rd->entries_count);
    if (rd->hard_state_changed)
        say(c, " term %llu vote %llu commit %llu", (unsigned long long)rd->hard_state.term,
            (unsigned long long)rd->hard_state.vote, (unsigned long long)rd->hard_state.commit);
    say(c, "\n");
}

static void say_role(struct cluster *c, struct node *n)
{
    enum raft_role role = raft_role(n->raft);
    uint64_t leader = raft_leader(n->raft);
    if (role != n->role)
        say(c, "%llu is %s in term %llu\n", (unsigned long long)n->id, raft_role_name(role),
            (unsigned long long)raft_term(n->raft));
    else if (leader != n->leader)
        say(c, "%llu follows %llu in term %llu\n", (unsigned long long)n->id,
            (unsigned long long)leader, (unsigned long long)raft_term(n->raft));
    n->role = role;
    n->leader = leader;
}

static void carry_out(struct cluster *c, struct node *n)
{
    struct raft_ready rd;
    if (n->held)
        return;
    for (;;) {
        say_role(c, n);
        while (raft_ready(n->raft, &rd)) {
            for (uint32_t i = 0; i < rd.msgs_count; i++)
                send(c, &rd.msgs[i]);
            if (rd.persist_seq != 0) {
                say_write(c, n, &rd);
                model_disk_write(&n->disk, &rd);
            }
            if (rd.committed_count > 0)
                apply(c, n, &rd);
            for (uint32_t i = 0; i < rd.reads_count; i++)
                say(c, "%llu may read %llu at %llu\n", (unsigned long long)n->id,
                    (unsigned long long)rd.reads[i].context,
                    (unsigned long long)rd.reads[i].log_index);
            for (uint32_t i = 0; i < rd.snapshot_requests_count; i++)
                say(c, "%llu shall send a snapshot to %llu\n", (unsigned long long)n->id,
                    (unsigned long long)rd.snapshot_requests[i]);
            raft_ready_done(n->raft);
            raft_check(n->raft);
        }
        if (n->disk_slow || n->disk.writes_count == 0)
            return;
        raft_persisted(n->raft, model_disk_finish(&n->disk, UINT32_MAX));
    }
}

static void net_remove(struct cluster *c, uint32_t at)
{
    model_msg_fini(&c->net[at]);
    c->net_count--;
    memmove(&c->net[at], &c->net[at + 1], (c->net_count - at) * sizeof(c->net[0]));
}

/* Hands over (or drops) the oldest `count` messages; from 0 = from anybody. How many there were. */
static uint32_t deliver(struct cluster *c, uint64_t from, uint64_t to, uint32_t count, bool lose)
{
    struct node *n = &c->nodes[to - 1];
    uint32_t done = 0, last = c->net_count;
    for (uint32_t at = 0; at < last && done < count;) {
        if (c->net[at].to != to || (from != 0 && c->net[at].from != from)) {
            at++;
            continue;
        }
        if (n->raft != NULL && !lose) {
            int rv = raft_step(n->raft, &c->net[at]);
            if (rv != 0)
                say(c, "%llu: %s\n", (unsigned long long)to, tv_err_text(rv));
        }
        net_remove(c, at);
        last--;
        done++;
    }
    return done;
}

static void stabilize(struct cluster *c)
{
    for (uint32_t round = 0; round < 1000; round++) {
        uint32_t moved = 0;
        for (uint32_t i = 0; i < c->nodes_count; i++) {
            if (c->nodes[i].raft == NULL)
                (void)deliver(c, 0, i + 1, UINT32_MAX, true);
            else {
                moved += deliver(c, 0, i + 1, UINT32_MAX, false);
                carry_out(c, &c->nodes[i]);
            }
        }
        if (moved == 0 && c->net_count == 0)
            return;
    }
    c->quiet = false;
    say(c, "does not settle\n");
}

/* --- words --- */

static uint64_t number(const char *word)
{
    if (word == NULL) {
        (void)fprintf(stderr, "a number is missing\n");
        exit(2);
    }
    char *end;
    uint64_t value = strtoull(word, &end, 10);
    if (*end != '\0' || end == word) {
        (void)fprintf(stderr, "not a number: %s\n", word);
        exit(2);
    }
    return value;
}

static struct node *node_of(struct cluster *c, const char *word)
{
    uint64_t id = number(word);
    if (id == 0 || id > c->nodes_count) {
        (void)fprintf(stderr, "no such node: %s\n", word);
        exit(2);
    }
    return &c->nodes[id - 1];
}

/* "1->2" */
static void route(struct cluster *c, char *word, uint64_t *ret_from, uint64_t *ret_to)
{
    char *arrow = word != NULL ? strstr(word, "->") : NULL;
    if (arrow == NULL) {
        (void)fprintf(stderr, "not a route: %s\n", word != NULL ? word : "");
        exit(2);
    }
    *arrow = '\0';
    *ret_from = number(word);
    *ret_to = node_of(c, arrow + 2)->id;
}

/* --- commands; words[0] is the command's name, words[count] is NULL --- */

static void cmd_nodes(struct cluster *c, char **words, uint32_t count)
{
    ASSERT(c->nodes_count == 0);
    struct raft_options *o = &c->options;
    raft_options_init(o);
    c->nodes_count = (uint32_t)number(words[1]);
    ASSERT(c->nodes_count > 0 && c->nodes_count <= NODES_MAX);
    struct raft_membership members = {0};
    for (uint32_t i = 2; i < count; i++) {
        char *value = strchr(words[i], '=');
        ASSERT(value != NULL);
        *value++ = '\0';
        uint64_t n = number(value);
        if (strcmp(words[i], "pre-vote") == 0)
            o->pre_vote = n != 0;
        else if (strcmp(words[i], "check-quorum") == 0)
            o->check_quorum = n != 0;
        else if (strcmp(words[i], "window") == 0)
            o->log_window_bytes = n;
        else if (strcmp(words[i], "msg-bytes") == 0)
            o->msg_bytes_max = n;
        else if (strcmp(words[i], "inflight") == 0)
            o->inflight_msgs_max = (uint32_t)n;
        else if (strcmp(words[i], "uncommitted") == 0)
            o->uncommitted_bytes_max = n;
        else if (strcmp(words[i], "lease") == 0)
            o->lease_reads = n != 0;
        else if (strcmp(words[i], "lease-margin") == 0)
            o->lease_margin_ticks = (uint32_t)n;
        else
            ASSERT(false);
    }
    for (uint32_t i = 0; i < c->nodes_count; i++)
        members.voters.ids[members.voters.count++] = i + 1;
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        c->nodes[i].id = i + 1;
        model_disk_init(&c->nodes[i].disk, &members);
        node_start(c, &c->nodes[i]);
    }
}

static void say_result(struct cluster *c, const struct node *n, int rv)
{
    if (rv != 0)
        say(c, "%llu: %s\n", (unsigned long long)n->id, tv_err_text(rv));
}

static void cmd_propose(struct cluster *c, char **words, uint32_t count)
{
    struct node *n = node_of(c, words[1]);
    struct raft_entry batch[WORDS_MAX];
    for (uint32_t i = 2; i < count; i++)
        batch[i - 2] = model_entry(words[i], strlen(words[i]));
    say_result(c, n, raft_propose(n->raft, batch, count - 2));
    for (uint32_t i = 2; i < count; i++)
        bref_unref(batch[i - 2].owner);
    carry_out(c, n);
}

static void cmd_input(struct cluster *c, char **words, uint32_t count)
{
    (void)count;
    struct node *n = node_of(c, words[1]);
    ASSERT(n->raft != NULL);
    if (strcmp(words[0], "campaign") == 0)
        raft_campaign(n->raft);
    else if (strcmp(words[0], "read") == 0)
        say_result(c, n, raft_read_index(n->raft, number(words[2])));
    else if (strcmp(words[0], "transfer") == 0)
        say_result(c, n, raft_transfer_leader(n->raft, number(words[2])));
    else if (strcmp(words[0], "unreachable") == 0)
        raft_peer_unreachable(n->raft, number(words[2]));
    else
        ASSERT(false);
    carry_out(c, n);
}

static void cmd_tick(struct cluster *c, char **words, uint32_t count)
{
    struct node *n = node_of(c, words[1]);
    uint64_t ticks = count > 2 ? number(words[2]) : 1;
    for (uint64_t i = 0; i < ticks; i++) {
        raft_tick(n->raft);
        carry_out(c, n);
    }
}

static void cmd_deliver(struct cluster *c, char **words, uint32_t count)
{
    uint64_t from, to;
    route(c, words[1], &from, &to);
    bool lose = strcmp(words[0], "drop") == 0;
    uint32_t moved =
        deliver(c, from, to, count > 2 ? (uint32_t)number(words[2]) : UINT32_MAX, lose);
    if (moved == 0)
        say(c, "nothing on the way\n");
    if (!lose && c->nodes[to - 1].raft != NULL)
        carry_out(c, &c->nodes[to - 1]);
}

/* A name of two words is written as one: append_reply. */
static enum raft_msg_type msg_type(char *word)
{
    for (char *at = word; *at != '\0'; at++)
        if (*at == '_')
            *at = ' ';
    for (uint32_t i = 0; i < RAFT_MSG_TYPES_COUNT; i++)
        if (strcmp(raft_msg_type_name((enum raft_msg_type)i), word) == 0)
            return (enum raft_msg_type)i;
    (void)fprintf(stderr, "no such message: %s\n", word);
    exit(2);
}

static void cmd_forge(struct cluster *c, char **words, uint32_t count)
{
    struct raft_msg m = {0};
    struct raft_entry entry = {.type = RAFT_ENTRY_NORMAL};
    route(c, words[1], &m.from, &m.to);
    m.type = msg_type(words[2]);
    for (uint32_t i = 3; i < count; i++) {
        char *value = strchr(words[i], '=');
        ASSERT(value != NULL);
        *value++ = '\0';
        uint64_t n = number(value);
        if (strcmp(words[i], "term") == 0)
            m.term = n;
        else if (strcmp(words[i], "index") == 0)
            m.log_index = n;
        else if (strcmp(words[i], "log-term") == 0)
            m.log_term = n;
        else if (strcmp(words[i], "commit") == 0)
            m.commit = n;
        else if (strcmp(words[i], "hint") == 0)
            m.reject_hint = n;
        else if (strcmp(words[i], "context") == 0)
            m.context = n;
        else if (strcmp(words[i], "reject") == 0)
            m.reject = n != 0;
        else if (strcmp(words[i], "entry-index") == 0)
            entry.log_index = n;
        else if (strcmp(words[i], "entry-term") == 0)
            entry.term = n;
        else
            ASSERT(false);
    }
    if (entry.log_index != 0) {
        m.entries = &entry;
        m.entries_count = 1;
    }
    struct node *n = &c->nodes[m.to - 1];
    say_result(c, n, raft_step(n->raft, &m));
    carry_out(c, n);
}

static void cmd_stabilize(struct cluster *c, char **words, uint32_t count)
{
    (void)words;
    (void)count;
    stabilize(c);
}

static void cmd_hold(struct cluster *c, char **words, uint32_t count)
{
    (void)count;
    struct node *n = node_of(c, words[1]);
    n->held = strcmp(words[0], "hold") == 0;
    carry_out(c, n);
}

static void cmd_links(struct cluster *c, char **words, uint32_t count)
{
    bool heal = strcmp(words[0], "heal") == 0;
    for (uint32_t i = 0; i < c->nodes_count; i++)
        c->nodes[i].isolated = heal ? false : c->nodes[i].isolated;
    for (uint32_t i = 1; i < count; i++)
        node_of(c, words[i])->isolated = true;
    for (uint32_t at = c->net_count; at > 0; at--) {
        const struct raft_msg *m = &c->net[at - 1];
        if (c->nodes[m->from - 1].isolated != c->nodes[m->to - 1].isolated)
            net_remove(c, at - 1);
    }
}

static void cmd_disk(struct cluster *c, char **words, uint32_t count)
{
    struct node *n = node_of(c, words[1]);
    if (strcmp(words[0], "disk") == 0) {
        n->disk_slow = strcmp(words[2], "slow") == 0;
    } else if (strcmp(words[0], "compact") == 0) {
        model_disk_cut(&n->disk, number(words[2]));
        return;
    } else if (strcmp(words[0], "reader") == 0) {
        n->reader_later = strcmp(words[2], "later") == 0;
        if (!n->reader_later)
            raft_entries_fetched(n->raft);
    } else {
        uint64_t seq =
            model_disk_finish(&n->disk, count > 2 ? (uint32_t)number(words[2]) : UINT32_MAX);
        if (seq == 0)
            say(c, "nothing to persist\n");
        else
            raft_persisted(n->raft, seq);
    }
    carry_out(c, n);
}

static void cmd_power(struct cluster *c, char **words, uint32_t count)
{
    (void)count;
    struct node *n = node_of(c, words[1]);
    if (strcmp(words[0], "crash") == 0) {
        node_stop(n);
        return;
    }
    if (n->raft != NULL)
        node_stop(n);
    node_start(c, n);
    carry_out(c, n);
}

static void cmd_status(struct cluster *c, char **words, uint32_t count)
{
    (void)words;
    (void)count;
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        const struct node *n = &c->nodes[i];
        if (n->raft == NULL)
            say(c, "%llu is down\n", (unsigned long long)n->id);
        else
            say(c, "%llu %s term %llu leader %llu last %llu commit %llu applied %llu\n",
                (unsigned long long)n->id, raft_role_name(raft_role(n->raft)),
                (unsigned long long)raft_term(n->raft), (unsigned long long)raft_leader(n->raft),
                (unsigned long long)raft_last_index(n->raft),
                (unsigned long long)raft_commit_index(n->raft), (unsigned long long)n->applied);
    }
}

static void cmd_progress(struct cluster *c, char **words, uint32_t count)
{
    static const char *const states[] = {"probe", "replicate", "needs snapshot"};
    (void)count;
    struct raft_progress peers[RAFT_PEERS_MAX];
    uint32_t peers_count = raft_progress(node_of(c, words[1])->raft, peers, RAFT_PEERS_MAX);
    for (uint32_t i = 0; i < peers_count; i++)
        say(c, "%llu %s match %llu next %llu%s%s%s%s\n", (unsigned long long)peers[i].id,
            states[peers[i].state], (unsigned long long)peers[i].match_index,
            (unsigned long long)peers[i].next_index, peers[i].learner ? " learner" : "",
            !peers[i].learner && !peers[i].voter ? " no member" : "",
            peers[i].snapshot_under_way ? " snapshot under way" : "",
            peers[i].active ? "" : " silent");
}

/* "joint", "explicit", "leave" or changes as in voter=4 learner=5 remove=3 keep=1 */
static void cmd_conf(struct cluster *c, char **words, uint32_t count)
{
    static const char *const ops[] = {"voter", "learner", "remove", "keep"};
    struct node *n = node_of(c, words[1]);
    struct raft_conf_change change = {.transition = RAFT_CONF_AUTO};
    for (uint32_t i = 2; i < count; i++) {
        char *value = strchr(words[i], '=');
        if (value == NULL) {
            if (strcmp(words[i], "joint") == 0)
                change.transition = RAFT_CONF_JOINT_IMPLICIT;
            else if (strcmp(words[i], "explicit") == 0)
                change.transition = RAFT_CONF_JOINT_EXPLICIT;
            else
                ASSERT(strcmp(words[i], "leave") == 0);
            continue;
        }
        *value++ = '\0';
        struct raft_conf_single *single = &change.changes[change.changes_count++];
        single->id = number(value);
        uint32_t op = 0;
        while (op < RAFT_CONF_OPS_COUNT && strcmp(words[i], ops[op]) != 0)
            op++;
        ASSERT(op < RAFT_CONF_OPS_COUNT);
        single->op = (enum raft_conf_op)op;
    }
    struct raft_entry e = model_conf_entry(&change);
    say_result(c, n, raft_propose(n->raft, &e, 1));
    bref_unref(e.owner);
    carry_out(c, n);
}

/* The next member's id is one above the last's. */
static void cmd_join(struct cluster *c, char **words, uint32_t count)
{
    (void)count;
    ASSERT(c->nodes_count < NODES_MAX && number(words[1]) == c->nodes_count + 1u);
    struct node *n = &c->nodes[c->nodes_count++];
    n->id = c->nodes_count;
    model_disk_init(&n->disk, &(struct raft_membership){0});
    node_start(c, n);
    carry_out(c, n);
}

/* What A has applied comes to B, and A hears of it; or it is lost on the way. */
static void cmd_snapshot(struct cluster *c, char **words, uint32_t count)
{
    uint64_t from, to;
    route(c, words[1], &from, &to);
    struct node *a = &c->nodes[from - 1], *b = &c->nodes[to - 1];
    if (count > 2 && strcmp(words[2], "fails") == 0) {
        raft_snapshot_failed(a->raft, to);
        carry_out(c, a);
        return;
    }
    uint64_t log_index = a->applied;
    int rv = raft_install_snapshot(b->raft, log_index, a->applied_term, raft_membership(a->raft));
    say_result(c, b, rv);
    if (rv == 0) {
        model_disk_restart(&b->disk, log_index, a->applied_term, raft_membership(a->raft));
        b->applied = log_index;
        b->applied_term = a->applied_term;
        say_membership(c, b);
    }
    carry_out(c, b);
    if (count > 2 && strcmp(words[2], "unheard") == 0)
        return;
    raft_snapshot_sent(a->raft, to, log_index);
    carry_out(c, a);
}

static void cmd_members(struct cluster *c, char **words, uint32_t count)
{
    (void)count;
    say_membership(c, node_of(c, words[1]));
}

static void cmd_log(struct cluster *c, char **words, uint32_t count)
{
    (void)count;
    const struct node *n = node_of(c, words[1]);
    say(c, "%llu has on disk", (unsigned long long)n->id);
    say_entries(c, n->disk.entries, n->disk.entries_count);
    say(c, " term %llu vote %llu commit %llu\n", (unsigned long long)n->disk.hard_state.term,
        (unsigned long long)n->disk.hard_state.vote, (unsigned long long)n->disk.hard_state.commit);
}

static const struct {
    const char *name;
    void (*run)(struct cluster *c, char **words, uint32_t count);
} commands[] = {
    {"nodes", cmd_nodes},     {"propose", cmd_propose},     {"campaign", cmd_input},
    {"read", cmd_input},      {"transfer", cmd_input},      {"unreachable", cmd_input},
    {"tick", cmd_tick},       {"deliver", cmd_deliver},     {"drop", cmd_deliver},
    {"forge", cmd_forge},     {"stabilize", cmd_stabilize}, {"cut", cmd_links},
    {"heal", cmd_links},      {"disk", cmd_disk},           {"persist", cmd_disk},
    {"compact", cmd_disk},    {"reader", cmd_disk},         {"crash", cmd_power},
    {"restart", cmd_power},   {"status", cmd_status},       {"progress", cmd_progress},
    {"log", cmd_log},         {"hold", cmd_hold},           {"go", cmd_hold},
    {"conf", cmd_conf},       {"join", cmd_join},           {"snapshot", cmd_snapshot},
    {"members", cmd_members},
};

void cluster_run(struct cluster *c, char *line, struct buf *out)
{
    char *words[WORDS_MAX + 1];
    uint32_t count = 0;
    for (char *at = strtok(line, " \t"); at != NULL && count < WORDS_MAX; at = strtok(NULL, " \t"))
        words[count++] = at;
    words[count] = NULL;
    if (count == 0)
        return;
    c->out = out;
    char **first = words;
    c->quiet = strcmp(words[0], "quiet") == 0 && count > 1;
    if (c->quiet) {
        first++;
        count--;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, first[0]) == 0) {
            commands[i].run(c, first, count);
            return;
        }
    }
    (void)fprintf(stderr, "no such command: %s\n", first[0]);
    exit(2);
}

struct cluster *cluster_new(void)
{
    return mem_alloc_zero(sizeof(struct cluster));
}

void cluster_free(struct cluster *c)
{
    while (c->net_count > 0)
        net_remove(c, c->net_count - 1);
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        raft_free(c->nodes[i].raft);
        model_disk_fini(&c->nodes[i].disk);
    }
    mem_free(c);
}

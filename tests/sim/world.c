/* What the members' code calls and the linker replaces (--wrap, see meson.build): the machine's
 * clocks and randomness, the ends of the process, and the seams where the judge looks on. */
#include "member.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

/* --- the machine --- */

uint64_t __real_clock_mono_ns(void);
uint64_t __wrap_clock_mono_ns(void);
int64_t __wrap_clock_wall_us(void);
uint64_t __wrap_rng_seed_from_os(void);

uint64_t __wrap_clock_mono_ns(void)
{
    if (sim_now == NULL)
        return __real_clock_mono_ns();
    if (sim_now->current != NULL)
        return member_clock_ms(sim_now->current) * 1000000;
    return sim_now->now_us * 1000;
}

int64_t __wrap_clock_wall_us(void)
{
    return sim_now == NULL ? 0 : (int64_t)sim_now->now_us;
}

uint64_t __wrap_rng_seed_from_os(void)
{
    return sim_now == NULL ? 1 : rng_next(&sim_now->members_rng);
}

/* --- the ends of the process --- */

_Noreturn void __wrap_tv_assert_failed(const char *expr, const char *file, int line,
                                       const char *func);
_Noreturn void __wrap_tv_fatal(const char *fmt, ...) TV_PRINTF(1, 2);

_Noreturn void __wrap_tv_assert_failed(const char *expr, const char *file, int line,
                                       const char *func)
{
    struct member *m = sim_now == NULL ? NULL : sim_now->current;
    sim_fail("%s%c: assertion failed: %s in %s(), %s:%d", m == NULL ? "" : "member ",
             m == NULL ? '-' : (char)('0' + m->number), expr, func, file, line);
}

_Noreturn void __wrap_tv_fatal(const char *fmt, ...)
{
    char text[SIM_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct member *m = sim_now == NULL ? NULL : sim_now->current;
    bool expected = m != NULL && (m->write_fails || m->disk->read_failed || m->disk->damaged);
    if (expected && m->fatal_armed) {
        sim_say(sim_now, "member %u: %s", m->number, text);
        longjmp(m->fatal, 1);
    }
    sim_fail("%s%c: fatal: %s", m == NULL ? "" : "member ",
             m == NULL ? '-' : (char)('0' + m->number), text);
}

/* --- where the judge looks on --- */

struct raft *__real_raft_new(const struct raft_options *o);
struct raft *__wrap_raft_new(const struct raft_options *o);
bool __real_raft_ready(struct raft *r, struct raft_ready *ret);
bool __wrap_raft_ready(struct raft *r, struct raft_ready *ret);
void __real_wal_append(struct wal *w, uint64_t seq, const struct wal_entry *entries, uint32_t count,
                       const struct wal_hard_state *hs);
void __wrap_wal_append(struct wal *w, uint64_t seq, const struct wal_entry *entries, uint32_t count,
                       const struct wal_hard_state *hs);
int __real_applier_apply(struct applier *a, const struct wire_raft_request *entry,
                         struct request *req);
int __wrap_applier_apply(struct applier *a, const struct wire_raft_request *entry,
                         struct request *req);

int __real_raft_install_snapshot(struct raft *r, uint64_t log_index, uint64_t term,
                                 const struct raft_membership *membership);
int __wrap_raft_install_snapshot(struct raft *r, uint64_t log_index, uint64_t term,
                                 const struct raft_membership *membership);
void __real_wal_restart(struct wal *w, uint64_t seq, uint64_t log_index, uint64_t term);
void __wrap_wal_restart(struct wal *w, uint64_t seq, uint64_t log_index, uint64_t term);
void __real_wal_cut(struct wal *w, uint64_t log_index);
void __wrap_wal_cut(struct wal *w, uint64_t log_index);
void __real_core__apply_conf(struct core *c, const struct raft_entry *e);
void __wrap_core__apply_conf(struct core *c, const struct raft_entry *e);
void __real_core_install_end(struct core *c, struct persist *persist);
void __wrap_core_install_end(struct core *c, struct persist *persist);

int __wrap_raft_install_snapshot(struct raft *r, uint64_t log_index, uint64_t term,
                                 const struct raft_membership *membership)
{
    int err = __real_raft_install_snapshot(r, log_index, term, membership);
    if (err == 0)
        judge_snapshot(sim_now->current, log_index, term);
    return err;
}

void __wrap_wal_restart(struct wal *w, uint64_t seq, uint64_t log_index, uint64_t term)
{
    judge_restart_log(sim_now->current, log_index, term);
    __real_wal_restart(w, seq, log_index, term);
}

void __wrap_wal_cut(struct wal *w, uint64_t log_index)
{
    judge_cut(sim_now->current, log_index);
    __real_wal_cut(w, log_index);
}

void __wrap_core_install_end(struct core *c, struct persist *persist)
{
    __real_core_install_end(c, persist);
    judge_installed(sim_now->current);
}

void __wrap_core__apply_conf(struct core *c, const struct raft_entry *e)
{
    uint64_t index = e->log_index;
    judge_conf_before(sim_now->current);
    __real_core__apply_conf(c, e);
    judge_conf_applied(sim_now->current, index, e->data);
}

struct raft *__wrap_raft_new(const struct raft_options *o)
{
    struct raft_options limits = *o;
    sim_limits(sim_now, &limits);
    struct raft *r = __real_raft_new(&limits);
    sim_now->current->raft = r;
    return r;
}

bool __wrap_raft_ready(struct raft *r, struct raft_ready *ret)
{
    bool any = __real_raft_ready(r, ret);
    if (any)
        judge_ready(sim_now->current, r, ret);
    return any;
}

void __wrap_wal_append(struct wal *w, uint64_t seq, const struct wal_entry *entries, uint32_t count,
                       const struct wal_hard_state *hs)
{
    judge_append(sim_now->current, seq, entries, count, hs);
    __real_wal_append(w, seq, entries, count, hs);
}

int __wrap_applier_apply(struct applier *a, const struct wire_raft_request *entry,
                         struct request *req)
{
    struct member *m = sim_now->current;
    if (m->dying) {
        return __real_applier_apply(a, entry, req);
    }
    /* Encoded again it is what is on the log, whoever proposed it. */
    size_t size = wire_raft_request_whole_size(entry);
    uint8_t *payload = mem_alloc(size);
    (void)wire_raft_request_whole_put(payload, entry);
    uint64_t index = judge_apply(m, slice_of(payload, size));
    mem_free(payload);
    __real_applier_apply(a, entry, req);
    const struct model_outcome *o = &sim_now->model.outcomes[index];
    if (!judge_chain(m, index, a->chain))
        sim_fail("member %u: another chain after entry %llu", m->number, (unsigned long long)index);
    if (mvcc_txn_revision(a->mvcc) != o->revision)
        sim_fail("member %u: revision %lld after entry %llu, not %lld", m->number,
                 (long long)mvcc_txn_revision(a->mvcc), (unsigned long long)index,
                 (long long)o->revision);
}

/* --- what node.c would have --- */

uint64_t node_db_size(const struct node *n)
{
    struct mvcc_stats s;
    mvcc_stats(n->mvcc, &s);
    return s.version_bytes;
}

#include "server/agree.h"

#include "base/assert.h"
#include "base/hash.h"

#include <string.h>

uint64_t agree_step(uint64_t chain, const struct agree_entry *e)
{
    chain = hash64_mix(chain, (uint64_t)e->kind << 32 | (uint32_t)e->err);
    chain = hash64_mix(chain, (uint64_t)e->revision);
    chain = hash64_mix(chain, e->added);
    return e->body.size == 0 ? chain : hash64_mix(chain, hash64(e->body, 0));
}

void agree_init(struct agree *a, uint64_t member_id)
{
    *a = (struct agree){.member_id = member_id};
}

void agree_forget(struct agree *a)
{
    agree_init(a, a->member_id);
}

void agree_applied(struct agree *a)
{
    a->applied_since++;
}

void agree_marked(struct agree *a, uint64_t mark, uint64_t chain, uint64_t added, int64_t compacted,
                  uint64_t now_ms)
{
    ASSERT(mark > a->marks[0].mark);
    memmove(a->marks + 1, a->marks, (AGREE_MARKS_MAX - 1) * sizeof(a->marks[0]));
    a->marks[0] =
        (struct agree_mark){.mark = mark, .chain = chain, .added = added, .compacted = compacted};
    a->applied_since = 0;
    a->last_ms = now_ms;
    a->reports_count = 0;
    a->judged = false;
}

bool agree_settle(struct agree *a, int64_t settled, uint64_t dropped, int64_t compacted,
                  struct agree_report *ret)
{
    for (uint32_t i = 0; i < AGREE_MARKS_MAX; i++) {
        struct agree_mark *m = &a->marks[i];
        if (m->mark == 0 || m->settled || m->compacted != settled || m->compacted != compacted)
            continue;
        m->settled = true;
        m->digest = hash64_mix(m->chain, m->added - dropped);
        *ret = (struct agree_report){.mark = m->mark, .digest = m->digest};
        return true;
    }
    return false;
}

/* --- the leader's --- */

bool agree_wants_mark(const struct agree *a, uint64_t now_ms)
{
    uint64_t waited_ms = now_ms - a->last_ms;
    return (a->applied_since >= AGREE_PACE_ENTRIES && waited_ms >= AGREE_PACE_MS) ||
           (a->applied_since > 0 && waited_ms >= AGREE_IDLE_MS);
}

void agree_reported(struct agree *a, uint64_t from, const struct agree_report *r)
{
    if (r->mark != a->marks[0].mark || a->reports_count == AGREE_REPORTS_MAX)
        return; /* of an earlier mark, or of one that we have not applied: passed over */
    for (uint32_t i = 0; i < a->reports_count; i++)
        if (a->reporters[i] == from)
            return;
    a->reporters[a->reports_count] = from;
    a->reports[a->reports_count++] = *r;
}

static uint32_t voters_for(const struct agree *a, uint64_t digest, const uint64_t *voters,
                           uint32_t voters_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->reports_count; i++) {
        bool votes = false;
        for (uint32_t k = 0; k < voters_count; k++)
            votes = votes || voters[k] == a->reporters[i];
        count += votes && a->reports[i].digest == digest;
    }
    return count;
}

enum agree_outcome agree_judge(struct agree *a, const uint64_t *voters, uint32_t voters_count,
                               struct agree_report *ret)
{
    if (a->judged)
        return AGREE_OPEN;
    uint32_t majority = voters_count / 2 + 1, best = 0, all = 0;
    uint64_t counted[AGREE_REPORTS_MAX];
    uint32_t counted_count = 0;
    for (uint32_t i = 0; i < a->reports_count; i++) {
        bool again = false;
        for (uint32_t k = 0; k < counted_count; k++)
            again = again || counted[k] == a->reports[i].digest;
        if (again)
            continue;
        counted[counted_count++] = a->reports[i].digest;
        uint32_t count = voters_for(a, a->reports[i].digest, voters, voters_count);
        all += count;
        if (count > best) {
            best = count;
            *ret = a->reports[i];
        }
    }
    if (best >= majority) {
        a->judged = true;
        return AGREE_VERDICT;
    }
    if (all < voters_count || voters_count == 0)
        return AGREE_OPEN;
    a->judged = true;
    return AGREE_NONE;
}

uint32_t agree_differing(const struct agree *a, const struct agree_report *verdict,
                         uint64_t ret_ids[AGREE_REPORTS_MAX])
{
    uint32_t count = 0;
    if (verdict->mark != a->marks[0].mark)
        return 0;
    for (uint32_t i = 0; i < a->reports_count; i++)
        if (a->reports[i].digest != verdict->digest)
            ret_ids[count++] = a->reporters[i];
    return count;
}

bool agree_differs(const struct agree *a, const struct agree_report *verdict, uint64_t *ret_own)
{
    for (uint32_t i = 0; i < AGREE_MARKS_MAX; i++) {
        const struct agree_mark *m = &a->marks[i];
        if (m->mark != verdict->mark || !m->settled)
            continue;
        if (m->digest == verdict->digest)
            return false;
        *ret_own = m->digest;
        return true;
    }
    return false;
}

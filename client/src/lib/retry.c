#include "retry.h"

/* --- budget --- */

void retry_budget_init(struct retry_budget *b, uint32_t percent)
{
    *b = (struct retry_budget){.percent = percent, .hundredths = RETRY_BURST * 100};
}

void retry_budget_call(struct retry_budget *b)
{
    b->hundredths += b->percent;
    if (b->hundredths > RETRY_SAVED_MAX * 100)
        b->hundredths = RETRY_SAVED_MAX * 100;
}

bool retry_budget_take(struct retry_budget *b)
{
    if (b->hundredths < 100)
        return false;
    b->hundredths -= 100;
    return true;
}

uint64_t retry_delay_ms(uint32_t n, struct rng *rng)
{
    enum { FIRST_MS = 10, MOST_MS = 500, DOUBLINGS_MAX = 6 };
    if (n <= 1)
        return 0;
    uint32_t doublings = n - 2 < DOUBLINGS_MAX ? n - 2 : DOUBLINGS_MAX;
    uint64_t ms = (uint64_t)FIRST_MS << doublings;
    if (ms > MOST_MS)
        ms = MOST_MS;
    return ms / 2 + rng_below(rng, ms / 2 + 1);
}

/* --- verdicts --- */

static bool says(struct slice text, int err)
{
    return slice_equal(text, slice_of_string(tv_err_text(err)));
}

/* Refused before anything was proposed to the others: etcd and trivet say so in these words. */
static bool was_not_proposed(struct slice text)
{
    return says(text, TV_NOT_LEADER) || says(text, TV_EDROPPED);
}

/* Refusals of the API whose codes look like lost connections. */
static bool is_refusal(struct slice text)
{
    return says(text, TV_UNHEALTHY) || says(text, TV_CORRUPT);
}

static enum retry_verdict judge_read(const struct retry_case *c)
{
    switch (c->code) {
    case GRPC_UNAVAILABLE:
    case GRPC_INTERNAL: /* the transport's, and an answer that cannot be read */
    case GRPC_DATA_LOSS:
    case GRPC_CANCELLED:         /* by the other side */
    case GRPC_DEADLINE_EXCEEDED: /* likewise: ours is not over */
        return c->part_seen ? RETRY_END : RETRY_ELSEWHERE;
    default:
        return RETRY_END;
    }
}

/* The cluster's refusals without a code of their own. What else has this one may come from anything
 * on the way. */
static bool is_untranslated(struct slice text)
{
    return !says(text, TV_TIMEOUT_LEADER_TRANSFER) &&
           (slice_starts_with(text, SLICE_LITERAL("etcdserver:")) ||
            slice_starts_with(text, SLICE_LITERAL("auth:")) ||
            slice_starts_with(text, SLICE_LITERAL("bcrypt:")));
}

/* The transport's words. */
static bool is_reset(struct slice text)
{
    return slice_starts_with(text, SLICE_LITERAL("stream terminated by RST_STREAM"));
}

static enum retry_verdict judge_write(const struct retry_case *c)
{
    if (!c->was_sent)
        return c->code == GRPC_UNAVAILABLE ? RETRY_ELSEWHERE : RETRY_END;
    if (was_not_proposed(c->text))
        return RETRY_LEADER_MOVED;
    if (is_refusal(c->text))
        return RETRY_END;
    switch (c->code) {
    case GRPC_UNAVAILABLE:
    case GRPC_INTERNAL:
    case GRPC_CANCELLED:
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_DATA_LOSS:
        return RETRY_UNKNOWN;
    case GRPC_UNKNOWN:
        return is_untranslated(c->text) ? RETRY_END : RETRY_UNKNOWN;
    case GRPC_RESOURCE_EXHAUSTED:
        /* A stream that was reset says nothing about what was applied. */
        return c->answer_too_large || is_reset(c->text) ? RETRY_UNKNOWN : RETRY_END;
    default:
        return RETRY_END;
    }
}

enum retry_verdict retry_judge(const struct retry_case *c)
{
    if (c->code == GRPC_OK)
        return RETRY_END;
    bool unknown = c->is_write && c->was_sent;
    if (c->canceled)
        return unknown ? RETRY_UNKNOWN : RETRY_CANCELED;
    if (c->deadline_over && (c->code == GRPC_DEADLINE_EXCEEDED || c->code == GRPC_CANCELLED))
        return unknown ? RETRY_UNKNOWN : RETRY_DEADLINE;
    if (says(c->text, TV_INVALID_AUTH_TOKEN) || says(c->text, TV_AUTH_OLD_REVISION))
        return RETRY_TOKEN;
    if (says(c->text, TV_TOO_MANY_REQUESTS))
        return RETRY_LATER;
    if (!c->is_write)
        return judge_read(c);
    enum retry_verdict verdict = judge_write(c);
    return verdict == RETRY_UNKNOWN && c->idempotent && !c->answer_too_large ? RETRY_ELSEWHERE
                                                                             : verdict;
}

bool retry_blames_member(enum grpc_code code, struct slice text, bool was_sent)
{
    /* Words of the cluster's: some say that this member is cut off, the others are about the call.
     */
    if (slice_starts_with(text, SLICE_LITERAL("etcdserver:")))
        return says(text, TV_NO_LEADER) || says(text, TV_TIMEOUT) || says(text, TV_STOPPED) ||
               says(text, TV_TIMEOUT_CONNECTION_LOST) || says(text, TV_CORRUPT);
    switch (code) {
    case GRPC_UNAVAILABLE:
    case GRPC_INTERNAL:
        return true;
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_UNKNOWN:
        return was_sent && text.size == 0;
    default:
        return false;
    }
}

uint64_t retry_p95_add(uint64_t p95_ns, uint64_t sample_ns)
{
    enum { STEPS = 32 };
    if (p95_ns == 0)
        return sample_ns + 1;
    uint64_t step = p95_ns / STEPS + 1;
    if (sample_ns > p95_ns)
        return p95_ns + step * 19 / 20;
    return p95_ns > step / 20 ? p95_ns - step / 20 : 1;
}

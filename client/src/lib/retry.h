/* What is done when a call fails: the table of docs/client.md. Pure.
 *
 * The rule that nothing overrules: a write that may have been applied is not repeated. */
#ifndef CLIENT_LIB_RETRY_H
#define CLIENT_LIB_RETRY_H

#include "base/err.h"
#include "base/rng.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* --- budget: retries may be a part of the calls, so that they do not bring down who is in trouble
 * --- */

enum { RETRY_BURST = 10, RETRY_SAVED_MAX = 100 };

struct retry_budget {
    uint32_t percent;
    uint64_t hundredths; /* of a retry */
};

void retry_budget_init(struct retry_budget *b, uint32_t percent);
void retry_budget_call(struct retry_budget *b);
/* True: there was one left, and it is taken. */
bool retry_budget_take(struct retry_budget *b);

/* Before the `n`th retry (1, 2, ...): none before the first, then 10 ms, doubled, at most 500 ms,
 * of which half is random. */
uint64_t retry_delay_ms(uint32_t n, struct rng *rng);

/* --- verdicts --- */

enum retry_verdict {
    RETRY_END,          /* the answer is final: TRIVET_OK or TRIVET_REFUSED */
    RETRY_ELSEWHERE,    /* not applied, or it does not matter: again, at another */
    RETRY_LEADER_MOVED, /* not applied: learn who leads, once more */
    RETRY_TOKEN,        /* not applied: authenticate, once more */
    RETRY_LATER,        /* not applied, the member is busy: again, after a pause */
    RETRY_UNKNOWN,      /* a write, of which nobody knows: TRIVET_UNKNOWN */
    RETRY_DEADLINE,     /* TRIVET_DEADLINE */
    RETRY_CANCELED,     /* TRIVET_CANCELED */
};

struct retry_case {
    bool is_write;
    bool idempotent; /* a write that may be repeated: its caller says so */
    bool was_sent;   /* it had a connection */
    bool part_seen;  /* of a stream: parts were given to the caller */
    bool deadline_over;
    bool canceled;         /* by the caller */
    bool answer_too_large; /* for us: there was one, and it is dropped */
    enum grpc_code code;
    struct slice text;
};

enum retry_verdict retry_judge(const struct retry_case *c);
/* Does this say that the member (and not only the call) is unwell? */
bool retry_blames_member(enum grpc_code code, struct slice text, bool was_sent);

/* --- hedging: a running p95 --- */

/* Stochastic approximation of a quantile: no memory of samples. 0: not known. */
uint64_t retry_p95_add(uint64_t p95_ns, uint64_t sample_ns);

#endif

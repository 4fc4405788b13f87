/* etcd's feature gates: --feature-gates takes those of 3.7, in its words. What a gate means here is
 * in features_meaning(). */
#ifndef SERVER_FEATURE_GATES_H
#define SERVER_FEATURE_GATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* By name, as etcd lists them. */
enum feature {
    FEATURE_COMPACT_HASH_CHECK,
    FEATURE_FAST_LEASE_KEEP_ALIVE,
    FEATURE_INITIAL_CORRUPT_CHECK,
    FEATURE_LEASE_CHECKPOINT,
    FEATURE_LEASE_CHECKPOINT_PERSIST,
    FEATURE_PRIORITY_REQUEST,
    FEATURE_SET_MEMBER_LOCAL_ADDR,
    FEATURE_STOP_GRPC_SERVICE_ON_DEFRAG,
    FEATURE_TXN_MODE_WRITE_WITH_SHARED_BUFFER,
    FEATURES_COUNT
};

enum feature_stage { FEATURE_ALPHA, FEATURE_BETA };

struct features {
    bool enabled[FEATURES_COUNT];
    bool set[FEATURES_COUNT]; /* by hand, or by AllAlpha or AllBeta */
};

void features_init(struct features *f);
/* "A=true,B=false", onto what is set already; `f` is unchanged after an error. Errors: TV_EINVAL,
 * with etcd's text. */
int features_set(struct features *f, const char *text, char *err_text, size_t err_size);
const char *feature_name(enum feature which);
enum feature_stage feature_stage(enum feature which);
/* Why the gate changes nothing here; NULL: it does what it does in etcd. */
const char *feature_meaning(enum feature which);

#endif

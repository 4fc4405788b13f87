/* libtrivet: the client of trivet and of etcd (API v3) for C and C++.
 *
 * One client is one engine: connections to the members of one cluster, a balancer, and the calls
 * under way. It runs on a thread of its own, or in the caller's loop (trivet_options.own_loop).
 * There is no global state: any number of clients live side by side. docs/client.md has the policy
 * (who is asked, when is a call repeated) as one table.
 *
 * Three forms of every call, over one engine:
 *   trivet_call()         waits for the answer;
 *   trivet_start()        calls back from the engine's thread;
 *   trivet_batch()        many calls at once, waits for all of them (they are not one txn).
 *
 * Threads: unless said otherwise a function may be called from any thread, at the same time as
 * others, but not while or after trivet_close() runs. Callbacks come from the engine's thread, one
 * at a time; they may call everything but what waits (trivet_call, trivet_batch, trivet_watch_next)
 * and trivet_close. With own_loop the engine's thread is the one that calls trivet_process(); from
 * others only trivet_start() and trivet_context_cancel() may be called then.
 *
 * Memory: what a request points to is borrowed until the function returns. A result is the
 * caller's and ends with trivet_result_clear(); in a callback it is borrowed until the return.
 * Bytes that are given out are not terminated by a zero byte. What is under way is bounded:
 * trivet_options.calls_max and .bytes_max. When malloc() fails the call ends with
 * TRIVET_NO_MEMORY, watches and leases wait until there is memory again; the process goes on.
 *
 * Signals: none is installed or needed. SIGPIPE never leaves the library.
 *
 * Units: TTLs in seconds, as the API has them; all other times in milliseconds in the name (_ms),
 * in nanoseconds (_ns); sizes in bytes. */
#ifndef TRIVET_H
#define TRIVET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TRIVET_API __attribute__((visibility("default")))
#else
#define TRIVET_API
#endif

/* --- bytes --- */

struct trivet_bytes {
    const void *data;
    size_t size;
};

static inline struct trivet_bytes trivet_bytes(const void *data, size_t size)
{
    struct trivet_bytes b;
    b.data = data;
    b.size = size;
    return b;
}

static inline struct trivet_bytes trivet_str(const char *text)
{
    return trivet_bytes(text, strlen(text));
}

/* --- how a call ends --- */

enum trivet_status {
    TRIVET_OK = 0,
    /* The cluster refused: result.code and result.error are its words. Nothing was changed. */
    TRIVET_REFUSED = 1,
    /* A change may have been made, or not: no answer came, or it cannot be read. It was not and is
     * not repeated. Read before you decide. */
    TRIVET_UNKNOWN = 2,
    /* The time was up. Nothing was changed. */
    TRIVET_DEADLINE = 3,
    /* Canceled by the caller. Nothing was changed. */
    TRIVET_CANCELED = 4,
    /* No member could be reached, or none answered. Nothing was changed. */
    TRIVET_UNAVAILABLE = 5,
    /* The caller's mistake: result.error says which. */
    TRIVET_INVALID = 6,
    /* calls_max, bytes_max or another bound is reached: wait for calls to end. */
    TRIVET_BUSY = 7,
    /* Watches: the revisions asked for are compacted; see trivet_watch_message.compact_revision. */
    TRIVET_COMPACTED = 8,
    /* Leases: it expired, or was revoked. */
    TRIVET_EXPIRED = 9,
    /* What came is not the API's. Only of calls that change nothing. */
    TRIVET_MALFORMED = 10,
    /* The client was closed meanwhile. */
    TRIVET_CLOSED = 11,
    /* trivet_watch_next(): nothing came in the time given. */
    TRIVET_TIMEOUT = 12,
    /* malloc() failed. Nothing was changed (a write that was sent: TRIVET_UNKNOWN). */
    TRIVET_NO_MEMORY = 13
};

/* "TRIVET_OK"; never NULL. */
TRIVET_API const char *trivet_status_name(int status);

/* --- what can be asked --- */

enum trivet_method {
    TRIVET_RANGE = 1,
    TRIVET_RANGE_STREAM, /* trivet_start(): in parts; trivet_call(): all in one result */
    TRIVET_PUT,
    TRIVET_DELETE,
    TRIVET_TXN,
    TRIVET_COMPACT,
    TRIVET_LEASE_GRANT,
    TRIVET_LEASE_REVOKE,
    TRIVET_LEASE_KEEPALIVE, /* once; see trivet_lease_keep() for always */
    TRIVET_LEASE_TTL,
    TRIVET_LEASE_LIST,
    TRIVET_MEMBER_ADD,
    TRIVET_MEMBER_REMOVE,
    TRIVET_MEMBER_UPDATE,
    TRIVET_MEMBER_LIST,
    TRIVET_MEMBER_PROMOTE,
    TRIVET_ALARM,
    TRIVET_STATUS,     /* of call_options.endpoint */
    TRIVET_DEFRAGMENT, /* likewise */
    TRIVET_HASH,       /* likewise */
    TRIVET_HASH_KV,    /* likewise */
    TRIVET_SNAPSHOT,   /* likewise; in parts: only trivet_start() */
    TRIVET_MOVE_LEADER,
    TRIVET_DOWNGRADE,
    TRIVET_AUTH_ENABLE,
    TRIVET_AUTH_DISABLE,
    TRIVET_AUTH_STATUS,
    TRIVET_AUTHENTICATE,
    TRIVET_USER_ADD,
    TRIVET_USER_GET,
    TRIVET_USER_LIST,
    TRIVET_USER_DELETE,
    TRIVET_USER_CHANGE_PASSWORD,
    TRIVET_USER_GRANT_ROLE,
    TRIVET_USER_REVOKE_ROLE,
    TRIVET_ROLE_ADD,
    TRIVET_ROLE_GET,
    TRIVET_ROLE_LIST,
    TRIVET_ROLE_DELETE,
    TRIVET_ROLE_GRANT,
    TRIVET_ROLE_REVOKE,
    TRIVET_LOCK, /* waits for its turn, without a deadline of its own */
    TRIVET_UNLOCK,
    TRIVET_CAMPAIGN, /* likewise */
    TRIVET_PROCLAIM,
    TRIVET_LEADER,
    TRIVET_OBSERVE, /* in parts, without end: only trivet_start() */
    TRIVET_RESIGN,
    TRIVET_METHODS_COUNT
};

enum trivet_sort_order { TRIVET_SORT_NONE, TRIVET_SORT_ASCEND, TRIVET_SORT_DESCEND };
enum trivet_sort_target {
    TRIVET_SORT_KEY,
    TRIVET_SORT_VERSION,
    TRIVET_SORT_CREATE,
    TRIVET_SORT_MOD,
    TRIVET_SORT_VALUE
};
enum trivet_compare_result { TRIVET_EQUAL, TRIVET_GREATER, TRIVET_LESS, TRIVET_NOT_EQUAL };
enum trivet_compare_target {
    TRIVET_COMPARE_VERSION,
    TRIVET_COMPARE_CREATE,
    TRIVET_COMPARE_MOD,
    TRIVET_COMPARE_VALUE,
    TRIVET_COMPARE_LEASE
};
enum trivet_permission_type {
    TRIVET_PERMISSION_READ,
    TRIVET_PERMISSION_WRITE,
    TRIVET_PERMISSION_READWRITE
};

/* range_end, everywhere: empty: `key` alone; one zero byte: all keys from `key` on; else up to it.
 * trivet_prefix_end() makes the one for all keys with a prefix. */
struct trivet_range_request {
    struct trivet_bytes key;
    struct trivet_bytes range_end;
    int64_t limit;    /* 0: none */
    int64_t revision; /* 0: now */
    int32_t sort_order;
    int32_t sort_target;
    bool serializable; /* may be stale; served by any member without asking the others */
    bool keys_only;
    bool count_only;
    int64_t min_mod_revision;
    int64_t max_mod_revision;
    int64_t min_create_revision;
    int64_t max_create_revision;
};

struct trivet_put_request {
    struct trivet_bytes key;
    struct trivet_bytes value;
    int64_t lease;
    bool prev_kv;
    bool ignore_value;
    bool ignore_lease;
};

struct trivet_delete_request {
    struct trivet_bytes key;
    struct trivet_bytes range_end;
    bool prev_kv;
};

struct trivet_compare {
    int32_t result;
    int32_t target;
    struct trivet_bytes key;
    struct trivet_bytes range_end;
    int64_t number;            /* VERSION, CREATE, MOD, LEASE */
    struct trivet_bytes value; /* VALUE */
};

struct trivet_request;

struct trivet_txn_request {
    const struct trivet_compare *compares;
    uint32_t compares_count;
    const struct trivet_request *success; /* RANGE, PUT, DELETE, TXN */
    uint32_t success_count;
    const struct trivet_request *failure;
    uint32_t failure_count;
};

struct trivet_compact_request {
    int64_t revision;
    bool physical;
};

struct trivet_lease_request {
    int64_t id;  /* GRANT: 0 lets the cluster choose */
    int64_t ttl; /* GRANT */
    bool keys;   /* TTL: the keys as well */
};

struct trivet_member_request {
    uint64_t id;                          /* REMOVE, UPDATE, PROMOTE */
    const struct trivet_bytes *peer_urls; /* ADD, UPDATE */
    uint32_t peer_urls_count;
    bool is_learner;   /* ADD */
    bool linearizable; /* LIST */
};

struct trivet_alarm_request {
    int32_t action; /* 0 get, 1 activate, 2 deactivate */
    uint64_t member_id;
    int32_t alarm; /* 0 every, 1 NOSPACE, 2 CORRUPT */
};

struct trivet_maintenance_request {
    int64_t revision;            /* HASH_KV */
    uint64_t target_id;          /* MOVE_LEADER */
    int32_t action;              /* DOWNGRADE: 0 validate, 1 enable, 2 cancel */
    struct trivet_bytes version; /* DOWNGRADE */
};

/* All of Auth. */
struct trivet_auth_request {
    struct trivet_bytes user;
    struct trivet_bytes password;
    bool no_password; /* USER_ADD */
    struct trivet_bytes role;
    int32_t permission; /* ROLE_GRANT */
    struct trivet_bytes key;
    struct trivet_bytes range_end;
};

/* What says who leads: Campaign's answer, needed to proclaim and to resign. */
struct trivet_leader_key {
    struct trivet_bytes name;
    struct trivet_bytes key;
    int64_t revision;
    int64_t lease;
};

/* Lock and Election. */
struct trivet_contest_request {
    struct trivet_bytes name;        /* LOCK, CAMPAIGN, LEADER, OBSERVE */
    int64_t lease;                   /* LOCK, CAMPAIGN */
    struct trivet_bytes value;       /* CAMPAIGN, PROCLAIM */
    struct trivet_bytes key;         /* UNLOCK */
    struct trivet_leader_key leader; /* PROCLAIM, RESIGN */
};

/* Zero it, then set `method` and the part that is its own. */
struct trivet_request {
    int32_t method; /* enum trivet_method */
    union {
        struct trivet_range_request range; /* RANGE, RANGE_STREAM */
        struct trivet_put_request put;
        struct trivet_delete_request del;
        struct trivet_txn_request txn;
        struct trivet_compact_request compact;
        struct trivet_lease_request lease;
        struct trivet_member_request member;
        struct trivet_alarm_request alarm;
        struct trivet_maintenance_request maintenance;
        struct trivet_auth_request auth;
        struct trivet_contest_request contest;
    } u;
};

/* --- answers --- */

struct trivet_header {
    uint64_t cluster_id;
    uint64_t member_id; /* who answered */
    int64_t revision;
    uint64_t raft_term;
};

/* One that is not there has an empty key. */
struct trivet_kv {
    struct trivet_bytes key;
    struct trivet_bytes value;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version;
    int64_t lease;
};

struct trivet_result;

struct trivet_range_result {
    const struct trivet_kv *kvs;
    uint32_t kvs_count;
    bool more;
    int64_t count;
};
struct trivet_put_result {
    struct trivet_kv prev_kv;
};
struct trivet_delete_result {
    int64_t deleted;
    const struct trivet_kv *prev_kvs;
    uint32_t prev_kvs_count;
};
struct trivet_txn_result {
    bool succeeded;
    const struct trivet_result *responses; /* of the branch that was taken, in its order */
    uint32_t responses_count;
};
struct trivet_lease_result {
    int64_t id;
    int64_t ttl; /* TTL: -1 when there is no such lease; KEEPALIVE: 0 likewise */
    int64_t granted_ttl;
    const struct trivet_bytes *keys;
    uint32_t keys_count;
    const int64_t *ids; /* LEASE_LIST */
    uint32_t ids_count;
};
struct trivet_member {
    uint64_t id;
    struct trivet_bytes name;
    const struct trivet_bytes *peer_urls;
    uint32_t peer_urls_count;
    const struct trivet_bytes *client_urls;
    uint32_t client_urls_count;
    bool is_learner;
};
struct trivet_member_result {
    struct trivet_member member; /* ADD */
    const struct trivet_member *members;
    uint32_t members_count;
};
struct trivet_alarm {
    uint64_t member_id;
    int32_t alarm;
};
struct trivet_alarm_result {
    const struct trivet_alarm *alarms;
    uint32_t alarms_count;
};
struct trivet_status_result {
    struct trivet_bytes version;
    struct trivet_bytes storage_version;
    int64_t db_size;
    int64_t db_size_in_use;
    int64_t db_size_quota;
    uint64_t leader;
    uint64_t raft_index;
    uint64_t raft_term;
    uint64_t raft_applied_index;
    bool is_learner;
    const struct trivet_bytes *errors;
    uint32_t errors_count;
    bool downgrade_enabled;
    struct trivet_bytes downgrade_target;
};
struct trivet_maintenance_result {
    uint32_t hash; /* HASH, HASH_KV */
    int64_t compact_revision;
    int64_t hash_revision;
    struct trivet_bytes version; /* DOWNGRADE, SNAPSHOT */
    struct trivet_bytes blob;    /* SNAPSHOT: the next piece; the last one is a SHA-256 */
    uint64_t remaining_bytes;
};
struct trivet_permission {
    int32_t type;
    struct trivet_bytes key;
    struct trivet_bytes range_end;
};
struct trivet_auth_result {
    bool enabled; /* AUTH_STATUS */
    uint64_t revision;
    struct trivet_bytes token;        /* AUTHENTICATE */
    const struct trivet_bytes *names; /* USER_GET: roles; USER_LIST; ROLE_LIST */
    uint32_t names_count;
    const struct trivet_permission *permissions; /* ROLE_GET */
    uint32_t permissions_count;
};
struct trivet_contest_result {
    struct trivet_bytes key;         /* LOCK: what to unlock */
    struct trivet_leader_key leader; /* CAMPAIGN */
    struct trivet_kv kv;             /* LEADER, OBSERVE */
};

struct trivet_result {
    int32_t status; /* enum trivet_status */
    int32_t method;
    int32_t code;      /* gRPC's, when the cluster refused or a connection failed; else 0 */
    const char *error; /* why; "" when all is well; as long as the result */
    bool part;         /* of a stream: more follow */
    uint32_t attempts; /* how often it was sent */
    struct trivet_header header;
    union {
        struct trivet_range_result range;
        struct trivet_put_result put;
        struct trivet_delete_result del;
        struct trivet_txn_result txn;
        struct trivet_lease_result lease;
        struct trivet_member_result member;
        struct trivet_alarm_result alarm;
        struct trivet_status_result status;
        struct trivet_maintenance_result maintenance;
        struct trivet_auth_result auth;
        struct trivet_contest_result contest;
    } u;          /* meaningful when status is TRIVET_OK */
    void *memory; /* the library's */
};

/* Frees what the result holds and zeroes it. Twice does no harm. Not for one in a callback. */
TRIVET_API void trivet_result_clear(struct trivet_result *r);

/* --- a client --- */

struct trivet_client;
struct trivet_context;
struct trivet_watch;

/* Strings are copied. Times of 0 mean what the comment says, not the default. */
struct trivet_options {
    /* Each "[http://|https://|unix://|dns://]host:port[;zone=NAME]" or "srv://domain[;zone=NAME]".
     * dns:// is every address of the name; srv:// what the domain's SRV records of
     * _etcd-client-ssl._tcp (with TLS) and _etcd-client._tcp name, those without TLS not where TLS
     * is set here. Both are looked up again every endpoints_interval_ms. Not both this and the
     * file.
     */
    const char *const *endpoints;
    uint32_t endpoints_count;
    /* One such endpoint on a line, # begins a comment; read again when it changes. */
    const char *endpoints_file;
    uint64_t endpoints_interval_ms; /* of looking at the file, dns and members; default 5,000 */
    bool members_refresh;           /* ask the cluster for its client URLs as well; default false */
    const char *zone;               /* the caller's; default NULL: all the same */

    /* TLS: for endpoints with https://, and for all without a scheme when one of these is set. The
     * files are read again when they change. */
    const char *ca_file;
    const char *cert_file;
    const char *key_file;
    bool insecure_skip_verify;

    const char *user; /* NULL: nobody; the token is renewed as needed */
    const char *password;
    const char *token; /* in place of both: a JWT that is sent as it is; default NULL */

    bool own_loop; /* the caller runs the engine: trivet_fd(), trivet_process(); default false */

    uint64_t timeout_ms;         /* of calls that say nothing else; default 5,000; 0: none */
    uint64_t connect_timeout_ms; /* default 2,000 */
    uint64_t read_attempt_ms; /* a read unanswered so long goes to another; default 1,000; 0: no */
    bool hedge;               /* reads slower than p95 are asked twice; default false */
    uint32_t retry_percent;   /* retries per 100 calls, beyond a burst of 10; default 20 */
    uint64_t keepalive_ms;    /* silence before a ping, at least 5,000; default 10,000; 0: none */
    uint64_t keepalive_timeout_ms; /* default 3,000 */

    uint32_t connections_max; /* per endpoint; default 2; more than one when one is full */
    uint32_t subset;          /* so many endpoints are read from; default 0: all */
    uint64_t slow_start_ms;   /* how long one that returned gets less; default 10,000 */

    uint32_t calls_max;          /* under way; default 10,000 */
    uint64_t bytes_max;          /* of requests under way; default 64 MiB */
    uint64_t response_bytes_max; /* of one answer; default 256 MiB */
    uint64_t watch_bytes_max;    /* kept of one watch that is not read; default 16 MiB */
    uint64_t seed;               /* of all randomness; default 0: from the system */
};

TRIVET_API void trivet_options_init(struct trivet_options *o);

/* Does not wait for connections. Errors: TRIVET_INVALID, TRIVET_NO_MEMORY, TRIVET_UNAVAILABLE (the
 * system has no loop for us); *ret is NULL and err_text says why. */
TRIVET_API int trivet_open(const struct trivet_options *o, struct trivet_client **ret,
                           char *err_text, size_t err_size);
/* Ends every call with TRIVET_CLOSED (a write that was sent: TRIVET_UNKNOWN), every watch and lease
 * keeper; callbacks come before it returns. Leases are not revoked. Waits for the engine's thread.
 * Not from a callback. NULL does nothing. */
TRIVET_API void trivet_close(struct trivet_client *c);

/* With own_loop: poll `fd` for reading, at most trivet_timeout_ms() (-1: for ever), then call
 * trivet_process(). Thread: the one that runs the loop. */
TRIVET_API int trivet_fd(const struct trivet_client *c);
TRIVET_API int trivet_timeout_ms(const struct trivet_client *c);
TRIVET_API void trivet_process(struct trivet_client *c);

/* --- calls --- */

/* What several calls have in common. trivet_context_cancel() ends them, and those to come. NULL:
 * there is no memory. */
TRIVET_API struct trivet_context *trivet_context_new(struct trivet_client *c);
TRIVET_API void trivet_context_cancel(struct trivet_context *x);
/* The calls that have it go on. NULL does nothing. */
TRIVET_API void trivet_context_free(struct trivet_context *x);

/* NULL means all zero. */
struct trivet_call_options {
    uint64_t timeout_ms; /* 0: the client's */
    struct trivet_context *context;
    const char *endpoint; /* this one and no other, as it was given (without ";zone="); NULL: any */
    /* A write: to apply it twice, the second time perhaps after others' writes, does no harm, as
     * with a put of what is so, or a txn that compares what it replaces. Then it is repeated where
     * its fate is unknown; only one that is unknown at the deadline still is TRIVET_UNKNOWN. */
    bool idempotent;
};

/* Waits for the answer. Returns ret->status; `ret` is always to be cleared. */
TRIVET_API int trivet_call(struct trivet_client *c, const struct trivet_request *q,
                           const struct trivet_call_options *o, struct trivet_result *ret);

/* `r` is borrowed until return. Parts come first (r->part), then once the end. */
typedef void (*trivet_result_cb)(const struct trivet_result *r, void *arg);
/* 0: `cb` will be called. TRIVET_INVALID, TRIVET_BUSY, TRIVET_NO_MEMORY, TRIVET_CLOSED: it will
 * not. Never from inside. */
TRIVET_API int trivet_start(struct trivet_client *c, const struct trivet_request *q,
                            const struct trivet_call_options *o, trivet_result_cb cb, void *arg);

/* All at once, each by itself, in any order; waits for all. `results` has `count` places, each to
 * be cleared. Returns how many are not TRIVET_OK. More than calls_max go in portions. */
TRIVET_API uint32_t trivet_batch(struct trivet_client *c, const struct trivet_request *q,
                                 uint32_t count, const struct trivet_call_options *o,
                                 struct trivet_result *results);

/* The shortest forms; `ret` as in trivet_call(). */
TRIVET_API int trivet_get(struct trivet_client *c, struct trivet_bytes key,
                          struct trivet_result *ret);
TRIVET_API int trivet_put(struct trivet_client *c, struct trivet_bytes key,
                          struct trivet_bytes value, struct trivet_result *ret);
TRIVET_API int trivet_delete(struct trivet_client *c, struct trivet_bytes key,
                             struct trivet_result *ret);
/* The end of the range of all keys that begin with `prefix`, in `ret`, which has prefix.size + 1
 * bytes; returns how many it takes. */
TRIVET_API size_t trivet_prefix_end(struct trivet_bytes prefix, void *ret);

/* --- watches --- */

struct trivet_event {
    int32_t type; /* 0 put, 1 delete */
    struct trivet_kv kv;
    struct trivet_kv prev_kv;
};

/* TRIVET_OK: events, in order; none when it is only progress: all up to header.revision is told.
 * Any other status is the end of the watch. */
struct trivet_watch_message {
    int32_t status;
    int32_t code;
    const char *error;
    struct trivet_header header;
    const struct trivet_event *events;
    uint32_t events_count;
    int64_t compact_revision; /* TRIVET_COMPACTED */
    bool created;             /* the first one: it is in place; no events */
    void *memory;             /* the library's */
};

enum { TRIVET_WATCH_NOPUT = 1, TRIVET_WATCH_NODELETE = 2 };

struct trivet_watch_options {
    struct trivet_bytes key;
    struct trivet_bytes range_end;
    int64_t start_revision; /* 0: from now on */
    uint32_t filters;       /* TRIVET_WATCH_NO* */
    bool progress_notify;
    bool prev_kv;
};

/* `m` is borrowed until return. */
typedef void (*trivet_watch_cb)(struct trivet_watch *w, const struct trivet_watch_message *m,
                                void *arg);
/* A watch that outlives connections and members: each event once, in the order of revisions,
 * whatever breaks. What the server sends in fragments is given as one message. With `cb` NULL
 * messages wait for trivet_watch_next(); when watch_bytes_max wait, the server is made to wait.
 * Owns: *ret is the caller's until trivet_watch_close(). Errors: TRIVET_INVALID, TRIVET_BUSY,
 * TRIVET_NO_MEMORY. */
TRIVET_API int trivet_watch_open(struct trivet_client *c, const struct trivet_watch_options *o,
                                 trivet_watch_cb cb, void *arg, struct trivet_watch **ret);
/* The next message, to be cleared; returns its status, or TRIVET_TIMEOUT after timeout_ms. Thread:
 * one at a time. */
TRIVET_API int trivet_watch_next(struct trivet_watch *w, uint64_t timeout_ms,
                                 struct trivet_watch_message *ret);
/* Asks how far it is: a message without events follows once all before is told. None does while it
 * has no member to ask. */
TRIVET_API void trivet_watch_progress(struct trivet_watch *w);
TRIVET_API void trivet_watch_message_clear(struct trivet_watch_message *m);
/* No callback begins after its return; allowed inside one. After trivet_close() it only frees. */
TRIVET_API void trivet_watch_close(struct trivet_watch *w);

/* --- leases that are kept alive --- */

/* Told once, when the lease is lost: TRIVET_EXPIRED (the cluster says so, or a whole TTL went by
 * without a word), TRIVET_REFUSED, TRIVET_CLOSED. */
typedef void (*trivet_lease_cb)(int64_t lease_id, int status, const char *error, void *arg);
/* Keep it alive until trivet_lease_drop(). `ttl` as it was granted. `lost` may be NULL. Keeping one
 * twice is TRIVET_INVALID; TRIVET_BUSY beyond 100,000; TRIVET_NO_MEMORY. */
TRIVET_API int trivet_lease_keep(struct trivet_client *c, int64_t lease_id, int64_t ttl,
                                 trivet_lease_cb lost, void *arg);
/* No callback comes after its return unless it is running. Does not revoke. */
TRIVET_API void trivet_lease_drop(struct trivet_client *c, int64_t lease_id);

/* --- what it did --- */

struct trivet_metrics {
    uint64_t calls;           /* ended */
    uint64_t calls_failed;    /* not TRIVET_OK */
    uint64_t calls_unknown;   /* TRIVET_UNKNOWN */
    uint64_t calls_no_memory; /* TRIVET_NO_MEMORY */
    uint64_t calls_now;       /* under way */
    uint64_t bytes_now;       /* of their requests */
    uint64_t attempts;        /* sent */
    uint64_t retries;
    uint64_t retries_denied; /* by the budget */
    uint64_t hedges;
    uint64_t hedges_won;
    uint64_t leader_changes;
    uint64_t ejections;
    uint64_t silences; /* members that were asked and not heard of for a quarter of a second */
    uint64_t watch_resumes;
    uint64_t watches_now;
    uint64_t leases_now;
    uint64_t lease_keepalives; /* confirmed */
    uint64_t tokens;           /* authenticated so often */
    uint64_t read_p95_ns;      /* what hedging goes by */
};

struct trivet_endpoint_metrics {
    char address[128];
    char zone[32];
    uint64_t member_id; /* 0: not known yet */
    bool ready;         /* connected */
    bool leader;
    bool ejected;
    uint32_t connections;
    uint32_t in_flight;
    uint64_t latency_ns; /* moving average */
    uint64_t calls;
    uint64_t failures;
};

TRIVET_API void trivet_metrics(struct trivet_client *c, struct trivet_metrics *ret);
/* Up to `count` of them; returns how many there are. */
TRIVET_API uint32_t trivet_endpoints(struct trivet_client *c, struct trivet_endpoint_metrics *ret,
                                     uint32_t count);

/* "0.1.0" */
TRIVET_API const char *trivet_version(void);

#ifdef __cplusplus
}
#endif
#endif

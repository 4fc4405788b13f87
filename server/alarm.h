/* Alarms: which members have said that something is wrong, and what follows from it for the whole
 * cluster.
 *
 * Replicated state, changed by entries of the log alone. NOSPACE: nothing that adds to the store is
 * applied any more. CORRUPT: nothing that changes the store is. An alarm stays until all who raised
 * it are content: an operator's word ends every one; a member whose disk has room again takes back
 * only what it raised for its disk.
 *
 * Threads: changed by the core's; asked by any. Rules and texts from etcd
 * server/etcdserver/api/v3alarm, server/etcdserver/apply. */
#ifndef SERVER_ALARM_H
#define SERVER_ALARM_H

#include "base/buf.h"
#include "base/slice.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { ALARMS_MAX = 1024 }; /* then raising another one is refused */

enum alarm_action { ALARM_GET, ALARM_ACTIVATE, ALARM_DEACTIVATE };
enum alarm_type { ALARM_NONE, ALARM_NOSPACE, ALARM_CORRUPT };

/* Why; or-ed. */
enum alarm_reason {
    ALARM_FOR_ASKED = 1, /* by an operator, or by the quota */
    ALARM_FOR_DISK = 2,  /* the member's disk is nearly full */
    /* The member's contents differ from the majority's (server/agree.h). It is the member that does
     * not serve then; nothing else follows. */
    ALARM_FOR_DIFFERENCE = 4,
};

/* etcdserverpb.AlarmRequest, and a field of ours behind etcd's. The numbers are kept as they came.
 */
struct alarm_request {
    int32_t action;
    uint64_t member_id;
    int32_t type;
    uint32_t reason; /* 0: an operator's word, which ends an alarm whatever raised it */
};

/* "NOSPACE", "CORRUPT", or "unknown". */
const char *alarm_type_name(int32_t type);

int alarm_request_decode(struct slice msg, struct alarm_request *ret);
size_t alarm_request_size(const struct alarm_request *r);
uint8_t *alarm_request_put(uint8_t *dst, const struct alarm_request *r);

struct alarm {
    uint64_t member_id;
    int32_t type;
    uint32_t reasons;
};

struct alarms {
    pthread_mutex_t lock; /* over all but `active` */
    struct alarm *items;  /* by type, then member */
    uint32_t count;
    uint32_t capacity;
    _Atomic uint32_t active; /* bits 1 << type; bit 0: of any other type; bit 31: for a disk */
};

void alarms_init(struct alarms *a);
void alarms_fini(struct alarms *a);

/* --- the core's --- */

/* Do what the request says; the alarms it is about, as etcd answers, are appended to *ret as fields
 * 2 of an AlarmResponse. *ret_changed: there is something to store. Errors: TV_TOO_MANY_REQUESTS:
 * ALARMS_MAX is reached. */
int alarms_apply(struct alarms *a, const struct alarm_request *r, struct buf *ret,
                 bool *ret_changed);
/* All of them, for the store; and back. Errors: TV_EMALFORMED: nothing changed. */
void alarms_encode(struct alarms *a, struct buf *ret);
int alarms_decode(struct alarms *a, struct slice encoded);

/* --- any thread's --- */

/* One that the whole cluster heeds: not a CORRUPT for ALARM_FOR_DIFFERENCE alone. */
bool alarms_active(const struct alarms *a, enum alarm_type type);
/* One that is neither NOSPACE nor CORRUPT: a client may raise what it likes. */
bool alarms_active_other(const struct alarms *a);
/* Some member's disk is nearly full. */
bool alarms_active_for_disk(const struct alarms *a);
/* Some member has raised it, for whatever reason. */
bool alarms_raised(struct alarms *a, enum alarm_type type);
/* The reasons for which this member has raised the alarm; 0: it has not. */
uint32_t alarms_reasons(struct alarms *a, uint64_t member_id, enum alarm_type type);
/* The members that have raised the alarm for the reason, at most `max`; how many. */
uint32_t alarms_members(struct alarms *a, enum alarm_type type, enum alarm_reason reason,
                        uint64_t *ret_ids, uint32_t max);
/* Appends a field `number` for each, with the words of etcd's Status: "memberID:1 alarm:NOSPACE".
 */
void alarms_describe(struct alarms *a, uint32_t number, struct buf *ret);

#endif

/* alarm, defrag, move-leader and downgrade. */
#include "commands.h"
#include "progress.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

/* --- alarm --- */

static const char *alarm_name(int32_t alarm)
{
    return alarm == 1 ? "NOSPACE" : alarm == 2 ? "CORRUPT" : "NONE";
}

static void print_alarm(struct ctl *c, const struct trivet_alarm *a)
{
    if (c->format == CTL_FIELDS) {
        ctl_field_id(c, "MemberID", a->member_id);
        printf("\"AlarmType\" : %s\n\n", alarm_name(a->alarm));
    } else if (a->member_id != 0) {
        printf("memberID:%" PRIu64 " alarm:%s\n", a->member_id, alarm_name(a->alarm));
    } else {
        printf("alarm:%s\n", alarm_name(a->alarm));
    }
}

static void alarms_doc(struct doc *d, const struct trivet_header *h,
                       const struct trivet_alarm *alarms, uint32_t count)
{
    if (h->cluster_id != 0)
        doc_header(d, h);
    doc_open_list(d, "alarms", 2);
    for (uint32_t i = 0; i < count; i++) {
        doc_open(d, NULL, 2);
        doc_uint(d, "memberID", 1, alarms[i].member_id);
        doc_int(d, "alarm", 2, alarms[i].alarm);
        doc_close(d);
    }
    doc_close(d);
}

static void print_alarms(struct ctl *c, const struct trivet_header *h,
                         const struct trivet_alarm *alarms, uint32_t count)
{
    if (c->format == CTL_TABLE)
        ctl_fail_format(c);
    if (ctl_is_doc(c)) {
        struct doc d;
        doc_init(&d);
        alarms_doc(&d, h, alarms, count);
        ctl_print_doc(c, &d);
        doc_fini(&d);
        return;
    }
    if (c->format == CTL_FIELDS)
        ctl_field_header(c, h);
    for (uint32_t i = 0; i < count; i++)
        print_alarm(c, &alarms[i]);
}

static int run_alarm_list(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_ALARM};
    struct trivet_result r;
    if (c->args_count != 0)
        ctl_fail(c, CTL_BAD_ARGS, "alarm list command accepts no arguments");
    ctl_call(c, &q, &r);
    print_alarms(c, &r.header, r.u.alarm.alarms, r.u.alarm.alarms_count);
    trivet_result_clear(&r);
    return CTL_OK;
}

/* One by one, as etcd's client: its answer has what was disarmed and no header. */
static int run_alarm_disarm(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_ALARM};
    struct trivet_result list;
    struct trivet_header none = {0};
    if (c->args_count != 0)
        ctl_fail(c, CTL_BAD_ARGS, "alarm disarm command accepts no arguments");
    ctl_call(c, &q, &list);
    const struct trivet_alarm_result *alarms = &list.u.alarm;
    for (uint32_t i = 0; i < alarms->alarms_count; i++) {
        struct trivet_request off = {.method = TRIVET_ALARM,
                                     .u.alarm = {.action = 2,
                                                 .member_id = alarms->alarms[i].member_id,
                                                 .alarm = alarms->alarms[i].alarm}};
        struct trivet_result r;
        ctl_call(c, &off, &r);
        trivet_result_clear(&r);
    }
    print_alarms(c, &none, alarms->alarms, alarms->alarms_count);
    trivet_result_clear(&list);
    return CTL_OK;
}

static const struct ctl_command alarm_subs[] = {
    {.name = "disarm", .usage = "", .brief = "Ends all alarms", .run = run_alarm_disarm},
    {.name = "list", .usage = "", .brief = "All alarms", .run = run_alarm_list},
    {NULL},
};

const struct ctl_command ctl_cmd_alarm = {
    .name = "alarm",
    .usage = "<subcommand>",
    .brief = "Alarms: listed and ended",
    .group = "Cluster maintenance commands",
    .subs = alarm_subs,
};

/* --- defrag --- */

static int run_defrag(struct ctl *c)
{
    const struct trivet_request q = {.method = TRIVET_DEFRAGMENT};
    uint32_t count, failures = 0;
    char **endpoints = ctl_endpoints(c, &count);
    char took[32];
    for (uint32_t i = 0; i < count; i++) {
        struct trivet_result r;
        struct progress p;
        progress_begin(&p, "defragmenting", PROGRESS_COUNT, 0);
        progress_say(&p, "defragmenting %s, %u of %u", endpoints[i], i + 1, count);
        uint64_t began_ns = clock_mono_ns();
        int status = ctl_try(c, &q, endpoints[i], c->command_timeout_ns, &r);
        progress_end(&p);
        (void)ctl_duration(took, clock_mono_ns() - began_ns);
        if (status == TRIVET_OK) {
            printf("Finished defragmenting etcd member[%s]. took %s\n", endpoints[i], took);
            fflush(stdout);
        } else {
            int exit_status = ctl_status_of(c, &r, CTL_OK);
            if (exit_status != CTL_OK)
                ctl_fail_call(c, exit_status, &r);
            fprintf(stderr, "Failed to defragment etcd member[%s]. took %s. (%s)\n", endpoints[i],
                    took, ctl_error(&r));
            failures++;
        }
        trivet_result_clear(&r);
    }
    return failures > 0 ? CTL_ERROR : CTL_OK;
}

static const struct ctl_flag defrag_flags[] = {
    {"cluster", 0, CTL_BOOL, NULL, "all members of the cluster, as its member list names them"},
    {NULL},
};

const struct ctl_command ctl_cmd_defrag = {
    .name = "defrag",
    .usage = "",
    .brief = "Gives back disk space that members do not use",
    .group = "Cluster maintenance commands",
    .flags = defrag_flags,
    .run = run_defrag,
};

/* --- move-leader --- */

/* The endpoint that leads, and who it is. */
static const char *leader_endpoint(struct ctl *c, uint64_t *ret_id)
{
    const struct trivet_request q = {.method = TRIVET_STATUS};
    uint32_t count;
    char **endpoints = ctl_seeds(c, &count);
    char *all = ctl_copy(trivet_str(""));
    for (uint32_t i = 0; i < count; i++) {
        struct trivet_result r;
        if (ctl_try(c, &q, endpoints[i], c->command_timeout_ns, &r) != TRIVET_OK)
            ctl_fail_call(c, CTL_ERROR, &r);
        *ret_id = r.u.status.leader;
        bool leads = r.u.status.leader == r.header.member_id;
        trivet_result_clear(&r);
        if (leads)
            return endpoints[i];
        all = ctl_sprintf("%s%s%s", all, i > 0 ? " " : "", endpoints[i]);
    }
    ctl_fail(c, CTL_BAD_ARGS, "no leader endpoint given at [%s]", all);
}

static int run_move_leader(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_MOVE_LEADER};
    struct trivet_result r;
    uint64_t leader;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "move-leader command needs 1 argument");
    const char *why = ctl_parse_uint(c->args[0], 16, &q.u.maintenance.target_id);
    if (why != NULL)
        ctl_fail(c, CTL_BAD_ARGS, "%s", why);
    const char *endpoint = leader_endpoint(c, &leader);
    if (ctl_try(c, &q, endpoint, c->command_timeout_ns, &r) != TRIVET_OK)
        ctl_fail_call(c, CTL_ERROR, &r);
    if (c->format == CTL_FIELDS)
        ctl_fail_format(c);
    if (!ctl_print_header(c, &r.header))
        printf("Leadership transferred from %" PRIx64 " to %" PRIx64 "\n", leader,
               q.u.maintenance.target_id);
    trivet_result_clear(&r);
    return CTL_OK;
}

const struct ctl_command ctl_cmd_move_leader = {
    .name = "move-leader",
    .usage = "<transferee-member-id>",
    .brief = "Makes another member the leader",
    .group = "Cluster maintenance commands",
    .run = run_move_leader,
};

/* --- downgrade --- */

static int downgrade(struct ctl *c, int32_t action, const char *version, const char *name)
{
    struct trivet_request q = {.method = TRIVET_DOWNGRADE};
    struct trivet_result r;
    q.u.maintenance.action = action;
    q.u.maintenance.version = trivet_str(version);
    ctl_call(c, &q, &r);
    if (c->format == CTL_TABLE || c->format == CTL_FIELDS)
        ctl_fail_format(c);
    if (ctl_is_doc(c)) {
        struct doc d;
        doc_init(&d);
        doc_header(&d, &r.header);
        doc_text(&d, "version", 2, r.u.maintenance.version);
        ctl_print_doc(c, &d);
        doc_fini(&d);
    } else {
        printf("Downgrade %s success, cluster version %s\n", name,
               ctl_copy(r.u.maintenance.version));
    }
    trivet_result_clear(&r);
    return CTL_OK;
}

static const char *target_version(struct ctl *c)
{
    if (c->args_count < 1)
        ctl_fail(c, CTL_BAD_ARGS, "TARGET_VERSION not provided");
    if (c->args_count > 1)
        ctl_fail(c, CTL_BAD_ARGS, "too many arguments");
    if (c->args[0][0] == '\0')
        ctl_fail(c, CTL_BAD_ARGS, "target version not provided");
    return c->args[0];
}

static int run_downgrade_validate(struct ctl *c)
{
    return downgrade(c, 0, target_version(c), "validate");
}

static int run_downgrade_enable(struct ctl *c)
{
    return downgrade(c, 1, target_version(c), "enable");
}

static int run_downgrade_cancel(struct ctl *c)
{
    return downgrade(c, 2, "", "cancel");
}

static const struct ctl_command downgrade_subs[] = {
    {.name = "cancel",
     .usage = "",
     .brief = "Ends a downgrade that is under way",
     .run = run_downgrade_cancel},
    {.name = "enable",
     .usage = "<TARGET_VERSION>",
     .brief = "Begins a downgrade of the cluster",
     .run = run_downgrade_enable},
    {.name = "validate",
     .usage = "<TARGET_VERSION>",
     .brief = "Whether a downgrade to that version may begin",
     .run = run_downgrade_validate},
    {NULL},
};

const struct ctl_command ctl_cmd_downgrade = {
    .name = "downgrade",
    .usage = "<TARGET_VERSION>",
    .brief = "Downgrades of the cluster's version",
    .group = "Cluster maintenance commands",
    .subs = downgrade_subs,
};

/* The leader's own compactions: compactor.h says when. */
#include "server/node_internal.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/wire.h"

enum { COMPACT_PATIENCE_MS = 7000 }; /* etcd's, of a request of a client's */

static void say(const struct node *n, enum log_level level, const char *what, int64_t revision,
                int err)
{
    const struct compactor_options *o = &n->compactor.options;
    char kept[64], message[96], retry[64];
    config_format_duration(o->retention, kept, sizeof(kept));
    config_format_duration((int64_t)n->compactor.retry_ms * 1000000, retry, sizeof(retry));
    snprintf(message, sizeof(message), "%s auto %s compaction", what,
             o->by_revision ? "revision" : "periodic");
    struct log_field fields[] = {
        LOG_INT("revision", revision),
        o->by_revision ? LOG_INT("revision-compaction-retention", o->retention)
                       : LOG_STR("compact-period", kept),
        LOG_STR("retry-interval", retry),
        LOG_STR("error", err == 0 ? "" : tv_err_text(err)),
    };
    if (log_wants(level, message))
        log_write(level, __FILE__, __LINE__, message, fields, err == 0 ? 2 : 4);
}

static void on_compacted(struct worker *w, struct request *req)
{
    (void)w;
    struct node *n = req->user;
    int64_t revision = n->compactor.asked;
    bool ok = req->err == 0 || req->err == TV_COMPACTED;
    say(n, ok ? LOG_INFO : LOG_WARN, ok ? "completed" : "failed", revision, ok ? 0 : req->err);
    compactor_done(&n->compactor, node__now_ms(), mvcc_revision(n->mvcc), ok);
    bref_unref(req->payload);
    bref_unref(req->reply);
    mem_free(req);
}

static void compact(struct node *n, int64_t revision)
{
    uint8_t body[32];
    struct wire_compaction_request compaction = {.revision = revision};
    say(n, LOG_INFO, "starting", revision, 0);
    struct slice bytes =
        slice_of(body, (size_t)(wire_compaction_request_put(body, &compaction) - body));
    struct request *req = mem_alloc_zero(sizeof(*req));
    list_init(&req->link);
    req->kind = REQUEST_PROPOSE;
    req->answered = on_compacted;
    req->patience_ms = COMPACT_PATIENCE_MS;
    req->user = n;
    req->id = core_next_request_id(n->core);
    req->payload_size = (uint32_t)wire_raft_request_size(WIRE_RAFT_COMPACTION, req->id, bytes);
    req->payload = bref_new(req->payload_size);
    wire_raft_request_put(req->payload->data, WIRE_RAFT_COMPACTION, req->id, bytes);
    core_submit(n->core, req);
}

void node__start_compactor(struct node *n)
{
    struct compactor_options o;
    char err_text[256];
    if (compactor_parse(n->config->compaction_mode, n->config->compaction_retention, &o, err_text,
                        sizeof(err_text)) != 0)
        tv_fatal("%s", err_text); /* it was checked when the configuration was read */
    compactor_init(&n->compactor, &o, node__now_ms());
}

void node__tick_compactor(struct node *n)
{
    struct core_status s;
    if (n->stopping)
        return;
    core_status(n->core, &s);
    int64_t revision = compactor_tick(&n->compactor, node__now_ms(), mvcc_revision(n->mvcc),
                                      s.leader == n->member_id);
    if (revision > 0)
        compact(n, revision);
}

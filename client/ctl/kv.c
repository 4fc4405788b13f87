/* get, put, del and compaction. */
#include "kv.h"
#include "commands.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* All keys from `key` on, in a request whose key may not be empty. */
static const struct trivet_bytes from_here = {"\0", 1};

/* --prefix and --from-key; an empty key means all of them. */
static void set_range(struct ctl *c, struct trivet_bytes *key, struct trivet_bytes *range_end)
{
    bool prefix = ctl_bool(c, "prefix"), from_key = ctl_bool(c, "from-key");
    if ((prefix || from_key) && key->size == 0)
        *key = from_here, from_key = true;
    if (from_key)
        *range_end = from_here;
    else if (prefix)
        *range_end = ctl_prefix_end(*key);
}

static void check_range(struct ctl *c)
{
    bool prefix = ctl_bool(c, "prefix"), from_key = ctl_bool(c, "from-key");
    if (prefix && from_key)
        ctl_fail(c, CTL_BAD_ARGS,
                 "`--prefix` and `--from-key` cannot be set at the same time, choose one");
}

static struct trivet_bytes second_key(struct ctl *c)
{
    if (ctl_bool(c, "prefix") || ctl_bool(c, "from-key"))
        ctl_fail(c, CTL_BAD_ARGS,
                 "too many arguments, only accept one argument when `--prefix` or `--from-key` is "
                 "set");
    return trivet_str(c->args[1]);
}

/* --- get --- */

/* The place of the flag's word among `words`; -1: it is none of them. */
static int word_of(const char *text, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcasecmp(text, words[i]) == 0)
            return i;
    }
    return -1;
}

static void set_sort(struct ctl *c, struct trivet_range_request *q)
{
    static const char *const orders[] = {"", "ASCEND", "DESCEND", NULL};
    static const char *const targets[] = {"KEY", "VERSION", "CREATE", "MODIFY", "VALUE", "", NULL};
    q->sort_order = word_of(ctl_text(c, "order"), orders);
    if (q->sort_order < 0)
        ctl_fail(c, CTL_BAD_FEATURE, "bad sort order %s", ctl_text(c, "order"));
    q->sort_target = word_of(ctl_text(c, "sort-by"), targets);
    if (q->sort_target < 0)
        ctl_fail(c, CTL_BAD_FEATURE, "bad sort target %s", ctl_text(c, "sort-by"));
    if (q->sort_target > TRIVET_SORT_VALUE)
        q->sort_target = TRIVET_SORT_KEY;
    if (q->sort_target == TRIVET_SORT_KEY && q->sort_order == TRIVET_SORT_ASCEND)
        q->sort_order = TRIVET_SORT_NONE; /* it is so anyway, and costs the server no sorting */
}

static int64_t above_zero(int64_t number)
{
    return number > 0 ? number : 0;
}

static void set_revisions(struct ctl *c, struct trivet_range_request *q)
{
    q->min_create_revision = above_zero(ctl_int(c, "min-create-rev"));
    q->max_create_revision = above_zero(ctl_int(c, "max-create-rev"));
    if (q->max_create_revision > 0 && q->min_create_revision > q->max_create_revision)
        ctl_fail(c, CTL_BAD_FEATURE,
                 "getMinCreateRev(=%" PRId64 ") > getMaxCreateRev(=%" PRId64 ")",
                 q->min_create_revision, q->max_create_revision);
    q->min_mod_revision = above_zero(ctl_int(c, "min-mod-rev"));
    q->max_mod_revision = above_zero(ctl_int(c, "max-mod-rev"));
    if (q->max_mod_revision > 0 && q->min_mod_revision > q->max_mod_revision)
        ctl_fail(c, CTL_BAD_FEATURE, "getMinModRev(=%" PRId64 ") > getMaxModRev(=%" PRId64 ")",
                 q->min_mod_revision, q->max_mod_revision);
}

void kv_range_request(struct ctl *c, struct trivet_request *ret)
{
    struct trivet_range_request *q = &ret->u.range;
    *ret = (struct trivet_request){.method = TRIVET_RANGE};
    if (c->args_count == 0)
        ctl_fail(c, CTL_BAD_ARGS,
                 "get command needs one argument as key and an optional argument as range_end");
    check_range(c);
    q->keys_only = ctl_bool(c, "keys-only");
    q->count_only = ctl_bool(c, "count-only");
    if (q->keys_only && q->count_only)
        ctl_fail(c, CTL_BAD_ARGS,
                 "`--keys-only` and `--count-only` cannot be set at the same time, choose one");
    q->serializable = ctl_serializable(c, ctl_text(c, "consistency"));
    q->key = trivet_str(c->args[0]);
    if (c->args_count > 1)
        q->range_end = second_key(c);
    q->limit = ctl_int(c, "limit");
    q->revision = above_zero(ctl_int(c, "rev"));
    set_sort(c, q);
    set_range(c, &q->key, &q->range_end);
    set_revisions(c, q);
}

static int run_get(struct ctl *c)
{
    struct trivet_request q;
    struct trivet_result r;
    kv_range_request(c, &q);
    if (ctl_bool(c, "stream"))
        q.method = TRIVET_RANGE_STREAM;
    ctl_call(c, &q, &r);
    if (q.u.range.count_only && c->format != CTL_FIELDS)
        ctl_fail(c, CTL_BAD_ARGS, "--count-only is only for `--write-out=fields`");
    bool value_only = ctl_bool(c, "print-value-only");
    if (value_only && c->format != CTL_SIMPLE)
        ctl_fail(c, CTL_BAD_ARGS, "print-value-only is only for `--write-out=simple`");
    kv_print(c, &r, value_only);
    trivet_result_clear(&r);
    return CTL_OK;
}

static const struct ctl_flag get_flags[] = {
    {"consistency", 0, CTL_STRING, "l", "linearizable (l), or serializable (s): perhaps stale",
     .words = "l s"},
    {"order", 0, CTL_STRING, NULL, "in which order: ASCEND or DESCEND", .words = "ASCEND DESCEND"},
    {"sort-by", 0, CTL_STRING, NULL, "by what to sort: CREATE, KEY, MODIFY, VALUE or VERSION",
     .words = "CREATE KEY MODIFY VALUE VERSION"},
    {"limit", 0, CTL_INT, NULL, "so many results at most"},
    {"prefix", 0, CTL_BOOL, NULL, "all keys that begin with the key"},
    {"from-key", 0, CTL_BOOL, NULL, "all keys from the key on, in the order of bytes"},
    {"rev", 0, CTL_INT, NULL, "as it was at this revision"},
    {"keys-only", 0, CTL_BOOL, NULL, "only the keys"},
    {"count-only", 0, CTL_BOOL, NULL, "only how many there are"},
    {"print-value-only", 0, CTL_BOOL, NULL, "print only the values (with the format simple)"},
    {"min-create-rev", 0, CTL_INT, NULL, "created at this revision or later"},
    {"max-create-rev", 0, CTL_INT, NULL, "created at this revision or before"},
    {"min-mod-rev", 0, CTL_INT, NULL, "changed at this revision or later"},
    {"max-mod-rev", 0, CTL_INT, NULL, "changed at this revision or before"},
    {"stream", 0, CTL_BOOL, NULL, "ask by the RangeStream RPC"},
    {NULL},
};

const struct ctl_command ctl_cmd_get = {
    .name = "get",
    .usage = "[options] <key> [range_end]",
    .brief = "Reads a key or a range of keys",
    .group = "Key-value commands",
    .flags = get_flags,
    .run = run_get,
};

/* --- put --- */

void kv_put_request(struct ctl *c, struct trivet_request *ret)
{
    static const char needs[] = "put command needs 1 argument and input from stdin or 2 arguments";
    struct trivet_put_request *q = &ret->u.put;
    *ret = (struct trivet_request){.method = TRIVET_PUT};
    if (c->args_count == 0)
        ctl_fail(c, CTL_BAD_ARGS, "%s", needs);
    q->key = trivet_str(c->args[0]);
    q->ignore_value = ctl_bool(c, "ignore-value");
    if (q->ignore_value && c->args_count > 1)
        ctl_fail(c, CTL_BAD_ARGS, "put command needs only 1 argument when 'ignore-value' is set");
    if (!q->ignore_value) {
        q->value = c->args_count > 1 ? trivet_str(c->args[1]) : ctl_read_stdin();
        if (c->args_count == 1 && q->value.size == 0)
            ctl_fail(c, CTL_BAD_ARGS, "%s", needs);
    }
    const char *why = ctl_parse_int(ctl_text(c, "lease"), 16, &q->lease);
    if (why != NULL)
        ctl_fail(c, CTL_BAD_ARGS, "bad lease ID (%s), expecting ID in Hex", why);
    q->prev_kv = ctl_bool(c, "prev-kv");
    q->ignore_lease = ctl_bool(c, "ignore-lease");
}

static int run_put(struct ctl *c)
{
    struct trivet_request q;
    struct trivet_result r;
    kv_put_request(c, &q);
    ctl_call(c, &q, &r);
    kv_print(c, &r, false);
    trivet_result_clear(&r);
    return CTL_OK;
}

static const struct ctl_flag put_flags[] = {
    {"lease", 0, CTL_STRING, "0", "the lease, in hexadecimal, that the key ends with"},
    {"prev-kv", 0, CTL_BOOL, NULL, "print what was there before"},
    {"ignore-value", 0, CTL_BOOL, NULL, "keep the value that the key has"},
    {"ignore-lease", 0, CTL_BOOL, NULL, "keep the lease that the key has"},
    {NULL},
};

const struct ctl_command ctl_cmd_put = {
    .name = "put",
    .usage = "[options] <key> <value> (<value> can also be given from stdin)",
    .brief = "Writes a key",
    .help = "Writes a key.\n\n"
            "Without a value it is read from standard input, all of it:\n"
            "  $ put <key> < file\n\n"
            "A value that begins with '-' stands behind \"--\":\n"
            "  $ put <key> -- -1",
    .group = "Key-value commands",
    .flags = put_flags,
    .run = run_put,
};

/* --- del --- */

void kv_delete_request(struct ctl *c, struct trivet_request *ret)
{
    struct trivet_delete_request *q = &ret->u.del;
    *ret = (struct trivet_request){.method = TRIVET_DELETE};
    if (c->args_count == 0 || c->args_count > 2)
        ctl_fail(c, CTL_BAD_ARGS,
                 "del command needs one argument as key and an optional argument as range_end");
    check_range(c);
    q->key = trivet_str(c->args[0]);
    q->prev_kv = ctl_bool(c, "prev-kv");
    if (c->args_count > 1) {
        q->range_end = second_key(c);
        if (!ctl_bool(c, "range")) {
            fprintf(stderr,
                    "Warning: Keys between \"%s\" and \"%s\" will be deleted. Please interrupt the "
                    "command within next 2 seconds to cancel. You can provide `--range` flag to "
                    "avoid the delay.\n",
                    c->args[0], c->args[1]);
            (void)sleep(2);
        }
    }
    set_range(c, &q->key, &q->range_end);
}

static int run_del(struct ctl *c)
{
    struct trivet_request q;
    struct trivet_result r;
    kv_delete_request(c, &q);
    ctl_call(c, &q, &r);
    kv_print(c, &r, false);
    trivet_result_clear(&r);
    return CTL_OK;
}

static const struct ctl_flag del_flags[] = {
    {"prefix", 0, CTL_BOOL, NULL, "all keys that begin with the key"},
    {"prev-kv", 0, CTL_BOOL, NULL, "print what was there before"},
    {"from-key", 0, CTL_BOOL, NULL, "all keys from the key on, in the order of bytes"},
    {"range", 0, CTL_BOOL, NULL, "delete a range without the two seconds for second thoughts"},
    {NULL},
};

const struct ctl_command ctl_cmd_del = {
    .name = "del",
    .usage = "[options] <key> [range_end]",
    .brief = "Deletes a key or a range of keys",
    .group = "Key-value commands",
    .flags = del_flags,
    .run = run_del,
};

/* --- compaction --- */

static int run_compaction(struct ctl *c)
{
    struct trivet_request q = {.method = TRIVET_COMPACT};
    struct trivet_result r;
    if (c->args_count != 1)
        ctl_fail(c, CTL_BAD_ARGS, "compaction command needs 1 argument");
    const char *why = ctl_parse_int(c->args[0], 10, &q.u.compact.revision);
    if (why != NULL)
        ctl_fail(c, CTL_ERROR, "%s", why);
    q.u.compact.physical = ctl_bool(c, "physical");
    ctl_call(c, &q, &r);
    printf("compacted revision %" PRId64 "\n", q.u.compact.revision);
    trivet_result_clear(&r);
    return CTL_OK;
}

static const struct ctl_flag compaction_flags[] = {
    {"physical", 0, CTL_BOOL, NULL, "wait until the old revisions are gone from the disk as well"},
    {NULL},
};

const struct ctl_command ctl_cmd_compaction = {
    .name = "compaction",
    .usage = "[options] <revision>",
    .brief = "Drops the history before a revision",
    .group = "Key-value commands",
    .flags = compaction_flags,
    .run = run_compaction,
};

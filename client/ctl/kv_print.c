/* Answers of the KV service in every form. */
#include "kv.h"

#include <inttypes.h>

/* --- one pair --- */

void kv_print_simple(const struct ctl *c, const struct trivet_kv *kv, bool value_only)
{
    if (!value_only) {
        ctl_print_bytes(c, kv->key);
        putchar('\n');
    }
    ctl_print_bytes(c, kv->value);
    putchar('\n');
}

void kv_print_fields(const struct ctl *c, const char *prefix, const struct trivet_kv *kv)
{
    printf("\"%sKey\" : ", prefix);
    ctl_print_quoted(kv->key);
    printf("\n\"%sCreateRevision\" : %" PRId64 "\n", prefix, kv->create_revision);
    printf("\"%sModRevision\" : %" PRId64 "\n", prefix, kv->mod_revision);
    printf("\"%sVersion\" : %" PRId64 "\n", prefix, kv->version);
    printf("\"%sValue\" : ", prefix);
    ctl_print_quoted(kv->value);
    printf(c->hex ? "\n\"%sLease\" : %016" PRIx64 "\n" : "\n\"%sLease\" : %" PRId64 "\n", prefix,
           kv->lease);
}

void kv_doc(struct doc *d, const char *name, int number, const struct trivet_kv *kv)
{
    doc_open(d, name, number);
    doc_bytes(d, "key", 1, kv->key);
    doc_int(d, "create_revision", 2, kv->create_revision);
    doc_int(d, "mod_revision", 3, kv->mod_revision);
    doc_int(d, "version", 4, kv->version);
    doc_bytes(d, "value", 5, kv->value);
    doc_int(d, "lease", 6, kv->lease);
    doc_close(d);
}

/* --- answers as documents --- */

static void range_doc(struct doc *d, const struct trivet_header *h,
                      const struct trivet_range_result *r)
{
    doc_header(d, h);
    doc_open_list(d, "kvs", 2);
    for (uint32_t i = 0; i < r->kvs_count; i++)
        kv_doc(d, NULL, 2, &r->kvs[i]);
    doc_close(d);
    doc_bool(d, "more", 3, r->more);
    doc_int(d, "count", 4, r->count);
}

static void put_doc(struct doc *d, const struct trivet_header *h, const struct trivet_put_result *r)
{
    doc_header(d, h);
    if (r->prev_kv.key.size > 0)
        kv_doc(d, "prev_kv", 2, &r->prev_kv);
}

static void delete_doc(struct doc *d, const struct trivet_header *h,
                       const struct trivet_delete_result *r)
{
    doc_header(d, h);
    doc_int(d, "deleted", 2, r->deleted);
    doc_open_list(d, "prev_kvs", 3);
    for (uint32_t i = 0; i < r->prev_kvs_count; i++)
        kv_doc(d, NULL, 3, &r->prev_kvs[i]);
    doc_close(d);
}

static void txn_doc(struct doc *d, const struct trivet_result *r);

static void response_doc(struct doc *d, const struct trivet_result *r)
{
    doc_open(d, NULL, 3);
    doc_open(d, "Response", DOC_THROUGH);
    switch (r->method) {
    case TRIVET_RANGE:
        doc_open(d, "response_range", 1);
        range_doc(d, &r->header, &r->u.range);
        break;
    case TRIVET_PUT:
        doc_open(d, "response_put", 2);
        put_doc(d, &r->header, &r->u.put);
        break;
    case TRIVET_DELETE:
        doc_open(d, "response_delete_range", 3);
        delete_doc(d, &r->header, &r->u.del);
        break;
    default:
        doc_open(d, "response_txn", 4);
        txn_doc(d, r);
        break;
    }
    doc_close(d);
    doc_close(d);
    doc_close(d);
}

static void txn_doc(struct doc *d, const struct trivet_result *r)
{
    doc_header(d, &r->header);
    doc_bool(d, "succeeded", 2, r->u.txn.succeeded);
    doc_open_list(d, "responses", 3);
    for (uint32_t i = 0; i < r->u.txn.responses_count; i++)
        response_doc(d, &r->u.txn.responses[i]);
    doc_close(d);
}

/* --- answers as fields, and simple --- */

static void fields_range(struct ctl *c, const struct trivet_header *h,
                         const struct trivet_range_result *r)
{
    ctl_field_header(c, h);
    for (uint32_t i = 0; i < r->kvs_count; i++)
        kv_print_fields(c, "", &r->kvs[i]);
    ctl_field_bool("More", r->more);
    ctl_field_int("Count", r->count);
}

static void print_fields(struct ctl *c, const struct trivet_result *r)
{
    if (r->method == TRIVET_RANGE || r->method == TRIVET_RANGE_STREAM) {
        fields_range(c, &r->header, &r->u.range);
        return;
    }
    ctl_field_header(c, &r->header);
    if (r->method == TRIVET_PUT) {
        if (r->u.put.prev_kv.key.size > 0)
            kv_print_fields(c, "Prev", &r->u.put.prev_kv);
    } else if (r->method == TRIVET_DELETE) {
        ctl_field_int("Deleted", r->u.del.deleted);
        for (uint32_t i = 0; i < r->u.del.prev_kvs_count; i++)
            kv_print_fields(c, "Prev", &r->u.del.prev_kvs[i]);
    } else {
        ctl_field_bool("Succeeded", r->u.txn.succeeded);
        for (uint32_t i = 0; i < r->u.txn.responses_count; i++)
            print_fields(c, &r->u.txn.responses[i]);
    }
}

static void print_simple(struct ctl *c, const struct trivet_result *r, bool value_only)
{
    if (r->method == TRIVET_RANGE || r->method == TRIVET_RANGE_STREAM) {
        for (uint32_t i = 0; i < r->u.range.kvs_count; i++)
            kv_print_simple(c, &r->u.range.kvs[i], value_only);
    } else if (r->method == TRIVET_PUT) {
        puts("OK");
        if (r->u.put.prev_kv.key.size > 0)
            kv_print_simple(c, &r->u.put.prev_kv, false);
    } else if (r->method == TRIVET_DELETE) {
        printf("%" PRId64 "\n", r->u.del.deleted);
        for (uint32_t i = 0; i < r->u.del.prev_kvs_count; i++)
            kv_print_simple(c, &r->u.del.prev_kvs[i], false);
    } else {
        puts(r->u.txn.succeeded ? "SUCCESS" : "FAILURE");
        for (uint32_t i = 0; i < r->u.txn.responses_count; i++) {
            putchar('\n');
            print_simple(c, &r->u.txn.responses[i], false);
        }
    }
}

void kv_print(struct ctl *c, const struct trivet_result *r, bool value_only)
{
    if (c->format == CTL_SIMPLE) {
        print_simple(c, r, value_only);
    } else if (c->format == CTL_FIELDS) {
        print_fields(c, r);
    } else if (c->format == CTL_TABLE) {
        ctl_fail_format(c);
    } else {
        struct doc d;
        doc_init(&d);
        if (r->method == TRIVET_PUT)
            put_doc(&d, &r->header, &r->u.put);
        else if (r->method == TRIVET_DELETE)
            delete_doc(&d, &r->header, &r->u.del);
        else if (r->method == TRIVET_TXN)
            txn_doc(&d, r);
        else
            range_doc(&d, &r->header, &r->u.range);
        ctl_print_doc(c, &d);
        doc_fini(&d);
    }
    fflush(stdout);
}

void kv_print_pair(struct ctl *c, const struct trivet_header *h, const struct trivet_kv *kv,
                   int64_t count)
{
    struct trivet_result r = {.method = TRIVET_RANGE,
                              .header = *h,
                              .u.range = {.kvs = kv, .kvs_count = 1, .count = count}};
    kv_print(c, &r, false);
}

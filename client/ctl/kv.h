/* Keys and values printed, for all commands that have some. */
#ifndef CLIENT_CTL_KV_H
#define CLIENT_CTL_KV_H

#include "ctl.h"

/* The answer of get, put, del or txn in the form of -w. `value_only`: of get in simple. */
void kv_print(struct ctl *c, const struct trivet_result *r, bool value_only);
/* One pair as the answer of a get that found it. */
void kv_print_pair(struct ctl *c, const struct trivet_header *h, const struct trivet_kv *kv,
                   int64_t count);
/* Key and value, a line each. */
void kv_print_simple(const struct ctl *c, const struct trivet_kv *kv, bool value_only);
/* "<prefix>Key" and so on, for fields. */
void kv_print_fields(const struct ctl *c, const char *prefix, const struct trivet_kv *kv);
void kv_doc(struct doc *d, const char *name, int number, const struct trivet_kv *kv);

/* What the flags and arguments of get, put and del ask for. `ret` lives to the end. */
void kv_range_request(struct ctl *c, struct trivet_request *ret);
void kv_put_request(struct ctl *c, struct trivet_request *ret);
void kv_delete_request(struct ctl *c, struct trivet_request *ret);

#endif

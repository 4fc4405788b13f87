/* What the scenes of libtrivet.py share; each file has those of one subject. */
#ifndef TESTS_CLIENTS_LIBTRIVET_SCENES_H
#define TESTS_CLIENTS_LIBTRIVET_SCENES_H

#include "trivet.h"

#include <stdatomic.h>
#include <stdint.h>

extern _Atomic int passed, failed;

void check_that(int holds, const char *what, int line, const char *more);
#define CHECK(x) check_that(!!(x), #x, __LINE__, "")
#define CHECK_CALL(status, r)                                                \
    do {                                                                     \
        int check_status = (status);                                         \
        check_that(check_status == TRIVET_OK, #status, __LINE__, (r).error); \
    } while (0)

uint64_t now_ms(void);
void sleep_ms(unsigned ms);
/* Asks and zeroes the request. */
int ask(struct trivet_client *c, struct trivet_request *q, struct trivet_result *r);
struct trivet_client *open_or_die(const struct trivet_options *o);
/* A number among the arguments that are no options of the library: "name=number". */
uint64_t argument(const char *name, uint64_t otherwise);

/* A watch from its beginning to a compaction. */
void watch_calls(struct trivet_client *c);

/* Each runs with a client that is open; `seconds` is the first argument after the endpoints. */
void scene_calls(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_loop(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_user(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_refused(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_nobody(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_endpoints(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_connections(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_slow(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_faults(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_bench(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_one_failure(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_memory(struct trivet_client *c, const struct trivet_options *o, int seconds);
void scene_load(struct trivet_client *c, const struct trivet_options *o, int seconds);

#endif

/* What every Check program here begins with. A program lists its cases and is done:
 *
 *   UNIT_MAIN("arena", test_alloc, test_clear)
 *
 * Without CK_FORK=no each case runs in a process of its own, so a broken ASSERT fails one case. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include "probe_log.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

/* Check notes each assertion that holds in a file, for the message of a case that crashes: a write
 * that takes longer than the case itself where it looks at millions of things. */
#define _mark_point(file, line) ((void)0)

static inline int unit_run(const char *name, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 300);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define UNIT_MAIN(name, ...)                                                   \
    int main(void)                                                             \
    {                                                                          \
        const TTest *const unit_tests_here[] = {__VA_ARGS__};                  \
        return unit_run((name), unit_tests_here,                               \
                        sizeof(unit_tests_here) / sizeof(unit_tests_here[0])); \
    }

#endif

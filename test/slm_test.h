/*
 * The smallest test frame: CHECK counts, TEST_MAIN prints "name: N passed, N failed" and exits non-zero on a failure.
 */
#ifndef SLM_TEST_H
#define SLM_TEST_H

#include <stdio.h>

static int slm_test_passed, slm_test_failed;

#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        if (condition) {                                                                                     \
            slm_test_passed++;                                                                               \
        } else {                                                                                             \
            slm_test_failed++;                                                                               \
            fprintf(stderr, "%s:%d: FAILED: %s: ", __FILE__, __LINE__, #condition);                          \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fputc('\n', stderr);                                                                             \
        }                                                                                                    \
    } while (0)

#define TEST_MAIN_END(name)                                                                                  \
    do {                                                                                                     \
        printf("%s: %d passed, %d failed\n", name, slm_test_passed, slm_test_failed);                        \
        return slm_test_failed != 0;                                                                         \
    } while (0)

#endif

/* JSON without a schema: what is one, down to each byte that is missing, and what is in it. */
#include "unit.h"

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>

/* From memory of its exact size, so that a sanitizer sees the end. */
static int whole(struct slice text)
{
    struct slice value;
    uint8_t *exact = mem_dup(text.data, text.size);
    int rv = json_scan_whole(slice_of(exact, text.size), &value);
    mem_free(exact);
    return rv;
}

static struct slice value_of(const char *text)
{
    struct slice value;
    ck_assert_int_eq(json_scan_whole(slice_of_string(text), &value), 0);
    return value;
}

static const char sample[] = "{\"a\":\"x\\u0041\\n\\ud83d\\ude00\",\"b\":-12.5e+2,\"c\":[true,"
                             "false,null,{\"d\":[]}],\"\":{}}";

START_TEST(test_what_is_json)
{
    static const char *const good[] = {
        "{}",   " [ ] ",   "0",    "-0.5E-7", "\"\\/\\u00fF\"",
        "null", "\t\r\n1", "[[]]", "[1,2]",   "{\"a\" : 1 , \"a\":2}"};
    static const char *const bad[] = {"",
                                      "  ",
                                      "{\"a\":01}",
                                      "{\"a\":1.}",
                                      "{\"a\":.5}",
                                      "{\"a\":+1}",
                                      "1e",
                                      "{a:1}",
                                      "{\"a\" 1}",
                                      "{\"a\":1,}",
                                      "{,}",
                                      "{\"a\":tru}",
                                      "\"\n\"",
                                      "\"\\x\"",
                                      "{\"a\":\"\\u12g4\"}",
                                      "{}{}",
                                      "[1,]",
                                      "{\"a\":{\"b\"}}",
                                      "{\"a\"}",
                                      "[1] 2",
                                      "{1:2}",
                                      "[1 2]",
                                      "\"\\",
                                      "]",
                                      "[}",
                                      "{\"a\":1]",
                                      "nul",
                                      "nulL",
                                      "'a'",
                                      "\"\x1f\"",
                                      "NaN",
                                      "Infinity",
                                      "--1",
                                      "[1;2]",
                                      "\xef\xbb\xbf{}",
                                      "{\"a\":1 \"b\":2}",
                                      "// x\n1",
                                      "0x10",
                                      "1 ,",
                                      ",1",
                                      "[,1]",
                                      "[1,,2]"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(whole(slice_of_string(good[i])) == 0, "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(whole(slice_of_string(bad[i])) == TV_EMALFORMED, "%s", bad[i]);
    ck_assert_int_eq(whole(SLICE_LITERAL("1\0")), TV_EMALFORMED);
    ck_assert_int_eq(whole(SLICE_LITERAL("\"\0\"")), TV_EMALFORMED);
    ck_assert_int_eq(whole(slice_of_string(sample)), 0);
    for (size_t size = 0; size < sizeof(sample) - 1; size++)
        ck_assert_int_eq(whole(slice_of(sample, size)), TV_EMALFORMED);
}
END_TEST

START_TEST(test_depth)
{
    enum { TOO_DEEP = JSON_DEPTH_MAX + 1 };
    static char deep[2 * TOO_DEEP];
    memset(deep, '[', TOO_DEEP);
    memset(deep + TOO_DEEP, ']', TOO_DEEP);
    ck_assert_int_eq(whole(slice_of(deep, 2 * TOO_DEEP)), TV_EMALFORMED);
    ck_assert_int_eq(whole(slice_of(deep + 1, 2 * JSON_DEPTH_MAX)), 0);
}
END_TEST

START_TEST(test_faults)
{
    static const struct {
        const char *text;
        int rv;
        size_t at;
        const char *where; /* or the word */
    } cases[] = {
        {"[1,", JSON_CUT_OFF, 3, NULL},
        {"tr", JSON_CUT_OFF, 2, NULL},
        {"[1 2]", TV_EMALFORMED, 3, "after array element"},
        {"{\"a\";1}", TV_EMALFORMED, 4, "after object key"},
        {"{\"a\":falsy}", TV_EMALFORMED, 9, "false"},
        {"\"\\q\"", TV_EMALFORMED, 2, "in string escape code"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice rest = slice_of_string(cases[i].text), value;
        struct json_fault f;
        ck_assert_int_eq(json_scan(&rest, &value, &f), cases[i].rv);
        ck_assert_uint_eq((size_t)(f.at - (const uint8_t *)cases[i].text), cases[i].at);
        if (cases[i].where != NULL)
            ck_assert_str_eq(f.where != NULL ? f.where : f.word, cases[i].where);
        ck_assert_uint_eq(rest.size, strlen(cases[i].text)); /* untouched */
    }
    struct slice rest = SLICE_LITERAL(" {} 7x"), value;
    ck_assert_int_eq(json_scan(&rest, &value, NULL), JSON_VALUE);
    ck_assert(slice_equal(value, SLICE_LITERAL("{}")));
    ck_assert_int_eq(json_scan(&rest, &value, NULL), JSON_VALUE);
    ck_assert(slice_equal(value, SLICE_LITERAL("7")));
    ck_assert_int_eq(json_scan(&rest, &value, NULL), TV_EMALFORMED);
}
END_TEST

START_TEST(test_members)
{
    struct slice all = value_of(sample), name, value;
    struct json_walk w = json_walk_of(all);
    static const char *const names[] = {"a", "b", "c", ""};
    static const enum json_kind kinds[] = {JSON_STRING, JSON_NUMBER, JSON_ARRAY, JSON_OBJECT};
    for (size_t i = 0; i < 4; i++) {
        ck_assert(json_walk_next(&w, &name, &value));
        ck_assert(json_string_is(name, names[i]));
        ck_assert_int_eq(json_kind(value), kinds[i]);
    }
    ck_assert(!json_walk_next(&w, &name, &value));
    ck_assert(!json_walk_next(&w, &name, &value));

    static const enum json_kind inner[] = {JSON_BOOL, JSON_BOOL, JSON_NULL, JSON_OBJECT};
    w = json_walk_of(json_member(all, "c"));
    for (size_t i = 0; i < 4; i++) {
        ck_assert(json_walk_next(&w, &name, &value));
        ck_assert_ptr_null(name.data);
        ck_assert_int_eq(json_kind(value), inner[i]);
        ck_assert(json_bool(value) == (i == 0));
    }
    ck_assert_int_eq(json_kind(json_member(value, "d")), JSON_ARRAY);
    ck_assert(!json_walk_next(&w, &name, &value));

    ck_assert_ptr_null(json_member(all, "d").data);
    ck_assert_ptr_null(json_member(value_of("[1]"), "").data);
    ck_assert_ptr_null(json_member(value_of("7"), "a").data);
    ck_assert_ptr_null(json_member(SLICE_EMPTY, "a").data);
    /* A name is what it stands for; the first of two counts. */
    ck_assert_double_eq(json_member_number(value_of("{\"\\u0061b\": 1,\"ab\":2}"), "ab", 7), 1);
    ck_assert_double_eq(json_member_number(value_of("{\"a\":\"1\"}"), "a", 7), 7);
}
END_TEST

START_TEST(test_numbers)
{
    static const struct {
        const char *text;
        bool ok;
        double value;
    } cases[] = {{"-12.5e+2", true, -1250},
                 {"0", true, 0},
                 {"1e999", false, 0},
                 {"true", false, 0},
                 {"\"1\"", false, 0},
                 {"[1]", false, 0},
                 {"123456789012345678901234567890", true, 123456789012345678901234567890.0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double got = -1;
        ck_assert(json_number(value_of(cases[i].text), &got) == cases[i].ok);
        ck_assert_double_eq(got, cases[i].ok ? cases[i].value : -1);
    }
    char digits[JSON_NUMBER_BYTES_MAX + 2];
    double got;
    memset(digits, '1', sizeof(digits));
    ck_assert(json_number(slice_of(digits, JSON_NUMBER_BYTES_MAX), &got));
    ck_assert(!json_number(slice_of(digits, JSON_NUMBER_BYTES_MAX + 1), &got));
}
END_TEST

START_TEST(test_strings)
{
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"\"\"", ""},
        {"\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a\"\\/\b\f\n\r\t"},
        {"\"\\\\u0041\"", "\\u0041"},
        {"\"\\u0041\\u00e9\\u20AC\\ud83d\\uDE00\"", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"\\ud83d\"", "\xef\xbf\xbd"},
        {"\"\\ude00x\"", "\xef\xbf\xbdx"},
        {"\"\\ud83d\\u0041\"", "\xef\xbf\xbd\x41"},
        {"\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"\"\xff\"", "\xff"},
    };
    char text[64];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice value = value_of(cases[i].json);
        ck_assert_uint_eq(json_string_copy(value, text, sizeof(text)), strlen(cases[i].text));
        ck_assert_str_eq(text, cases[i].text);
        ck_assert(json_string_is(value, cases[i].text));
        ck_assert(!json_string_is(value, "A\xc3"));
        ck_assert(json_string_copy(value, text, value.size) < value.size);
    }
    /* Cut off between characters, and what is behind does not slip in. */
    struct slice long_one = value_of("\"ab\\u00e9c\"");
    ck_assert_uint_eq(json_string_copy(long_one, text, 4), 5);
    ck_assert_str_eq(text, "ab");
    ck_assert(!json_string_is(long_one, "ab"));
    ck_assert(!json_string_is(long_one, "ab\xc3\xa9"));
    ck_assert(!json_string_is(long_one, "ab\xc3\xa9"
                                        "cd"));
    ck_assert_uint_eq(json_string_copy(value_of("\"a\\u0000b\""), text, sizeof(text)), 3);
    ck_assert_mem_eq(text, "a\0b", 4);
    ck_assert_uint_eq(json_string_copy(value_of("17"), text, sizeof(text)), 0);
    ck_assert_str_eq(text, "");
    ck_assert(!json_string_is(value_of("null"), ""));
}
END_TEST

/* Whatever the text is, scanned or not: nothing is read beyond its end, and a walk ends. */
START_TEST(test_anything_at_all)
{
    static const char letters[] = "{}[]\",:\\u0de-1atf ";
    struct rng rng;
    rng_init(&rng, 3);
    uint32_t good = 0;
    for (uint32_t i = 0; i < 50000; i++) {
        char noise[24], text[24], first[] = "{[\"";
        size_t size = 1 + rng_below(&rng, sizeof(noise) - 1);
        for (size_t k = 0; k < size; k++)
            noise[k] = letters[rng_below(&rng, sizeof(letters) - 1)];
        noise[0] = first[rng_below(&rng, 3)];
        char *exact = mem_dup(noise, size);
        struct slice s = slice_of(exact, size), name, value;
        good += json_scan_whole(s, &value) == 0;
        (void)json_string_copy(s, text, sizeof(text));
        (void)json_string_is(s, "a");
        double number;
        (void)json_number(s, &number);
        (void)json_member(s, "a");
        struct json_walk w = json_walk_of(s);
        for (uint32_t steps = 0; json_walk_next(&w, &name, &value); steps++)
            ck_assert_uint_lt(steps, sizeof(noise));
        mem_free(exact);
    }
    ck_assert_uint_gt(good, 100);
}
END_TEST

UNIT_MAIN("json_values", test_what_is_json, test_depth, test_faults, test_members, test_numbers,
          test_strings, test_anything_at_all)

/* Configuration files: what is read, as one line, and what is refused. */
#include "unit.h"

#include "server/yaml.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char shown[8192];
static char err_text[512];

static void show(const struct yaml_node *n)
{
    size_t used = strlen(shown);
    char *at = shown + used;
    size_t room = sizeof(shown) - used;
    switch (n->kind) {
    case YAML_NULL:
        snprintf(at, room, "~");
        return;
    case YAML_BOOL:
        snprintf(at, room, "%s", n->boolean ? "yes" : "no");
        return;
    case YAML_INT:
    case YAML_FLOAT:
        snprintf(at, room, "%s%.*s", n->kind == YAML_FLOAT ? "f" : "", (int)n->text.size,
                 n->text.data);
        return;
    case YAML_STRING:
        snprintf(at, room, "'%.*s'", (int)n->text.size, n->text.data);
        return;
    case YAML_LIST:
    case YAML_MAP:
        break;
    }
    snprintf(at, room, "%c", n->kind == YAML_LIST ? '[' : '{');
    for (const struct yaml_node *it = n->first; it != NULL; it = it->next) {
        used = strlen(shown);
        if (n->kind == YAML_MAP)
            snprintf(shown + used, sizeof(shown) - used, "%.*s:", (int)it->key.size, it->key.data);
        show(it);
        used = strlen(shown);
        if (it->next != NULL)
            snprintf(shown + used, sizeof(shown) - used, ",");
    }
    used = strlen(shown);
    snprintf(shown + used, sizeof(shown) - used, "%c", n->kind == YAML_LIST ? ']' : '}');
}

static int parse(const char *text, size_t size)
{
    struct arena arena;
    const struct yaml_node *root;
    arena_init(&arena);
    shown[0] = err_text[0] = '\0';
    /* A copy of exactly this size, so that a sanitizer sees a read beyond it. */
    char *copy = mem_dup(text, size);
    int err = yaml_parse(slice_of(copy, size), &arena, &root, err_text, sizeof(err_text));
    mem_free(copy);
    if (err == 0)
        show(root);
    arena_fini(&arena);
    return err;
}

/* As sigs.k8s.io/yaml reads them. */
START_TEST(test_documents)
{
    static const char *const cases[][2] = {
        {"", "~"},
        {"# nothing\n", "~"},
        {"abc", "'abc'"},
        {"a: b", "{a:'b'}"},
        {"b: 1\na: 2\n", "{a:2,b:1}"},
        {"a: 1\na: 2\n", "{a:2}"},
        {"a: yes\nb: off\nc: TRUE\nd: y\n", "{a:yes,b:no,c:yes,d:yes}"},
        {"a: 0x1f\nb: 010\nc: 1_000\nd: -5\ne: 0b11\n", "{a:31,b:8,c:1000,d:-5,e:3}"},
        {"a: 1.5\nb: 1e3\nc: .5\nd: 1.\n", "{a:f1.5,b:f1000,c:f0.5,d:f1}"},
        {"a: 99999999999999999999\n", "{a:f100000000000000000000}"},
        {"a: 1.2.3\nb: 1x\nc: -x\nd: 0xg\n", "{a:'1.2.3',b:'1x',c:'-x',d:'0xg'}"},
        {"a: ~\nb:\nc: null\nd: ''\n", "{a:~,b:~,c:~,d:''}"},
        {"a: b # c\n# d\ne: f#g\n", "{a:'b',e:'f#g'}"},
        {"a: \"x\\ty\\u00e9\\x41\\\"\"\n", "{a:'x\ty\u00e9A\"'}"},
        {"a: 'it''s'\n", "{a:'it's'}"},
        {"a: \"x\n  y\n\n  z\"\n", "{a:'x y\nz'}"},
        {"a: \"x\\\n   y\"\n", "{a:'xy'}"},
        {"a:\n  b:\n    c: d\n  e: f\ng: h\n", "{a:{b:{c:'d'},e:'f'},g:'h'}"},
        {"a:\n- b\n- c\nd: e\n", "{a:['b','c'],d:'e'}"},
        {"a:\n  - b\n  - c: d\n    e: f\n  -\n    g\n", "{a:['b',{c:'d',e:'f'},'g']}"},
        {"- - a\n  - b\n- c\n", "[['a','b'],'c']"},
        {"a: [b, 'c', \"d\", 5, [e], {f: g}, ]\n", "{a:['b','c','d',5,['e'],{f:'g'}]}"},
        {"a: {b: c, d: , e}\n", "{a:{b:'c',d:~,e:~}}"},
        {"{\"a\": 1, \"b\": [true, null], \"c\": {\"d\": \"e\"}}", "{a:1,b:[yes,~],c:{d:'e'}}"},
        {"{\"a\":\"b\"}", "{a:'b'}"},
        {"a: [b,\n  c,\n  # d\n  e]\n", "{a:['b','c','e']}"},
        {"a: http://b:1,http://c:2\n", "{a:'http://b:1,http://c:2'}"},
        {"a: x\n  y\n\n  z\nb: c\n", "{a:'x y\nz',b:'c'}"},
        {"a: |\n  x\n   y\n\n  z\nb: c\n", "{a:'x\n y\n\nz\n',b:'c'}"},
        {"a: >\n  x\n  y\n\n  z\nb: c\n", "{a:'x y\nz\n',b:'c'}"},
        {"a: |-\n  x\n\n\nb: c\n", "{a:'x',b:'c'}"},
        {"a: |+\n  x\n\nb: c\n", "{a:'x\n\n',b:'c'}"},
        {"a: |2\n   x\n", "{a:' x\n'}"},
        {"---\na: b\n...\nc: d\n", "{a:'b'}"},
        {"%YAML 1.1\n---\na: b\n", "{a:'b'}"},
        {"a: b\n---\nc: d\n", "{a:'b'}"},
        {"\"a b\": c\n'd': e\n", "{a b:'c',d:'e'}"},
        {"\xef\xbb\xbf"
         "a: b\r\nc: d\r\n",
         "{a:'b',c:'d'}"},
        {"1: 2\ntrue: x\n", "{1:2,true:'x'}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_msg(parse(cases[i][0], strlen(cases[i][0])) == 0, "%s: %s", cases[i][0],
                      err_text);
        ck_assert_str_eq(shown, cases[i][1]);
    }
}
END_TEST

START_TEST(test_refused)
{
    static const char *const cases[][2] = {
        {"a: b: c", "yaml: line 1: mapping values are not allowed in this context"},
        {"a: b\n c: d", "yaml: line 2: mapping values are not allowed in this context"},
        {"\ta: b", "yaml: line 1: found character that cannot start any token"},
        {"a:\n\tb: c", "yaml: line 2: found character that cannot start any token"},
        {"a: [b", "yaml: line 1: did not find expected ',' or ']'"},
        {"a: {b: c", "yaml: line 1: did not find expected ',' or '}'"},
        {"a: \"b", "yaml: line 1: found unexpected end of stream"},
        {"a: 'b\n", "yaml: line 2: found unexpected end of stream"},
        {"a: \"\\q\"", "yaml: line 1: found unknown escape character"},
        {"a: @b", "yaml: line 1: found character that cannot start any token"},
        {"a: ]", "yaml: line 1: did not find expected node content"},
        {"a: b\nc", "yaml: line 2: could not find expected ':'"},
        {"- a\nb: c", "yaml: line 2: did not find expected <document start>"},
        {"a: - b", "yaml: line 1: block sequence entries are not allowed in this context"},
        {"a: &b c", "yaml: line 1: anchors and aliases are not supported"},
        {"a: *b", "yaml: line 1: anchors and aliases are not supported"},
        {"a: !!str b", "yaml: line 1: tags are not supported"},
        {"? a\n: b", "yaml: line 1: keys that are not scalars are not supported"},
        {"<<: a", "yaml: line 1: merge keys are not supported"},
        {"%TAG a b\n---\na: b", "yaml: line 1: found unknown directive name"},
        {"a: \x01", "yaml: line 1: control characters are not allowed"},
        {"a: \xff", "yaml: line 1: invalid leading UTF-8 octet"},
        {"a: \xc3", "yaml: line 1: invalid trailing UTF-8 octet"},
        {"a: |x\n  b", "yaml: line 1: did not find expected comment or line break"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_msg(parse(cases[i][0], strlen(cases[i][0])) != 0, "%s: %s", cases[i][0], shown);
        ck_assert_str_eq(err_text, cases[i][1]);
    }
}
END_TEST

static void fill(char *text, size_t size, const char *part)
{
    size_t part_size = strlen(part);
    for (size_t i = 0; i < size; i++)
        text[i] = part[i % part_size];
}

START_TEST(test_bounds)
{
    static char text[YAML_BYTES_MAX + 1];
    fill(text, 1000, "[");
    ck_assert_int_ne(parse(text, 1000), 0);
    ck_assert_str_eq(err_text, "yaml: line 1: exceeded max depth of 32");
    fill(text, 2000, "- ");
    ck_assert_int_ne(parse(text, 2000), 0);
    ck_assert_str_eq(err_text, "yaml: line 1: exceeded max depth of 32");
    fill(text, 20000, "- a\n");
    ck_assert_int_eq(parse(text, 16000), 0);
    ck_assert_int_ne(parse(text, 4 * (YAML_NODES_MAX + 10)), 0);
    fill(text, sizeof(text), "a");
    ck_assert_int_eq(parse(text, YAML_BYTES_MAX), 0);
    ck_assert_int_ne(parse(text, sizeof(text)), 0);
}
END_TEST

/* Any bytes: it ends, and reads nothing that is not there. */
START_TEST(test_anything)
{
    static const char pieces[][8] = {"a", ": ", "\n", "  ",  "- ", "[", "]",   "{",
                                     "}", ",",  "\"", "'",   "#",  "|", ">\n", "\t",
                                     "5", "\\", ":",  "---", "?",  "&", "!",   "é"};
    srand(7);
    for (uint32_t i = 0; i < 200000; i++) {
        char text[128];
        size_t size = 0;
        for (int n = rand() % 16; n > 0; n--) {
            const char *piece = pieces[(size_t)rand() % (sizeof(pieces) / sizeof(pieces[0]))];
            memcpy(text + size, piece, strlen(piece));
            size += strlen(piece);
        }
        (void)parse(text, size); /* whatever it says */
    }
}
END_TEST

UNIT_MAIN("yaml", test_documents, test_refused, test_bounds, test_anything)

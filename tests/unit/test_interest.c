/* Who is interested in which keys, against looking at each. */
#include "unit.h"

#include "server/interest.h"

#include "base/rng.h"

enum { PEOPLE = 300, KEY_BYTES_MAX = 2, LETTERS = 6 };

struct person {
    struct interest in;
    uint8_t key[KEY_BYTES_MAX];
    uint8_t end[KEY_BYTES_MAX + 1];
    bool is_in;
    uint32_t found;
};

struct search {
    struct slice key;
    const struct interest *last;
    uint32_t found;
    uint32_t found_max;
};

/* With a zero byte among the letters: "\0" alone as an end is something else than as a key. */
static struct slice some_key(struct rng *r, uint8_t *bytes)
{
    size_t size = 1 + rng_below(r, KEY_BYTES_MAX);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(rng_below(r, LETTERS) * ('a' / 2));
    return slice_of(bytes, size);
}

static void choose(struct rng *r, struct person *p)
{
    p->in = (struct interest){.key = some_key(r, p->key)};
    list_init(&p->in.link);
    uint64_t kind = rng_below(r, 8);
    if (kind == 0)
        p->in.range_end = slice_of("", 1);
    else if (kind < 5)
        p->in.range_end = some_key(r, p->end);
    if (p->in.range_end.size > 0 && slice_compare(p->in.key, p->in.range_end) >= 0)
        p->in.range_end = slice_of("", p->in.range_end.size == 1);
}

static bool found(void *ctx, struct interest *it)
{
    struct search *s = ctx;
    CONTAINER_OF(it, struct person, in)->found++;
    ck_assert(interest_covers(it, s->key));
    if (s->last != NULL) { /* single keys first, then by where they begin */
        ck_assert(s->last->range_end.size == 0 || it->range_end.size > 0);
        ck_assert(it->range_end.size == 0 || slice_compare(s->last->key, it->key) <= 0 ||
                  s->last->range_end.size == 0);
    }
    s->last = it;
    return ++s->found < s->found_max;
}

static void check(const struct interests *s, struct person *people, struct slice key)
{
    struct search all = {.key = key, .found_max = UINT32_MAX};
    interests_of(s, key, found, &all);
    for (int i = 0; i < PEOPLE; i++) {
        bool is_due = people[i].is_in && interest_covers(&people[i].in, key);
        ck_assert_uint_eq(people[i].found, is_due);
        people[i].found = 0;
    }
    if (all.found == 0)
        return;
    struct search one = {.key = key, .found_max = 1 + all.found / 2};
    interests_of(s, key, found, &one);
    ck_assert_uint_eq(one.found, one.found_max);
    for (int i = 0; i < PEOPLE; i++)
        people[i].found = 0;
}

static void come_or_go(struct interests *s, struct person *p, struct rng *r)
{
    if (p->is_in) {
        interests_remove(s, &p->in);
    } else {
        choose(r, p);
        interests_add(s, &p->in);
    }
    p->is_in = !p->is_in;
}

static void crowd(uint64_t seed)
{
    static struct person people[PEOPLE];
    struct interests s;
    struct rng r;
    rng_init(&r, seed);
    interests_init(&s);
    memset(people, 0, sizeof(people));
    for (int i = 0; i < PEOPLE; i++)
        list_init(&people[i].in.link);
    for (int step = 0; step < 2000; step++) {
        uint8_t bytes[KEY_BYTES_MAX];
        come_or_go(&s, &people[rng_below(&r, PEOPLE)], &r);
        check(&s, people, some_key(&r, bytes));
    }
    for (int i = 0; i < PEOPLE; i++) {
        interests_remove(&s, &people[i].in);
        interests_remove(&s, &people[i].in); /* harmless */
        people[i].is_in = false;
        if (i % 16 == 0)
            check(&s, people, SLICE_LITERAL("a"));
    }
    ck_assert(interests_is_empty(&s));
    ck_assert_ptr_null(s.ranges);
    ck_assert_uint_eq(s.points.count, 0);
    interests_fini(&s);
}
START_TEST(test_interests_of_a_key)
{
    for (uint64_t seed = 0; seed < 20; seed++)
        crowd(seed);
}
END_TEST

static void check_tree(const struct interest *root)
{
    if (root == NULL)
        return;
    uint32_t left = root->left == NULL ? 0 : root->left->height;
    uint32_t right = root->right == NULL ? 0 : root->right->height;
    ck_assert_uint_le(left, right + 1);
    ck_assert_uint_le(right, left + 1);
    ck_assert_uint_eq(root->height, 1 + (left > right ? left : right));
    check_tree(root->left);
    check_tree(root->right);
}

/* Prefixes side by side, coming in order: the worst for a tree that does not look after itself. */
START_TEST(test_interests_stay_balanced)
{
    enum { COUNT = 10000, DIGITS = 8 };
    struct neighbour {
        struct interest in;
        char key[DIGITS + 1], end[DIGITS + 1];
    } *all = calloc(COUNT, sizeof(*all));
    struct interests s;
    interests_init(&s);
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(all[i].key, sizeof(all[i].key), "%0*d", DIGITS, i);
        (void)snprintf(all[i].end, sizeof(all[i].end), "%0*d", DIGITS, i + 1);
        all[i].in.key = slice_of(all[i].key, DIGITS);
        all[i].in.range_end = slice_of(all[i].end, DIGITS);
        interests_add(&s, &all[i].in);
    }
    check_tree(s.ranges);
    for (int i = 0; i < COUNT; i += 2)
        interests_remove(&s, &all[i].in);
    check_tree(s.ranges);
    for (int i = 1; i < COUNT; i += 2)
        interests_remove(&s, &all[i].in);
    interests_fini(&s);
    free(all);
}
END_TEST

static uint32_t strangers_looked_up(const struct interests *s)
{
    uint32_t looked_up = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t stranger = ~i;
        looked_up += interests_prepare(s, slice_of(&stranger, sizeof(stranger))) != 0;
    }
    return looked_up;
}

/* However many come and go, hardly a key that is nobody's is looked up, and each that is
 * somebody's. */
START_TEST(test_strangers_are_filtered)
{
    enum { COUNT = 5000, WATCHED = 3000 };
    struct single {
        struct interest in;
        uint64_t key;
    } *all = calloc(COUNT, sizeof(*all));
    struct interests s;
    uint64_t next = 0;
    interests_init(&s);
    ck_assert_uint_eq(strangers_looked_up(&s), 0);
    for (int i = 0; i < COUNT; i++)
        list_init(&all[i].in.link);
    for (int turn = 0; turn < 20; turn++) {
        for (int i = 0; i < WATCHED; i++) {
            struct single *one = &all[(turn * 777 + i) % COUNT];
            interests_remove(&s, &one->in);
            one->key = next++;
            one->in.key = slice_of(&one->key, sizeof(one->key));
            interests_add(&s, &one->in);
        }
        ck_assert_uint_le(strangers_looked_up(&s), 2500);
        for (int i = 0; i < COUNT; i++)
            ck_assert(!list_is_linked(&all[i].in.link) ||
                      interests_prepare(&s, all[i].in.key) != 0);
    }
    for (int i = 0; i < COUNT; i++)
        interests_remove(&s, &all[i].in);
    interests_fini(&s);
    free(all);
}
END_TEST

UNIT_MAIN("interest", test_interests_of_a_key, test_interests_stay_balanced,
          test_strangers_are_filtered)

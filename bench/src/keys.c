#include "keys.h"

#include <math.h>

static const double zipf_theta = 0.99;

static double zeta(uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 1; i <= n; i++)
        sum += 1 / pow((double)i, zipf_theta);
    return sum;
}

void keys_init(struct keys *k, const struct bench_options *o)
{
    *k = (struct keys){.o = o};
    if (o->dist != BENCH_ZIPF)
        return;
    k->zeta_n = zeta(o->keys);
    k->eta = (1 - pow(2.0 / (double)o->keys, 1 - zipf_theta)) / (1 - zeta(2) / k->zeta_n);
}

void key_source_init(struct key_source *s, const struct keys *k, uint32_t part, uint32_t parts)
{
    s->keys = k;
    rng_init(&s->rng, k->o->seed * 1000003 + part);
    s->next = part;
    s->step = parts;
}

static uint64_t zipf_next(struct key_source *s)
{
    const struct keys *k = s->keys;
    uint64_t n = k->o->keys;
    double u = rng_unit(&s->rng);
    double uz = u * k->zeta_n;
    uint64_t rank;
    if (uz < 1 || n == 1)
        rank = 0;
    else if (uz < 1 + pow(0.5, zipf_theta) || n == 2)
        rank = 1;
    else
        rank = (uint64_t)((double)n * pow(k->eta * u - k->eta + 1, 1 / (1 - zipf_theta)));
    if (rank >= n)
        rank = n - 1;
    return rank * 0x9e3779b97f4a7c15 % n; /* the popular keys are not neighbours */
}

uint64_t key_next(struct key_source *s)
{
    uint64_t n = s->keys->o->keys;
    switch (s->keys->o->dist) {
    case BENCH_ZIPF:
        return zipf_next(s);
    case BENCH_SEQ:
        s->next += s->step;
        return (s->next - s->step) % n;
    default:
        return rng_below(&s->rng, n);
    }
}

void key_write(const struct bench_options *o, uint64_t number, uint8_t *dst)
{
    size_t prefix_size = strlen(o->prefix);
    memcpy(dst, o->prefix, prefix_size);
    for (size_t i = o->key_size; i > prefix_size; i--) {
        dst[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

struct slice key_range_end(const struct bench_options *o, uint8_t *dst)
{
    size_t size = strlen(o->prefix);
    memcpy(dst, o->prefix, size);
    while (size > 0 && dst[size - 1] == 0xff)
        size--;
    if (size == 0) {
        dst[0] = 0;
        return slice_of(dst, 1);
    }
    dst[size - 1]++;
    return slice_of(dst, size);
}

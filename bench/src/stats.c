#include "stats.h"

#include "base/mem.h"

#include <math.h>

/* --- Student's t --- */

/* The continued fraction of the incomplete beta function, by Lentz's method (Press et al.,
 * "Numerical Recipes", section 6.4, has the derivation). */
static double beta_fraction(double x, double a, double b)
{
    const double tiny = 1e-300;
    double c = 1;
    double d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double fraction = d;
    for (int m = 1; m <= 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double factors[2] = {even, odd};
        double change = 1;
        for (int i = 0; i < 2; i++) {
            d = 1 + factors[i] * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + factors[i] / c;
            c = fabs(c) < tiny ? tiny : c;
            change = c * d;
            fraction *= change;
        }
        if (fabs(change - 1) < 1e-12)
            break;
    }
    return fraction;
}

static double incomplete_beta(double x, double a, double b)
{
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(x, a, b) / a;
    return 1 - front * beta_fraction(1 - x, b, a) / b;
}

/* The probability that |t| is above. */
static double beyond(double t, double degrees)
{
    return incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5);
}

double stats_t(double level, double degrees)
{
    double low = 0;
    double high = 1;
    while (beyond(high, degrees) > 1 - level && high < 1e12)
        high *= 2;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (beyond(middle, degrees) > 1 - level)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* --- samples --- */

/* How many values in order are worth one, at least. */
static const double time_min = 3;

static double mean_of(const double *values, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += values[i];
    return sum / count;
}

/* Of values that lie `lag` apart, not divided by their number. */
static double covariance(const double *values, uint32_t count, double mean, uint32_t lag)
{
    double sum = 0;
    for (uint32_t i = 0; i + lag < count; i++)
        sum += (values[i] - mean) * (values[i + lag] - mean);
    return sum;
}

/* The autocorrelations are summed up to the first that is not above 0, or a third of the sample.
 * That of a short sample is too low, by about (1 + 3 r) / count (Marriott and Pope, "Bias in the
 * estimation of autocorrelations", Biometrika 41, 1954): that much is added. And it is uncertain:
 * of values in order no more than a third counts, or too many pairs of equal runs would seem to
 * differ (9 to 15 in 100 instead of 5, of 30 values whose neighbours correlate by 0.6). */
double stats_effective_count(struct stats_sample s)
{
    double mean = mean_of(s.values, s.count);
    double variance = covariance(s.values, s.count, mean, 0);
    double time = 1;
    if (!s.in_order || variance <= 0)
        return s.count;
    for (uint32_t lag = 1; lag <= s.count / 3; lag++) {
        double seen = covariance(s.values, s.count, mean, lag) / variance;
        double correlation = seen + (1 + 3 * (seen > 0 ? seen : 0)) / s.count;
        if (correlation <= 0)
            break;
        time += 2 * correlation;
    }
    return s.count / (time > time_min ? time : time_min);
}

struct moments {
    double mean;
    double error2; /* the mean's squared standard error */
    double degrees;
};

static struct moments moments_of(struct stats_sample s)
{
    struct moments m = {.mean = mean_of(s.values, s.count)};
    double effective = stats_effective_count(s);
    if (effective < 2)
        effective = 2;
    m.error2 = covariance(s.values, s.count, m.mean, 0) / s.count / (effective - 1);
    m.degrees = effective - 1;
    return m;
}

static double *logarithms_of(struct stats_sample *s)
{
    double *values = mem_alloc(s->count * sizeof(*values));
    for (uint32_t i = 0; i < s->count; i++)
        values[i] = log(s->values[i]);
    s->values = values;
    return values;
}

static double welch_degrees(const struct moments *a, const struct moments *b)
{
    double sum = a->error2 + b->error2;
    double parts = a->error2 * a->error2 / a->degrees + b->error2 * b->error2 / b->degrees;
    return parts > 0 ? sum * sum / parts : 1e6;
}

bool stats_compare(struct stats_sample a, struct stats_sample b, double level, bool logarithms,
                   struct stats_ratio *ret)
{
    double *logs_a = NULL;
    double *logs_b = NULL;
    if (a.count < STATS_VALUES_MIN || b.count < STATS_VALUES_MIN)
        return false;
    if (logarithms) {
        logs_a = logarithms_of(&a);
        logs_b = logarithms_of(&b);
    }
    struct moments in_a = moments_of(a);
    struct moments in_b = moments_of(b);
    mem_free(logs_a);
    mem_free(logs_b);
    double difference = in_b.mean - in_a.mean;
    double reach = stats_t(level, welch_degrees(&in_a, &in_b)) * sqrt(in_a.error2 + in_b.error2);
    if (logarithms) {
        *ret = (struct stats_ratio){exp(in_a.mean), exp(in_b.mean), exp(difference),
                                    exp(difference - reach), exp(difference + reach)};
        return true;
    }
    if (in_a.mean <= 0)
        return false;
    *ret = (struct stats_ratio){in_a.mean, in_b.mean, in_b.mean / in_a.mean,
                                1 + (difference - reach) / in_a.mean,
                                1 + (difference + reach) / in_a.mean};
    return true;
}

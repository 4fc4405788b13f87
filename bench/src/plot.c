#include "plot.h"

#include <math.h>

enum {
    WIDTH = 560,
    HEIGHT = 230,
    LEFT = 62, /* of the plane */
    RIGHT = 548,
    TOP = 10,
    BOTTOM = 200,
    TICKS_MAX = 64,
    NUMBER_BYTES = 32,
};

struct scale {
    double x_min, x_max;
    double y_min, y_max; /* as they are drawn: of logarithms, logarithms */
    bool logarithmic;
};

static double drawn(const struct scale *s, double y)
{
    return s->logarithmic ? log10(y) : y;
}

static double x_at(const struct scale *s, double x)
{
    return LEFT + (x - s->x_min) / (s->x_max - s->x_min) * (RIGHT - LEFT);
}

static double y_at(const struct scale *s, double y)
{
    return BOTTOM - (drawn(s, y) - s->y_min) / (s->y_max - s->y_min) * (BOTTOM - TOP);
}

static bool is_shown(const struct plot *p, double y)
{
    return isfinite(y) && (!p->logarithmic || y > 0);
}

void plot_number(double value, char *ret, size_t size)
{
    static const struct {
        double at;
        const char *suffix;
    } units[] = {{1e9, "G"}, {1e6, "M"}, {1e4, "k"}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        double unit = i == 2 ? 1e3 : units[i].at;
        if (fabs(value) >= units[i].at) {
            (void)snprintf(ret, size, "%.4g%s", value / unit, units[i].suffix);
            return;
        }
    }
    (void)snprintf(ret, size, "%.4g", value);
}

/* --- how far the axes go --- */

/* 1, 2 or 5 times a power of ten, at least `step`. */
static double round_up(double step)
{
    double power = pow(10, floor(log10(step)));
    double rest = step / power;
    return power * (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10);
}

static bool find_scale(const struct plot *p, struct scale *ret)
{
    double low = INFINITY;
    double high = -INFINITY;
    for (uint32_t l = 0; l < p->lines_count; l++) {
        for (uint32_t i = 0; i < p->count; i++) {
            double y = p->lines[l].y[i];
            if (!is_shown(p, y))
                continue;
            low = y < low ? y : low;
            high = y > high ? y : high;
        }
    }
    if (!(low <= high))
        return false;
    *ret = (struct scale){.x_min = p->x_kind == PLOT_SECONDS && p->x[0] < 1.5 ? 0 : p->x[0],
                          .x_max = p->x[p->count - 1],
                          .logarithmic = p->logarithmic};
    if (ret->x_max <= ret->x_min)
        ret->x_max = ret->x_min + 1;
    if (p->logarithmic) {
        ret->y_min = floor(log10(low) - 0.02);
        ret->y_max = ceil(log10(high) + 0.02);
    } else {
        ret->y_min = 0;
        ret->y_max = high > 0 ? high * 1.08 : 1;
    }
    return true;
}

/* --- axes --- */

static void y_tick(FILE *out, const struct scale *s, double value)
{
    char text[NUMBER_BYTES];
    double y = y_at(s, value);
    plot_number(value, text, sizeof(text));
    fprintf(out,
            "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
            "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
            LEFT, RIGHT, y, y, LEFT - 6, y + 3.5, text);
}

static void y_axis(FILE *out, const struct scale *s)
{
    if (!s->logarithmic) {
        double step = round_up(s->y_max / 5);
        for (double value = 0; value <= s->y_max; value += step)
            y_tick(out, s, value);
        return;
    }
    bool few = s->y_max - s->y_min <= 2.5;
    for (double decade = s->y_min; decade <= s->y_max; decade++) {
        y_tick(out, s, pow(10, decade));
        if (few && decade < s->y_max) {
            y_tick(out, s, 2 * pow(10, decade));
            y_tick(out, s, 5 * pow(10, decade));
        }
    }
}

static void x_tick(FILE *out, const struct scale *s, double x, const char *text)
{
    fprintf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
            x_at(s, x), BOTTOM + 18, text);
}

static void x_axis(FILE *out, const struct plot *p, const struct scale *s)
{
    char text[NUMBER_BYTES];
    fprintf(out, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", LEFT, RIGHT,
            BOTTOM, BOTTOM);
    if (p->x_kind == PLOT_NINES) {
        static const char *const names[] = {"0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"};
        for (int nines = 0; nines < 6 && nines <= s->x_max; nines++)
            x_tick(out, s, nines, names[nines]);
        return;
    }
    double step = round_up((s->x_max - s->x_min) / 8);
    for (double x = ceil(s->x_min / step) * step; x <= s->x_max * 1.0001; x += step) {
        (void)snprintf(text, sizeof(text), "%.6g s", x);
        x_tick(out, s, x, text);
    }
}

/* --- lines --- */

static void draw_line(FILE *out, const struct plot *p, const struct scale *s, uint32_t line)
{
    bool goes_on = false;
    fprintf(out, "<path class=\"line c%u\" d=\"", line + 1);
    for (uint32_t i = 0; i < p->count; i++) {
        double y = p->lines[line].y[i];
        bool shown = is_shown(p, y);
        if (shown)
            fprintf(out, "%c%.1f %.1f", goes_on ? 'L' : 'M', x_at(s, p->x[i]), y_at(s, y));
        /* A value that stands alone is a dot: a line to itself, with round ends. */
        bool alone =
            shown && !goes_on && (i + 1 == p->count || !is_shown(p, p->lines[line].y[i + 1]));
        if (alone)
            fprintf(out, "h.01");
        goes_on = shown;
    }
    fprintf(out, "\"/>\n");
}

static void put_values(FILE *out, const double *values, uint32_t count)
{
    fputc('[', out);
    for (uint32_t i = 0; i < count; i++) {
        fputs(i > 0 ? "," : "", out);
        if (isfinite(values[i]))
            fprintf(out, "%.5g", values[i]);
        else
            fprintf(out, "null");
    }
    fputc(']', out);
}

/* For the script: x, where it is drawn, and what the lines say. */
static void put_data(FILE *out, const struct plot *p, const struct scale *s)
{
    fprintf(out, " data-kind=\"%d\" data-unit=\"%s\" data-x=\"", p->x_kind, p->unit);
    put_values(out, p->x, p->count);
    fprintf(out, "\" data-range=\"[%.6g,%.6g,%d,%d,%d,%d,%d]\"", s->x_min, s->x_max, LEFT, RIGHT,
            TOP, BOTTOM, WIDTH);
    for (uint32_t l = 0; l < p->lines_count; l++) {
        fprintf(out, " data-name%u=\"%s\" data-y%u=\"", l, p->lines[l].name, l);
        put_values(out, p->lines[l].y, p->count);
        fputc('"', out);
    }
}

static void put_legend(FILE *out, const struct plot *p)
{
    fprintf(out, "<figcaption><b>%s</b> <span class=\"unit\">%s</span>", p->title, p->unit);
    for (uint32_t l = 0; p->lines_count > 1 && l < p->lines_count; l++)
        fprintf(out, "<span class=\"key\"><i class=\"b%u\"></i>%s</span>", l + 1, p->lines[l].name);
    fprintf(out, "</figcaption>\n");
}

void plot_write(FILE *out, const struct plot *p)
{
    struct scale scale;
    if (p->count == 0 || !find_scale(p, &scale))
        return;
    fprintf(out, "<figure>\n");
    put_legend(out, p);
    fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s, %s\"", WIDTH, HEIGHT,
            p->title, p->unit);
    put_data(out, p, &scale);
    fprintf(out, ">\n");
    y_axis(out, &scale);
    x_axis(out, p, &scale);
    for (uint32_t l = 0; l < p->lines_count; l++)
        draw_line(out, p, &scale, p->lines_count - 1 - l);
    fprintf(out, "</svg>\n</figure>\n");
}

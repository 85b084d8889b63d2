/*
 * plot_axes.c: scales, ticks, grid, legend and series of pictures (plot.h).
 */
#include "pg/measure/plot.h"

#include "datatype/timestamp.h"
#include "utils/datetime.h"
#include "utils/float.h"

double slm_pg_axis_place(const SlmAxis *axis, double value)
{
    double at = axis->logarithmic ? log10(value) : value;

    return axis->low + (axis->high - axis->low) * (at - axis->min) / (axis->max - axis->min);
}

void slm_pg_plot_number(char *out, size_t size, double x)
{
    static const struct {
        double from;
        const char *unit;
    } units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};

    for (int i = 0; i < (int) lengthof(units); i++)
        if (fabs(x) >= units[i].from && fabs(x) < 1e15) {
            snprintf(out, size, "%.4g%s", x / units[i].from, units[i].unit);
            return;
        }
    snprintf(out, size, "%.4g", fabs(x) < 1e-12 ? 0 : x);
}

static void put_tick(SlmAxis *axis, double at)
{
    char *name = axis->name[axis->n];

    if (axis->n == SLM_PLOT_TICKS)
        return;
    axis->at[axis->n++] = at;
    if (axis->days) {
        int year, month, day;

        j2date((int) floor(at / SLM_PLOT_DAY_SECONDS) + UNIX_EPOCH_JDATE, &year, &month, &day);
        snprintf(name, sizeof axis->name[0], "%04d-%02d-%02d", year, month, day);
    } else if (axis->percent) {
        snprintf(name, sizeof axis->name[0], "%.4g %%", 100 * at);
    } else {
        slm_pg_plot_number(name, sizeof axis->name[0], axis->logarithmic ? pow(10, at) : at);
    }
}

/* The least of 1, 2, 5, 10, 20, ... that is not below. */
static double nice(double x)
{
    double power = pow(10, floor(log10(x))), part = x / power;

    return power * (part <= 1.0001 ? 1 : part <= 2.0001 ? 2 : part <= 5.0001 ? 5 : 10);
}

static void fit_logarithmic(SlmAxis *axis, double min, double max, double pixels)
{
    static const double within[] = {1, 2, 5};
    double per_decade;

    axis->min = log10(min) - 0.08;
    axis->max = log10(max) + 0.08;
    per_decade = fabs(axis->high - axis->low) / (axis->max - axis->min);
    for (double decade = floor(axis->min); decade <= axis->max; decade += Max(1, ceil(pixels / per_decade)))
        for (int i = 0; i < (per_decade >= 3.4 * pixels ? 3 : 1); i++) {
            double at = decade + log10(within[i]);

            if (at >= axis->min && at <= axis->max)
                put_tick(axis, at);
        }
}

void slm_pg_axis_fit(SlmAxis *axis, double min, double max, double pixels)
{
    double room = fabs(axis->high - axis->low), least = Max(fabs(max), fabs(min)) * 1e-9, step;

    axis->n = 0;
    if (axis->logarithmic) {
        fit_logarithmic(axis, min, max, pixels);
        return;
    }
    if (!(max - min > Max(least, axis->days ? SLM_PLOT_DAY_SECONDS : 1e-300))) { /* all are one value */
        double around = axis->days ? SLM_PLOT_DAY_SECONDS : axis->percent ? 0.05 : Max(fabs(min) * 0.1, 1e-9);

        max += around;
        min -= around;
    }
    step = nice((max - min) / Max(room / pixels, 2));
    if (axis->days)
        step = SLM_PLOT_DAY_SECONDS * Max(1, ceil(step / SLM_PLOT_DAY_SECONDS));
    axis->min = axis->days ? min : step * floor(min / step + 1e-9);
    axis->max = axis->days ? max : step * ceil(max / step - 1e-9);
    if (axis->percent) {
        axis->min = Max(axis->min, Min(min, 0));
        axis->max = Min(axis->max, Max(max, 1));
    }
    for (int i = 0; i < SLM_PLOT_TICKS && axis->min + i * step <= axis->max + step * 1e-6; i++)
        put_tick(axis, axis->days ? ceil(axis->min / SLM_PLOT_DAY_SECONDS) * SLM_PLOT_DAY_SECONDS + i * step : axis->min + i * step);
}

static double place_of_tick(const SlmAxis *axis, int i)
{
    return axis->low + (axis->high - axis->low) * (axis->at[i] - axis->min) / (axis->max - axis->min);
}

void slm_pg_axes_draw(SlmSvg *svg, const SlmPlot *plot, const SlmAxis *x, const SlmAxis *y)
{
    for (int i = 0; i < y->n; i++) {
        double at = place_of_tick(y, i);

        slm_svg_line(svg, x->low, at, x->high, at, "slm-g");
        slm_svg_text(svg, x->low - 8, at + 4, 100, false, "slm-u slm-e", y->name[i]);
    }
    for (int i = 0; i < x->n; i++) {
        double at = place_of_tick(x, i);

        if (at > Max(x->low, x->high) + 0.5)
            continue;
        slm_svg_line(svg, at, y->high, at, y->low, "slm-g");
        slm_svg_text(svg, at, y->low + 18, 100, false, "slm-u slm-m", x->name[i]);
    }
    slm_svg_line(svg, x->low, y->low, x->high, y->low, "slm-a");
    slm_svg_line(svg, x->low, y->high, x->low, y->low, "slm-a");
    slm_svg_text(svg, (x->low + x->high) / 2, y->low + 40, x->high - x->low, false, "slm-m", plot->x_label);
    slm_svg_text(svg, 18, (y->low + y->high) / 2, y->low - y->high, true, "slm-m", plot->y_label);
}

double slm_pg_legend(SlmSvg *svg, const char *const *names, int n, double y)
{
    double x = 16, most = svg->width - 32;

    for (int i = 0; i < n; i++) {
        double room = Min(slm_svg_width(names[i]), Min(most - 24, 260));

        if (x > 16 && x + 24 + room > svg->width - 16) {
            x = 16;
            y += 18;
        }
        slm_svg_rect(svg, x, y, 12, 12, psprintf("slm-f%d", i % SLM_SVG_COLOURS), 1, NULL);
        slm_svg_text(svg, x + 18, y + 10.5, room + 1, false, "", names[i]);
        x += 24 + room + 14;
    }
    return n > 0 ? y + 18 : y;
}

/* ---- scales */

void slm_pg_plot_range(const SlmPlot *plot, int column, double *min, double *max)
{
    for (int i = 0; i < plot->n && plot->numbers[column] != NULL; i++) {
        double x = plot->numbers[column][i];

        if (isnan(x))
            continue;
        *min = isnan(*min) ? x : Min(*min, x);
        *max = isnan(*max) ? x : Max(*max, x);
    }
}

/* Where the axes are, below a legend that ends at y. */
void slm_pg_axes_place(const SlmSvg *svg, double y, SlmAxis *across, SlmAxis *up)
{
    across->low = SLM_PLOT_LEFT;
    across->high = svg->width - SLM_PLOT_RIGHT;
    up->low = svg->height - SLM_PLOT_BOTTOM;
    up->high = y + 12;
}

double slm_pg_plot_head(SlmSvg *svg, const SlmPlot *plot)
{
    slm_svg_text(svg, 16, 26, svg->width - 32, false, "slm-h", plot->title);
    return SLM_PLOT_TOP - 14;
}

bool slm_pg_plot_shares(const SlmPlot *plot, int column)
{
    double min = NAN, max = NAN;

    slm_pg_plot_range(plot, column, &min, &max);
    return min >= 0 && max <= 1;
}

/* ---- series */

static int series_named(const SlmSeries *s, const char *name)
{
    for (int k = 0; k < s->n; k++)
        if (strcmp(s->names[k], name) == 0)
            return k;
    return -1;
}

static bool has_texts(const SlmPlot *plot, int column)
{
    for (int i = 0; i < plot->n; i++)
        if (plot->texts[column][i] != NULL)
            return true;
    return false;
}

/* The series of the rows in the order of their first row; the last one is `rest`, where there may be more than there are colours. */
void slm_pg_plot_series(SlmSeries *s, const SlmPlot *plot, int column, const char *rest)
{
    s->n = 0;
    s->of = palloc0(sizeof(int) * (Size) plot->n);
    if (!has_texts(plot, column))
        return;
    for (int i = 0; i < plot->n; i++) {
        const char *name = plot->texts[column][i] == NULL ? "(none)" : plot->texts[column][i];
        int k = series_named(s, name);

        if (k < 0 && s->n == SLM_SVG_COLOURS) {
            if (rest == NULL)
                ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("there are more than %d series to draw", SLM_SVG_COLOURS),
                                errhint("Choose some of them in the query.")));
            k = s->n - 1;
            s->names[k] = rest;
        } else if (k < 0) {
            k = s->n++;
            s->names[k] = name;
        }
        s->of[i] = k;
    }
}

/* Rows of a series, in order of x. */
int slm_pg_plot_by_x(const void *a, const void *b, void *arg)
{
    const double *x = arg;
    double left = x[*(const int *) a], right = x[*(const int *) b];

    return left < right ? -1 : left > right ? 1 : *(const int *) a - *(const int *) b;
}

int slm_pg_plot_rows(const SlmPlot *plot, const SlmSeries *s, int series, double *x, int *rows)
{
    int n = 0;

    for (int i = 0; i < plot->n; i++)
        if (s->of[i] == series)
            rows[n++] = i;
    qsort_arg(rows, (size_t) n, sizeof(int), slm_pg_plot_by_x, x);
    return n;
}

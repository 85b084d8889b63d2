/*
 * plot_bars.c: pictures of bars (plot.h): usage, a stack for each day, and any, a bar for each row.
 */
#include "pg/measure/plot.h"

#include "utils/float.h"

#define MOST_BARS 60

/* ---- stacks: usage */

enum { USAGE_DAY, USAGE_VALUE, USAGE_SERIES };

static const char *series_of(const SlmPlot *plot, int row)
{
    return plot->texts[USAGE_SERIES][row] == NULL ? "" : plot->texts[USAGE_SERIES][row];
}

static int by_name(const void *a, const void *b, void *arg)
{
    int order = strcmp(series_of(arg, *(const int *) a), series_of(arg, *(const int *) b));

    return order != 0 ? order : *(const int *) a - *(const int *) b;
}

static int most_first(const void *a, const void *b, void *arg)
{
    const double *sums = arg;
    double left = sums[*(const int *) a], right = sums[*(const int *) b];

    return left > right ? -1 : left < right ? 1 : *(const int *) a - *(const int *) b;
}

/* The rows of the series with the largest sum first, so that the least ones become "(other)". */
static int *rows_by_sum(SlmPlot *plot)
{
    int *order = palloc(sizeof(int) * (Size) plot->n);
    double *sums = palloc(sizeof(double) * (Size) plot->n);

    for (int i = 0; i < plot->n; i++)
        order[i] = i;
    qsort_arg(order, (size_t) plot->n, sizeof(int), by_name, plot);
    for (int i = 0, end; i < plot->n; i = end) {
        double sum = 0;

        for (end = i; end < plot->n && strcmp(series_of(plot, order[i]), series_of(plot, order[end])) == 0; end++)
            sum += plot->numbers[USAGE_VALUE][order[end]];
        for (int k = i; k < end; k++)
            sums[order[k]] = sum;
    }
    qsort_arg(order, (size_t) plot->n, sizeof(int), most_first, sums);
    return order;
}

static void sort_by_sum(SlmPlot *plot)
{
    const int *order = rows_by_sum(plot);
    SlmPlot by_row = *plot;

    plot->numbers[USAGE_DAY] = palloc(sizeof(double) * (Size) plot->n);
    plot->numbers[USAGE_VALUE] = palloc(sizeof(double) * (Size) plot->n);
    plot->texts[USAGE_SERIES] = palloc(sizeof(char *) * (Size) plot->n);
    for (int i = 0; i < plot->n; i++) {
        plot->numbers[USAGE_DAY][i] = by_row.numbers[USAGE_DAY][order[i]];
        plot->numbers[USAGE_VALUE][i] = by_row.numbers[USAGE_VALUE][order[i]];
        plot->texts[USAGE_SERIES][i] = by_row.texts[USAGE_SERIES][order[i]];
    }
}

/* [days, SLM_SVG_COLOURS] */
static double *sums_of_days(const SlmPlot *plot, const SlmSeries *series, double first, int days, double *most)
{
    double *sums = palloc0(sizeof(double) * (Size) days * SLM_SVG_COLOURS);

    for (int i = 0; i < plot->n; i++) {
        int day = (int) (floor(plot->numbers[USAGE_DAY][i] / SLM_PLOT_DAY_SECONDS) - first);

        sums[day * SLM_SVG_COLOURS + series->of[i]] += Max(plot->numbers[USAGE_VALUE][i], 0);
    }
    *most = 0;
    for (int d = 0; d < days; d++) {
        double sum = 0;

        for (int s = 0; s < SLM_SVG_COLOURS; s++)
            sum += sums[d * SLM_SVG_COLOURS + s];
        *most = Max(*most, sum);
    }
    return sums;
}

static void draw_stack(SlmSvg *svg, const SlmAxis *y, const SlmSeries *series, const double *sums, double left, double width)
{
    double base = 0;

    for (int s = 0; s < Max(series->n, 1); s++) {
        double top = slm_pg_axis_place(y, base + sums[s]);
        const char *name = series->n > 0 ? psprintf("%s: ", series->names[s]) : "";

        if (sums[s] > 0)
            slm_svg_rect(svg, left, top, width, slm_pg_axis_place(y, base) - top, psprintf("slm-f%d", s), 1,
                         psprintf("%s%.6g", name, sums[s]));
        base += sums[s];
    }
}

static void name_unit(SlmPlot *plot)
{
    if (plot->y_label != plot->kind->y_label)
        return;
    if (strcmp(plot->found[USAGE_VALUE], "cpu_seconds") == 0)
        plot->y_label = "CPU time (seconds a day)";
    else if (strcmp(plot->found[USAGE_VALUE], "calls") == 0)
        plot->y_label = "calls a day";
}

void slm_pg_draw_usage(SlmSvg *svg, SlmPlot *plot)
{
    double first = NAN, last = NAN, most, *sums, width;
    SlmAxis x = {.days = true}, y = {0};
    SlmSeries series;
    int days;

    name_unit(plot);
    sort_by_sum(plot);
    slm_pg_plot_range(plot, USAGE_DAY, &first, &last);
    first = floor(first / SLM_PLOT_DAY_SECONDS);
    last = floor(last / SLM_PLOT_DAY_SECONDS);
    if (last - first >= 3660)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("these are more than ten years"),
                        errhint("Choose some of the days: ... WHERE day > current_date - 30")));
    days = (int) (last - first) + 1;
    slm_pg_plot_series(&series, plot, USAGE_SERIES, "(other)");
    slm_pg_axes_place(svg, slm_pg_legend(svg, series.names, series.n, slm_pg_plot_head(svg, plot)), &x, &y);
    sums = sums_of_days(plot, &series, first, days, &most);
    slm_pg_axis_fit(&x, (first - 0.5) * SLM_PLOT_DAY_SECONDS, (last + 0.5) * SLM_PLOT_DAY_SECONDS, 90);
    slm_pg_axis_fit(&y, 0, most, 46);
    slm_pg_axes_draw(svg, plot, &x, &y);
    width = Min(Max((x.high - x.low) / days * 0.8, 1), 64);
    for (int d = 0; d < days; d++)
        draw_stack(svg, &y, &series, sums + d * SLM_SVG_COLOURS,
                   slm_pg_axis_place(&x, (first + d) * SLM_PLOT_DAY_SECONDS) - width / 2, width);
}

/* ---- bars */

void slm_pg_draw_bar(SlmSvg *svg, SlmPlot *plot)
{
    double min = 0, max = 0, widest = 0, height;
    SlmAxis x = {0}, y = {0};

    if (plot->n > MOST_BARS)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%d bars are too many to be read", plot->n),
                        errhint("Choose at most %d in the query: ... ORDER BY y DESC LIMIT %d", MOST_BARS, MOST_BARS)));
    slm_pg_plot_range(plot, 1, &min, &max);
    for (int i = 0; i < plot->n; i++)
        widest = Max(widest, slm_svg_width(plot->texts[0][i]));
    svg->height = Max(svg->height, SLM_PLOT_TOP + SLM_PLOT_BOTTOM + 16 * plot->n);
    slm_pg_axes_place(svg, slm_pg_plot_head(svg, plot), &x, &y);
    x.low = Min(widest + 38, svg->width * 0.45);
    x.high -= 40;
    slm_pg_axis_fit(&x, min, max, 90);
    y.min = 0;
    y.max = 1;
    slm_pg_axes_draw(svg, plot, &x, &y);
    height = (y.low - y.high) / plot->n;
    for (int i = 0; i < plot->n; i++) {
        double at = y.high + height * i, zero = slm_pg_axis_place(&x, 0), end = slm_pg_axis_place(&x, plot->numbers[1][i]);
        double thick = Min(height * 0.76, 30), top = at + (height - thick) / 2;
        char number[32];

        slm_pg_plot_number(number, sizeof number, plot->numbers[1][i]);
        slm_svg_rect(svg, Min(zero, end), top, fabs(end - zero), thick, "slm-f0", 1, NULL);
        slm_svg_text(svg, Max(zero, end) + 5, top + thick / 2 + 4, 80, false, "slm-u", number);
        slm_svg_text(svg, x.low - 8, top + thick / 2 + 4, x.low - 36, false, "slm-e", plot->texts[0][i]);
    }
}

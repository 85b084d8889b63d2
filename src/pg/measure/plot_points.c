/*
 * plot_points.c: accuracy over cost (plot.h): a point for each candidate, its interval, and a line along those that nothing cheaper beats.
 */
#include "pg/measure/plot.h"

#include "utils/float.h"

enum { COST_CANDIDATE, COST_ACCURACY, COST_COST, COST_LOW, COST_HIGH };

/* Rows from the cheapest on that are better than all that cost less. */
static void draw_frontier(SlmSvg *svg, const SlmPlot *plot, const SlmAxis *x, const SlmAxis *y)
{
    int *rows = palloc(sizeof(int) * (Size) plot->n), n = 0;
    double *px = palloc(sizeof(double) * (Size) (2 * plot->n)), *py = palloc(sizeof(double) * (Size) (2 * plot->n)), best = -1;

    for (int i = 0; i < plot->n; i++)
        rows[i] = i;
    qsort_arg(rows, (size_t) plot->n, sizeof(int), slm_pg_plot_by_x, plot->numbers[COST_COST]);
    for (int i = 0; i < plot->n; i++) {
        if (plot->numbers[COST_ACCURACY][rows[i]] <= best)
            continue;
        px[n] = slm_pg_axis_place(x, plot->numbers[COST_COST][rows[i]]);
        py[n] = n > 0 ? py[n - 1] : slm_pg_axis_place(y, plot->numbers[COST_ACCURACY][rows[i]]);
        best = plot->numbers[COST_ACCURACY][rows[i]];
        px[n + 1] = px[n];
        py[n + 1] = slm_pg_axis_place(y, best);
        n += 2;
    }
    slm_svg_path(svg, px, py, n, false, "slm-d");
}

/* Names beside their points, moved down or up where they would cover another one. */
static void name_points(SlmSvg *svg, const SlmPlot *plot, const double *px, const double *py, const SlmAxis *x, const SlmAxis *y)
{
    double *left = palloc(sizeof(double) * (Size) plot->n), *right = palloc(sizeof(double) * (Size) plot->n);
    double *at = palloc(sizeof(double) * (Size) plot->n);

    for (int i = 0; i < plot->n; i++) {
        double room = Min(slm_svg_width(plot->texts[COST_CANDIDATE][i]) + 2, (x->high - x->low) / 2);
        bool before = px[i] + 12 + room > svg->width - 4;

        left[i] = before ? px[i] - 12 - room : px[i] + 12;
        right[i] = left[i] + room;
        for (int step = 0; step < 16; step++) {
            bool covers = false;

            at[i] = py[i] + 4 + (step % 2 == 0 ? -7.5 : 7.5) * ((step + 1) / 2 * 2);
            for (int k = 0; k < i; k++)
                covers |= left[i] < right[k] && left[k] < right[i] && fabs(at[i] - at[k]) < 14;
            for (int k = 0; k < plot->n; k++)
                covers |= left[i] < px[k] + 6 && px[k] - 6 < right[i] && fabs(at[i] - 4 - py[k]) < 11;
            if (!covers && at[i] > y->high - 6 && at[i] < y->low)
                break;
        }
        slm_svg_text(svg, before ? right[i] : left[i], at[i], room + 1, false, before ? "slm-e" : "", plot->texts[COST_CANDIDATE][i]);
    }
}

void slm_pg_draw_cost(SlmSvg *svg, SlmPlot *plot)
{
    double cheap = NAN, dear = NAN, min = NAN, max = NAN;
    double *px = palloc(sizeof(double) * (Size) plot->n), *py = palloc(sizeof(double) * (Size) plot->n);
    SlmAxis x = {0}, y = {.percent = slm_pg_plot_shares(plot, COST_ACCURACY)};

    if (plot->n > 200)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%d candidates are too many to be told apart", plot->n),
                        errhint("Choose at most 200 in the query.")));
    slm_pg_axes_place(svg, slm_pg_plot_head(svg, plot), &x, &y);
    slm_pg_plot_range(plot, COST_COST, &cheap, &dear);
    slm_pg_plot_range(plot, COST_ACCURACY, &min, &max);
    slm_pg_plot_range(plot, COST_LOW, &min, &max);
    slm_pg_plot_range(plot, COST_HIGH, &min, &max);
    x.logarithmic = cheap > 0 && dear > 20 * cheap;
    slm_pg_axis_fit(&x, x.logarithmic ? cheap : Min(cheap, 0), dear, 90);
    slm_pg_axis_fit(&y, min, max, 46);
    slm_pg_axes_draw(svg, plot, &x, &y);
    draw_frontier(svg, plot, &x, &y);
    for (int i = 0; i < plot->n; i++) {
        double low = plot->numbers[COST_LOW][i], high = plot->numbers[COST_HIGH][i];

        px[i] = slm_pg_axis_place(&x, plot->numbers[COST_COST][i]);
        py[i] = slm_pg_axis_place(&y, plot->numbers[COST_ACCURACY][i]);
        if (!isnan(low) && !isnan(high))
            slm_svg_line(svg, px[i], slm_pg_axis_place(&y, low), px[i], slm_pg_axis_place(&y, high), "slm-l slm-s0");
        slm_svg_circle(svg, px[i], py[i], 5, "slm-f0", plot->texts[COST_CANDIDATE][i]);
    }
    name_points(svg, plot, px, py, &x, &y);
}

/*
 * plot_curves.c: pictures of lines: coverage, calibration, and any (plot.h).
 */
#include "pg/measure/plot.h"

#include "utils/float.h"

typedef struct Curve {
    SlmAxis x, y;
    SlmSeries series;
    double *px, *py; /* [rows] of the one that is drawn */
    int *rows;
} Curve;

static void begin_curves(Curve *c, SlmSvg *svg, SlmPlot *plot, int series)
{
    double legend = slm_pg_plot_head(svg, plot);

    if (series >= 0)
        slm_pg_plot_series(&c->series, plot, series, NULL);
    else
        c->series.of = palloc0(sizeof(int) * (Size) plot->n);
    legend = slm_pg_legend(svg, c->series.names, c->series.n, legend);
    slm_pg_axes_place(svg, legend, &c->x, &c->y);
    c->px = palloc(sizeof(double) * (Size) (2 * plot->n));
    c->py = palloc(sizeof(double) * (Size) (2 * plot->n));
    c->rows = palloc(sizeof(int) * (Size) plot->n);
}

/* A line and, where they are few, its points. */
static void draw_curve(Curve *c, SlmSvg *svg, const SlmPlot *plot, int series, int n)
{
    for (int i = 0; i < n; i++) {
        c->px[i] = slm_pg_axis_place(&c->x, plot->numbers[0][c->rows[i]]);
        c->py[i] = slm_pg_axis_place(&c->y, plot->numbers[1][c->rows[i]]);
    }
    slm_svg_path(svg, c->px, c->py, n, false, psprintf("slm-l slm-s%d", series));
    for (int i = 0; i < n && n <= 60; i++)
        slm_svg_circle(svg, c->px[i], c->py[i], 3.5, psprintf("slm-f%d", series), NULL);
}

static void draw_band(Curve *c, SlmSvg *svg, const SlmPlot *plot, int series, int n, int low, int high)
{
    int m = 0;

    for (int i = 0; i < n; i++)
        if (!isnan(plot->numbers[high][c->rows[i]])) {
            c->px[m] = slm_pg_axis_place(&c->x, plot->numbers[0][c->rows[i]]);
            c->py[m++] = slm_pg_axis_place(&c->y, plot->numbers[high][c->rows[i]]);
        }
    for (int i = n - 1; i >= 0; i--)
        if (!isnan(plot->numbers[low][c->rows[i]])) {
            c->px[m] = slm_pg_axis_place(&c->x, plot->numbers[0][c->rows[i]]);
            c->py[m++] = slm_pg_axis_place(&c->y, plot->numbers[low][c->rows[i]]);
        }
    if (m > 2)
        slm_svg_path(svg, c->px, c->py, m, true, psprintf("slm-b slm-f%d", series));
}

enum { COVERAGE_ANSWERED, COVERAGE_ACCURACY, COVERAGE_LOW, COVERAGE_HIGH, COVERAGE_SERIES };

void slm_pg_draw_coverage(SlmSvg *svg, SlmPlot *plot)
{
    double min = NAN, max = NAN;
    Curve c = {.x.percent = true, .y.percent = true};

    if (!slm_pg_plot_shares(plot, COVERAGE_ANSWERED) || !slm_pg_plot_shares(plot, COVERAGE_ACCURACY))
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("answered and accuracy are shares from 0 to 1"),
                        errhint("Divide percentages by 100.")));
    begin_curves(&c, svg, plot, COVERAGE_SERIES);
    slm_pg_plot_range(plot, COVERAGE_ACCURACY, &min, &max);
    slm_pg_plot_range(plot, COVERAGE_LOW, &min, &max);
    slm_pg_plot_range(plot, COVERAGE_HIGH, &min, &max);
    slm_pg_axis_fit(&c.x, 0, 1, 90);
    slm_pg_axis_fit(&c.y, Max(min, 0), 1, 46);
    slm_pg_axes_draw(svg, plot, &c.x, &c.y);
    for (int s = 0; s < Max(c.series.n, 1); s++) {
        int n = slm_pg_plot_rows(plot, &c.series, s, plot->numbers[0], c.rows);

        draw_band(&c, svg, plot, s, n, COVERAGE_LOW, COVERAGE_HIGH);
        draw_curve(&c, svg, plot, s, n);
    }
}

enum { CALIBRATION_CONFIDENCE, CALIBRATION_ACCURACY, CALIBRATION_ROWS, CALIBRATION_SERIES };

void slm_pg_draw_calibration(SlmSvg *svg, SlmPlot *plot)
{
    double least = NAN, most = NAN;
    Curve c = {.x.percent = true, .y.percent = true};

    if (!slm_pg_plot_shares(plot, CALIBRATION_CONFIDENCE) || !slm_pg_plot_shares(plot, CALIBRATION_ACCURACY))
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("confidence and accuracy are shares from 0 to 1"),
                        errhint("Divide percentages by 100.")));
    begin_curves(&c, svg, plot, CALIBRATION_SERIES);
    slm_pg_plot_range(plot, CALIBRATION_ROWS, &least, &most);
    slm_pg_axis_fit(&c.x, 0, 1, 90);
    slm_pg_axis_fit(&c.y, 0, 1, 46);
    slm_pg_axes_draw(svg, plot, &c.x, &c.y);
    slm_svg_path(svg, (double[]){c.x.low, c.x.high}, (double[]){c.y.low, c.y.high}, 2, false, "slm-d");
    slm_svg_text(svg, c.x.low + 10, c.y.high + 16, c.x.high - c.x.low - 20, false, "slm-u",
                 "dashed: as sure as right; a point is as large as it has rows");
    for (int s = 0; s < Max(c.series.n, 1); s++) {
        int n = slm_pg_plot_rows(plot, &c.series, s, plot->numbers[0], c.rows);

        draw_curve(&c, svg, plot, s, n);
        for (int i = 0; i < n && most > 0; i++) {
            double rows = plot->numbers[CALIBRATION_ROWS][c.rows[i]];

            if (rows > 0)
                slm_svg_circle(svg, c.px[i], c.py[i], 3.5 + 9 * sqrt(rows / most), psprintf("slm-b slm-f%d", s),
                               psprintf("%.0f rows: %.1f %% sure, %.1f %% right", rows, 100 * plot->numbers[0][c.rows[i]],
                                        100 * plot->numbers[1][c.rows[i]]));
        }
    }
}

void slm_pg_draw_line(SlmSvg *svg, SlmPlot *plot)
{
    double left = NAN, right = NAN, min = NAN, max = NAN;
    Curve c = {.x.days = plot->days[0]};

    begin_curves(&c, svg, plot, 2);
    slm_pg_plot_range(plot, 0, &left, &right);
    slm_pg_plot_range(plot, 1, &min, &max);
    slm_pg_axis_fit(&c.x, left, right, 90);
    slm_pg_axis_fit(&c.y, min >= 0 && min < 0.5 * max ? 0 : min, max, 46);
    slm_pg_axes_draw(svg, plot, &c.x, &c.y);
    for (int s = 0; s < Max(c.series.n, 1); s++)
        draw_curve(&c, svg, plot, s, slm_pg_plot_rows(plot, &c.series, s, plot->numbers[0], c.rows));
}

/*
 * plot.h: slm_plot: the rows of a query as a picture.
 *
 *   query ──plot_data.c──► SlmPlot: a column of numbers or texts for each that the kind knows ──plot_*.c──► marks ──svg.c──► text
 *
 * plot.c has the kinds, plot_axes.c scales, ticks, legend and series.
 */
#ifndef SLM_PG_PLOT_H
#define SLM_PG_PLOT_H

#include "postgres.h"

#include "pg/measure/svg.h"

#define SLM_PLOT_COLUMNS 5
#define SLM_PLOT_NAMES 3
#define SLM_PLOT_TOP 52 /* pixels around the axes */
#define SLM_PLOT_LEFT 74
#define SLM_PLOT_RIGHT 24
#define SLM_PLOT_BOTTOM 56
#define SLM_PLOT_DAY_SECONDS 86400.0

/* What a column of the query is to be. */
typedef enum SlmPlotType { SLM_PLOT_NUMBER, SLM_PLOT_TEXT, SLM_PLOT_DAY, SLM_PLOT_NUMBER_OR_DAY } SlmPlotType;

typedef struct SlmPlotColumn {
    const char *names[SLM_PLOT_NAMES]; /* the first that the query has counts */
    SlmPlotType type;
    bool needed;
} SlmPlotColumn;

typedef struct SlmPlot SlmPlot;

typedef struct SlmPlotKind {
    const char *name;
    const char *title, *x_label, *y_label;
    const char *example; /* a query, for hints */
    SlmPlotColumn columns[SLM_PLOT_COLUMNS];
    void (*draw)(SlmSvg *svg, SlmPlot *plot);
} SlmPlotKind;

struct SlmPlot {
    const SlmPlotKind *kind;
    int n;                                /* rows in which all that is needed is there */
    double *numbers[SLM_PLOT_COLUMNS];    /* [n] NaN: none; days are seconds since 1970; NULL: a column of texts */
    const char **texts[SLM_PLOT_COLUMNS]; /* [n] UTF-8, NULL: none */
    const char *found[SLM_PLOT_COLUMNS];  /* the name that the query had; NULL: not there */
    bool days[SLM_PLOT_COLUMNS];          /* of the numbers: they are days */
    const char *title, *x_label, *y_label; /* UTF-8 */
};

/* Runs the query, read-only with the caller's rights; kind is set. ERROR with the kind's example where its columns are others. */
void slm_pg_plot_read(SlmPlot *plot, const char *query);

/* ---- axes */

#define SLM_PLOT_TICKS 24

typedef struct SlmAxis {
    double min, max;   /* of the values; on a logarithmic one of their logarithms */
    double low, high;  /* where these are, in pixels */
    bool logarithmic, percent, days;
    int n;             /* ticks */
    double at[SLM_PLOT_TICKS];
    char name[SLM_PLOT_TICKS][24];
} SlmAxis;

/* Ends and ticks for values from min to max, which stay inside; about one tick in so many pixels. */
void slm_pg_axis_fit(SlmAxis *axis, double min, double max, double pixels);
double slm_pg_axis_place(const SlmAxis *axis, double value);
/* A number as short as it can be read: 1.5k, 20M. */
void slm_pg_plot_number(char *out, size_t size, double x);
/* Grid, ticks and labels of both; y.low is the lower edge. */
void slm_pg_axes_draw(SlmSvg *svg, const SlmPlot *plot, const SlmAxis *x, const SlmAxis *y);
/* The names of series beside their colours, in lines from y on; returns where they end. */
double slm_pg_legend(SlmSvg *svg, const char *const *names, int n, double y);

/* The ends of a column's values, which widen min and max; NaN: none so far. */
void slm_pg_plot_range(const SlmPlot *plot, int column, double *min, double *max);
/* Are all of them from 0 to 1? */
bool slm_pg_plot_shares(const SlmPlot *plot, int column);
/* Draws the title; returns where what follows may begin. */
double slm_pg_plot_head(SlmSvg *svg, const SlmPlot *plot);
/* Where the axes are in a picture, below y. */
void slm_pg_axes_place(const SlmSvg *svg, double y, SlmAxis *across, SlmAxis *up);

/* ---- series: rows of one colour */

typedef struct SlmSeries {
    const char *names[SLM_SVG_COLOURS];
    double sums[SLM_SVG_COLOURS];
    int n;
    int *of; /* [rows] */
} SlmSeries;

/* The series of the rows in the order of their first row; the last one is `rest` where there are more than colours, NULL: an ERROR. */
void slm_pg_plot_series(SlmSeries *s, const SlmPlot *plot, int column, const char *rest);
/* qsort_arg of row numbers by a column. */
int slm_pg_plot_by_x(const void *a, const void *b, void *arg);
/* The rows of a series in order of x, [n]; returns n. */
int slm_pg_plot_rows(const SlmPlot *plot, const SlmSeries *s, int series, double *x, int *rows);

/* ---- kinds */

void slm_pg_draw_coverage(SlmSvg *svg, SlmPlot *plot);
void slm_pg_draw_calibration(SlmSvg *svg, SlmPlot *plot);
void slm_pg_draw_confusion(SlmSvg *svg, SlmPlot *plot);
void slm_pg_draw_cost(SlmSvg *svg, SlmPlot *plot);
void slm_pg_draw_usage(SlmSvg *svg, SlmPlot *plot);
void slm_pg_draw_line(SlmSvg *svg, SlmPlot *plot);
void slm_pg_draw_bar(SlmSvg *svg, SlmPlot *plot);

#endif

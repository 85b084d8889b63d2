/*
 * plot_confusion.c: a square of labels, expected down and given across, each cell as dark as its share of the rows that expect its label;
 * what is right is blue, what is wrong orange.  Where there are more labels than can be read, those are shown that are confused most.
 */
#include "pg/measure/plot.h"

#include "utils/float.h"

#define MOST_LABELS 30
#define LEAST_CELL 17.0

enum { EXPECTED, GIVEN, ROWS };

typedef struct Square {
    const char **names; /* [n_all] ascending by byte */
    int n_all;
    int n;      /* that are shown */
    int *place; /* [n_all] among those shown, -1: not */
    int *shown; /* [n] */
    double *cells; /* [n, n] */
    double *sums;  /* [n] rows that expect it, whatever was given */
} Square;

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static int number_of(const Square *s, const char *name)
{
    const char **found = bsearch(&name, s->names, (size_t) s->n_all, sizeof(char *), compare_strings);

    return (int) (found - s->names);
}

static void find_names(Square *s, const SlmPlot *plot)
{
    int n = 0;

    s->names = palloc(sizeof(char *) * (Size) (2 * plot->n));
    for (int i = 0; i < plot->n; i++) {
        s->names[n++] = plot->texts[EXPECTED][i];
        s->names[n++] = plot->texts[GIVEN][i];
    }
    qsort(s->names, (size_t) n, sizeof(char *), compare_strings);
    for (int i = 0; i < n; i++)
        if (s->n_all == 0 || strcmp(s->names[s->n_all - 1], s->names[i]) != 0)
            s->names[s->n_all++] = s->names[i];
}

static double rows_of(const SlmPlot *plot, int i)
{
    double rows = plot->found[ROWS] == NULL ? 1 : plot->numbers[ROWS][i];

    return isnan(rows) || rows < 0 ? 0 : rows;
}

static int most_first(const void *a, const void *b, void *arg)
{
    const double *weight = arg;
    double left = weight[*(const int *) a], right = weight[*(const int *) b];

    return left > right ? -1 : left < right ? 1 : *(const int *) a - *(const int *) b;
}

static int ascending(const void *a, const void *b)
{
    return *(const int *) a - *(const int *) b;
}

/* Which labels are shown: all, or those of the most wrong rows, in either role. */
static void choose(Square *s, const SlmPlot *plot, int most)
{
    double *wrong = palloc0(sizeof(double) * (Size) s->n_all);

    for (int i = 0; i < plot->n; i++) {
        int expected = number_of(s, plot->texts[EXPECTED][i]), given = number_of(s, plot->texts[GIVEN][i]);

        if (expected == given)
            continue;
        wrong[expected] += rows_of(plot, i);
        wrong[given] += rows_of(plot, i);
    }
    s->shown = palloc(sizeof(int) * (Size) s->n_all);
    s->place = palloc(sizeof(int) * (Size) s->n_all);
    for (int i = 0; i < s->n_all; i++) {
        s->shown[i] = i;
        s->place[i] = -1;
    }
    qsort_arg(s->shown, (size_t) s->n_all, sizeof(int), most_first, wrong);
    s->n = Min(s->n_all, most);
    qsort(s->shown, (size_t) s->n, sizeof(int), ascending);
    for (int i = 0; i < s->n; i++)
        s->place[s->shown[i]] = i;
}

static void fill(Square *s, const SlmPlot *plot)
{
    s->cells = palloc0(sizeof(double) * (Size) (s->n * s->n));
    s->sums = palloc0(sizeof(double) * (Size) s->n);
    for (int i = 0; i < plot->n; i++) {
        int expected = s->place[number_of(s, plot->texts[EXPECTED][i])], given = s->place[number_of(s, plot->texts[GIVEN][i])];

        if (expected < 0)
            continue;
        s->sums[expected] += rows_of(plot, i);
        if (given >= 0)
            s->cells[expected * s->n + given] += rows_of(plot, i);
    }
}

static void draw_cell(SlmSvg *svg, const Square *s, int expected, int given, double x, double y, double cell)
{
    double rows = s->cells[expected * s->n + given], share = s->sums[expected] > 0 ? rows / s->sums[expected] : 0;
    double opacity = rows > 0 ? 0.1 + 0.9 * share : 0;
    char number[32];

    if (rows <= 0)
        return;
    slm_svg_rect(svg, x + 0.5, y + 0.5, cell - 1, cell - 1, expected == given ? "slm-f0" : "slm-f1", opacity,
                 psprintf("%s taken for %s: %.6g (%.1f %%)", s->names[s->shown[expected]], s->names[s->shown[given]], rows, 100 * share));
    slm_pg_plot_number(number, sizeof number, rows);
    if (slm_svg_width(number) + 2 < cell && cell >= 15)
        slm_svg_text(svg, x + cell / 2, y + cell / 2 + 4, cell, false, opacity > 0.8 ? "slm-m slm-o" : "slm-m", number);
}

void slm_pg_draw_confusion(SlmSvg *svg, SlmPlot *plot)
{
    Square s = {0};
    double widest = 0, left, top = 66, room, cell;

    find_names(&s, plot);
    choose(&s, plot, (int) Min(MOST_LABELS, (svg->height - 180) / LEAST_CELL));
    fill(&s, plot);
    slm_svg_text(svg, 16, 26, svg->width - 32, false, "slm-h", plot->title);
    if (s.n < s.n_all)
        slm_svg_text(svg, 16, 46, svg->width - 32, false, "slm-u",
                     psprintf("the %d of %d labels that are confused most; dark: a large part of the expected ones", s.n, s.n_all));
    else
        slm_svg_text(svg, 16, 46, svg->width - 32, false, "slm-u", "rows; dark: a large part of the expected ones; blue: right");
    for (int i = 0; i < s.n; i++)
        widest = Max(widest, slm_svg_width(s.names[s.shown[i]]));
    room = Min(widest + 2, svg->height * 0.3);
    left = 40 + Min(widest + 2, svg->width * 0.4);
    cell = Min(Min((svg->width - left - 20) / s.n, (svg->height - top - room - 40) / s.n), 64);
    for (int i = 0; i <= s.n; i++) {
        slm_svg_line(svg, left, top + i * cell, left + s.n * cell, top + i * cell, "slm-g");
        slm_svg_line(svg, left + i * cell, top, left + i * cell, top + s.n * cell, "slm-g");
    }
    for (int i = 0; i < s.n; i++) {
        const char *name = s.names[s.shown[i]];

        slm_svg_text(svg, left - 6, top + (i + 0.5) * cell + 4, left - 42, false, "slm-e", name);
        slm_svg_text(svg, left + (i + 0.5) * cell + 4, top + s.n * cell + 8, room, true, "slm-e", name);
        for (int k = 0; k < s.n; k++)
            draw_cell(svg, &s, i, k, left + k * cell, top + i * cell, cell);
    }
    slm_svg_text(svg, 16, top + s.n * cell / 2, s.n * cell, true, "slm-m slm-u", plot->y_label);
    slm_svg_text(svg, left + s.n * cell / 2, top + s.n * cell + room + 26, s.n * cell + left, false, "slm-m slm-u", plot->x_label);
}

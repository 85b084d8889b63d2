/*
 * plot.c: slm_plot: the kinds of pictures (plot.h).
 *
 *   coverage     share answered ─► accuracy of it, with its interval        calibration  confidence ─► accuracy, beside the diagonal
 *   confusion    expected x given, shaded by share of the expected           cost         cost ─► accuracy, a point for each candidate
 *   usage        a stack for each day                                        line, bar    anything
 */
#include "pg/measure/plot.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"

PG_FUNCTION_INFO_V1(slm_pg_plot);

static const SlmPlotKind kinds[] = {
    {"coverage", "Coverage", "share answered (%)", "accuracy of what is answered (%)",
     "SELECT coverage FROM slm_evaluate('SELECT body, label FROM tickets', classifier => 'topics')",
     {{{"answered"}, SLM_PLOT_NUMBER, true}, {{"accuracy"}, SLM_PLOT_NUMBER, true}, {{"low"}, SLM_PLOT_NUMBER, false},
      {{"high"}, SLM_PLOT_NUMBER, false}, {{"series"}, SLM_PLOT_TEXT, false}},
     slm_pg_draw_coverage},
    {"calibration", "Calibration", "how sure the answers are (%)", "how many are right (%)",
     "SELECT calibration FROM slm_evaluate('SELECT body, label FROM tickets', classifier => 'topics')",
     {{{"confidence"}, SLM_PLOT_NUMBER, true}, {{"accuracy"}, SLM_PLOT_NUMBER, true}, {{"rows"}, SLM_PLOT_NUMBER, false},
      {{"series"}, SLM_PLOT_TEXT, false}},
     slm_pg_draw_calibration},
    {"confusion", "Confusion", "given", "expected",
     "SELECT label AS expected, slm_classify(body, classifier => 'topics') AS given, count(*) AS rows FROM tickets GROUP BY 1, 2",
     {{{"expected"}, SLM_PLOT_TEXT, true}, {{"given"}, SLM_PLOT_TEXT, true}, {{"rows"}, SLM_PLOT_NUMBER, false}},
     slm_pg_draw_confusion},
    {"cost", "Accuracy over cost", "cost of a million rows", "accuracy (%)",
     "SELECT * FROM slm_compare('SELECT body, label FROM tickets', '{\"trained\": {\"classifier\": \"topics\"}}')",
     {{{"candidate"}, SLM_PLOT_TEXT, true}, {{"accuracy"}, SLM_PLOT_NUMBER, true}, {{"cost_per_million_rows"}, SLM_PLOT_NUMBER, true},
      {{"accuracy_low"}, SLM_PLOT_NUMBER, false}, {{"accuracy_high"}, SLM_PLOT_NUMBER, false}},
     slm_pg_draw_cost},
    {"usage", "Usage", "day (UTC)", "tokens a day",
     "SELECT day, function, tokens FROM slm.usage",
     {{{"day"}, SLM_PLOT_DAY, true}, {{"tokens", "cpu_seconds", "calls"}, SLM_PLOT_NUMBER, true},
      {{"series", "function", "model"}, SLM_PLOT_TEXT, false}},
     slm_pg_draw_usage},
    {"line", "", "x", "y", "SELECT day AS x, sum(tokens) AS y, role AS series FROM slm.usage GROUP BY 1, 3",
     {{{"x"}, SLM_PLOT_NUMBER_OR_DAY, true}, {{"y"}, SLM_PLOT_NUMBER, true}, {{"series"}, SLM_PLOT_TEXT, false}},
     slm_pg_draw_line},
    {"bar", "", "", "", "SELECT label AS x, count(*) AS y FROM tickets GROUP BY 1 ORDER BY 2 DESC",
     {{{"x"}, SLM_PLOT_TEXT, true}, {{"y"}, SLM_PLOT_NUMBER, true}},
     slm_pg_draw_bar},
};

static const SlmPlotKind *kind_named(const char *name)
{
    for (int k = 0; k < (int) lengthof(kinds); k++)
        if (strcmp(kinds[k].name, name) == 0)
            return &kinds[k];
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown kind of picture \"%s\"", name),
                    errhint("The kinds are coverage, calibration, confusion, cost, usage, line and bar.")));
    return NULL;
}

static const char *words_arg(FunctionCallInfo fcinfo, int i, const char *otherwise)
{
    return PG_ARGISNULL(i) ? otherwise : slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(i), NULL);
}

Datum slm_pg_plot(PG_FUNCTION_ARGS)
{
    SlmPlot plot = {0};
    SlmSvg svg;
    int width = slm_pg_int_arg(fcinfo, 5, "width", 720, 320, 2000), height = slm_pg_int_arg(fcinfo, 6, "height", 420, 240, 2000);

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("query and kind must not be null"),
                        errhint("For example: SELECT slm_plot('%s', 'usage');", kind_named("usage")->example)));
    plot.kind = kind_named(text_to_cstring(PG_GETARG_TEXT_PP(1)));
    plot.title = words_arg(fcinfo, 2, plot.kind->title);
    plot.x_label = words_arg(fcinfo, 3, plot.kind->x_label);
    plot.y_label = words_arg(fcinfo, 4, plot.kind->y_label);
    slm_pg_plot_read(&plot, text_to_cstring(PG_GETARG_TEXT_PP(0)));
    if (strcmp(plot.kind->name, "bar") == 0)
        height = Max(height, Min(SLM_PLOT_TOP + SLM_PLOT_BOTTOM + 16 * plot.n, 2000));
    slm_svg_begin(&svg, width, height, plot.title[0] != '\0' ? plot.title : plot.kind->name,
                  psprintf("%s: %s, %s", plot.kind->name, plot.y_label, plot.x_label));
    plot.kind->draw(&svg, &plot);
    PG_RETURN_TEXT_P(slm_svg_end(&svg));
}

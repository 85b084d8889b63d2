/*
 * svg.h: a picture as one SVG text, for light and dark (svg.c).
 *
 * Colours and fonts are classes of a style sheet of its own, so that the reader's colour scheme decides; nothing from outside is named.
 * Texts are UTF-8 and hostile: they become character data only, without what XML or the reading direction would take for more, and are
 * cut to the room that they have.
 */
#ifndef SLM_PG_SVG_H
#define SLM_PG_SVG_H

#include "postgres.h"

#include "lib/stringinfo.h"

#define SLM_SVG_COLOURS 8
#define SLM_SVG_FONT 12 /* pixels */

typedef struct SlmSvg {
    StringInfoData out;
    int width, height; /* pixels, of the picture as it was drawn; it scales */
} SlmSvg;

/* The head, with title and description for those who do not see it. */
void slm_svg_begin(SlmSvg *svg, int width, int height, const char *title, const char *description);
/* The whole text. */
text *slm_svg_end(SlmSvg *svg);

/* Marks. classes: of the style sheet, constants, as "slm-line slm-s0".  tip: what a mark says when it is pointed at, or NULL. */
void slm_svg_line(SlmSvg *svg, double x1, double y1, double x2, double y2, const char *classes);
void slm_svg_rect(SlmSvg *svg, double x, double y, double width, double height, const char *classes, double opacity, const char *tip);
void slm_svg_circle(SlmSvg *svg, double x, double y, double radius, const char *classes, const char *tip);
/* Through points, [n]; closed: back to the first. */
void slm_svg_path(SlmSvg *svg, const double *x, const double *y, int n, bool closed, const char *classes);
/* At most `room` pixels of a text; turned: read upwards. */
void slm_svg_text(SlmSvg *svg, double x, double y, double room, bool turned, const char *classes, const char *utf8);

/* About how many pixels a text takes. */
double slm_svg_width(const char *utf8);

#endif

/*
 * svg.c: the marks of a picture (svg.h).
 *
 *   <svg> style, paper ── grid and axes ── marks, each maybe with a <title> ── texts </svg>
 *
 * The paper is painted, as a page may be light where the reader's system is dark.  Colours of series are told apart by people who see no
 * red or green (after Okabe and Ito) and have a contrast of 3 to 1 and more with the paper.
 */
#include "pg/measure/svg.h"

#include "pg/base/encoding.h"

#define STYLE                                                                                                                             \
    ".slm-p{fill:#fff}.slm-t{fill:#1f2328;font:12px system-ui,-apple-system,\"Segoe UI\",Helvetica,Arial,sans-serif}"                     \
    ".slm-h{font-size:15px;font-weight:600}.slm-u{fill:#59636e}.slm-m{text-anchor:middle}.slm-e{text-anchor:end}.slm-o{fill:#fff}"       \
    ".slm-g{stroke:#d8dee4;stroke-width:1}.slm-a{stroke:#59636e;stroke-width:1}.slm-d{stroke:#59636e;stroke-width:1.5;"                  \
    "stroke-dasharray:5 4;fill:none}.slm-l{fill:none;stroke-width:2}.slm-b{fill-opacity:.18}"                                            \
    ".slm-f0{fill:#0063a8}.slm-f1{fill:#c04a00}.slm-f2{fill:#00795a}.slm-f3{fill:#a3468a}.slm-f4{fill:#8a6a00}.slm-f5{fill:#2f82b0}"    \
    ".slm-f6{fill:#5b4bb7}.slm-f7{fill:#6e7781}"                                                                                         \
    ".slm-s0{stroke:#0063a8}.slm-s1{stroke:#c04a00}.slm-s2{stroke:#00795a}.slm-s3{stroke:#a3468a}.slm-s4{stroke:#8a6a00}"               \
    ".slm-s5{stroke:#2f82b0}.slm-s6{stroke:#5b4bb7}.slm-s7{stroke:#6e7781}"
#define DARK                                                                                                                              \
    "@media (prefers-color-scheme:dark){.slm-p{fill:#0d1117}.slm-t{fill:#e6edf3}.slm-u{fill:#9ea7b3}.slm-o{fill:#0d1117}"                \
    ".slm-g{stroke:#30363d}.slm-a,.slm-d{stroke:#9ea7b3}.slm-b{fill-opacity:.28}"                                                        \
    ".slm-f0{fill:#58a6ff}.slm-f1{fill:#ff9a57}.slm-f2{fill:#3fcf9e}.slm-f3{fill:#e58ccd}.slm-f4{fill:#e3b341}.slm-f5{fill:#8ecbf0}"    \
    ".slm-f6{fill:#b3a5ff}.slm-f7{fill:#9ea7b3}"                                                                                         \
    ".slm-s0{stroke:#58a6ff}.slm-s1{stroke:#ff9a57}.slm-s2{stroke:#3fcf9e}.slm-s3{stroke:#e58ccd}.slm-s4{stroke:#e3b341}"               \
    ".slm-s5{stroke:#8ecbf0}.slm-s6{stroke:#b3a5ff}.slm-s7{stroke:#9ea7b3}}"

#define TIP_BYTES 400

/* ---- texts */

/* The character at s, which is UTF-8, and its bytes. */
static uint32 character(const unsigned char *s, int *bytes)
{
    static const unsigned char masks[] = {0x7f, 0x1f, 0x0f, 0x07};
    int n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32 c = s[0] & masks[n - 1];

    for (int i = 1; i < n && s[i] != 0; i++)
        c = c << 6 | (s[i] & 0x3f);
    *bytes = (int) strnlen((const char *) s, (size_t) n);
    return c;
}

/* Control characters, those of the reading direction, and what is no character in XML. */
static bool is_harmful(uint32 c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff || (c >= 0xd800 && c < 0xe000) || (c & 0xfffe) == 0xfffe || c > 0x10ffff;
}

static double width_of(uint32 c)
{
    if (c >= 0x1100)
        return c >= 0x1f000 || (c < 0x1e00 ? c < 0x1200 : c >= 0x2e80) ? SLM_SVG_FONT * 1.05 : SLM_SVG_FONT * 0.62;
    if (c < 0x80 && strchr("iljtfI.,:;!|'()[] ", (int) c) != NULL)
        return SLM_SVG_FONT * 0.34;
    if (c == 'm' || c == 'w' || c == 'M' || c == 'W' || c == '%' || c == '@')
        return SLM_SVG_FONT * 0.88;
    return SLM_SVG_FONT * (c < 'a' && c > '9' ? 0.68 : 0.58);
}

double slm_svg_width(const char *utf8)
{
    double width = 0;
    int bytes;

    for (const unsigned char *s = (const unsigned char *) utf8; *s != 0; s += bytes)
        width += width_of(character(s, &bytes));
    return width;
}

/* As character data, at most so many pixels and bytes of it. */
static void put_escaped(SlmSvg *svg, const char *utf8, double room, int most)
{
    bool cut = slm_svg_width(utf8) > room;
    double width = 0, allowed = cut ? Max(room - 3 * width_of('.'), 0) : room;
    const unsigned char *s = (const unsigned char *) utf8;
    int bytes;

    for (; *s != 0; s += bytes) {
        uint32 c = character(s, &bytes);

        width += width_of(c);
        if (width > allowed || (const char *) s - utf8 > most)
            break;
        if (is_harmful(c))
            appendStringInfoChar(&svg->out, c == '\n' || c == '\t' || c == '\r' ? ' ' : '?');
        else if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')
            appendStringInfo(&svg->out, "&#%u;", c);
        else
            appendBinaryStringInfo(&svg->out, (const char *) s, bytes);
    }
    if (*s != 0)
        appendStringInfoString(&svg->out, "...");
}

static void put_tip(SlmSvg *svg, const char *tip, const char *element)
{
    if (tip == NULL) {
        appendStringInfoString(&svg->out, "/>");
        return;
    }
    appendStringInfoString(&svg->out, "><title>");
    put_escaped(svg, tip, 1e9, TIP_BYTES);
    appendStringInfo(&svg->out, "</title></%s>", element);
}

void slm_svg_text(SlmSvg *svg, double x, double y, double room, bool turned, const char *classes, const char *utf8)
{
    appendStringInfo(&svg->out, "\n<text class=\"slm-t %s\" x=\"%.1f\" y=\"%.1f\"", classes, x, y);
    if (turned)
        appendStringInfo(&svg->out, " transform=\"rotate(-90 %.1f %.1f)\"", x, y);
    appendStringInfoChar(&svg->out, '>');
    put_escaped(svg, utf8, room, 4000);
    appendStringInfoString(&svg->out, "</text>");
}

/* ---- marks */

void slm_svg_line(SlmSvg *svg, double x1, double y1, double x2, double y2, const char *classes)
{
    appendStringInfo(&svg->out, "\n<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", classes, x1, y1, x2, y2);
}

void slm_svg_rect(SlmSvg *svg, double x, double y, double width, double height, const char *classes, double opacity, const char *tip)
{
    appendStringInfo(&svg->out, "\n<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"", classes, x, y, width, height);
    if (opacity < 1)
        appendStringInfo(&svg->out, " fill-opacity=\"%.2f\"", opacity);
    put_tip(svg, tip, "rect");
}

void slm_svg_circle(SlmSvg *svg, double x, double y, double radius, const char *classes, const char *tip)
{
    appendStringInfo(&svg->out, "\n<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", classes, x, y, radius);
    put_tip(svg, tip, "circle");
}

void slm_svg_path(SlmSvg *svg, const double *x, const double *y, int n, bool closed, const char *classes)
{
    appendStringInfo(&svg->out, "\n<path class=\"%s\" d=\"", classes);
    for (int i = 0; i < n; i++)
        appendStringInfo(&svg->out, "%s%.1f %.1f", i == 0 ? "M" : "L", x[i], y[i]);
    appendStringInfo(&svg->out, "%s\"/>", closed ? "Z" : "");
}

/* ---- the whole */

void slm_svg_begin(SlmSvg *svg, int width, int height, const char *title, const char *description)
{
    initStringInfo(&svg->out);
    svg->width = width;
    svg->height = height;
    appendStringInfo(&svg->out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n"
                     "<title>", width, height, width, height);
    put_escaped(svg, title, 1e9, TIP_BYTES);
    appendStringInfoString(&svg->out, "</title>\n<desc>");
    put_escaped(svg, description, 1e9, TIP_BYTES);
    appendStringInfo(&svg->out, "</desc>\n<style>%s%s</style>", STYLE, DARK);
    slm_svg_rect(svg, 0, 0, width, height, "slm-p", 1, NULL);
}

text *slm_svg_end(SlmSvg *svg)
{
    appendStringInfoString(&svg->out, "\n</svg>\n");
    return slm_pg_text_from_utf8(svg->out.data, (size_t) svg->out.len);
}

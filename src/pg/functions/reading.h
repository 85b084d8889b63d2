/*
 * reading.h: how an encoder reads a text: whole where it fits, else in windows, whose vectors come one after the other.
 *
 *   a vector of the text     windows as long as the model reads; their normalized mean            slm_embed, training
 *   a comparison with it     sentences, and parts of those that are long; the best counts         labels, similarity, rerank
 *
 * docs/LONG_TEXTS.md has the figures that made it so.  What is read in windows is said to be longer than the model reads.
 */
#ifndef SLM_PG_READING_H
#define SLM_PG_READING_H

#include "postgres.h"

#include "fmgr.h"

#include "pg/run/opened.h"
#include "pg/run/work.h"

/* The argument truncate: NULL, true, false. */
typedef enum SlmTruncate { SLM_TRUNCATE_DEFAULT, SLM_TRUNCATE_CUT, SLM_TRUNCATE_REFUSE } SlmTruncate;
SlmTruncate slm_pg_truncate_arg(FunctionCallInfo fcinfo, int i);

/* Labels whose spans are to be found in a text, by a model that can_find. */
typedef struct SlmSought {
    const char *const *labels; /* [n] UTF-8, not empty */
    int n;
    double threshold;
} SlmSought;

typedef struct SlmText SlmText;

/* Labels that are read together with a text, by a model that can (joint.h). Strings are UTF-8 and live as long as the work. */
typedef struct SlmBeside {
    const char *instruction;         /* before the text, or NULL */
    const char *const *labels;       /* [n] */
    const char *const *descriptions; /* [n] or NULL; elements may be NULL */
    int n;
    size_t tokens;                   /* that they take */
} SlmBeside;
/* Counts their tokens. ERROR where they leave next to no room for a text. */
void slm_pg_measure_beside(const SlmText *text, SlmBeside *beside);

/* What comes of sentences or labels beside a text: for those that exclude each other a softmax over weights; fits: the probability that
 * each is right, alone. */
typedef struct SlmWeighed {
    int n;
    double *weights, *fits; /* [n] */
} SlmWeighed;

/* A text that is to be read. All strings are UTF-8 and must live as long as the work. */
struct SlmText {
    SlmOpenModel *entry;
    const char *prompt; /* put before the text, or each window of it; maybe empty */
    const char *query;  /* of a pair for a cross-encoder, before the text; else NULL */
    const char *hypothesis; /* of a pair, behind the text; else NULL */
    const SlmBeside *beside; /* labels that are read with it; else NULL */
    const char *text;
    size_t length;
    SlmTruncate truncate;
    bool longer; /* than the model reads: filled by slm_pg_measure */
    const SlmSought *sought; /* NULL: none */
    const size_t *windows; /* [2 * n_windows] of such a text: filled by slm_pg_measure */
    size_t n_windows;
};

/* Finds out whether the text is longer than the model reads; an ERROR where truncate is false. */
void slm_pg_measure(SlmText *text);

/* Tokens that slm_embed adds to a text: special ones and those of the document prompt. */
size_t slm_pg_embed_adds(const SlmOpenModel *entry);

/* Is it read in windows? */
static inline bool slm_pg_in_windows(const SlmText *t)
{
    return t->longer && t->truncate == SLM_TRUNCATE_DEFAULT;
}

/* For begin: the work says of such a text that it is longer than the model reads. */
void slm_pg_note_windows(SlmWork *work, const SlmText *t);

/* Takes what the encoder made of a window: the vector [n], the outputs of a head, or a cross-encoder's score [1], good until it returns. */
typedef void (*SlmTake)(void *arg, const float *vector, size_t n, const char *window, size_t length);

/* The same of a text whose labels are asked for: what was found in a window, as SLM_MODE_SPANS answers. */
typedef void (*SlmTakeSpans)(void *arg, const slm_result *spans, const char *window, size_t length);
/* Reads such a text, which has been measured and has words, as slm_pg_read does. */
void slm_pg_read_spans(SlmWork *work, const SlmText *text, SlmTakeSpans take, void *arg);

/* For generative models: submits a request whose last segment is the row's text.  What is longer than fits is cut, which the work says
 * where truncate is not given, or an ERROR where it is false. */
void slm_pg_submit_cut(SlmWork *work, SlmOpenModel *entry, slm_request *request, slm_segment *row, SlmTruncate truncate);

/* OVERLAP: as long as the model reads, each beginning with the last quarter of the one before. */
typedef enum SlmWindowSize { SLM_WINDOWS_WHOLE, SLM_WINDOWS_HALF, SLM_WINDOWS_SENTENCES, SLM_WINDOWS_OVERLAP } SlmWindowSize;

/* Reads a text that has been measured, as part of a work: take is called for each window in order before the work is done; once where the
 * text is not read in windows. */
void slm_pg_read(SlmWork *work, const SlmText *text, SlmWindowSize size, SlmTake take, void *arg);

/* What follows is filled when the work is done, and palloc'ed in CurrentMemoryContext. */

typedef struct SlmVector {
    float *x; /* [n] */
    int n;
} SlmVector;
/* The vector of a text: of windows, the normalized mean. */
SlmVector *slm_pg_read_vector(SlmWork *work, const SlmText *text);
/* The cosine with each of n vectors, [n]: of windows, of the one that comes nearest.  The vectors may come of readings begun before. */
double *slm_pg_read_cosines(SlmWork *work, const SlmText *text, const float *vectors, int n);
/* A cross-encoder's score of the text beside its query: of windows, the highest. */
double *slm_pg_read_relevance(SlmWork *work, const SlmText *text);

#endif

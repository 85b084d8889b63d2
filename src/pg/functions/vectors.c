/*
 * vectors.c: slm_similarity and slm_distance of stored vectors.
 *
 *   real[] | double precision[] ──┬── both real: sums of floats, nothing is copied
 *                                 ├── both double precision: sums of doubles
 *                                 └── one of each (slm_vector_support): the real one is widened, which is exact
 *
 * Everything is computed in double precision in a fixed order, so that the functions are immutable: the same bits on every machine, in
 * every plan.  Doubles whose squares leave the range of doubles are divided by a power of two first.  An argument is used where it lies
 * unless it was toasted.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "nodes/supportnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"

PG_FUNCTION_INFO_V1(slm_pg_vector_similarity);
PG_FUNCTION_INFO_V1(slm_pg_vector_distance);
PG_FUNCTION_INFO_V1(slm_pg_vector_support);

typedef enum Metric { METRIC_COSINE, METRIC_L2, METRIC_DOT } Metric;

typedef struct Vector {
    ArrayType *array;
    const float *floats;   /* [n], or NULL */
    const double *doubles; /* [n], or NULL */
    int n;
} Vector;

/* Vectors of one width stand at the same places of all pages, and pages that were read one after the other lie so in shared buffers: while
 * this vector is computed, the one a page further on is fetched, with its row's head, into the second level (2.9 instead of 2.2 million
 * vectors of 384 reals a second and core; docs/SEARCH.md).  Where something else lies there, nothing is lost but the asking. */
static inline void prefetch_next(const void *data, Size bytes)
{
    for (Size at = 0; at < bytes + 64; at += 64)
        __builtin_prefetch((const char *) data + BLCKSZ - 64 + at, 0, 1);
}

static Vector read_vector(Datum datum)
{
    ArrayType *array = DatumGetArrayTypeP(datum);
    Vector v = {.array = array};
    const void *data = (char *) array + (ARR_HASNULL(array) ? (Size) array->dataoffset : ARR_OVERHEAD_NONULLS(1));

    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("a vector must be a one-dimensional array"),
                        errdetail("The array has %d dimensions.", ARR_NDIM(array))));
    if (ARR_NDIM(array) == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a vector must have at least one component")));
    if (ARR_HASNULL(array) && array_contains_nulls(array))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a vector must not contain nulls")));
    v.n = ARR_DIMS(array)[0];
    if (ARR_ELEMTYPE(array) == FLOAT4OID)
        v.floats = data;
    else if (ARR_ELEMTYPE(array) == FLOAT8OID)
        v.doubles = data;
    else
        elog(ERROR, "a vector must be an array of real or double precision");
    if ((void *) array == DatumGetPointer(datum))
        prefetch_next(data, (Size) v.n * (v.floats != NULL ? sizeof(float) : sizeof(double)));
    return v;
}

static void check_same_length(const Vector *a, const Vector *b)
{
    if (a->n != b->n)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("vectors of different lengths cannot be compared: %d and %d components", a->n, b->n),
                        errhint("Compare embeddings of one model.")));
}

static void check_finite(const Vector *v)
{
    for (int i = 0; i < v->n; i++)
        if (!isfinite(v->floats != NULL ? (double) v->floats[i] : v->doubles[i]))
            ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                            errmsg("component %d of a vector is not a finite number", i + 1)));
}

/* The components as doubles, divided by 2^exponent. */
static double *scaled(const Vector *v, int exponent)
{
    double *out = palloc(sizeof(double) * (Size) v->n);

    for (int i = 0; i < v->n; i++)
        out[i] = ldexp(v->floats != NULL ? (double) v->floats[i] : v->doubles[i], -exponent);
    return out;
}

/* Exponent of the largest magnitude: divided by 2^exponent all components are below 1. */
static int exponent_of(const Vector *v)
{
    double largest = 0;
    int exponent = 0;

    for (int i = 0; i < v->n; i++) {
        double x = fabs(v->floats != NULL ? (double) v->floats[i] : v->doubles[i]);

        largest = x > largest ? x : largest;
    }
    (void) frexp(largest, &exponent);
    return exponent;
}

/* Makes both vectors float or both double. */
static void widen(Vector *a, Vector *b)
{
    Vector *narrow = a->floats != NULL ? a : b;
    double *doubles;

    if ((a->floats != NULL) == (b->floats != NULL))
        return;
    doubles = palloc(sizeof(double) * (Size) narrow->n);
    for (int i = 0; i < narrow->n; i++)
        doubles[i] = (double) narrow->floats[i];
    narrow->doubles = doubles;
    narrow->floats = NULL;
}

static slm_pair_sums products(const Vector *a, const Vector *b)
{
    return a->floats != NULL ? slm_vector_products(a->floats, b->floats, (size_t) a->n)
                             : slm_vector_products_double(a->doubles, b->doubles, (size_t) a->n);
}

/* Is x a sum of squares that neither overflowed nor lost places at the lower end? */
static inline bool in_range(double x)
{
    return x > 1e-140 && x < 1e140;
}

/* cos(2^i a, 2^k b) = cos(a, b). */
static slm_pair_sums scaled_products(const Vector *a, const Vector *b)
{
    slm_pair_sums sums;
    double *x, *y;

    check_finite(a);
    check_finite(b);
    x = scaled(a, exponent_of(a));
    y = scaled(b, exponent_of(b));
    sums = slm_vector_products_double(x, y, (size_t) a->n);
    pfree(x);
    pfree(y);
    if (sums.aa == 0 || sums.bb == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a vector of zeros has no direction to compare"),
                        errhint("Leave such rows out, or use slm_distance(a, b, 'l2') or slm_distance(a, b, 'dot').")));
    return sums;
}

static double cosine(const Vector *a, const Vector *b)
{
    slm_pair_sums sums = products(a, b);
    double value;

    if (!in_range(sums.aa) || !in_range(sums.bb))
        sums = scaled_products(a, b);
    value = sums.ab / sqrt(sums.aa * sums.bb);
    return value > 1 ? 1 : value < -1 ? -1 : value;
}

static double in_double(double value)
{
    if (!isfinite(value))
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("the distance of the vectors is out of range")));
    return value;
}

static double euclidean(const Vector *a, const Vector *b)
{
    double sum = a->floats != NULL ? slm_vector_squares(a->floats, b->floats, (size_t) a->n)
                                   : slm_vector_squares_double(a->doubles, b->doubles, (size_t) a->n);
    int exponent;
    double *x, *y;

    if (in_range(sum))
        return sqrt(sum);
    check_finite(a);
    check_finite(b);
    exponent = Max(exponent_of(a), exponent_of(b)) + 1;
    x = scaled(a, exponent);
    y = scaled(b, exponent);
    sum = slm_vector_squares_double(x, y, (size_t) a->n);
    pfree(x);
    pfree(y);
    return in_double(ldexp(sqrt(sum), exponent));
}

static double inner_product(const Vector *a, const Vector *b)
{
    double ab = products(a, b).ab;

    if (!isfinite(ab)) {
        check_finite(a);
        check_finite(b);
    }
    return in_double(ab);
}

static Metric parse_metric(const text *name)
{
    const char *s = VARDATA_ANY(name);
    int n = (int) VARSIZE_ANY_EXHDR(name);

    if (n == 6 && memcmp(s, "cosine", 6) == 0)
        return METRIC_COSINE;
    if (n == 2 && memcmp(s, "l2", 2) == 0)
        return METRIC_L2;
    if (n == 3 && memcmp(s, "dot", 3) == 0)
        return METRIC_DOT;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown metric \"%s\"", text_to_cstring(name)),
                    errhint("The metrics are cosine (1 - cosine), l2 (Euclidean) and dot (minus the inner product).")));
}

static double compare(FunctionCallInfo fcinfo, Metric metric)
{
    Vector a = read_vector(PG_GETARG_DATUM(0)), b = read_vector(PG_GETARG_DATUM(1)), x = a, y = b;
    double result;

    check_same_length(&a, &b);
    widen(&x, &y);
    result = metric == METRIC_COSINE ? cosine(&x, &y) : metric == METRIC_L2 ? euclidean(&x, &y) : inner_product(&x, &y);
    if (x.doubles != a.doubles)
        pfree((void *) x.doubles);
    if (y.doubles != b.doubles)
        pfree((void *) y.doubles);
    PG_FREE_IF_COPY(a.array, 0);
    PG_FREE_IF_COPY(b.array, 1);
    return result;
}

Datum slm_pg_vector_similarity(PG_FUNCTION_ARGS)
{
    PG_RETURN_FLOAT8(compare(fcinfo, METRIC_COSINE));
}

Datum slm_pg_vector_distance(PG_FUNCTION_ARGS)
{
    Metric metric = parse_metric(PG_GETARG_TEXT_PP(2));
    double result = compare(fcinfo, metric);

    PG_RETURN_FLOAT8(metric == METRIC_COSINE ? 1 - result : metric == METRIC_DOT ? 0 - result : result);
}

/* ---- a real[] column beside a double precision[] parameter

 * The parser converts the column, element by element, some microseconds a row.  The functions read either type, so the conversion is taken
 * out of the call; widening here is as exact as there. */

static Node *without_widening(Node *argument)
{
    const ArrayCoerceExpr *coercion = (const ArrayCoerceExpr *) argument;

    if (IsA(argument, ArrayCoerceExpr) && coercion->resulttype == FLOAT8ARRAYOID && exprType((Node *) coercion->arg) == FLOAT4ARRAYOID)
        return (Node *) coercion->arg;
    return argument;
}

Datum slm_pg_vector_support(PG_FUNCTION_ARGS)
{
    SupportRequestSimplify *request = (SupportRequestSimplify *) PG_GETARG_POINTER(0);
    FuncExpr *call;
    bool changed = false;
    List *args = NIL;
    ListCell *lc;

    if (!IsA(request, SupportRequestSimplify))
        PG_RETURN_POINTER(NULL);
    foreach (lc, request->fcall->args) {
        args = lappend(args, without_widening(lfirst(lc)));
        changed = changed || llast(args) != lfirst(lc);
    }
    if (!changed)
        PG_RETURN_POINTER(NULL);
    call = makeNode(FuncExpr);
    *call = *request->fcall;
    call->args = args;
    PG_RETURN_POINTER(call);
}

/*
 * quantize.c: slm_quantize_model, a new model from a loaded one.
 *
 *   image of the source ──slm_quantize_image──► <key>.img ──► row of slm.model_registry
 *
 * The key is the source's SHA-256, the layout, and a digest of how the image was made.
 *
 * The original file is not needed.  The row's source is the call itself, to be repeated where the image is missing.  Whoever makes a model
 * of another one owns it and may grant it, so the source must be the caller's own.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/threads.h"
#include "pg/functions/tokens.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_quantize_model);

typedef struct Requantize {
    SlmLoad load; /* first: SlmLoad * is Requantize * */
    SlmOpenModel *from;
    const char *type;
} Requantize;

static slm_status make_from_image(SlmLoad *load, const char *temporary, slm_error *err)
{
    Requantize *q = (Requantize *) load;
    slm_import_options options = {.quantization = q->type, .n_threads = slm_pg_take_threads()};

    return slm_quantize_image(slm_pg_opened_model(q->from), temporary, &options, slm_pg_loading_report, NULL, SLM_STOP, &load->info, err);
}

static char *upper_ascii(const char *s)
{
    char *copy = pstrdup(s);

    for (char *c = copy; *c != '\0'; c++)
        *c = (char) pg_ascii_toupper((unsigned char) *c);
    return copy;
}

/* slm_quantize_model(source, target, type): the part that makes files. */
static void quantize_work(Requantize *q, const char *source, bool registered)
{
    char *key = pstrdup(slm_pg_owned_model(source)->key);

    slm_pg_store_lock(key); /* nobody drops the source from here on */
    if (!slm_pg_key_in_use(key))
        slm_pg_unknown_model(source);
    q->from = slm_pg_use_model(cstring_to_text(source), SLM_TASK_ANY);
    slm_pg_loading_begin(q->load.name);
    q->load.source = psprintf("slm_quantize_model(%s, %s, %s)", quote_literal_cstr(source), quote_literal_cstr(q->load.name),
                              quote_literal_cstr(q->type));
    slm_pg_load_key(&q->load, pnstrdup(key, 64), psprintf("quantized\n%s\n%s", key, q->type));
    slm_pg_load_register(&q->load, registered);
}

static void put_perplexity(const char *model, const text *sample, Datum *value, bool *isnull)
{
    *isnull = true;
    if (sample != NULL)
        *value = Float8GetDatum(slm_pg_perplexity_of(slm_pg_use_model(cstring_to_text(model), SLM_TASK_GENERATE), sample, isnull));
}

Datum slm_pg_quantize_model(PG_FUNCTION_ARGS)
{
    Requantize q = {.load = {.verb = "quantize model", .phase = "quantizing", .make = make_from_image, .probe = slm_pg_load_probe_model}};
    const char *source = slm_pg_name_argument(fcinfo, 0, "the name of a model");
    const text *sample = slm_pg_text_arg(fcinfo, 3);
    Datum values[6];
    bool nulls[6] = {false}, registered;
    TupleDesc desc;

    slm_pg_check_may_load(fcinfo, "make a model of another", false);
    q.load.name = slm_pg_name_argument(fcinfo, 1, "the name of the new model");
    q.type = upper_ascii(slm_pg_name_argument(fcinfo, 2, "the type to quantize to"));
    q.load.options = slm_pg_no_options();
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    slm_pg_check_name("model", q.load.name);
    (void) slm_pg_owned_model(source);
    registered = slm_pg_name_registered(q.load.name);
    put_perplexity(source, sample, &values[4], &nulls[4]); /* first: a sample that is too long costs no image */
    if (!registered)
        slm_pg_refuse_read_only("slm_quantize_model()");
    PG_TRY();
    {
        quantize_work(&q, source, registered);
    }
    PG_FINALLY();
    {
        slm_pg_loading_end();
    }
    PG_END_TRY();
    values[0] = CStringGetTextDatum(q.load.name);
    values[1] = CStringGetTextDatum(slm_pg_cstring_from_utf8(q.load.info.quantization));
    values[2] = Int64GetDatum((int64) slm_pg_info(slm_pg_use_model(cstring_to_text(source), SLM_TASK_ANY))->image_bytes);
    values[3] = Int64GetDatum((int64) q.load.info.image_bytes);
    put_perplexity(q.load.name, sample, &values[5], &nulls[5]);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

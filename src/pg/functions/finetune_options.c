/*
 * finetune_options.c: the options of a fine-tuning, JSON to numbers, all checked.
 *
 * Defaults: rank 8 on all projections, rate 1e-3 (embedding models 5e-4) with a twentieth of warm-up, three epochs of steps of 512 tokens;
 * a tenth of the rows is held out.  They are what SmolLM2-135M learns well with on a few hundred rows (docs/FINE_TUNING.md).
 */
#include "pg/functions/finetune.h"

#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "pg/base/args.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"

#define DEFAULT_VALIDATION 0.1
#define GENERATOR_RATE 1e-3
#define GENERATOR_TOKENS 512
#define ENCODER_RATE 5e-4
#define ENCODER_TOKENS 4096

#define NOT_GIVEN (-1.0f)
#define DEFAULT_TEMPERATURE 2
#define DEFAULT_MIX 0.5f

#define HINT_OPTIONS                                                                                                                 \
    "Options are system, instruction, labels, schema, show_schema, rank, alpha, dropout, targets, layers, rate, warmup, weight_decay, " \
    "clip, kept, epochs, step_tokens, step_texts, scale, validation, validation_query, patience, max_tokens, too_long, activate, seed, " \
    "and logits, logits_of, temperature, mix and renormalize."

static pg_noreturn void bad_option(const char *key, const char *must);

static void bad_option(const char *key, const char *must)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" must be %s", key, must), errhint(HINT_OPTIONS)));
    pg_unreachable();
}

static double number_of(const char *key, const JsonbValue *value, double min, double max, bool whole)
{
    return slm_pg_option_number(key, value, min, max, whole, HINT_OPTIONS);
}

static const char *text_of(const char *key, const JsonbValue *value)
{
    if (value->type != jbvString)
        bad_option(key, "a string");
    return slm_pg_utf8_from_cstring(pnstrdup(value->val.string.val, value->val.string.len));
}

static bool flag_of(const char *key, const JsonbValue *value)
{
    if (value->type != jbvBool)
        bad_option(key, "true or false");
    return value->val.boolean;
}

static int choice_of(const char *key, const JsonbValue *value, const char *const *names, int n, const char *must)
{
    for (int i = 0; value->type == jbvString && i < n; i++)
        if (value->val.string.len == (int) strlen(names[i]) && memcmp(value->val.string.val, names[i], strlen(names[i])) == 0)
            return i;
    bad_option(key, must);
}

/* The strings of an array of 1 to max. */
static const char **strings_of(const char *key, const JsonbValue *value, uint32 max, int *n)
{
    const char **strings;
    JsonbContainer *array = value->type == jbvBinary ? value->val.binary.data : NULL;
    uint32 count = array != NULL && JsonContainerIsArray(array) ? JsonContainerSize(array) : 0;

    if (count == 0 || count > max)
        bad_option(key, psprintf("an array of 1 to %u strings", max));
    strings = palloc(sizeof(char *) * count);
    for (uint32 i = 0; i < count; i++) {
        strings[i] = text_of(key, getIthJsonbValueFromContainer(array, i));
        if (strings[i][0] == '\0')
            bad_option(key, "an array of strings that are not empty");
    }
    *n = (int) count;
    return strings;
}

static uint32_t targets_of(const JsonbValue *value)
{
    static const char *const names[] = {"q", "k", "v", "o", "gate", "up", "down"};
    int n;
    const char **chosen = strings_of("targets", value, lengthof(names), &n);
    uint32_t bits = 0;

    for (int i = 0; i < n; i++) {
        int t = 0;

        while (t < (int) lengthof(names) && strcmp(names[t], chosen[i]) != 0)
            t++;
        if (t == (int) lengthof(names))
            bad_option("targets", "an array of q, k, v, o, gate, up and down");
        bits |= 1u << t;
    }
    return bits;
}

static char *schema_of(const JsonbValue *value)
{
    if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
        bad_option("schema", "a JSON Schema, an object");
    return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
}

static bool read_numbers(const char *key, const JsonbValue *value, SlmTuneOptions *o)
{
    slm_finetune_options *e = &o->engine;

    if (strcmp(key, "rank") == 0)
        e->rank = (uint32_t) number_of(key, value, 1, 256, true);
    else if (strcmp(key, "alpha") == 0)
        e->alpha = (float) number_of(key, value, 0.01, 65536, false);
    else if (strcmp(key, "dropout") == 0)
        e->dropout = (float) number_of(key, value, 0, 0.9, false);
    else if (strcmp(key, "layers") == 0)
        e->layers = (uint32_t) number_of(key, value, 1, 10000, true);
    else if (strcmp(key, "rate") == 0)
        e->rate = number_of(key, value, 1e-8, 1, false);
    else if (strcmp(key, "warmup") == 0)
        e->warmup = number_of(key, value, 0, 1, false);
    else if (strcmp(key, "weight_decay") == 0)
        e->decay = number_of(key, value, 0, 0.5, false);
    else if (strcmp(key, "clip") == 0)
        e->clip = number_of(key, value, 0, 1e6, false);
    else if (strcmp(key, "kept") == 0)
        e->kept = (float) number_of(key, value, 0.01, 1, false);
    else if (strcmp(key, "epochs") == 0)
        e->epochs = (uint32_t) number_of(key, value, 1, 1000, true);
    else if (strcmp(key, "step_tokens") == 0)
        e->step_tokens = (uint32_t) number_of(key, value, 1, 1e6, true);
    else if (strcmp(key, "step_texts") == 0)
        e->step_texts = (uint32_t) number_of(key, value, 6, 1024, true);
    else if (strcmp(key, "scale") == 0)
        e->scale = (float) number_of(key, value, 0.1, 1000, false);
    else if (strcmp(key, "patience") == 0)
        e->patience = (uint32_t) number_of(key, value, 0, 1000, true);
    else if (strcmp(key, "seed") == 0)
        e->seed = (uint64_t) number_of(key, value, 0, 1e15, true);
    else if (strcmp(key, "validation") == 0)
        o->validation = number_of(key, value, 0, 0.9, false);
    else if (strcmp(key, "logits") == 0)
        e->lesson.k = (uint32_t) number_of(key, value, 2, SLM_MOST_GUESSES, true);
    else if (strcmp(key, "temperature") == 0)
        e->lesson.temperature = (float) number_of(key, value, 0.1, 100, false);
    else if (strcmp(key, "mix") == 0)
        e->lesson.mix = (float) number_of(key, value, 0, 1, false);
    else if (strcmp(key, "max_tokens") == 0)
        o->max_tokens = (uint32_t) number_of(key, value, 2, 1e6, true);
    else
        return false;
    return true;
}

static bool read_others(const char *key, const JsonbValue *value, SlmTuneOptions *o)
{
    static const char *const activate[] = {"if_better", "always", "never"}, *const too_long[] = {"error", "skip"};

    if (strcmp(key, "system") == 0)
        o->system = text_of(key, value);
    else if (strcmp(key, "instruction") == 0)
        o->instruction = text_of(key, value);
    else if (strcmp(key, "validation_query") == 0)
        o->validation_query = slm_pg_cstring_from_utf8(text_of(key, value));
    else if (strcmp(key, "labels") == 0)
        o->labels = strings_of(key, value, 10000, &o->n_labels);
    else if (strcmp(key, "targets") == 0)
        o->engine.targets = targets_of(value);
    else if (strcmp(key, "schema") == 0)
        o->schema = schema_of(value);
    else if (strcmp(key, "show_schema") == 0)
        o->show_schema = flag_of(key, value);
    else if (strcmp(key, "logits_of") == 0)
        o->logits_of = slm_pg_cstring_from_utf8(text_of(key, value));
    else if (strcmp(key, "renormalize") == 0)
        o->engine.lesson.renormalize = flag_of(key, value);
    else if (strcmp(key, "too_long") == 0)
        o->skip_long = choice_of(key, value, too_long, lengthof(too_long), "\"error\" or \"skip\"") == 1;
    else if (strcmp(key, "activate") == 0)
        o->activate = (SlmTuneActivate) choice_of(key, value, activate, lengthof(activate), "\"if_better\", \"always\" or \"never\"");
    else
        return false;
    return true;
}

/* What belongs to "logits" has no meaning without it, and a teacher is always named. */
static void finish_lesson(SlmTuneOptions *o)
{
    slm_lesson *lesson = &o->engine.lesson;

    if ((lesson->k > 0) != (o->logits_of != NULL) ||
        (lesson->k == 0 && (lesson->temperature != NOT_GIVEN || lesson->mix != NOT_GIVEN || lesson->renormalize)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("\"logits\" and \"logits_of\" belong together, and \"temperature\", \"mix\" and \"renormalize\" to them"),
                        errhint("For example '{\"logits\": 16, \"logits_of\": \"large\", \"temperature\": 2, \"mix\": 0.5}'.")));
    if (lesson->temperature == NOT_GIVEN)
        lesson->temperature = DEFAULT_TEMPERATURE;
    if (lesson->mix == NOT_GIVEN)
        lesson->mix = DEFAULT_MIX;
}

void slm_pg_finetune_options(Jsonb *json, SlmTuneOptions *out)
{
    JsonbIterator *it;
    JsonbIteratorToken token;
    JsonbValue value;
    char *key = NULL;

    *out = (SlmTuneOptions){.engine = {.rank = 8,
                                       .targets = SLM_ADAPT_ALL,
                                       .warmup = 0.05,
                                       .decay = 0.01,
                                       .clip = 1,
                                       .epochs = 3,
                                       .step_texts = 48,
                                       .scale = 20,
                                       .lesson = {.temperature = NOT_GIVEN, .mix = NOT_GIVEN},
                                       .memory = (size_t) slm_guc_train_memory_kb * 1024,
                                       .stop = SLM_STOP},
                            .show_schema = true,
                            .validation = -1};
    if (!JB_ROOT_IS_OBJECT(json))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be a JSON object"),
                        errhint("For example '{\"epochs\": 3, \"system\": \"You answer for our shop.\"}'.")));
    it = JsonbIteratorInit(&json->root);
    while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE) {
        if (token == WJB_KEY)
            key = pnstrdup(value.val.string.val, value.val.string.len);
        if (token != WJB_VALUE || value.type == jbvNull)
            continue;
        if (!read_numbers(key, &value, out) && !read_others(key, &value, out))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown option \"%s\" of a fine-tuning", key),
                            errhint(HINT_OPTIONS)));
    }
    if (out->validation_query != NULL && out->validation >= 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"validation\" and \"validation_query\" exclude each other"),
                        errhint("Give a share of the rows, or a query of rows that are held out.")));
    if (out->validation < 0)
        out->validation = DEFAULT_VALIDATION;
    finish_lesson(out);
    if (out->engine.alpha == 0)
        out->engine.alpha = 2 * (float) out->engine.rank;
}

void slm_pg_finetune_defaults(SlmTuneOptions *options, bool generates)
{
    slm_finetune_options *e = &options->engine;

    if (e->rate == 0)
        e->rate = generates ? GENERATOR_RATE : ENCODER_RATE;
    if (e->step_tokens == 0)
        e->step_tokens = generates ? GENERATOR_TOKENS : ENCODER_TOKENS;
}

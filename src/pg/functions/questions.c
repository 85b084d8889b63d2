/*
 * questions.c: reading the questions of slm_decide (questions.h).
 *
 * Every key is known and has one meaning, or the call is refused with the path of the key: a question that is not understood as it was
 * meant would be answered all the same.
 */
#include "pg/functions/questions.h"

#include "utils/builtins.h"

#include "pg/base/encoding.h"

#define EXAMPLE "{\"refund\": {\"type\": \"yes_no\", \"instructions\": \"asks for a refund\"}}"
#define CHOICE_EXAMPLE "{\"type\": \"choice\", \"options\": [\"billing\", \"delivery\"]}"
#define SCALE_EXAMPLE "{\"type\": \"scale\", \"levels\": [\"calm\", \"annoyed\", \"angry\"]}"

#define refuse(path, hint, ...) \
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), \
                    errmsg("%s: %s", slm_pg_cstring_from_utf8(path), psprintf(__VA_ARGS__)), errhint("For example: %s", hint)))

typedef enum Key { KEY_TYPE, KEY_NAME, KEY_TEXT, KEY_OPTIONS, KEY_MIN, KEY_MAX, KEY_NONE, N_KEYS } Key;

static const struct {
    const char *name;
    Key key;
} keys[] = {{"type", KEY_TYPE},           {"name", KEY_NAME},       {"id", KEY_NAME},         {"instructions", KEY_TEXT},
            {"question", KEY_TEXT},       {"prompt", KEY_TEXT},     {"criteria", KEY_OPTIONS}, {"options", KEY_OPTIONS},
            {"choices", KEY_OPTIONS},     {"labels", KEY_OPTIONS},  {"levels", KEY_OPTIONS},  {"min", KEY_MIN},
            {"max", KEY_MAX},             {"none", KEY_NONE}};

static const struct {
    const char *name;
    SlmQuestionType type;
} types[] = {{"yes_no", SLM_QUESTION_YES_NO},    {"noul", SLM_QUESTION_YES_NO}, {"predicate", SLM_QUESTION_YES_NO},
             {"boolean", SLM_QUESTION_YES_NO},   {"choice", SLM_QUESTION_CHOICE}, {"scale", SLM_QUESTION_SCALE},
             {"score", SLM_QUESTION_SCALE}};

/* A question while it is read. */
typedef struct Reading {
    const char *path;
    JsonbValue *values[N_KEYS];
    const char *given[N_KEYS]; /* the keys as they were written */
    SlmQuestion *question;
    SlmAskedAs *as;
} Reading;

static const char *utf8_of(const JsonbValue *value)
{
    return slm_pg_utf8_from_cstring(pnstrdup(value->val.string.val, value->val.string.len));
}

static bool is_object(const JsonbValue *value)
{
    return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

static bool is_array(const JsonbValue *value)
{
    return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
}

/* Words, whatever they are written as; NULL for null. */
static const char *words_of(const JsonbValue *value)
{
    switch (value->type) {
        case jbvNull:
            return NULL;
        case jbvString:
            return utf8_of(value);
        case jbvBool:
            return value->val.boolean ? "true" : "false";
        case jbvNumeric:
            return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
        default:
            return slm_pg_utf8_from_cstring(JsonbToCString(NULL, value->val.binary.data, value->val.binary.len));
    }
}

static JsonbValue *member(const JsonbValue *object, const char *key)
{
    return getKeyJsonValueFromContainer(object->val.binary.data, key, (int) strlen(key), NULL);
}

/* ---- options */

static void make_room(SlmQuestion *q, SlmAskedAs *as, int n)
{
    q->names = palloc0(sizeof(char *) * (Size) Max(n, 1));
    q->descriptions = palloc0(sizeof(char *) * (Size) Max(n, 1));
    as->boolean = palloc0(sizeof(bool) * (Size) Max(n, 1));
}

static void bound_options(const Reading *r, int n)
{
    bool scale = r->question->type == SLM_QUESTION_SCALE;
    int most = scale ? SLM_MAX_LEVELS : SLM_MAX_OPTIONS;

    if (n < 2 || n > most)
        refuse(r->path, scale ? SCALE_EXAMPLE : CHOICE_EXAMPLE, "%s has %d %s, but there must be from 2 to %d", r->given[KEY_OPTIONS], n,
               scale ? "levels" : "options", most);
}

/* One of a list: a word, or an object with a description. */
static void read_option(const Reading *r, int i, const JsonbValue *value)
{
    static const char *const names[] = {"value", "label", "name"};
    const JsonbValue *name = value, *description = NULL;
    const char *path = psprintf("%s.%s[%d]", r->path, r->given[KEY_OPTIONS], i);
    uint32 n_keys = 0;

    if (is_object(value)) {
        name = NULL;
        for (size_t k = 0; k < lengthof(names); k++) {
            JsonbValue *found = member(value, names[k]);

            n_keys += found != NULL;
            name = found != NULL ? found : name;
        }
        description = member(value, "description");
        if (name == NULL || n_keys > 1 || JsonContainerSize(value->val.binary.data) != n_keys + (description != NULL))
            refuse(path, "{\"value\": \"billing\", \"description\": \"invoices, refunds\"}",
                   "an option has value (or label, or name) and perhaps description, and nothing else");
    }
    if (name->type != jbvString && name->type != jbvBool && name->type != jbvNumeric)
        refuse(path, CHOICE_EXAMPLE, "an option is a word, or an object with value and description");
    r->question->names[i] = words_of(name);
    r->as->boolean[i] = name->type == jbvBool;
    r->question->descriptions[i] = description == NULL ? NULL : words_of(description);
}

/* {"option": "description" or null} */
static void read_described(const Reading *r, const JsonbValue *object)
{
    JsonbIterator *it = JsonbIteratorInit(object->val.binary.data);
    JsonbValue key, value;
    int i = 0;

    (void) JsonbIteratorNext(&it, &key, true);
    while (JsonbIteratorNext(&it, &key, true) == WJB_KEY) {
        (void) JsonbIteratorNext(&it, &value, true);
        r->question->names[i] = utf8_of(&key);
        r->question->descriptions[i++] = words_of(&value);
    }
}

static int by_words(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void check_names(const Reading *r)
{
    const SlmQuestion *q = r->question;
    const char **sorted = palloc(sizeof(char *) * (Size) q->n);

    memcpy(sorted, q->names, sizeof(char *) * (Size) q->n);
    qsort(sorted, (size_t) q->n, sizeof(char *), by_words);
    for (int i = 0; i < q->n; i++) {
        if (sorted[i][strspn(sorted[i], " \t\r\n")] == '\0')
            refuse(r->path, CHOICE_EXAMPLE, "an option of %s is empty", r->given[KEY_OPTIONS]);
        if ((i > 0 && strcmp(sorted[i - 1], sorted[i]) == 0) || (q->none && strcmp(sorted[i], r->as->none) == 0))
            refuse(r->path, CHOICE_EXAMPLE, "\"%s\" is there twice", slm_pg_cstring_from_utf8(sorted[i]));
    }
}

static void read_options(Reading *r)
{
    const JsonbValue *options = r->values[KEY_OPTIONS];
    SlmQuestion *q = r->question;
    bool list = options != NULL && is_array(options);

    if (options == NULL || (!list && (!is_object(options) || q->type == SLM_QUESTION_SCALE)))
        refuse(r->path, q->type == SLM_QUESTION_SCALE ? SCALE_EXAMPLE : CHOICE_EXAMPLE,
               q->type == SLM_QUESTION_SCALE ? "a scale needs a list of levels, or min and max" : "a choice needs options");
    q->n = (int) JsonContainerSize(options->val.binary.data);
    bound_options(r, q->n);
    make_room(q, r->as, q->n);
    if (!list)
        read_described(r, options);
    for (int i = 0; i < q->n && list; i++)
        read_option(r, i, getIthJsonbValueFromContainer(options->val.binary.data, (uint32) i));
}

/* ---- the types */

static void read_yes_no(Reading *r)
{
    static const char *const outcomes[2] = {"true", "false"};
    const JsonbValue *criteria = r->values[KEY_OPTIONS];
    SlmQuestion *q = r->question;
    uint32 known = 0;

    q->n = 2;
    make_room(q, r->as, 2);
    q->names[0] = "yes";
    q->names[1] = "no";
    if (criteria != NULL && !is_object(criteria))
        refuse(r->path, "{\"type\": \"yes_no\", \"criteria\": {\"true\": \"angry\", \"false\": \"calm\"}}",
               "%s of a question for yes or no is an object", r->given[KEY_OPTIONS]);
    for (int i = 0; i < 2 && criteria != NULL; i++) {
        JsonbValue *description = member(criteria, outcomes[i]);

        known += description != NULL;
        q->descriptions[i] = description == NULL ? NULL : words_of(description);
    }
    if (criteria != NULL && JsonContainerSize(criteria->val.binary.data) != known)
        refuse(r->path, "{\"type\": \"yes_no\", \"criteria\": {\"true\": \"angry\", \"false\": \"calm\"}}",
               "%s has another key than true and false", r->given[KEY_OPTIONS]);
    if (q->text == NULL && q->descriptions[0] == NULL)
        refuse(r->path, EXAMPLE, "nothing is asked");
}

static int whole_number(const Reading *r, Key key)
{
    const JsonbValue *value = r->values[key];
    int64 number;

    if (value == NULL || value->type != jbvNumeric)
        refuse(r->path, "{\"type\": \"scale\", \"instructions\": \"how angry the writer is\", \"min\": 1, \"max\": 5}",
               "a scale by numbers needs min and max");
    number = strtoll(words_of(value), NULL, 10);
    if (strcmp(words_of(value), psprintf(INT64_FORMAT, number)) != 0 || number < -1000000 || number > 1000000)
        refuse(r->path, "{\"type\": \"scale\", \"instructions\": \"how angry the writer is\", \"min\": 1, \"max\": 5}",
               "%s is no whole number that a scale may have", r->given[key]);
    return (int) number;
}

static void read_scale(Reading *r)
{
    SlmQuestion *q = r->question;
    int min, max;

    if (r->values[KEY_MIN] == NULL && r->values[KEY_MAX] == NULL) {
        read_options(r);
        return;
    }
    min = whole_number(r, KEY_MIN);
    max = whole_number(r, KEY_MAX);
    if (r->values[KEY_OPTIONS] != NULL && !is_array(r->values[KEY_OPTIONS]))
        refuse(r->path, SCALE_EXAMPLE, "%s must be a list", r->given[KEY_OPTIONS]);
    if (max - min < 1 || max - min >= SLM_MAX_LEVELS)
        refuse(r->path, SCALE_EXAMPLE, "from min to max there are %d levels, but there must be from 2 to %d", Max(max - min + 1, 0),
               SLM_MAX_LEVELS);
    r->as->lowest = min;
    if (r->values[KEY_OPTIONS] != NULL) {
        read_options(r);
        if (q->n != max - min + 1)
            refuse(r->path, SCALE_EXAMPLE, "%s has %d levels, but from min to max there are %d", r->given[KEY_OPTIONS], q->n,
                   max - min + 1);
        return;
    }
    if (q->text == NULL)
        refuse(r->path, EXAMPLE, "nothing is asked");
    q->by_numbers = true;
    q->n = max - min + 1;
    make_room(q, r->as, q->n);
    for (int i = 0; i < q->n; i++)
        q->names[i] = psprintf("%d", min + i);
}

static void read_none(Reading *r)
{
    const JsonbValue *none = r->values[KEY_NONE];

    if (none == NULL || none->type == jbvNull || (none->type == jbvBool && !none->val.boolean))
        return;
    if (none->type != jbvBool && none->type != jbvString)
        refuse(r->path, "{\"type\": \"choice\", \"options\": [\"billing\", \"delivery\"], \"none\": true}", "none is true or a word");
    r->question->none = true;
    r->as->none = none->type == jbvBool ? "none" : utf8_of(none);
}

/* ---- a question */

static void read_keys(Reading *r, const JsonbValue *object, bool named)
{
    JsonbIterator *it = JsonbIteratorInit(object->val.binary.data);
    JsonbValue name, value;

    (void) JsonbIteratorNext(&it, &name, true);
    while (JsonbIteratorNext(&it, &name, true) == WJB_KEY) {
        char *word = pnstrdup(name.val.string.val, name.val.string.len);
        size_t i = 0;

        (void) JsonbIteratorNext(&it, &value, true);
        while (i < lengthof(keys) && strcmp(keys[i].name, word) != 0)
            i++;
        if (i == lengthof(keys) || (named && keys[i].key == KEY_NAME))
            refuse(r->path, EXAMPLE, "unknown key \"%s\"", word);
        if (r->given[keys[i].key] != NULL)
            refuse(r->path, EXAMPLE, "%s and %s say the same, so only one of them may be given", r->given[keys[i].key], keys[i].name);
        r->given[keys[i].key] = keys[i].name;
        r->values[keys[i].key] = member(object, keys[i].name);
    }
}

static void read_type(Reading *r)
{
    const JsonbValue *type = r->values[KEY_TYPE];
    size_t i = 0;

    if (type == NULL || type->type != jbvString)
        refuse(r->path, EXAMPLE, "type is missing: yes_no, choice or scale");
    while (i < lengthof(types) && strcmp(types[i].name, utf8_of(type)) != 0)
        i++;
    if (i == lengthof(types))
        refuse(r->path, EXAMPLE, "unknown type \"%s\": there are yes_no (noul, predicate, boolean), choice and scale (score)",
               slm_pg_cstring_from_utf8(utf8_of(type)));
    r->question->type = types[i].type;
    r->as->type = types[i].name;
}

static void refuse_stray(const Reading *r)
{
    bool scale = r->question->type == SLM_QUESTION_SCALE, choice = r->question->type == SLM_QUESTION_CHOICE;

    if (!scale && (r->values[KEY_MIN] != NULL || r->values[KEY_MAX] != NULL))
        refuse(r->path, SCALE_EXAMPLE, "min and max belong to a scale");
    if (!choice && r->values[KEY_NONE] != NULL)
        refuse(r->path, CHOICE_EXAMPLE, "none belongs to a choice");
}

static void read_question(const char *path, const JsonbValue *value, bool named, SlmQuestion *question, SlmAskedAs *as)
{
    Reading r = {.path = path, .question = question, .as = as};

    if (!is_object(value))
        refuse(path, EXAMPLE, "a question is an object");
    read_keys(&r, value, named);
    read_type(&r);
    refuse_stray(&r);
    if (r.values[KEY_TEXT] != NULL)
        question->text = words_of(r.values[KEY_TEXT]);
    if (question->text != NULL && question->text[strspn(question->text, " \t\r\n")] == '\0')
        refuse(path, EXAMPLE, "%s is empty", r.given[KEY_TEXT]);
    if (r.values[KEY_NAME] != NULL && r.values[KEY_NAME]->type == jbvString)
        as->name = utf8_of(r.values[KEY_NAME]);
    if (question->type == SLM_QUESTION_YES_NO)
        read_yes_no(&r);
    else if (question->type == SLM_QUESTION_SCALE)
        read_scale(&r);
    else
        read_options(&r);
    read_none(&r);
    check_names(&r);
}

static void check_question_names(const SlmQuestions *q)
{
    for (int i = 0; i < q->n; i++)
        for (int k = 0; k < i && q->as[i].name != NULL; k++)
            if (q->as[k].name != NULL && strcmp(q->as[i].name, q->as[k].name) == 0)
                refuse(psprintf("questions[%d]", i), EXAMPLE, "questions[%d] has the name \"%s\" too", k,
                       slm_pg_cstring_from_utf8(q->as[i].name));
}

SlmQuestions *slm_pg_read_questions(Jsonb *json)
{
    SlmQuestions *q = palloc0(sizeof *q);
    JsonbIterator *it = JsonbIteratorInit(&json->root);
    JsonbValue key, value;
    int token, n = (int) JB_ROOT_COUNT(json);

    q->named = JB_ROOT_IS_OBJECT(json);
    if (JB_ROOT_IS_SCALAR(json))
        refuse("questions", EXAMPLE, "an object of named questions, or a list of questions, is expected");
    if (n == 0 || n > SLM_MAX_QUESTIONS)
        refuse("questions", EXAMPLE, "there are %d questions, but there must be from 1 to %d", n, SLM_MAX_QUESTIONS);
    q->questions = palloc0(sizeof(SlmQuestion) * (Size) n);
    q->as = palloc0(sizeof(SlmAskedAs) * (Size) n);
    (void) JsonbIteratorNext(&it, &key, true);
    while ((token = JsonbIteratorNext(&it, q->named ? &key : &value, true)) == WJB_KEY || token == WJB_ELEM) {
        const char *path;

        if (q->named) {
            (void) JsonbIteratorNext(&it, &value, true);
            q->as[q->n].name = utf8_of(&key);
        }
        path = q->named ? psprintf("questions.%s", q->as[q->n].name) : psprintf("questions[%d]", q->n);
        read_question(path, &value, q->named, &q->questions[q->n], &q->as[q->n]);
        q->n++;
    }
    check_question_names(q);
    return q;
}

/*
 * type_check.c: the CHECKs of a domain as JSON Schemas.
 *
 *   VALUE IN ('a', 'b'), VALUE = 'a'             enum
 *   VALUE BETWEEN 1 AND 5, VALUE > 0             minimum, maximum, exclusive ones; of numbers
 *   VALUE ~ '^[A-Z]{3}$'                         pattern
 *   char_length(VALUE) <= 20                     minLength, maxLength
 *   ... AND ..., ... OR ..., VALUE IS NOT NULL   allOf, anyOf
 *
 * Expressions are read, not run, and only operators and functions of the server itself are understood.  What is not is refused by the
 * constraint's name: a value that a CHECK forbids is never written.
 *
 * Patterns of ~ are written as ECMA-262 has them where both mean the same, or ECMA-262 means less.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "pg/base/compat.h"
#include "pg/functions/type_schema.h"

typedef struct Check {
    StringInfo out;
    Oid type;         /* the domain */
    const char *name; /* of the constraint */
} Check;

static void put_condition(const Check *c, Node *node);

static pg_noreturn void refuse(const Check *c, const char *what);

static void refuse(const Check *c, const char *what)
{
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("no answer can be written as type %s: its constraint \"%s\" holds %s", format_type_be(c->type), c->name, what),
             errhint("Constraints that compare VALUE with numbers, list values (VALUE IN ('a', 'b')), bound char_length(VALUE) or match "
                     "a regular expression (VALUE ~ '^[A-Z]{3}$') are kept; or ask for the type below and convert its value.")));
    pg_unreachable();
}

/* Without the conversions that change no value. */
static Node *bare(Node *node)
{
    for (;;) {
        const FuncExpr *f = (const FuncExpr *) node;

        if (IsA(node, RelabelType))
            node = (Node *) ((RelabelType *) node)->arg;
        else if (IsA(node, FuncExpr) && f->funcformat == COERCE_IMPLICIT_CAST && list_length(f->args) == 1)
            node = linitial(f->args);
        else
            return node;
    }
}

/* The type of what is compared, below all domains. */
static Oid type_of(Node *node)
{
    return getBaseType(exprType(bare(node)));
}

static bool is_value(Node *node)
{
    return IsA(bare(node), CoerceToDomainValue);
}

static bool is_number(Oid type)
{
    return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID;
}

/* char(n) is not: it is compared without the spaces at its end, or with them. */
static bool is_text(Oid type)
{
    return type == TEXTOID || type == VARCHAROID;
}

/* A constant as JSON. */
static char *constant(const Check *c, Oid type, Datum value, bool isnull)
{
    StringInfoData out;
    Oid output;
    bool varlena;
    char *text;

    if (isnull)
        refuse(c, "a comparison with NULL");
    if (!is_number(type) && !is_text(type) && type != BPCHAROID && type != BOOLOID)
        refuse(c, "a comparison with something else than numbers and texts");
    getTypeOutputInfo(type, &output, &varlena); /* of the server's own types */
    text = OidOutputFunctionCall(output, value);
    if (is_number(type)) {
        if (strspn(text, "+-.0123456789eE") != strlen(text))
            refuse(c, "a bound that is no number of JSON");
        return text;
    }
    if (type == BOOLOID)
        return pstrdup(DatumGetBool(value) ? "true" : "false");
    initStringInfo(&out);
    escape_json(&out, text);
    return out.data;
}

static char *constant_of(const Check *c, Node *node)
{
    Const *k = (Const *) bare(node);

    if (!IsA(k, Const))
        refuse(c, "a comparison with something that is no constant");
    return constant(c, k->consttype, k->constvalue, k->constisnull);
}

/* The keyword of a comparison; lengths compares the length of a text. */
static void put_bound(const Check *c, const char *op, bool length, Oid type, const char *bound)
{
    long n = length ? strtol(bound, NULL, 10) : 0;

    if (length && (n < 0 || n > 1000000))
        refuse(c, "a length that is out of reach");
    if (length && strcmp(op, "=") == 0)
        appendStringInfo(c->out, "\"minLength\":%ld,\"maxLength\":%ld", n, n);
    else if (length && op[0] == '>')
        appendStringInfo(c->out, "\"minLength\":%ld", op[1] == '=' ? n : n + 1);
    else if (length && n == 0 && op[1] == 0)
        refuse(c, "a length below 0");
    else if (length)
        appendStringInfo(c->out, "\"maxLength\":%ld", op[1] == '=' ? n : n - 1);
    else if (strcmp(op, "=") == 0)
        appendStringInfo(c->out, "\"enum\":[%s]", bound);
    else
        appendStringInfo(c->out, "\"%s\":%s", op[1] == '=' ? op[0] == '<' ? "maximum" : "minimum"
                                              : op[0] == '<' ? "exclusiveMaximum" : "exclusiveMinimum", bound);
    if (!length && type == FLOAT4OID && (double) (float) atof(bound) != atof(bound))
        refuse(c, "a bound that a real has not exactly");
    /* a float next to a bound that it must not reach is not rounded to it */
    if (!length && op[0] != '=' && op[1] == 0 && (type == FLOAT4OID || type == FLOAT8OID) && atof(bound) != 0)
        appendStringInfoString(c->out, type == FLOAT4OID ? ",\"multipleOf\":0.001" : ",\"multipleOf\":0.000001");
}

/* ---- regular expressions */

/* What PostgreSQL calls [:name:], as far as ASCII goes. */
static const char *class_named(const char *name, size_t n)
{
    static const char *const classes[][2] = {{"digit", "0-9"}, {"alpha", "A-Za-z"}, {"alnum", "A-Za-z0-9"}, {"upper", "A-Z"},
                                             {"lower", "a-z"}, {"space", " \\t\\n\\r"}, {"xdigit", "0-9A-Fa-f"}, {"word", "A-Za-z0-9_"}};

    for (int i = 0; i < (int) lengthof(classes); i++)
        if (strlen(classes[i][0]) == n && strncmp(classes[i][0], name, n) == 0)
            return classes[i][1];
    return NULL;
}

/* An escape that means the same in both; the place behind it. */
static const char *put_escape(const Check *c, StringInfo to, const char *at)
{
    if (at[1] == 0 || (isalnum((unsigned char) at[1]) && strchr("dwsnrt", at[1]) == NULL) || (unsigned char) at[1] > 127)
        refuse(c, "a regular expression with an escape that ECMA-262 has not, or reads otherwise");
    appendBinaryStringInfo(to, at, 2);
    return at + 2;
}

static const char *put_bracket(const Check *c, StringInfo to, const char *at)
{
    bool negated = at[1] == '^';

    appendStringInfoString(to, negated ? "[^" : "[");
    at += negated ? 2 : 1;
    if (*at == ']') { /* the first one stands for itself */
        appendStringInfoString(to, "\\]");
        at++;
    }
    while (*at != ']') {
        if (*at == 0 || (at[0] == '[' && strchr(".=", at[1]) != NULL && at[1] != 0))
            refuse(c, "a regular expression with a bracket that ECMA-262 has not");
        if (at[0] == '[' && at[1] == ':') {
            const char *end = strstr(at + 2, ":]"), *class = end == NULL ? NULL : class_named(at + 2, (size_t) (end - at - 2));

            if (class == NULL || negated) /* what it leaves out is less here than there */
                refuse(c, "a regular expression with a class that ECMA-262 has not");
            appendStringInfoString(to, class);
            at = end + 2;
        } else if (*at == '\\') {
            if (negated && strchr("dws", at[1]) != NULL)
                refuse(c, "a regular expression with a class that ECMA-262 reads otherwise");
            at = put_escape(c, to, at);
        } else {
            if (*at == '[')
                appendStringInfoChar(to, '\\');
            appendStringInfoChar(to, *at++);
        }
    }
    appendStringInfoChar(to, ']');
    return at + 1;
}

static void put_regex(const Check *c, const char *regex)
{
    StringInfoData to;
    const char *at = regex;

    initStringInfo(&to);
    if (strncmp(regex, "***", 3) == 0 || (strncmp(regex, "(?", 2) == 0 && isalpha((unsigned char) regex[2])))
        refuse(c, "a regular expression with options of its own");
    while (*at != 0) {
        if (*at == '\\') {
            at = put_escape(c, &to, at);
        } else if (*at == '[') {
            at = put_bracket(c, &to, at);
        } else if (strncmp(at, "(?", 2) == 0 && at[2] != ':' && at[2] != '=') {
            refuse(c, "a regular expression that looks for what must not be there");
        } else {
            appendStringInfoChar(&to, *at++);
        }
    }
    appendStringInfoString(c->out, "\"pattern\":");
    escape_json(c->out, to.data);
}

/* ---- conditions */

static void put_operator(const Check *c, OpExpr *op)
{
    static const char *const turned[][2] = {{"<", ">"}, {">", "<"}, {"<=", ">="}, {">=", "<="}, {"=", "="}};
    Node *left, *right, *inner;
    char *name = get_opname(op->opno);
    bool known = false, length = false;

    if (op->opno >= FirstGenbkiObjectId || name == NULL || list_length(op->args) != 2)
        refuse(c, "an operator that is not the server's own");
    left = linitial(op->args);
    right = lsecond(op->args);
    if (strcmp(name, "~") == 0 && is_value(left) && is_text(type_of(left)) && IsA(bare(right), Const)) {
        Const *k = (Const *) bare(right);

        if (k->constisnull || k->consttype != TEXTOID)
            refuse(c, "a comparison with NULL");
        put_regex(c, TextDatumGetCString(k->constvalue));
        return;
    }
    for (int i = 0; i < (int) lengthof(turned) && !known; i++)
        if (strcmp(name, turned[i][0]) == 0) {
            if (IsA(bare(left), Const)) {
                Node *other = left;

                left = right;
                right = other;
                name = unconstify(char *, turned[i][1]);
            }
            known = true;
        }
    inner = bare(left);
    if (IsA(inner, FuncExpr)) {
        FuncExpr *f = (FuncExpr *) inner;

        length = f->funcid < FirstGenbkiObjectId && list_length(f->args) == 1 && is_value(linitial(f->args)) &&
                 is_text(type_of(linitial(f->args))) &&
                 (strcmp(get_func_name(f->funcid), "length") == 0 || strcmp(get_func_name(f->funcid), "char_length") == 0 ||
                  strcmp(get_func_name(f->funcid), "character_length") == 0);
    }
    if (!known || (!length && !is_value(left)))
        refuse(c, "more than VALUE and a constant");
    if (!length && strcmp(name, "=") != 0 && !is_number(type_of(inner)))
        refuse(c, "a comparison of what is no number");
    put_bound(c, name, length, type_of(inner), constant_of(c, right));
}

static void put_list(const Check *c, ScalarArrayOpExpr *op)
{
    Const *list = (Const *) bare(lsecond(op->args));
    char *name = get_opname(op->opno);
    Datum *values;
    bool *nulls;
    int n;

    if (op->opno >= FirstGenbkiObjectId || name == NULL || strcmp(name, "=") != 0 || !op->useOr || !is_value(linitial(op->args)) ||
        !IsA(list, Const) || list->constisnull)
        refuse(c, "more than VALUE and a list of constants");
    if (type_of(linitial(op->args)) == FLOAT4OID)
        refuse(c, "a list of reals");
    {
        ArrayType *array = DatumGetArrayTypeP(list->constvalue);
        Oid element = ARR_ELEMTYPE(array);
        int16 size;
        bool by_value;
        char align;

        get_typlenbyvalalign(element, &size, &by_value, &align);
        deconstruct_array(array, element, size, by_value, align, &values, &nulls, &n);
        appendStringInfoString(c->out, "\"enum\":[");
        for (int i = 0; i < n; i++)
            appendStringInfo(c->out, "%s%s", i == 0 ? "" : ",", constant(c, element, values[i], nulls[i]));
    }
    appendStringInfoChar(c->out, ']');
}

static void put_boolean(const Check *c, BoolExpr *b)
{
    ListCell *lc;

    if (b->boolop == NOT_EXPR)
        refuse(c, "NOT");
    appendStringInfo(c->out, "\"%s\":[", b->boolop == AND_EXPR ? "allOf" : "anyOf");
    foreach (lc, b->args) {
        appendStringInfoString(c->out, lc == list_head(b->args) ? "{" : ",{");
        put_condition(c, lfirst(lc));
        appendStringInfoChar(c->out, '}');
    }
    appendStringInfoChar(c->out, ']');
}

static void put_condition(const Check *c, Node *node)
{
    check_stack_depth();
    if (IsA(node, OpExpr))
        put_operator(c, (OpExpr *) node);
    else if (IsA(node, ScalarArrayOpExpr))
        put_list(c, (ScalarArrayOpExpr *) node);
    else if (IsA(node, BoolExpr))
        put_boolean(c, (BoolExpr *) node);
    else if (IsA(node, Const) && !((Const *) node)->constisnull && DatumGetBool(((Const *) node)->constvalue))
        return;
    else if (!(IsA(node, NullTest) && ((NullTest *) node)->nulltesttype == IS_NOT_NULL && is_value((Node *) ((NullTest *) node)->arg)))
        refuse(c, "something that a schema cannot say");
}

bool slm_pg_domain_may_be_null(Oid type)
{
    DomainConstraintRef *checks;
    ListCell *lc;

    if (get_typtype(type) != TYPTYPE_DOMAIN)
        return true;
    checks = palloc0(sizeof *checks); /* referred to until the context is reset */
    InitDomainConstraintRef(type, checks, CurrentMemoryContext, false);
    foreach (lc, checks->constraints) {
        DomainConstraintState *one = lfirst_node(DomainConstraintState, lc);

        if (one->constrainttype == DOM_CONSTRAINT_NOTNULL)
            return false;
        if (IsA(one->check_expr, NullTest) && ((NullTest *) one->check_expr)->nulltesttype == IS_NOT_NULL)
            return false;
    }
    return true;
}

void slm_pg_put_checks(StringInfo out, Oid type)
{
    DomainConstraintRef *checks = palloc0(sizeof *checks);
    ListCell *lc;
    int n = 0;

    InitDomainConstraintRef(type, checks, CurrentMemoryContext, false);
    foreach (lc, checks->constraints) {
        DomainConstraintState *one = lfirst_node(DomainConstraintState, lc);
        Check c = {out, type, one->name};

        if (one->constrainttype != DOM_CONSTRAINT_CHECK)
            continue;
        appendStringInfoString(out, n++ == 0 ? ",\"allOf\":[{" : ",{");
        put_condition(&c, (Node *) one->check_expr);
        appendStringInfoChar(out, '}');
    }
    if (n > 0)
        appendStringInfoChar(out, ']');
}

/*
 * use.c: from the name of a model in a call to the opened model (use.h).
 */
#include "pg/run/use.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pg/models/catalog.h"
#include "pg/run/backend.h"

static void check_key(const SlmModelRow *row)
{
    if (row->key[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the registered image of \"%s\" is not the name of an image", row->name),
                        errhint("Drop it and load it again from its source: the row was not written by slm_load_model.")));
}

static SlmOpenModel *entry_of_row(const SlmModelRow *row)
{
    SlmOpenModel *entry;

    check_key(row);
    entry = slm_pg_find_opened(row->key);
    return entry != NULL ? entry : slm_pg_open_model(row);
}

/* The entry of model `base` with the adapter. Rows are looked at, and the adapter's copied, before an entry exists that a changed catalog
 * could close. */
static SlmOpenModel *entry_with_adapter(const char *base, const char *adapter)
{
    const SlmModelRow *row = slm_pg_find_model(adapter);
    SlmModelRow copy;
    SlmOpenModel *entry;

    if (row == NULL || row->base[0] == '\0')
        slm_pg_unknown_adapter(adapter);
    if (strcmp(row->base, base) != 0)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("adapter \"%s\" does not belong to model \"%s\"", adapter, base),
                        errhint("It is used as '%s+%s'.", row->base, adapter)));
    slm_pg_check_may_use(row, "adapter");
    check_key(row);
    copy = *row;
    copy.source = pstrdup(row->source);
    copy.options = pstrdup(row->options);
    row = slm_pg_find_model(base);
    if (row == NULL)
        slm_pg_unknown_model(base);
    slm_pg_check_may_use(row, "model");
    entry = entry_of_row(row);
    slm_pg_touch_opened(entry);
    return slm_pg_open_adapted(entry, &copy);
}

static SlmOpenModel *entry_of_model(const char *name)
{
    const SlmModelRow *row = slm_pg_find_model(name);

    if (row == NULL)
        slm_pg_unknown_model(name);
    if (row->base[0] != '\0')
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is an adapter, not a model", name),
                        errhint("Use it with its model: '%s+%s'.", row->base, name)));
    slm_pg_check_may_use(row, "model");
    return entry_of_row(row);
}

SlmOpenModel *slm_pg_use_model(const text *name, SlmTask task)
{
    const char *chosen = name != NULL ? text_to_cstring(name) : slm_pg_need_default_model(task);
    const char *plus = strchr(chosen, '+');
    SlmOpenModel *entry;

    task = name == NULL ? slm_pg_deciding_task(task) : task;
    slm_pg_close_damaged();
    entry = plus == NULL ? entry_of_model(chosen) : entry_with_adapter(pnstrdup(chosen, (Size) (plus - chosen)), plus + 1);

    if (task == SLM_TASK_GENERATE && !slm_pg_info(entry)->can_generate)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("model \"%s\" cannot generate text", chosen),
                        errdetail("It is an encoder of the family %s.", slm_pg_info(entry)->family),
                        errhint("Choose a generative model: the column can_generate of slm.models tells which are.")));
    if (task == SLM_TASK_ENTITIES && !slm_pg_info(entry)->can_tag && !slm_pg_info(entry)->can_find)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("model \"%s\" does not label the words of a text", chosen),
                        errhint("Choose a model with a head for token classification (BertForTokenClassification and the like), or one "
                                "that finds what labels ask for (GLiNER).")));
    if ((task == SLM_TASK_EMBED || (task == SLM_TASK_RERANK && !slm_pg_info(entry)->can_rerank)) && !slm_pg_info(entry)->can_embed)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("model \"%s\" cannot compute embeddings", chosen),
                        errhint("Choose an embedding model: the column can_embed of slm.models tells which are.")));
    slm_pg_touch_opened(entry);
    slm_pg_pin(entry);
    return entry;
}

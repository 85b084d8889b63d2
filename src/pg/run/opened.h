/*
 * opened.h: the models and adapters that this backend has mapped (opened.c).
 */
#ifndef SLM_PG_OPENED_H
#define SLM_PG_OPENED_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "engine/slm.h"
#include "pg/models/catalog.h"

/* A model, or a model with an adapter. */
typedef struct SlmOpenModel SlmOpenModel;

/* Keeps it, and its base, open until CurrentMemoryContext is reset or deleted. */
void slm_pg_pin(SlmOpenModel *opened);

/* That of an image, NULL when it is not open: good until something is opened or the catalog is looked at, unless it is pinned. */
SlmOpenModel *slm_pg_find_opened(const char *key);
SlmOpenModel *slm_pg_open_model(const SlmModelRow *row);
/* A model with an adapter: shares the model and its session. */
SlmOpenModel *slm_pg_open_adapted(SlmOpenModel *base, const SlmModelRow *adapter);
/* Notes that a statement uses it. */
void slm_pg_touch_opened(SlmOpenModel *opened);
/* Closes models whose image is used by no row any more. */
void slm_pg_close_unused(void);
/* Closes models and adapters whose image could not be read whole, or was replaced, so that they are opened, and checked, anew. */
void slm_pg_close_damaged(void);

/* ---- what it is */
/* Of the image; 'model+adapter' of both. */
const char *slm_pg_opened_key(const SlmOpenModel *opened);
/* For what the engine does with a model alone: tokens, pieces, other images. */
slm_model *slm_pg_opened_model(const SlmOpenModel *opened);
const slm_adapter *slm_pg_opened_adapter(const SlmOpenModel *opened); /* NULL: it is a model alone */
const slm_model_info *slm_pg_info(const SlmOpenModel *opened);
/* What stands before a query, or a document, that it embeds: the adapter's words where it has any, else the model's; maybe empty. */
const char *slm_pg_text_prompt(const SlmOpenModel *opened, bool query);
TimestampTz slm_pg_opened_last_use(const SlmOpenModel *opened);

#endif

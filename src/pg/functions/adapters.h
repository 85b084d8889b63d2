/*
 * adapters.h: what the makers of adapters have in common (adapters.c; finetune.c).
 */
#ifndef SLM_PG_ADAPTERS_H
#define SLM_PG_ADAPTERS_H

#include "postgres.h"

#include "pg/models/load.h"
#include "pg/run/opened.h"

/* probe of an adapter (load.h): opens the image; the row shows the adapter's size and the base's shape. */
slm_status slm_pg_probe_adapter(SlmLoad *load, const SlmOpenModel *base, const char *image, slm_error *err);

#endif

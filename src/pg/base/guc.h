/*
 * guc.h: the settings slm.* that more than one room reads (guc.c).
 */
#ifndef SLM_PG_GUC_H
#define SLM_PG_GUC_H

#include "postgres.h"

#include "engine/slm.h"

extern int slm_guc_threads, slm_guc_max_threads, slm_guc_kv_cache_kb;
/* Bounds of this process whatever is set, also by an expression of a job; 0 = none. */
extern int slm_guc_threads_limit, slm_guc_kv_cache_limit_kb;
extern int slm_guc_cache_timeout_ms;
extern int slm_guc_train_memory_kb; /* of one fine-tuning */
extern bool slm_guc_speculate;
extern bool slm_guc_enable_calibration;
extern double slm_guc_machine_cost_per_hour; /* 0 = not set */
extern char *slm_guc_model_directory;
extern char *slm_guc_generate_model, *slm_guc_classify_model, *slm_guc_embed_model, *slm_guc_entity_model;

size_t slm_pg_kv_cache_bytes(void);
/* How keys and values are kept now, and the bytes of a token's so. */
slm_kv_type slm_pg_kv_type(void);
size_t slm_pg_kv_bytes_per_token(const slm_model_info *info);
/* lowered: called when a setting may have lowered what sessions hold. */
void slm_pg_define_gucs(void (*lowered)(void));

#endif

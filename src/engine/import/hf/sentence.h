/*
 * What sentence-transformers keeps beside a model: how tokens are pooled, how long a text may be, what goes before queries and documents.
 */
#ifndef SLM_HF_SENTENCE_H
#define SLM_HF_SENTENCE_H

#include "engine/import/hf/config.h"
#include "engine/slm.h"

/* The folder of a module, at most 200 bytes; NULL: it has none, or one outside of the directory. */
const char *slm_hf_module_folder(const json_t *module);
/* UNSUPPORTED or FORMAT, naming what is wrong with modules.json (NULL: there is none) before any of its files is read. */
slm_status slm_hf_sentence_check(json_t *modules, slm_error *err);
/* Reads modules.json (modules, which were checked; NULL: there is none), the configurations of its modules, sentence_bert_config.json and
 * config_sentence_transformers.json where they are; puts pooling, modules and length into config, prompts into info.  UNSUPPORTED names
 * what is not known. */
slm_status slm_hf_sentence_read(int dir, json_t *modules, slm_hf_config *config, slm_model_info *info, slm_error *err);

#endif

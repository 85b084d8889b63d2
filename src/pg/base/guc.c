/*
 * guc.c: the settings slm.*.
 *
 * Who may change what: directories and cluster-wide limits belong to the administrator (SIGHUP), the instruction set to superusers
 * (SUSET), and what costs only the session's own memory or time to the session (USERSET), as work_mem does.
 */

#include "pg/base/guc.h"

#include <limits.h>

#include "utils/guc.h"

#include "engine/slm.h"

int slm_guc_threads, slm_guc_max_threads, slm_guc_kv_cache_kb = 256 * 1024;
int slm_guc_cache_timeout_ms = 60 * 1000;
int slm_guc_train_memory_kb = 1024 * 1024;
int slm_guc_threads_limit, slm_guc_kv_cache_limit_kb;
bool slm_guc_enable_calibration = true;
bool slm_guc_speculate = true;
double slm_guc_machine_cost_per_hour = 0;
char *slm_guc_model_directory;
static char *isa;
char *slm_guc_generate_model, *slm_guc_classify_model, *slm_guc_embed_model, *slm_guc_entity_model;

enum { SLM_HUGE_PAGES_TRY, SLM_HUGE_PAGES_ON, SLM_HUGE_PAGES_OFF };
static int huge_pages;

static const struct config_enum_entry kv_types[] = {{"f16", SLM_KV_F16, false}, {"q8", SLM_KV_Q8, false}, {NULL, 0, false}};
static int kv_type = SLM_KV_F16;

static void (*memory_lowered)(void);

size_t slm_pg_kv_cache_bytes(void)
{
    int kb = slm_guc_kv_cache_kb;

    if (slm_guc_kv_cache_limit_kb > 0)
        kb = Min(kb, slm_guc_kv_cache_limit_kb);
    return (size_t) kb * 1024;
}

slm_kv_type slm_pg_kv_type(void)
{
    return (slm_kv_type) kv_type;
}

size_t slm_pg_kv_bytes_per_token(const slm_model_info *info)
{
    return slm_kv_bytes_per_token(info, slm_pg_kv_type());
}

static bool check_isa(char **value, void **extra, GucSource source)
{
    const char *available;

    if (pg_strcasecmp(*value, "auto") == 0)
        return true;
    for (int i = 0; (available = slm_isa_available(i)) != NULL; i++) {
        if (strcmp(*value, available) == 0)
            return true;
    }
    GUC_check_errdetail("This machine or this build has no instruction set \"%s\".", *value);
    GUC_check_errhint("SELECT * FROM slm_system_info() lists those that can be used.");
    return false;
}

/* Check hook has passed: it cannot fail. */
static void assign_isa(const char *value, void *extra)
{
    slm_set_isa(value, NULL);
}

static const struct config_enum_entry huge_pages_options[] = {{"try", SLM_HUGE_PAGES_TRY, false}, {"on", SLM_HUGE_PAGES_ON, false},
    {"off", SLM_HUGE_PAGES_OFF, false}, {"true", SLM_HUGE_PAGES_ON, true}, {"false", SLM_HUGE_PAGES_OFF, true},
    {"yes", SLM_HUGE_PAGES_ON, true}, {"no", SLM_HUGE_PAGES_OFF, true}, {"1", SLM_HUGE_PAGES_ON, true}, {"0", SLM_HUGE_PAGES_OFF, true},
    {NULL, 0, false}};

static void assign_huge_pages(int value, void *extra)
{
    slm_set_huge_pages(value == SLM_HUGE_PAGES_ON ? "on" : value == SLM_HUGE_PAGES_OFF ? "off" : "try", NULL);
}

static bool check_directory(char **value, void **extra, GucSource source)
{
    if ((*value)[0] != '\0')
        return true;
    GUC_check_errdetail("The directory's name must not be empty.");
    return false;
}

/* What sessions hold is looked at again when the statement ends. */
static void assign_memory(int value, void *extra)
{
    memory_lowered();
}

static void define_numbers(void)
{
    DefineCustomIntVariable("slm.threads", "Number of threads that one call of this session may compute with.",
                            "0 means one for each CPU of the server. slm.max_threads bounds it. Answers do not depend on it.",
                            &slm_guc_threads, 0, 0, 1024, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.max_threads", "Number of threads that may compute in the whole cluster at the same time.",
                            "0 means one for each CPU. It is shared by all sessions when slm_pg is in shared_preload_libraries, and "
                            "bounds each session on its own otherwise. A call always gets at least one thread.",
                            &slm_guc_max_threads, 0, 0, 1024, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.kv_cache_memory", "Memory that one session may use for the keys and values of a model's attention.",
                            "It holds the running requests and the instructions that were computed before and are used again. Each model "
                            "that a session uses has a cache of its own.",
                            &slm_guc_kv_cache_kb, 256 * 1024, 1024, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, assign_memory, NULL);
    DefineCustomEnumVariable("slm.kv_type", "How the keys and values of a model's attention are kept: f16 or q8.",
                             "q8 takes about half the memory, so that twice as much text fits, and rounds more. Answers are the same bits "
                             "for the same choice.", &kv_type, SLM_KV_F16, kv_types, PGC_USERSET, 0, NULL, assign_memory, NULL);
    DefineCustomIntVariable("slm.train_memory", "Memory that one fine-tuning may use.",
                            "Beyond the model's image, which is shared. Less memory means smaller pieces of work or more computing, not "
                            "another result but for rounding. What cannot be done with it is refused before it begins.",
                            &slm_guc_train_memory_kb, 1024 * 1024, 1024, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
    DefineCustomIntVariable("slm.cache_timeout", "How long a session that computes nothing keeps what it may use again.",
                            "Keys and values of instructions, label sets and threads. 0 keeps them for the life of the session. DISCARD "
                            "ALL gives them back at once; what no call can use again goes back when each call ends.",
                            &slm_guc_cache_timeout_ms, 60 * 1000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS, NULL, assign_memory, NULL);
}

static void define_models(void)
{
    DefineCustomStringVariable("slm.generate_model", "Model of the functions that generate text, when the call names none.",
                               "Also used by the token functions.", &slm_guc_generate_model, "", PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("slm.classify_model", "Model of the functions that classify, when the call names none.",
                               "Empty means slm.embed_model, or slm.generate_model where that is empty too.", &slm_guc_classify_model, "",
                               PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("slm.embed_model", "Model of the functions that compute embeddings, when the call names none.", NULL,
                               &slm_guc_embed_model, "", PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("slm.entity_model", "Model of the functions that find entities, when the call names none.", NULL,
                               &slm_guc_entity_model, "", PGC_USERSET, 0, NULL, NULL, NULL);
}

void slm_pg_define_gucs(void (*lowered)(void))
{
    memory_lowered = lowered;
    define_numbers();
    define_models();
    DefineCustomStringVariable("slm.isa", "Instruction set of the kernels: auto, ref, avx2, avx512 or neon.",
                               "auto takes the best that CPU and operating system support. Answers are the same bits with each.",
                               &isa, "auto", PGC_SUSET, 0, check_isa, assign_isa, NULL);
    DefineCustomEnumVariable("slm.huge_pages", "Pages of 2 MiB for the weights of models: try, on or off.",
                             "try takes them where the kernel gives them. on refuses to use a model without them. Models that a session "
                             "has mapped stay as they are.",
                             &huge_pages, SLM_HUGE_PAGES_TRY, huge_pages_options, PGC_SUSET, 0, NULL, assign_huge_pages, NULL);
    DefineCustomStringVariable("slm.model_directory", "Directory of the model images, shared by all databases of the cluster.",
                               "A relative name is below the data directory. Only the server should be able to write there.",
                               &slm_guc_model_directory, "slm_models", PGC_SIGHUP, 0, check_directory, NULL, NULL);
    DefineCustomRealVariable("slm.machine_cost_per_hour", "What an hour of this machine costs, in a currency of your choice.",
                             "Figures of cost are shares of it by the CPU time that was used. 0 means not known: no cost is shown.",
                             &slm_guc_machine_cost_per_hour, 0, 0, 1e9, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("slm.enable_calibration", "Corrects probabilities as slm_calibrate has learned.",
                             "off: probabilities as the model gives them, to compare.", &slm_guc_enable_calibration, true, PGC_USERSET, 0,
                             NULL, NULL, NULL);
    DefineCustomBoolVariable("slm.speculate", "Guesses the next tokens of an answer from the prompt's own text and checks several at once.",
                             "Answers are the same. It helps where an answer copies from its input, and stops by itself where it does not.",
                             &slm_guc_speculate, true, PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * finetune_teach.c: a fine-tuning that learns from the logits of a larger model: {"logits": 16, "logits_of": "large"}.
 *
 *   examples (tokens of prompt and answer) ──slm_teach──► k logits before each token of the answers ──► what slm_finetune_new learns from
 *
 * The teacher reads the student's tokens, so the vocabularies must be one; that is checked before any row is read.  The logits are held in
 * memory until the training ends, 8 bytes each, said before they are computed and counted to slm.train_memory.
 */
#include "pg/functions/finetune.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "pg/base/errors.h"
#include "pg/base/threads.h"
#include "pg/models/loading.h"
#include "pg/run/use.h"

#define HINT_TEXTS "Let it teach by its texts: leave out the option \"logits\", and give slm_distill a teacher that calls it."

static slm_teacher teacher_of(const SlmTuneSet *set)
{
    return (slm_teacher){.model = slm_pg_opened_model(set->teacher),
                         .adapter = slm_pg_opened_adapter(set->teacher),
                         .k = set->options->engine.lesson.k,
                         .stop = SLM_STOP};
}

void slm_pg_finetune_open_teacher(SlmTuneSet *set)
{
    const char *name = set->options->logits_of;
    slm_teacher teacher;
    slm_error err;

    if (!slm_pg_info(set->base)->can_generate)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an embedding model does not learn from logits"),
                        errhint("Leave out the option \"logits\", or choose a student that generates text.")));
    set->teacher = slm_pg_use_model(cstring_to_text(name), SLM_TASK_GENERATE);
    teacher = teacher_of(set);
    if (slm_teacher_check(&teacher, slm_pg_opened_model(set->base), &err) != SLM_OK) {
        slm_hint(&err, HINT_TEXTS);
        slm_pg_error(&err, psprintf("the logits of \"%s\" cannot be learned", name));
    }
}

void slm_pg_finetune_refuse_teacher(const SlmTuneSet *set)
{
    if (set->teacher != NULL)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a fine-tuning in the background does not learn from logits"),
                        errhint("Call slm_finetune or slm_distill, or leave out the option \"logits\" and let the query give the teacher's "
                                "texts.")));
}

static uint64 answers_of(const slm_example *list, size_t n)
{
    uint64 answers = 0;

    for (size_t i = 0; i < n; i++)
        answers += list[i].n - list[i].prompt;
    return answers;
}

/* Where each example has its guesses, from *at on. */
static void place(slm_example *list, size_t n, uint32_t k, slm_guess **at)
{
    for (size_t i = 0; i < n; i++) {
        list[i].guesses = *at;
        *at += (Size) (list[i].n - list[i].prompt) * k;
    }
}

static void teach(const SlmTuneSet *set, const slm_teacher *teacher, const slm_example *list, size_t n, size_t before, size_t all)
{
    size_t done = 0;

    while (done < n) {
        slm_status status;
        slm_error err;

        slm_pg_loading_report(NULL, before + done, all);
        status = slm_teach(teacher, list, n, &done, &err);
        if (status == SLM_CANCELLED)
            slm_pg_loading_interrupted();
        else if (status != SLM_OK) {
            if (status == SLM_LIMIT)
                slm_hint(&err, "Leave such rows out: {\"max_tokens\": %u, \"too_long\": \"skip\"}.", slm_pg_info(set->teacher)->n_context);
            slm_pg_error(&err, psprintf("the teacher \"%s\"", set->options->logits_of));
        }
    }
}

void slm_pg_finetune_teach(SlmTuneSet *set)
{
    slm_teacher teacher = teacher_of(set);
    uint64 answers = answers_of(set->examples, set->n_examples) + answers_of(set->held_out, set->n_held_out);
    Size bytes = (Size) answers * teacher.k * sizeof(slm_guess), most = set->options->engine.memory;
    slm_guess *at;

    if (bytes > most)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the teacher's logits take %zu MB of memory, but %zu MB are allowed", (bytes + 1048575) >> 20, most >> 20),
                        errhint("Raise slm.train_memory, or learn from fewer logits ({\"logits\": 8}) or fewer rows.")));
    ereport(NOTICE, (errmsg("model \"%s\" reads " UINT64_FORMAT " tokens of answers; %u logits of each take %zu MB of memory",
                            set->options->logits_of, answers, teacher.k, (bytes + 1048575) >> 20)));
    at = MemoryContextAllocHuge(CurrentMemoryContext, bytes);
    place(set->examples, set->n_examples, teacher.k, &at);
    place(set->held_out, set->n_held_out, teacher.k, &at);
    slm_pg_loading_phase("teaching");
    teacher.n_threads = slm_pg_take_threads();
    teach(set, &teacher, set->examples, set->n_examples, 0, set->n_examples + set->n_held_out);
    teach(set, &teacher, set->held_out, set->n_held_out, set->n_examples, set->n_examples + set->n_held_out);
    slm_pg_give_threads();
}

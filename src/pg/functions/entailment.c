/*
 * entailment.c: texts beside sentences, through a head for natural language inference (entailment.h).
 *
 * As zero-shot classification with such models is commonly done: labels that exclude each other compare their outputs for entailment; a
 * label or condition that stands alone is judged by entailment against contradiction, without what is neutral.
 */
#include "pg/functions/entailment.h"

#include "engine/slm.h"
#include "pg/functions/classification.h"
#include "pg/models/catalog.h"

/* Which outputs of the head these are. */
typedef struct Head {
    int entailment, against;
} Head;

static bool begins_with(const char *label, const char *word)
{
    return pg_strncasecmp(label, word, strlen(word)) == 0;
}

static bool find_head(const SlmOpenModel *entry, Head *head)
{
    const slm_model_info *info = slm_pg_info(entry);
    const char *label = info->labels;

    head->entailment = head->against = -1;
    if (!info->can_classify || info->head_kind == SLM_HEAD_NUMBER)
        return false;
    for (uint32_t i = 0; i < info->n_labels && label < info->labels + sizeof info->labels; i++, label += strlen(label) + 1) {
        if (begins_with(label, "entail"))
            head->entailment = (int) i;
        else if (begins_with(label, "contradict") || begins_with(label, "not_entail") || begins_with(label, "not entail"))
            head->against = (int) i;
    }
    return head->entailment >= 0 && head->against >= 0;
}

bool slm_pg_can_entail(const SlmOpenModel *entry)
{
    Head head;

    return find_head(entry, &head);
}

/* The sentence that leaves the text least room. */
static const char *longest_of(const char *const *sentences, int n)
{
    const char *longest = sentences[0];

    for (int i = 1; i < n; i++)
        if (strlen(sentences[i]) > strlen(longest))
            longest = sentences[i];
    return longest;
}

/* One sentence's place in the result. */
typedef struct Sentence {
    Head head;
    double *weight, *fits;
    bool known;
} Sentence;

static void take_outputs(void *arg, const float *outputs, size_t n, const char *window, size_t length)
{
    Sentence *s = arg;
    double entailment = (double) outputs[s->head.entailment], against = (double) outputs[s->head.against];
    double fits = 1 / (1 + slm_exp(against - entailment));

    if (s->known && fits <= *s->fits)
        return;
    *s->weight = entailment;
    *s->fits = fits;
    s->known = true;
}

SlmWeighed *slm_pg_read_entailment(SlmWork *work, SlmText text, const char *const *sentences, int n)
{
    SlmWeighed *e = palloc(sizeof *e);
    Sentence *all = palloc0(sizeof(Sentence) * (Size) n);

    e->n = n;
    e->weights = palloc0(sizeof(double) * (Size) n);
    e->fits = palloc0(sizeof(double) * (Size) n);
    text.hypothesis = longest_of(sentences, n);
    slm_pg_measure(&text);
    slm_pg_note_windows(work, &text);
    for (int i = 0; i < n; i++) {
        (void) find_head(text.entry, &all[i].head);
        all[i].weight = &e->weights[i];
        all[i].fits = &e->fits[i];
        text.hypothesis = sentences[i];
        slm_pg_read(work, &text, SLM_WINDOWS_WHOLE, take_outputs, &all[i]);
    }
    return e;
}

const char **slm_pg_label_sentences(const char *instruction, const SlmLabels *labels)
{
    const char **sentences = palloc(sizeof(char *) * (Size) labels->n);

    for (int i = 0; i < labels->n; i++)
        sentences[i] = slm_pg_fill(instruction, "{label}", slm_pg_described_label(labels, i, "%s (%s)"));
    return sentences;
}

SlmWeighed *slm_pg_read_label_entailment(SlmWork *work, SlmText text, const char *instruction, const SlmLabels *labels)
{
    return slm_pg_read_entailment(work, text, slm_pg_label_sentences(instruction, labels), labels->n);
}

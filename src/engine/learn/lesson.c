/*
 * The loss of a row of logits against a teacher's k largest, and its gradient (definitions: slm_lesson in slm.h).
 *
 *   p = softmax(teacher / T) over the k     q = softmax(z / T) over all tokens, or over the same k
 *   loss = T^2 sum p (log p - log q)        its gradient by z: T (q - p)
 *
 * Softmax at two temperatures is wanted of one row: it goes through in pieces that stay in the first-level cache, so that there is no
 * second row of logits.  Sums run in the order of the tokens.
 */
#include <math.h>

#include "engine/base/math.h"
#include "engine/learn/learn.h"

#define PIECE 1024 /* logits */

/* Log-sum of z * inverse over all tokens. */
static double lse_of_all(const slm_learn *t, const float *z, uint32_t n, float inverse)
{
    float piece[PIECE];
    double top = -INFINITY, sum = 0;
    for (uint32_t at = 0; at < n; at += PIECE) {
        uint32_t count = n - at < PIECE ? n - at : PIECE;
        for (uint32_t c = 0; c < count; c++)
            piece[c] = z[at + c] * inverse;
        double lse = (double) t->kn->logsumexp(piece, count);
        sum = lse > top ? sum * slm_exp(top - lse) + 1 : sum + slm_exp(lse - top);
        top = lse > top ? lse : top;
    }
    return top + slm_log(sum);
}

/* Log-sum of logits at a temperature: of the guesses themselves, or of z where they point. */
static double lse_of_guesses(const slm_guess *guesses, uint32_t k, const float *z, float inverse)
{
    double top = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < k; i++)
        top = fmax(top, (double) ((z == NULL ? guesses[i].logit : z[guesses[i].id]) * inverse));
    for (uint32_t i = 0; i < k; i++)
        sum += slm_exp((double) ((z == NULL ? guesses[i].logit : z[guesses[i].id]) * inverse) - top);
    return top + slm_log(sum);
}

double slm_learn_soft_loss(const slm_learn *t, const float *z, uint32_t n, const slm_guess *guesses, slm_learn_soft *soft)
{
    const slm_lesson *lesson = &t->lesson;
    float inverse = 1 / lesson->temperature;
    double teacher = lse_of_guesses(guesses, lesson->k, NULL, inverse), sum = 0;
    soft->lse = lesson->renormalize ? lse_of_guesses(guesses, lesson->k, z, inverse) : lse_of_all(t, z, n, inverse);
    for (uint32_t i = 0; i < lesson->k; i++) {
        double p = (double) (guesses[i].logit * inverse) - teacher, q = (double) (z[guesses[i].id] * inverse) - soft->lse;
        sum += slm_exp(p) * (p - q);
        soft->teacher[i] = (float) slm_exp(p);
        soft->student[i] = (float) slm_exp(q);
    }
    return (double) lesson->temperature * (double) lesson->temperature * sum;
}

void slm_learn_soft_gradient(const slm_learn *t, float *z, uint32_t n, const slm_guess *guesses, const slm_learn_soft *soft, float lse,
                             int32_t target)
{
    const slm_lesson *lesson = &t->lesson;
    float piece[PIECE], inverse = 1 / lesson->temperature, hard = lesson->mix, share = (1 - lesson->mix) * lesson->temperature;
    for (uint32_t at = 0; at < n; at += PIECE) {
        uint32_t count = n - at < PIECE ? n - at : PIECE;
        float *to = z + at;
        for (uint32_t c = 0; c < count; c++)
            piece[c] = to[c] * inverse;
        if (!lesson->renormalize)
            t->kn->exp_below(piece, (float) soft->lse, piece, count);
        t->kn->exp_below(to, lse, to, count);
        for (uint32_t c = 0; c < count; c++)
            to[c] = lesson->renormalize ? hard * to[c] : hard * to[c] + share * piece[c];
    }
    z[target] -= hard;
    for (uint32_t i = 0; i < lesson->k; i++)
        z[guesses[i].id] += share * ((lesson->renormalize ? soft->student[i] : 0) - soft->teacher[i]);
}

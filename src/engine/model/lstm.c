/*
 * An LSTM over the words of a text, once from the first to the last and once back (torch.nn.LSTM, one layer, bidirectional).
 *
 *   i, f, g, o = W x + b + V h + c       four gates, side by side, each as wide as the state
 *   cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)          h = sigmoid(o) * tanh(cell)
 *
 * One thread takes a text's words one after the other: bits depend on nothing else.  The sigmoid of x is (1 + tanh(x / 2)) / 2, so that
 * one kernel does both functions.
 * Source: Hochreiter & Schmidhuber 1997.
 */
#include <string.h>

#include "engine/model/run.h"

static void sigmoid(const slm_run *run, float *x, uint32_t n)
{
    for (uint32_t c = 0; c < n; c++)
        x[c] *= 0.5f;
    run->kn->softcap(x, x, 1.0f, n);
    for (uint32_t c = 0; c < n; c++)
        x[c] = 0.5f + 0.5f * x[c];
}

/* The gates of a word [4 * width], sums as yet, move cell and state [width]. */
static void move(const slm_run *run, float *gates, uint32_t width, float *cell, float *state)
{
    sigmoid(run, gates, 2 * width);
    run->kn->softcap(gates + 2 * width, gates + 2 * width, 1.0f, width);
    sigmoid(run, gates + 3 * width, width);
    for (uint32_t c = 0; c < width; c++)
        cell[c] = gates[width + c] * cell[c] + gates[c] * gates[2 * width + c];
    run->kn->softcap(cell, state, 1.0f, width);
    for (uint32_t c = 0; c < width; c++)
        state[c] *= gates[3 * width + c];
}

void slm_lstm_run(slm_run *run, slm_scratch *s, const slm_affine *state_of, uint32_t n, bool back, float *gates, size_t ldg, float *scratch,
                  float *out, size_t ldo)
{
    uint32_t width = state_of->w.cols;
    float *cell = scratch, *state = cell + slm_round_up(width, 16), *more = state + slm_round_up(width, 16);
    memset(cell, 0, width * sizeof *cell);
    memset(state, 0, width * sizeof *state);
    for (uint32_t i = 0; i < n && !slm_run_stopping(run); i++) {
        uint32_t at = back ? n - 1 - i : i;
        float *g = gates + at * ldg;
        slm_affine_rows(run, s, state_of, state, width, 1, more, 16 * (size_t) state_of->w.n_panels);
        for (uint32_t c = 0; c < 4 * width; c++)
            g[c] += more[c];
        move(run, g, width, cell, state);
        memcpy(out + at * ldo, state, width * sizeof *out);
    }
}

/*
 * What a training tells its caller, and hears from him: progress, and the stop flag.
 *
 * The flag may stand for something that can be settled on the way (a server's interrupt that is no cancel).  So whoever sees it first
 * reports progress once more: the callback may clear it, and the work goes on instead of being given up.  Calling thread only.
 */
#ifndef SLM_TRAIN_WATCH_H
#define SLM_TRAIN_WATCH_H

#include "engine/slm.h"

typedef struct slm_train_watch {
    const slm_train_options *options;
    const char *stage; /* as reported last */
    double done;       /* fraction reported so far, never falling */
} slm_train_watch;

static inline void slm_watch_report(slm_train_watch *w, const char *stage, double done)
{
    w->stage = stage;
    if (done > w->done)
        w->done = done;
    if (w->options->progress != NULL)
        w->options->progress(w->options->progress_arg, stage, w->done);
}

/* Is the work to be given up?  watch may be NULL: nobody can stop it. */
static inline bool slm_watch_stopped(slm_train_watch *w)
{
    const volatile int *stop = w == NULL ? NULL : w->options->stop;
    if (stop == NULL || !*stop)
        return false;
    if (w->options->progress != NULL)
        w->options->progress(w->options->progress_arg, w->stage, w->done);
    return *stop != 0;
}

#endif

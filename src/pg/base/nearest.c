/*
 * nearest.c: "did you mean" (nearest.h).
 *
 * A name resembles another when a few letters were mistaken, at most MAX_DISTANCE and at most every third: more than that is another
 * name.  A name that differs in nothing but letter case, or whose beginning was given, comes before all others.
 */
#include "pg/base/nearest.h"

#include "utils/varlena.h"

#define MAX_DISTANCE 3

void slm_pg_nearest_begin(SlmNearest *nearest, const char *wanted)
{
    nearest->wanted = wanted;
    nearest->best[0] = '\0';
    nearest->distance = Min(MAX_DISTANCE, (int) (strlen(wanted) + 2) / 3) + 1;
}

void slm_pg_nearest_try(SlmNearest *nearest, const char *name)
{
    int wanted = (int) strlen(nearest->wanted), length = (int) strlen(name), distance;

    if (wanted == 0 || wanted >= (int) sizeof nearest->best || length >= (int) sizeof nearest->best)
        return;
    if (pg_strcasecmp(nearest->wanted, name) == 0)
        distance = 0;
    else if (wanted >= 3 && length > wanted && pg_strncasecmp(nearest->wanted, name, (size_t) wanted) == 0)
        distance = 1;
    else
        distance = varstr_levenshtein_less_equal(nearest->wanted, wanted, name, length, 1, 1, 1, nearest->distance, true);
    if (distance >= nearest->distance)
        return;
    nearest->distance = distance;
    strlcpy(nearest->best, name, sizeof nearest->best);
}

const char *slm_pg_did_you_mean(const SlmNearest *nearest)
{
    return nearest->best[0] == '\0' ? "" : psprintf("Did you mean \"%s\"? ", nearest->best);
}

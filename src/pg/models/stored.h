/*
 * stored.h: images that travel with the data (stored.c).
 */
#ifndef SLM_PG_STORED_H
#define SLM_PG_STORED_H

#include "postgres.h"

/* Makes the image of a key from the rows of slm.image_part, under the key's lock; false where there are none. name: for messages. */
bool slm_pg_restore_image(const char *key, const char *name);
/* Writes the image of a key into slm.image_part, in place of what is there. The transaction holds the key's lock from now on. */
void slm_pg_keep_image(const char *key);
/* Deletes the rows of images that no row of the registry names any more. */
void slm_pg_forget_images(void);

#endif

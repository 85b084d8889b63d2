/*
 * client.c: what waits for the client is sent (client.h).
 *
 * Rows gather in a buffer of 8 kB, in which a whole answer has room, and go when it is full or the statement is done.  There are only whole
 * messages in it whenever a function runs: each is put together before it is added.
 */
#include "postgres.h"

/* libpq.h describes the connection with the headers of the libraries that it may use, which need not be there; nothing of it is used. */
#undef ENABLE_GSS
#undef USE_OPENSSL
#include "libpq/libpq.h"
#include "tcop/tcopprot.h"

#include "pg/base/client.h"

void slm_pg_send_rows(void)
{
    if (whereToSendOutput == DestRemote)
        (void) pq_flush_if_writable(); /* that the client is gone is seen at the next interrupt */
}

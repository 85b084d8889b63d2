/*
 * client.h: what waits for the client is sent (client.c).
 */
#ifndef SLM_PG_CLIENT_H
#define SLM_PG_CLIENT_H

/* Before something that takes its time, while rows of the statement may wait in the server's buffer: sends them, as far as the client
 * takes them now. Elsewhere than in a client's session it does nothing. */
void slm_pg_send_rows(void);

#endif

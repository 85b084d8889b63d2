/*
 * version.h: the version of the library, which is that of the extension's script.
 */
#ifndef SLM_PG_VERSION_H
#define SLM_PG_VERSION_H

#define SLM_PG_VERSION "0.1.0"

#endif

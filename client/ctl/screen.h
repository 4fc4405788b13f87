/* A whole terminal: the alternate screen, keys as they are pressed, its size. There is one; it is
 * put back in order however the process ends, but for SIGKILL. Thread: the main one. */
#ifndef CLIENT_CTL_SCREEN_H
#define CLIENT_CTL_SCREEN_H

#include "base/buf.h"

#include <stdbool.h>

enum { SCREEN_NOTHING = 0, SCREEN_RESIZED = -1, SCREEN_ENDED = -2 };

/* False: stdin or stdout is no terminal. */
bool screen_open(void);
void screen_close(void);
/* At least 1 by 1; 24 by 80 when it does not say. */
void screen_size(int *ret_rows, int *ret_columns);
/* A key (a byte), or what else ended the wait: SCREEN_NOTHING after `timeout_ms`, SCREEN_RESIZED,
 * or SCREEN_ENDED: no key can come any more. */
int screen_key(int timeout_ms);
/* Show these lines in the place of all that was there; what does not fit is cut off. Lines end with
 * '\n', and have no escapes but those of color. */
void screen_show(struct slice lines);
/* How many columns a UTF-8 text takes, escapes of color and broken bytes not counted. */
int screen_width(struct slice text);

#endif

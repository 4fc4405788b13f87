/* sd_notify(3), without the library: whoever started us is told that we serve. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stdint.h>

/* READY=1 to the socket that NOTIFY_SOCKET names; nothing when it is not set. Says in the log what
 * etcd says. */
void notify_ready(void);
/* STOPPING=1: it takes a moment, which is no failure. */
void notify_stopping(void);
/* To be called again and again by the thread without which nothing goes on: WATCHDOG=1, four times
 * in the time in which systemd wants to hear of us (WATCHDOG_USEC); nothing when it does not. */
void notify_alive(uint64_t now_ms);

#endif

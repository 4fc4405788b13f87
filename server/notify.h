/* sd_notify(3), without the library: whoever started us is told that we serve. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* READY=1 to the socket that NOTIFY_SOCKET names; nothing when it is not set. Says in the log what
 * etcd says. */
void notify_ready(void);

#endif

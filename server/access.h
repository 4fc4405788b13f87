/* Who may use HTTP at all, before any page is looked for: etcd's access controller. Hosts
 * (--host-whitelist, against DNS rebinding, where there is no TLS), origins of pages in browsers
 * (--cors), and certificates whose name the gateway would not go by. Source of rules and texts:
 * etcd server/embed/serve.go.
 *
 * Thread: a worker's. */
#ifndef SERVER_ACCESS_H
#define SERVER_ACCESS_H

#include "server/worker.h"

#include "proto/http1.h"

/* False: it is answered. `path` is decoded. Puts headers into the answer. */
bool access_admits(struct http1_exchange *x, const struct http1_request *req, struct slice path,
                   struct worker *w);
/* Is it among these, comma-separated, or is "*"? */
bool access_list_has(const char *list, struct slice item);

#endif

/* How members find each other that know no addresses but that of another cluster, or of a domain;
 * at the first start alone. Texts are etcd's: server/etcdserver/api/v3discovery, client/pkg/srv. */
#ifndef SERVER_DISCOVERY_H
#define SERVER_DISCOVERY_H

#include "server/config.h"
#include "state/cluster.h"

#include "base/buf.h"

struct grpc_loop;

/* --discovery-token and -endpoints: this member (`self_id` of a cluster of itself, `self` as
 * "name=URL,...") puts itself down under /_etcd/registry/<token>/members, and waits until all that
 * _config/size counts are there. *ret is then what --initial-cluster would say. Blocks, and runs
 * the loop, for as long as it takes. Errors: TV_EINVAL. */
int discovery_join(const struct config *c, struct grpc_loop *gl, uint64_t self_id, const char *self,
                   struct buf *ret, char *err_text, size_t err_size);

/* --discovery-srv: the same from the records _etcd-server-ssl._tcp and _etcd-server._tcp of a
 * domain. This member is the one that is at an address that it advertises. Blocks for as long as
 * the resolver does. Errors: TV_EINVAL. */
int discovery_srv(const struct config *c, struct buf *ret, char *err_text, size_t err_size);

#endif

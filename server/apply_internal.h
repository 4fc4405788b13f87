/* What the files of apply share: apply.c has the entries of the key space, leases, alarms and
 * members, apply_auth.c those of users and roles, and what entries ask permission for. */
#ifndef SERVER_APPLY_INTERNAL_H
#define SERVER_APPLY_INTERNAL_H

#include "server/apply.h"

/* A body that does not decode was never proposed by this program: the log is damaged or foreign. */
void applier__must_decode(int err);
/* The answer is a header. */
void applier__answer_header(struct applier *a, struct request *req);

/* May the entry's caller have what it asks for? 0, or why not. */
int applier__permit(struct applier *a, const struct wire_raft_request *entry);
/* An entry of a kind that is auth_request_is_kind(). */
int applier__apply_auth(struct applier *a, const struct wire_raft_request *entry,
                        struct request *req);

#endif

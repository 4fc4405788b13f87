/* Somebody who adds and removes users, roles and permissions while everything else goes on. Auth
 * stays disabled, so that nobody else notices; but what each of these entries finds, and so its
 * outcome, depends on all those before it, and every member's chain (server/agree.h) has it: one
 * that lost a role with a crash or a snapshot differs. What the answers say is of no interest. */
#ifndef TESTS_SIM_REGISTRAR_H
#define TESTS_SIM_REGISTRAR_H

#include "sim.h"

struct registrar *registrar_new(struct sim *s);
void registrar_free(struct registrar *r);
/* EVENT_REGISTRAR. */
void registrar_event(struct sim *s);

#endif

/* What the files of auth share: auth.c has the views and the checks, auth_change.c the changes,
 * auth_store.c the records. */
#ifndef SERVER_STATE_SRC_AUTH_INTERNAL_H
#define SERVER_STATE_SRC_AUTH_INTERNAL_H

#include "state/auth.h"

/* With one reference; everything is copied. `roles` are sorted and differ. */
struct auth_user *auth__user_new(struct slice name, struct slice password, bool no_password,
                                 const struct slice *roles, uint32_t roles_count);
struct auth_role *auth__role_new(struct slice name, const struct auth_permission *permissions,
                                 uint32_t permissions_count);
void auth__user_unref(struct auth_user *u);
void auth__role_unref(struct auth_role *r);

/* Bytes that it takes in its record. */
size_t auth__user_bytes(const struct auth_user *u);
size_t auth__role_bytes(const struct auth_role *r);

/* A view to be made: like `of`, with room for one more user and role. */
struct auth_view *auth__view_copy(const struct auth_view *of);
void auth__view_free(void *view);
/* In the place of the one of that name, or as a new one; the reference is taken. */
void auth__put_user(struct auth_view *v, struct auth_user *u);
void auth__put_role(struct auth_view *v, struct auth_role *r);
/* There is one. */
void auth__drop_user(struct auth_view *v, struct slice name);
void auth__drop_role(struct auth_view *v, struct slice name);
/* Takes the place of the present view. */
void auth__publish(struct auth *a, struct auth_view *v);

/* A range that a permission may be for. */
bool auth__range_is_valid(struct slice key, struct slice range_end);
/* The record that the name belongs in. */
uint32_t auth__bucket(struct slice name);

#endif

/* Folders: making one, durable names, removing one with all that is in it. */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include <stdbool.h>

/* It is there when this returns 0; a new one is its owner's alone. TV_ENOSPC or TV_EIO, with errno.
 */
int folder_make(const char *dir);
/* The names in the folder are durable when this returns 0. TV_EIO, with errno. */
int folder_sync(const char *dir);
/* A file whose name ends like this is in the folder. */
bool folder_has(const char *dir, const char *end);
/* Remove a folder with the files and folders in it; what cannot be removed stays. */
void folder_remove(const char *dir);

#endif

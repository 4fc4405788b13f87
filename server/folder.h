/* Folders: durable names, and removing one with all that is in it. */
#ifndef SERVER_FOLDER_H
#define SERVER_FOLDER_H

/* The names in the folder are durable when this returns 0. TV_EIO, with errno. */
int folder_sync(const char *dir);
/* Remove a folder with the files and folders in it; what cannot be removed stays. */
void folder_remove(const char *dir);

#endif

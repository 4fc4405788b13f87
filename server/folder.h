/* Folders that were begun and are of no use. Thread: any. */
#ifndef SERVER_FOLDER_H
#define SERVER_FOLDER_H

/* Remove a folder, the files in it and in its folders, as far as it can; it need not exist. */
void folder_remove(const char *dir);

#endif

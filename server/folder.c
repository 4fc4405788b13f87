#include "server/folder.h"

#include "base/err.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int folder_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return TV_EIO;
    int rv = fsync(fd);
    close(fd);
    return rv == 0 ? 0 : TV_EIO;
}

void folder_remove(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL)
        return; /* not there */
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        char path[4400];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (unlink(path) != 0)
            folder_remove(path);
    }
    closedir(d);
    (void)rmdir(dir); /* what is left is in the way of the next one, which says so */
}

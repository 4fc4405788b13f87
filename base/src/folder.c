#include "base/folder.h"

#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int folder_make(const char *dir)
{
    if (mkdir(dir, 0700) == 0 || errno == EEXIST)
        return 0;
    return errno == ENOSPC ? TV_ENOSPC : TV_EIO;
}

int folder_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return TV_EIO;
    int rv = fsync(fd);
    close(fd);
    return rv == 0 ? 0 : TV_EIO;
}

bool folder_has(const char *dir, const char *end)
{
    DIR *d = opendir(dir);
    if (d == NULL)
        return false;
    bool found = false;
    struct dirent *e;
    while (!found && (e = readdir(d)) != NULL) {
        size_t size = strlen(e->d_name), end_size = strlen(end);
        found = size >= end_size && strcmp(e->d_name + size - end_size, end) == 0;
    }
    closedir(d);
    return found;
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

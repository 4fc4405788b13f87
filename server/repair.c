#include "server/repair.h"

#include "base/folder.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4300, WHAT_BYTES_MAX = 1024 };

int repair_mode_parse(const char *text, enum repair_mode *ret_mode)
{
    if (strcmp(text, "auto") == 0)
        *ret_mode = REPAIR_AUTO;
    else if (strcmp(text, "refuse") == 0)
        *ret_mode = REPAIR_REFUSE;
    else
        return TV_EINVAL;
    return 0;
}

/* --- folders --- */

static void path_in(char ret[PATH_BYTES_MAX], const char *dir, const char *name)
{
    int n = snprintf(ret, PATH_BYTES_MAX, "%s/%s", dir, name);
    ASSERT(n > 0 && n < PATH_BYTES_MAX);
}

bool repair_was_set_aside(const char *data_dir)
{
    char damaged[PATH_BYTES_MAX];
    int n = snprintf(damaged, sizeof(damaged), "%s/member.damaged", data_dir);
    return n > 0 && (size_t)n < sizeof(damaged) && access(damaged, F_OK) == 0;
}

/* `dir` becomes `dir`.damaged, durably; what an earlier repair left there goes. Nothing happens
 * when `dir` is not there: an interrupted repair came this far. */
static int rename_damaged(const char *dir)
{
    char damaged[PATH_BYTES_MAX], parent[PATH_BYTES_MAX];
    int n = snprintf(damaged, sizeof(damaged), "%s.damaged", dir);
    ASSERT(n > 0 && n < PATH_BYTES_MAX);
    (void)snprintf(parent, sizeof(parent), "%s", dir);
    if (access(dir, F_OK) != 0)
        return errno == ENOENT ? 0 : TV_EIO;
    folder_remove(damaged);
    if (rename(dir, damaged) != 0)
        return TV_EIO;
    return folder_sync(dirname(parent));
}

/* --- the marker --- */

static void marker_path(char ret[PATH_BYTES_MAX], const char *data_dir)
{
    path_in(ret, data_dir, "repair");
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return TV_EIO;
    size_t size = strlen(text);
    bool ok = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
    close(fd);
    return ok ? 0 : TV_EIO;
}

/* The bytes are durable before the name is, so a marker that is there is whole. */
static int write_marker(const char *data_dir, const char *what)
{
    char path[PATH_BYTES_MAX], fresh[PATH_BYTES_MAX];
    marker_path(path, data_dir);
    path_in(fresh, data_dir, "repair.new");
    int err = write_file(fresh, what);
    if (err == 0 && rename(fresh, path) != 0)
        err = TV_EIO;
    return err != 0 ? err : folder_sync(data_dir);
}

static int remove_marker(const char *data_dir)
{
    char path[PATH_BYTES_MAX];
    marker_path(path, data_dir);
    if (unlink(path) != 0 && errno != ENOENT)
        return TV_EIO;
    return folder_sync(data_dir);
}

bool repair_is_marked(const struct repair *r, char *ret_what, size_t size)
{
    char path[PATH_BYTES_MAX];
    marker_path(path, r->data_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, ret_what, size - 1);
    close(fd);
    ret_what[got > 0 ? got : 0] = '\0'; /* the reason is only told: the marker is what counts */
    return true;
}

void repair_mark(const char *data_dir, const char *what)
{
    int err = write_marker(data_dir, what);
    log_error("the data is damaged; this process ends, and the next start sees to it",
              LOG_STR("data-dir", data_dir), LOG_STR("damage", what), LOG_BOOL("marked", err == 0));
}

/* --- what is missing --- */

static bool has_segments(const char *wal_dir)
{
    DIR *d = opendir(wal_dir);
    if (d == NULL)
        return false;
    bool found = false;
    struct dirent *e;
    while (!found && (e = readdir(d)) != NULL) {
        size_t size = strlen(e->d_name);
        found = size > 4 && strcmp(e->d_name + size - 4, ".wal") == 0;
    }
    closedir(d);
    return found;
}

int repair_check_folders(const char *lsm_dir, const char *wal_dir, char *err_text, size_t size)
{
    char current[PATH_BYTES_MAX], old[PATH_BYTES_MAX];
    path_in(current, lsm_dir, "CURRENT");
    (void)snprintf(old, sizeof(old), "%s.old", lsm_dir); /* an interrupted install: install.h */
    if (access(current, F_OK) == 0 || access(old, F_OK) == 0 || !has_segments(wal_dir))
        return 0;
    (void)snprintf(err_text, size, "%s: offset 0: the file is missing, but there is a log in %s",
                   current, wal_dir);
    return TV_ECORRUPT;
}

/* --- setting aside --- */

static int refuse(const struct repair *r, const char *what, const char *advice)
{
    LOG_AT(LOG_FATAL, "the data of this member is damaged", LOG_STR("damage", what),
           LOG_STR("data-dir", r->data_dir), LOG_STR("advice", advice));
    return TV_ECORRUPT;
}

static int move_all(const struct repair *r, const char *what)
{
    char member[PATH_BYTES_MAX];
    path_in(member, r->data_dir, "member");
    int err = write_marker(r->data_dir, what);
    if (err == 0 && *r->wal_dir != '\0')
        err = rename_damaged(r->wal_dir);
    if (err == 0)
        err = rename_damaged(member);
    return err != 0 ? err : remove_marker(r->data_dir);
}

int repair_set_aside(const struct repair *r, const char *what)
{
    if (r->mode == REPAIR_REFUSE)
        return refuse(r, what,
                      "nothing was changed; start with --repair=auto to have it set aside and "
                      "brought back from the other members, or remove this member and add it anew");
    if (r->members_count <= 1)
        return refuse(r, what,
                      "nothing was changed; this cluster has no other members to bring the data "
                      "back from: restore a backup into an empty data directory");
    char kept[WHAT_BYTES_MAX];
    (void)snprintf(kept, sizeof(kept), "%s", what);
    int err = move_all(r, kept);
    if (err != 0) {
        LOG_AT(LOG_FATAL, "cannot set damaged data aside", LOG_STR("damage", kept),
               LOG_STR("data-dir", r->data_dir), LOG_STR("error", strerror(errno)));
        return err;
    }
    log_warn("the data of this member is damaged; it is set aside, and comes back from the others",
             LOG_STR("damage", kept), LOG_STR("data-dir", r->data_dir),
             LOG_STR("set-aside", *r->wal_dir == '\0' ? "member.damaged"
                                                      : "member.damaged and the log's folder"));
    return 0;
}

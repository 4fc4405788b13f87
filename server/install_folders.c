/* Where a node's store is: RocksDB's database in a folder, and two folders beside it. */
#include "server/install.h"

#include "base/folder.h"
#include "server/node.h"

#include "base/assert.h"
#include "base/err.h"

#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4300 };

static void path_of(const struct node *n, enum install_part part, char ret[PATH_BYTES_MAX])
{
    static const char *const suffix[INSTALL_PARTS_COUNT] = {
        [INSTALL_STORE] = "", [INSTALL_OLD] = ".old", [INSTALL_INCOMING] = ".incoming"};
    (void)snprintf(ret, PATH_BYTES_MAX, "%s%s", n->lsm_dir, suffix[part]); /* fits: choose_dirs() */
}

static bool on_exists(void *ctx, enum install_part part)
{
    char path[PATH_BYTES_MAX];
    path_of(ctx, part, path);
    return access(path, F_OK) == 0;
}

/* The names in the folder that `path` is in are durable. */
static int sync_parent(const char *path)
{
    char copy[PATH_BYTES_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", path);
    return folder_sync(dirname(copy));
}

static int on_move(void *ctx, enum install_part from, enum install_part to)
{
    char from_path[PATH_BYTES_MAX], to_path[PATH_BYTES_MAX];
    path_of(ctx, from, from_path);
    path_of(ctx, to, to_path);
    return rename(from_path, to_path) == 0 ? sync_parent(to_path) : TV_EIO;
}

static void on_remove(void *ctx, enum install_part part)
{
    char path[PATH_BYTES_MAX];
    path_of(ctx, part, path);
    folder_remove(path);
}

static void on_close(void *ctx)
{
    lsm_close(((struct node *)ctx)->lsm);
}

static void on_open(void *ctx, struct persist_options *ret)
{
    struct node *n = ctx;
    char err_text[512];
    struct lsm_options o;
    node_lsm_options(n, &o);
    if (lsm_open(n->lsm_dir, &o, &n->lsm, err_text, sizeof(err_text)) != 0)
        tv_fatal("cannot open the store after a snapshot was installed: %s", err_text);
    ret->lsm = n->lsm;
}

struct install_place install_folders(struct node *n)
{
    return (struct install_place){.ctx = n,
                                  .exists = on_exists,
                                  .move = on_move,
                                  .remove = on_remove,
                                  .close = on_close,
                                  .open = on_open};
}

uint64_t install_index(struct lsm *l)
{
    uint64_t index = 0;
    struct buf value;
    buf_init(&value, 64);
    if (lsm_get(l, STATE_RECORD_INSTALLED, &value) == 0 && value.size == sizeof(index))
        memcpy(&index, value.data, sizeof(index));
    buf_fini(&value);
    return index;
}

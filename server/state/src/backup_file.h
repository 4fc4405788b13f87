/* A snapshot file that is open, for what reads one; see state/backup.h. */
#ifndef SERVER_STATE_SRC_BACKUP_FILE_H
#define SERVER_STATE_SRC_BACKUP_FILE_H

#include "base/slice.h"
#include "storage/bbolt.h"

enum { BACKUP_HASH_BYTES = 32 };

struct backup_file {
    struct slice mapped; /* the whole file */
    struct slice hash;   /* the SHA-256 behind the database; empty: there is none */
    struct bbolt *db;
};

/* Errors: TV_EIO, TV_ECORRUPT, TV_ENOTSUP with words in err_text. */
int backup_file_open(const char *path, struct backup_file *ret, char *err_text, size_t err_size);
void backup_file_close(struct backup_file *f);
/* Does the hash verify? Errors: TV_ECORRUPT with words in err_text. */
int backup_file_check(const struct backup_file *f, char *err_text, size_t err_size);

/* A key of the bucket "key": 8 bytes main, '_', 8 bytes sub, perhaps 't'. False: it is none. */
bool backup_revision_parse(struct slice key, int64_t *ret_main, int64_t *ret_sub,
                           bool *ret_tombstone);
/* The key in an encoded mvccpb.KeyValue; data is NULL when there is none. Errors: TV_EMALFORMED. */
int backup_kv_key(struct slice kv, struct slice *ret);

#endif

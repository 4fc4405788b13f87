/* Alters the value of a key in a stopped member's store so that no checksum tells: the block is
 * written anew by RocksDB, and the sum in the state record is what it then should be.
 *
 *   alter LSM-FOLDER KEY */
#include "lsm_internal.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static void must(char *message, const char *what)
{
    if (message == NULL)
        return;
    fprintf(stderr, "%s: %s\n", what, message);
    exit(1);
}

static uint64_t hash_of(const uint8_t *key, struct slice kv)
{
    int64_t rev;
    uint32_t sub;
    bool tombstone;
    struct mvcc_version *v;
    if (!lsm__kv_key_parse(key, LSM_KV_KEY_BYTES, &rev, &sub, &tombstone) ||
        mvcc_version_new(rev, sub, tombstone, kv, &v) != 0)
        must("it is damaged", "the version");
    uint64_t hash = mvcc_version_hash(v);
    mvcc_version_free(v);
    return hash;
}

static bool is_of(struct slice kv, const char *name)
{
    size_t size = strlen(name);
    return kv.size > 2 + size && kv.data[1] == size && memcmp(kv.data + 2, name, size) == 0;
}

static void alter(rocksdb_t *db, const uint8_t *key, const uint8_t *value, size_t size)
{
    char *message = NULL;
    uint8_t *changed = mem_alloc(size);
    memcpy(changed, value, size);
    changed[size - 1] ^= 1; /* of the value: there is no lease */
    size_t state_size;
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    uint8_t *state = (uint8_t *)rocksdb_get(db, ro, "s", 1, &state_size, &message);
    must(message, "the state record");
    uint64_t sum = lsm__get_be64(state + 36);
    lsm__put_be64(state + 36, sum - hash_of(key, slice_of(value, size)) +
                                  hash_of(key, slice_of(changed, size)));
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    rocksdb_writebatch_put(b, (const char *)key, LSM_KV_KEY_BYTES, (const char *)changed, size);
    rocksdb_writebatch_put(b, "s", 1, (const char *)state, state_size);
    rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(wo, 1);
    rocksdb_write(db, wo, b, &message);
    must(message, "writing");
    rocksdb_writeoptions_destroy(wo);
    rocksdb_writebatch_destroy(b);
    rocksdb_readoptions_destroy(ro);
    rocksdb_free(state);
    mem_free(changed);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: alter LSM-FOLDER KEY\n");
        return 2;
    }
    char *message = NULL;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_num_levels(o, 2);
    rocksdb_t *db = rocksdb_open(o, argv[1], &message);
    must(message, argv[1]);
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, ro);
    int status = 1;
    for (rocksdb_iter_seek_to_last(it); rocksdb_iter_valid(it); rocksdb_iter_prev(it)) {
        size_t key_size, size;
        const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &key_size);
        const uint8_t *value = (const uint8_t *)rocksdb_iter_value(it, &size);
        if (key[0] != 'k' || !is_of(slice_of(value, size), argv[2]))
            continue;
        alter(db, key, value, size);
        status = 0;
        break;
    }
    if (status != 0)
        fprintf(stderr, "there is no %s\n", argv[2]);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(ro);
    rocksdb_close(db);
    rocksdb_options_destroy(o);
    return status;
}

/* trivetctl snapshot status and restore: etcdutl's flags and what it prints. */
#include "client/snapshot.h"
#include "server/backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_BAD_FEATURE = 4, EXIT_BAD_ARGS = 128 }; /* pkg/cobrautl */

static int failed(int status, const char *text)
{
    fprintf(stderr, "Error: %s\n", text);
    return status;
}

/* As etcd's commands print sizes: in thousands, one digit below ten. */
static void print_size(char *dst, size_t dst_size, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1000;
        unit++;
    }
    if (unit == 0)
        (void)snprintf(dst, dst_size, "%" PRIu64 " B", bytes);
    else
        (void)snprintf(dst, dst_size, value < 9.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

/* One line of the frame, of box-drawing characters. */
static void print_line(const size_t *widths, size_t count, const char *left, const char *middle,
                       const char *right)
{
    for (size_t i = 0; i < count; i++) {
        printf("%s", i == 0 ? left : middle);
        for (size_t j = 0; j < widths[i] + 2; j++)
            printf("\u2500");
    }
    printf("%s\n", right);
}

/* As the table that etcdutl draws: heads in the middle, cells on the right. */
static void print_table(const char *const *cells, const char *const *heads, size_t count)
{
    size_t widths[8];
    for (size_t i = 0; i < count; i++)
        widths[i] = strlen(heads[i]) > strlen(cells[i]) ? strlen(heads[i]) : strlen(cells[i]);
    print_line(widths, count, "\u250c", "\u252c", "\u2510");
    for (size_t i = 0; i < count; i++) {
        int room = (int)(widths[i] - strlen(heads[i]));
        printf("\u2502 %*s%s%*s ", room / 2, "", heads[i], room - room / 2, "");
    }
    printf("\u2502\n");
    print_line(widths, count, "\u251c", "\u253c", "\u2524");
    for (size_t i = 0; i < count; i++)
        printf("\u2502 %*s ", (int)widths[i], cells[i]);
    printf("\u2502\n");
    print_line(widths, count, "\u2514", "\u2534", "\u2518");
}

static void print_fields(const struct backup_status *s)
{
    printf("\"Hash\" : %" PRIu32 "\n\"Revision\" : %" PRId64 "\n\"Keys\" : %" PRIu64
           "\n\"Size\" : %" PRIu64 "\n\"Version\" : %s\n",
           s->hash, s->revision, s->keys_count, s->size_bytes, s->version);
}

static int print_status(const struct backup_status *s, const char *how)
{
    char hash[16], revision[24], keys[24], size[24];
    (void)snprintf(hash, sizeof(hash), "%" PRIx32, s->hash);
    (void)snprintf(revision, sizeof(revision), "%" PRId64, s->revision);
    (void)snprintf(keys, sizeof(keys), "%" PRIu64, s->keys_count);
    print_size(size, sizeof(size), s->size_bytes);
    const char *cells[] = {hash, revision, keys, size, s->version};
    static const char *const heads[] = {"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"};
    if (strcmp(how, "simple") == 0)
        printf("%s, %s, %s, %s, %s\n", hash, revision, keys, size, s->version);
    else if (strcmp(how, "json") == 0)
        printf("{\"hash\":%" PRIu32 ",\"revision\":%" PRId64 ",\"totalKey\":%" PRIu64
               ",\"totalSize\":%" PRIu64 ",\"version\":\"%s\"}\n",
               s->hash, s->revision, s->keys_count, s->size_bytes, s->version);
    else if (strcmp(how, "table") == 0)
        print_table(cells, heads, sizeof(cells) / sizeof(cells[0]));
    else if (strcmp(how, "fields") == 0)
        print_fields(s);
    else
        return failed(EXIT_BAD_FEATURE, "unsupported output format");
    return EXIT_SUCCESS;
}

int snapshot_status_command(const struct snapshot_flags *flags, const char *path)
{
    struct backup_status s;
    char err_text[512];
    if (backup_status(path, &s, err_text, sizeof(err_text)) != 0)
        return failed(EXIT_FAILURE, err_text);
    return print_status(&s, flags->write_out != NULL ? flags->write_out : "simple");
}

static const char *or_default(const char *value, const char *fallback)
{
    return value != NULL ? value : fallback;
}

int snapshot_restore_command(const struct snapshot_flags *flags, const char *path)
{
    char dir[4096], err_text[4600];
    if ((flags->bump_revision > 0) != flags->mark_compacted)
        return failed(EXIT_BAD_ARGS, "--mark-compacted required if --revision-bump > 0");
    const char *name = or_default(flags->name, "default");
    (void)snprintf(dir, sizeof(dir), "%.4000s.etcd", name);
    struct backup_restore o = {
        .path = path,
        .data_dir = flags->data_dir != NULL && *flags->data_dir != '\0' ? flags->data_dir : dir,
        .wal_dir = or_default(flags->wal_dir, ""),
        .name = name,
        .initial_cluster = or_default(flags->initial_cluster, "default=http://localhost:2380"),
        .initial_cluster_token = or_default(flags->initial_cluster_token, "etcd-cluster"),
        .advertise_peer_urls = or_default(flags->advertise_peer_urls, "http://localhost:2380"),
        .skip_hash_check = flags->skip_hash_check,
        .bump_revision = flags->bump_revision,
    };
    if (backup_restore(&o, err_text, sizeof(err_text)) != 0)
        return failed(EXIT_FAILURE, err_text);
    return EXIT_SUCCESS;
}

/* Where the log goes: a file that is set aside when it is full, and systemd's journal. */
#include "unit.h"

#include "server/log_journal.h"
#include "server/log_rotate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { LINE_BYTES = 1024, FILES_MAX = 64 };

static char folder[64];
static char path[128];
static char names[FILES_MAX][256];

static void new_folder(void)
{
    snprintf(folder, sizeof(folder), "/tmp/trivet-log-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/in/it.log", folder);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* What is beside the log, sorted. */
static uint32_t list(void)
{
    char in[128];
    uint32_t count = 0;
    snprintf(in, sizeof(in), "%s/in", folder);
    DIR *d = opendir(in);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.')
            snprintf(names[count++], sizeof(names[0]), "%s", e->d_name);
    if (d != NULL)
        closedir(d);
    qsort(names, count, sizeof(names[0]), by_text);
    return count;
}

static void remove_folder(void)
{
    char file[512];
    for (uint32_t i = list(); i > 0; i--) {
        snprintf(file, sizeof(file), "%s/in/%s", folder, names[i - 1]);
        unlink(file);
    }
    snprintf(file, sizeof(file), "%s/in", folder);
    rmdir(file);
    rmdir(folder);
}

static void write_lines(struct log_rotate *r, char mark, uint32_t count)
{
    char line[LINE_BYTES];
    memset(line, mark, sizeof(line));
    line[sizeof(line) - 1] = '\n';
    for (uint32_t i = 0; i < count; i++)
        ck_assert(log_rotate_write(r, line, sizeof(line)));
}

static uint64_t size_of(const char *name)
{
    char file[512];
    struct stat st;
    snprintf(file, sizeof(file), "%s/in/%s", folder, name);
    return stat(file, &st) == 0 ? (uint64_t)st.st_size : UINT64_MAX;
}

static struct log_rotate *begin(struct log_rotate_options o)
{
    o.size_max_bytes = o.size_max_bytes == 0 ? 8 * LINE_BYTES : o.size_max_bytes;
    return log_rotate_new(path, &o);
}

START_TEST(test_rotates)
{
    new_folder();
    struct log_rotate *r = begin((struct log_rotate_options){0});
    ck_assert_uint_eq(list(), 0); /* not before the first line */
    write_lines(r, 'a', 8);
    ck_assert_uint_eq(list(), 1);
    usleep(2000); /* its name has milliseconds */
    write_lines(r, 'b', 1);
    ck_assert_uint_eq(list(), 2);
    ck_assert_str_eq(names[1], "it.log");
    int unused[7];
    ck_assert_int_eq(sscanf(names[0], "it-%4d-%2d-%2dT%2d-%2d-%2d.%3d.log", &unused[0], &unused[1],
                            &unused[2], &unused[3], &unused[4], &unused[5], &unused[6]),
                     7);
    ck_assert_uint_eq(strlen(names[0]), strlen("it-2006-01-02T15-04-05.000.log"));
    ck_assert_uint_eq(size_of(names[0]), 8 * LINE_BYTES);
    ck_assert_uint_eq(size_of("it.log"), LINE_BYTES);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    log_rotate_free(r);
    /* Another run goes on in the same file. */
    r = begin((struct log_rotate_options){0});
    write_lines(r, 'c', 1);
    ck_assert_uint_eq(size_of("it.log"), 2 * LINE_BYTES);
    log_rotate_free(r);
    remove_folder();
}
END_TEST

/* Many lines at once, as the log's thread brings them, are split between files, and no line is. */
START_TEST(test_batches)
{
    static char batch[100 * LINE_BYTES];
    new_folder();
    for (size_t i = 0; i < sizeof(batch); i++)
        batch[i] = (i + 1) % 1000 == 0 ? '\n' : 'x';
    batch[sizeof(batch) - 1] = '\n';
    struct log_rotate *r = begin((struct log_rotate_options){.size_max_bytes = 64 << 10});
    ck_assert(log_rotate_write(r, batch, sizeof(batch)));
    log_rotate_free(r);
    uint32_t count = list();
    ck_assert_uint_eq(count, 2);
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += size_of(names[i]);
    ck_assert_uint_eq(total, sizeof(batch));
    ck_assert_uint_eq(size_of(names[0]) % 1000, 0);
    remove_folder();
}
END_TEST

START_TEST(test_keeps_few)
{
    new_folder();
    struct log_rotate *r = begin((struct log_rotate_options){.backups_max = 2});
    for (char mark = 'a'; mark < 'g'; mark++) {
        write_lines(r, mark, 8);
        usleep(20000); /* what deletes is another thread */
    }
    log_rotate_free(r);
    ck_assert_uint_eq(list(), 3);
    remove_folder();
}
END_TEST

START_TEST(test_forgets_old_ones)
{
    char old[512], other[512];
    new_folder();
    snprintf(old, sizeof(old), "%s/in", folder);
    ck_assert_int_eq(mkdir(old, 0755), 0);
    snprintf(old, sizeof(old), "%s/in/it-2001-02-03T04-05-06.789.log", folder);
    snprintf(other, sizeof(other), "%s/in/it-2001-02-03.log", folder); /* none of ours */
    close(open(old, O_CREAT | O_WRONLY, 0600));
    close(open(other, O_CREAT | O_WRONLY, 0600));
    struct log_rotate *r = begin((struct log_rotate_options){.age_max_days = 1});
    write_lines(r, 'a', 8);
    usleep(2000);
    write_lines(r, 'b', 1);
    log_rotate_free(r);
    ck_assert_uint_eq(list(), 3);
    ck_assert_int_ne(access(old, F_OK), 0);
    ck_assert_int_eq(access(other, F_OK), 0);
    remove_folder();
}
END_TEST

START_TEST(test_compresses)
{
    char packed[512], line[LINE_BYTES + 1];
    new_folder();
    struct log_rotate *r = begin((struct log_rotate_options){.compress = true});
    write_lines(r, 'a', 8);
    write_lines(r, 'b', 1);
    log_rotate_free(r);
    ck_assert_uint_eq(list(), 2);
    ck_assert_str_eq(names[0] + strlen(names[0]) - 7, ".log.gz");
    snprintf(packed, sizeof(packed), "%s/in/%s", folder, names[0]);
    gzFile f = gzopen(packed, "rb");
    ck_assert_ptr_nonnull(f);
    for (uint32_t i = 0; i < 8; i++)
        ck_assert_int_eq(gzread(f, line, LINE_BYTES), LINE_BYTES);
    ck_assert_int_eq(gzread(f, line, LINE_BYTES), 0);
    ck_assert_int_eq(line[0], 'a');
    gzclose(f);
    remove_folder();
}
END_TEST

START_TEST(test_rotation_options)
{
    struct log_rotate_options o;
    char why[256];
    ck_assert_int_eq(log_rotate_parse("{\"maxsize\": 5, \"maxage\": 6, \"maxbackups\": 7, "
                                      "\"localtime\": true, \"compress\": true}",
                                      &o, why, sizeof(why)),
                     0);
    ck_assert_uint_eq(o.size_max_bytes, 5 << 20);
    ck_assert_uint_eq(o.age_max_days, 6);
    ck_assert_uint_eq(o.backups_max, 7);
    ck_assert(o.local_time && o.compress);
    ck_assert_int_eq(log_rotate_parse("{}", &o, why, sizeof(why)), 0);
    ck_assert_uint_eq(o.size_max_bytes, 100 << 20);
    ck_assert_int_ne(log_rotate_parse("{\"maxsize\": 1.5}", &o, why, sizeof(why)), 0);
    ck_assert_int_ne(log_rotate_parse("{\"maxsize\": 99999999999999999999}", &o, why, sizeof(why)),
                     0);
}
END_TEST

START_TEST(test_journal)
{
    static const struct {
        const char *line, *priority, *package;
    } cases[] = {
        {"{\"level\":\"info\",\"ts\":\"x\",\"caller\":\"server/node.c:5\",\"msg\":\"m\"}\n", "6",
         "server"},
        {"{\"level\":\"warn\",\"ts\":\"x\",\"caller\":\"server/node.c:5\",\"msg\":\"m\"}\n", "4",
         "server"},
        {"{\"level\":\"fatal\",\"ts\":\"x\",\"caller\":\"node.c:5\",\"msg\":\"m\"}\n", "2", "."},
        {"2026-01-01T00:00:00.000000Z\terror\tserver/node.c:5\tm\n", "3", "server"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out;
        char wanted[512];
        size_t size = strlen(cases[i].line);
        buf_init(&out, 4096);
        log_journal_encode(slice_of_string(cases[i].line), "trivetd", &out);
        int head = snprintf(wanted, sizeof(wanted),
                            "PRIORITY=%s\nPACKAGE=%s\nSYSLOG_IDENTIFIER=trivetd\nMESSAGE\n",
                            cases[i].priority, cases[i].package);
        ck_assert_uint_eq(out.size, (size_t)head + 8 + size + 1);
        ck_assert_mem_eq(out.data, wanted, head);
        ck_assert_uint_eq(out.data[head], size);
        for (int b = 1; b < 8; b++)
            ck_assert_uint_eq(out.data[head + b], 0);
        ck_assert_mem_eq(out.data + head + 8, cases[i].line, size);
        ck_assert_uint_eq(out.data[out.size - 1], '\n');
        buf_fini(&out);
    }
}
END_TEST

START_TEST(test_journal_socket)
{
    static const char lines[] =
        "{\"level\":\"info\",\"msg\":\"one\"}\n{\"level\":\"info\",\"msg\":\"two\"}\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char got[512];
    new_folder();
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
    ck_assert_int_lt(log_journal_open(address.sun_path), 0);
    ck_assert_int_eq(errno, ENOENT);
    int journal = socket(AF_UNIX, SOCK_DGRAM, 0);
    ck_assert_int_eq(bind(journal, (struct sockaddr *)&address, sizeof(address)), 0);
    int fd = log_journal_open(address.sun_path);
    ck_assert_int_ge(fd, 0);
    log_journal_write(fd, "x", lines, strlen(lines));
    for (uint32_t i = 0; i < 2; i++) {
        ssize_t size = recv(journal, got, sizeof(got), MSG_DONTWAIT);
        ck_assert_int_gt(size, 0);
        ck_assert_ptr_nonnull(memmem(got, (size_t)size, i == 0 ? "one" : "two", 3));
    }
    close(fd);
    close(journal);
    unlink(address.sun_path);
    rmdir(folder);
}
END_TEST

UNIT_MAIN("log files", test_rotates, test_batches, test_keeps_few, test_forgets_old_ones,
          test_compresses, test_rotation_options, test_journal, test_journal_socket)

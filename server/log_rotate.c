#include "server/log_rotate.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum {
    SIZE_MB_DEFAULT = 100,
    PATH_BYTES_MAX = 4200,
    STAMP_BYTES = 23,   /* 2006-01-02T15-04-05.000 */
    BACKUPS_MAX = 4096, /* looked at; more are left alone */
    COPY_BYTES = 64 << 10,
};

struct log_rotate {
    char *path;
    struct log_rotate_options o;
    int fd; /* -1: not open */
    uint64_t size;
    pthread_t miller; /* deletes and compresses */
    bool milling;
    _Atomic bool milled;
};

/* --- options --- */

static int wrong_type(struct slice value, const char *field, const char *type, char *err_text,
                      size_t err_size)
{
    static const char *const names[] = {
        [JSON_STRING] = "string", [JSON_NUMBER] = "number", [JSON_BOOL] = "bool",
        [JSON_NULL] = "null",     [JSON_ARRAY] = "array",   [JSON_OBJECT] = "object"};
    char number[96] = "";
    if (json_kind(value) == JSON_NUMBER && strcmp(type, "int") == 0)
        snprintf(number, sizeof(number), " %.*s", (int)value.size, (const char *)value.data);
    snprintf(err_text, err_size,
             "invalid log rotation config: json: cannot unmarshal %s%s into Go struct field "
             "logRotationConfig.Logger.%s of type %s",
             names[json_kind(value)], number, field, type);
    return TV_EINVAL;
}

/* As Go reads one: 1e2 is none. */
static bool read_int(struct slice value, double *ret)
{
    double number;
    if (!json_number(value, &number) || number < -0x1p63 || number >= 0x1p63)
        return false;
    for (size_t i = value.data[0] == '-'; i < value.size; i++)
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
    *ret = number;
    return true;
}

static int take_member(struct slice name_value, struct slice value, double *numbers, bool *booleans,
                       char *err_text, size_t err_size)
{
    static const char *const number_names[] = {"maxsize", "maxage", "maxbackups"};
    static const char *const boolean_names[] = {"localtime", "compress"};
    char name[16]; /* one that is longer is none of ours, cut off or not */
    (void)json_string_copy(name_value, name, sizeof(name));
    if (json_kind(value) == JSON_NULL)
        return 0;
    for (uint32_t i = 0; i < 3; i++)
        if (strcasecmp(name, number_names[i]) == 0 && !read_int(value, &numbers[i]))
            return wrong_type(value, number_names[i], "int", err_text, err_size);
    for (uint32_t i = 0; i < 2; i++) {
        if (strcasecmp(name, boolean_names[i]) != 0)
            continue;
        if (json_kind(value) != JSON_BOOL)
            return wrong_type(value, boolean_names[i], "bool", err_text, err_size);
        booleans[i] = json_bool(value);
    }
    if (strcasecmp(name, "filename") == 0 && json_kind(value) != JSON_STRING)
        return wrong_type(value, "filename", "string", err_text, err_size);
    return 0;
}

static int not_an_object(const char *json, char *err_text, size_t err_size)
{
    json += strspn(json, " \t\r\n");
    if (*json == '[')
        snprintf(err_text, err_size,
                 "invalid log rotation config: json: cannot unmarshal array into Go value of type "
                 "embed.logRotationConfig");
    else if (*json != '\0' && json[strspn(json, "0123456789")] == '\0')
        snprintf(err_text, err_size,
                 "invalid log rotation config: json: cannot unmarshal number into Go value of type "
                 "embed.logRotationConfig");
    else
        snprintf(err_text, err_size, "improperly formatted log rotation config: %s",
                 *json == '\0' || strchr(json, '}') == NULL ? "unexpected end of JSON input"
                                                            : "invalid JSON");
    return TV_EINVAL;
}

int log_rotate_parse(const char *json, struct log_rotate_options *ret, char *err_text,
                     size_t err_size)
{
    struct slice all, name, value;
    double numbers[3] = {0};
    bool booleans[2] = {0};
    int err = 0;
    if (json_scan_whole(slice_of_string(json), &all) != 0 || json_kind(all) != JSON_OBJECT)
        return not_an_object(json, err_text, err_size);
    struct json_walk w = json_walk_of(all);
    while (err == 0 && json_walk_next(&w, &name, &value))
        err = take_member(name, value, numbers, booleans, err_text, err_size);
    if (err != 0)
        return err;
    for (uint32_t i = 0; i < 3; i++)
        if (numbers[i] < 0 || numbers[i] > 1e6) /* lumberjack: as if it was not set */
            numbers[i] = numbers[i] < 0 ? 0 : 1e6;
    uint64_t mb = numbers[0] == 0 ? SIZE_MB_DEFAULT : (uint64_t)numbers[0];
    *ret = (struct log_rotate_options){.size_max_bytes = mb << 20,
                                       .age_max_days = (uint32_t)numbers[1],
                                       .backups_max = (uint32_t)numbers[2],
                                       .local_time = booleans[0],
                                       .compress = booleans[1]};
    return 0;
}

/* --- names --- */

/* Where the name begins, and where its extension. */
static void split_path(const char *path, const char **ret_name, const char **ret_ext)
{
    const char *slash = strrchr(path, '/');
    *ret_name = slash == NULL ? path : slash + 1;
    const char *dot = strrchr(*ret_name, '.');
    *ret_ext = dot == NULL ? path + strlen(path) : dot;
}

static void folder_of(const char *path, char *ret, size_t size)
{
    const char *name, *ext;
    split_path(path, &name, &ext);
    snprintf(ret, size, "%.*s", name == path ? 1 : (int)(name - path), name == path ? "." : path);
}

static void stamp(const struct log_rotate *r, char *ret)
{
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (r->o.local_time)
        localtime_r(&ts.tv_sec, &tm);
    else
        gmtime_r(&ts.tv_sec, &tm);
    char text[96];
    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d-%02d-%02d.%03ld", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000);
    memcpy(ret, text, STAMP_BYTES);
    ret[STAMP_BYTES] = '\0';
}

static void backup_path(const struct log_rotate *r, char *ret, size_t size)
{
    const char *name, *ext;
    char when[STAMP_BYTES + 1];
    split_path(r->path, &name, &ext);
    stamp(r, when);
    snprintf(ret, size, "%.*s-%s%s", (int)(ext - r->path), r->path, when, ext);
}

/* Of an old file, "name-TIME.ext" or with ".gz" behind: when it was set aside. 0 for any other. */
static time_t backup_time(const struct log_rotate *r, const char *file)
{
    const char *name, *ext;
    split_path(r->path, &name, &ext);
    size_t prefix = (size_t)(ext - name);
    struct tm tm = {.tm_isdst = -1};
    int ms;
    if (strncmp(file, name, prefix) != 0 || file[prefix] != '-' ||
        strlen(file) < prefix + 1 + STAMP_BYTES)
        return 0;
    const char *when = file + prefix + 1, *rest = when + STAMP_BYTES;
    if (strncmp(rest, ext, strlen(ext)) != 0)
        return 0;
    rest += strlen(ext);
    if ((*rest != '\0' && strcmp(rest, ".gz") != 0) ||
        sscanf(when, "%4d-%2d-%2dT%2d-%2d-%2d.%3d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms) != 7)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return r->o.local_time ? mktime(&tm) : timegm(&tm);
}

/* --- old files --- */

static bool copy_compressed(int from, gzFile to)
{
    char *bytes = mem_alloc(COPY_BYTES);
    ssize_t size;
    bool ok = true;
    while (ok && (size = read(from, bytes, COPY_BYTES)) != 0)
        ok = size > 0 && gzwrite(to, bytes, (unsigned)size) == size;
    mem_free(bytes);
    return ok;
}

/* The old file goes when the new one is whole. */
static void compress_file(const char *path)
{
    char packed[2 * PATH_BYTES_MAX + 8];
    struct stat st;
    snprintf(packed, sizeof(packed), "%s.gz", path);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0 || fstat(from, &st) != 0) {
        if (from >= 0)
            (void)close(from);
        return;
    }
    int fd = open(packed, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st.st_mode & 0777);
    gzFile to = fd < 0 ? NULL : gzdopen(fd, "wb");
    bool ok = to != NULL && copy_compressed(from, to);
    if (to != NULL)
        ok &= gzclose(to) == Z_OK;
    else if (fd >= 0)
        (void)close(fd);
    (void)close(from);
    (void)unlink(ok ? path : packed); /* what cannot be removed stays, and is tried again */
}

static int newest_first(const void *a, const void *b)
{
    return -strcmp(*(const char *const *)a, *(const char *const *)b);
}

static uint32_t list_backups(const struct log_rotate *r, const char *folder, char **files)
{
    uint32_t count = 0;
    DIR *d = opendir(folder);
    struct dirent *e;
    while (d != NULL && count < BACKUPS_MAX && (e = readdir(d)) != NULL)
        if (backup_time(r, e->d_name) != 0)
            files[count++] = mem_strdup(e->d_name);
    if (d != NULL)
        (void)closedir(d);
    qsort(files, count, sizeof(files[0]), newest_first);
    return count;
}

static bool is_packed(const char *file)
{
    size_t size = strlen(file);
    return size > 3 && strcmp(file + size - 3, ".gz") == 0;
}

/* A file and its compressed self are one. */
static bool same_backup(const char *a, const char *b)
{
    size_t size_a = strlen(a) - (is_packed(a) ? 3 : 0), size_b = strlen(b) - (is_packed(b) ? 3 : 0);
    return size_a == size_b && memcmp(a, b, size_a) == 0;
}

static void *mill(void *arg)
{
    struct log_rotate *r = arg;
    char folder[PATH_BYTES_MAX], path[2 * PATH_BYTES_MAX];
    char **files = mem_alloc(BACKUPS_MAX * sizeof(files[0]));
    folder_of(r->path, folder, sizeof(folder));
    uint32_t count = list_backups(r, folder, files), kept = 0;
    time_t oldest = time(NULL) - (time_t)r->o.age_max_days * 86400;
    for (uint32_t i = 0; i < count; i++) {
        bool again = i > 0 && same_backup(files[i], files[i - 1]);
        kept += !again;
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        if ((r->o.backups_max > 0 && kept > r->o.backups_max) ||
            (r->o.age_max_days > 0 && backup_time(r, files[i]) < oldest))
            (void)unlink(path);
        else if (r->o.compress && !is_packed(files[i]))
            compress_file(path);
    }
    for (uint32_t i = 0; i < count; i++)
        mem_free(files[i]);
    mem_free(files);
    r->milled = true;
    return NULL;
}

/* One at a time; what it misses the next one sees. */
static void start_mill(struct log_rotate *r)
{
    if (r->o.backups_max == 0 && r->o.age_max_days == 0 && !r->o.compress)
        return;
    if (r->milling && !r->milled)
        return;
    if (r->milling)
        (void)pthread_join(r->miller, NULL);
    r->milled = false;
    r->milling = pthread_create(&r->miller, NULL, mill, r) == 0;
}

/* --- the file --- */

static void make_folders(const char *path)
{
    char folder[PATH_BYTES_MAX];
    folder_of(path, folder, sizeof(folder));
    for (char *p = folder + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        (void)mkdir(folder, 0755); /* whether it worked shows when the file is opened */
        *p = '/';
    }
    (void)mkdir(folder, 0755);
}

/* What is there is set aside; the new file has its mode and owner. */
static bool open_new(struct log_rotate *r)
{
    char backup[PATH_BYTES_MAX + STAMP_BYTES];
    struct stat st = {.st_mode = 0600};
    make_folders(r->path);
    bool existed = stat(r->path, &st) == 0;
    if (existed) {
        backup_path(r, backup, sizeof(backup));
        if (rename(r->path, backup) != 0)
            return false;
    }
    r->fd = open(r->path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, st.st_mode & 0777);
    if (r->fd >= 0 && existed && fchown(r->fd, st.st_uid, st.st_gid) != 0)
        errno = 0; /* not ours to give away: it stays with us */
    r->size = 0;
    return r->fd >= 0;
}

static void close_file(struct log_rotate *r)
{
    if (r->fd >= 0)
        (void)close(r->fd); /* a log is not synced */
    r->fd = -1;
}

static bool rotate(struct log_rotate *r)
{
    close_file(r);
    bool ok = open_new(r);
    start_mill(r);
    return ok;
}

static bool open_existing(struct log_rotate *r, size_t more)
{
    struct stat st;
    start_mill(r);
    if (stat(r->path, &st) != 0)
        return open_new(r);
    if ((uint64_t)st.st_size + more >= r->o.size_max_bytes)
        return rotate(r);
    r->fd = open(r->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    r->size = (uint64_t)st.st_size;
    return r->fd >= 0 || open_new(r);
}

static bool write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, text, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        text += written;
        size -= (size_t)written;
    }
    return true;
}

/* What fits of the lines into `room` bytes; at least one. */
static size_t whole_lines(const char *lines, size_t size, uint64_t room)
{
    if (size <= room)
        return size;
    const char *last = memrchr(lines, '\n', room);
    if (last == NULL)
        last = memchr(lines, '\n', size);
    return last == NULL ? size : (size_t)(last - lines) + 1;
}

bool log_rotate_write(struct log_rotate *r, const char *lines, size_t size)
{
    while (size > 0) {
        const char *end = memchr(lines, '\n', size);
        size_t first = end == NULL ? size : (size_t)(end - lines) + 1;
        if (r->fd < 0 && !open_existing(r, first))
            return false;
        if (r->size + first > r->o.size_max_bytes && r->size > 0 && !rotate(r))
            return false;
        uint64_t room = r->o.size_max_bytes > r->size ? r->o.size_max_bytes - r->size : 0;
        size_t part = whole_lines(lines, size, room);
        if (!write_all(r->fd, lines, part))
            return false;
        r->size += part;
        lines += part;
        size -= part;
    }
    return true;
}

struct log_rotate *log_rotate_new(const char *path, const struct log_rotate_options *o)
{
    struct log_rotate *r = mem_alloc_zero(sizeof(*r));
    r->path = mem_strdup(path);
    r->o = *o;
    r->fd = -1;
    return r;
}

void log_rotate_free(struct log_rotate *r)
{
    close_file(r);
    if (r->milling)
        (void)pthread_join(r->miller, NULL);
    mem_free(r->path);
    mem_free(r);
}

/* Runs text files of commands against a cluster of raft members (cluster.h) and compares what is
 * seen with what the file expects:
 *
 *   # a comment
 *   propose 1 foo
 *   stabilize
 *   ----
 *   expected lines, up to an empty one
 *
 *   run_interaction [--rewrite] file ...      --rewrite: what was seen becomes what is expected */
#include "cluster.h"
#include "probe_log.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

enum { FILE_BYTES_MAX = 1 << 20 };

static void append(struct buf *b, const char *text, size_t size)
{
    if (buf_append(b, text, size) != 0) {
        (void)fprintf(stderr, "more than %d bytes\n", FILE_BYTES_MAX);
        exit(2);
    }
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    struct buf b;
    buf_init(&b, FILE_BYTES_MAX);
    char piece[4096];
    size_t size;
    while ((size = fread(piece, 1, sizeof(piece), f)) > 0)
        append(&b, piece, size);
    (void)fclose(f);
    append(&b, "", 1);
    return (char *)b.data;
}

/* Cuts the next line off; NULL at the end. */
static char *next_line(char **text)
{
    char *line = *text;
    if (*line == '\0')
        return NULL;
    char *end = strchr(line, '\n');
    if (end == NULL) {
        *text = line + strlen(line);
    } else {
        *end = '\0';
        *text = end + 1;
    }
    return line;
}

static void expected_block(char **text, struct buf *expected)
{
    char *line;
    while ((line = next_line(text)) != NULL && *line != '\0') {
        append(expected, line, strlen(line));
        append(expected, "\n", 1);
    }
}

/* Runs the file; `ret` becomes the file as it should be. False when a block differs. */
static bool run(const char *path, struct buf *ret)
{
    char *content = read_file(path);
    char *text = content;
    char *line;
    bool same = true;
    struct buf seen, expected;
    buf_init(&seen, FILE_BYTES_MAX);
    buf_init(&expected, FILE_BYTES_MAX);
    struct cluster *c = cluster_new();
    uint32_t line_number = 0;
    while ((line = next_line(&text)) != NULL) {
        line_number++;
        append(ret, line, strlen(line));
        append(ret, "\n", 1);
        if (strcmp(line, "----") != 0) {
            if (*line != '#')
                cluster_run(c, line, &seen);
            continue;
        }
        expected_block(&text, &expected);
        append(ret, (const char *)seen.data, seen.size);
        append(ret, "\n", 1);
        if (!slice_equal(buf_slice(&seen), buf_slice(&expected))) {
            same = false;
            (void)printf("%s: the block whose ---- is line %u differs; seen:\n%.*s", path,
                         line_number, (int)seen.size, (const char *)seen.data);
            (void)printf("expected:\n%.*s\n", (int)expected.size, (const char *)expected.data);
        }
        for (size_t i = 0; i < expected.size; i++)
            line_number += expected.data[i] == '\n';
        line_number++;
        buf_clear(&seen);
        buf_clear(&expected);
    }
    if (seen.size > 0) {
        (void)printf("%s: the last commands have no ----\n", path);
        same = false;
    }
    cluster_free(c);
    buf_fini(&seen);
    buf_fini(&expected);
    mem_free(content);
    return same;
}

static void rewrite(const char *path, const struct buf *content)
{
    /* A block's empty line ends the file once, not twice. */
    size_t size = content->size;
    while (size > 1 && content->data[size - 1] == '\n' && content->data[size - 2] == '\n')
        size--;
    FILE *f = fopen(path, "w");
    if (f == NULL || fwrite(content->data, 1, size, f) != size || fclose(f) != 0) {
        perror(path);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    bool rewriting = argc > 1 && strcmp(argv[1], "--rewrite") == 0;
    bool same = true;
    if (argc < 2 + rewriting) {
        (void)fprintf(stderr, "run_interaction [--rewrite] file ...\n");
        return 2;
    }
    for (int i = 1 + rewriting; i < argc; i++) {
        struct buf content;
        buf_init(&content, FILE_BYTES_MAX);
        bool file_same = run(argv[i], &content);
        if (rewriting)
            rewrite(argv[i], &content);
        else
            same = same && file_same;
        buf_fini(&content);
    }
    return same ? 0 : 1;
}

#include "screen.h"

#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const char enter_text[] = "\033[?1049h\033[?25l\033[H\033[2J";
static const char leave_text[] = "\033[0m\033[?25h\033[?1049l";
static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS, SIGFPE};

static struct termios before;
static volatile sig_atomic_t is_open;
static volatile sig_atomic_t resized;

static void write_raw(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text += n;
        size -= (size_t)n;
    }
}

/* Only what a signal's handler may call. */
static void leave(void)
{
    write_raw(leave_text, sizeof(leave_text) - 1);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void enter(void)
{
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* signals stay as they are */
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_raw(enter_text, sizeof(enter_text) - 1);
}

static void on_ending(int number)
{
    if (is_open)
        leave();
    is_open = 0;
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void on_stop(int number)
{
    int err = errno;
    (void)number;
    if (is_open)
        leave();
    (void)raise(SIGSTOP);
    if (is_open)
        enter(); /* it goes on here */
    resized = 1;
    errno = err;
}

static void on_resize(int number)
{
    (void)number;
    resized = 1;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction a = {.sa_handler = handler};
    sigemptyset(&a.sa_mask);
    (void)sigaction(number, &a, NULL);
}

void screen_close(void)
{
    if (is_open)
        leave();
    is_open = 0;
}

bool screen_open(void)
{
    if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1 ||
        tcgetattr(STDIN_FILENO, &before) != 0)
        return false;
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
        handle(ending[i], on_ending);
    handle(SIGTSTP, on_stop);
    handle(SIGWINCH, on_resize);
    (void)atexit(screen_close);
    is_open = 1;
    enter();
    return true;
}

void screen_size(int *ret_rows, int *ret_columns)
{
    struct winsize w = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 && w.ws_col > 0;
    *ret_rows = known ? w.ws_row : 24;
    *ret_columns = known ? w.ws_col : 80;
}

int screen_key(int timeout_ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    uint8_t key;
    if (!resized) {
        int rv = poll(&p, 1, timeout_ms);
        if (rv == 0)
            return SCREEN_NOTHING;
        if (rv > 0) {
            ssize_t n = read(STDIN_FILENO, &key, 1);
            if (n == 1)
                return key;
            if (n == 0 || errno != EINTR)
                return SCREEN_ENDED;
        }
    }
    bool was_resized = resized != 0;
    resized = 0;
    return was_resized ? SCREEN_RESIZED : SCREEN_NOTHING;
}

/* --- drawing --- */

static size_t escape_size(struct slice s, size_t at)
{
    size_t i = at + 1;
    if (i < s.size && s.data[i] == '[')
        for (i++; i < s.size && (s.data[i] < 0x40 || s.data[i] > 0x7e); i++)
            continue;
    return i < s.size ? i + 1 - at : s.size - at;
}

int screen_width(struct slice text)
{
    int width = 0;
    for (size_t i = 0; i < text.size;) {
        if (text.data[i] == 0x1b) {
            i += escape_size(text, i);
            continue;
        }
        width += (text.data[i] & 0xc0) != 0x80;
        i++;
    }
    return width;
}

/* Cut off at `columns`; escapes behind that are kept, so that colors end. */
static void put_line(struct buf *out, struct slice line, int columns)
{
    int width = 0;
    for (size_t i = 0; i < line.size;) {
        size_t size = 1;
        if (line.data[i] == 0x1b) {
            size = escape_size(line, i);
        } else {
            width += (line.data[i] & 0xc0) != 0x80;
            if (width > columns) {
                i++;
                continue;
            }
        }
        (void)buf_append(out, line.data + i, size);
        i += size;
    }
    (void)buf_append(out, "\033[K", 3);
}

void screen_show(struct slice lines)
{
    struct buf out;
    int rows, columns;
    screen_size(&rows, &columns);
    buf_init(&out, SIZE_MAX);
    (void)buf_append(&out, "\033[H", 3);
    for (int row = 0; row < rows && lines.size > 0; row++) {
        const uint8_t *end = memchr(lines.data, '\n', lines.size);
        size_t size = end == NULL ? lines.size : (size_t)(end - lines.data);
        if (row > 0)
            (void)buf_append(&out, "\r\n", 2);
        put_line(&out, slice_of(lines.data, size), columns);
        size += end != NULL;
        lines = slice_of(lines.data + size, lines.size - size);
    }
    (void)buf_append(&out, "\033[J", 3);
    write_raw((const char *)out.data, out.size);
    buf_fini(&out);
}

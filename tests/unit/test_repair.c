/* Setting damaged data aside: what is moved, what is kept, and that every crash on the way is
 * continued by the next start. */
#include "unit.h"

#include "base/folder.h"
#include "server/repair.h"

#include "base/err.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[200], wal[256];

static void make(const char *path)
{
    ck_assert(mkdir(path, 0700) == 0);
}

static const char *in(const char *name)
{
    static char path[4][300];
    static int which;
    which = (which + 1) % 4;
    (void)snprintf(path[which], sizeof(path[which]), "%s/%s", dir, name);
    return path[which];
}

static bool is_there(const char *name)
{
    return access(in(name), F_OK) == 0;
}

static void touch(const char *name)
{
    int fd = open(in(name), O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static struct repair begin(bool own_wal_dir)
{
    (void)snprintf(dir, sizeof(dir), "test-repair-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    make(in("member"));
    touch("member/precious");
    (void)snprintf(wal, sizeof(wal), "%s", in("log"));
    if (own_wal_dir) {
        make(wal);
        touch("log/1.wal");
    }
    return (struct repair){.mode = REPAIR_AUTO,
                           .data_dir = dir,
                           .wal_dir = own_wal_dir ? wal : "",
                           .members_count = 3};
}

START_TEST(test_set_aside)
{
    char what[100];
    struct repair r = begin(true);
    make(in("member.damaged"));
    touch("member.damaged/of-an-earlier-repair");
    ck_assert(!repair_is_marked(&r, what, sizeof(what)));
    ck_assert_int_eq(repair_set_aside(&r, "x/y: offset 3: broken"), 0);
    ck_assert(!is_there("member") && is_there("member.damaged/precious"));
    ck_assert(!is_there("member.damaged/of-an-earlier-repair"));
    ck_assert(!is_there("log") && is_there("log.damaged/1.wal"));
    ck_assert(!repair_is_marked(&r, what, sizeof(what)));
    folder_remove(dir);
}
END_TEST

START_TEST(test_refused)
{
    struct repair r = begin(true);
    r.mode = REPAIR_REFUSE;
    ck_assert_int_eq(repair_set_aside(&r, "broken"), TV_ECORRUPT);
    r.mode = REPAIR_AUTO;
    r.members_count = 1; /* nobody to get it from */
    ck_assert_int_eq(repair_set_aside(&r, "broken"), TV_ECORRUPT);
    r.members_count = 0;
    ck_assert_int_eq(repair_set_aside(&r, "broken"), TV_ECORRUPT);
    ck_assert(is_there("member/precious") && is_there("log/1.wal"));
    ck_assert(!is_there("repair") && !is_there("member.damaged"));
    folder_remove(dir);
}
END_TEST

START_TEST(test_marked_while_running)
{
    char what[100];
    struct repair r = begin(false);
    repair_mark(dir, "000012.sst: offset 77: block checksum mismatch");
    ck_assert(repair_is_marked(&r, what, sizeof(what)));
    ck_assert_str_eq(what, "000012.sst: offset 77: block checksum mismatch");
    ck_assert(is_there("member/precious"));
    ck_assert_int_eq(repair_set_aside(&r, what), 0);
    ck_assert(!is_there("member") && is_there("member.damaged/precious"));
    ck_assert(!repair_is_marked(&r, what, sizeof(what)));
    folder_remove(dir);
}
END_TEST

/* After each step a crash; the next start finds the marker, and what is left to do is done. */
START_TEST(test_crash_on_the_way)
{
    for (int steps = 0; steps <= 2; steps++) {
        char what[100];
        struct repair r = begin(true);
        repair_mark(dir, "broken");
        if (steps >= 1)
            ck_assert_int_eq(rename(wal, in("log.damaged")), 0);
        if (steps >= 2)
            ck_assert_int_eq(rename(in("member"), in("member.damaged")), 0);
        ck_assert(repair_is_marked(&r, what, sizeof(what)));
        ck_assert_int_eq(repair_set_aside(&r, what), 0);
        ck_assert(!is_there("member") && is_there("member.damaged/precious"));
        ck_assert(!is_there("log") && is_there("log.damaged/1.wal"));
        ck_assert(!repair_is_marked(&r, what, sizeof(what)));
        folder_remove(dir);
    }
}
END_TEST

START_TEST(test_missing_folders)
{
    char text[300] = "";
    (void)begin(true);
    ck_assert_int_eq(repair_check_folders(in("member/lsm"), in("log"), text, sizeof(text)),
                     TV_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(text, "member/lsm/CURRENT: offset 0"));
    make(in("member/lsm"));
    ck_assert_int_eq(repair_check_folders(in("member/lsm"), in("log"), text, sizeof(text)),
                     TV_ECORRUPT);
    touch("member/lsm/CURRENT");
    ck_assert_int_eq(repair_check_folders(in("member/lsm"), in("log"), text, sizeof(text)), 0);
    /* Neither is there, or the old store of an interrupted install. */
    ck_assert_int_eq(repair_check_folders(in("member/x"), in("none"), text, sizeof(text)), 0);
    make(in("member/x.old"));
    ck_assert_int_eq(repair_check_folders(in("member/x"), in("log"), text, sizeof(text)), 0);
    folder_remove(dir);
}
END_TEST

START_TEST(test_mode)
{
    enum repair_mode mode;
    ck_assert_int_eq(repair_mode_parse("auto", &mode), 0);
    ck_assert_int_eq(mode, REPAIR_AUTO);
    ck_assert_int_eq(repair_mode_parse("refuse", &mode), 0);
    ck_assert_int_eq(mode, REPAIR_REFUSE);
    ck_assert_int_eq(repair_mode_parse("Auto", &mode), TV_EINVAL);
}
END_TEST

UNIT_MAIN("repair", test_set_aside, test_refused, test_marked_while_running, test_crash_on_the_way,
          test_missing_folders, test_mode)

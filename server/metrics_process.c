/* What /proc and the C library know of this process; see proc(5). What cannot be read is 0. */
#include "server/metrics_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

static size_t read_file(const char *path, char *text, size_t size_max)
{
    FILE *f = fopen(path, "re");
    size_t size = 0;
    if (f != NULL) {
        size = fread(text, 1, size_max - 1, f);
        fclose(f);
    }
    text[size] = '\0';
    return size;
}

/* /proc/self/stat, behind the name, which may hold anything: fields 3 and following. */
static void read_stat(struct process_view *v)
{
    char text[1024];
    unsigned long long threads = 0, start_ticks = 0, virtual_bytes = 0;
    long long pages = 0;
    read_file("/proc/self/stat", text, sizeof(text));
    const char *at = strrchr(text, ')');
    if (at == NULL ||
        sscanf(at + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %llu "
               "%*d %llu %llu %lld",
               &threads, &start_ticks, &virtual_bytes, &pages) != 4)
        return;
    v->threads = threads;
    v->virtual_bytes = virtual_bytes;
    v->resident_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);

    struct timespec up, now;
    if (clock_gettime(CLOCK_BOOTTIME, &up) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0)
        return;
    uint64_t boot_ns = (uint64_t)(now.tv_sec - up.tv_sec) * NS_PER_S + (uint64_t)now.tv_nsec -
                       (uint64_t)up.tv_nsec;
    v->start_ns = boot_ns + start_ticks * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t count_fds(void)
{
    uint64_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return 0;
    for (const struct dirent *e; (e = readdir(dir)) != NULL;)
        count += e->d_name[0] != '.';
    closedir(dir);
    return count - 1; /* the directory itself */
}

/* The line after the names: InOctets and OutOctets are the 7th and 8th of IpExt. */
static void read_network(struct process_view *v)
{
    char text[8192];
    unsigned long long in = 0, out = 0;
    read_file("/proc/self/net/netstat", text, sizeof(text));
    const char *names = strstr(text, "IpExt:");
    const char *values = names == NULL ? NULL : strstr(names + 1, "IpExt:");
    if (values == NULL ||
        sscanf(values, "IpExt: %*u %*u %*u %*u %*u %*u %llu %llu", &in, &out) != 2)
        return;
    v->received_bytes = in;
    v->sent_bytes = out;
}

static uint64_t limit_of(int resource)
{
    struct rlimit limit;
    return getrlimit(resource, &limit) == 0 ? (uint64_t)limit.rlim_cur : 0;
}

void metrics__look_at_process(struct process_view *ret)
{
    *ret = (struct process_view){.fds = count_fds(),
                                 .fds_max = limit_of(RLIMIT_NOFILE),
                                 .virtual_max_bytes = limit_of(RLIMIT_AS)};
    struct rusage r;
    if (getrusage(RUSAGE_SELF, &r) == 0)
        ret->cpu_ns = (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * NS_PER_S +
                      (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000;
    read_stat(ret);
    read_network(ret);
}

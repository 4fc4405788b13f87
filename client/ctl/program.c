/* Other programs, run as Go's os/exec does. */
#include "ctl.h"

#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Where the program is, as PATH says; NULL: nowhere. */
static char *look_up(const char *name)
{
    const char *path = getenv("PATH");
    if (strchr(name, '/') != NULL)
        return access(name, X_OK) == 0 ? ctl_copy(trivet_str(name)) : NULL;
    char *rest = ctl_copy(trivet_str(path == NULL ? "" : path)), *folder;
    while ((folder = strsep(&rest, ":")) != NULL) {
        char *file = ctl_sprintf("%s/%s", *folder == '\0' ? "." : folder, name);
        if (access(file, X_OK) == 0)
            return file;
        mem_free(file);
    }
    return NULL;
}

/* Ours, then `more`: what comes last counts. */
static char **environment(char *const *more)
{
    size_t count = 0, more_count = 0;
    while (environ[count] != NULL)
        count++;
    while (more[more_count] != NULL)
        more_count++;
    char **all = mem_alloc((count + more_count + 1) * sizeof(all[0]));
    memcpy(all, more, more_count * sizeof(all[0]));
    memcpy(all + more_count, environ, (count + 1) * sizeof(all[0]));
    return all;
}

int ctl_run_program(char *const *words, char *const *more, const char **ret_error)
{
    char *file = look_up(words[0]);
    if (file == NULL) {
        *ret_error =
            strchr(words[0], '/') != NULL
                ? ctl_sprintf("fork/exec %s: no such file or directory", words[0])
                : ctl_sprintf("exec: \"%s\": executable file not found in $PATH", words[0]);
        return -1;
    }
    fflush(stdout);
    char **all = environment(more);
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)execve(file, words, all);
        _exit(127);
    }
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0)
        *ret_error = ctl_sprintf("fork/exec %s: %s", words[0], ctl_strerror(errno));
    mem_free(all);
    mem_free(file);
    return status;
}

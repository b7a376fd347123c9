/* Counts the operations of a program that change files below one folder, and makes the one of a given number go wrong.
 *
 * Preloaded (LD_PRELOAD) into the program under test, and told what to do by its environment:
 *
 *   TORTURE_FOLDER  operations on paths below this one count
 *   TORTURE_LOG     gets a line for each: number, name, path, and of a rename the path before
 *   TORTURE_AT      the number of the operation that goes wrong, from 1
 *   TORTURE_FAULT   kill-before, kill-half, kill-after: the process dies before, in the middle of, or after it
 *                   stop: the process stops before it, until it is continued
 *                   an errno: it fails with that one
 *   TORTURE_LASTS   all later operations that could fail for the same reason fail too (a disk that stays full)
 *   TORTURE_READS   operations that read count as well
 *
 * System calls that a program makes without the C library are not seen. This one makes none: strace counts the same.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { NONE, KILL_BEFORE, KILL_HALF, KILL_AFTER, STOP, FAIL };

static const char *folder;
static size_t folder_length;
static int log_file = -1, lasts, reads, error;
static long fail_at;
static enum fault fault;
static volatile long count;

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("TORTURE_LOG"), *at = getenv("TORTURE_AT"), *what = getenv("TORTURE_FAULT");
    static const char *const names[] = {"none", "kill-before", "kill-half", "kill-after", "stop"};
    folder = getenv("TORTURE_FOLDER");
    folder_length = folder ? strlen(folder) : 0;
    lasts = getenv("TORTURE_LASTS") != NULL;
    reads = getenv("TORTURE_READS") != NULL;
    fail_at = at ? atol(at) : 0;
    for (int i = 0; what && i <= STOP; i++)
        if (!strcmp(what, names[i])) fault = i;
    if (what && fault == NONE && (error = atoi(what)) > 0) fault = FAIL;
    if (log) log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Writes the absolute path of an open file, or of a name in an open folder. */
static const char *path_of(int fd, const char *name, char out[PATH_MAX]) {
    if (name && (name[0] == '/' || !folder)) return name;
    char link[40];
    if (fd == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length < 0) return NULL;
    out[length] = 0;
    if (name) snprintf(out + length, PATH_MAX - length, "/%s", name);
    return out;
}

/* What takes space: what goes on failing on a full disk. */
static int grows(const char *operation) {
    static const char *const names[] = {"create", "write", "mkdir", "truncate", "copy", "link", "allocate"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(operation, names[i])) return 1;
    return 0;
}

/* Counts an operation, which may have a path from which; returns what is to happen to it, with errno set where it fails. */
static enum fault next_from(const char *operation, int fd, const char *name, int from_fd, const char *from_name) {
    char buffer[PATH_MAX], from_buffer[PATH_MAX], line[2 * PATH_MAX + 64];
    int kept = errno;
    const char *path = folder ? path_of(fd, name, buffer) : NULL;
    const char *from = path && from_name ? path_of(from_fd, from_name, from_buffer) : NULL;
    errno = kept;
    if (!path || strncmp(path, folder, folder_length)) return NONE;
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (log_file >= 0) {
        int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\n", number, operation, path, from ? from : "");
        syscall(SYS_write, log_file, line, (size_t)length);
    }
    if (fault == FAIL && lasts ? number >= fail_at && (number == fail_at || grows(operation)) : number == fail_at) {
        if (fault == KILL_BEFORE) die();
        if (fault == STOP) kill(getpid(), SIGSTOP);
        if (fault == FAIL) errno = error;
        return fault;
    }
    return NONE;
}

static enum fault next(const char *operation, int fd, const char *name) {
    return next_from(operation, fd, name, AT_FDCWD, NULL);
}

/* An operation that happens whole or not at all. */
#define WHOLE(type, function, parameters, arguments, operation, fd, path)        \
    COUNTED(type, function, parameters, arguments, next(operation, fd, path))
#define RENAME(function, parameters, arguments, fd, path, from_fd, from)         \
    COUNTED(int, function, parameters, arguments, next_from("rename", fd, path, from_fd, from))
#define COUNTED(type, function, parameters, arguments, counted)                  \
    type function parameters {                                                   \
        static type(*real) parameters;                                           \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #function);       \
        enum fault what = counted;                                               \
        if (what == FAIL) return (type)-1;                                       \
        type result = real arguments;                                            \
        if (what == KILL_HALF || what == KILL_AFTER) die();                      \
        return result;                                                           \
    }

/* An operation on `size` bytes, of which half may happen. */
#define BYTES(function, parameters, arguments, operation, fd, size)              \
    ssize_t function parameters {                                                \
        static ssize_t(*real) parameters;                                        \
        if (!real) real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #function);    \
        enum fault what = next(operation, fd, NULL);                             \
        if (what == FAIL) return -1;                                             \
        if (what == KILL_HALF) size /= 2;                                        \
        ssize_t result = real arguments;                                         \
        if (what == KILL_HALF || what == KILL_AFTER) die();                      \
        return result;                                                           \
    }

#define READ(function, parameters, arguments, fd)                                \
    ssize_t function parameters {                                                \
        static ssize_t(*real) parameters;                                        \
        if (!real) real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #function);    \
        if (reads && next("read", fd, NULL) == FAIL) return -1;                  \
        return real arguments;                                                   \
    }

static const char *opening(int flags) {
    if (flags & (O_CREAT | O_TRUNC)) return "create";
    if ((flags & O_ACCMODE) != O_RDONLY) return "open";
    return reads ? "open-read" : NULL;
}

#define OPEN(function, parameters, arguments, last, fd)                          \
    int function(parameters, ...) {                                              \
        static int (*real)(parameters, ...);                                     \
        if (!real) real = (int (*)(parameters, ...))dlsym(RTLD_NEXT, #function); \
        va_list more;                                                            \
        va_start(more, last);                                                    \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;  \
        va_end(more);                                                            \
        const char *operation = opening(flags);                                  \
        enum fault what = operation ? next(operation, fd, path) : NONE;          \
        if (what == FAIL) return -1;                                             \
        int result = real(arguments, mode);                                      \
        if (what == KILL_HALF || what == KILL_AFTER) die();                      \
        return result;                                                           \
    }

#define LIST(...) __VA_ARGS__
OPEN(open, LIST(const char *path, int flags), LIST(path, flags), flags, AT_FDCWD)
OPEN(open64, LIST(const char *path, int flags), LIST(path, flags), flags, AT_FDCWD)
OPEN(openat, LIST(int at, const char *path, int flags), LIST(at, path, flags), flags, at)
OPEN(openat64, LIST(int at, const char *path, int flags), LIST(at, path, flags), flags, at)

BYTES(write, (int fd, const void *from, size_t size), (fd, from, size), "write", fd, size)
BYTES(pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at), "write", fd, size)
BYTES(pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at), "write", fd, size)
BYTES(copy_file_range, (int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags),
      (in, from, out, to, size, flags), "copy", out, size)
BYTES(sendfile, (int out, int in, off_t *from, size_t size), (out, in, from, size), "copy", out, size)
BYTES(sendfile64, (int out, int in, off64_t *from, size_t size), (out, in, from, size), "copy", out, size)
BYTES(splice, (int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags),
      (in, from, out, to, size, flags), "copy", out, size)
WHOLE(ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n), "write", fd, NULL)
WHOLE(ssize_t, pwritev, (int fd, const struct iovec *from, int n, off_t at), (fd, from, n, at), "write", fd, NULL)
WHOLE(ssize_t, pwritev64, (int fd, const struct iovec *from, int n, off64_t at), (fd, from, n, at), "write", fd, NULL)

READ(read, (int fd, void *to, size_t size), (fd, to, size), fd)
READ(pread, (int fd, void *to, size_t size, off_t at), (fd, to, size, at), fd)
READ(pread64, (int fd, void *to, size_t size, off64_t at), (fd, to, size, at), fd)
READ(preadv, (int fd, const struct iovec *to, int n, off_t at), (fd, to, n, at), fd)
READ(preadv64, (int fd, const struct iovec *to, int n, off64_t at), (fd, to, n, at), fd)

WHOLE(int, fsync, (int fd), (fd), "sync", fd, NULL)
WHOLE(int, fdatasync, (int fd), (fd), "sync", fd, NULL)
WHOLE(int, ftruncate, (int fd, off_t size), (fd, size), "truncate", fd, NULL)
WHOLE(int, ftruncate64, (int fd, off64_t size), (fd, size), "truncate", fd, NULL)
WHOLE(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size), "allocate", fd, NULL)
WHOLE(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size), "allocate", fd, NULL)
WHOLE(int, fchmod, (int fd, mode_t mode), (fd, mode), "chmod", fd, NULL)
WHOLE(int, chmod, (const char *path, mode_t mode), (path, mode), "chmod", AT_FDCWD, path)
WHOLE(int, truncate, (const char *path, off_t size), (path, size), "truncate", AT_FDCWD, path)
WHOLE(int, truncate64, (const char *path, off64_t size), (path, size), "truncate", AT_FDCWD, path)
WHOLE(int, mkdir, (const char *path, mode_t mode), (path, mode), "mkdir", AT_FDCWD, path)
WHOLE(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), "mkdir", at, path)
WHOLE(int, rmdir, (const char *path), (path), "rmdir", AT_FDCWD, path)
WHOLE(int, unlink, (const char *path), (path), "unlink", AT_FDCWD, path)
WHOLE(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), "unlink", at, path)
RENAME(rename, (const char *from, const char *to), (from, to), AT_FDCWD, to, AT_FDCWD, from)
RENAME(renameat, (int in, const char *from, int at, const char *to), (in, from, at, to), at, to, in, from)
RENAME(renameat2, (int in, const char *from, int at, const char *to, unsigned flags), (in, from, at, to, flags), at, to, in, from)
WHOLE(int, link, (const char *from, const char *to), (from, to), "link", AT_FDCWD, to)
WHOLE(int, linkat, (int in, const char *from, int at, const char *to, int flags), (in, from, at, to, flags), "link", at, to)
WHOLE(int, symlink, (const char *from, const char *to), (from, to), "link", AT_FDCWD, to)

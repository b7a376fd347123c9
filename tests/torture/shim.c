/* Counts the system calls of a program that change files below one folder, and makes the one of a given number go wrong.
 *
 * Loaded into the program under test (LD_PRELOAD), and told what to do by its environment:
 *
 *   TORTURE_FOLDER  operations on paths below this one count
 *   TORTURE_LOG     gets a line for each: number, name, path, and of a rename or link the path before
 *   TORTURE_AT      the number of the operation that goes wrong, from 1
 *   TORTURE_FAULT   kill-before, kill-half, kill-after: the process dies before, in the middle of, or after it
 *                   stop: the process stops before it, until it is continued
 *                   an errno: it fails with that one
 *   TORTURE_LASTS   all later operations that take space fail too (a disk that stays full)
 *   TORTURE_READS   operations that read count as well
 *
 * The kernel hands each of these calls to a signal handler (seccomp), whoever makes it: the C library or the program itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* torture_syscall(number, arguments...) makes the only calls that the kernel lets pass: those that return to torture_passes. */
long torture_syscall(long, long, long, long, long, long, long);
extern const char torture_passes[];
#if defined __x86_64__
#define ARGUMENTS(registers) {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX], registers[REG_R10], registers[REG_R8], registers[REG_R9]}
#define REGISTERS(context) ((context)->uc_mcontext.gregs)
#define RESULT REG_RAX
__asm__(".text\n.globl torture_syscall, torture_passes\n.hidden torture_syscall, torture_passes\n"
        "torture_syscall: mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n mov %r8, %r10\n mov %r9, %r8\n"
        "mov 8(%rsp), %r9\n syscall\ntorture_passes: ret\n");
#elif defined __aarch64__
#define ARGUMENTS(registers) {registers[0], registers[1], registers[2], registers[3], registers[4], registers[5]}
#define REGISTERS(context) ((context)->uc_mcontext.regs)
#define RESULT 0
__asm__(".text\n.globl torture_syscall, torture_passes\n.hidden torture_syscall, torture_passes\n"
        "torture_syscall: mov x8, x0\n mov x0, x1\n mov x1, x2\n mov x2, x3\n mov x3, x4\n mov x4, x5\n mov x5, x6\n"
        "svc 0\ntorture_passes: ret\n");
#else
#error "this needs the registers of another processor"
#endif

/* A call: its name, and which of its arguments are an open file or folder, a name in it, the same before, and a size. */
struct call {
    long number;
    const char *operation;
    int fd, name, from_fd, from, size;
};

enum { NO = -1 };
static const struct call calls[] = {
#ifdef SYS_open
    {SYS_open, "open", NO, 0, NO, NO, NO},
    {SYS_creat, "create", NO, 0, NO, NO, NO},
    {SYS_rename, "rename", NO, 1, NO, 0, NO},
    {SYS_mkdir, "mkdir", NO, 0, NO, NO, NO},
    {SYS_rmdir, "unlink", NO, 0, NO, NO, NO},
    {SYS_unlink, "unlink", NO, 0, NO, NO, NO},
    {SYS_link, "link", NO, 1, NO, 0, NO},
    {SYS_symlink, "symlink", NO, 1, NO, NO, NO},
    {SYS_chmod, "chmod", NO, 0, NO, NO, NO},
#endif
#ifdef SYS_renameat
    {SYS_renameat, "rename", 2, 3, 0, 1, NO},
#endif
    {SYS_renameat2, "rename", 2, 3, 0, 1, NO},
    {SYS_openat, "open", 0, 1, NO, NO, NO},
    {SYS_mkdirat, "mkdir", 0, 1, NO, NO, NO},
    {SYS_unlinkat, "unlink", 0, 1, NO, NO, NO},
    {SYS_linkat, "link", 2, 3, 0, 1, NO},
    {SYS_symlinkat, "symlink", 1, 2, NO, NO, NO},
    {SYS_fchmodat, "chmod", 0, 1, NO, NO, NO},
    {SYS_fchmod, "chmod", 0, NO, NO, NO, NO},
    {SYS_truncate, "truncate", NO, 0, NO, NO, NO},
    {SYS_ftruncate, "truncate", 0, NO, NO, NO, NO},
    {SYS_fallocate, "allocate", 0, NO, NO, NO, NO},
    {SYS_fsync, "sync", 0, NO, NO, NO, NO},
    {SYS_fdatasync, "sync", 0, NO, NO, NO, NO},
    {SYS_write, "write", 0, NO, NO, NO, 2},
    {SYS_pwrite64, "write", 0, NO, NO, NO, 2},
    {SYS_writev, "write", 0, NO, NO, NO, NO},
    {SYS_pwritev, "write", 0, NO, NO, NO, NO},
    {SYS_pwritev2, "write", 0, NO, NO, NO, NO},
    {SYS_copy_file_range, "copy", 2, NO, NO, NO, 4},
    {SYS_splice, "copy", 2, NO, NO, NO, 4},
    {SYS_sendfile, "copy", 0, NO, NO, NO, 3},
    /* Only where reading counts. */
    {SYS_read, "read", 0, NO, NO, NO, NO},
    {SYS_pread64, "read", 0, NO, NO, NO, NO},
    {SYS_readv, "read", 0, NO, NO, NO, NO},
    {SYS_preadv, "read", 0, NO, NO, NO, NO},
};
enum { CALLS = sizeof calls / sizeof *calls, READING = 4 };

enum fault { NONE, KILL_BEFORE, KILL_HALF, KILL_AFTER, STOP, FAIL };

static const char *folder;
static int log_file = -1, lasts, reads, error;
static long fail_at, count;
static enum fault fault;

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Writes the absolute path of an open file, or of a name in an open folder. */
static const char *path_of(int fd, const char *name, char out[PATH_MAX]) {
    char link[PATH_MAX];
    if (name && !strncmp(name, "/proc/self/fd/", 14)) fd = atoi(name + 14), name = NULL;
    if (name && name[0] == '/') return name;
    if (fd == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length < 0) return NULL;
    out[length] = 0;
    if (name) snprintf(out + length, PATH_MAX - length, "/%s", name);
    return out;
}

/* What opening is called; NULL where it does not count. */
static const char *opening(long flags) {
    if ((flags & O_TMPFILE) == O_TMPFILE || flags & (O_CREAT | O_TRUNC)) return "create";
    if ((flags & O_ACCMODE) != O_RDONLY) return "open";
    return reads ? "open-read" : NULL;
}

/* What goes on failing on a full disk. */
static int takes_space(const char *operation) {
    static const char *const names[] = {"create", "write", "mkdir", "truncate", "copy", "link", "symlink", "allocate"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(operation, names[i])) return 1;
    return 0;
}

/* Counts a call; returns what is to happen to it. */
static enum fault next(const struct call *call, const char *operation, const long *arguments) {
    char buffer[PATH_MAX], before[PATH_MAX], line[2 * PATH_MAX + 64];
    const char *name = call->name == NO ? NULL : (const char *)arguments[call->name];
    const char *path = path_of(call->fd == NO ? AT_FDCWD : (int)arguments[call->fd], name, buffer);
    if (!path || strncmp(path, folder, strlen(folder))) return NONE;
    const char *from = NULL;
    if (call->from != NO)
        from = path_of(call->from_fd == NO ? AT_FDCWD : (int)arguments[call->from_fd], (const char *)arguments[call->from], before);
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (log_file >= 0) {
        int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\n", number, operation, path, from ? from : "");
        torture_syscall(SYS_write, log_file, (long)line, length, 0, 0, 0);
    }
    if (number != fail_at && !(lasts && fail_at && number > fail_at && takes_space(operation))) return NONE;
    if (fault == KILL_BEFORE) die();
    if (fault == STOP) kill(getpid(), SIGSTOP);
    return fault;
}

static void handle(int signal, siginfo_t *info, void *context) {
    (void)signal;
    int kept = errno;
    __typeof__(&REGISTERS((ucontext_t *)context)[0]) registers = REGISTERS((ucontext_t *)context);
    long arguments[6] = ARGUMENTS(registers), result;
    const struct call *call = calls;
    while (call->number != info->si_syscall) call++;
    const char *operation = call->operation;
    if (!strcmp(operation, "open")) operation = opening(arguments[call->name + 1]);
    enum fault what = operation ? next(call, operation, arguments) : NONE;
    if (what == FAIL) {
        result = -error;
    } else {
        if (what == KILL_HALF && call->size != NO) arguments[call->size] /= 2;
        result = torture_syscall(info->si_syscall, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
        if (what == KILL_HALF || what == KILL_AFTER) die();
    }
    registers[RESULT] = result;
    errno = kept;
}

/* Asks the kernel for a signal at each of the calls. */
static void watch(void) {
    struct sock_filter filter[CALLS + 8];
    int some = reads ? CALLS : CALLS - READING, at = 0;
    uint64_t passes = (uintptr_t)torture_passes;
#define LOAD(field) (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUALS(value, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
    filter[at++] = LOAD(instruction_pointer);
    filter[at++] = EQUALS((uint32_t)passes, 0, 2);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4);
    filter[at++] = EQUALS((uint32_t)(passes >> 32), some + 1, 0);
    filter[at++] = LOAD(nr);
    for (int i = 0; i < some; i++) filter[at++] = EQUALS((uint32_t)calls[i].number, some - i, 0);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = {at, filter};
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("the system calls cannot be watched");
        _exit(125);
    }
}

__attribute__((constructor)) static void begin(void) {
    static const char *const names[] = {"none", "kill-before", "kill-half", "kill-after", "stop"};
    const char *log = getenv("TORTURE_LOG"), *at = getenv("TORTURE_AT"), *what = getenv("TORTURE_FAULT");
    folder = getenv("TORTURE_FOLDER");
    if (!folder) return;
    lasts = getenv("TORTURE_LASTS") != NULL;
    reads = getenv("TORTURE_READS") != NULL;
    fail_at = at ? atol(at) : 0;
    for (int i = 0; what && i <= STOP; i++)
        if (!strcmp(what, names[i])) fault = i;
    if (what && fault == NONE && (error = atoi(what)) > 0) fault = FAIL;
    if (log) log_file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    watch();
}

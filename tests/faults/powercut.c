/* Loaded before libc (LD_PRELOAD): writes down what is done to the files under one folder, and fails it on demand.
 *
 * POWERCUT_FOLDER   the folder, without symbolic links
 * POWERCUT_LOG      where events go, in the order in which they were done
 * POWERCUT_CONTROL  a struct control, shared with whoever decides what shall fail
 *
 * An event is a struct event, then the path below the folder, then the data (of a rename, the new path).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct event {
    uint32_t op, path_bytes;
    uint64_t offset, data_bytes;
};

struct control {
    uint32_t op;      /* what shall fail; 0 is nothing */
    int32_t skip;     /* how often it may still work before */
    int32_t times;    /* how often it shall then fail */
    int32_t error;    /* with which errno */
    uint32_t failed;  /* how often it did */
    char suffix[44];  /* of the path */
};

static char folder[4096];
static size_t folder_bytes;
static int log_file = -1;
static struct control *control;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    const char *path = getenv("POWERCUT_FOLDER");
    if (path == NULL) return;
    snprintf(folder, sizeof folder, "%s", path);
    folder_bytes = strlen(folder);
    if ((path = getenv("POWERCUT_LOG")) != NULL)
        log_file = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if ((path = getenv("POWERCUT_CONTROL")) != NULL) {
        int file = real_open(path, O_RDWR | O_CLOEXEC);
        void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (shared != MAP_FAILED) control = shared;
    }
}

/* The path below the folder, or NULL for one that is elsewhere. The folder itself is the empty path. */
static const char *below(const char *path) {
    if (folder_bytes == 0 || strncmp(path, folder, folder_bytes) != 0) return NULL;
    path += folder_bytes;
    if (*path == '\0') return path;
    return *path == '/' ? path + 1 : NULL;
}

static const char *path_of(int file, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, buffer, size - 1);
    if (folder_bytes == 0 || length < 0) return NULL;
    buffer[length] = '\0';
    return below(buffer);
}

static void note(char op, const char *path, uint64_t offset, const void *data, uint64_t bytes) {
    struct event event = {(uint32_t)op, strlen(path), offset, bytes};
    struct iovec parts[] = {
        {&event, sizeof event}, {(void *)path, event.path_bytes}, {(void *)data, data == NULL ? 0 : bytes}};
    int before = errno;
    if (log_file >= 0 && syscall(SYS_writev, log_file, parts, 3) < 0) abort();
    errno = before;
}

/* Whether this call is one that shall fail; errno is set then. */
static int fails(char op, const char *path) {
    if (control == NULL || control->op != (uint32_t)op) return 0;
    size_t length = strlen(path), wanted = strlen(control->suffix);
    if (length < wanted || strcmp(path + length - wanted, control->suffix) != 0) return 0;
    if (control->skip > 0) {
        control->skip--;
        return 0;
    }
    if (control->times <= 0) return 0;
    control->times--;
    control->failed++;
    errno = control->error;
    return 1;
}

/* Does the call and writes it down as one step, or lets it fail. */
#define STEP(op, path, result, call, noted)               \
    do {                                                  \
        pthread_mutex_lock(&order);                       \
        if (fails(op, path)) {                            \
            note((op) + 'A' - 'a', path, 0, NULL, 0);     \
            result = -1;                                  \
        } else if ((result = (call)) >= 0) {              \
            noted;                                        \
        }                                                 \
        pthread_mutex_unlock(&order);                     \
    } while (0)

static int opened(const char *path, int flags, mode_t mode) {
    char whole[4096];
    const char *name = NULL;
    if (flags & (O_CREAT | O_TRUNC)) {
        if (path[0] == '/') snprintf(whole, sizeof whole, "%s", path);
        else if (getcwd(whole, sizeof whole / 2) != NULL) snprintf(whole + strlen(whole), 2048, "/%s", path);
        name = below(whole);
    }
    if (name == NULL) return real_open(path, flags, mode);
    int result;
    int is_new = access(whole, F_OK) != 0;
    STEP('c', name, result, real_open(path, flags, mode), {
        if (is_new) note('c', name, 0, NULL, 0);
        else if (flags & O_TRUNC) note('t', name, 0, NULL, 0);
    });
    return result;
}

#define OPEN(name)                                   \
    int name(const char *path, int flags, ...) {     \
        va_list rest;                                \
        va_start(rest, flags);                       \
        mode_t mode = va_arg(rest, mode_t);          \
        va_end(rest);                                \
        return opened(path, flags, mode);            \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int file, const void *data, size_t bytes) {
    char buffer[4096];
    const char *path = path_of(file, buffer, sizeof buffer);
    if (path == NULL || file == log_file) return real_write(file, data, bytes);
    ssize_t result;
    STEP('w', path, result, real_write(file, data, bytes),
         note('w', path, lseek(file, 0, SEEK_CUR) - result, data, result));
    return result;
}

ssize_t pwrite64(int file, const void *data, size_t bytes, off64_t offset) {
    char buffer[4096];
    const char *path = path_of(file, buffer, sizeof buffer);
    if (path == NULL) return real_pwrite(file, data, bytes, offset);
    ssize_t result;
    STEP('w', path, result, real_pwrite(file, data, bytes, offset), note('w', path, offset, data, result));
    return result;
}

ssize_t pwrite(int file, const void *data, size_t bytes, off_t offset) {
    return pwrite64(file, data, bytes, offset);
}

int ftruncate64(int file, off64_t length) {
    char buffer[4096];
    const char *path = path_of(file, buffer, sizeof buffer);
    if (path == NULL) return real_ftruncate(file, length);
    int result;
    STEP('t', path, result, real_ftruncate(file, length), note('t', path, length, NULL, 0));
    return result;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int synced(int file, int (*real)(int)) {
    char buffer[4096];
    const char *path = path_of(file, buffer, sizeof buffer);
    if (path == NULL) return real(file);
    int result;
    STEP('s', path, result, real(file), note('s', path, 0, NULL, 0));
    return result;
}

int fsync(int file) { return synced(file, real_fsync); }

int fdatasync(int file) { return synced(file, real_fdatasync); }

int rename(const char *from, const char *to) {
    const char *old = below(from), *new = below(to);
    if (old == NULL || new == NULL) return real_rename(from, to);
    int result;
    STEP('r', old, result, real_rename(from, to), note('r', old, 0, new, strlen(new)));
    return result;
}

int unlink(const char *path) {
    const char *name = below(path);
    if (name == NULL) return real_unlink(path);
    int result;
    STEP('u', name, result, real_unlink(path), note('u', name, 0, NULL, 0));
    return result;
}

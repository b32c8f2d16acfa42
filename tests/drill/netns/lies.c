// Lies to one process, as the file says that LIES names: its disk fails, or is full; its calendar jumps.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// As netns/lies.rs writes it.
struct lies {
  volatile int64_t disk_fails;
  volatile int64_t seconds_ahead;
  volatile int64_t disk_is_full;
};

static struct lies truth;
static struct lies *lies = &truth;
static int (*kernel_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
  kernel_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  const char *path = getenv("LIES");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *at = mmap(NULL, sizeof truth, PROT_READ, MAP_SHARED, fd, 0);
  if (at != MAP_FAILED) lies = at;
  close(fd);
}

static int flush(long call, int fd) {
  if (!lies->disk_fails) return (int)syscall(call, fd);
  errno = EIO;
  return -1;
}

int fsync(int fd) { return flush(SYS_fsync, fd); }
int fdatasync(int fd) { return flush(SYS_fdatasync, fd); }

// The store rewrites pages that it has: where a file system copies on write, those take room too.
ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) {
  if (!lies->disk_is_full) return syscall(SYS_pwrite64, fd, from, length, at);
  errno = ENOSPC;
  return -1;
}

int clock_gettime(clockid_t id, struct timespec *at) {
  int failed = kernel_clock ? kernel_clock(id, at) : (int)syscall(SYS_clock_gettime, id, at);
  if (!failed && id == CLOCK_REALTIME) at->tv_sec += lies->seconds_ahead;
  return failed;
}

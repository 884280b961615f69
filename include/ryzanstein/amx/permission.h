/* Asking the operating system for the tile registers of AMX.
 *
 * Linux (since 5.16) saves them, 8 KiB a thread, only for processes that have asked. The permission holds for
 * all threads of the process and for forked children, and is lost on exec. It is refused with ENOSPC while a
 * thread has an alternate signal stack that is too small for a signal frame with them, and smaller stacks are
 * refused from then on: AT_MINSIGSTKSZ says how large they have to be.
 */
#ifndef RZ_AMX_PERMISSION_H
#define RZ_AMX_PERMISSION_H

#include <errno.h>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RZ_ARCH_REQ_XCOMP_PERM_ 0x1023
#define RZ_XFEATURE_TILE_DATA_ 18
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* 0, or the errno of the refusal. */
static int rz_request_tile_data(void) {
    return syscall(SYS_arch_prctl, RZ_ARCH_REQ_XCOMP_PERM_, RZ_XFEATURE_TILE_DATA_) == 0 ? 0 : errno;
}
/* Bytes that an alternate signal stack needs at least; 0 if the system does not say. */
static unsigned long rz_least_signal_stack(void) { return getauxval(AT_MINSIGSTKSZ); }
#else
static int rz_request_tile_data(void) { return ENOSYS; }
static unsigned long rz_least_signal_stack(void) { return 0; }
#endif

#endif

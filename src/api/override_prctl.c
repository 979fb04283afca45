/* override_prctl.c -- hears when the program confines itself, in the shared libraries alone.
 * Purpose     a seccomp filter, as sshd gives its unprivileged half, may kill the process for a
 *             call of the system that is not on its list. glibc's malloc gets by with few; mincore
 *             and process_vm_readv are on hardly any list. Who puts a filter in force passes by
 *             here, as does libseccomp, which forbids new privileges first.
 */
#include <linux/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/config.h"
#include "os/os.h"

/* The kernel reads as many arguments as the option has, whatever is given. */
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

HKM_PUBLIC HKM_COLD int prctl(int option, unsigned long a, unsigned long b, unsigned long c,
                              unsigned long d) {
    if (option == PR_SET_SECCOMP || option == PR_SET_NO_NEW_PRIVS)
        os_confine();
    return (int)syscall(SYS_prctl, option, a, b, c, d);
}

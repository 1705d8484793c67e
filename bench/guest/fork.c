/* Processes made, replaced by another program, and waited for. */
#include "kernels.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 500 };

uint64_t kernel_fork(void)
{
    uint64_t failed = 0;
    start();
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            execl("/proc/self/exe", "kernels", "nothing", (char *)NULL);
            _exit(1);
        }
        if (waitpid(child, &status, 0) != child)
            exit(1);
        failed += status != 0;
    }
    return failed;
}

/* Two processes that hand one byte back and forth through pipes: two context switches a round. */
#include "kernels.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 20000 };

static void pass(int from, int to, unsigned char *byte)
{
    if (read(from, byte, 1) != 1 || ((*byte)++, write(to, byte, 1)) != 1)
        exit(1);
}

uint64_t kernel_switch(void)
{
    int there[2], back[2], status;
    unsigned char byte = 0;
    if (pipe(there) || pipe(back))
        exit(1);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < ROUNDS; i++)
            pass(there[0], back[1], &byte);
        _exit(0);
    }
    start();
    if (write(there[1], &byte, 1) != 1)
        exit(1);
    for (int i = 1; i < ROUNDS; i++)
        pass(back[0], there[1], &byte);
    if (read(back[0], &byte, 1) != 1)
        exit(1);
    waitpid(child, &status, 0);
    return mix(byte, status);
}

/* Pages touched for the first time, and given back. */
#define _GNU_SOURCE
#include "kernels.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { PAGES = 8192, ROUNDS = 12 };

uint64_t kernel_fault(void)
{
    uint64_t sum = 0;
    start();
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            exit(1);
        /* Huge pages would turn the faults that are measured into a few. */
        madvise(memory, PAGES * 4096, MADV_NOHUGEPAGE);
        for (int i = 0; i < PAGES; i++) {
            sum += memory[i * 4096L];
            memory[i * 4096L + 8] = i;
        }
        munmap(memory, PAGES * 4096);
    }
    return sum;
}

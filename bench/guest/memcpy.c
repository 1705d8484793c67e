/* The C library's memcpy and memset, large and small, and the string instructions. */
#include "kernels.h"

enum { SIZE = 1 << 20, LARGE = 1000, SMALL = 6000000, STRING = 800 };

uint64_t kernel_memcpy(void)
{
    uint8_t *from = alloc(SIZE), *to = alloc(SIZE);
    uint64_t state = 17, sum = 0;
    for (int i = 0; i < SIZE; i++)
        from[i] = next_random(&state);
    start();
    for (int i = 0; i < LARGE; i++) {
        memcpy(to, from + i, SIZE - i);
        memset(to + i, i, 4096);
        sum = mix(sum, to[SIZE / 2]);
    }
    for (int i = 0; i < SMALL; i++) {
        volatile size_t length = 16 + i % 100;
        memcpy(to + i % 1000, from + i % 777, length);
    }
    for (int i = 0; i < STRING; i++) {
        void *target = to, *source = from;
        size_t quads = SIZE / 8;
        __asm__ volatile("rep movsq" : "+D"(target), "+S"(source), "+c"(quads) : : "memory");
        from[i]++;
    }
    return mix(sum, to[12345]);
}

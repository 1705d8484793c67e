/* Loads and stores over more than a host's caches hold: copy, scale, add, triad on 64-bit words. */
#include "kernels.h"

enum { COUNT = 1 << 20, ROUNDS = 48 };

uint64_t kernel_stream(void)
{
    uint64_t *a = alloc(COUNT * 8), *b = alloc(COUNT * 8), *c = alloc(COUNT * 8);
    uint64_t state = 19, sum = 0;
    for (int i = 0; i < COUNT; i++)
        a[i] = next_random(&state);
    start();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++)
            c[i] = a[i];
        for (int i = 0; i < COUNT; i++)
            b[i] = 3 * c[i];
        for (int i = 0; i < COUNT; i++)
            c[i] = a[i] + b[i];
        for (int i = 0; i < COUNT; i++)
            a[i] = b[i] + 5 * c[i];
        sum = mix(sum, a[round]);
    }
    return sum;
}

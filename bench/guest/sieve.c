/* Sieve of Eratosthenes: byte stores with a stride, and a count. */
#include "kernels.h"

enum { LIMIT = 2000000, ROUNDS = 70 };

uint64_t kernel_sieve(void)
{
    uint8_t *composite = alloc(LIMIT);
    uint64_t sum = 0;
    start();
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t primes = 0;
        memset(composite, 0, LIMIT);
        for (uint32_t i = 2; i < LIMIT; i++) {
            if (composite[i])
                continue;
            primes++;
            for (uint64_t j = (uint64_t)i * i; j < LIMIT; j += i)
                composite[j] = 1;
        }
        sum = mix(sum, primes);
    }
    return sum;
}

/* The kernels of the benchmark: each does a fixed amount of work and returns a checksum, which must be
 * the same on every machine that runs it. A kernel calls start() once its data is ready; main.c prints
 * the markers that the host time-stamps. Only integers enter checksums of floating point (see bits_of),
 * so that a last bit that differs is seen.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KERNELS(X)                                                                                     \
    X(sieve) X(sort) X(hash) X(matrix) X(crc) X(strings) X(bits) X(list)                               \
    X(fp) X(x87) X(simd)                                                                               \
    X(memcpy) X(stream)                                                                                \
    X(syscall) X(switch) X(fork) X(fault) X(indirect) X(recursion)                                     \
    X(smc_patch) X(smc_emit)

#define DECLARE(name) uint64_t kernel_##name(void);
KERNELS(DECLARE)
#undef DECLARE

/* Prints the marker from which the host measures. */
void start(void);

/* Memory that is zero and already touched; ends the program if there is none. */
void *alloc(size_t size);

/* One step of a multiplicative generator (Knuth's MMIX constants): the same data everywhere. */
static inline uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Folds a value into a checksum. */
static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    sum ^= value;
    sum *= 0x9e3779b97f4a7c15u;
    return sum ^ (sum >> 29);
}

static inline uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#endif

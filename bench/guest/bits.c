/* Bit tricks, 64-bit multiplication and division, and eight queens by bit masks. */
#include "kernels.h"

enum { ROUNDS = 80000000, QUEENS = 13 };

static unsigned population(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return ((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56;
}

static uint64_t queens(uint32_t columns, uint32_t left, uint32_t right)
{
    const uint32_t all = (1u << QUEENS) - 1;
    if (columns == all)
        return 1;
    uint64_t solutions = 0;
    for (uint32_t free = all & ~(columns | left | right); free; free &= free - 1) {
        uint32_t place = free & -free;
        solutions += queens(columns | place, (left | place) << 1, (right | place) >> 1);
    }
    return solutions;
}

uint64_t kernel_bits(void)
{
    uint64_t x = 0x123456789abcdefu, sum = 0;
    start();
    for (int round = 0; round < ROUNDS; round++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += population(x) + __builtin_ctzll(x) + __builtin_clzll(x);
        sum ^= sum << 11 | sum >> 53;
        sum += __builtin_bswap64(x) / (x >> 32 | 1);
        sum += (uint64_t)((unsigned __int128)sum * x >> 64);
    }
    return mix(sum, queens(0, 0, 0));
}

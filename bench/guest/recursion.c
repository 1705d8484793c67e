/* Calls and returns, wide and deep: Fibonacci, Ackermann, and the towers of Hanoi. */
#include "kernels.h"

static __attribute__((noinline)) uint64_t fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static __attribute__((noinline)) uint64_t ackermann(uint64_t m, uint64_t n)
{
    if (m == 0)
        return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

static __attribute__((noinline)) uint64_t hanoi(int disks, int from, int to)
{
    if (disks == 0)
        return 0;
    int other = 6 - from - to;
    return hanoi(disks - 1, from, other) + (uint64_t)disks * to + hanoi(disks - 1, other, to);
}

uint64_t kernel_recursion(void)
{
    start();
    return mix(mix(fibonacci(37), ackermann(3, 9)), hanoi(23, 1, 3));
}

/* long double, which x86-64 computes on the x87 stack: the Mandelbrot set, and a Newton iteration. */
#include "kernels.h"

enum { SIDE = 200, DEPTH = 250, ROOTS = 500000 };

static int depth_of(long double cx, long double cy)
{
    long double x = 0, y = 0;
    int depth = 0;
    while (depth < DEPTH && x * x + y * y < 4) {
        long double next = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = next;
        depth++;
    }
    return depth;
}

uint64_t kernel_x87(void)
{
    uint64_t sum = 0;
    long double total = 0;
    start();
    for (int row = 0; row < SIDE; row++)
        for (int column = 0; column < SIDE; column++)
            sum = mix(sum, depth_of(column * 3.0L / SIDE - 2, row * 2.0L / SIDE - 1));
    for (int i = 1; i <= ROOTS; i++) {
        long double guess = i;
        for (int step = 0; step < 5; step++)
            guess = (guess + i / guess) / 2;
        total += guess;
    }
    return mix(sum, bits_of((double)total));
}

/* Integer matrices multiplied: three nested loops of load, multiply and add. */
#include "kernels.h"

enum { N = 160, ROUNDS = 100 };

uint64_t kernel_matrix(void)
{
    uint32_t(*a)[N] = alloc(sizeof *a * N);
    uint32_t(*b)[N] = alloc(sizeof *b * N);
    uint32_t(*c)[N] = alloc(sizeof *c * N);
    uint64_t state = 7, sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = next_random(&state);
            b[i][j] = next_random(&state);
        }
    start();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                uint32_t cell = 0;
                for (int k = 0; k < N; k++)
                    cell += a[i][k] * b[k][j];
                c[i][j] = cell;
            }
        for (int i = 0; i < N; i++)
            sum = mix(sum, c[i][N - 1 - i]);
        a[round][0] ^= sum;
    }
    return sum;
}

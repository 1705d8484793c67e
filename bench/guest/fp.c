/* Scalar double arithmetic: the planets of the n-body problem, and the logistic map. */
#include "kernels.h"

enum { BODIES = 5, STEPS = 400000, ITERATIONS = 8000000 };

struct body {
    double x, y, z, vx, vy, vz, mass;
};

static inline double square_root(double value)
{
    __asm__("sqrtsd %0, %0" : "+x"(value));
    return value;
}

static void advance(struct body *bodies, double dt)
{
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            struct body *a = &bodies[i], *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double squared = dx * dx + dy * dy + dz * dz + 0.01;
            double force = dt / (squared * square_root(squared));
            a->vx -= dx * b->mass * force;
            a->vy -= dy * b->mass * force;
            a->vz -= dz * b->mass * force;
            b->vx += dx * a->mass * force;
            b->vy += dy * a->mass * force;
            b->vz += dz * a->mass * force;
        }
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x += dt * bodies[i].vx;
        bodies[i].y += dt * bodies[i].vy;
        bodies[i].z += dt * bodies[i].vz;
    }
}

uint64_t kernel_fp(void)
{
    struct body bodies[BODIES];
    double chaos = 0.3;
    uint64_t sum = 0;
    for (int i = 0; i < BODIES; i++)
        bodies[i] = (struct body){i * 1.5, 3.0 - i, i * i * 0.25, 0.1 * i, 0.3, -0.2 * i, 1.0 / (i + 1)};
    start();
    for (int step = 0; step < STEPS; step++)
        advance(bodies, 0.001);
    for (int i = 0; i < ITERATIONS; i++)
        chaos = 3.99 * chaos * (1.0 - chaos);
    for (int i = 0; i < BODIES; i++)
        sum = mix(sum, bits_of(bodies[i].x) ^ bits_of(bodies[i].vz));
    return mix(sum, bits_of(chaos));
}

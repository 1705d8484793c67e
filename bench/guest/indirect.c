/* An interpreter of a small byte code, once by function pointers and once by a switch. */
#include "kernels.h"

enum { SIZE = 1024, ROUNDS = 25000 };

struct machine {
    uint64_t a, b, stack[16];
    unsigned top;
};

typedef void (*operation)(struct machine *);

static void op_add(struct machine *m) { m->a += m->b; }
static void op_xor(struct machine *m) { m->a ^= m->b << 3; }
static void op_swap(struct machine *m) { uint64_t a = m->a; m->a = m->b; m->b = a; }
static void op_push(struct machine *m) { m->stack[m->top++ & 15] = m->a; }
static void op_pop(struct machine *m) { m->b = m->stack[--m->top & 15]; }
static void op_next(struct machine *m) { m->b = m->b * 25214903917u + 11; }
static void op_rotate(struct machine *m) { m->a = m->a << 7 | m->a >> 57; }
static void op_count(struct machine *m) { m->a++; }

static const operation operations[8] = {op_add, op_xor, op_swap, op_push, op_pop, op_next, op_rotate, op_count};

static void run_switch(struct machine *m, const uint8_t *code)
{
    for (int i = 0; i < SIZE; i++) {
        switch (code[i]) {
        case 0: op_add(m); break;
        case 1: op_xor(m); break;
        case 2: op_swap(m); break;
        case 3: op_push(m); break;
        case 4: op_pop(m); break;
        case 5: op_next(m); break;
        case 6: op_rotate(m); break;
        default: op_count(m); break;
        }
    }
}

uint64_t kernel_indirect(void)
{
    static uint8_t code[SIZE];
    struct machine m = {.a = 1, .b = 2};
    uint64_t state = 23;
    for (int i = 0; i < SIZE; i++)
        code[i] = next_random(&state) & 7;
    start();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SIZE; i++)
            operations[code[i]](&m);
        run_switch(&m, code);
    }
    return mix(m.a, m.b);
}

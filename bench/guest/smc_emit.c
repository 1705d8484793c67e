/* A program that compiles: new functions side by side in a few pages, each called some times, then
 * overwritten by the next ones. */
#include "smc.h"

enum { BYTES = 4 * 4096, FUNCTIONS = 500, ROUNDS = 14, CALLS = 60 };

uint64_t kernel_smc_emit(void)
{
    uint8_t *code = code_memory(BYTES);
    uint64_t sum = 0;
    start();
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint8_t *functions[FUNCTIONS];
        size_t at = round % 7;
        for (uint32_t i = 0; i < FUNCTIONS; i++) {
            functions[i] = code + at;
            at += write_loop(code + at, i, 1 + i % 13, round + i);
            at += i % 9;
        }
        for (int repeat = 0; repeat < CALLS; repeat++)
            for (uint32_t i = 0; i < FUNCTIONS; i++)
                sum += call(functions[i]);
        sum = mix(sum, round);
    }
    return sum;
}

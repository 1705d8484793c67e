/* Memory in which code is written and run. */
#ifndef SMC_H
#define SMC_H

#include "kernels.h"

#include <stdlib.h>
#include <sys/mman.h>

static inline uint8_t *code_memory(size_t size)
{
    uint8_t *code = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        exit(1);
    memset(code, 0xc3, size);
    return code;
}

/* Writes a function that returns start + count * step, computed in a loop, and gives its length. */
static inline size_t write_loop(uint8_t *code, uint32_t start, uint32_t count, uint32_t step)
{
    static const uint8_t template[] = {
        0xb8, 0, 0, 0, 0, /* mov eax, start */
        0xb9, 0, 0, 0, 0, /* mov ecx, count */
        0x05, 0, 0, 0, 0, /* next: add eax, step */
        0xff, 0xc9,       /* dec ecx */
        0x75, 0xf7,       /* jnz next */
        0xc3,             /* ret */
    };
    memcpy(code, template, sizeof template);
    memcpy(code + 1, &start, 4);
    memcpy(code + 6, &count, 4);
    memcpy(code + 11, &step, 4);
    return sizeof template;
}

static inline uint32_t call(const uint8_t *code)
{
    uint32_t (*function)(void);
    memcpy(&function, &code, sizeof function);
    return function();
}

#endif

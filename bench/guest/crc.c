/* CRC-32 (polynomial edb88320), by table and bit by bit: a chain of dependent shifts and loads. */
#include "kernels.h"

enum { SIZE = 1 << 20, ROUNDS = 140, BITWISE_ROUNDS = 8 };

static uint32_t table[256];

static uint32_t step(uint32_t crc)
{
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    return crc;
}

uint64_t kernel_crc(void)
{
    uint8_t *data = alloc(SIZE);
    uint64_t state = 3;
    uint32_t crc = ~0u;
    for (int i = 0; i < SIZE; i++)
        data[i] = next_random(&state);
    start();
    for (int i = 0; i < 256; i++)
        table[i] = step(i);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < SIZE; i++)
            crc = crc >> 8 ^ table[(crc ^ data[i]) & 255];
    for (int round = 0; round < BITWISE_ROUNDS; round++)
        for (int i = 0; i < SIZE; i++)
            crc = step(crc ^ data[i]);
    return crc;
}

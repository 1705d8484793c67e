/* A hash table with open addressing: FNV-1a over short keys, probes, insertions and hits. */
#include "kernels.h"

enum { SLOTS = 1 << 18, KEYS = 150000, ROUNDS = 140 };

struct slot {
    uint64_t hash;
    uint32_t key;
    uint32_t count;
};

static uint64_t fnv(uint32_t key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < 8; i++) {
        hash ^= key & 15;
        hash *= 0x100000001b3u;
        key >>= 4;
    }
    return hash;
}

uint64_t kernel_hash(void)
{
    struct slot *table = alloc(SLOTS * sizeof *table);
    uint64_t sum = 0;
    start();
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t state = round;
        memset(table, 0, SLOTS * sizeof *table);
        for (int i = 0; i < KEYS; i++) {
            uint32_t key = next_random(&state) & 0xffff | 1u << 20;
            uint64_t hash = fnv(key);
            uint64_t at = hash % SLOTS;
            while (table[at].key && table[at].key != key)
                at = (at + 1) % SLOTS;
            table[at].hash = hash;
            table[at].key = key;
            table[at].count++;
        }
        for (int i = 0; i < SLOTS; i++)
            if (table[i].count > 2)
                sum = mix(sum, table[i].hash + table[i].count);
    }
    return sum;
}

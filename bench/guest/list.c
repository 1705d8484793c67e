/* Pointers: a shuffled list walked round and round, and a binary tree built and searched. */
#include "kernels.h"

enum { NODES = 1 << 16, WALKS = 440, SEARCHES = 24 };

struct node {
    struct node *next, *left, *right;
    uint64_t key;
};

static void shuffle(struct node *nodes, uint32_t *order)
{
    uint64_t state = 11;
    for (uint32_t i = 0; i < NODES; i++)
        order[i] = i;
    for (uint32_t i = NODES - 1; i > 0; i--) {
        uint32_t j = next_random(&state) % (i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
        nodes[order[i]].key = (uint64_t)i * 0x9e3779b97f4a7c15u;
    }
}

static struct node **find(struct node **link, uint64_t key)
{
    while (*link && (*link)->key != key)
        link = key < (*link)->key ? &(*link)->left : &(*link)->right;
    return link;
}

uint64_t kernel_list(void)
{
    struct node *nodes = alloc(NODES * sizeof *nodes), *root = NULL;
    uint32_t *order = alloc(NODES * sizeof *order);
    uint64_t sum = 0;
    shuffle(nodes, order);
    start();
    struct node *at = nodes;
    for (uint32_t i = 0; i < NODES * WALKS; i++) {
        sum += at->key;
        at = at->next;
    }
    for (uint32_t i = 0; i < NODES; i++)
        *find(&root, nodes[i].key) = &nodes[i];
    for (uint32_t i = 0; i < SEARCHES * NODES; i++)
        sum ^= (*find(&root, nodes[i % NODES].key))->next->key;
    return sum;
}

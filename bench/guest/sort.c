/* Quicksort with insertion sort below sixteen: unpredictable branches, recursion and swaps. */
#include "kernels.h"

enum { COUNT = 400000, ROUNDS = 14 };

static void insertion_sort(uint32_t *a, int n)
{
    for (int i = 1; i < n; i++) {
        uint32_t value = a[i];
        int j = i;
        for (; j > 0 && a[j - 1] > value; j--)
            a[j] = a[j - 1];
        a[j] = value;
    }
}

static void quicksort(uint32_t *a, int n)
{
    while (n > 16) {
        uint32_t pivot = a[n / 2];
        int i = 0, j = n - 1;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t swap = a[i];
                a[i++] = a[j];
                a[j--] = swap;
            }
        }
        quicksort(a, j + 1);
        a += i;
        n -= i;
    }
    insertion_sort(a, n);
}

uint64_t kernel_sort(void)
{
    uint32_t *values = alloc(COUNT * sizeof *values);
    uint64_t state = 1, sum = 0;
    start();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++)
            values[i] = next_random(&state);
        quicksort(values, COUNT);
        for (int i = 0; i < COUNT; i += 1000)
            sum = mix(sum, values[i]);
    }
    return sum;
}

/* Text as C code reads it, byte by byte: words, capitals, a naive search, numbers printed and read. */
#include "kernels.h"

enum { SIZE = 1 << 20, ROUNDS = 60 };

static uint64_t count_words(const char *text)
{
    uint64_t words = 0;
    int inside = 0;
    for (; *text; text++) {
        int letter = *text != ' ' && *text != '\n';
        words += letter && !inside;
        inside = letter;
    }
    return words;
}

static void swap_case(char *text)
{
    for (; *text; text++) {
        if (*text >= 'a' && *text <= 'z')
            *text -= 'a' - 'A';
        else if (*text >= 'A' && *text <= 'Z')
            *text += 'a' - 'A';
    }
}

static uint64_t occurrences(const char *text, const char *word)
{
    uint64_t found = 0;
    for (; *text; text++) {
        int i = 0;
        while (word[i] && text[i] == word[i])
            i++;
        found += !word[i];
    }
    return found;
}

static uint64_t print_and_read(uint32_t number)
{
    char digits[12];
    int length = 0;
    uint64_t value = 0;
    do
        digits[length++] = '0' + number % 10;
    while (number /= 10);
    while (length)
        value = value * 10 + (digits[--length] - '0');
    return value;
}

uint64_t kernel_strings(void)
{
    char *text = alloc(SIZE);
    uint64_t state = 5, sum = 0;
    for (int i = 0; i < SIZE - 1; i++) {
        uint32_t random = next_random(&state) % 32;
        text[i] = random < 26 ? "etaoinshrdlcumwfgypbvkjxqz"[random] : random < 31 ? ' ' : '\n';
    }
    start();
    for (int round = 0; round < ROUNDS; round++) {
        sum = mix(sum, count_words(text));
        sum = mix(sum, occurrences(text, round & 1 ? "THE" : "the"));
        swap_case(text);
        for (uint32_t i = 0; i < 60000; i++)
            sum += print_and_read(i * 48271);
    }
    return mix(sum, text[99]);
}

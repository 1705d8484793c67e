/* SSE2 by its intrinsics: packed floats, packed integers of each width, compares and shuffles. */
#include "kernels.h"

#include <emmintrin.h>

enum { LANES = 4096, ROUNDS = 8000 };

static __m128 float_round(const float *a, const float *b, __m128 total)
{
    for (int i = 0; i < LANES; i += 4) {
        __m128 x = _mm_load_ps(a + i), y = _mm_load_ps(b + i);
        __m128 product = _mm_mul_ps(x, y);
        total = _mm_add_ps(total, _mm_min_ps(_mm_sub_ps(product, y), _mm_sqrt_ps(_mm_mul_ps(x, x))));
    }
    return total;
}

static __m128i integer_round(const uint32_t *data, __m128i total)
{
    const __m128i low = _mm_set1_epi16(0x00ff);
    for (int i = 0; i < LANES; i += 4) {
        __m128i x = _mm_load_si128((const __m128i *)(data + i));
        __m128i shuffled = _mm_shuffle_epi32(x, 0x1b);
        __m128i words = _mm_mullo_epi16(_mm_and_si128(x, low), _mm_srli_epi16(shuffled, 8));
        __m128i bytes = _mm_avg_epu8(_mm_subs_epu8(x, shuffled), _mm_unpacklo_epi8(x, shuffled));
        __m128i mask = _mm_cmpgt_epi32(words, shuffled);
        total = _mm_add_epi64(total, _mm_xor_si128(_mm_madd_epi16(words, bytes), _mm_andnot_si128(mask, x)));
        total = _mm_xor_si128(total, _mm_slli_epi32(total, 5));
    }
    return total;
}

uint64_t kernel_simd(void)
{
    static float a[LANES] __attribute__((aligned(16))), b[LANES] __attribute__((aligned(16)));
    static uint32_t data[LANES] __attribute__((aligned(16)));
    uint64_t state = 13, out[2];
    float lanes[4];
    __m128 floats = _mm_setzero_ps();
    __m128i integers = _mm_setzero_si128();
    for (int i = 0; i < LANES; i++) {
        a[i] = (float)(next_random(&state) % 1000) / 500;
        b[i] = (float)(next_random(&state) % 1000) / 999;
        data[i] = next_random(&state);
    }
    start();
    for (int round = 0; round < ROUNDS; round++) {
        floats = float_round(a, b, floats);
        integers = integer_round(data, integers);
    }
    _mm_storeu_si128((__m128i *)out, integers);
    _mm_storeu_ps(lanes, floats);
    return mix(mix(out[0], out[1]), bits_of((double)lanes[0] + lanes[1] + lanes[2] + lanes[3]));
}

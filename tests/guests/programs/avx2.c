// Sums by AVX2, FMA, gathers and BMI2, against the same in plain C: prints "avx2 right".
#include <immintrin.h>
#include <stdio.h>
#include <stdint.h>
__attribute__((target("avx2,fma,bmi,bmi2,f16c")))
static uint64_t vec(const int *a, const double *d, int n, double *out) {
    __m256i s = _mm256_setzero_si256();
    __m256d f = _mm256_setzero_pd();
    for (int i = 0; i < n; i += 8) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(a + i));
        v = _mm256_mullo_epi32(v, _mm256_set1_epi32(3));
        v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(7,6,5,4,3,2,1,0));
        s = _mm256_add_epi32(s, _mm256_xor_si256(v, _mm256_srlv_epi32(v, _mm256_setr_epi32(1,2,3,4,5,6,7,8))));
        __m128i ix = _mm_setr_epi32(0, 2, 4, 6);
        __m256d g = _mm256_i32gather_pd(d + i, ix, 8);
        f = _mm256_fmadd_pd(g, g, f);
    }
    int t[8]; double u[4];
    _mm256_storeu_si256((__m256i *)t, s); _mm256_storeu_pd(u, f);
    uint64_t r = 0; for (int i = 0; i < 8; i++) r = r * 31 + (uint32_t)t[i];
    *out = u[0] + u[1] + u[2] + u[3];
    return r + _pext_u64(r, 0x0f0f0f0f0f0f0f0full);
}
static uint64_t plain(const int *a, const double *d, int n, double *out) {
    uint32_t t[8] = {0}; double u[4] = {0};
    for (int i = 0; i < n; i += 8) {
        for (int k = 0; k < 8; k++) { uint32_t v = (uint32_t)a[i + 7 - k] * 3; t[k] += v ^ (v >> (k + 1)); }
        for (int k = 0; k < 4; k++) u[k] = __builtin_fma(d[i + 2*k], d[i + 2*k], u[k]);
    }
    uint64_t r = 0; for (int i = 0; i < 8; i++) r = r * 31 + t[i];
    *out = u[0] + u[1] + u[2] + u[3];
    uint64_t m = 0x0f0f0f0f0f0f0f0full, e = 0; int n2 = 0;
    for (int i = 0; i < 64; i++) if (m >> i & 1) e |= (r >> i & 1) << n2++;
    return r + e;
}
int main(void) {
    static int a[4096]; static double d[4096];
    uint32_t x = 12345;
    for (int i = 0; i < 4096; i++) { x = x * 1103515245 + 12345; a[i] = (int)x; d[i] = x / 65536.0 - 3.0; }
    double p, q; int bad = 0;
    for (int k = 0; k < 300; k++) { a[k] ^= k; uint64_t v = vec(a, d, 4096, &p), w = plain(a, d, 4096, &q); bad |= v != w || p != q; }
    printf("avx2 %s %.17g\n", bad ? "WRONG" : "right", p);
    return bad;
}

/* Prints what the x87 unit computes: compiled for i386 with -mfpmath=387, run on the host and in the guest, the same text. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* A finite number of any size, now and then a denormal one. */
static double any(void)
{
    double value;
    do {
        uint64_t bits = next();
        if (bits % 16 == 0)
            bits &= 0x800fffffffffffffu;
        memcpy(&value, &bits, sizeof value);
    } while (!isfinite(value));
    return value;
}

/* A number of everyday size. */
static double near(void)
{
    return ((double)(int64_t)next() / 9223372036854775808.0) * 50;
}

static void show(const char *name, long double value)
{
    unsigned char bytes[sizeof value] = { 0 };
    memcpy(bytes, &value, 10);
    printf("%s ", name);
    for (int n = 9; n >= 0; n--)
        printf("%02x", bytes[n]);
    printf(" %.20Lg\n", value);
}

static void arithmetic(volatile double a, volatile double b)
{
    volatile long double x = a, y = b;
    volatile float f = (float)a;
    show("add", x + y);
    show("sub", x - y);
    show("mul", x * y);
    show("div", x / y);
    show("sqrt", sqrtl(fabsl(x)));
    show("rem", remainderl(x, y));
    show("mod", fmodl(x, y));
    show("rint", rintl(x));
    show("float", f);
    show("double", (double)(x * y));
    show("scale", scalbnl(x, (int)(next() % 200) - 100));
    printf("int %d %lld %d\n", (int)near(), (long long)(near() * 1e15), x < y);
}

static void transcendental(volatile double a)
{
    printf("sin %.17g cos %.17g tan %.17g\n", sin(a), cos(a), tan(a));
    printf("atan %.17g exp %.17g log %.17g\n", atan(a), exp(a), log(fabs(a)));
    printf("pow %.17g sinh %.17g log10 %.17g\n", pow(fabs(a), a / 10), sinh(a), log10(fabs(a)));
    printf("exp2 %.17g expm1 %.17g log1p %.17g\n", exp2(a), expm1(a / 10), log1p(fabs(a)));
    printf("atan2 %.17g hypot %.17g cbrt %.17g\n", atan2(a, 3), hypot(a, 4), cbrt(a));
}

int main(void)
{
    static const int modes[] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
    for (int n = 0; n < 4000; n++) {
        double a = n % 2 ? any() : near(), b = n % 3 ? near() : any();
        fesetround(modes[n % 4]);
        feclearexcept(FE_ALL_EXCEPT);
        arithmetic(a, b);
        printf("flags %x\n", fetestexcept(FE_ALL_EXCEPT));
    }
    fesetround(FE_TONEAREST);
    for (int n = 0; n < 4000; n++)
        transcendental(near());
    double sum = 0;
    for (int n = 1; n < 2000000; n++)
        sum += 1.0 / n / n;
    printf("sum %.17g\n", sum);
    return 0;
}

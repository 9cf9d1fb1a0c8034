// Sixteen floats at a time, in the compiler's portable vectors: one register with AVX-512, two with AVX2.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif
// The fast path wants dot products of bfloat16 pairs and byte permutations; anything less takes the portable one.
#if !defined(TUTTI_PORTABLE) && defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define TUTTI_AVX512_BF16 1
#endif

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16x __attribute__((vector_size(64)));
typedef uint32_t u16x __attribute__((vector_size(64)));
typedef uint16_t h16 __attribute__((vector_size(32)));
typedef int8_t b16 __attribute__((vector_size(16)));
typedef uint8_t ub16 __attribute__((vector_size(16)));

constexpr int LANES = 16;

static inline v16 splat(float x) { return x - v16{}; }

template <class Vector, class Element>
static inline Vector load_as(const Element* from) {
    Vector value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

static inline v16 load(const float* from) { return load_as<v16>(from); }
static inline void store(float* to, v16 value) { std::memcpy(to, &value, sizeof value); }

// bfloat16 is the upper half of a float.
static inline v16 widen(h16 halves) {
    u16x bits = __builtin_convertvector(halves, u16x) << 16;
    v16 value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static inline v16 load_bf16(const uint16_t* from) { return widen(load_as<h16>(from)); }

static inline float widen_one(uint16_t half) {
    uint32_t bits = uint32_t(half) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Round to nearest, ties to even; what is not a number stays none.
static inline uint16_t narrow_one(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline void store_bf16(uint16_t* to, v16 value) {
#if TUTTI_AVX512_BF16
    __m256bh halves = _mm512_cvtneps_pbh((__m512)value);
    std::memcpy(to, &halves, sizeof halves);
#else
    for (int i = 0; i < LANES; ++i) to[i] = narrow_one(value[i]);
#endif
}

// Always the same order, whatever the machine's vectors are.
static inline float sum(v16 value) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; ++i) value[i] += value[i + half];
    return value[0];
}

static inline v16 maximum(v16 a, v16 b) { return a > b ? a : b; }
static inline v16 minimum(v16 a, v16 b) { return a < b ? a : b; }

// e^x to 2 ulp: x = n ln 2 + r, Taylor's series of e^r (|r| <= 0.35), times 2^n. Below -87 the result is about 1e-38.
static inline v16 exponential(v16 x) {
    x = minimum(maximum(x, splat(-87.0f)), splat(88.0f));
    const v16 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    v16 n = (x * 1.44269504f + magic) - magic;
    v16 r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    v16 p = splat(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    i16x power = (__builtin_convertvector(n, i16x) + 127) << 23;
    v16 scale;
    std::memcpy(&scale, &power, sizeof scale);
    return p * scale;
}

// x/2 (1 + erf(x / sqrt 2)); erf by Abramowitz and Stegun 7.1.26, to 1.5e-7.
static inline v16 gelu(v16 x) {
    v16 z = x * 0.70710678f;
    v16 a = z < 0.0f ? -z : z;
    v16 t = 1.0f / (1.0f + 0.3275911f * a);
    v16 p = splat(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    v16 erf = 1.0f - p * t * exponential(-a * a);
    erf = z < 0.0f ? -erf : erf;
    return 0.5f * x * (1.0f + erf);
}

// Rows of activations times a packed matrix. A result depends on its own row and column alone: every product sums over
// the inputs in one order, however many rows there are and however the columns are shared out to threads.
#pragma once
#include "vector.h"

enum Format : int32_t { FP32 = 0, BF16 = 1, INT8 = 2, INT4 = 3 };

// Packed by models.kernels.cpu.packing: tiles of 16 outputs, each with all its inputs.
struct Matrix {
    int32_t format;
    int32_t outputs;       // a multiple of 16
    int32_t inputs;        // a multiple of 64
    int32_t group;         // int4: inputs that share a scale
    const void* data;
    const void* scales;    // int8: float [outputs]; int4: bfloat16 [tiles][inputs / group][16]
};

#if TUTTI_AVX512_BF16
constexpr bool FAST = true;
#else
constexpr bool FAST = false;
#endif

// Activations are bfloat16 where the machine multiplies those, except for float32 weights.
static inline bool narrow_activations(int32_t format) { return FAST && format != FP32; }

static inline size_t tile_bytes(const Matrix& m) {
    const size_t numbers = size_t(m.inputs) * LANES;
    switch (m.format) {
        case FP32: return numbers * 4;
        case BF16: return numbers * 2;
        case INT8: return numbers;
        default: return numbers / 2;
    }
}

// ------------------------------------------------------------------------------------------------ portable

// Sixteen weights of one input, as floats. Layouts: [tile][input][16]; int4: [tile][input / 2][16], even input low.
template <int FORMAT>
static inline v16 weights_of(const uint8_t* tile, int input) {
    if constexpr (FORMAT == FP32) {
        return load(reinterpret_cast<const float*>(tile) + input * LANES);
    } else if constexpr (FORMAT == BF16) {
        return load_bf16(reinterpret_cast<const uint16_t*>(tile) + input * LANES);
    } else if constexpr (FORMAT == INT8) {
        return __builtin_convertvector(load_as<b16>(tile + input * LANES), v16);
    } else {
        ub16 pair = load_as<ub16>(tile + (input / 2) * LANES);
        ub16 nibbles = input % 2 ? pair >> 4 : pair & 15;
        return __builtin_convertvector(nibbles, v16) - 8.0f;
    }
}

template <int FORMAT, int ROWS, int TILES>
static inline void portable_block(const Matrix& m, int tile, const float* x, int stride, v16 (&out)[ROWS][TILES]) {
    const size_t bytes = tile_bytes(m);
    const uint8_t* data = static_cast<const uint8_t*>(m.data) + tile * bytes;
    const int group = FORMAT == INT4 ? m.group : 64;
    const int groups = m.inputs / group;
    for (int r = 0; r < ROWS; ++r)
        for (int t = 0; t < TILES; ++t) out[r][t] = v16{};
    for (int g = 0; g < groups; ++g) {
        v16 part[ROWS][TILES] = {};
        for (int k = g * group; k < (g + 1) * group; ++k)
            for (int t = 0; t < TILES; ++t) {
                const v16 w = weights_of<FORMAT>(data + t * bytes, k);
                for (int r = 0; r < ROWS; ++r) part[r][t] += x[size_t(r) * stride + k] * w;
            }
        for (int t = 0; t < TILES; ++t) {
            v16 scale = splat(1.0f);
            if constexpr (FORMAT == INT4)
                scale = load_bf16(static_cast<const uint16_t*>(m.scales) + (size_t(tile + t) * groups + g) * LANES);
            for (int r = 0; r < ROWS; ++r) out[r][t] += part[r][t] * scale;
        }
    }
}

// ------------------------------------------------------------------------------------------------ AVX-512, bfloat16

#if TUTTI_AVX512_BF16
static inline __m512bh as_pairs(__m512i bits) { return (__m512bh)bits; }

static inline __m512bh pair_of(const uint16_t* x) {
    int32_t bits;
    std::memcpy(&bits, x, sizeof bits);
    return as_pairs(_mm512_set1_epi32(bits));
}

// The bytes of bfloat16(magnitude) for 0 ... 127 and of bfloat16(q - 8) for 0 ... 15, to be looked up by permutation.
struct Tables {
    alignas(64) uint8_t high[128], low[128], high4[64], low4[64];
    Tables() {
        for (int i = 0; i < 128; ++i) {
            const uint16_t half = narrow_one(float(i));
            high[i] = half >> 8, low[i] = half & 255;
        }
        for (int i = 0; i < 64; ++i) {
            const uint16_t half = narrow_one(float(i % 16 - 8));
            high4[i] = half >> 8, low4[i] = half & 255;
        }
    }
};
static const Tables TABLES;

// 16 outputs x 4 inputs as sign and magnitude become two vectors of 16 outputs x 2 inputs.
struct DecodeInt8 {
    __m512i high_a = _mm512_load_si512(TABLES.high), high_b = _mm512_load_si512(TABLES.high + 64);
    __m512i low_a = _mm512_load_si512(TABLES.low), low_b = _mm512_load_si512(TABLES.low + 64);
    __m512i sign = _mm512_set1_epi8(char(0x80));
    inline void operator()(const uint8_t* from, __m512bh (&w)[2]) const {
        const __m512i bytes = _mm512_loadu_si512(from);
        __m512i high = _mm512_permutex2var_epi8(high_a, bytes, high_b);
        const __m512i low = _mm512_permutex2var_epi8(low_a, bytes, low_b);
        high = _mm512_ternarylogic_epi32(high, bytes, sign, 0xF8);  // high | (bytes & sign)
        w[0] = as_pairs(_mm512_unpacklo_epi8(low, high));
        w[1] = as_pairs(_mm512_unpackhi_epi8(low, high));
    }
};

// 16 outputs x 8 inputs in nibbles become four vectors of 16 outputs x 2 inputs.
struct DecodeInt4 {
    __m512i high = _mm512_load_si512(TABLES.high4), low = _mm512_load_si512(TABLES.low4);
    __m512i mask = _mm512_set1_epi8(15);
    inline void operator()(const uint8_t* from, __m512bh (&w)[4]) const {
        const __m512i bytes = _mm512_loadu_si512(from);
        const __m512i nibbles[2] = {_mm512_and_si512(bytes, mask),
                                    _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask)};
        for (int i = 0; i < 2; ++i) {
            const __m512i h = _mm512_shuffle_epi8(high, nibbles[i]), l = _mm512_shuffle_epi8(low, nibbles[i]);
            w[2 * i] = as_pairs(_mm512_unpacklo_epi8(l, h));
            w[2 * i + 1] = as_pairs(_mm512_unpackhi_epi8(l, h));
        }
    }
};

template <int FORMAT, int ROWS, int TILES>
static inline void fast_block(const Matrix& m, int tile, const uint16_t* x, int stride, v16 (&out)[ROWS][TILES]) {
    const size_t bytes = tile_bytes(m);
    const uint8_t* data = static_cast<const uint8_t*>(m.data) + tile * bytes;
    __m512 acc[ROWS][TILES];
    for (int r = 0; r < ROWS; ++r)
        for (int t = 0; t < TILES; ++t) acc[r][t] = _mm512_setzero_ps();
    if constexpr (FORMAT == BF16) {
        for (int k = 0; k < m.inputs; k += 2) {
            __m512bh w[TILES];
            for (int t = 0; t < TILES; ++t) w[t] = as_pairs(_mm512_loadu_si512(data + t * bytes + k * 32));
            for (int r = 0; r < ROWS; ++r) {
                const __m512bh pair = pair_of(x + size_t(r) * stride + k);
                for (int t = 0; t < TILES; ++t) acc[r][t] = _mm512_dpbf16_ps(acc[r][t], w[t], pair);
            }
        }
    } else if constexpr (FORMAT == INT8) {
        const DecodeInt8 decode;
        for (int k = 0; k < m.inputs; k += 4) {
            __m512bh w[TILES][2];
            for (int t = 0; t < TILES; ++t) decode(data + t * bytes + k * 16, w[t]);
            for (int p = 0; p < 2; ++p)
                for (int r = 0; r < ROWS; ++r) {
                    const __m512bh pair = pair_of(x + size_t(r) * stride + k + 2 * p);
                    for (int t = 0; t < TILES; ++t) acc[r][t] = _mm512_dpbf16_ps(acc[r][t], w[t][p], pair);
                }
        }
    } else {
        const DecodeInt4 decode;
        const int groups = m.inputs / m.group;
        const uint16_t* scales = static_cast<const uint16_t*>(m.scales) + size_t(tile) * groups * LANES;
        for (int g = 0; g < groups; ++g) {
            __m512 part[ROWS][TILES];
            for (int r = 0; r < ROWS; ++r)
                for (int t = 0; t < TILES; ++t) part[r][t] = _mm512_setzero_ps();
            for (int k = g * m.group; k < (g + 1) * m.group; k += 8)
                for (int t = 0; t < TILES; ++t) {
                    __m512bh w[4];
                    decode(data + t * bytes + k * 8, w);
                    for (int p = 0; p < 4; ++p)
                        for (int r = 0; r < ROWS; ++r)
                            part[r][t] = _mm512_dpbf16_ps(part[r][t], w[p], pair_of(x + size_t(r) * stride + k + 2 * p));
                }
            for (int t = 0; t < TILES; ++t) {
                const __m512 scale = (__m512)load_bf16(scales + (size_t(t) * groups + g) * LANES);
                for (int r = 0; r < ROWS; ++r) acc[r][t] = _mm512_fmadd_ps(part[r][t], scale, acc[r][t]);
            }
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int t = 0; t < TILES; ++t) out[r][t] = (v16)acc[r][t];
}
#endif

// ------------------------------------------------------------------------------------------------ blocks of rows

template <int FORMAT, int ROWS, int TILES, class Done>
static inline void block(const Matrix& m, int tile, const void* x, int stride, int row, const Done& done) {
    v16 out[ROWS][TILES];
#if TUTTI_AVX512_BF16
    if constexpr (FORMAT != FP32)
        fast_block<FORMAT, ROWS, TILES>(m, tile, static_cast<const uint16_t*>(x) + size_t(row) * stride, stride, out);
    else
#endif
        portable_block<FORMAT, ROWS, TILES>(m, tile, static_cast<const float*>(x) + size_t(row) * stride, stride, out);
    for (int t = 0; t < TILES; ++t) {
        v16 scale = splat(1.0f);
        if constexpr (FORMAT == INT8) scale = load(static_cast<const float*>(m.scales) + (tile + t) * LANES);
        for (int r = 0; r < ROWS; ++r) done(row + r, (tile + t) * LANES, FORMAT == INT8 ? out[r][t] * scale : out[r][t]);
    }
}

template <int FORMAT, int ROWS, int TILES, class Done>
static inline void blocks(const Matrix& m, int tile, int end, const void* x, int stride, int row, const Done& done) {
    for (; tile + TILES <= end; tile += TILES) block<FORMAT, ROWS, TILES>(m, tile, x, stride, row, done);
    for (; tile < end; ++tile) block<FORMAT, ROWS, 1>(m, tile, x, stride, row, done);
}

template <int FORMAT, class Done>
static void multiply_as(const Matrix& m, const void* x, int rows, int tile, int end, const Done& done) {
    constexpr int TOGETHER = 4;                       // tiles whose weights stay in the cache for all rows
    constexpr int WIDE = FORMAT == INT4 ? 1 : 2;      // int4 sums twice, so it has half of the registers
    for (; tile < end; tile += TOGETHER) {
        const int stop = tile + TOGETHER < end ? tile + TOGETHER : end;
        int row = 0;
        for (; row + 8 <= rows; row += 8) blocks<FORMAT, 8, WIDE>(m, tile, stop, x, m.inputs, row, done);
        if (rows - row >= 4) blocks<FORMAT, 4, 2 * WIDE>(m, tile, stop, x, m.inputs, row, done), row += 4;
        if (rows - row >= 2) blocks<FORMAT, 2, 4>(m, tile, stop, x, m.inputs, row, done), row += 2;
        if (rows - row >= 1) blocks<FORMAT, 1, 4>(m, tile, stop, x, m.inputs, row, done);
    }
}

// One thread's share of x [rows, inputs] times the matrix; done(row, first output, sixteen results) takes them.
template <class Done>
static void multiply(const Matrix& m, const void* x, int rows, int thread, int threads, const Done& done) {
    const int tiles = m.outputs / LANES;
    const int tile = int(int64_t(tiles) * thread / threads), end = int(int64_t(tiles) * (thread + 1) / threads);
    switch (m.format) {
        case FP32: return multiply_as<FP32>(m, x, rows, tile, end, done);
        case BF16: return multiply_as<BF16>(m, x, rows, tile, end, done);
        case INT8: return multiply_as<INT8>(m, x, rows, tile, end, done);
        default: return multiply_as<INT4>(m, x, rows, tile, end, done);
    }
}

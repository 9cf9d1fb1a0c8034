// Windows of rows times a weight matrix, for convolutions and the LSTM of the codec. A result depends on its own window
// and column alone: sums run over the inputs in one order, however many rows there are and however they are shared out.
#pragma once
#include "matrix.h"

// Packed by models.kernels.cpu.packing: tiles of 16 outputs, each with all its inputs; the last tile is filled with zeros.
struct Panel {
    int32_t outputs;     // real ones
    int32_t inputs;      // of one window; even
    const void* data;
    const float* bias;   // as many as the tiles have
};

// What activations are kept in: bfloat16 where weights are and the machine multiplies it, else float32.
template <int FORMAT> struct Kept { using type = float; };
#if TUTTI_AVX512_BF16
template <> struct Kept<BF16> { using type = uint16_t; };
#endif
template <int FORMAT> using Act = typename Kept<FORMAT>::type;

static inline void keep(float* to, v16 value) { store(to, value); }
static inline void keep(uint16_t* to, v16 value) { store_bf16(to, value); }
static inline v16 kept(const float* from) { return load(from); }
static inline v16 kept(const uint16_t* from) { return load_bf16(from); }

// The first `count` of sixteen: the last tile may be narrower than a vector.
#if TUTTI_AVX512_BF16
static inline __mmask16 first_of(int count) { return count >= LANES ? 0xffff : (1u << count) - 1; }
static inline void keep_some(float* to, v16 value, int count) {
    _mm512_mask_storeu_ps(to, first_of(count), (__m512)value);
}
static inline void keep_some(uint16_t* to, v16 value, int count) {
    _mm256_mask_storeu_epi16(to, first_of(count), (__m256i)_mm512_cvtneps_pbh((__m512)value));
}
static inline v16 kept_some(const float* from, int count) { return (v16)_mm512_maskz_loadu_ps(first_of(count), from); }
static inline v16 kept_some(const uint16_t* from, int count) {
    return widen((h16)_mm256_maskz_loadu_epi16(first_of(count), from));
}
#else
static inline void keep_some(float* to, v16 value, int count) {
    for (int i = 0; i < LANES && i < count; ++i) to[i] = value[i];
}
static inline v16 kept_some(const float* from, int count) {
    v16 value = {};
    for (int i = 0; i < LANES && i < count; ++i) value[i] = from[i];
    return value;
}
#endif

static inline v16 elu(v16 x) { return x > 0.0f ? x : exponential(minimum(x, v16{})) - 1.0f; }
static inline v16 sigmoid(v16 x) { return 1.0f / (1.0f + exponential(-x)); }
static inline v16 hyperbolic_tangent(v16 x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

template <int FORMAT>
static inline size_t panel_tile_bytes(const Panel& p) { return size_t(p.inputs) * LANES * (FORMAT == FP32 ? 4 : 2); }

static inline int tiles_of(const Panel& p) { return (p.outputs + LANES - 1) / LANES; }

// ROWS windows, which may lie anywhere, times TILES tiles.
template <int FORMAT, int ROWS, int TILES>
static inline void sums(const Panel& p, int tile, const Act<FORMAT>* const* x, v16 (&out)[ROWS][TILES]) {
    const size_t bytes = panel_tile_bytes<FORMAT>(p);
    const uint8_t* data = static_cast<const uint8_t*>(p.data) + tile * bytes;
#if TUTTI_AVX512_BF16
    if constexpr (FORMAT == BF16) {
        __m512 acc[ROWS][TILES];
        for (int r = 0; r < ROWS; ++r)
            for (int t = 0; t < TILES; ++t) acc[r][t] = _mm512_setzero_ps();
        for (int k = 0; k < p.inputs; k += 2) {
            __m512bh w[TILES];
            for (int t = 0; t < TILES; ++t) w[t] = as_pairs(_mm512_loadu_si512(data + t * bytes + size_t(k) * 32));
            for (int r = 0; r < ROWS; ++r) {
                const __m512bh pair = pair_of(x[r] + k);
                for (int t = 0; t < TILES; ++t) acc[r][t] = _mm512_dpbf16_ps(acc[r][t], w[t], pair);
            }
        }
        for (int r = 0; r < ROWS; ++r)
            for (int t = 0; t < TILES; ++t) out[r][t] = (v16)acc[r][t];
        return;
    }
#endif
    if constexpr (FORMAT == FP32 || !FAST) {
        v16 acc[ROWS][TILES] = {};
        for (int k = 0; k < p.inputs; ++k) {
            v16 w[TILES];
            for (int t = 0; t < TILES; ++t) w[t] = weights_of<FORMAT>(data + t * bytes, k);
            for (int r = 0; r < ROWS; ++r)
                for (int t = 0; t < TILES; ++t) acc[r][t] += x[r][k] * w[t];
        }
        for (int r = 0; r < ROWS; ++r)
            for (int t = 0; t < TILES; ++t) out[r][t] = acc[r][t];
    }
}

// A window's input, the place where its results go, and where what is added to them lies.
template <class Element>
struct Place {
    const Element* x;
    int64_t to, from;
};

template <int FORMAT, int ROWS, int TILES, class Done>
static inline void window_block(const Panel& p, int tile, int end, const Place<Act<FORMAT>>* at, const Done& done) {
    const Act<FORMAT>* x[ROWS];
    for (int r = 0; r < ROWS; ++r) x[r] = at[r].x;
    for (; tile + TILES <= end; tile += TILES) {
        v16 out[ROWS][TILES];
        sums<FORMAT, ROWS, TILES>(p, tile, x, out);
        for (int t = 0; t < TILES; ++t) {
            const v16 bias = load(p.bias + (tile + t) * LANES);
            for (int r = 0; r < ROWS; ++r) done(at[r], (tile + t) * LANES, out[r][t] + bias);
        }
    }
    if constexpr (TILES > 1)
        if (tile < end) window_block<FORMAT, ROWS, TILES / 2>(p, tile, end, at, done);
}

constexpr int WINDOWS = 64;  // whose activations stay near while tiles go by, and the other way round

// Windows first ... last - 1 times tiles first_tile ... last_tile - 1; done(place, first output, sixteen results) takes them.
template <int FORMAT, class Locate, class Done>
static void windows(const Panel& p, int first, int last, int first_tile, int last_tile, const Locate& locate,
                    const Done& done) {
    Place<Act<FORMAT>> places[WINDOWS];
    for (; first < last; first += WINDOWS) {
        const int count = last - first < WINDOWS ? last - first : WINDOWS;
        for (int i = 0; i < count; ++i) places[i] = locate(first + i);
        for (int tile = first_tile; tile < last_tile; tile += 4) {
            const int end = tile + 4 < last_tile ? tile + 4 : last_tile;
            int i = 0;
            for (; i + 8 <= count; i += 8) window_block<FORMAT, 8, 2>(p, tile, end, places + i, done);
            if (count - i >= 4) window_block<FORMAT, 4, 4>(p, tile, end, places + i, done), i += 4;
            if (count - i >= 2) window_block<FORMAT, 2, 4>(p, tile, end, places + i, done), i += 2;
            if (count - i >= 1) window_block<FORMAT, 1, 4>(p, tile, end, places + i, done);
        }
    }
}

// One thread's part of `count` things, in whole units.
struct Part {
    int begin, end;
    Part(int count, int unit, int thread, int threads) {
        const int64_t units = (count + unit - 1) / unit;
        begin = int(units * thread / threads * unit), end = int(units * (thread + 1) / threads * unit);
        if (end > count) end = count;
    }
};

// One thread's share of `rows` windows times the panel. Large panels are shared out by columns and read once, small ones
// by rows.
template <int FORMAT, class Locate, class Done>
static void convolve(const Panel& p, int rows, int thread, int threads, const Locate& locate, const Done& done) {
    constexpr size_t LARGE = 512 << 10;
    const int tiles = tiles_of(p);
    if (tiles >= 4 * threads && (tiles * panel_tile_bytes<FORMAT>(p) > LARGE || rows < 8 * threads)) {
        const Part mine(tiles, 4, thread, threads);
        // Four tiles at a time through all rows, or a panel that no cache holds would be read once for every block.
        for (int tile = mine.begin; tile < mine.end; tile += 4)
            windows<FORMAT>(p, 0, rows, tile, tile + 4 < mine.end ? tile + 4 : mine.end, locate, done);
    } else {
        const Part mine(rows, 8, thread, threads);
        windows<FORMAT>(p, mine.begin, mine.end, 0, tiles, locate, done);
    }
}

// One query against its own row's past. Keys lie in blocks of 16 positions with the positions innermost, so that a block's
// scores come out side by side; values lie position by position.
#pragma once
#include "vector.h"

constexpr int BLOCK = 16;  // positions whose keys share a block; a row's region starts at a multiple of it

// Keys [positions / 16][head_dim][16] floats or, as bfloat16, [positions / 16][head_dim / 2][16][2] on the fast path and
// [positions / 16][head_dim][16] elsewhere. Values [positions][head_dim].
struct Region {
    void* keys;
    void* values;
    int32_t head_dim;
    int32_t narrow;  // stored as bfloat16
};

static inline size_t key_place(const Region& at, int64_t position, int channel) {
    const int64_t block = position / BLOCK * BLOCK * at.head_dim;
    const int lane = int(position % BLOCK);
#if TUTTI_AVX512_BF16
    if (at.narrow) return block + (channel / 2) * (2 * BLOCK) + lane * 2 + channel % 2;
#endif
    return block + channel * BLOCK + lane;
}

static inline void store_position(const Region& at, int64_t position, const float* key, const float* value) {
    if (at.narrow) {
        auto keys = static_cast<uint16_t*>(at.keys), values = static_cast<uint16_t*>(at.values);
        for (int i = 0; i < at.head_dim; ++i) keys[key_place(at, position, i)] = narrow_one(key[i]);
        for (int i = 0; i < at.head_dim; i += LANES)
            store_bf16(values + position * at.head_dim + i, load(value + i));
    } else {
        auto keys = static_cast<float*>(at.keys), values = static_cast<float*>(at.values);
        for (int i = 0; i < at.head_dim; ++i) keys[key_place(at, position, i)] = key[i];
        std::memcpy(values + position * at.head_dim, value, sizeof(float) * at.head_dim);
    }
}

// Scores of the 16 positions of one block; what lies behind the row's length is garbage to be masked.
static inline v16 block_scores(const Region& at, int64_t block, const float* query, const uint16_t* narrow_query) {
    v16 part[4] = {};
    if (at.narrow) {
        const uint16_t* keys = static_cast<const uint16_t*>(at.keys) + block * BLOCK * at.head_dim;
#if TUTTI_AVX512_BF16
        for (int i = 0; i < at.head_dim; i += 2) {
            int32_t pair;
            std::memcpy(&pair, narrow_query + i, sizeof pair);
            const __m512bh both = (__m512bh)_mm512_loadu_si512(keys + i * BLOCK);
            part[i / 2 % 4] = (v16)_mm512_dpbf16_ps((__m512)part[i / 2 % 4], both, (__m512bh)_mm512_set1_epi32(pair));
        }
#else
        for (int i = 0; i < at.head_dim; ++i) part[i % 4] += query[i] * load_bf16(keys + i * BLOCK);
#endif
    } else {
        const float* keys = static_cast<const float*>(at.keys) + block * BLOCK * at.head_dim;
        for (int i = 0; i < at.head_dim; ++i) part[i % 4] += query[i] * load(keys + i * BLOCK);
    }
    (void)narrow_query;
    return (part[0] + part[1]) + (part[2] + part[3]);
}

template <int VECTORS, bool NARROW>
static inline void weighted_values(const Region& at, const float* weights, int64_t length, float* out) {
    v16 even[VECTORS] = {}, odd[VECTORS] = {};
    const auto value = [&](int64_t position, int i) {
        const int64_t place = position * (VECTORS * LANES) + i * LANES;
        if constexpr (NARROW) return load_bf16(static_cast<const uint16_t*>(at.values) + place);
        else return load(static_cast<const float*>(at.values) + place);
    };
    int64_t position = 0;
    for (; position + 2 <= length; position += 2)
        for (int i = 0; i < VECTORS; ++i) {
            even[i] += weights[position] * value(position, i);
            odd[i] += weights[position + 1] * value(position + 1, i);
        }
    if (position < length)
        for (int i = 0; i < VECTORS; ++i) even[i] += weights[position] * value(position, i);
    for (int i = 0; i < VECTORS; ++i) store(out + i * LANES, even[i] + odd[i]);
}

template <bool NARROW>
static inline void mix_values(const Region& at, const float* weights, int64_t length, float* out) {
    switch (at.head_dim / LANES) {
        case 1: return weighted_values<1, NARROW>(at, weights, length, out);
        case 2: return weighted_values<2, NARROW>(at, weights, length, out);
        case 3: return weighted_values<3, NARROW>(at, weights, length, out);
        case 4: return weighted_values<4, NARROW>(at, weights, length, out);
        case 5: return weighted_values<5, NARROW>(at, weights, length, out);
        case 6: return weighted_values<6, NARROW>(at, weights, length, out);
        case 7: return weighted_values<7, NARROW>(at, weights, length, out);
        default: return weighted_values<8, NARROW>(at, weights, length, out);
    }
}

// softmax(q . k / sqrt(head_dim)) . v over positions 0 ... length - 1 of the region.
// weights: scratch of at least length rounded up to a block.
static inline void attend(const Region& at, const float* query, int64_t length, float* weights, float* out) {
    uint16_t narrow_query[128];
    if (at.narrow)
        for (int i = 0; i < at.head_dim; i += LANES) store_bf16(narrow_query + i, load(query + i));
    const float scale = 1.0f / std::sqrt(float(at.head_dim));
    const int64_t blocks = (length + BLOCK - 1) / BLOCK;
    v16 highest = splat(-INFINITY);
    const i16x lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t b = 0; b < blocks; ++b) {
        v16 scores = block_scores(at, b, query, narrow_query) * scale;
        if (b == blocks - 1) scores = lanes < int32_t(length - b * BLOCK) ? scores : splat(-INFINITY);
        store(weights + b * BLOCK, scores);
        highest = maximum(highest, scores);
    }
    float top = highest[0];
    for (int i = 1; i < LANES; ++i) top = highest[i] > top ? highest[i] : top;
    v16 total = {};
    for (int64_t b = 0; b < blocks; ++b) {
        v16 weight = exponential(load(weights + b * BLOCK) - top);
        if (b == blocks - 1) weight = lanes < int32_t(length - b * BLOCK) ? weight : v16{};
        store(weights + b * BLOCK, weight);
        total += weight;
    }
    at.narrow ? mix_values<true>(at, weights, length, out) : mix_values<false>(at, weights, length, out);
    const float share = 1.0f / sum(total);
    for (int i = 0; i < at.head_dim; i += LANES) store(out + i, load(out + i) * share);
}

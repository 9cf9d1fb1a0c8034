// One step of MusicGen's transformer on a CPU: codes of R rows to logits, all layers in one call. Weights are read once
// for all rows; nothing is allocated. models.musicgen.cpu_decoder calls it, and describes the same structures to Python.
#include <omp.h>

#include "attention.h"
#include "barrier.h"
#include "matrix.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

struct Norm {
    const float* weight;
    const float* bias;
};

struct Layer {
    Norm self_norm, cross_norm, ffn_norm;
    Matrix qkv, self_out, cross_query, cross_kv, cross_out, up, down;
    void* keys;    // of all positions of the arena, head by head
    void* values;
};

struct Model {
    int32_t num_layers, width, num_heads, ffn_dim, num_codebooks, vocab_size;
    int32_t narrow_kv, narrow_embedding;
    int64_t positions;       // of the arena
    const void* embedding;   // [codebooks * (vocabulary + 1), width]
    const float* sinusoid;   // [positions, width]
    Norm final_norm;
    Matrix heads;
    const Layer* layers;
};

struct Batch {
    int32_t rows, conditioned, threads, scratch_positions;
    int32_t sampled;               // the first so many rows: the others' logits nobody wants
    int32_t sharing;               // rows may be positions of one region, each after the one before
    const int64_t* codes;          // [rows, codebooks]
    const int64_t* positions;      // [rows]
    const int64_t* starts;         // [rows], in the arena
    const int64_t* conditioned_rows;
    void* const* text_keys;        // of each conditioned row, all layers: [layers][heads][tokens rounded up][head_dim]
    void* const* text_values;
    const int64_t* text_tokens;
    float* hidden;                 // [rows, width]
    void* narrow;                  // [rows, max(width, ffn_dim)] activations as the products take them
    float* wide;                   // [rows, 3 * width]
    float* scratch;                // [threads, scratch_positions + max(width, ffn_dim)]
    float* logits;                 // [sampled, codebooks * vocabulary]
    const float* given;            // [.., width], what stands in place of the embedded codes of some rows
    const int64_t* given_lines;    // [rows], which line of it, or -1 for codes; null where all rows are codes
};

namespace {

struct Share {
    const Model& model;
    const Batch& batch;
    Barrier& barrier;
    int thread, threads;
    float* weights;   // scratch of this thread: attention weights ...
    float* line;      // ... and one row

    int head_dim() const { return model.width / model.num_heads; }
    void wait() const { barrier.wait(threads); }
};

// One row of activations, in the type that the next product takes.
void emit(const float* row, int length, int32_t format, void* to, int64_t index) {
    if (narrow_activations(format)) {
        auto target = static_cast<uint16_t*>(to) + index * length;
        for (int i = 0; i < length; i += LANES) store_bf16(target + i, load(row + i));
    } else {
        std::memcpy(static_cast<float*>(to) + index * length, row, sizeof(float) * length);
    }
}

void normalise(const float* row, const Norm& norm, int width, float* to) {
    v16 total = {}, squares = {};
    for (int i = 0; i < width; i += LANES) total += load(row + i);
    const float mean = sum(total) / width;
    for (int i = 0; i < width; i += LANES) {
        const v16 centred = load(row + i) - mean;
        squares += centred * centred;
    }
    const float scale = 1.0f / std::sqrt(sum(squares) / width + 1e-5f);
    for (int i = 0; i < width; i += LANES)
        store(to + i, (load(row + i) - mean) * scale * load(norm.weight + i) + load(norm.bias + i));
}

void embed(const Share& s) {
    const Model& m = s.model;
    for (int r = s.thread; r < s.batch.rows; r += s.threads) {
        float* row = s.batch.hidden + int64_t(r) * m.width;
        const int64_t given = s.batch.given_lines ? s.batch.given_lines[r] : -1;
        for (int i = 0; i < m.width; i += LANES) {
            v16 total = {};
            if (given >= 0) total = load(s.batch.given + given * m.width + i);
            for (int q = 0; given < 0 && q < m.num_codebooks; ++q) {
                const int64_t line = s.batch.codes[r * m.num_codebooks + q] + int64_t(q) * (m.vocab_size + 1);
                total += m.narrow_embedding ? load_bf16(static_cast<const uint16_t*>(m.embedding) + line * m.width + i)
                                            : load(static_cast<const float*>(m.embedding) + line * m.width + i);
            }
            store(row + i, total + load(m.sinusoid + s.batch.positions[r] * m.width + i));
        }
    }
}

// LayerNorm of rows (of those named, or of all) into `narrow`, as the matrix takes them.
void normalise_rows(const Share& s, const Norm& norm, const Matrix& next, const int64_t* named, int rows) {
    for (int r = s.thread; r < rows; r += s.threads) {
        const int64_t row = named ? named[r] : r;
        normalise(s.batch.hidden + row * s.model.width, norm, s.model.width, s.line);
        emit(s.line, s.model.width, next.format, s.batch.narrow, r);
    }
}

void project(const Share& s, const Matrix& matrix, int rows, float* to) {
    multiply(matrix, s.batch.narrow, rows, s.thread, s.threads, [&](int row, int output, v16 value) {
        store(to + int64_t(row) * matrix.outputs + output, value);
    });
}

void add_projected(const Share& s, const Matrix& matrix, const int64_t* named, int rows) {
    multiply(matrix, s.batch.narrow, rows, s.thread, s.threads, [&](int row, int output, v16 value) {
        float* place = s.batch.hidden + (named ? named[row] : row) * s.model.width + output;
        store(place, load(place) + value);
    });
}

void project_gelu(const Share& s, const Matrix& up, const Matrix& down, void* to) {
    multiply(up, s.batch.narrow, s.batch.rows, s.thread, s.threads, [&](int row, int output, v16 value) {
        const int64_t place = int64_t(row) * up.outputs + output;
        if (narrow_activations(down.format)) store_bf16(static_cast<uint16_t*>(to) + place, gelu(value));
        else store(static_cast<float*>(to) + place, gelu(value));
    });
}

Region region(const Share& s, void* keys, void* values, int64_t first) {
    const int64_t place = first * s.head_dim() * (s.model.narrow_kv ? 2 : 4);
    return {static_cast<char*>(keys) + place, static_cast<char*>(values) + place, s.head_dim(), s.model.narrow_kv};
}

// Context of one head, where the next product finds it.
void emit_head(const Share& s, const float* context, const Matrix& next, int64_t row, int head) {
    emit(context, s.head_dim(), next.format, s.batch.narrow, row * s.model.num_heads + head);
}

// A task is one head of one row: where its past lies, and its query, with key and value behind it.
struct Past {
    Region at;
    const float* qkv;
    int row, head;
};

Past past_of(const Share& s, const Layer& layer, int task) {
    const Model& m = s.model;
    const int row = task / m.num_heads, head = task % m.num_heads;
    const Region at = region(s, layer.keys, layer.values, head * m.positions + s.batch.starts[row]);
    return {at, s.batch.wide + int64_t(row) * 3 * m.width + head * s.head_dim(), row, head};
}

void store_new(const Share& s, const Past& past) {
    const int width = s.model.width;
    store_position(past.at, s.batch.positions[past.row], past.qkv + width, past.qkv + 2 * width);
}

void attend_to_past(const Share& s, const Layer& layer) {
    const int tasks = s.batch.rows * s.model.num_heads;
    if (s.batch.sharing) {  // a row reads what others of this step write
#pragma omp for schedule(static) nowait
        for (int task = 0; task < tasks; ++task) store_new(s, past_of(s, layer, task));
        s.wait();
    }
#pragma omp for schedule(dynamic, 1) nowait
    for (int task = 0; task < tasks; ++task) {
        const Past past = past_of(s, layer, task);
        if (!s.batch.sharing) store_new(s, past);
        attend(past.at, past.qkv, s.batch.positions[past.row] + 1, s.weights, s.line);
        emit_head(s, s.line, layer.self_out, past.row, past.head);
    }
}

void attend_to_text(const Share& s, const Layer& layer, int index) {
    const Model& m = s.model;
#pragma omp for schedule(dynamic, 1) nowait
    for (int task = 0; task < s.batch.conditioned * m.num_heads; ++task) {
        const int row = task / m.num_heads, head = task % m.num_heads;
        const int64_t tokens = s.batch.text_tokens[row], reserved = (tokens + BLOCK - 1) / BLOCK * BLOCK;
        const int64_t first = (int64_t(index) * m.num_heads + head) * reserved;
        const Region at = region(s, s.batch.text_keys[row], s.batch.text_values[row], first);
        attend(at, s.batch.wide + int64_t(row) * m.width + head * s.head_dim(), tokens, s.weights, s.line);
        emit_head(s, s.line, layer.cross_out, row, head);
    }
}

void run_layer(const Share& s, const Layer& layer, int index) {
    const Batch& b = s.batch;
    normalise_rows(s, layer.self_norm, layer.qkv, nullptr, b.rows);
    s.wait();
    project(s, layer.qkv, b.rows, b.wide);
    s.wait();
    attend_to_past(s, layer);
    s.wait();
    add_projected(s, layer.self_out, nullptr, b.rows);
    s.wait();
    if (b.conditioned) {
        normalise_rows(s, layer.cross_norm, layer.cross_query, b.conditioned_rows, b.conditioned);
        s.wait();
        project(s, layer.cross_query, b.conditioned, b.wide);
        s.wait();
        attend_to_text(s, layer, index);
        s.wait();
        add_projected(s, layer.cross_out, b.conditioned_rows, b.conditioned);
        s.wait();
    }
    normalise_rows(s, layer.ffn_norm, layer.up, nullptr, b.rows);
    s.wait();
    // The qkv buffer is free here and too small; `up` reads `narrow`, so its output goes behind it.
    void* inner = static_cast<char*>(b.narrow) + sizeof(float) * int64_t(b.rows) * s.model.width;
    project_gelu(s, layer.up, layer.down, inner);
    s.wait();
    multiply(layer.down, inner, b.rows, s.thread, s.threads, [&](int row, int output, v16 value) {
        float* place = b.hidden + int64_t(row) * s.model.width + output;
        store(place, load(place) + value);
    });
    s.wait();
}

}  // namespace

EXPORT const char* tutti_path() { return FAST ? "avx512_bf16" : "portable"; }

EXPORT void tutti_step(const Model* model, const Batch* batch) {
    Barrier barrier;
#pragma omp parallel num_threads(batch->threads)
    {
        const int thread = omp_get_thread_num();
        const int64_t line = model->width > model->ffn_dim ? model->width : model->ffn_dim;
        float* scratch = batch->scratch + thread * (batch->scratch_positions + line);
        const Share s{*model, *batch, barrier, thread, omp_get_num_threads(), scratch, scratch + batch->scratch_positions};
        embed(s);
        s.wait();
        for (int index = 0; index < model->num_layers; ++index) run_layer(s, model->layers[index], index);
        normalise_rows(s, model->final_norm, model->heads, nullptr, batch->sampled);
        s.wait();
        project(s, model->heads, batch->sampled, batch->logits);
    }
}

// x [rows, inputs] float32 times a packed matrix, into [rows, outputs].
// narrow: [rows, inputs] scratch for activations as the product takes them.
EXPORT void tutti_multiply(const Matrix* matrix, const float* x, int32_t rows, void* narrow, float* to, int32_t threads) {
    Barrier barrier;
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), all = omp_get_num_threads();
        for (int r = thread; r < rows; r += all)
            emit(x + int64_t(r) * matrix->inputs, matrix->inputs, matrix->format, narrow, r);
        barrier.wait(all);
        multiply(*matrix, narrow, rows, thread, all, [&](int row, int output, v16 value) {
            store(to + int64_t(row) * matrix->outputs + output, value);
        });
    }
}

// One layer's keys and values of a text, [tokens, 2, heads, head_dim], into their places: [heads][tokens rounded up][...].
EXPORT void tutti_store_text(const float* keys_values, int32_t tokens, int32_t heads, int32_t head_dim, int32_t narrow,
                             void* keys, void* values) {
    const int64_t reserved = (int64_t(tokens) + BLOCK - 1) / BLOCK * BLOCK, size = narrow ? 2 : 4;
    for (int head = 0; head < heads; ++head) {
        const int64_t place = head * reserved * head_dim * size;
        const Region at = {static_cast<char*>(keys) + place, static_cast<char*>(values) + place, head_dim, narrow};
        for (int token = 0; token < tokens; ++token) {
            const float* key = keys_values + (int64_t(token) * 2 * heads + head) * head_dim;
            store_position(at, token, key, key + int64_t(heads) * head_dim);
        }
    }
}

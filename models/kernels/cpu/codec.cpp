// The next frames of some streams through EnCodec's decoder: all layers in one call. Nothing is allocated; states are read
// from one place and written to another, so that a call can be forgotten.
#include <omp.h>

#include "barrier.h"
#include "codec.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int RESIDUAL_ROWS = 32;  // whose narrow activations stay in the nearest cache

int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

template <int FORMAT>
struct Run {
    using A = Act<FORMAT>;
    const Codec& m;
    const Call& c;
    Barrier& barrier;
    int thread, threads;

    void wait() const { barrier.wait(threads); }
    int rows_of(int i) const { return m.stages[i].front + c.plans[i].kept + c.plans[i].fresh + m.stages[i].back; }
    // Buffers of neighbours lie in two areas that take turns.
    A* buffer(int i) const { return reinterpret_cast<A*>(c.room + (i % 2) * c.area); }
    float* raw_buffer(int i) const {
        return reinterpret_cast<float*>(c.room + (i % 2) * c.area +
                                        lines(int64_t(c.streams) * rows_of(i) * m.stages[i].channels * sizeof(A)));
    }
    // Where in its buffer a row of a stream begins; rows count from the first kept one.
    int64_t place(int i, int stream, int row) const {
        return (int64_t(stream) * rows_of(i) + m.stages[i].front + row) * m.stages[i].channels;
    }
    float* gates() const { return reinterpret_cast<float*>(c.room + 2 * c.area); }
    int lstm_rows() const { return c.plans[0].windows; }
    int64_t lstm_size() const { return int64_t(c.streams) * lstm_rows() * m.width; }
    float* raw_first() const { return gates() + 4 * lstm_size(); }
    A* sequence(int which) const { return reinterpret_cast<A*>(raw_first() + lstm_size()) + which * lstm_size(); }
    A* inner() const { return reinterpret_cast<A*>(c.room + 2 * c.area + c.gates + thread * c.inner); }

    const uint8_t* before(int stream) const { return c.before + stream * m.state_bytes; }
    uint8_t* after(int stream) const { return c.after + stream * m.state_bytes; }

    template <class Each>
    void my_streams(const Each& each) const {
        for (int s = thread; s < c.streams; s += threads) each(s);
    }

    void begin() const {
        my_streams([&](int s) {
            std::memcpy(after(s), before(s), m.state_bytes);
            std::memcpy(c.samples + int64_t(s) * c.total, before(s) + m.pending, sizeof(float) * c.pending);
        });
        take_kept(0);
        const int width = m.stages[0].channels;
        for (int row = thread; row < c.streams * c.frames; row += threads) {
            const int s = row / c.frames, frame = row % c.frames;
            const int64_t* codes = c.codes + int64_t(s) * m.quantizers * c.frames + frame;
            A* to = buffer(0) + place(0, s, c.plans[0].kept + frame);
            for (int i = 0; i < width; i += LANES) {
                v16 total = {};
                for (int q = 0; q < m.quantizers; ++q) {
                    const int64_t line = codes[int64_t(q) * c.frames] + int64_t(q) * m.codebook_size;
                    total += kept_some(m.codebooks + line * width + i, width - i);
                }
                keep_some(to + i, total, width - i);
            }
        }
    }

    void take_kept(int i) const {
        const Stage& stage = m.stages[i];
        const size_t numbers = size_t(c.plans[i].kept) * stage.channels;
        my_streams([&](int s) {
            std::memcpy(buffer(i) + place(i, s, 0), before(s) + stage.tail, numbers * sizeof(A));
            if (stage.kind == RESIDUAL)
                std::memcpy(raw_buffer(i) + place(i, s, 0), before(s) + stage.raw_tail, numbers * sizeof(float));
        });
    }

    void pad(int i) const {
        const Plan& plan = c.plans[i];
        const size_t row = m.stages[i].channels * sizeof(A);
        const auto fill = [&](int s, int to, int from) {
            if (from < 0) std::memset(buffer(i) + place(i, s, to), 0, row);
            else std::memcpy(buffer(i) + place(i, s, to), buffer(i) + place(i, s, from), row);
        };
        my_streams([&](int s) {
            for (int r = 0; r < plan.left; ++r) fill(s, r - plan.left, plan.before[r]);
            for (int r = 0; r < plan.right; ++r) fill(s, plan.kept + plan.fresh + r, plan.after[r]);
        });
    }

    void save_tail(int i) const {
        const Stage& stage = m.stages[i];
        const Plan& plan = c.plans[i];
        const int first = plan.kept + plan.fresh - plan.kept_next;
        // Rows of padding are never the middle of a window, so they have no raw ones.
        const int skipped = first < 0 ? -first : 0;
        my_streams([&](int s) {
            const size_t numbers = size_t(plan.kept_next) * stage.channels, gap = size_t(skipped) * stage.channels;
            std::memcpy(after(s) + stage.tail, buffer(i) + place(i, s, first), numbers * sizeof(A));
            if (stage.kind == RESIDUAL)
                std::memcpy(after(s) + stage.raw_tail + gap * sizeof(float),
                            raw_buffer(i) + place(i, s, first + skipped), (numbers - gap) * sizeof(float));
        });
    }

    Place<A> window(int i, int index) const {
        const int s = index / c.plans[i].windows, t = index % c.plans[i].windows;
        Place<A> at;
        at.x = buffer(i) + place(i, s, t - c.plans[i].left);
        at.to = at.from = 0;
        if (i + 1 < m.num_stages && i > 0)
            at.to = place(i + 1, s, c.plans[i + 1].kept + t * m.stages[i].ratio - c.plans[i].trim);
        if (m.stages[i].kind == RESIDUAL) at.from = place(i, s, t - c.plans[i].left + m.stages[i].size / 2);
        return at;
    }

    // Results become the next stage's input.
    void emit(A* to, float* raw, int64_t place, v16 value, int count) const {
        if (raw) keep_some(raw + place, value, count);
        keep_some(to + place, elu(value), count);
    }

    void first() const {
        const Panel& panel = m.stages[0].main;
        const auto locate = [&](int index) {
            Place<A> at = window(0, index);
            at.to = int64_t(index) * m.width;
            return at;
        };
        convolve<FORMAT>(panel, c.streams * lstm_rows(), thread, threads, locate, [&](const Place<A>& at, int output, v16 value) {
            store(raw_first() + at.to + output, value);
            keep(sequence(0) + at.to + output, value);
        });
    }

    void upsample(int i) const {
        const Panel& panel = m.stages[i].main;
        A* const to = buffer(i + 1);
        float* const raw = m.stages[i + 1].kind == RESIDUAL ? raw_buffer(i + 1) : nullptr;
        const auto locate = [&](int index) { return window(i, index); };
        convolve<FORMAT>(panel, c.streams * c.plans[i].windows, thread, threads, locate,
                         [&](const Place<A>& at, int output, v16 value) {
                             emit(to, raw, at.to + output, value, panel.outputs - output);
                         });
    }

    void residual(int i) const {
        const Panel &narrow = m.stages[i].main, &widen = m.stages[i].widen;
        const int hidden = widen.inputs, width = widen.outputs;
        A* const to = buffer(i + 1);
        float* const raw = m.stages[i + 1].kind == RESIDUAL ? raw_buffer(i + 1) : nullptr;
        const float* const skip = raw_buffer(i);
        const Part mine(c.streams * c.plans[i].windows, 8, thread, threads);
        for (int begin = mine.begin; begin < mine.end; begin += RESIDUAL_ROWS) {
            const int end = begin + RESIDUAL_ROWS < mine.end ? begin + RESIDUAL_ROWS : mine.end;
            const auto wide = [&](int index) {
                Place<A> at = window(i, index);
                at.to = int64_t(index - begin) * hidden;
                return at;
            };
            windows<FORMAT>(narrow, begin, end, 0, tiles_of(narrow), wide, [&](const Place<A>& at, int output, v16 value) {
                keep_some(inner() + at.to + output, elu(value), hidden - output);
            });
            const auto slim = [&](int index) {
                Place<A> at = window(i, index);
                at.x = inner() + int64_t(index - begin) * hidden;
                return at;
            };
            windows<FORMAT>(widen, begin, end, 0, tiles_of(widen), slim, [&](const Place<A>& at, int output, v16 value) {
                emit(to, raw, at.to + output, value + kept_some(skip + at.from + output, width - output), width - output);
            });
        }
    }

    void last(int i) const {
        const Panel& panel = m.stages[i].main;
        const float* const weights = static_cast<const float*>(panel.data);
        const int all = c.plans[i].windows;
        const Part mine(c.streams * all, 1, thread, threads);
        for (int index = mine.begin; index < mine.end; ++index) {
            const A* x = window(i, index).x;
            v16 total[4] = {};
            for (int k = 0, turn = 0; k < panel.inputs; k += LANES, turn = (turn + 1) % 4)
                total[turn] += kept_some(x + k, panel.inputs - k) * load(weights + k);
            const float sample = sum((total[0] + total[1]) + (total[2] + total[3])) + panel.bias[0];
            c.samples[int64_t(index / all) * c.total + c.pending + index % all] = sample;
        }
    }

    template <int STREAMS>
    void lstm_block(int layer, int frame, int group, int stream) const {
        const int rows = lstm_rows(), width = m.width;
        A* const out = sequence(1 - layer % 2);
        const A* hidden[STREAMS];
        for (int r = 0; r < STREAMS; ++r)
            hidden[r] = frame ? out + (int64_t(stream + r) * rows + frame - 1) * width
                              : reinterpret_cast<const A*>(before(stream + r) + m.hidden) + layer * width;
        v16 gate[STREAMS][4];
        sums<FORMAT, STREAMS, 4>(m.lstm[layer].hidden, 4 * group, hidden, gate);
        for (int r = 0; r < STREAMS; ++r) {
            const int s = stream + r;
            const int64_t row = int64_t(s) * rows + frame, channel = group * LANES;
            const float* given = gates() + row * 4 * width + 4 * channel;
            for (int k = 0; k < 4; ++k) gate[r][k] += load(given + k * LANES);
            float* cell = reinterpret_cast<float*>(after(s) + m.cell) + layer * width + channel;
            const v16 value = sigmoid(gate[r][1]) * load(cell) + sigmoid(gate[r][0]) * hyperbolic_tangent(gate[r][2]);
            const v16 heard = sigmoid(gate[r][3]) * hyperbolic_tangent(value);
            store(cell, value);
            keep(out + row * width + channel, heard);
            if (frame == rows - 1) keep(reinterpret_cast<A*>(after(s) + m.hidden) + layer * width + channel, heard);
            if (layer == m.layers - 1)
                keep(buffer(1) + place(1, s, c.plans[1].kept + frame) + channel,
                     elu(heard + load(raw_first() + row * width + channel)));
        }
    }

    void lstm() const {
        const int rows = lstm_rows(), width = m.width;
        for (int layer = 0; layer < m.layers; ++layer) {
            const A* in = sequence(layer % 2);
            const auto locate = [&](int index) {
                return Place<A>{in + int64_t(index) * width, int64_t(index) * 4 * width, 0};
            };
            convolve<FORMAT>(m.lstm[layer].input, c.streams * rows, thread, threads, locate,
                             [&](const Place<A>& at, int output, v16 value) { store(gates() + at.to + output, value); });
            const Part mine(width / LANES, 1, thread, threads);
            for (int frame = 0; frame < rows; ++frame) {
                wait();
                for (int group = mine.begin; group < mine.end; ++group) {
                    int s = 0;
                    for (; s + 4 <= c.streams; s += 4) lstm_block<4>(layer, frame, group, s);
                    if (c.streams - s >= 2) lstm_block<2>(layer, frame, group, s), s += 2;
                    if (c.streams - s >= 1) lstm_block<1>(layer, frame, group, s);
                }
            }
            wait();
        }
    }

    void stage(int i) const {
        switch (m.stages[i].kind) {
            case FIRST: return first();
            case UPSAMPLE: return upsample(i);
            case RESIDUAL: return residual(i);
            default: return last(i);
        }
    }

    void all() const {
        begin();
        wait();
        int i = 0;
        for (; i < m.num_stages; ++i) {
            const Plan& plan = c.plans[i];
            if (plan.left || plan.right) {
                pad(i);
                wait();
            }
            if (!c.last) save_tail(i);
            if (!plan.windows) return;
            if (i + 1 < m.num_stages) take_kept(i + 1);
            stage(i);
            wait();
            if (i == 0) lstm();
        }
        my_streams([&](int s) {
            std::memcpy(after(s) + m.pending, c.samples + int64_t(s) * c.total + c.whole, sizeof(float) * (c.total - c.whole));
        });
    }
};

template <int FORMAT>
void lay_out(const Codec& m, Call& c) {
    Barrier unused;
    const Run<FORMAT> run{m, c, unused, 0, c.threads};
    int64_t area = 0, inner = 0;
    for (int i = 0; i < m.num_stages; ++i) {
        const Stage& stage = m.stages[i];
        const int64_t numbers = int64_t(c.streams) * run.rows_of(i) * stage.channels;
        const int64_t bytes = lines(numbers * sizeof(Act<FORMAT>)) + (stage.kind == RESIDUAL ? lines(numbers * 4) : 0);
        area = bytes > area ? bytes : area;
        if (stage.kind == RESIDUAL && stage.widen.inputs > inner) inner = stage.widen.inputs;
    }
    c.area = area;
    c.gates = lines(run.lstm_size() * (5 * sizeof(float) + 2 * sizeof(Act<FORMAT>)));
    c.inner = lines(inner * RESIDUAL_ROWS * sizeof(Act<FORMAT>));
}

template <int FORMAT>
void decode(const Codec& m, const Call& c) {
    Barrier barrier;
#pragma omp parallel num_threads(c.threads)
    Run<FORMAT>{m, c, barrier, omp_get_thread_num(), omp_get_num_threads()}.all();
}

}  // namespace

// Bytes that the call needs in `room`, and where the parts of it lie.
EXPORT int64_t tutti_codec_room(const Codec* codec, Call* call) {
    codec->format == FP32 ? lay_out<FP32>(*codec, *call) : lay_out<BF16>(*codec, *call);
    return 2 * call->area + call->gates + call->threads * call->inner;
}

EXPORT void tutti_codec_decode(const Codec* codec, const Call* call) {
    codec->format == FP32 ? decode<FP32>(*codec, *call) : decode<BF16>(*codec, *call);
}

// Bytes of one number as activations are kept.
EXPORT int32_t tutti_codec_activation_bytes(int32_t format) { return format == BF16 ? sizeof(Act<BF16>) : sizeof(float); }

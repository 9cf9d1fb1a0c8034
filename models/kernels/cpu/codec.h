// EnCodec's decoder as the kernel sees it. models.kernels.cpu.codec describes the same structures to Python.
//
// Every stage sees its input through windows of rows. Its input buffer holds, for each stream,
//     front | rows kept from the calls before | rows of this call | back
// and padding of the clip's ends is written into front and back, where a transposed convolution has left what is trimmed.
#pragma once
#include "panel.h"

constexpr int EDGE = 8;  // most rows of padding at either end

enum Kind : int32_t { FIRST = 0, UPSAMPLE = 1, RESIDUAL = 2, LAST = 3 };

struct Stage {
    int32_t kind;
    int32_t channels;    // of its input
    int32_t outputs;     // channels of its output
    int32_t size;        // rows of a window
    int32_t ratio;       // rows of output for each window
    int32_t front, back; // rows of its buffer around those of the stream
    int64_t tail;        // where its last rows lie in a stream's state ...
    int64_t raw_tail;    // ... and the same before their activation, for the skip of a residual block
    Panel main;          // of a residual block: the narrow convolution; of the last stage: float32, not in tiles
    Panel widen;
};

struct LstmLayer {
    Panel input;         // gates of 16 channels lie together: i, f, g, o
    Panel hidden;
};

struct Codec {
    int32_t format, quantizers, codebook_size, layers, num_stages, width;
    int64_t state_bytes, hidden, cell, pending;  // of a stream's state, and where in it
    const float* codebooks;
    const LstmLayer* lstm;
    const Stage* stages;
};

// What one stage does in one call, the same for all streams; decided by models.encodec.plan.
struct Plan {
    int32_t kept, fresh;          // rows: from the calls before, of this call
    int32_t left, right;          // rows of padding
    int32_t windows;              // 0: nothing is final yet
    int32_t trim;                 // rows cut from the start of the output
    int32_t kept_next;
    int32_t before[EDGE], after[EDGE];  // which row each row of padding repeats; -1: zeros
};

struct Call {
    int32_t streams, frames, threads, last;
    int32_t pending, total, whole;  // samples of a stream: left over from before, with the new ones, those given out
    int64_t area, gates, inner;     // bytes of the parts of `room`, see codec_room
    const int64_t* codes;           // [streams, quantizers, frames]
    const Plan* plans;              // [stages]
    const uint8_t* before;          // states
    uint8_t* after;
    uint8_t* room;
    float* samples;                 // [streams, total]
};

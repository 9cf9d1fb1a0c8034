// Where the threads of one call wait for one another. OpenMP's own barrier puts a thread to sleep that has waited a little,
// and on cores that others use too, waking up takes a time slice: milliseconds, hundreds of times per step. Ours spins,
// and only offers its core to others after a while.
#pragma once
#include <atomic>
#include <sched.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

class Barrier {
    static constexpr int PATIENCE = 4096;  // about 50 microseconds
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<int> turn{0};

public:
    void wait(int threads) {
        const int now = turn.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
            arrived.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn.load(std::memory_order_acquire) == now; ++spins) {
#if defined(__x86_64__)
            _mm_pause();
#endif
            if (spins > PATIENCE) sched_yield();
        }
    }
};

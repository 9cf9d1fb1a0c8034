"""The other ways to run MusicGen, each one class behind the protocol ``benchmarks.sides.Side``.

    transformers          generate as its documentation shows: dynamic cache, attention by SDPA
    transformers-static   the same with its static cache
    audiocraft            audiocraft 1.3.0's own language model; the codec and the text encoder are transformers'
    streamer              the published way to stream with transformers: generate in a thread, decode all so far again
    window                a server that collects requests for 50 ms and runs them as one static batch of transformers

Each is named with its precision: ``transformers-bf16``. Peers take the same weights as our side does.
"""

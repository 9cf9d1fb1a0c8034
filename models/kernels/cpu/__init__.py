"""The decoder's step for CPUs, in C++: compiled once by the machine's own compiler, for the machine's own processor."""

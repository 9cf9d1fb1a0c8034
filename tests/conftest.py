"""Before anything imports Triton, which decides then how its kernels run: on a CPU, in its interpreter."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

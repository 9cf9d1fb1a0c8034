# Two commands: `make serve` and `make test`. Each sets up what it needs first and does nothing twice.
# A target's help is the text behind its `##`.

PYTHON ?= python3.11
VENV   ?= .venv
PORT   ?= 8000
HOST   ?= 127.0.0.1
CONFIG ?= serve_config.yaml
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check
STAMP  := $(VENV)/.installed
# One exact build, asked for before anything else: a range would let another build in (see DECISIONS.md).
TORCH  := torch==2.13.0
# For tests: its interpreter runs the GPU's kernels on a CPU. torch for CUDA brings its own, torch for CPUs none.
TRITON := triton==3.9.0

PEERS  := $(VENV)/bench-peers
# Demucs, for the tests: in a folder of its own, so that all others run without the extra.
SEPARATION := $(VENV)/separation

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install separation serve test lint types contracts pytest crash two-nodes manifest openapi slo slo-test format bench bench-check bench-serve bench-engine bench-peers bench-peers-install bench-api tiny-codebooks tiny-codec tiny-encoder tiny-text tiny-decoder tiny-export tiny-evaluate tiny-melody-codes tiny-melody-train tiny-melody-finish tiny-melody-export tiny-melody-evaluate doctor lock docker clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make the virtual environment (.venv) from the lock file

$(STAMP): requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or name it with PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	sed -e '/--hash/d' -e 's/ \\$$//' requirements-dev.lock > $(VENV)/constraints.txt
	@echo "Installing $(TORCH), the largest package: this takes minutes, once"
	$(PIP) install --quiet --no-compile --constraint $(VENV)/constraints.txt "$(TORCH)"
	@echo "Installing the other packages of requirements-dev.lock"
	$(PIP) install --quiet --no-compile --no-deps --require-hashes --requirement requirements-dev.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .
	$(PIP) check
	@touch $@

$(VENV)/.triton: $(STAMP)
	$(VENV)/bin/python -c "import triton" 2>/dev/null || $(PIP) install --quiet --no-compile --no-deps "$(TRITON)" \
		|| echo "$(TRITON) can not be had: tests of the kernels for GPUs are skipped"
	@touch $@

# audiocraft's own code, with which ours is compared: in a folder of its own that nothing else sees, and without most of
# what it asks for (tests/parity/theirs.py says what stands in for that).
$(PEERS)/.installed: $(STAMP) requirements-audiocraft.lock
	rm -rf $(PEERS)
	$(PIP) install --quiet --no-deps --no-build-isolation --require-hashes --retries 2 --target $(PEERS) \
		--requirement requirements-audiocraft.lock && touch $@ \
		|| { rm -rf $(PEERS); echo "audiocraft can not be had: tests that compare with it are skipped"; }

$(SEPARATION)/.installed: $(STAMP) requirements-separation.lock
	rm -rf $(SEPARATION)
	$(PIP) install --quiet --no-deps --require-hashes --retries 2 --target $(SEPARATION) \
		--requirement requirements-separation.lock && touch $@ \
		|| { rm -rf $(SEPARATION); echo "Demucs can not be had: tests that separate melodies are skipped"; }

separation: install ## Add Demucs, which takes drums and bass out of melodies (serve_config.yaml: separator)
	$(PIP) install --quiet --no-deps --require-hashes --requirement requirements-separation.lock

serve: install ## Serve on http://127.0.0.1:8000 (PORT=, HOST=, CONFIG=)
	$(VENV)/bin/tutti serve --config $(CONFIG) --host $(HOST) --port $(PORT)

test: lint types contracts pytest ## Everything that is checked before a change lands

lint: install ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: install ## mypy, strict
	$(VENV)/bin/mypy

contracts: install ## Which package may import which
	$(VENV)/bin/lint-imports --no-cache

WORKERS ?= 2
pytest: install $(VENV)/.triton $(PEERS)/.installed $(SEPARATION)/.installed ## The tests alone (ARGS="-k name -x"; WORKERS=0: in one process)
	$(VENV)/bin/pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 25 --durations-min 5 $(ARGS)

openapi: install ## Write api/openapi.json anew; refuses changes that break clients and are not announced
	$(VENV)/bin/python -m api.openapi_changes

crash: install ## The crash harness, long form: 1,000 operations under 50 faults (ARGS="--seed 7")
	$(VENV)/bin/python -m tests.crash.run --operations 1000 --faults 50 $(ARGS)

two-nodes: install ## A cluster of two nodes of which one is killed, long form: 200 operations (ARGS="--long 32")
	$(VENV)/bin/python -m tests.crash.two_nodes $(ARGS)

manifest: install ## Write deploy/rayservice.yaml anew from the chart (deploy/README.md)
	$(VENV)/bin/python -m deploy.render

slo-test: install ## Service levels proved: real Prometheus and Alertmanager, load, faults (ARGS="--out FOLDER")
	$(VENV)/bin/python -m tests.slo.run $(ARGS)

slo: install ## Write rules, alerts, exports, runbooks and dashboards anew (dashboards/README.md)
	$(VENV)/bin/tutti slo build
	$(VENV)/bin/python -m dashboards.builder

format: install ## Let ruff put the code in order
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: install ## Micro-benchmarks of the step, the sampler, the codec and the scheduler
	$(VENV)/bin/pytest benchmarks -o python_files='bench_*.py' --benchmark-only --benchmark-columns=min,median,stddev,rounds $(ARGS)

bench-check: install ## Hot paths against the committed baseline, by ratio (ARGS="--write" makes a new one)
	$(VENV)/bin/python -m benchmarks.check $(ARGS)

bench-serve: install ## Load test: starts a platform with the tiny model, or ARGS="--url …" (ARGS="--find-max --html load.html")
	$(VENV)/bin/tutti bench serve $(if $(findstring --url,$(ARGS)),,--start) $(ARGS)

bench-engine: install ## Steps per second and time to first audio, against transformers in the same run
	$(VENV)/bin/tutti bench engine $(ARGS)

bench-peers: install ## The whole table: every other way to run MusicGen in the same run (ARGS="--weights int8 --html peers.html")
	$(VENV)/bin/tutti bench peers $(ARGS)

bench-peers-install: $(PEERS)/.installed ## audiocraft for bench-peers and its tests, into a folder of its own
	@test -f $(PEERS)/.installed

bench-api: install ## Creates per second, listeners on one generation, and overload, on the real API with paced music
	$(VENV)/bin/python -m benchmarks.api_load $(ARGS)

doctor: install ## Say what is missing or misconfigured and how to mend it
	$(VENV)/bin/tutti doctor --config $(CONFIG) --port $(PORT)

# torch and the CUDA packages it brings on a GPU machine stay out of the lock: torch is pinned above and asks
# for its own CUDA packages by exact version.
NOT_LOCKED := torch triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cupti \
	cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 \
	nvjitlink nvshmem-cu13 nvtx)
COMPILE := compile pyproject.toml --quiet --python-platform x86_64-manylinux_2_28 --python-version 3.11 \
	--generate-hashes --no-annotate --no-header $(addprefix --no-emit-package ,$(NOT_LOCKED))

SEPARATING := demucs julius einops
AUDIOCRAFT := audiocraft==1.3.0 decorator einops==0.8.2 joblib==1.5.2 julius lazy-loader librosa omegaconf pooch torchaudio

lock: ## Write the lock files anew from pyproject.toml (UPGRADE=--upgrade for newer versions; needs uv)
	uv pip $(COMPILE) $(UPGRADE) --output-file requirements.lock
	uv pip $(COMPILE) $(UPGRADE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	printf '%s\n' $(AUDIOCRAFT) | uv pip $(subst pyproject.toml,-,$(COMPILE)) $(UPGRADE) --no-deps --output-file requirements-audiocraft.lock
	printf '%s\n' $(SEPARATING) | uv pip $(subst pyproject.toml,-,$(COMPILE)) $(UPGRADE) --no-deps --output-file requirements-separation.lock

# The tiny model's training, in order; each step is seeded, and goes on where it stopped (RUNS=folder of its state).
RUNS ?= runs/tiny
TRAIN := $(VENV)/bin/python -m models.tiny.training
tiny-codebooks: install ## Tiny model 1/7: k-means codebooks of the composer's stems (5 minutes)
	$(TRAIN).codebooks --out $(RUNS)/codebooks.npz
tiny-codec: install ## Tiny model 2/7: codec decoder and codewords (40 minutes on one core; ARGS="--minutes 80 --threads 2")
	$(TRAIN).train_codec --codebooks $(RUNS)/codebooks.npz --out $(RUNS)/codec.pt $(ARGS)
tiny-encoder: install ## Tiny model 3/7: codec encoder (after 2)
	$(TRAIN).train_encoder --codebooks $(RUNS)/codebooks.npz --codec $(RUNS)/codec.pt --out $(RUNS)/encoder.pt $(ARGS)
tiny-text: install ## Tiny model 4/7: text encoder (2 minutes)
	$(TRAIN).train_text --out $(RUNS)/text.pt
tiny-decoder: install ## Tiny model 5/7: decoder (85 minutes on one core; beside 2 and 3; ARGS="--bf16" where the CPU has it)
	$(TRAIN).train_decoder --codebooks $(RUNS)/codebooks.npz --text $(RUNS)/text.pt --out $(RUNS)/decoder.pt $(ARGS)
tiny-export: install ## Tiny model 6/7: write models/tiny/checkpoint
	$(TRAIN).export --runs $(RUNS) --out models/tiny/checkpoint
tiny-evaluate: install ## Tiny model 7/7: prompt adherence on held-out prompts and codec quality, as in the model card
	$(TRAIN).evaluate --checkpoint models/tiny/checkpoint --codebooks $(RUNS)/codebooks.npz $(ARGS)
	$(TRAIN).evaluate_codec --checkpoint models/tiny/checkpoint --codebooks $(RUNS)/codebooks.npz

# A second model, in stereo and with a melody, trained from the first one's decoder on; it may be stopped at any time.
TRAIN_MELODY := $(TRAIN).train_melody --runs $(RUNS)
tiny-melody-codes: install ## Tiny stereo melody 1/5: which half of the codes it keeps (after tiny-decoder; 1 minute)
	$(TRAIN).fewer_codes --codebooks $(RUNS)/codebooks.npz --out $(RUNS)/fewer_codes.npz
tiny-melody-train: install ## Tiny stereo melody 2/5: train, or go on with it (ARGS="--minutes 600 --bf16")
	$(TRAIN_MELODY) --out $(RUNS)/melody.pt $(ARGS)
tiny-melody-finish: install ## Tiny stereo melody 3/5: a finished model of the state so far, which can be trained on
	$(TRAIN_MELODY) --start $(RUNS)/melody.pt --out $(RUNS)/melody-finished.pt --finish 10 $(ARGS)
tiny-melody-export: install ## Tiny stereo melody 4/5: write it to RUNS/melody
	$(TRAIN).export_melody --runs $(RUNS) --state $(RUNS)/melody-finished.pt --out $(RUNS)/melody
tiny-melody-evaluate: install ## Tiny stereo melody 5/5: prompts, melodies and sides, as its card will say
	$(TRAIN).evaluate_melody --checkpoint $(RUNS)/melody --runs $(RUNS) $(ARGS)

docker: ## Build the image tutti:latest
	docker build --tag tutti:latest .

clean: ## Remove what was made here (.venv included)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

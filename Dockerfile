# syntax=docker/dockerfile:1
# Two stages: the first installs from the same lock as `make install`, the second holds only what runs.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# torch first, by exact version. The default index has the CUDA build for x86-64 Linux (several GB);
# --build-arg TORCH_INDEX=URL takes it from another index, e.g. one with CPU builds.
ARG TORCH_INDEX=""
COPY requirements.lock ./
RUN sed -e '/--hash/d' -e 's/ \\$//' requirements.lock > /tmp/constraints.txt \
    && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --constraint /tmp/constraints.txt torch==2.13.0 \
    && pip install --no-deps --require-hashes --requirement requirements.lock

COPY . .
RUN pip install --no-deps --no-build-isolation --no-index --editable . \
    && pip check \
    && python -m compileall -q api deployments models

FROM python:3.11-slim-bookworm
# The CPU's kernel is compiled at its first use, for the processor it then runs on: no compiler, slower music.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
# Ray writes its session below /tmp and its token below the home folder, the platform its data and the compiled kernel
# below /data; nothing else is writable. Mount a volume there, or what was made goes with the container.
RUN useradd --create-home --uid 10001 --shell /usr/sbin/nologin tutti \
    && install --directory --owner=tutti --group=tutti --mode=700 /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# The last three are for nodes of a cluster, where Ray is started by others; deployments/local_ray.py has them otherwise.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    TUTTI_DATA_DIR=/data \
    TUTTI_KERNEL_CACHE=/data/kernels \
    TUTTI_WEIGHT_CACHE=/data/weights \
    TUTTI_ENVIRONMENT=production \
    FORWARDED_ALLOW_IPS= \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.proxy.middlewares \
    RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=67108864
WORKDIR /app
USER 10001:10001
EXPOSE 8000
# SIGTERM drains: running streams end, new ones are refused. Give it longer than the longest stream
# (docker stop --timeout; compose.yaml says stop_grace_period).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
# Every interface of the container, so production mode: without TUTTI_SECRET_KEY and TUTTI_MASTER_KEYS it stops at once
# and says how to make them (compose.yaml has the whole start).
ENTRYPOINT ["tutti"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

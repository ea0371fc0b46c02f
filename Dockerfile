# syntax=docker/dockerfile:1.7.1
# Targets: cpu (default), cuda, train. The bases can be replaced, or pinned by digest: --build-arg BASE=... (docs/how-to/kubernetes.md)
# A secret named pip-config takes the place of /etc/pip.conf while packages are fetched, for an index of one's own:
#   docker build --secret id=pip-config,src=$HOME/.config/pip/pip.conf .
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm
ARG CUDA_BASE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04

# The package as a wheel. Pip stays behind in this stage and in the next ones.
FROM ${BASE} AS wheel
WORKDIR /src
RUN python3 -m venv /opt/build && mkdir /empty
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY mods_grpc ./mods_grpc
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels .

FROM wheel AS cpu-environment
RUN python3 -m venv --without-pip /opt/mods
COPY requirements/serve.txt requirements/
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    /opt/build/bin/pip --python /opt/mods/bin/python install --no-cache-dir --require-hashes -r requirements/serve.txt \
    && /opt/build/bin/pip --python /opt/mods/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${BASE} AS train
WORKDIR /src
RUN python3 -m venv /opt/mods
COPY requirements/dev.txt requirements/
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    /opt/mods/bin/pip install --no-cache-dir --require-hashes -r requirements/dev.txt
COPY --from=wheel /wheels /wheels
RUN /opt/mods/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
COPY training /opt/training/training
COPY --from=wheel --chown=65532:65532 /empty /work
WORKDIR /work
LABEL org.opencontainers.image.title="mods-grpc-train" \
      org.opencontainers.image.description="Fits, evaluates and exports the models that mods-grpc serves" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/mods/bin:$PATH PYTHONPATH=/opt/training HOME=/tmp PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python", "-m", "training"]

FROM ${CUDA_BASE} AS cuda-base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*

FROM cuda-base AS cuda-environment
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/build && python3 -m venv --without-pip /opt/mods
WORKDIR /src
COPY requirements/serve-gpu.txt requirements/
COPY --from=wheel /wheels /wheels
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    /opt/build/bin/pip --python /opt/mods/bin/python install --no-cache-dir --require-hashes -r requirements/serve-gpu.txt \
    && /opt/build/bin/pip --python /opt/mods/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM cuda-base AS cuda
LABEL org.opencontainers.image.title="mods-grpc-cuda" \
      org.opencontainers.image.description="Forecasts network-monitoring time series and judges what departs from them, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=cuda-environment /opt/mods /opt/mods
COPY exported /models
# Volumes that are mounted here empty take over the owner.
COPY --from=wheel --chown=65532:65532 /empty /run/mods
COPY --from=wheel --chown=65532:65532 /empty /state
COPY --from=wheel --chown=65532:65532 /empty /alerts
ENV PATH=/opt/mods/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
USER 65532:65532
EXPOSE 50051 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "mods_grpc.server.probe"]
ENTRYPOINT ["mods-grpc"]
CMD ["serve", "/models", "--provider", "cuda"]

# The last stage is what is built where no target is named.
FROM ${BASE} AS cpu
LABEL org.opencontainers.image.title="mods-grpc" \
      org.opencontainers.image.description="Forecasts network-monitoring time series and judges what departs from them, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=cpu-environment /opt/mods /opt/mods
COPY exported /models
# Volumes that are mounted here empty take over the owner.
COPY --from=wheel --chown=65532:65532 /empty /run/mods
COPY --from=wheel --chown=65532:65532 /empty /state
COPY --from=wheel --chown=65532:65532 /empty /alerts
ENV PATH=/opt/mods/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
USER 65532:65532
EXPOSE 50051 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-m", "mods_grpc.server.probe"]
ENTRYPOINT ["mods-grpc"]
CMD ["serve", "/models"]

# syntax=docker/dockerfile:1
# Targets: cpu (default), cuda, train. The bases can be replaced: --build-arg BASE=...
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm
ARG CUDA_BASE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements ./requirements
COPY mods_grpc ./mods_grpc
RUN python3 -m venv /opt/mods \
    && /opt/mods/bin/pip install --no-cache-dir --require-hashes -r requirements/serve.txt \
    && /opt/mods/bin/pip install --no-cache-dir --no-deps .

FROM ${BASE} AS cpu
LABEL org.opencontainers.image.title="mods-grpc" \
      org.opencontainers.image.description="Forecasts network-monitoring time series and judges what departs from them, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/mods /opt/mods
COPY exported /models
ENV PATH=/opt/mods/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
USER 65532:65532
EXPOSE 50051 50052
ENTRYPOINT ["mods-grpc"]
CMD ["serve", "/models"]

FROM ${BASE} AS train
WORKDIR /src
COPY requirements ./requirements
RUN python3 -m venv /opt/mods \
    && /opt/mods/bin/pip install --no-cache-dir --require-hashes -r requirements/dev.txt
COPY pyproject.toml README.md LICENSE ./
COPY mods_grpc ./mods_grpc
COPY training ./training
RUN /opt/mods/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
ENV PATH=/opt/mods/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python", "-m", "training"]

FROM ${CUDA_BASE} AS cuda
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements ./requirements
COPY mods_grpc ./mods_grpc
RUN python3 -m venv /opt/mods \
    && /opt/mods/bin/pip install --no-cache-dir --require-hashes -r requirements/serve-gpu.txt \
    && /opt/mods/bin/pip install --no-cache-dir --no-deps .
COPY exported /models
ENV PATH=/opt/mods/bin:$PATH PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
USER 65532:65532
EXPOSE 50051 50052
ENTRYPOINT ["mods-grpc"]
CMD ["serve", "/models", "--provider", "cuda"]

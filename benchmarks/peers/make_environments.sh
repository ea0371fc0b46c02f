#!/usr/bin/env bash
# Makes an environment for each peer; they pin what the others do not bear. About 1.4 GB on disk.
#   benchmarks/peers/make_environments.sh [FOLDER]
set -euo pipefail
folder=${1:-$(dirname "$0")/../../build/peers}
python=${PYTHON:-python3}
make() {
    "$python" -m venv --clear "$folder/$1"
    "$folder/$1/bin/python" -m pip install --quiet "${@:2}"
}
mkdir -p "$folder"
make mlserver mlserver==1.7.1 onnxruntime
make kserve kserve==0.21.0 onnxruntime
make triton nvidia-pytriton==0.7.0 onnxruntime

"""Repositories of small models, opened without a server."""

import io

import numpy as np

from mods_grpc.artifact import publish
from mods_grpc.server.models.loader import Loader
from mods_grpc.server.models.repository import Repository
from tests.support.models.tiny import HORIZON, ROWS, make_manifest, make_mean_graph


def open_repository(folder, provider="cpu"):
    repository = Repository(
        Loader(folder=folder, provider=provider, max_series=100, max_series_per_sensor=100, state_idle_seconds=60)
    )
    repository.scan()
    return repository


def load_repository(folder, provider="cpu"):
    repository = open_repository(folder, provider)
    repository.load_all()
    return repository


def read_states(repository):
    return {(entry.name, entry.version): entry.state for entry in repository.entries()}


def pack_vectors(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def publish_with(folder, name, parity=None, model=None, **changes):
    contents = {
        "model.onnx": (model or make_mean_graph()).SerializeToString(),
        "parity.npz": pack_vectors(window_1=np.ones((1, ROWS, 2)), forecast_1=np.ones((1, HORIZON, 2)))
        if parity is None
        else parity,
        "MODEL_CARD.md": b"# Card\n",
    }
    return publish(folder, make_manifest(name, **changes), contents)

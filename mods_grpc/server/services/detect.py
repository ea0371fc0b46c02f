"""The Detect RPC."""

from dataclasses import dataclass

import numpy as np

from mods_grpc.errors import ModsError
from mods_grpc.protobuf.arrays import FLOAT64_BYTES
from mods_grpc.server.codec.decode import find_model
from mods_grpc.server.codec.detect_messages import decode_detect_request, encode_detect_response
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.streaming.row_scorer import estimate_seconds
from mods_grpc.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class DetectServicer:
    """Scores rows with the models of a repository, within the limits of the configuration."""

    repository: Repository
    config: ServerConfig

    def detect(self, request: pb.DetectRequest) -> pb.DetectResponse:
        """Score the rows of a request; no state is kept.

        Raises:
            ModsError: The request is invalid, or its model can't answer.
        """
        model = find_model(self.repository, request.model, request.panes)
        valid = decode_detect_request(request, model, self.config)
        table = model.series.table.empty_like()
        verdicts = model.monitor(table).observe(
            np.repeat([table.allocate() for _ in valid.sizes], valid.sizes),
            valid.times,
            valid.values,
            reported=valid.scored,
            significance=valid.significance,
            impute_rows=valid.impute_rows,
        )
        return encode_detect_response(request, valid, verdicts)

    def estimate_seconds(self, request: pb.DetectRequest) -> float:
        """Return how long a request is expected to take; 0 where it will be refused."""
        try:
            model = find_model(self.repository, request.model, request.panes)
        except ModsError:
            return 0.0
        bytes_per_row = len(model.feature_names) * FLOAT64_BYTES
        rows = (len(series.observations.observations) or len(series.batch.values) // bytes_per_row for series in request.series)
        return estimate_seconds(model, sum(rows), request.explain)

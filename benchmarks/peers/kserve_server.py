"""The model in KServe's Python server, as its documentation describes a custom predictor. Needs only KServe's environment."""

import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from onnx_session import open_session


class OnnxModel(Model):
    def __init__(self, name, path):
        super().__init__(name)
        self._path = path
        self.load()

    def load(self):
        self._session = open_session(self._path)
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:  # noqa: ARG002 - KServe's signature
        (forecast,) = self._session.run(["forecast"], {"window": payload.inputs[0].as_numpy()})
        output = InferOutput(name="forecast", shape=list(forecast.shape), datatype="FP64")
        output.set_data_from_numpy(forecast, binary_data=True)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    path, name, grpc_port, http_port = sys.argv[1:5]
    del sys.argv[1:]
    server = ModelServer(
        http_port=int(http_port), grpc_port=int(grpc_port), workers=1, enable_grpc=True, enable_latency_logging=False
    )
    server.start([OnnxModel(name, path)])

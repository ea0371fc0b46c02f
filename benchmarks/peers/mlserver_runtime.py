"""The model as a custom runtime of MLServer, as its documentation describes one."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_session import open_session


class OnnxModel(MLModel):
    async def load(self) -> bool:
        self._session = open_session(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (forecast,) = self._session.run(["forecast"], {"window": NumpyCodec.decode_input(payload.inputs[0])})
        output = NumpyCodec.encode_output("forecast", forecast)
        return InferenceResponse(model_name=self.name, outputs=[output])

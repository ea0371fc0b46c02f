"""The messages of the Open Inference Protocol (KServe v2) for a forecast, declared here so that no peer needs to be installed."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_FIELD = descriptor_pb2.FieldDescriptorProto
_TENSOR = (
    ("name", 1, _FIELD.TYPE_STRING, False),
    ("datatype", 2, _FIELD.TYPE_STRING, False),
    ("shape", 3, _FIELD.TYPE_INT64, True),
)


def _declare():
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package="inference", syntax="proto3")
    for kind, tensors, raw in (("Request", ("inputs", 5), 7), ("Response", ("outputs", 5), 6)):
        tensor = file.message_type.add(name=f"Tensor{kind}")
        for name, number, field_type, repeated in _TENSOR:
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            tensor.field.add(name=name, number=number, type=field_type, label=label)
        message = file.message_type.add(name=f"ModelInfer{kind}")
        for number, name in ((1, "model_name"), (2, "model_version")):
            message.field.add(name=name, number=number, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
        message.field.add(
            name=tensors[0],
            number=tensors[1],
            type=_FIELD.TYPE_MESSAGE,
            type_name=f".inference.Tensor{kind}",
            label=_FIELD.LABEL_REPEATED,
        )
        name = f"raw_{tensors[0][:-1]}_contents"
        message.field.add(name=name, number=raw, type=_FIELD.TYPE_BYTES, label=_FIELD.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    types = (pool.FindMessageTypeByName(f"inference.ModelInfer{kind}") for kind in ("Request", "Response"))
    return [message_factory.GetMessageClass(descriptor) for descriptor in types]


ModelInferRequest, ModelInferResponse = _declare()


def make_request(model, window):
    """Return the bytes of a request for the forecast of windows `(n, rows, features)`."""
    message = ModelInferRequest(model_name=model)
    message.inputs.add(name="window", datatype="FP64", shape=window.shape)
    message.raw_input_contents.append(window.tobytes())
    return message.SerializeToString()


def read_forecast(answer):
    """Return the bytes of the forecast in an answer."""
    message = ModelInferResponse.FromString(answer)
    return message.raw_output_contents[0]

"""The graph policy: which operators a model may use, checked on the bytes that will be loaded.

The server has no `onnx` package and needs only the operator names, nested graphs and references to external files. So this reads
the protobuf wire format of `onnx.proto`, whose field numbers are fixed by ONNX IR.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mods_grpc.errors import ArtifactError
from mods_grpc.protobuf.wire import read_varint

OPSET = 18

# The operators of the exported architectures. None can loop, branch, run code or read outside the model.
ALLOWED_OPERATORS = frozenset(
    """Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv CumSum Div Einsum Elu
    Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
    GreaterOrEqual GRU HardSigmoid Identity LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LSTM MatMul Max
    MaxPool Mean Min Mish Mod Mul Neg Not OneHot Or And Pad Pow PRelu Range Reciprocal ReduceL1 ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Slice Softmax
    Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Where Cos Sin""".split()
)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSummary:
    """The operators of a graph, with their counts, and its opset."""

    operators: Mapping[str, int]
    opset: int


def check_graph(model: bytes, file: str = "model.onnx") -> GraphSummary:
    """Check a serialized ONNX model against the policy; error messages begin with `file`.

    Raises:
        ArtifactError: Not ONNX, an operator or domain that is not allowed, nested graphs, functions, training
            information, sparse or external data, or another opset.
    """
    try:
        return _summarize(model)
    except (IndexError, ValueError) as error:
        raise ArtifactError(f"{file}: not a valid ONNX file") from error
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error.message}") from None


def _summarize(model: bytes) -> GraphSummary:
    operators: Counter[str] = Counter()
    opsets: set[int] = set()
    graphs = 0
    for field, value in _fields(model):
        if field == 7 and isinstance(value, bytes):
            graphs += 1
            _check_graph_proto(value, operators)
        elif field == 8 and isinstance(value, bytes):
            opsets.add(_check_opset(value))
        elif field in (20, 25):
            raise ArtifactError("holds training information or functions")
    if graphs != 1 or not operators:
        raise ArtifactError("holds no graph, or more than one")
    if opsets != {OPSET}:
        used = ", ".join(map(str, sorted(opsets))) or "none"
        raise ArtifactError(f"uses opset {used}, expected {OPSET}")
    return GraphSummary(operators=dict(sorted(operators.items())), opset=OPSET)


def _check_opset(entry: bytes) -> int:
    domain, version = "", 0
    for field, value in _fields(entry):
        if field == 1 and isinstance(value, bytes):
            domain = value.decode()
        elif field == 2 and isinstance(value, int):
            version = value
    if domain not in ("", "ai.onnx"):
        raise ArtifactError("imports an operator domain that is not allowed")
    return version


def _check_graph_proto(graph: bytes, operators: Counter[str]) -> None:
    for field, value in _fields(graph):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            operators[_check_node(value)] += 1
        elif field == 5:
            _check_tensor(value)
        elif field == 15:
            raise ArtifactError("holds sparse data")


def _check_node(node: bytes) -> str:
    operator, domain = "", ""
    for field, value in _fields(node):
        if not isinstance(value, bytes):
            continue
        if field == 4:
            operator = value.decode()
        elif field == 7:
            domain = value.decode()
        elif field == 5:
            _check_attribute(value)
    if domain not in ("", "ai.onnx") or operator not in ALLOWED_OPERATORS:
        shown = operator if operator.isidentifier() and len(operator) <= 40 else "with an odd name"
        raise ArtifactError(f"operator {shown} is not allowed")
    return operator


def _check_attribute(attribute: bytes) -> None:
    for field, value in _fields(attribute):
        if field in (6, 11):
            raise ArtifactError("holds a nested graph (Loop, Scan or If)")
        if field in (5, 10) and isinstance(value, bytes):
            _check_tensor(value)
        if field in (22, 23):
            raise ArtifactError("holds sparse data")


def _check_tensor(tensor: bytes) -> None:
    for field, value in _fields(tensor):
        if field == 13 or (field == 14 and value != 0):
            raise ArtifactError("refers to external data")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield `(field number, value)` of a protobuf message; groups and unknown wire types are rejected."""
    position, end = 0, len(message)
    while position < end:
        key, position = read_varint(message, position)
        field, wire_type = key >> 3, key & 7
        if not 0 < field < 2**29:  # other parsers drop the higher bits and would see another field
            raise ArtifactError("not a valid ONNX file")
        if wire_type == _VARINT:
            value, position = read_varint(message, position)
            yield field, value
            continue
        if wire_type == _BYTES:
            size, position = read_varint(message, position)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ArtifactError("not a valid ONNX file")
        if position + size > end:
            raise ArtifactError("not a valid ONNX file")
        yield field, message[position : position + size]
        position += size

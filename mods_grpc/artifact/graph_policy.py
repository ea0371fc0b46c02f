"""The graph policy: which operators a model may use, checked on the bytes that will be loaded.

The server has no `onnx` package and needs only the operator names, nested graphs and references to external files. So this reads
the protobuf wire format of `onnx.proto`, whose field numbers are fixed by ONNX IR.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mods_grpc.artifact.tree_policy import MAX_TREE_VALUES, TREE_DOMAIN, TREE_DOMAIN_VERSION, TREE_OPERATOR, check_trees
from mods_grpc.errors import ArtifactError
from mods_grpc.protobuf.wire import read_varint

OPSET = 18

# The operators of the exported architectures. None can loop, branch, run code or read outside the model. Of other domains there
# is one more, for trees; see `tree_policy`.
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
    graphs = nodes = 0
    for field, value in _fields(model):
        if field == 7 and isinstance(value, bytes):
            graphs += 1
            nodes += _check_graph_proto(value, operators)
            if nodes > MAX_TREE_VALUES:
                raise ArtifactError(f"holds trees of more than {MAX_TREE_VALUES} nodes and weights")
        elif field == 8 and isinstance(value, bytes):
            opsets |= _check_opset(value)
        elif field in (20, 25):
            raise ArtifactError("holds training information or functions")
    if graphs != 1 or not operators:
        raise ArtifactError("holds no graph, or more than one")
    if opsets != {OPSET}:
        used = ", ".join(map(str, sorted(opsets))) or "none"
        raise ArtifactError(f"uses opset {used}, expected {OPSET}")
    return GraphSummary(operators=dict(sorted(operators.items())), opset=OPSET)


def _check_opset(entry: bytes) -> set[int]:
    """Return the version of the standard operators that an import names; none for the domain of trees."""
    domain, version = "", 0
    for field, value in _fields(entry):
        if field == 1 and isinstance(value, bytes):
            domain = value.decode()
        elif field == 2 and isinstance(value, int):
            version = value
    if domain == TREE_DOMAIN and version == TREE_DOMAIN_VERSION:
        return set()
    if domain not in ("", "ai.onnx"):
        raise ArtifactError("imports an operator domain that is not allowed")
    return {version}


def _check_graph_proto(graph: bytes, operators: Counter[str]) -> int:
    """Check a graph, count its operators, and return the number of values of its trees."""
    nodes = 0
    for field, value in _fields(graph):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            operator, of_trees = _check_node(value)
            operators[operator] += 1
            nodes += of_trees
        elif field == 5:
            _check_tensor(value)
        elif field == 15:
            raise ArtifactError("holds sparse data")
    return nodes


def _check_node(node: bytes) -> tuple[str, int]:
    """Check an operator, and return its name and the number of values of its trees."""
    operator, domain, attributes = "", "", []
    for field, value in _fields(node):
        if not isinstance(value, bytes):
            continue
        if field == 4:
            operator = value.decode()
        elif field == 7:
            domain = value.decode()
        elif field == 5:
            attributes.append(value)
    if (domain, operator) == (TREE_DOMAIN, TREE_OPERATOR):
        return operator, check_trees(attributes, _fields)
    for attribute in attributes:
        _check_attribute(attribute)
    if domain not in ("", "ai.onnx") or operator not in ALLOWED_OPERATORS:
        shown = operator if operator.isidentifier() and len(operator) <= 40 else "with an odd name"
        raise ArtifactError(f"operator {shown} is not allowed")
    return operator, 0


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

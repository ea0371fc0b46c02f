"""The map from errors to statuses is complete, and nothing else ever reaches a client."""

import asyncio
import base64
import io
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2

from mods_grpc import errors
from mods_grpc.artifact import publish
from mods_grpc.errors import InvalidInputError, ModsError, QuotaError, Reason, Violation
from mods_grpc.server.rpc.boundary import INLINE_BYTES, RpcBoundary
from mods_grpc.server.rpc.status import CODES, MAX_VIOLATIONS, NEVER_ON_THE_WIRE, to_abort_arguments, to_status
from mods_grpc.server.scheduling.admission import AdmissionQueue, RateLimiter
from mods_grpc.server.security.authentication import Authenticator
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2
from tests.support.models.tiny import HORIZON, ROWS, make_calibration, make_manifest, make_mean_graph
from tests.support.rpc.client import read_details, read_failure, read_status
from tests.support.running_server import channel_to, running_server


def subclasses(kind):
    return {kind} | {descendant for child in kind.__subclasses__() for descendant in subclasses(child)}


def example(kind, reason, **changes):
    if kind is InvalidInputError:
        return InvalidInputError.for_field("field", reason, "expected something else")
    return kind(reason, "expected something else", **changes)


SENDABLE = sorted(CODES, key=lambda kind: kind.__name__)


def test_every_error_has_a_code_or_is_never_sent():
    every = subclasses(ModsError) - {ModsError}
    assert every == set(CODES) | NEVER_ON_THE_WIRE
    assert not set(CODES) & NEVER_ON_THE_WIRE
    assert grpc.StatusCode.UNKNOWN not in CODES.values()


def test_the_drawn_error_tree_is_complete():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__))
    assert drawn == {kind.__name__ for kind in subclasses(ModsError)} - {"ModsError"}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_belongs_to_exactly_one_error(reason):
    assert len([kind for kind in subclasses(ModsError) if reason in kind.reasons]) == 1


@pytest.mark.parametrize("kind", SENDABLE, ids=lambda kind: kind.__name__)
def test_every_status_carries_its_reason_and_domain(kind):
    assert kind.reasons
    for reason in kind.reasons:
        code, sent_reason, details = read_status(to_status(example(kind, reason)))
        assert (code, sent_reason) == (CODES[kind].value[0], reason.value)
        assert "RetryInfo" not in details
        code, message, trailers = to_abort_arguments(example(kind, reason))
        assert code == CODES[kind]
        assert "expected something else" in message
        assert [key for key, _ in trailers] == ["grpc-status-details-bin"]


FURTHER = {
    errors.InvalidInputError: "BadRequest",
    errors.OutOfRangeError: "BadRequest",
    errors.ModelNotFoundError: "ResourceInfo",
    errors.QuotaError: "QuotaFailure",
    errors.SequenceGapError: "PreconditionFailure",
    errors.ModelUnusableError: "PreconditionFailure",
}


@pytest.mark.parametrize("kind", SENDABLE, ids=lambda kind: kind.__name__)
def test_a_status_carries_the_details_that_help_its_caller(kind):
    kinds = set(read_details(to_status(example(kind, min(kind.reasons)))))
    assert kinds == {"ErrorInfo"} | ({FURTHER[kind]} if kind in FURTHER else set())


@pytest.mark.parametrize(
    ("seconds", "whole", "nanos"), [(0.0, 0, 0), (1.0, 1, 0), (0.25, 0, 250_000_000), (90.5, 90, 500_000_000)]
)
def test_the_retry_delay_is_a_duration(seconds, whole, nanos):
    error = QuotaError(Reason.OVERLOADED, "too much", retry_seconds=seconds)
    delay = read_details(to_status(error))["RetryInfo"].retry_delay
    assert (delay.seconds, delay.nanos) == (whole, nanos)


def test_limit_and_actual_value_are_metadata_if_they_are_set():
    error = QuotaError(Reason.SERIES_QUOTA, "too many series", limit=8, actual=9)
    assert read_details(to_status(error))["ErrorInfo"].metadata == {"limit": "8", "actual": "9"}
    assert read_details(to_status(QuotaError(Reason.SERIES_QUOTA, "too many")))["ErrorInfo"].metadata == {}


def violations(number, size=10):
    return [Violation(field=f"rows[{i}]", reason=Reason.VALUE_NAN, message="x" * size) for i in range(number)]


def test_violations_are_listed_in_order_and_the_rest_is_counted():
    listed = read_details(to_status(InvalidInputError(violations(MAX_VIOLATIONS + 3))))["BadRequest"].field_violations
    assert [violation.field for violation in listed[:-1]] == [f"rows[{i}]" for i in range(MAX_VIOLATIONS)]
    assert listed[-1].description == "and 3 more violations"
    listed = read_details(to_status(InvalidInputError(violations(MAX_VIOLATIONS))))["BadRequest"].field_violations
    assert len(listed) == MAX_VIOLATIONS


def test_a_status_fits_into_the_metadata_limit_of_clients():
    _, message, trailers = to_abort_arguments(InvalidInputError(violations(1000, size=3000)))
    assert len(message) + sum(len(base64.b64encode(value)) for _, value in trailers) < 7_500
    listed = read_details(to_status(InvalidInputError(violations(1000, size=3000))))["BadRequest"].field_violations
    assert listed[0].field == "rows[0]"
    assert listed[-1].description == f"and {1000 - len(listed) + 1} more violations"


def test_violations_of_a_model_with_many_features_can_still_be_sent(tmp_path):
    base = make_manifest()
    names = [f"feature_with_a_long_name_{number:03}" for number in range(60)]
    count = len(names)
    features = tuple(replace(base.features[0], name=name) for name in names)
    calibration = make_calibration(count, HORIZON)
    file = io.BytesIO()
    np.savez(file, window_1=np.ones((1, ROWS, count)), forecast_1=np.ones((1, HORIZON, count)))
    contents = {
        "model.onnx": make_mean_graph(features=count).SerializeToString(),
        "parity.npz": file.getvalue(),
        "MODEL_CARD.md": b"",
    }
    publish(tmp_path, make_manifest(features=features, calibration=calibration), contents)
    wrong = values_pb2.Observation(named_values=[values_pb2.NamedValue(feature=f"x{number}") for number in range(30)])
    series = pb.DetectSeries(series="web", observations=pb.ObservationList(observations=[wrong]))
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        for _ in range(5):  # above 8 KiB of metadata gRPC refuses some answers and not others
            with pytest.raises(grpc.RpcError) as caught:
                inference_pb2_grpc.InferenceServiceStub(channel).Detect(pb.DetectRequest(series=[series]), timeout=10)
            code, reason, details = read_failure(caught.value)
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FEATURE_UNKNOWN")
            assert details["BadRequest"].field_violations


def explode(*_):
    raise RuntimeError("/secret/path")


async def explode_later(context, identity):
    await context.read()
    explode()


async def calls_to_a_broken_service(requests):
    """Call a real server whose every RPC raises; return the errors."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.aio.server()
        edge = RpcBoundary(
            authenticator=Authenticator(None, certificates=False),
            rate_limiter=RateLimiter(0.0),
            admission=AdmissionQueue(8, 1),
            pool=pool,
            max_bytes=1024,
            metrics=Metrics(),
        )
        methods = {
            "Unary": edge.make_unary_handler("test.Broken", "Unary", pb.ForecastRequest, explode),
            "Stream": edge.make_stream_handler("test.Broken", "Stream", explode_later),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Broken", methods)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        failures = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for request in requests:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary("/test.Broken/Unary")(request, timeout=10)
                failures.append(caught.value)
            call = channel.stream_stream("/test.Broken/Stream")(timeout=10)
            await call.write(b"")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            failures.append(caught.value)
        await server.stop(None)
        return failures


def test_an_unexpected_error_becomes_internal_with_an_id_and_nothing_else(caplog):
    large = pb.ForecastRequest(batch=values_pb2.WindowBatch(values=bytes(INLINE_BYTES))).SerializeToString()
    with caplog.at_level(logging.ERROR):
        failures = asyncio.run(calls_to_a_broken_service([b"", large]))
    assert len(failures) == 3
    identities, logged = set(), {record.id for record in caplog.records if record.message == "internal_error"}
    for failure in failures:
        assert failure.code() == grpc.StatusCode.INTERNAL
        identity = re.fullmatch(r"internal error ([0-9a-f]{16})", failure.details())[1]
        trailers = dict(failure.trailing_metadata())
        assert set(trailers) == {"grpc-status-details-bin"}
        assert b"secret" not in trailers["grpc-status-details-bin"]
        assert b"RuntimeError" not in trailers["grpc-status-details-bin"]
        assert identity in logged
        identities.add(identity)
    assert len(identities) == 3
    assert "/secret/path" in caplog.text


def test_the_codes_are_those_of_google_rpc():
    for code in CODES.values():
        assert code_pb2.Code.Value(code.name) == code.value[0]

"""Files that hold what other files hold: links, copies, compressed copies, and logs whose records another log has too."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from itertools import combinations, islice
from pathlib import Path

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.records import Record
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources import file_names
from mods_grpc.ids.sources.file_heads import RECORDS, file_head, head_records, last_lines, last_records, newest_record_ns
from mods_grpc.ids.sources.file_names import LogName
from mods_grpc.ids.sources.text_file import SUFFIXES, TextFile

MAX_SEARCHED_BYTES = 64 << 20
SAMPLES = 4
MAX_SAMPLES = 512
_BLOCK_SAMPLES = 16
_COMPARED_BYTES = 1 << 18
_SEARCHED_END_BYTES = 8 << 20
_MIN_TIME_DIGITS = 10  # whole seconds since 1970
_JSON_FOLDERS = {"json", "json-logs", "json_logs", "ndjson"}
_FORMATS = {*_JSON_FOLDERS, "ascii", "tsv"}
_EVE = "eve"
_MAX_ROUNDING_NS = 10**6
_FLUSH_NS = 5 * NANOS_PER_SECOND  # by which one log of a writer may be written later than another

_Named = tuple[Path, LogName]
_Sample = tuple[bytes, Record]
_Series = tuple[bool, str, str, str]  # whether its files are JSON, protocol, log, and folder


class _Relation(Enum):
    EQUAL = "equal"
    BEGINNING = "the first text is the beginning of the second"
    CONTINUATION = "the second text is the beginning of the first"
    DIFFERENT = "different"


def find_copies(paths: Iterable[Path]) -> dict[Path, Path]:
    """Return the files that are copies, each with the file that is read in its place.

    A copy is the same file under another name, or one with the same text, compressed or not. A file is one too if another file of
    the same name, but for the compression, begins with its text: it was still being written, or it is damaged. Files without
    records are no copies.

    Args:
        paths: Files. Of equal ones, those that are no links and not compressed are preferred, then the first ones.
    """
    copies: dict[Path, Path] = {}
    by_inode: dict[tuple[int, int], Path] = {}
    by_first_line: defaultdict[bytes, list[Path]] = defaultdict(list)
    for path in sorted(paths, key=lambda path: (path.is_symlink(), path.name.endswith(SUFFIXES))):
        try:
            status = path.stat()
            original = by_inode.setdefault((status.st_dev, status.st_ino), path)
            if original is not path:
                copies[path] = original
            elif digest := file_head(path).digest:
                by_first_line[digest].append(path)
        except OSError:
            continue
    for alike in by_first_line.values():
        if len(alike) > 1:
            copies |= _find_equal(alike)
    return copies


def find_held(logs: Mapping[str, Iterable[Path]]) -> tuple[dict[Path, Path], list[tuple[Path, Path]]]:
    """Find files of Zeek whose records other files in other folders have too, in another format or cut at other times.

    Zeek gives each connection a uid of its own, so records with the same uid and time are the same ones; in one format they have
    the same line. A file is left out only if its records are all in the others, as far as samples of it tell.

    Args:
        logs: Files by log.

    Returns:
        The files that are held by others, each with one of those, and pairs of files that have only some records in common.
    """
    series = _find_series(logs)
    held: dict[Path, Path] = {}
    shared: dict[Path, list[Path]] = {}
    for one, other in sorted(_find_related(series)):
        for dropped, holder in ((other, one), (one, other)):  # that of JSON, which is the second, is left out first
            holders = [(start, path) for start, path in series[holder] if path not in held]
            for _, path in series[dropped]:
                if path not in held:
                    having, is_whole = _find_holders(path, holders, by_line=dropped[0] is holder[0])
                    if is_whole:
                        held[path] = having[0]
                    elif having:
                        shared.setdefault(path, []).extend(having)
    pairs = [(path, next((each for each in having if each not in held), None)) for path, having in shared.items()]
    distinct = {frozenset((path, each)): (path, each) for path, each in pairs if each is not None and path not in held}
    return held, list(distinct.values())


def find_repeated(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the files whose records another log in the same folder has too, each with the name of that log.

    Such are other formats of a log, like `json_streaming_conn` of `conn`, and what a filter of Zeek or another output of Suricata
    writes besides the log. What it writes in place of the log is none of them. A folder called `json` or `tsv` counts as the one
    above.
    """
    by_folder: defaultdict[Path, list[_Named]] = defaultdict(list)
    for path in paths:
        by_folder[log_folder(path.parent)].append((path, _parse_name(path)))
    repeated: dict[Path, str] = {}
    for files in by_folder.values():
        repeated |= _find_repeated_in_folder(files)
    return repeated


def log_folder(folder: Path) -> Path:
    """Return the folder of a log: the one above, if a folder holds one format of the logs there."""
    return folder.parent if folder.name.lower() in _FORMATS else folder


def find_original(files: Sequence[Path], others: Sequence[Path]) -> str | None:
    """Return the log that has the records of another log in its folder too, as `find_repeated` does, while both grow.

    Args:
        files: Files of the log.
        others: Files of other logs.

    Returns:
        Name of the log; empty if no other log has the records; None if one may have them soon.
    """
    by_part: defaultdict[tuple[str, ...], list[_Named]] = defaultdict(list)
    for other in others:
        name = _parse_name(other)
        by_part[_part_of(name.stream, name)].append((other, name))
    originals: dict[Path, list[Path]] = {}
    for path in files:
        name = _parse_name(path)
        alike = [named for log in _possible_originals(path, name) for named in by_part.get(_part_of(log, name), ())]
        originals[path] = [other for other, each in alike if _may_hold(each, name)]
    searched = {original for each in originals.values() for original in each}
    repeated = find_repeated([*files, *searched]) if searched else {}
    if repeats := next((repeated[path] for path in files if path in repeated and originals[path]), None):
        return repeats
    candidates = [path for path in files if originals[path]]
    for path in [path for path in candidates if not _parse_name(path).rotated] or candidates:
        newest_ns = max((record.logged_ns for _, record in islice(head_records(path), RECORDS)), default=None)
        if newest_ns is None or any(newest_record_ns(original) < newest_ns + _FLUSH_NS for original in originals[path]):
            return None
    return ""


def find_twin(files: Sequence[Path], others: Mapping[str, Sequence[Path]]) -> str | None:
    """Return the log of Zeek in another folder and format that has the records of a log too, while both grow.

    Of two that have the same records, the one that began later is the twin, or that of JSON.

    Args:
        files: Files of the log.
        others: Files of the logs in other folders, by log.

    Returns:
        Name of the log; empty if no other log has the records; None if one may have them soon.
    """
    last = last_records(path := _live_file(files))
    outcome: str | None = ""
    for name, other in ((name, _live_file(paths)) for name, paths in others.items()):
        with suppress(OSError):
            head, its_head = file_head(path), file_head(other)
            if not (head.keys and its_head.keys) or head.is_json is its_head.is_json or head.keys[0][0] != its_head.keys[0][0]:
                continue
            its_last = last_records(other)
            is_in_it, has_it = _is_within(last, other, its_last), _is_within(its_last, path, last)
            if None in {is_in_it, has_it} and is_in_it is not False:
                outcome = None
            elif is_in_it and (not has_it or (its_head.start_ns, its_head.is_json) < (head.start_ns, head.is_json)):
                return name
    return outcome


def _live_file(files: Sequence[Path]) -> Path:
    return next((path for path in files if not _parse_name(path).rotated), files[-1])


def _is_within(records: Sequence[_Sample], other: Path, its_records: Sequence[_Sample]) -> bool | None:
    """Return whether the last records of a log are in another one; None if none of them must be there yet."""
    newest_ns = max((record.logged_ns for _, record in its_records), default=0)
    samples = [(line, record) for line, record in records if record.logged_ns < newest_ns - _FLUSH_NS][-SAMPLES:]
    if not samples:
        return None
    return not _drop_same(LineParser(other.name), [last_lines(other, _SEARCHED_END_BYTES)], samples, by_line=False)


def _parse_name(path: Path) -> LogName:
    name = file_names.parse_name(path.name)
    return replace(name, is_json=True) if path.parent.name.lower() in _JSON_FOLDERS else name


def _find_series(logs: Mapping[str, Iterable[Path]]) -> dict[_Series, list[tuple[int, Path]]]:
    """Return the files of Zeek's logs with uids, with the time of their first records and in order of it."""
    series: defaultdict[_Series, list[tuple[int, Path]]] = defaultdict(list)
    for log, paths in logs.items():
        for path in paths:
            with suppress(OSError):
                head = file_head(path)
                if head.keys and not file_names.parse_name(path.name).is_eve:
                    series[head.is_json, head.keys[0][0], log, str(log_folder(path.parent))].append((head.start_ns or 0, path))
    return {each: sorted(files) for each, files in series.items()}


def _find_related(series: Mapping[_Series, Sequence[tuple[int, Path]]]) -> set[tuple[_Series, _Series]]:
    """Return the pairs of series in different folders that have records in common."""
    by_key: defaultdict[tuple[str, str, int], set[_Series]] = defaultdict(set)
    for each, files in series.items():
        for _, path in files:
            with suppress(OSError):
                for key in file_head(path).keys:
                    by_key[key].add(each)
    related = {pair for alike in by_key.values() if len(alike) > 1 for pair in combinations(sorted(alike), 2)}
    for one, other in combinations(sorted(series), 2):
        is_other_format = one[0] is not other[0] and one[1] == other[1]
        if (
            is_other_format
            and (one, other) not in related
            and any(_begins_within(series[a], series[b]) for a, b in ((one, other), (other, one)))
        ):
            related.add((one, other))
    return {(one, other) for one, other in related if one[-1] != other[-1]}


def _begins_within(files: Sequence[tuple[int, Path]], holders: Sequence[tuple[int, Path]]) -> bool:
    """Return whether the first record of the first or the last file is in the holder of its time, in another format."""
    for _, path in (files[0], files[-1]):
        with suppress(OSError):
            first = [(line, record) for line, record in islice(head_records(path), 1)]
            if first and _search(first, holders, by_line=False, shifts=(0,))[0]:
                return True
    return False


def _find_holders(path: Path, holders: Sequence[tuple[int, Path]], *, by_line: bool) -> tuple[list[Path], bool]:
    """Return the files that have records of a file, and whether they seem to have all of them."""
    try:
        samples = _sample(path)
    except OSError:
        return [], False
    having, missing = _search(samples, holders, by_line=by_line, shifts=(0, -1, 1))
    return having, bool(samples) and not missing


def _search(
    samples: Iterable[_Sample], holders: Sequence[tuple[int, Path]], *, by_line: bool, shifts: Sequence[int]
) -> tuple[list[Path], list[_Sample]]:
    """Return the files that have records, and the records that are in none.

    Args:
        samples: Records with their lines.
        holders: Files with the time of their first records, in order of it.
        by_line: Whether they must have the same lines.
        shifts: Which files are searched for a record: 0 is the last one that began before it, -1 the one before that.
    """
    starts = [start for start, _ in holders]
    having: dict[Path, None] = {}
    missing = list(samples)
    for shift in shifts:
        by_holder: defaultdict[int, list[_Sample]] = defaultdict(list)
        for sample in missing:
            by_holder[bisect_right(starts, sample[1].logged_ns) - 1 + shift].append(sample)
        missing = []
        for index, sought in sorted(by_holder.items()):
            lacking = sought
            if 0 <= index < len(holders):
                with suppress(OSError):
                    path = holders[index][1]
                    lacking = _drop_same(LineParser(path.name), _read_lines(path), sought, by_line=by_line)
            if len(lacking) < len(sought):
                having[holders[index][1]] = None
            missing += lacking
    return list(having), missing


def _drop_same(parser: LineParser, blocks: Iterable[list[bytes]], samples: list[_Sample], *, by_line: bool) -> list[_Sample]:
    """Return the records that are not among lines, by the line or by uid and time."""
    for lines in blocks:
        if by_line:
            here = set(lines)
            samples = [(line, record) for line, record in samples if line not in here]
        else:
            text = b"\n".join(lines)
            for line in lines if b"#fields" in text else ():
                if line.startswith(b"#"):
                    _parse(parser, line)
            samples = [(line, record) for line, record in samples if not _has_same(text, record, parser)]
        if not samples:
            break
    return samples


def _has_same(text: bytes, record: Record, parser: LineParser) -> bool:
    """Return whether lines of a text have a record of the same uid and time."""
    uid = (record.uid or "").encode()
    at = text.find(uid) if uid else -1
    while at >= 0:
        end = text.find(b"\n", at)
        other = _parse(parser, text[text.rfind(b"\n", 0, at) + 1 : end if end >= 0 else len(text)])
        if other is not None and other.uid == record.uid and abs(other.ts - record.ts) <= _MAX_ROUNDING_NS:
            return True
        at = text.find(uid, at + len(uid))
    return False


def _parse(parser: LineParser, line: bytes) -> Record | None:
    try:
        return parser.parse(line)
    except MalformedLineError:
        return None


def _sample(path: Path) -> list[_Sample]:
    """Return records that are spread over a file, the first and the last one included, with their lines.

    Raises:
        OSError: The file can't be read.
    """
    parser, stride = LineParser(path.name), 1
    samples: list[_Sample] = []
    last: list[_Sample] = []
    for number, lines in enumerate(_read_lines(path)):
        at = {round(part * (len(lines) - 1) / (_BLOCK_SAMPLES - 1)) for part in range(_BLOCK_SAMPLES)}
        chosen = [line for index, line in enumerate(lines) if line.startswith(b"#") or index in at]
        parsed = [(line, record) for line in chosen if (record := _parse(parser, line)) is not None]
        last = parsed[-1:] or last
        if number % stride == 0:
            samples += parsed
        if len(samples) > MAX_SAMPLES:
            samples, stride = samples[::2], 2 * stride
    return samples if samples[-1:] == last else samples + last


def _read_lines(path: Path) -> Iterator[list[bytes]]:
    """Yield the whole lines of a file in blocks."""
    rest = b""
    with TextFile(path) as file:
        while text := file.read(_COMPARED_BYTES):
            whole, end, rest = (rest + text).rpartition(b"\n")
            if end:
                yield whole.split(b"\n")
    if rest:
        yield [rest]


def _find_equal(paths: Sequence[Path]) -> dict[Path, Path]:
    copies: dict[Path, Path] = {}
    originals: list[Path] = []
    for path in paths:
        for index, original in enumerate(originals):
            relation = _compare(original, path)
            if relation is _Relation.EQUAL or (relation is _Relation.CONTINUATION and _have_same_name(original, path)):
                copies[path] = original
                break
            if relation is _Relation.BEGINNING and _have_same_name(original, path):
                originals[index] = path
                copies |= {copy: path for copy, of in copies.items() if of == original} | {original: path}
                break
        else:
            originals.append(path)
    return copies


def _have_same_name(one: Path, other: Path) -> bool:
    names = [file_names.parse_name(path.name) for path in (one, other)]
    return len({(name.stream, name.writer, name.stamp, name.number) for name in names}) == 1


def _compare(one: Path, other: Path) -> _Relation:
    try:
        with TextFile(one) as first, TextFile(other) as second:
            while (text := first.read(_COMPARED_BYTES)) == (others := second.read(_COMPARED_BYTES)):
                if not text:
                    return _Relation.EQUAL
            # the shorter text has ended, unless they differ
            if others.startswith(text):
                return _Relation.BEGINNING
            return _Relation.CONTINUATION if text.startswith(others) else _Relation.DIFFERENT
    except OSError:
        return _Relation.DIFFERENT


def _find_repeated_in_folder(files: list[_Named]) -> dict[Path, str]:
    logs = {name.stream for _, name in files if not name.is_labeled}
    by_part: defaultdict[tuple[str, ...], list[_Named]] = defaultdict(list)
    for path, name in files:
        by_part[_part_of(name.stream, name)].append((path, name))
    repeated: dict[Path, str] = {}
    verdicts: dict[tuple[str, bool], str] = {}  # a log is judged by one of its files; empty if it repeats none
    for path, name in files:
        original = file_names.other_format_of(name)
        if original in logs:
            repeated[path] = original
            continue
        originals = {
            log: [other for other, each in by_part.get(_part_of(log, name), ()) if _may_hold(each, name)]
            for log in _possible_originals(path, name)
        }
        key = name.stream, name.is_json
        if key not in verdicts and any(originals.values()) and (verdict := _find_repeated_log(path, originals)) is not None:
            verdicts[key] = verdict
        if (log := verdicts.get(key)) and any(originals.values()):
            repeated[path] = log
    return repeated


def _part_of(log: str, name: LogName) -> tuple[str, ...]:
    """Return what the files of a log that were written at the same time as a file have in common."""
    return log, name.writer, name.stamp, str(name.number)


def _may_hold(other: LogName, name: LogName) -> bool:
    """Return whether a log is another one, or the same in its first format."""
    return other.stream != name.stream or (name.is_json and not other.is_json)


def _possible_originals(path: Path, name: LogName) -> set[str]:
    """Return the names of the logs that may hold a file's records."""
    if name.is_eve:
        return {_EVE}
    if name.protocol is not None:
        return {name.protocol}
    try:
        return {record.protocol for _, record in head_records(path)}
    except OSError:
        return set()


def _find_repeated_log(path: Path, originals: dict[str, list[Path]]) -> str | None:
    """Return the log whose files hold the first records of a file; empty if they lack one, None if there is no record."""
    samples: defaultdict[str, list[_Sample]] = defaultdict(list)
    try:
        for line, record in head_records(path):
            log = _EVE if _EVE in originals else record.protocol
            if len(samples[log]) < SAMPLES:
                samples[log].append((line.strip(), record))
    except OSError:
        return None
    for log, records in samples.items():
        missing = records
        for original in originals.get(log, ()):
            missing = _drop_held(original, missing, by_line=log == _EVE)
        if missing:
            return ""
    return next(iter(samples), None)


def _drop_held(path: Path, records: list[_Sample], *, by_line: bool) -> list[_Sample]:
    """Return the records that are not in a file, or not near its beginning.

    Args:
        path: The file.
        records: Records with their lines.
        by_line: Whether the file must have the same line. Else a line with the same uid and time is enough.
    """
    rest, left = b"", MAX_SEARCHED_BYTES
    try:
        with TextFile(path) as file:
            while records and left > 0 and (text := file.read(_COMPARED_BYTES)):
                left -= len(text)
                text = rest + text
                records = [(line, record) for line, record in records if not _holds(text, line, None if by_line else record)]
                rest = text[text.rfind(b"\n") + 1 :][-_COMPARED_BYTES:]
    except OSError:
        pass
    return records


def _holds(text: bytes, line: bytes, record: Record | None) -> bool:
    return line in text or (record is not None and _has_record(text, record))


def _has_record(text: bytes, record: Record) -> bool:
    """Return whether a line of a text has the uid and the time of a record."""
    uid = (record.uid or "").encode()
    at = text.find(uid) if uid else -1
    while at >= 0:
        end = text.find(b"\n", at)
        if _has_time(text[text.rfind(b"\n", 0, at) + 1 : end if end >= 0 else len(text)], record.ts):
            return True
        at = text.find(uid, at + len(uid))
    return False


def _has_time(line: bytes, time_ns: int) -> bool:
    digits = str(time_ns // 1_000)
    digits = digits[:_MIN_TIME_DIGITS] + digits[_MIN_TIME_DIGITS:].rstrip("0")
    iso = datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return digits.encode() in line.replace(b".", b"") or iso.encode() in line

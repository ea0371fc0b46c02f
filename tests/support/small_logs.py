"""Small logs of a few connections, in the formats of Zeek and Suricata."""

START = 1_713_484_800
CONN_TYPES = "#types\ttime\tstring\taddr\tport\taddr\tport\n"


def tsv(number=0, *, path="conn", count=3):
    """Return a log of `count` connections whose uids begin with `number`."""
    return (
        f"#separator \\x09\n#path\t{path}\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\n{CONN_TYPES}"
        + "".join(f"{START + 10 * number + i}.000000\tC{number}x{i}\t203.0.113.1\t1024\t10.0.0.1\t22\n" for i in range(count))
    ).encode()


def zeek_json(number=0, *, path=None, count=3):
    """Return the same as JSON."""
    extra = "" if path is None else f'"_path": "{path}", '
    return "".join(
        f'{{{extra}"ts": {START + 10 * number + i}.0, "uid": "C{number}x{i}", "id.orig_h": "203.0.113.1", "id.orig_p": 1024, '
        f'"id.resp_h": "10.0.0.1", "id.resp_p": 22}}\n'
        for i in range(count)
    ).encode()


def eve(number=0, *, kind="flow", count=3):
    times = [f"2024-04-19T00:00:{10 * number + i:02d}.000000+0000" for i in range(count)]
    return "".join(
        f'{{"timestamp": "{time}", "flow_id": {number * 100 + i}, "event_type": "{kind}", "src_ip": "203.0.113.1", '
        '"src_port": 1024, "dest_ip": "10.0.0.1", "dest_port": 22, '
        f'"flow": {{"start": "{time}", "bytes_toserver": 1, "bytes_toclient": 1}}}}\n'
        for i, time in enumerate(times)
    ).encode()


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder

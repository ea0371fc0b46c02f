"""The benchmark of attacks places what was recorded where and when it says, and counts what is found without favour."""

import gzip
import ipaddress
import json
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.attacks import zeek_logs
from benchmarks.attacks.__main__ import main
from benchmarks.attacks.backgrounds import DAY_SECONDS, read_backgrounds
from benchmarks.attacks.captures import at_strength, find_captures, find_deeper, read_capture
from benchmarks.attacks.fleet import choose_network, make_copies, make_fleet, records_of
from benchmarks.attacks.pool_tables import find_absent
from benchmarks.attacks.product import WindowGrid, replay
from benchmarks.attacks.recipes import find_recipe
from benchmarks.attacks.scene import APART_SECONDS, FIRST_DAY, Scene, make_generator, place, read_scene, write_scene
from benchmarks.attacks.zeek_logs import read_folder

SERVER, WORKSTATION, ATTACKED = "198.51.100.7", "192.168.7.7", "172.16.0.9"
DAY = 1_713_484_800  # 2024-04-19T00:00:00Z
LOCAL = [ipaddress.ip_network(SERVER)]
WINDOWS = WindowGrid(600, 60)


def conn(ts, orig_h, resp_h, *, uid, resp_p=443, state="SF", **fields):
    return {
        "ts": ts,
        "uid": uid,
        "id.orig_h": orig_h,
        "id.orig_p": 50_000,
        "id.resp_h": resp_h,
        "id.resp_p": resp_p,
        "proto": "tcp",
        "duration": 2.5,
        "orig_bytes": 100,
        "resp_bytes": 200,
        "conn_state": state,
        **fields,
    }


def write_json(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_tsv(path, lines):
    names = list(lines[0])
    kinds = {"ts": "time", "duration": "interval", "orig_bytes": "count", "resp_bytes": "count"}
    types = [kinds.get(name, "port" if name.endswith("_p") else "string") for name in names]
    header = ["#separator \\x09", "#unset_field\t-", "#path\tconn", "#fields\t" + "\t".join(names), "#types\t" + "\t".join(types)]
    rows = ["\t".join(str(line[name]) for name in names) for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join([*header, *rows, ""]).encode()))


def write_backgrounds(folder, days=2, per_day=480):
    """Write days of a server as TSV, and of a workstation as JSON; the server answers, the workstation asks."""
    step = DAY_SECONDS / per_day
    for day in range(days):
        start = DAY + day * DAY_SECONDS
        inward = [conn(start + i * step, f"203.0.113.{i % 40}", SERVER, uid=f"S{day}-{i}") for i in range(per_day)]
        outward = [conn(start + i * step * 10, SERVER, "9.9.9.9", uid=f"R{day}-{i}", resp_p=53) for i in range(per_day // 10)]
        write_tsv(folder / f"server-{day}" / "conn.log.gz", inward + outward)
        asked = [conn(start + i * step, WORKSTATION, f"203.0.113.{i % 60}", uid=f"W{day}-{i}") for i in range(per_day)]
        renamed = [{name.replace("id.", "id_"): value for name, value in line.items()} for line in asked]
        write_json(folder / f"workstation-{day}" / "desk_conn.log", renamed)
    return [("", path) for path in sorted(folder.iterdir())]


def write_attack(folder, start=0.0):
    """Write an attack of 40 TLS connections to hosts outside and one inside, with a broadcast and a query to a resolver."""
    lines = [conn(start + 10.0 * i, ATTACKED, f"203.0.113.{100 + i}", uid=f"C{i}", orig_bytes=10**7) for i in range(40)]
    lines.append(conn(start + 400.0, ATTACKED, "172.16.0.10", uid="I", resp_p=445))
    lines += [
        conn(start + 20.0, ATTACKED, "172.16.0.255", uid="B", resp_p=137),
        conn(start, ATTACKED, "172.16.0.1", uid="D", resp_p=53),
    ]
    write_json(folder / "conn.log.gz", lines)
    names = [{**line, "server_name": f"host-{line['uid']}.example"} for line in lines[:40]]
    write_json(folder / "ssl.log.gz", [{k: v for k, v in line.items() if k not in {"duration", "conn_state"}} for line in names])
    return folder


@pytest.fixture
def backgrounds(tmp_path):
    return read_backgrounds(write_backgrounds(tmp_path / "backgrounds"), LOCAL, print)


@pytest.fixture
def capture(tmp_path):
    return read_capture(write_attack(tmp_path / "attacks" / "exfil_slow"), LOCAL)


def test_folders_of_one_host_are_its_days_and_its_group_is_found(backgrounds):
    assert {(host.address, host.group, len(host.days)) for host in backgrounds} == {
        (SERVER, "servers", 2),
        (WORKSTATION, "workstations", 2),
    }
    server = next(host for host in backgrounds if host.address == SERVER)
    assert server.heavy == {"9.9.9.9"}
    assert server.connections_per_day == 528


def test_folders_of_one_address_at_the_same_time_are_two_hosts(tmp_path):
    for name in ("a", "b"):
        lines = [conn(DAY + 180.0 * i, WORKSTATION, "9.9.9.9", uid=f"{name}{i}") for i in range(480)]
        write_json(tmp_path / name / "conn.log", lines)
    hosts = read_backgrounds([("desks", tmp_path / "a"), ("desks", tmp_path / "b")], [], print)
    assert [(host.address, host.group, len(host.days)) for host in hosts] == [(WORKSTATION, "desks", 1)] * 2


def test_a_server_is_one_by_what_it_does_whatever_its_group_is_called(tmp_path):
    folders = [("all", folder) for _, folder in write_backgrounds(tmp_path)]
    hosts = read_backgrounds(folders, LOCAL, print)
    assert {(host.address, host.group, host.is_server) for host in hosts} == {
        (SERVER, "all", True),
        (WORKSTATION, "all", False),
    }


def test_a_host_that_is_named_needs_no_share_of_its_folder(tmp_path):
    lines = [conn(DAY + 17.0 * i, f"192.168.7.{i % 25 + 1}", "9.9.9.9", uid=f"C{i}") for i in range(25 * 200)]
    write_json(tmp_path / "conn.log", lines)
    with pytest.raises(ValueError, match="name it with --local"):
        read_backgrounds([("", tmp_path)], [], print)
    assert len(read_backgrounds([("", tmp_path)], [ipaddress.ip_network("192.168.7.0/28")], print)) == 15


def test_days_with_few_records_are_said_to_be_left_out(tmp_path):
    lines = [conn(DAY + 400.0 * i, WORKSTATION, "9.9.9.9", uid=f"C{i}") for i in range(400)]
    write_json(
        tmp_path / "a" / "conn.log", [*lines, *(conn(DAY + 200.0 * i, WORKSTATION, "9.9.9.9", uid=f"D{i}") for i in range(99))]
    )
    said = []
    (host,) = read_backgrounds([("", tmp_path / "a")], [], said.append)
    assert len(host.days) == 1
    assert said[-1].endswith("1 days of 192.168.7.7 have fewer than 200 records and are left out")
    sparse = [conn(DAY + 500.0 * i, WORKSTATION, "9.9.9.9", uid=f"C{i}") for i in range(345)]
    write_json(tmp_path / "b" / "conn.log", sparse)
    with pytest.raises(ValueError, match=r"192.168.7.7 has no day with 200 records"):
        read_backgrounds([("", tmp_path / "b")], [ipaddress.ip_network(WORKSTATION)], print)


def test_a_background_without_a_host_says_so(tmp_path):
    write_json(tmp_path / "conn.log", [conn(DAY, WORKSTATION, "9.9.9.9", uid="a")])
    with pytest.raises(ValueError, match="no local host with 200 records; name it with --local"):
        read_backgrounds([("", tmp_path)], [], print)


@pytest.mark.parametrize("start", [0.0, 1_650_000_000.0])
def test_an_attack_begins_at_0_and_knows_its_host_and_those_that_it_reaches(tmp_path, start):
    folder = write_attack(tmp_path / "attacks" / "exfil_slow", start)
    (tmp_path / "attacks" / "NOTICE").write_text("Whose data it is.\n")
    with (folder / "http.log").open("w") as file:
        file.write(json.dumps({"ts": start, "id.orig_h": "no address", "id.resp_h": "203.0.113.1"}) + "\n")
    write_attack(tmp_path / "attacks" / "family" / "c2_one")
    assert find_captures([tmp_path / "attacks"]) == [folder] == find_captures([folder])
    assert find_deeper([tmp_path / "attacks"]) == [tmp_path / "attacks" / "family"]
    capture = read_capture(folder, LOCAL)
    assert (capture.host, capture.others, capture.kind, capture.unread) == (ATTACKED, ("172.16.0.10",), "exfil", 1)
    assert capture.records[0].ts == 0
    assert capture.seconds == pytest.approx(402.5)


@pytest.mark.parametrize(("strength", "low", "high"), [(0.3, 3, 25), (1, 43, 43), (3, 129, 129), (0.001, 1, 2)])
def test_strength_is_the_number_of_connections(capture, strength, low, high):
    records = at_strength(capture, strength, np.random.default_rng(1))
    connections = [record for record in records if record.log == "conn"]
    assert low <= len(connections) <= high
    assert len({record.fields["uid"] for record in connections}) == len(connections)
    times = {record.fields["uid"]: record.ts for record in connections}
    assert all(record.ts == times[record.fields["uid"]] for record in records)  # a handshake moves with its connection
    assert [record.ts for record in records] == sorted(record.ts for record in records)


def test_hosts_of_a_fleet_have_addresses_of_their_own_and_keep_peers_whole(backgrounds, capture):
    network = choose_network(backgrounds, [capture])
    fleet = make_fleet(backgrounds, 12, 3, network, np.random.default_rng(1))
    assert sorted(host.group for host in fleet) == ["servers"] * 6 + ["workstations"] * 6
    assert len({host.address for host in fleet}) == 12
    kept = []
    for number, host in enumerate(fleet):
        background = backgrounds[host.source]
        records = list(records_of(host, number, background, 3, FIRST_DAY))
        assert all(host.address in {record.orig_h, record.resp_h} for record in records)
        assert background.address not in {address for record in records for address in (record.orig_h, record.resp_h)}
        assert all(FIRST_DAY <= record.ts < FIRST_DAY + 3 * DAY_SECONDS for record in records)
        assert records == list(records_of(host, number, background, 3, FIRST_DAY))
        if host.group == "workstations":
            peers = [{r.resp_h for r in records if int(r.ts - FIRST_DAY) // DAY_SECONDS == day} for day in range(3)]
            assert all(abs(len(one) - 60 * host.share_out) < 16 for one in peers)  # of 60
            assert peers[0] == peers[1] == peers[2]
            kept.append(frozenset(peers[0]))
    assert len(set(kept)) == 6


def test_a_copy_has_all_the_traffic_of_its_host_and_the_last_day_is_the_last_recorded(backgrounds):
    source = next(n for n, host in enumerate(backgrounds) if host.address == SERVER)
    (copy,) = make_copies(backgrounds, source, 1, 2, "10.200")
    records = list(records_of(copy, 0, backgrounds[source], 2, FIRST_DAY))
    assert len(records) == 2 * 528
    assert all(f"{record.fields['uid'][1]}d{record.fields['uid'][-1]}" in {"0d0", "1d1"} for record in records)


@pytest.mark.parametrize(
    ("days", "recorded", "expected"),
    [(2, 2, [0, 1]), (2, 3, [1, 2]), (3, 2, [0, 0, 1]), (5, 3, [0, 1, 0, 1, 2]), (3, 1, [0, 0, 0])],
)
def test_the_last_day_is_the_last_recorded_and_no_other_if_there_are_two(backgrounds, days, recorded, expected):
    background = backgrounds[0]
    first = background.days[0]
    background.days = [[each.at(each.ts, uid=f"day{day}") for each in first] for day in range(recorded)]
    (copy,) = make_copies(backgrounds, 0, 1, days, "10.200")
    chosen = {}
    for record in records_of(copy, 0, background, days, FIRST_DAY):
        chosen.setdefault(int(record.ts - FIRST_DAY) // DAY_SECONDS, set()).add(int(record.fields["uid"][3]))
    assert [chosen[day] for day in range(days)] == [{day} for day in expected]


def test_attacks_lie_on_the_last_day_apart_and_move_to_their_host(backgrounds, capture):
    generator = np.random.default_rng(1)
    fleet = make_fleet(backgrounds, 8, 2, "10.200", generator)
    placements, records = place([capture], (0.3, 1.0, 3.0), 2, fleet, 2, generator)
    addresses = {host.address for host in fleet}
    last = FIRST_DAY + DAY_SECONDS
    assert len({each.host for each in placements}) == len(placements) == 6
    for each in placements:
        assert last <= each.start < each.end <= last + DAY_SECONDS
        own = [record for record in records[each.host] if each.start <= record.ts <= each.end]
        assert {record.orig_h for record in own} == {each.host}
        assert {record.resp_h for record in own} & addresses <= set(each.others) <= addresses - {each.host}
        assert sum(record.log == "conn" for record in own) == each.connections


def test_an_attack_knows_its_first_record_its_peers_and_how_its_uids_begin(backgrounds, capture):
    fleet = make_fleet(backgrounds, 30, 2, "10.200", np.random.default_rng(1))
    placements, records = place([capture], (0.1,), 12, fleet, 2, np.random.default_rng(1))
    for each in placements:
        own = [record for record in records[each.host] if record.fields["uid"].startswith(each.mark)]
        assert each.start == min(record.ts for record in own)
        assert each.end == max(record.end for record in own)
        ends = {address for record in own for address in (record.orig_h, record.resp_h)}
        assert each.names == ends - {each.host, *each.others}
    assert len({each.mark for each in placements}) == 12
    assert not any(one.mark.startswith(other.mark) for one in placements for other in placements if one is not other)


def test_the_domains_of_an_attack_are_among_what_it_is_known_by(backgrounds, tmp_path):
    lines = [conn(10.0 * i, ATTACKED, "203.0.113.9", uid=f"C{i}", resp_p=53) for i in range(9)]
    write_json(tmp_path / "dns_1" / "dns.log", [{**line, "query": f"A{line['uid']}.t.Example.CO.UK."} for line in lines])
    fleet = make_fleet(backgrounds, 4, 2, "10.200", np.random.default_rng(1))
    (placement,), _ = place([read_capture(tmp_path / "dns_1", LOCAL)], (1.0,), 1, fleet, 2, np.random.default_rng(1))
    assert placement.names == {"203.0.113.9", "example.co.uk"}


def test_of_an_attack_longer_than_the_day_what_ends_on_it_is_placed(backgrounds, tmp_path):
    whole_day = [conn(3_600.0 * i, ATTACKED, "203.0.113.9", uid=f"C{i}") for i in range(30)]
    write_json(tmp_path / "c2_long" / "conn.log", [*whole_day, conn(5.0, ATTACKED, "203.0.113.9", uid="L", duration=100_000)])
    write_json(tmp_path / "c2_one" / "conn.log", [conn(0.0, ATTACKED, "203.0.113.9", uid="C", duration=100_000)])
    captures = [read_capture(tmp_path / name, LOCAL) for name in ("c2_long", "c2_one")]
    fleet = make_fleet(backgrounds, 4, 2, "10.200", np.random.default_rng(1))
    placements, records = place(captures, (1.0,), 1, fleet, 2, np.random.default_rng(1))
    assert [(each.capture, each.connections, each.cut) for each in placements] == [("c2_long", 22, 9)]
    last = FIRST_DAY + DAY_SECONDS
    assert all(last <= record.ts <= record.end <= last + DAY_SECONDS for record in records[placements[0].host])


def test_hosts_inside_that_the_fleet_has_no_host_for_stay_inside(backgrounds, tmp_path):
    lines = [conn(float(i), ATTACKED, f"172.16.1.{i}", uid=f"C{i}", resp_p=445, state="S0") for i in range(1, 21)]
    write_json(tmp_path / "scan_1" / "conn.log", [*lines, conn(30.0, ATTACKED, "172.16.1.20", uid="A", resp_p=445)])
    capture = read_capture(tmp_path / "scan_1", LOCAL)
    assert capture.others[0] == "172.16.1.20"  # which answered
    fleet = make_fleet(backgrounds, 4, 2, "10.200", np.random.default_rng(1))
    (placement,), records = place([capture], (1.0,), 1, fleet, 2, np.random.default_rng(1))
    reached = [record.resp_h for record in records[placement.host]]
    addresses = {host.address for host in fleet}
    assert len(set(reached)) == 20
    assert all(address.startswith("10.200.") for address in reached)
    assert addresses - {placement.host} < set(reached) == set(placement.others)
    assert reached[-1] in addresses


def test_who_answers_more_than_queries_is_no_mere_resolver(tmp_path):
    lines = [conn(0.0, ATTACKED, "172.16.0.1", uid="R", resp_p=53), conn(1.0, ATTACKED, "172.16.0.2", uid="D", resp_p=53)]
    write_json(tmp_path / "lateral_1" / "conn.log", [*lines, conn(2.0, ATTACKED, "172.16.0.2", uid="K", resp_p=445)])
    assert read_capture(tmp_path / "lateral_1", LOCAL).others == ("172.16.0.2",)


def test_two_attacks_on_a_host_are_apart_and_too_many_are_refused(backgrounds, tmp_path):
    captures = [read_capture(write_attack(tmp_path / name), LOCAL) for name in ("a_1", "b_1", "c_1")]
    fleet = make_copies(backgrounds, 0, 2, 2, "10.200")
    placements, _ = place(captures, (1.0,), 1, fleet, 2, np.random.default_rng(1), is_on_clean=False)
    assert {each.host for each in placements} == {fleet[1].address}
    spans = sorted((each.start, each.end) for each in placements)
    assert all(later[0] - earlier[1] > APART_SECONDS for earlier, later in pairwise(spans))
    with pytest.raises(ValueError, match="no room for 9 attacks on 1 hosts"):
        place(captures, (1.0,), 3, fleet, 2, np.random.default_rng(1), is_on_clean=False)


def test_a_scene_is_written_as_logs_in_order_and_is_the_same_for_a_seed(backgrounds, capture, tmp_path):
    scenes = []
    for name in ("one", "two"):
        generator = make_generator(7, "fleet")
        fleet = make_fleet(backgrounds, 4, 2, "10.200", generator)
        placements, records = place([capture], (1.0,), 2, fleet, 2, generator)
        folder = tmp_path / name
        write_scene(folder, fleet, backgrounds, 2, "10.200.0.0/16", placements, records, (), lambda *_: None)
        scenes.append(read_scene(folder))
    texts = [{path.relative_to(scene.logs): path.read_text() for path in scene.logs.rglob("*.log")} for scene in scenes]
    assert texts[0] == texts[1]
    assert scenes[0].placements == scenes[1].placements
    generator = make_generator(8, "fleet")
    others, _ = place([capture], (1.0,), 2, make_fleet(backgrounds, 4, 2, "10.200", generator), 2, generator)
    assert [each.start for each in others] != [each.start for each in scenes[0].placements]
    records, unread = read_folder(scenes[0].logs)
    assert (len(records), unread) == (scenes[0].records, 0)
    for text in texts[0].values():
        ends = [line["ts"] + line.get("duration", 0) for line in map(json.loads, text.splitlines())]
        assert ends == sorted(ends)
    attack = [r for r in records if r.log == "conn" and r.fields["orig_bytes"] == 10**7]
    assert {record.orig_h for record in attack} == {each.host for each in scenes[0].placements}


def test_a_scene_tells_from_where_and_when_in_a_background_each_record_is(backgrounds, capture, tmp_path):
    fleet = make_fleet(backgrounds, 4, 3, "10.200", np.random.default_rng(1))
    write_scene(tmp_path / "scene", fleet, backgrounds, 3, "10.200.0.0/16", [], {}, (), lambda *_: None)
    scene = read_scene(tmp_path / "scene")
    for number, host in enumerate(fleet):
        times = {f"{r.fields['uid']}{number:x}": r.ts for day in backgrounds[host.source].days for r in day}
        for record in records_of(host, number, backgrounds[host.source], 3, FIRST_DAY):
            source, second = scene.trace(host.address, record.ts)
            assert source == host.source
            assert (second - times[record.fields["uid"][:-2]] + 1) % DAY_SECONDS == pytest.approx(1, abs=1e-3)
    assert scene.trace("site", FIRST_DAY) is None


@pytest.mark.parametrize("name", ["old", "datapool", "datapool-outward"])
def test_a_recipe_names_each_of_its_columns_once(name):
    recipe = find_recipe(name)
    assert len(set(recipe.features)) == len(recipe.features) == len(recipe.keys)
    assert sorted(recipe.ordered_keys) == sorted(recipe.keys)


def test_a_recipe_of_the_command_line_is_taken_and_an_unknown_one_refused():
    assert find_recipe("mine=conn|out_count_uid,ssh|in").query == "conn|out_count_uid~conn_out_count_uid;ssh|in~ssh_in"
    with pytest.raises(ValueError, match="no recipe none; there are old, "):
        find_recipe("none")


def test_logs_of_many_hours_are_written_with_few_files_open(monkeypatch, tmp_path):
    monkeypatch.setattr(zeek_logs, "MAX_OPEN_FILES", 3)
    writer = zeek_logs.LogWriter(tmp_path)
    fields = {"id.orig_h": ATTACKED, "id.resp_h": "203.0.113.1"}
    for number in range(400):
        writer.write(zeek_logs.LogRecord("conn", 1_000.0 * (number * 7 % 400), fields))
    writer.close()
    records, unread = read_folder(tmp_path)
    assert (len(records), unread, writer.records) == (400, 0, 400)
    assert len(list(tmp_path.rglob("*.log"))) == 111


def test_alerts_that_are_not_those_of_the_summary_are_refused(tmp_path):
    (tmp_path / "replay-1.json").write_text(json.dumps({"alerts": 2, "account": {"rule_alerts": {"bytes-out": 1}}}))
    scene = Scene(tmp_path, 2, "10.200.0.0/16", {}, (), (), 0, ())
    with pytest.raises(RuntimeError, match=r"has 0 alerts and .* says 3"):
        replay(scene, WindowGrid(600, 60), "unix:none", 1.0, tmp_path)


def test_a_column_is_absent_only_if_no_host_has_it(tmp_path):
    path = tmp_path / "10.200.0.2" / "conn" / "2026" / "03" / "02" / "w10m-s01m.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("window_start\tout_count_uid\n")
    hosts = ["10.200.0.1", "10.200.0.2"]  # the first had no record
    assert find_absent(tmp_path, hosts, ["conn|out_count_uid", "conn|out_failed", "ssh|in"]) == ["conn|out_failed", "ssh|in"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--hosts", "0"], "expected at least 1"),
        (["--strengths", "1/0"], "Fraction(1, 0)"),
        (["--total-budgets", "0"], "expected numbers above 0"),
        (["--window", "10"], "such as 10m"),
        (["--window", "1m", "--slide", "10m"], "at most the --window"),
        (["--days", "1"], "expected at least 2"),
    ],
)
def test_wrong_options_are_refused(tmp_path, capsys, words, expected):
    with pytest.raises(SystemExit) as caught:
        main(["--background", str(tmp_path), "--attacks", str(tmp_path), *words])
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_run_that_has_nothing_to_measure_fails(tmp_path, capsys):
    write_attack(tmp_path / "attacks" / "exfil_fast")
    folders = [str(path) for _, path in write_backgrounds(tmp_path / "backgrounds")]
    words = ["--attacks", str(tmp_path / "attacks"), "--work", str(tmp_path / "work"), "--scenes", "server"]
    assert main(["--background", *folders[2:], *words]) == 1
    assert "no background host is a server" in capsys.readouterr().err
    (tmp_path / "nothing").mkdir()
    assert main(["--background", *folders, *words, "--attacks", str(tmp_path / "attacks"), str(tmp_path / "nothing")]) == 2
    assert f"no attacks in {tmp_path / 'nothing'}" in capsys.readouterr().err


def test_a_wrong_call_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--background", str(tmp_path / "absent"), "--attacks", str(tmp_path)])
    assert "absent: no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["--background", str(tmp_path / "empty"), "--attacks", str(tmp_path), "--work", str(tmp_path / "work")]) == 2
    assert "no records of conn" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.timeout(900)
def test_a_whole_run_prints_the_tables_and_a_second_one_is_the_same(tmp_path, capsys):
    folders = [str(path) for _, path in write_backgrounds(tmp_path / "backgrounds")]
    write_attack(tmp_path / "attacks" / "exfil_fast")
    words = [
        "--background",
        *folders,
        "--attacks",
        str(tmp_path / "attacks"),
        "--local",
        SERVER,
        "--hosts",
        "6",
        "--recipe",
        "old",
    ]
    words += ["--work", str(tmp_path / "work"), "--total-budgets", "5"]
    assert main(words) == 0
    first = capsys.readouterr()
    assert "## Scene: fleet" in first.out
    assert "## Scene: server" in first.out
    assert "| model | 5 a day in all | " in first.out
    assert "| model | 5 events a day in all | " in first.out
    assert "| model, no envelope | servers | " in first.out
    assert main(words) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert "write scene" not in second.err

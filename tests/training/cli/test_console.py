from training.cli.console import format_command


def test_a_formatted_command_has_no_folders_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--csv", str(tmp_path / "data" / "x.tsv"), "--run=/somewhere/else/run", "--features", "a/b,c", "--seed", "1"]
    assert format_command(words) == "python -m training fit --csv data/x.tsv --run=run --features a/b,c --seed 1"
    assert format_command(["fit", "--csv", "../data/x.tsv", "--train-time-range", "<2019-01-01,2019-02-01)"]) == (
        "python -m training fit --csv ../data/x.tsv --train-time-range '<2019-01-01,2019-02-01)'"
    )

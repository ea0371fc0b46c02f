"""The table of `rpc.py`: seconds of many calls into ratios."""

import numpy as np

COLUMNS = (
    ("rpc", "RPC", "{:<13}"),
    ("observations", "obs/message", "{:>12}"),
    ("p50_us", "p50 us", "{:>9.0f}"),
    ("p99_us", "p99 us", "{:>9.0f}"),
    ("echo_p50_us", "echo us", "{:>9.0f}"),
    ("p50_over_echo", "x echo", "{:>8.2f}"),
    ("ort_p50_us", "ORT us", "{:>9.0f}"),
    ("ort_two_p50_us", "on 2", "{:>9.0f}"),
    ("observations_per_second", "obs/s", "{:>10,.0f}"),
    ("share_of_ort_rate", "of ORT", "{:>8.0%}"),
    ("share_of_ort_two_rate", "of 2", "{:>8.0%}"),
)


RPCS = ("Forecast", "Detect", "StreamDetect", "worst case")


def rows_of(cases, batches):
    """Return a row for each RPC and number of observations. `cases` holds seconds by (name, observations)."""
    rows = []
    for name in RPCS:
        for n in batches:
            p50, p99 = np.quantile(cases[name, n], [0.5, 0.99]) * 1e6
            echo50, ort50, two50 = (np.median(cases[other, n]) * 1e6 for other in (f"echo {name}", "ort", "ort on two"))
            figures = (name, n, p50, p99, echo50, p50 / echo50, ort50, two50, n / p50 * 1e6, ort50 / p50, two50 / p50)
            rows.append({key: figure for (key, _, _), figure in zip(COLUMNS, figures, strict=True)})
    return rows


def show(rows, per_second):
    width = {name: len(form.format(1 if ">" in form else "")) for name, _, form in COLUMNS}
    print("".join(title.ljust(width[name]) if name == "rpc" else title.rjust(width[name]) for name, title, _ in COLUMNS))
    for row in rows:
        print("".join(form.format(row[name]) for name, _, form in COLUMNS))
    for what, ours, echo in (
        ("Forecast at 64 in flight, calls/s", "forecast", "echo"),
        ("StreamDetect of one observation on 64 streams, messages/s", "streams", "echo streams"),
    ):
        one, other = per_second[ours], per_second[echo]
        print(f"{what}: {one:,.0f}, echo {other:,.0f}: x {one / other:.2f}")

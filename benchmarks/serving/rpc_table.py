"""The tables of `rpc.py`: latency as quantiles and ratios, and rates."""

import numpy as np

COLUMNS = (
    ("transport", "over", "{:<7}"),
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


STREAMS = ("StreamDetect", "worst case")
RPCS = ("Forecast", "Detect", *STREAMS)
RATES = {
    "Forecast": "Forecast at 64 in flight, calls/s",
    "StreamDetect": "StreamDetect of one observation on 64 streams, messages/s",
}


def make_rows(cases, transports, batches):
    """Return a row per RPC, number of observations and transport. `cases` holds seconds by these three."""
    rows = []
    for name in RPCS:
        for n in batches:
            keys = (("echo", name, n), ("ort", "", n), ("ort on two", "", n))
            echo50, ort50, two50 = (np.median(cases[key]) * 1e6 for key in keys)
            for transport in transports:
                p50, p99 = np.quantile(cases[transport, name, n], [0.5, 0.99]) * 1e6
                ratios = (p50 / echo50, ort50, two50, n / p50 * 1e6, ort50 / p50, two50 / p50)
                figures = (transport, name, n, p50, p99, echo50, *ratios)
                rows.append({key: figure for (key, _, _), figure in zip(COLUMNS, figures, strict=True)})
    return rows


def make_rate_rows(medians, transports):
    """Return a row per rate and transport. `medians` holds rates by (transport, RPC)."""
    rows = []
    for name, title in RATES.items():
        if ("echo", name) in medians:
            echo = medians["echo", name]
            for transport in transports:
                ours = medians[transport, name]
                rows.append({"what": title, "transport": transport, "per_second": ours, "echo": echo, "over_echo": ours / echo})
    return rows


def print_tables(rows, rates):
    width = {name: len(form.format(1 if ">" in form else "")) for name, _, form in COLUMNS}
    left = {name for name, _, form in COLUMNS if "<" in form}
    print("".join(title.ljust(width[name]) if name in left else title.rjust(width[name]) for name, title, _ in COLUMNS))
    for row in rows:
        print("".join(form.format(row[name]) for name, _, form in COLUMNS))
    for rate in rates:
        print("{what}: {transport} {per_second:,.0f}, echo {echo:,.0f}: x {over_echo:.2f}".format(**rate))

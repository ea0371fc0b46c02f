"""The recipes of docs/contributing work when they are followed."""

import re

from mods_grpc.ids.alerts.formats.registry import Format
from tests.support.contracts import check_format
from tests.support.paths import ROOT


def test_the_alert_format_of_the_recipe_keeps_the_contract():
    page = (ROOT / "docs/contributing/add-an-alert-format.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    namespace = {}
    exec(compile(code, "logfmt.py", "exec"), namespace)
    (call,) = re.findall(r'"logfmt": (Format\(.*\)),', page)
    form = eval(call.replace("logfmt.", ""), {"Format": Format, **namespace})
    check_format(form)

"""Sample alerts, of rules too, and notices, some with names that an attacker would choose."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from mods_grpc.client import FeatureVerdict, ServedModel
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Member, Rank, Severity, Trigger
from mods_grpc.ids.alerts.notice import Notice, NoticeCode, NoticeState
from mods_grpc.ids.alerts.rule_alert import RuleAlert
from tests.support.alerts.hostile_names import START, names
from tests.support.alerts.sample_evidence import EVIDENCE, hostile_evidence

REASON = "ssh_in 19,686, above expected 4,310 (3,050-5,890), p = 2e-06; 81 % of the score"
FEATURES = (
    FeatureVerdict(
        feature="conn_in", observed=51_234.0, expected=50_000.5, lower=41_000.0, upper=59_000.0, p_value=0.6, share=0.19
    ),
    FeatureVerdict(feature="ssh_in", observed=19_686.0, expected=4_310.0, lower=3_050.0, upper=5_890.0, p_value=2e-6, share=0.81),
)
ALERT = Alert(
    sensor="campus-tap",
    series="site",
    phase=AlertPhase.START,
    episode_id="20190503T102000Z",
    window_start=START,
    window_end=START + timedelta(hours=1),
    episode_start=START,
    peak_time=START,
    score=5.7,
    p_value=2e-6,
    peak_score=5.7,
    significance=1 / 144,
    false_alarms_per_day=1.0,
    reason=REASON,
    features=FEATURES,
    model=ServedModel(name="campus", version=3, digest="ab" * 32),
)
UPDATE = replace(ALERT, phase=AlertPhase.UPDATE, number=1, peak_score=7.0, score=7.0, p_value=1e-7)
END = replace(UPDATE, phase=AlertPhase.END, window_start=START + timedelta(hours=3), window_end=START + timedelta(hours=4))
HOST = replace(ALERT, series="2001:db8::7")
WITH_EVIDENCE = replace(
    ALERT,
    number=1,
    trigger=Trigger.ENTITY,
    evidence=EVIDENCE,
    rank=Rank(position=2, total=17),
    members=(Member(series="10.0.0.80", p_value=1e-6, observed=103.0), Member(series="10.0.0.81", p_value=2e-6, observed=None)),
    member_count=2,
)
NOTICE = Notice(
    sensor="campus-tap",
    code=NoticeCode.LOG_SILENT,
    state=NoticeState.RAISED,
    subject="http",
    since=START,
    time=START + timedelta(days=1),
    message="no http record for 24 h",
    hint="see whether http.log is still written",
)
CLEARED = replace(NOTICE, state=NoticeState.CLEARED, time=START + timedelta(days=2), message="http records come again")

hostile_alerts = st.builds(
    lambda series, sensor, reason, feature, phase, evidence, members: replace(
        ALERT,
        series=series,
        sensor=sensor,
        reason=reason,
        phase=phase,
        features=(replace(FEATURES[0], feature=feature, observed=None),),
        evidence=evidence,
        members=tuple(Member(series=member, p_value=1e-6, observed=None) for member in members),
        member_count=len(members),
    ),
    names | st.sampled_from(["10.0.0.80", "2001:db8::7"]),
    names,
    names,
    names | st.sampled_from(["http_in", "conn|out_failed"]),
    st.sampled_from(AlertPhase),
    st.none() | hostile_evidence,
    st.lists(names, max_size=3),
)
hostile_notices = st.builds(
    lambda sensor, subject, message, hint, code, state: replace(
        NOTICE, sensor=sensor, subject=subject, message=message, hint=hint, code=code, state=state
    ),
    names,
    names,
    names,
    names,
    st.sampled_from(NoticeCode),
    st.sampled_from(NoticeState),
)
RULE = RuleAlert(
    sensor="campus-tap",
    host="10.1.2.3",
    group="445",
    rule="host-scan",
    phase=AlertPhase.START,
    severity=Severity.HIGH,
    source_ip="10.1.2.3",
    destination_port=445,
    what="scan of hosts",
    counted="hosts that did not answer on port 445",
    count=231,
    threshold=25,
    source="Zeek 6.0, policy/misc/scan.zeek, addr_scan_threshold",
    window_start=START,
    window_end=START + timedelta(minutes=5),
    episode_start=START + timedelta(minutes=5),
    first=START + timedelta(minutes=1, microseconds=250),
    top=(("445", 231), ("139", 40)),
    examples=("10.1.9.1", "10.1.9.2"),
    uids=("CBpnZL3085IfcJzSAe", "CIHAbb28smxUBNvwmd"),
)
RULE_END = replace(
    RULE,
    phase=AlertPhase.END,
    is_capped=True,
    window_start=START + timedelta(hours=1),
    window_end=START + timedelta(hours=1, minutes=5),
    uids=(),
)

hostile_rule_alerts = st.builds(
    lambda sensor, host, counted, name, uid, phase: replace(
        RULE,
        sensor=sensor,
        host=host,
        group=name,
        source_ip=host,
        destination_ip=name,
        counted=counted,
        top=((name, 3),),
        examples=(name,),
        uids=(uid,),
        phase=phase,
    ),
    names,
    names,
    names,
    names,
    names,
    st.sampled_from([AlertPhase.START, AlertPhase.END]),
)

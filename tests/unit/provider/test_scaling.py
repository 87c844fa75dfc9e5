import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DeploymentError
from holdfast.provider.scaling import KINDS, MOST_REPLICAS, Lately, Load, Rules, decide, desired, rules_of

P = "com.openfaas.scale."
LOAD = st.floats(0, 1e6)
NUMBERS = st.integers(1, MOST_REPLICAS)


def read(**labels: str) -> Rules:
    return rules_of("f", {P + name.replace("_", "-"): text for name, text in labels.items()})


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    least, most = sorted((draw(NUMBERS), draw(NUMBERS)))
    idle_s = draw(st.sampled_from([math.inf, 60.0]))
    return Rules(least, most, draw(st.sampled_from(["", *KINDS])), draw(st.floats(0.1, 1000)), idle_s)


def test_without_labels_there_is_one_replica_and_nothing_changes() -> None:
    assert read() == Rules(1, 20, "", 45.0, math.inf)


def test_a_type_or_a_target_switches_scaling_on_and_min_equal_to_max_off() -> None:
    assert read(target="10") == Rules(1, 20, "rps", 9.0, math.inf)
    assert read(type="capacity", min="2", max="4", target="10", target_proportion="0.5") == Rules(
        2, 4, "capacity", 5.0, math.inf
    )
    assert read(min="3", max="9").kind == ""
    assert read(type="rps", min="3", max="3").kind == ""


def test_a_minimum_above_the_usual_maximum_raises_it() -> None:
    assert read(min="30", type="rps")[:3] == (30, 30, "")


@pytest.mark.parametrize(
    ("zero", "duration", "idle_s"),
    [("true", "", 900.0), ("true", "30s", 30.0), ("1", "2m", 120.0), ("false", "30s", math.inf)],
)
def test_idle_functions_go_to_zero_only_when_asked_for(zero: str, duration: str, idle_s: float) -> None:
    assert read(zero=zero, **({"zero_duration": duration} if duration else {})).idle_s == idle_s


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("min", "0"),
        ("min", "two"),
        ("min", "101"),
        ("min", "-1"),
        ("min", "²"),
        ("min", "1" * 5000),
        ("max", "0"),
        ("max", "101"),
        ("max", ""),
        ("factor", "101"),
        ("factor", "a fifth"),
        ("type", "weather"),
        ("type", ""),
        ("target", "0"),
        ("target", "-5"),
        ("target", "nan"),
        ("target", "inf"),
        ("target", "ten"),
        ("target-proportion", "0"),
        ("target-proportion", "1.5"),
        ("zero", "yes please"),
        ("zero", ""),
        ("zero-duration", "0s"),
        ("zero-duration", "-1m"),
        ("zero-duration", "soon"),
    ],
)
def test_a_label_that_cannot_be_used_is_refused_with_what_would_work(label: str, text: str) -> None:
    with pytest.raises(DeploymentError, match=f"label {P}{label} is .*: expected ") as error:
        rules_of("f", {P + label: text})
    assert len(str(error.value)) < 300


def test_a_maximum_below_the_minimum_is_refused() -> None:
    with pytest.raises(DeploymentError, match=r"scale\.max is '2': expected at least .*min, which is 3"):
        read(min="3", max="2")


def test_scaling_by_the_queue_needs_somebody_who_knows_it() -> None:
    assert read(type="queue", target="10").kind == "queue"
    with pytest.raises(
        DeploymentError, match="'queue': expected rps, capacity or cpu, or the provider's setting gateway_u"
    ):
        rules_of("f", {P + "type": "queue"}, queues_known=False)


def test_the_formula_of_the_documentation() -> None:
    # 2 ready replicas, 300 calls a second on each, a target of 100 at 0.9.
    assert desired(read(target="100"), 2 * 300) == 7
    assert desired(read(target="50"), 90.0) == 2, "a load of exactly two replicas needs no third"
    assert desired(read(target="50"), 90.1) == 3
    assert desired(read(target="50", max="5"), 1e9) == 5
    assert desired(read(target="50", min="2"), 0.0) == 2


@given(rules(), LOAD, LOAD)
def test_more_load_never_asks_for_fewer_replicas_and_the_limits_hold(rules: Rules, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert rules.least <= desired(rules, low) <= desired(rules, high) <= rules.most


@given(rules(), LOAD)
def test_what_is_desired_carries_the_load_unless_it_is_the_maximum(rules: Rules, load: float) -> None:
    number = desired(rules, load)
    if number < rules.most:
        assert number * rules.per_replica >= load * (1 - 1e-9) - 1e-3
    if number > rules.least:
        assert (number - 1) * rules.per_replica < load


@given(rules(), st.integers(0, MOST_REPLICAS), st.none() | LOAD, st.floats(0, 200), NUMBERS)
def test_a_decision_goes_up_at_once_and_down_only_as_far_as_was_desired_lately(
    rules: Rules, replicas: int, load: float | None, idle_s: float, lately: int
) -> None:
    after, reason = decide(rules, replicas=replicas, load=load, idle_s=idle_s, lately=lately)
    assert reason
    if replicas == 0 or idle_s >= rules.idle_s:
        assert after == 0
    elif not rules.kind or load is None:
        assert after == replicas
    else:
        assert after >= desired(rules, load)
        assert after <= max(replicas, desired(rules, load))
        assert after >= min(replicas, lately)


def test_load_is_averaged_over_its_window_and_forgotten_after_it() -> None:
    load = Load(4.0)
    load.add(1.0, 100, 8.0)
    load.add(4.0, 20, 4.0)
    assert load.of("rps", 1.0) == 0.0, "the window ends a second ago"
    assert load.of("rps", 1.5) == 12.5
    assert load.of("rps", 5.0) == 30.0
    assert load.of("capacity", 5.0) == 3.0
    assert load.of("rps", 5.5) == 17.5
    assert load.of("rps", 8.0) == 5.0
    assert load.of("rps", 9.0) == 0.0


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=5), st.integers(1, 50), st.floats(0, 0.999))
def test_a_steady_load_is_measured_as_it_is_whenever_replicas_report(
    phases: list[float], each: int, look: float
) -> None:
    load, asked_at = Load(4.0), 19.0 + look
    for second in range(20):
        for phase in sorted(phases):
            if second + phase <= asked_at:
                load.add(second + phase, each, each / 2)
    assert load.of("rps", asked_at) == pytest.approx(each * len(phases))
    assert load.of("capacity", asked_at) == pytest.approx(each * len(phases) / 2)


def test_what_nobody_asks_for_is_forgotten_all_the_same() -> None:
    load = Load(4.0)
    for second in range(1000):
        load.add(float(second), 1, 1.0)
    assert len(load) == 5


@given(st.lists(st.tuples(st.floats(0, 10), NUMBERS), min_size=1))
def test_lately_is_the_highest_number_of_the_window(steps: list[tuple[float, int]]) -> None:
    lately, now, all_of_them = Lately(20.0), 0.0, []
    for pause, number in steps:
        now += pause
        all_of_them.append((now, number))
        assert lately.add(now, number) == max(n for at, n in all_of_them if at > now - 20.0)


@given(st.lists(st.sampled_from([0.0, 400.0]), min_size=1, max_size=100))
def test_bursts_within_the_quiet_window_do_not_make_the_number_flap(loads: list[float]) -> None:
    rules, lately, replicas, changes = read(target="50", max="10"), Lately(1000.0), 1, 0
    for now, load in enumerate(loads):
        highest = lately.add(float(now), desired(rules, load))
        after = decide(rules, replicas=replicas, load=load, idle_s=0.0, lately=highest).replicas
        changes += after != replicas
        replicas = after
    assert changes <= 1

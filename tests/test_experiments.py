"""Who gets which model, what labels say, and how an experiment ends."""

import json
import shutil
import uuid

import numpy as np
import pytest
from streams import copied_task, unseen
from test_production import DATA, row

from lib import experiments, registry
from lib.errors import ArtifactError, ParameterError
from lib.experiments import Experiment, conclude, dealt, judge, running, start, verdict
from lib.production import Outcomes, ProductionLog, default_url, read_outcomes
from lib.sequential import planned_labels
from lib.serving import ServedTasks
from lib.storage import sha256_bytes

DAY = 24 * 3600.0


def experiment(**changed):
    values = {"id": "e", "champion": "one", "challenger": "two", "mode": "split", "share": 0.5, "effect": 0.05,
              "started": 0.0, "expires": DAY}  # fmt: skip
    return Experiment(**values | changed)


@pytest.fixture
def task(tiny_task, tmp_path, monkeypatch):
    return copied_task(tiny_task, tmp_path, monkeypatch)


@pytest.fixture
def challenger(task):
    """A second version, of the same model."""
    champion = registry.champion(task)
    name = "2999-challenger"
    shutil.copytree(champion.folder, champion.folder.with_name(name))
    return name


# Dealing


def test_a_client_keeps_its_arm_and_the_share_is_met():
    keys = [str(number) for number in range(10_000)]
    arms = [experiment().arm(key) for key in keys]
    assert arms == [experiment().arm(key) for key in keys]
    assert abs(arms.count("challenger") / len(keys) - 0.5) < 0.02
    assert all(experiment(share=0.0).arm(key) == "champion" for key in keys[:100])


def test_another_share_moves_only_as_many_clients_as_it_must():
    keys = [str(number) for number in range(10_000)]
    moved = [experiment().arm(key) != experiment(share=0.6).arm(key) for key in keys]
    assert abs(np.mean(moved) - 0.1) < 0.02


def test_another_experiment_deals_anew():
    keys = [str(number) for number in range(10_000)]
    moved = [experiment().arm(key) != experiment(id="f").arm(key) for key in keys]
    assert abs(np.mean(moved) - 0.5) < 0.02


# The verdict


def outcomes(first, second, clients=(100, 100)):
    """(n, right) of both arms, each label of another client; and how many clients each arm had."""
    arms, right, asked = ("champion", "challenger"), {}, {}
    for arm, (n, k), n_clients in zip(arms, (first, second), clients, strict=True):
        right[arm] = [(str(place), place < k) for place in range(n)]
        dealt = (name for name in map(str, range(100_000)) if experiment().arm(name) == arm)
        asked[arm] = {next(dealt) for _ in range(n_clients)}
    return Outcomes(right, [], asked)


def test_few_labels_decide_nothing_and_say_how_many_are_missing():
    found = judge(experiment(), outcomes((3, 3), (3, 3)), 0.85)
    assert found.state == "wait"
    assert found.labels_needed == planned_labels(0.85, 0.05) - 6
    assert f"{found.labels_needed:,} more labels" in found.text
    assert json.loads(json.dumps(found.to_json()))["difference"] is None


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [((1000, 800), (1000, 900), "promote"), ((1000, 900), (1000, 800), "keep"), ((400, 340), (400, 344), "wait")],
)
def test_a_clear_difference_decides(first, second, state):
    found = judge(experiment(), outcomes(first, second), 0.85)
    assert found.state == state
    assert found.champion.n == first[0]
    assert found.text.endswith(".")


def test_without_a_difference_the_champion_stays_once_the_planned_labels_are_there():
    n = planned_labels(0.85, 0.05)
    found = judge(experiment(), outcomes((n, int(0.85 * n)), (n, int(0.85 * n))), 0.85)
    assert (found.state, found.labels_needed) == ("keep", 0)


def test_clients_that_were_dealt_otherwise_than_set_forbid_a_verdict():
    found = judge(experiment(), outcomes((1000, 800), (1000, 900), clients=(600, 900)), 0.85)
    assert found.state == "unbalanced"


def test_clients_that_came_while_the_challenger_was_loaded_do_not_count():
    found = outcomes((1000, 800), (1000, 900))
    late = {name for name in map(str, range(2000)) if experiment().arm(name) == "challenger"}
    found.clients["champion"] |= late
    assert dealt(experiment(), found) == (100, 100)
    assert judge(experiment(), found, 0.85).state == "promote"


def test_in_shadow_both_answer_the_same_images():
    pairs = [(True, True)] * 200 + [(False, True)] * 40 + [(True, False)] * 5
    found = judge(experiment(mode="shadow", share=0.0), Outcomes({"champion": []}, pairs, {"champion": {"a"}}), 0.85)
    assert (found.state, found.champion.right, found.challenger.right) == ("promote", 205, 240)


# The log


def test_outcomes_count_the_latest_label_of_each_answer_and_pair_shadows():
    with_log = ProductionLog("t", default_url("t"))
    with_log.open()
    names = [uuid.uuid4().hex for _ in range(4)]
    rows = [
        row(names[0], client="a"), row(names[1], arm="challenger", client="b"), row(names[2], client="a"),
        row(names[3], client="c"), row("shadow", arm="shadow", label="dog", shadow_of=names[3], client="c"),
    ]  # fmt: skip
    assert with_log.record(rows, [DATA] * 5)
    classes = ["cat", "dog"]
    for name, label in ((names[0], "dog"), (names[0], "cat"), (names[1], "dog"), (names[3], "dog")):
        with_log.give_feedback(label, classes, prediction=name)
    found = read_outcomes("t", "", 0.0)
    assert found.right == {"champion": [("a", True), ("c", False)], "challenger": [("b", False)]}
    assert found.pairs == [(False, True)]
    assert found.clients == {"champion": {"a", "c"}, "challenger": {"b"}, "shadow": {"c"}}
    assert read_outcomes("t", "", 0.0, doubted={sha256_bytes(DATA)}).right == {}
    assert read_outcomes("t", "", 1e12) == Outcomes()
    with_log.close()


# Beginning and end


def test_it_begins_changes_its_share_and_ends(task, challenger, clock):
    assert running(task) is None
    begun = start(task, challenger, by="me", clock=clock)
    assert running(task, clock) == begun
    again = start(task, challenger, share=0.6, clock=clock)
    assert (again.id, again.share) == (begun.id, 0.6)
    pointer = registry.deployment(task)
    assert (pointer["challenger"], pointer["challenger_share"]) == (challenger, 0.6)
    registry.end_experiment(task, by="me", why="enough")
    assert running(task, clock) is None
    assert registry.deployment(task)["challenger"] == challenger
    assert registry.deployment(task)["history"][-1]["action"] == "experiment ended"


def test_a_promotion_or_rollback_ends_it(task, challenger):
    start(task, challenger)
    champion = registry.champion(task).name
    registry.promote(task, challenger)
    assert registry.deployment(task)["experiment"] is None
    start(task, champion)
    registry.rollback(task)
    assert registry.deployment(task)["experiment"] is None


def test_it_expires(task, challenger, clock):
    start(task, challenger, days=1, clock=clock)
    clock.now = DAY - 1
    assert running(task, clock) is not None
    clock.now = DAY + 1
    assert running(task, clock) is None
    assert "expired" in conclude(task, clock=clock)
    assert registry.deployment(task)["experiment"] is None
    assert conclude(task, clock=clock) == ""


@pytest.mark.parametrize(("better", "champion"), [(True, True), (False, False)])
def test_it_is_concluded_by_its_labels_where_nobody_has_to_approve(task, challenger, better, champion):
    old = registry.champion(task).name
    start(task, challenger)
    log = ProductionLog(task, default_url(task))
    log.open()
    for arm, version, right in (("champion", old, not better), ("challenger", challenger, better)):
        for number in range(150):
            name = f"{arm}{number}"
            log.record([row(name, name.encode(), arm=arm, version=version, client=name)], [name.encode()])
            log.give_feedback("cat" if right else "dog", ["cat", "dog"], prediction=name)
    assert conclude(task, approval=True) == ""
    assert running(task) is not None
    assert verdict(task, running(task)).state == ("promote" if better else "keep")
    assert conclude(task, approval=False)
    pointer = registry.deployment(task)
    assert (pointer["champion"] == challenger) is champion
    assert (pointer["experiment"], pointer["challenger"]) == (None, None)
    log.close()


@pytest.mark.parametrize(
    "changed", [{"mode": "both"}, {"share": 0.0}, {"share": 1.0}, {"share": float("nan")}, {"effect": 0.0},
                {"effect": 1e-200}, {"days": 0.0}, {"days": 400.0}]
)  # fmt: skip
def test_values_that_make_no_experiment_are_refused(task, challenger, changed):
    with pytest.raises(ParameterError):
        start(task, challenger, **changed)
    assert running(task) is None


def test_what_was_decided_for_another_state_of_things_is_not_done(task, challenger):
    champion = registry.champion(task).name
    start(task, challenger)
    with pytest.raises(ArtifactError, match="another experiment was set"):
        registry.promote(task, challenger, expected={"champion": champion, "experiment": None})
    with pytest.raises(ArtifactError, match="another champion and experiment was set"):
        registry.challenge(task, None, expected={"champion": "older", "experiment": None})
    with pytest.raises(ArtifactError, match="another champion"):
        registry.begin_experiment(task, challenger, 0.5, {"champion": "older"})
    assert registry.deployment(task)["champion"] == champion
    assert running(task) is not None


def test_the_champion_cannot_challenge_itself(task):
    with pytest.raises(ArtifactError, match="the champion itself"):
        start(task, registry.champion(task).name)


def test_a_damaged_experiment_is_said_so(task, challenger):
    registry.begin_experiment(task, challenger, 0.5, {"id": "e", "champion": registry.champion(task).name})
    with pytest.raises(ArtifactError, match="end it and begin anew"):
        running(task)


# Serving


def test_the_service_deals_clients_and_follows_the_end(task, challenger):
    champion = registry.champion(task).name
    served = ServedTasks(task).get()
    assert served.arm("x").name == "champion"
    start(task, challenger, share=0.5)
    served.follow()
    arms = {served.arm(str(number)).name: served.arm(str(number)).predictor.version.name for number in range(50)}
    assert arms == {"champion": champion, "challenger": challenger}
    registry.end_experiment(task)
    served.follow()
    assert {served.arm(str(number)).name for number in range(50)} == {"champion"}


def test_in_shadow_the_champion_answers_and_the_challenger_is_there(task, challenger):
    start(task, challenger, mode="shadow")
    arm = ServedTasks(task).get().arm("x")
    assert (arm.name, arm.shadow.version.name) == ("champion", challenger)
    assert arm.predictor.encoder is arm.shadow.encoder
    data = unseen("Bag", 1)[0][0]
    result = arm.predictor.predict([data])[0]
    assert arm.shadow.answers(result.vector[None])[0].label == result.label


def test_a_challenger_that_cannot_be_loaded_leaves_all_traffic_to_the_champion(task, challenger):
    start(task, challenger)
    model = registry.models_dir(task) / challenger / registry.MODEL_FILE
    model.write_bytes(model.read_bytes()[:-1])
    served = ServedTasks(task).get()
    assert {served.arm(str(number)).name for number in range(50)} == {"champion"}
    assert served.problem.startswith("The challenger takes no part")


def test_an_expired_experiment_is_over_without_anybody_ending_it(task, challenger, monkeypatch):
    start(task, challenger, share=0.99)
    served = ServedTasks(task).get()
    assert served.arm("x").name == "challenger" or served.arm("y").name == "challenger"
    monkeypatch.setattr("lib.serving.time", lambda: experiments.time() + 15 * DAY)
    assert {served.arm(str(number)).name for number in range(50)} == {"champion"}

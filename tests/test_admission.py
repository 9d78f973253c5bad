import threading

import pytest

from lib.admission import CALM, Admission
from lib.errors import DeadlineError, OverloadedError


def test_no_more_is_accepted_than_the_bound_and_room_comes_back(clock):
    admission = Admission(2, 1, 10, clock)
    with admission.accepted(), admission.accepted():
        assert admission.n_inflight == 2
        with pytest.raises(OverloadedError, match="at work on 2 requests"), admission.accepted():
            pytest.fail("a third one was accepted")
    assert (admission.n_inflight, admission.n_refused) == (0, 1)
    with admission.accepted():
        assert admission.n_inflight == 1


def test_what_is_on_its_way_to_a_thread_has_its_place(clock):
    admission = Admission(2, 1, 10, clock)
    admission.expect()
    admission.expect()
    assert admission.is_full
    with pytest.raises(OverloadedError, match="at work on 2 requests"), admission.accepted():
        pytest.fail("work that nobody expected took a place that was kept")
    with admission.expected(), admission.accepted():
        assert (admission.n_inflight, admission.n_expected, admission.is_full) == (1, 1, True)
    assert (admission.n_inflight, admission.n_expected, admission.is_full) == (0, 1, False)


def test_more_that_is_on_its_way_than_there_is_room_for_keeps_nobody_out_while_nothing_is_at_work(clock):
    admission = Admission(2, 1, 10, clock)
    for _ in range(5):
        admission.expect()
    for _ in range(5):
        with admission.expected(), admission.accepted():
            assert admission.n_inflight == 1
    assert (admission.n_expected, admission.n_refused) == (0, 0)


def test_the_place_of_work_that_is_refused_before_it_is_accepted_is_free_again(clock):
    admission = Admission(1, 1, 10, clock)
    admission.expect()
    with pytest.raises(ValueError, match="no token"), admission.expected():
        raise ValueError("no token")
    assert (admission.n_expected, admission.is_full) == (0, False)


def test_the_thread_that_all_clients_wait_for_never_works(clock):
    admission = Admission(2, 1, 10, clock)
    admission.loop = threading.get_ident()
    with pytest.raises(OverloadedError), admission.accepted():
        pytest.fail("the loop was put to work")
    assert (admission.n_inflight, admission.n_refused) == (0, 1)


def test_work_is_alone_once_there_was_no_other_for_a_while(clock):
    admission = Admission(2, 2, 10, clock)
    with admission.accepted() as first:
        assert first.alone
        with admission.accepted() as second:
            assert not first.alone
            assert not second.alone
            clock.now = 10 * CALM
        assert not first.alone  # a moment ago there was another
        clock.now += CALM + 0.01
        assert first.alone


def test_a_signal_that_comes_to_who_holds_the_door_does_not_wait_for_itself(clock):
    admission = Admission(2, 1, 10, clock)
    with admission._lock:
        admission.drain()
    with pytest.raises(OverloadedError, match="shutting down"), admission.accepted():
        pytest.fail("work was accepted while draining")


def test_work_that_fails_gives_its_place_and_its_slot_back(clock):
    admission = Admission(1, 1, 10, clock)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), admission.accepted() as work, work.slot():
            raise ValueError("broken")
    assert admission.n_inflight == 0


def test_past_its_deadline_work_ends_and_frees_its_slot(clock):
    admission = Admission(2, 1, 10, clock)
    with admission.accepted() as work, work.slot():
        work.check()
        clock.now = 10
        with pytest.raises(DeadlineError, match="longer than 10 seconds"):
            work.check()
    with admission.accepted() as work, work.slot():
        work.check()


def test_work_that_finds_no_slot_in_time_gives_up():
    admission = Admission(2, 1, 0.05)
    with admission.accepted() as busy, busy.slot(), admission.accepted() as waiting, pytest.raises(DeadlineError):
        waiting.slot().__enter__()
    with admission.accepted() as work, work.slot():
        pass


def test_as_many_work_at_a_time_as_there_are_slots():
    admission = Admission(8, 2, 10)
    at_work, most, lock = [], [0], threading.Lock()
    meet = threading.Barrier(2, timeout=5)

    def run():
        with admission.accepted() as work, work.slot():
            with lock:
                at_work.append(1)
                most[0] = max(most[0], len(at_work))
            meet.wait()  # both slots are taken before either is left
            with lock:
                at_work.pop()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [2]
    assert admission.n_inflight == 0


def test_a_draining_service_accepts_nothing_and_finishes_what_it_has(clock):
    admission = Admission(2, 1, 10, clock)
    with admission.accepted() as work:
        admission.drain()
        with pytest.raises(OverloadedError, match="shutting down"), admission.accepted():
            pytest.fail("accepted while draining")
        with work.slot():
            work.check()

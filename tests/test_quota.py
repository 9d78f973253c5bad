"""A client's quota, on a clock that the tests turn."""

import pytest

from lib.quota import SWEEP, Quota, client_of


def test_a_whole_quota_may_be_used_at_once_and_comes_back_bit_by_bit(clock):
    quota = Quota(3, 60.0, clock)
    assert [quota.take("a").remaining for _ in range(3)] == [2, 1, 0]
    refused = quota.take("a")
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert refused.wait == pytest.approx(20)
    clock.now += 19.9
    assert not quota.take("a").allowed
    clock.now += 0.1
    assert quota.take("a").allowed
    assert not quota.take("a").allowed
    clock.now += 1000
    assert [quota.take("a").allowed for _ in range(4)] == [True, True, True, False]


def test_what_is_refused_costs_nothing(clock):
    quota = Quota(1, 60.0, clock)
    quota.take("a")
    for _ in range(1000):
        assert quota.take("a").wait == pytest.approx(60)


def test_the_wait_is_told_with_the_last_request_too(clock):
    quota = Quota(2, 60.0, clock)
    assert quota.take("a").wait == 0
    assert quota.take("a").wait == pytest.approx(30)


def test_clients_have_their_own_quota_and_are_forgotten_when_it_is_whole_again(clock):
    quota = Quota(1, 60.0, clock)
    assert all(quota.take(str(number)).allowed for number in range(SWEEP))
    assert not quota.take("0").allowed
    clock.now += 61
    quota.take("new")
    assert len(quota._whole_again) == 1


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_address_of_ipv6_stands_for_its_network(address, client):
    assert client_of(address) == client

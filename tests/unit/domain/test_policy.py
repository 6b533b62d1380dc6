import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.policy import Policy, absence_counts_from, backoff, poll_delay, replay_until

JITTERS = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(Policy, backoff_base=st.floats(0.01, 10), backoff_cap=st.floats(10, 3600))


@given(policy=POLICIES, tries=st.integers(-5, 10_000), jitter=JITTERS)
def test_a_backoff_lies_between_a_tenth_of_the_base_and_its_exponential_step(policy, tries, jitter):
    step = min(policy.backoff_cap, policy.backoff_base * 2 ** min(max(tries - 1, 0), 30))
    wait = backoff(policy, tries, jitter)

    assert policy.backoff_base / 10 <= wait <= max(step, policy.backoff_base / 10)


@given(tries=st.integers(1, 60), first=JITTERS, second=JITTERS)
def test_the_whole_step_is_jittered(tries, first, second):
    policy = Policy()
    waits = sorted([(first, backoff(policy, tries, first)), (second, backoff(policy, tries, second))])

    assert waits[0][1] <= waits[1][1]
    assert backoff(policy, tries, 0.0) == policy.backoff_base / 10


@pytest.mark.parametrize(("tries", "most"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (10, 512), (11, 900), (99, 900)])
def test_the_steps_double_up_to_the_cap(tries, most):
    assert backoff(Policy(), tries, 0.5) == max(0.1, most * 0.5)


@pytest.mark.parametrize(("polls", "delay"), [(0, 2), (1, 5), (2, 15), (3, 60), (4, 60), (10**6, 60)])
def test_the_last_step_of_the_poll_schedule_repeats(polls, delay):
    assert poll_delay(Policy(), polls) == delay


def test_a_provider_that_never_forgets_sets_no_end_to_replays():
    assert replay_until(Policy(handle_lifetime=None), 1000.0) is None


@given(start=st.floats(0, 2e9), lifetime=st.floats(100, 1e7), timeout=st.floats(1, 90))
def test_a_handle_is_given_up_a_tenth_and_a_time_out_before_it_dies(start, lifetime, timeout):
    until = replay_until(Policy(handle_lifetime=lifetime, total_timeout=timeout), start)

    assert until == pytest.approx(start + lifetime * 0.9 - timeout)
    assert until + timeout < start + lifetime


@given(end=st.floats(0, 2e9), timeout=st.floats(0, 90), delay=st.floats(0, 3600))
def test_an_absence_counts_after_the_last_send_its_time_out_and_the_delay_of_look_ups(end, timeout, delay):
    policy = Policy(total_timeout=timeout, lookup_delay=delay)

    assert absence_counts_from(policy, end) == end + timeout + delay


def test_a_lease_outlasts_a_request():
    assert Policy().lease > Policy().total_timeout

import pytest
from celery import Celery

from config.celery import QUEUES, ROUTES, beat_schedule, celery_options
from tests.support.settings import make_settings


@pytest.fixture
def settings():
    return make_settings(redis={"url": "redis://127.0.0.1:6379/0"})


def test_a_message_is_acknowledged_late_and_given_back_when_its_worker_dies(settings):
    options = celery_options(settings, 20)

    assert options["task_acks_late"] is True
    assert options["task_reject_on_worker_lost"] is True
    assert options["worker_prefetch_multiplier"] == 1
    assert options["task_ignore_result"] is True
    assert options["accept_content"] == ["json"]


def test_no_option_limits_the_time_of_a_money_task_or_keeps_results(settings):
    options = celery_options(settings, 20)

    assert not {"task_time_limit", "task_soft_time_limit", "result_backend"} & set(options)


def test_the_broker_is_asked_with_time_outs_and_enough_connections(settings):
    transport = celery_options(settings, 20)["broker_transport_options"]

    assert transport == {
        "visibility_timeout": 600,
        "max_connections": 100,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def test_visibility_and_shutdown_outlast_the_longest_call(settings):
    options = celery_options(settings, 900)

    assert options["worker_soft_shutdown_timeout"] == 910
    assert options["visibility_timeout"] == options["broker_transport_options"]["visibility_timeout"]
    assert options["visibility_timeout"] > 910


def test_remote_control_and_events_are_off_unless_asked_for(settings):
    open_settings = make_settings(redis={"url": "redis://x/0"}, celery={"remote_control": True, "events": True})

    closed, opened = celery_options(settings, 20), celery_options(open_settings, 20)

    names = ("worker_enable_remote_control", "worker_send_task_events", "task_send_sent_event")
    assert [closed[name] for name in names] == [False, False, False]
    assert [opened[name] for name in names] == [True, True, True]


@pytest.mark.parametrize("task", ["submit", "send", "recover", "poll", "notify", "reconcile"])
def test_each_kind_of_work_has_its_own_queue(settings, task):
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_options(settings, 20))

    route = app.amqp.router.route({}, f"refunds.{task}")

    queue = "intake" if task == "submit" else task
    assert route["queue"].name == f"refundry.{queue}"
    assert set(app.amqp.queues) == set(QUEUES)


def test_every_route_leads_to_a_queue_that_exists():
    assert set(ROUTES.values()) == set(QUEUES)


def test_beat_ticks_each_second_and_old_ticks_say_nothing():
    tick = beat_schedule()["refunds.tick"]

    assert tick["task"] == "refunds.tick"
    assert tick["schedule"] == 1
    assert tick["options"]["expires"] == 60


def test_over_tls_the_server_is_checked():
    options = celery_options(make_settings(redis={"url": "rediss://redis.example.com/0"}), 20)

    assert options["broker_use_ssl"] == {"ssl_cert_reqs": "required"}


def test_a_unix_socket_is_named_as_kombu_does():
    options = celery_options(make_settings(redis={"url": "unix:///run/redis.sock"}), 20)

    assert options["broker_url"] == "redis+socket:///run/redis.sock"


def test_without_a_redis_there_are_no_options():
    with pytest.raises(ValueError, match=r"redis\.url"):
        celery_options(make_settings(), 20)


def test_the_options_are_plain_values_that_a_worker_process_can_be_told(settings):
    options = celery_options(settings, 20)

    assert eval(repr(options)) == options

from console.story import told


def event(seq, at, kind, **more):
    return {"seq": seq, "type": kind, "at": f"2026-11-01T12:{at}.000Z", "actor": "oli", **more}


ATTEMPT = {
    "no": 1,
    "started_at": "2026-11-01T12:00:02.000Z",
    "ended_at": "2026-11-01T12:00:02.040Z",
    "http_status": None,
    "outcome": "unknown",
    "note": None,
}


def test_events_and_attempts_are_one_story_with_its_silences():
    timeline = {
        "events": [
            event(1, "00:01", "refund.accepted"),
            event(2, "00:03", "refund.unknown"),
            event(3, "10:03", "refund.noted", note="called them"),
        ],
        "attempts": [ATTEMPT],
    }
    story = told(timeline)

    assert [each["words"] for each in story] == [
        "Accepted",
        "Attempt 1: unknown, no answer after 40 ms",
        "Outcome unknown: an answer was lost; being looked up; money may have moved",
        "Note: called them",
    ]
    assert [each["gap"] for each in story] == [0.0, 0.0, 0.0, 600.0]
    assert [each["anchor"] for each in told(timeline, "person")] == ["e3"]
    assert [each["anchor"] for each in told(timeline, "attempt")] == ["a1"]


def test_a_review_says_its_cause_and_an_unknown_event_its_own_name():
    (review,) = told({"events": [event(1, "00:01", "refund.review", cause="mismatch")], "attempts": []})
    (other,) = told({"events": [event(1, "00:01", "refund.invented")], "attempts": []})

    assert review["words"] == "Needs review: the provider answers another amount or currency"
    assert other["words"] == "refund.invented"

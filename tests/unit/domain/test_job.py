import json
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidJob, NewerForm
from domain.job import MAX_BYTES, RefundJob, canonical, differing, epoch, parse, stored
from domain.money import MAX_MINOR

# The example of the contract, whole.
FULL = {
    "reference": "RMA-1001",
    "account": "jp-store",
    "payment": {
        "id": "payment_test_GDEATBKK8XAp9XGf6J4U4",
        "order_id": "order_test_bA1znhGULw5lROfDTpHChv",
        "capture_id": None,
        "amount": 2100,
        "currency": "JPY",
        "method": None,
    },
    "amount": 1000,
    "currency": "JPY",
    "reason": "requested_by_customer",
    "description": "Customer return",
    "items": [{"id": "1231", "quantity": 1}],
    "customer": {
        "reference": "lucky",
        "email": "a@example.com",
        "first_name": "John",
        "last_name": "Smith",
        "phone": None,
        "document": None,
        "country": None,
        "address": None,
    },
    "bank_account": {
        "account_number": None,
        "iban": None,
        "bic": None,
        "bank_name": None,
        "bank_code": None,
        "branch": None,
        "agency_code": None,
        "sort_code": None,
        "account_type": None,
        "holder_document": None,
        "address": None,
    },
    "statement_descriptor": None,
    "originator_reference": None,
    "custom_references": [],
    "not_before": None,
    "expect_refundable": None,
    "metadata": {"rma": "1001"},
}
LEAST = {"reference": "R-1", "account": "shop", "payment": {"id": "p-1"}}
NO_FLOATS = "an integer of minor units is required, never a float"
NO_CONTROLS = "control characters are not allowed"
WRITTEN = "an RFC 3339 time with its offset is required, like 2026-01-31T12:00:00Z"


def with_value(pointer, value, base=FULL):
    """The job with one member set to `value`."""
    job = deepcopy(base)
    *path, last = pointer.removeprefix("#/").split("/")
    inner = job
    for step in path:
        if inner.get(step) is None:
            inner[step] = {}
        inner = inner[step]
    inner[last] = value

    return job


def faults(job):
    with pytest.raises(InvalidJob) as caught:
        parse(job)

    return [(error.pointer, error.detail) for error in caught.value.errors]


def too_long(length):
    return "x" * (length + 1), f"String should have at most {length} characters"


LENGTHS = {
    "#/reference": 64,
    "#/account": 63,
    "#/payment/id": 128,
    "#/payment/order_id": 128,
    "#/payment/capture_id": 64,
    "#/payment/method": 64,
    "#/description": 255,
    "#/customer/reference": 128,
    "#/customer/first_name": 128,
    "#/customer/last_name": 128,
    "#/customer/phone": 32,
    "#/customer/document": 64,
    "#/customer/address/street": 255,
    "#/customer/address/street_number": 32,
    "#/customer/address/house_number": 32,
    "#/customer/address/house_extension": 32,
    "#/customer/address/city": 128,
    "#/customer/address/zip_code": 32,
    "#/customer/address/state": 64,
    "#/bank_account/account_number": 64,
    "#/bank_account/bank_name": 128,
    "#/bank_account/bank_code": 32,
    "#/bank_account/branch": 64,
    "#/bank_account/agency_code": 32,
    "#/bank_account/sort_code": 32,
    "#/bank_account/account_type": 32,
    "#/bank_account/holder_document": 64,
    "#/statement_descriptor": 255,
    "#/originator_reference": 50,
}
NEVER_EMPTY = (
    *("#/reference", "#/account", "#/payment/id", "#/payment/order_id", "#/payment/capture_id", "#/payment/method"),
    *("#/statement_descriptor", "#/originator_reference"),
)


def test_the_example_of_the_contract_is_a_job():
    job = parse(json.dumps(FULL))

    assert (job.reference, job.account, job.amount, job.currency) == ("RMA-1001", "jp-store", 1000, "JPY")
    assert job.payment.amount == 2100
    assert job.items[0].quantity == 1
    assert job.metadata == {"rma": "1001"}


def test_a_job_needs_no_more_than_reference_account_and_payment():
    job = parse(LEAST)

    assert (job.amount, job.currency, job.reason) == (None, None, "requested_by_customer")


@pytest.mark.parametrize("field", ["reference", "account", "payment"])
def test_these_three_are_required(field):
    job = {name: value for name, value in LEAST.items() if name != field}

    assert faults(job) == [(f"#/{field}", "Field required")]


@pytest.mark.parametrize(("pointer", "length"), LENGTHS.items())
def test_a_text_has_its_longest_length(pointer, length):
    value, rule = too_long(length)

    assert faults(with_value(pointer, value)) == [(pointer, rule)]
    assert parse(with_value(pointer, value[1:]))


@pytest.mark.parametrize("pointer", NEVER_EMPTY)
def test_a_name_is_never_empty(pointer):
    assert faults(with_value(pointer, "")) == [(pointer, "String should have at least 1 character")]


@pytest.mark.parametrize("pointer", [*sorted(set(LENGTHS) - {"#/account"}), "#/customer/email"])
@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f"])
def test_no_text_carries_control_characters(pointer, character):
    value = f"a{character}b@c" if pointer.endswith("email") else f"a{character}b"

    assert faults(with_value(pointer, value)) == [(pointer, NO_CONTROLS)]


@pytest.mark.parametrize("pointer", sorted(LENGTHS))
@pytest.mark.parametrize("value", [5, 1.5, True, ["x"], {"x": "y"}])
def test_a_text_is_a_text(pointer, value):
    assert faults(with_value(pointer, value)) == [(pointer, "Input should be a valid string")]


def test_half_a_character_is_no_text():
    assert faults(with_value("#/reference", "\ud800"))[0][0] == "#/reference"


def test_a_description_may_have_several_lines():
    assert parse(with_value("#/description", "one\r\n\ttwo")).description == "one\r\n\ttwo"


@pytest.mark.parametrize("pointer", ["#/amount", "#/payment/amount", "#/expect_refundable"])
@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (12.5, NO_FLOATS),
        (12.0, NO_FLOATS),
        (1e3, NO_FLOATS),
        ("12", "Input should be a valid integer"),
        (True, "Input should be a valid integer"),
        ([1], "Input should be a valid integer"),
        (-1, "Input should be greater than"),
        (MAX_MINOR + 1, f"Input should be less than or equal to {MAX_MINOR}"),
        (10**400, f"Input should be less than or equal to {MAX_MINOR}"),
    ],
)
def test_an_amount_is_an_integer_of_minor_units(pointer, value, rule):
    ((found, detail),) = faults(with_value(pointer, value))

    assert found == pointer
    assert detail.startswith(rule)


def test_nothing_is_not_refunded_but_may_be_expected():
    assert faults(with_value("#/amount", 0)) == [("#/amount", "Input should be greater than 0")]
    assert faults(with_value("#/payment/amount", 0)) == [("#/payment/amount", "Input should be greater than 0")]
    assert parse(with_value("#/expect_refundable", 0)).expect_refundable == 0


@pytest.mark.parametrize("body", ['{"amount": 12.0}', '{"amount": 1e3}', '{"amount": 1.0E2}'])
def test_a_float_in_the_text_of_a_job_is_refused_however_it_is_written(body):
    job = {**FULL, **json.loads(body)}

    assert ("#/amount", NO_FLOATS) in faults(json.dumps(job))


@pytest.mark.parametrize("pointer", ["#/currency", "#/payment/currency"])
@pytest.mark.parametrize("code", ["jpy", "XXX", "ABC", "12€"])
def test_a_currency_is_one_of_iso_4217_in_upper_case(pointer, code):
    rule = f"{code!r} is not an ISO 4217 currency code in upper case"

    assert faults(with_value(pointer, code)) == [(pointer, rule)]


@pytest.mark.parametrize(
    ("pointer", "value", "rule"),
    [
        ("#/reason", "because", "Input should be 'requested_by_customer', 'duplicate', 'fraudulent' or 'other'"),
        ("#/customer/email", "nobody", r"String should match pattern '^[^@\s]+@[^@\s]+$'"),
        ("#/customer/email", "a b@c", r"String should match pattern '^[^@\s]+@[^@\s]+$'"),
        ("#/customer/email", "a@" + "b" * 253, "String should have at most 254 characters"),
        ("#/customer/country", "de", "String should match pattern '^[A-Z]{2}$'"),
        ("#/customer/address/country", "DEU", "String should match pattern '^[A-Z]{2}$'"),
        ("#/bank_account/iban", "12", "String should match pattern '^[A-Z]{2}[0-9]{2}[A-Za-z0-9]{10,30}$'"),
        ("#/bank_account/bic", "ABC", "String should match pattern '^[A-Z0-9]{8}([A-Z0-9]{3})?$'"),
        ("#/payment", None, "Input should be a valid dictionary or instance of Payment"),
        ("#/payment", "p-1", "Input should be a valid dictionary or instance of Payment"),
        ("#/customer", [], "Input should be a valid dictionary or instance of Customer"),
        ("#/bank_account", 1, "Input should be a valid dictionary or instance of BankAccount"),
        ("#/payment", {}, "id or order_id is required"),
        ("#/payment", {"id": "p", "amount": 5}, "currency is required with amount"),
        ("#/items", "1231", "Input should be a valid tuple"),
        ("#/items", [{"id": "1"}] * 201, "Tuple should have at most 200 items after validation, not 201"),
        ("#/custom_references", ["x"] * 4, "Tuple should have at most 3 items after validation, not 4"),
        ("#/metadata", [], "Input should be a valid dictionary"),
        ("#/metadata", {str(number): "" for number in range(51)}, "at most 50 keys"),
        ("#/not_before", "2026-01-31T12:00:00", "Input should have timezone info"),
        ("#/not_before", 1769860800, WRITTEN),
        ("#/not_before", 1769860800.5, WRITTEN),
        ("#/not_before", "1769860800", WRITTEN),
        ("#/not_before", "2026-01-31", WRITTEN),
        ("#/not_before", "tomorrow", WRITTEN),
        ("#/not_before", True, WRITTEN),
    ],
)
def test_a_field_names_its_rule(pointer, value, rule):
    assert faults(with_value(pointer, value)) == [(pointer, rule)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"items": [{"id": "1"}, {"id": "2", "quantity": 0}]}, "#/items/1/quantity"),
        ({"items": [{"id": "1", "quantity": 1000}]}, "#/items/0/quantity"),
        ({"items": [{"quantity": 1}]}, "#/items/0/id"),
        ({"custom_references": ["x", ""]}, "#/custom_references/1"),
        ({"custom_references": ["x" * 256]}, "#/custom_references/0"),
        ({"metadata": {"rma": 5}}, "#/metadata/rma"),
        ({"metadata": {"rma": "x" * 501}}, "#/metadata/rma"),
        ({"metadata": {"x" * 41: "y"}}, "#/metadata/" + "x" * 41),
        ({"metadata": {"a/b~c": 5}}, "#/metadata/a~1b~0c"),
        ({"metadata": {"function-after": 5}}, "#/metadata/function-after"),
    ],
)
def test_a_fault_inside_a_list_or_a_map_is_pointed_at(change, expected):
    ((pointer, _),) = faults({**FULL, **change})

    assert pointer == expected


@pytest.mark.parametrize(
    "pointer", ["#/ammount", "#/payment/foo", "#/customer/foo", "#/customer/address/foo", "#/bank_account/foo"]
)
def test_an_unknown_field_is_refused(pointer):
    assert faults(with_value(pointer, None)) == [(pointer, "there is no such field")]


def test_every_fault_is_reported_at_once():
    job = {"reference": "", "amount": 1.5, "foo": 1, "payment": {"id": 5}}

    assert sorted(pointer for pointer, _ in faults(job)) == [
        "#/account",
        "#/amount",
        "#/foo",
        "#/payment/id",
        "#/reference",
    ]


@pytest.mark.parametrize(
    ("change", "fault", "code"),
    [
        ({"amount": 5, "currency": None}, ("#/currency", "required with amount"), "validation-failed"),
        ({"currency": "EUR"}, ("#/currency", "EUR is not the payment's JPY"), "currency-mismatch"),
        ({"amount": 2101}, ("#/amount", "2101 is more than the payment's 2100"), "amount-exceeds-refundable"),
    ],
)
def test_the_fields_fit_together(change, fault, code):
    with pytest.raises(InvalidJob) as caught:
        parse({**FULL, **change})

    assert [(each.pointer, each.detail) for each in caught.value.errors] == [fault]
    assert caught.value.code == code


def test_no_fault_repeats_what_a_customer_is_called():
    job = with_value("#/customer/email", "john.smith at example.com")
    with pytest.raises(InvalidJob) as caught:
        parse(job)

    assert "smith" not in str(caught.value)


def test_a_missing_amount_means_the_rest():
    job = parse({**FULL, "amount": None, "currency": None})

    assert job.amount is None
    assert job.payment.currency == "JPY"


def test_a_time_keeps_its_offset():
    job = parse({**FULL, "not_before": "2026-01-31T12:00:00+09:00"})

    assert epoch(job.not_before) == datetime(2026, 1, 31, 3, tzinfo=UTC).timestamp()
    assert epoch(None) is None


@pytest.mark.parametrize(
    ("payment", "ref"),
    [
        ({"id": "p-1"}, "p-1"),
        ({"id": "p-1", "order_id": "o-1"}, "p-1"),
        ({"id": "p-1", "capture_id": "c-1"}, "p-1"),
        ({"order_id": "o-1"}, "order:o-1"),
    ],
)
def test_the_ledger_keeps_a_payments_money_under_its_id(payment, ref):
    assert parse({**LEAST, "payment": payment}).payment_ref == ref


# -- bodies ------------------------------------------------------------------------------------------------------------


def refusal(body):
    with pytest.raises(InvalidJob) as caught:
        parse(body)
    (error,) = caught.value.errors

    return caught.value.code, error.pointer, error.detail


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"{", b'{"reference": NaN}', b'{"reference": Infinity}', b"{'reference': 1}", b"\xff\xfe"),
        *(b'{"reference": "\xff"}', b'{"reference": "\\ud800"}', b"\xef\xbb\xbf{}", b"{} {}", b"<html></html>"),
        *(b"[" * 100_000, b'{"payment":' * 50_000, b"{" * 300_000),
    ],
)
def test_what_is_no_json_is_malformed(body):
    code, pointer, detail = refusal(body)

    assert (code, pointer) == ("malformed-json", "#")
    assert detail.startswith("not JSON: ")
    assert len(detail) < 250


@pytest.mark.parametrize("body", [b"null", b"[]", b'"job"', b"12", b"true"])
def test_a_job_is_an_object(body):
    assert refusal(body) == ("validation-failed", "#", "a job is a JSON object")


def test_a_body_beyond_a_mebibyte_is_refused_unread():
    body = b'{"description": "' + b"x" * 10_000_000 + b'"}'

    assert refusal(body) == ("body-too-large", "#", f"the job has {len(body)} bytes, at most {MAX_BYTES} are taken")


def test_deep_nesting_inside_a_field_is_an_ordinary_fault():
    deep = '{"a":' * 500 + "1" + "}" * 500
    with pytest.raises(InvalidJob) as caught:
        parse(f'{{"reference": "R", "account": "a", "payment": {{"id": "p"}}, "metadata": {deep}}}')

    assert caught.value.errors[0].pointer == "#/metadata/a"


def test_text_bytes_and_objects_are_the_same_job():
    assert parse(json.dumps(FULL)) == parse(json.dumps(FULL).encode()) == parse(FULL)


# -- content -----------------------------------------------------------------------------------------------------------


def test_defaults_spelled_out_do_not_change_the_content():
    spelled = {
        **LEAST,
        "amount": None,
        "reason": "requested_by_customer",
        "items": [],
        "customer": {"email": None},
        "bank_account": {},
        "metadata": {},
    }

    assert parse(spelled).content_hash() == parse(LEAST).content_hash()


def test_the_order_of_members_does_not_change_the_content():
    turned = dict(reversed([*FULL.items()]))

    assert parse(turned).content_hash() == parse(FULL).content_hash()


DIFFERENCES = {
    "reference": "other",
    "account": "other",
    "amount": 999,
    "reason": "duplicate",
    "description": "other",
    "items": [{"id": "1231", "quantity": 2}],
    "customer": {"email": "b@example.com"},
    "bank_account": {"bank_name": "other"},
    "not_before": "2026-01-31T12:00:00Z",
    "expect_refundable": 2100,
    "metadata": {"rma": "1002"},
    "payment": {**FULL["payment"], "amount": 2101},
    "statement_descriptor": "other",
    "originator_reference": "other",
    "custom_references": ["other"],
}


@pytest.mark.parametrize(("field", "value"), DIFFERENCES.items())
def test_any_other_value_is_another_content(field, value):
    assert parse({**FULL, field: value}).content_hash() != parse(FULL).content_hash()


def test_every_field_counts_for_the_content():
    assert set(DIFFERENCES) | {"currency"} == set(RefundJob.model_fields)


def test_people_and_banks_are_kept_apart_from_the_rest():
    job = parse(with_value("#/bank_account/iban", "DE02120300000000202051"))

    assert set(job.personal()) == {"customer", "bank_account"}
    assert not {"customer", "bank_account"} & set(job.public())
    assert parse(LEAST).personal() == {}


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_the_canonical_form_does_not_depend_on_order(content):
    turned = dict(reversed([*content.items()]))

    assert canonical(turned) == canonical(content)


def test_differences_are_named_and_not_their_values():
    ours = {"amount": 1, "payment": {"id": "p", "method": "x"}, "metadata": {"a/b": "1"}, "same": 1}
    theirs = {"amount": 2, "payment": {"id": "p"}, "metadata": {"a/b": "2"}, "same": 1, "reason": "other"}

    assert differing(ours, theirs) == ("#/amount", "#/metadata/a~1b", "#/payment/method", "#/reason")
    assert differing(ours, ours) == ()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.lists))
def test_whatever_a_field_holds_the_answer_is_a_job_or_its_faults(value):
    for field in RefundJob.model_fields:
        with suppress(InvalidJob):
            assert parse({**FULL, field: value}).content_hash()


def test_a_kept_job_of_another_form_is_not_guessed_at():
    assert stored('{"amount":5}') == {"amount": 5}
    with pytest.raises(NewerForm, match="form 2"):
        stored('{"amount":5,"form":2}')

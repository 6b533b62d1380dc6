"""Smart2Pay GlobalPay against "Create a Refund": its requests, answered as it answers them."""

import asyncio
import json

import httpx
import pytest

from sandbox.app import create_app

OPEN = {"ID": 1, "Info": "Open", "Reasons": None}
NULLS = {
    "Details": None,
    "Customer": None,
    "BillingAddress": None,
    "BankAddress": None,
    "Articles": None,
}


def post(merchant, account, payment_id, refund, **headers):
    body = json.dumps({"Refund": refund}).encode()
    sent = {**merchant.headers(account), **headers}
    path = f"/v1/payments/{payment_id}/refunds"
    return merchant.http.send(merchant.request("POST", account, path, sent, body))


def reasons(answer):
    return [reason["Code"] for reason in answer.json()["Refund"]["Status"]["Reasons"]]


def unstable(refund, *names):
    return {name: value for name, value in refund.items() if name not in ("ID", "Created", *names)}


def test_the_documents_first_example(merchant):
    merchant.pay("smart2pay", 10_000, id="4520424")
    asked = {
        "MerchantTransactionID": "s2ptest_gi10",
        "Amount": 100,
        "Description": "Refund Test Description",
    }

    answer = post(merchant, "smart2pay", 4520424, asked)

    refund = answer.json()["Refund"]
    assert answer.status_code == 201
    assert refund["ID"] > 0
    assert len(refund["Created"]) == 14
    assert unstable(refund) == {
        "MerchantTransactionID": "s2ptest_gi10",
        "OriginatorTransactionID": None,
        "InitialPaymentID": 4520424,
        "Amount": "100",
        "Currency": "EUR",
        "Description": "Refund Test Description",
        "TypeID": 5,
        "SiteID": 30201,
        **NULLS,
        "Status": OPEN,
        "SplitID": 0,
    }


def test_klarna_invoice_answers_201_with_id_0_and_lists_the_real_one(merchant):
    payment = merchant.pay("smart2pay", 10_000, id="3006154", method="klarna_invoice")
    articles = [{"MerchantArticleID": "1231", "Quantity": 1}]
    asked = {"MerchantTransactionID": "s2ptest_g30", "Amount": 980, "Articles": articles}

    answer = post(merchant, "smart2pay", 3006154, asked)

    article = {
        "MerchantArticleID": "1231",
        "Name": None,
        "Quantity": 1,
        "Price": 0,
        "VAT": 0,
        "Discount": 0,
        "Type": None,
        "DiscountValue": 0,
    }
    assert answer.status_code == 201
    assert answer.json()["Refund"] == {
        "ID": 0,
        "Created": None,
        "MerchantTransactionID": "s2ptest_g30",
        "OriginatorTransactionID": None,
        "InitialPaymentID": 0,
        "Amount": "980",
        "Currency": None,
        "Description": None,
        "TypeID": 0,
        "SiteID": 30201,
        **NULLS,
        "Articles": [article],
        "Status": OPEN,
        "SplitID": 0,
    }
    (listed,) = merchant.http.send(merchant.lookup_call("smart2pay", payment)).json()["Refunds"]
    assert listed["ID"] > 0
    assert listed["MerchantTransactionID"] == "s2ptest_g30"


def test_klarna_invoice_needs_articles(merchant):
    payment = merchant.pay("smart2pay", method="klarna_invoice")

    answer = merchant.refund("smart2pay", payment)

    assert (answer.status_code, reasons(answer)) == (400, ["128"])


def test_klarna_pay_now_as_in_the_document_and_not_without_currency(merchant):
    merchant.pay("smart2pay", 10_000, id="6906966", method="klarna_pay_now", currency="GBP")
    asked = {
        "MerchantTransactionID": "Refund_1716201346",
        "Amount": 100,
        "Currency": "GBP",
        "Description": "test",
        "OriginatorTransactionID": "12345",
        "Articles": [{"MerchantArticleID": "5009000", "Quantity": 1}],
    }
    without = {name: value for name, value in asked.items() if name != "Currency"}

    refused = post(merchant, "smart2pay", 6906966, without)
    wrong = post(merchant, "smart2pay", 6906966, {**asked, "Currency": "EUR"})
    answer = post(merchant, "smart2pay", 6906966, asked)

    refund = answer.json()["Refund"]
    assert (refused.status_code, reasons(refused)) == (400, ["1"])
    assert reasons(wrong) == ["120"]
    assert answer.status_code == 201
    assert refund["Articles"][0] == {
        "MerchantArticleID": "5009000",
        "Name": None,
        "Quantity": 1,
        "Price": "0",
        "VAT": "0",
        "Discount": "0",
        "Type": None,
        "TaxType": 0,
        "DiscountValue": "0",
    }
    assert refund["MethodTransactionID"] is None
    assert (refund["Currency"], refund["TypeID"]) == ("GBP", 1)
    assert refund["OriginatorTransactionID"] == "12345"


def test_a_latam_refund_with_bank_details_and_one_without(merchant):
    merchant.pay("smart2pay", 10_000, id="4070604", method="boleto", currency="PLN")
    other = merchant.pay("smart2pay", 10_000, method="1089")
    details = {
        "CustomerAccountNumber": "A88888888888",
        "BankAccountType": "I",
        "BankName": "Banco do Brasil",
        "BankBranch": "Branch1234",
    }
    customer = {"Email": "test@test.com", "FirstName": "John", "LastName": "Smith"}
    asked = {
        "MerchantTransactionID": "s2ptest_f201",
        "Amount": 400,
        "Details": details,
        "Customer": customer,
    }

    refund = post(merchant, "smart2pay", 4070604, asked).json()["Refund"]
    bare = merchant.refund("smart2pay", other, 400)

    shown = refund["Customer"]
    assert (refund["TypeID"], refund["Details"], refund["Currency"]) == (10, details, "PLN")
    assert {name: shown[name] for name in customer} == customer
    assert {"ID", "MerchantCustomerID", "Gender", "Phone", "DateOfBirth"} < set(shown)
    assert bare.status_code == 201


def test_the_documents_card_refund_succeeds_at_once(merchant):
    made = merchant.control(
        "POST",
        "/payments",
        {
            "provider": "smart2pay_card",
            "amount": 3000,
            "currency": "EUR",
            "id": "202246",
            "captures": [1000, 2000],
        },
    )
    capture = int(made["captures"]["202246"][0]["id"])
    asked = {
        "MerchantTransactionID": "s2ptest_h19",
        "OriginatorTransactionID": "108_a",
        "Amount": 1000,
        "Description": "refund reason",
        "StatementDescriptor": "refund ",
        "CaptureID": capture,
    }

    answer = post(merchant, "smart2pay_card", 202246, asked)

    assert answer.status_code == 201
    assert unstable(answer.json()["Refund"]) == {
        "SiteID": 1010,
        "MerchantTransactionID": "s2ptest_h19",
        "OriginatorTransactionID": "108_a",
        "InitialPaymentID": 0,
        "Amount": 1000,
        "Currency": "EUR",
        "Description": "refund reason",
        "StatementDescriptor": None,
        "CaptureID": capture,
        "Customer": None,
        "BillingAddress": None,
        "BankAddress": None,
        "Articles": None,
        "Status": {"ID": 2, "Info": "Success", "Reasons": []},
        "SplitID": 0,
    }
    assert len(merchant.ledger()) == 1


def test_several_captures_need_a_capture_id_and_each_has_its_own_rest(merchant):
    made = merchant.control(
        "POST",
        "/payments",
        {"provider": "smart2pay_card", "amount": 3000, "captures": [1000, 2000]},
    )
    (payment,) = made["payments"]
    first, second = (int(each["id"]) for each in made["captures"][payment["id"]])

    def refund(handle, amount, **more):
        asked = {"MerchantTransactionID": handle, "Amount": amount, **more}
        return post(merchant, "smart2pay_card", payment["id"], asked)

    assert reasons(refund("a", 100)) == ["2"]
    assert reasons(refund("b", 100, CaptureID=1)) == ["2"]
    assert reasons(refund("c", 1001, CaptureID=first)) == ["2206"]
    assert refund("d", 1000, CaptureID=first).status_code == 201
    assert refund("e", 2000, CaptureID=second).status_code == 201
    assert reasons(refund("f", 1, CaptureID=second)) == ["23"]


def test_the_documents_134_has_a_record_of_its_own(merchant):
    payment = merchant.pay("smart2pay", 10_000, id="4520424", pending_seconds=60)
    merchant.refund("smart2pay", payment, 100, "s2ptest_gi10")

    answer = merchant.refund("smart2pay", payment, 100, "s2ptest_gi11")

    refund = answer.json()["Refund"]
    assert answer.status_code == 400
    assert refund["ID"] > 0
    assert refund["MerchantTransactionID"] == "s2ptest_gi11"
    assert refund["Amount"] == "100"
    assert refund["Status"] == {
        "ID": 4,
        "Info": "Failed",
        "Reasons": [{"Code": "134", "Info": "Another refund is already in process"}],
    }
    listed = merchant.http.send(merchant.lookup_call("smart2pay", payment)).json()["Refunds"]
    assert [each["Status"]["ID"] for each in listed] == [4, 1]


def test_another_card_refund_in_process_is_2207_without_a_record(merchant):
    payment = merchant.pay("smart2pay_card", 10_000, pending_seconds=60)
    merchant.refund("smart2pay_card", payment, 100, "a")

    answer = merchant.refund("smart2pay_card", payment, 100, "b")

    assert (answer.status_code, reasons(answer)) == (400, ["2207"])
    assert answer.json()["Refund"]["ID"] is None
    listed = merchant.http.send(merchant.lookup_call("smart2pay_card", payment)).json()["Refunds"]
    assert [each["MerchantTransactionID"] for each in listed] == ["a"]


@pytest.mark.parametrize("account", ["smart2pay", "smart2pay_card"])
def test_a_duplicate_is_20_and_does_not_show_the_original(merchant, account):
    payment, other = merchant.pay(account), merchant.pay(account)
    merchant.refund(account, payment, 100, "same")

    for target in (payment, other):
        answer = merchant.refund(account, target, 100, "same")
        refund = answer.json()["Refund"]
        assert (answer.status_code, reasons(answer)) == (400, ["20"])
        assert refund["ID"] is None
        assert refund["Status"]["ID"] is None


@pytest.mark.parametrize("account", ["smart2pay", "smart2pay_card"])
def test_the_two_sites_do_not_see_each_others_payments(merchant, account):
    payment = merchant.pay(account)
    other = {"smart2pay": "smart2pay_card"}.get(account, "smart2pay")

    assert merchant.refund(other, payment).status_code == 404
    assert merchant.get(other, f"/v1/payments/{payment['id']}").status_code == 404


@pytest.mark.parametrize(("account", "code"), [("smart2pay", "118"), ("smart2pay_card", "2206")])
def test_more_than_available(merchant, account, code):
    payment = merchant.pay(account, 1000)

    assert reasons(merchant.refund(account, payment, 1001)) == [code]
    assert merchant.ledger() == []


@pytest.mark.parametrize(("account", "code"), [("smart2pay", "118"), ("smart2pay_card", "2208")])
def test_full_only_payments_refuse_a_part(merchant, account, code):
    payment = merchant.pay(account, 1000, partial_refunds=False)

    assert reasons(merchant.refund(account, payment, 999, "a")) == [code]
    assert merchant.refund(account, payment, 1000, "b").status_code == 201


def test_a_fully_refunded_card_payment_is_already_processed(merchant):
    payment = merchant.pay("smart2pay_card", 1000)
    merchant.refund("smart2pay_card", payment, 1000, "a")

    assert reasons(merchant.refund("smart2pay_card", payment, 1, "b")) == ["23"]
    shown = merchant.get("smart2pay_card", f"/v1/payments/{payment['id']}").json()["Payment"]
    assert (shown["Status"]["Info"], shown["CapturedAmount"]) == ("Refunded", 1000)


@pytest.mark.parametrize(
    ("account", "state", "code"),
    [("smart2pay", "open", "17"), ("smart2pay_card", "authorized", "2205")],
)
def test_only_paid_and_captured_payments_can_be_refunded(merchant, account, state, code):
    payment = merchant.pay(account, state=state)

    answer = merchant.refund(account, payment)

    assert reasons(answer) == [code]
    assert answer.json()["Refund"]["Status"]["Info"] is None


def test_a_card_request_id_replays_the_first_answer_whatever_it_was(merchant):
    payment = merchant.pay("smart2pay_card", 1000)
    asked = {"MerchantTransactionID": "a", "Amount": 600}

    def send(key, body):
        return post(merchant, "smart2pay_card", payment["id"], body, RequestId=key)

    first, replay = send("r1", asked), send("r1", asked)
    refused, same = send("r2", asked), send("r2", asked)
    other = send("r1", {**asked, "Amount": 1})

    assert first.status_code == 201
    assert replay.content == first.content
    assert reasons(refused) == ["20"]
    assert same.content == refused.content
    assert reasons(other) == ["20"]
    assert len(merchant.ledger()) == 1


def test_the_apm_site_knows_no_request_id(merchant):
    payment = merchant.pay("smart2pay")
    asked = {"MerchantTransactionID": "a", "Amount": 600}
    answers = [post(merchant, "smart2pay", payment["id"], asked, RequestId="r1").status_code for _ in range(2)]

    assert answers == [201, 400]


def test_a_request_id_is_forgotten_after_a_day():
    now = [1_700_000_000.0]
    app = create_app(clock=lambda: now[0])

    async def scenario():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as http:
            body = {"provider": "smart2pay_card", "amount": 1000, "id": "77"}
            await http.post("/_sandbox/payments", json=body)
            own = (await http.get("/_sandbox/credentials")).json()["smart2pay_card"]
            codes = []
            for wait in (0, 24 * 3600 - 1, 1):
                now[0] += wait
                answer = await http.post(
                    f"{own['base_url']}/v1/payments/77/refunds",
                    json={"Refund": {"MerchantTransactionID": "a", "Amount": 600}},
                    headers={"RequestId": "r"},
                    auth=(own["site_id"], own["api_key"]),
                )
                codes.append(answer.status_code)
            return codes

    assert asyncio.run(scenario()) == [201, 201, 400]


@pytest.mark.parametrize(
    ("change", "code", "card_code"),
    [
        ({"MerchantTransactionID": "with space"}, "2", "2200"),
        ({"MerchantTransactionID": "x" * 51}, "2", "2200"),
        ({"Amount": None}, "1", "2201"),
        ({"Amount": 0}, "118", "2201"),
        ({"Amount": 1.5}, "118", "2201"),
        ({"Amount": "12,00"}, "118", "2201"),
        ({"Currency": "USD"}, "120", "2202"),
        ({"Description": "x" * 256}, "2", "2203"),
        ({"OriginatorTransactionID": "a b"}, "2", "2209"),
        ({"Articles": [{"Quantity": 1}]}, "128", "2"),
        ({"Details": {"IBAN": "x"}}, "117", "2"),
        ({"Colour": "red"}, "2", "2"),
    ],
)
@pytest.mark.parametrize("account", ["smart2pay", "smart2pay_card"])
def test_each_field_is_checked(merchant, account, change, code, card_code):
    payment = merchant.pay(account)
    asked = {"MerchantTransactionID": "a", "Amount": 100, **change}

    answer = post(merchant, account, payment["id"], asked)

    expected = card_code if account == "smart2pay_card" else code
    assert (answer.status_code, reasons(answer)) == (400, [expected])
    assert merchant.ledger() == []


def test_an_amount_may_be_a_string_of_digits(merchant):
    payment = merchant.pay("smart2pay")

    answer = post(merchant, "smart2pay", payment["id"], {"MerchantTransactionID": "a", "Amount": "100"})

    assert answer.status_code == 201


def test_the_handle_is_generated_where_none_is_sent(merchant):
    payment = merchant.pay("smart2pay")

    answer = post(merchant, "smart2pay", payment["id"], {"Amount": 100})

    assert answer.json()["Refund"]["MerchantTransactionID"].startswith("generated_")


def test_a_sepa_refund_needs_name_and_iban(merchant):
    payment = merchant.pay("smart2pay", method="mrcash")
    asked = {"MerchantTransactionID": "a", "Amount": 100}
    customer = {"FirstName": "John", "LastName": "Smith"}
    details = {"CustomerIBAN": "NL91ABNA0417164300", "BankCode": "ABNANL2A"}

    def send(**more):
        return post(merchant, "smart2pay", payment["id"], {**asked, **more})

    assert reasons(send()) == ["116"]
    assert reasons(send(Customer=customer)) == ["117"]
    assert send(Customer=customer, Details=details).status_code == 201
    types = merchant.get("smart2pay", f"/v1/payments/{payment['id']}/refunds/types").json()
    assert set(types["RefundTypes"][0]["Details"]) == {"CustomerIBAN", "BankCode"}
    assert types["RefundTypes"][0]["AllowsPartialRefund"] is True


def test_refund_types_can_be_asked_before_a_payment_exists(merchant):
    types = merchant.get("smart2pay", "/v1/refunds/types/2/NL/EUR").json()["RefundTypes"]

    assert [(each["ID"], each["Details"]) for each in types] == [(5, None)]


def test_yen_is_sent_with_two_decimals_all_the_same(merchant, eventually):
    payment = merchant.pay("smart2pay", 1000, currency="JPY")

    assert reasons(merchant.refund("smart2pay", payment, 10_050, "a")) == ["118"]
    assert merchant.refund("smart2pay", payment, 10_000, "b").status_code == 201
    eventually(lambda: [entry["amount"] for entry in merchant.ledger()] == [100])


def test_the_card_status_call_uses_state_details(merchant):
    payment = merchant.pay("smart2pay_card")
    refund = merchant.refund("smart2pay_card", payment).json()["Refund"]

    path = f"/v1/payments/{payment['id']}/refunds/{refund['ID']}/status"
    shown = merchant.get("smart2pay_card", path).json()["Refund"]

    assert shown["StateDetails"]["Info"] == "Success"
    assert shown["InitialPaymentID"] == int(payment["id"])


def test_wrong_credentials_are_401(merchant):
    payment = merchant.pay("smart2pay")
    asked = {"MerchantTransactionID": "a", "Amount": 100}
    right = merchant.credentials["smart2pay"]

    for wrong in (("30201", "no"), ("999", right["api_key"]), ("1010", right["api_key"])):
        request = httpx.Request("POST", f"{right['base_url']}/v1/payments/{payment['id']}/refunds", json=asked)
        assert merchant.http.send(request, auth=wrong).status_code == 401

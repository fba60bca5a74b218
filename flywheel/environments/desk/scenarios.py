"""What users ask of the support desk, and the hidden facts that decide what is right."""

from __future__ import annotations

import random
from collections.abc import Mapping

from flywheel.environments.calls import Call, World
from flywheel.environments.cases import Branch, Scenario

ORDERS = tuple(f"O{i}" for i in range(10, 40))
CUSTOMERS = tuple(f"C{i}" for i in range(10, 20))

FRAMES = {
    "bare": "{ask}.",
    "hello": "Hello. {ask}. Thank you.",
    "named": "I am {customer}. {ask}.",
    "signed": "{ask}. My number is {customer}.",
    "urgent": "{ask} now, please.",
}


def draw(rng: random.Random) -> dict[str, str]:
    """The order and the customer of a task."""
    return {"order": rng.choice(ORDERS), "customer": rng.choice(CUSTOMERS)}


def base(rng: random.Random, names: Mapping[str, str]) -> World:
    """Facts that a scenario may leave as they fall: looking at them decides nothing."""
    order, customer = names["order"], names["customer"]
    return {
        f"{order}.status": rng.choice(("packed", "shipped")),
        f"{order}.policy": rng.choice(("open", "closed")),
        f"{order}.stock": rng.choice(("in", "sold")),
        f"{customer}.level": rng.choice(("gold", "basic")),
    }


def _on_order(name: str) -> Call:
    return Call(name, {"order": "{order}"})


POLICY, STOCK, STATUS = _on_order("check_policy"), _on_order("check_stock"), _on_order("lookup_order")
REFUND, REPLACE = _on_order("refund_order"), _on_order("replace_order")
CANCEL, ESCALATE = _on_order("cancel_order"), _on_order("escalate")
LEVEL = Call("lookup_customer", {"customer": "{customer}"})
VOUCHER = Call("send_voucher", {"customer": "{customer}"})

# What is said once a deed is done; a refusal names what it refuses.
SAID = {
    REFUND.name: "Done, {order} is refunded.",
    REPLACE.name: "Done, {order} is replaced.",
    CANCEL.name: "Done, {order} is cancelled.",
    ESCALATE.name: "Done, {order} is escalated.",
    VOUCHER.name: "Done, {customer} is rewarded.",
}
REFUSED = "Sorry, not for {order}."


def _branch(weight: int, look: Call, fact: str, value: str, act: Call | None, refused: str = REFUSED) -> Branch:
    return Branch(
        weight=weight,
        facts={fact: value},
        looks=(look,),
        evidence=(fact,),
        act=(act,) if act else (),
        say=SAID[act.name] if act else refused,
    )


def _scenario(name: str, asks: tuple[str, ...], hasty: Call, *branches: Branch) -> Scenario:
    return Scenario(name=name, asks=asks, branches=branches, hasty=hasty, hasty_say=SAID[hasty.name])


STATUS_FACT, POLICY_FACT, STOCK_FACT, LEVEL_FACT = (
    "{order}.status",
    "{order}.policy",
    "{order}.stock",
    "{customer}.level",
)

SCENARIOS = (
    _scenario(
        "refund",
        ("I want my money back for {order}", "Refund order {order}"),
        REFUND,
        _branch(58, POLICY, POLICY_FACT, "open", REFUND),
        _branch(27, POLICY, POLICY_FACT, "closed", None),
        _branch(15, POLICY, POLICY_FACT, "review", ESCALATE),
    ),
    _scenario(
        "cancel",
        ("Cancel order {order}", "I do not want {order} any more"),
        CANCEL,
        _branch(57, STATUS, STATUS_FACT, "packed", CANCEL),
        _branch(43, STATUS, STATUS_FACT, "shipped", None),
    ),
    _scenario(
        "broken",
        ("Order {order} came broken", "{order} does not work"),
        REPLACE,
        _branch(57, STOCK, STOCK_FACT, "in", REPLACE),
        _branch(43, STOCK, STOCK_FACT, "sold", REFUND),
    ),
    _scenario(
        "missing",
        ("Order {order} never came", "I still wait for {order}"),
        REPLACE,
        _branch(57, STATUS, STATUS_FACT, "lost", REPLACE),
        _branch(43, STATUS, STATUS_FACT, "shipped", None),
    ),
    _scenario(
        "returned",
        ("I sent order {order} back", "My parcel {order} is on its way back"),
        REFUND,
        _branch(57, STATUS, STATUS_FACT, "returned", REFUND),
        _branch(43, STATUS, STATUS_FACT, "shipped", None),
    ),
    _scenario(
        "voucher",
        ("Send {customer} a voucher", "Where is the voucher of {customer}"),
        VOUCHER,
        _branch(57, LEVEL, LEVEL_FACT, "gold", VOUCHER),
        _branch(43, LEVEL, LEVEL_FACT, "basic", None, "Sorry, not for {customer}."),
    ),
    _scenario(
        "warranty",
        ("Order {order} stopped after a week", "After a month {order} is dead"),
        REPLACE,
        Branch(
            weight=57,
            facts={POLICY_FACT: "open", STOCK_FACT: "in"},
            looks=(POLICY, STOCK),
            evidence=(POLICY_FACT, STOCK_FACT),
            act=(REPLACE,),
            say=SAID[REPLACE.name],
        ),
        Branch(
            weight=18,
            facts={POLICY_FACT: "open", STOCK_FACT: "sold"},
            looks=(POLICY, STOCK),
            evidence=(POLICY_FACT, STOCK_FACT),
            act=(REFUND,),
            say=SAID[REFUND.name],
        ),
        _branch(25, POLICY, POLICY_FACT, "closed", None),
    ),
)

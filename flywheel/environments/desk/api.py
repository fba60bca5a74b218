"""The mock API of the support desk: what each tool shows of the world, and what it does to it.

The API carries out what it is told, right or wrong: whether an order may be refunded is for the agent to find out.
"""

from __future__ import annotations

from flywheel.environments.calls import ALREADY_DONE, NOTHING_THERE, Answer, CallError, Handler, World, tool

ORDER = "Number of the order"
CUSTOMER = "Number of the customer"

TOOLS = (
    tool("cancel_order", "Cancel an order. Right only while it is packed, not once it has shipped.", order=ORDER),
    tool("check_policy", "Whether an order's refund and warranty are open, closed or up for review.", order=ORDER),
    tool("check_stock", "Whether what was ordered is in stock or sold out.", order=ORDER),
    tool("escalate", "Pass an order on to a person. Right where its policy says review.", order=ORDER),
    tool("lookup_customer", "The level of a customer: gold or basic.", customer=CUSTOMER),
    tool("lookup_order", "The status of an order: packed, shipped, lost or returned.", order=ORDER),
    tool("refund_order", "Pay the money back. Right under an open policy, and for what has returned.", order=ORDER),
    tool("replace_order", "Send an order again. Right while in stock, where it broke or is lost.", order=ORDER),
    tool("send_voucher", "Send a customer a voucher. Right for gold customers alone.", customer=CUSTOMER),
)

# What each reading tool shows: the parameter that names the thing, the fact, and the words around its value.
SHOWS = {
    "check_policy": ("order", "policy", "policy is"),
    "check_stock": ("order", "stock", "stock is"),
    "lookup_customer": ("customer", "level", "level is"),
    "lookup_order": ("order", "status", "status is"),
}

# What each writing tool does: the parameter that names the thing, and the fact that it leaves behind.
DOES = {
    "cancel_order": ("order", "cancelled"),
    "escalate": ("order", "escalated"),
    "refund_order": ("order", "refunded"),
    "replace_order": ("order", "replaced"),
    "send_voucher": ("customer", "rewarded"),
}

READING = frozenset(SHOWS)


def _reader(parameter: str, fact: str, words: str) -> Handler:
    def read(world: World, arguments: dict[str, str]) -> Answer:
        key = f"{arguments[parameter]}.{fact}"
        if key not in world:
            raise CallError(NOTHING_THERE)
        return Answer(f"{words} {world[key]}", (key,))

    return read


def _writer(parameter: str, deed: str) -> Handler:
    known = "level" if parameter == "customer" else "status"

    def write(world: World, arguments: dict[str, str]) -> Answer:
        thing = arguments[parameter]
        if f"{thing}.{known}" not in world:
            raise CallError(NOTHING_THERE)
        if f"{thing}.{deed}" in world:
            raise CallError(ALREADY_DONE)
        world[f"{thing}.{deed}"] = "yes"
        return Answer(deed)

    return write


HANDLERS: dict[str, Handler] = {
    **{name: _reader(*shown) for name, shown in SHOWS.items()},
    **{name: _writer(*done) for name, done in DOES.items()},
}

"""What users ask of the file system, and the hidden facts that decide what is right."""

from __future__ import annotations

import random
from collections.abc import Mapping

from flywheel.environments.calls import Call, World
from flywheel.environments.cases import Branch, Scenario

# fmt: off
FOLDERS = (
    "mail", "web", "shop", "auth", "pay", "chat", "map", "news", "blog", "wiki", "docs", "jobs",
    "tax", "bank", "book", "cart", "club", "game", "home", "lab", "menu", "radio", "song", "team",
)
# fmt: on
NUMBERS = tuple(str(i) for i in range(2, 10))
KEYS = ("retries", "timeout", "workers", "limit")
LINES = ("paid", "sent", "late", "new")

FRAMES = {
    "bare": "{ask}.",
    "hello": "Hello. {ask}. Thank you.",
    "next": "Next on my list: {ask}.",
    "please": "Please do this: {ask}.",
    "urgent": "{ask} now, please.",
}


def draw(rng: random.Random) -> dict[str, str]:
    """The folder of a task, and what may be written there."""
    value, old, other = rng.sample(NUMBERS, 3)
    return {
        "folder": rng.choice(FOLDERS),
        "key": rng.choice(KEYS),
        "value": value,
        "old": old,
        "other": other,
        "line": rng.choice(LINES),
    }


def base(rng: random.Random, names: Mapping[str, str]) -> World:
    """Files that a scenario may leave as they fall: looking at them decides nothing."""
    folder = names["folder"]
    world = {
        f"{folder}/config": f"{names['key']} {names['old']}",
        f"{folder}/live": rng.choice(("config", "override")),
        f"{folder}/override": f"{names['key']} {names['other']}",
    }
    if rng.random() < 0.5:
        world[f"{folder}/lock"] = "on"
    return world


def _scenario(name: str, asks: tuple[str, ...], hasty: Call, hasty_say: str, *branches: Branch) -> Scenario:
    return Scenario(name=name, asks=asks, branches=branches, hasty=hasty, hasty_say=hasty_say)


def _read(name: str) -> Call:
    return Call("read_file", {"path": "{folder}/" + name})


def _branch(weight: int, name: str, content: str, act: Call | None, say: str) -> Branch:
    """Decided by what a file of the folder says."""
    fact = "{folder}/" + name
    acts = (act,) if act else ()
    return Branch(weight=weight, facts={fact: content}, looks=(_read(name),), evidence=(fact,), act=acts, say=say)


def _locked(weight: int, name: str, locked: bool, act: Call | None, say: str) -> Branch:
    """Decided by whether the folder holds a lock."""
    return Branch(
        weight=weight,
        facts={"{folder}/" + name: "old", "{folder}/lock": "on" if locked else None},
        looks=(Call("list_dir", {"path": "{folder}"}),),
        evidence=("{folder}/lock?" if locked else "{folder}/",),
        act=(act,) if act else (),
        say=say,
    )


def _set(name: str) -> Call:
    return Call("set_value", {"path": "{folder}/" + name, "key": "{key}", "value": "{value}"})


def _append(name: str) -> Call:
    return Call("append_line", {"path": "{folder}/" + name, "line": "{line}"})


def _on(tool: str, name: str) -> Call:
    return Call(tool, {"path": "{folder}/" + name})


def _from(tool: str, source: str, target: str) -> Call:
    return Call(tool, {"source": source, "target": target})


RESTORE = _from("copy_file", "{folder}/backup", "{folder}/config")
ARCHIVE = _from("move_file", "{folder}/report", "{folder}/archive")
SPARE = _from("move_file", "{folder}/cache", "{folder}/spare")
NEW_KEY = Call("write_file", {"path": "{folder}/key", "text": "{value}"})

DONE = "Done, {folder} is %s."
REFUSED = "Sorry, not for {folder}."

SCENARIOS = (
    _scenario(
        "setting",
        ("Set {key} to {value} for {folder}", "{folder} needs {key} at {value}"),
        _set("config"),
        DONE % "set",
        _branch(62, "live", "config", _set("config"), DONE % "set"),
        _branch(38, "live", "override", _set("override"), DONE % "set"),
    ),
    _scenario(
        "clean",
        ("Delete the log of {folder}", "Clean up the log in {folder}"),
        _on("delete_file", "log"),
        DONE % "clean",
        _locked(62, "log", False, _on("delete_file", "log"), DONE % "clean"),
        _locked(38, "log", True, None, REFUSED),
    ),
    _scenario(
        "cache",
        ("Delete the cache of {folder}", "Clean up the cache in {folder}"),
        _on("delete_file", "cache"),
        DONE % "clean",
        _locked(62, "cache", False, _on("delete_file", "cache"), DONE % "clean"),
        _locked(38, "cache", True, SPARE, DONE % "moved"),
    ),
    _scenario(
        "archive",
        ("Move the report of {folder} to the archive", "Archive the report in {folder}"),
        ARCHIVE,
        DONE % "moved",
        _branch(62, "report", "final", ARCHIVE, DONE % "moved"),
        _branch(38, "report", "draft", None, REFUSED),
    ),
    _scenario(
        "notes",
        ("Add {line} to the notes of {folder}", "Put {line} in the notes for {folder}"),
        _append("notes"),
        DONE % "added",
        _branch(62, "notes", "open", _append("notes"), DONE % "added"),
        _branch(38, "notes", "full", _append("more"), DONE % "added"),
    ),
    _scenario(
        "restore",
        ("Restore the config of {folder}", "Copy the backup over the config in {folder}"),
        RESTORE,
        DONE % "restored",
        _branch(62, "backup", "good", RESTORE, DONE % "restored"),
        _branch(38, "backup", "broken", None, REFUSED),
    ),
    _scenario(
        "key",
        ("Write {value} as the key of {folder}", "{folder} needs {value} as its key"),
        NEW_KEY,
        DONE % "written",
        _branch(62, "owner", "own", NEW_KEY, DONE % "written"),
        _branch(38, "owner", "shared", None, REFUSED),
    ),
)

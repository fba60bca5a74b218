"""Writes the sample beside it: conversations of the simulated agents, as OpenAI chat JSON Lines."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from flywheel.environments import week
from flywheel.rollout.episode import Episode, play
from flywheel.views.messages import to_messages

PLACE = Path(__file__).parent
# A day on which two versions of the agents work, and as many tasks as fit a small file.
DAY, SEED, TASKS = 5, 0, 24


def main(place: Path = PLACE) -> None:
    """Play a day's tasks and write one file an environment; each run writes the same bytes."""
    shifts = groupby(week.plan(DAY, SEED, TASKS), key=lambda a: (a.environment.name, a.agent.version))
    lines: dict[str, list[str]] = {}
    for (name, version), shift in shifts:
        assigned = list(shift)
        environment, agent = assigned[0].environment, assigned[0].agent
        for episode in play(environment, [a.task for a in assigned], agent, temperature=1.0, seed=SEED):
            about = {"agent": agent.name, "agent_version": version, "task_type": name}
            line = {"id": episode.task.id, **about, **said(episode), "tools": list(environment.tools)}
            lines.setdefault(name, []).append(json.dumps(line, ensure_ascii=False))
    for name, written in lines.items():
        (place / f"{name}.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")


def said(episode: Episode) -> dict[str, Any]:
    """What was said, and what the checker made of it."""
    messages = to_messages(episode.steps)
    for message in messages:
        for call in message.get("tool_calls", ()):
            # The API carries arguments as text.
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return {
        "task_id": episode.task.id,
        "task_group": episode.task.group,
        "reward": float(episode.score.success),
        "messages": messages,
    }


if __name__ == "__main__":
    main()

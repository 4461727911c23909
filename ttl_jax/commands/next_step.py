"""The command to type next, said at the end of a command in the words that it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ttl_jax.commands.arguments import joined
from ttl_jax.config.run import split_top_level

# What may stand behind the colon of a preset, and the fields of a comparison that say the same.
LISTS = {"dataset": "compare.datasets", "model": "compare.models"}
VALUES = {"data_dir": "compare.data_dir", "weights": "model.weights"}


def compare_with(arguments: Sequence[str], workdir: str, strategies: Iterable[str]) -> str:
    """A comparison of strategies on the data and the network that a training or a search was given.

    Args:
        arguments: words behind that command's name.
        workdir: its work folder; the comparison's stands beside it.
        strategies: the strategies to compare.
    """
    from ttl_jax.training.records.provenance import quoted

    words = ["ttl-jax", "compare", "--config=compare"]
    for word in joined(arguments):
        if word.startswith(("--config.data.", "--config.model.")):
            words.append(word)
        elif word.startswith("--config="):
            for item in split_top_level(word.partition(":")[2]):
                name, _, value = (part.strip() for part in item.partition("="))
                words += [f"--config.{LISTS[name]}={(value,)}"] if name in LISTS else []
                words += [f"--config.{VALUES[name]}={value}"] if name in VALUES else []
    words += [f"--config.compare.strategies={tuple(dict.fromkeys(strategies))}"]
    words += [f"--workdir={workdir.rstrip('/')}-compare"]
    return f"next, against other strategies on the same data: {' '.join(map(quoted, words))}"


def more_seeds(comparison: Mapping[str, Any]) -> str:
    """The seeds that would settle what a comparison leaves open; else where to see more of its runs.

    Args:
        comparison: the content of compare.json.
    """
    asked = [each.get("needed_seeds") for each in comparison["statistics"]["differences"]]
    enough, seeds = max((count for count in asked if count), default=0), comparison["protocol"]["seeds"]
    if enough <= len(seeds):
        return "next, which runs there are: ttl-jax runs"
    first = max(seeds) + 1
    wanted = (*seeds, *range(first, first + enough - len(seeds)))
    return (
        f'next, to settle what is open: the same command with --config.compare.seeds="{wanted}"; what is '
        "done is not done again"
    )

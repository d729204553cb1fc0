"""What a run was trained on, told by content: ``trained_on.json`` in its folder.

Files are renamed, moved and replaced, and folders grow; splits then are others. Whether a training goes on with the
same frames, and whether test frames are among those that were trained on, only the frames can tell.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from htsr.errors import DAMAGE, InputError
from htsr.files import new_file

NAME = "trained_on.json"
STILL = set("0")  # the digits of a block of equal frames, as htsr.data.video.contents has it

Parts = Sequence[Sequence]  # (name, first frame, last + 1, digests of blocks), as ``WindowSource.contents`` has them


def keep(run: Path, parts: Parts, resumed: bool) -> None:
    """Write down what a run is trained on, or hold it against what is written there.

    Args:
        run: the run folder.
        parts: what it is going to be trained on.
        resumed: whether it has been trained before.

    Raises:
        InputError: it was trained on something else.
    """
    before = _read(run) if resumed else None
    if before is None:
        with new_file(run / NAME) as file:
            json.dump({"train": [list(part) for part in parts]}, file)
        return
    if [list(part[1:]) for part in parts] == [part[1:] for part in before]:
        return
    old, new = ({tuple(part[1:]): part[0] for part in some} for some in (before, parts))
    changes = [f"{old[part]} is not there any more" for part in old if part not in new]
    changes += [f"{new[part]} is new" for part in new if part not in old]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    raise InputError(
        f"{run} was trained on other data ({'; '.join(changes[:3]) or 'in another order'}{more}); give it that data, or"
        " give another --name"
    )


def seen(run: Path, parts: Parts, size: int, digits: int) -> str | None:
    """Say which of some frames a run was trained on; None where it was trained on none, or does not say.

    Args:
        run: the run folder.
        parts: what is asked about.
        size: frames of a block.
        digits: of its digest.
    """
    trained = {digest for part in _read(run) or [] for digest in _blocks(part, digits)}
    known: Counter[str] = Counter()
    for part in parts:
        known[part[0]] += sum(digest in trained for digest in _blocks(part, digits))
    names = [name for name, count in known.items() if count]
    if not names:
        return None
    count, total = size * known.total(), sum(stop - start for _, start, stop, _ in parts)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"the model was trained on {min(count, total):,} of the {total:,} frames of this test split"
        f" ({', '.join(names[:3])}{more}): the data has changed since, and these numbers are no test"
    )


def _blocks(part: Sequence, digits: int) -> list[str]:
    text = part[3]
    return [text[at : at + digits] for at in range(0, len(text), digits) if set(text[at : at + digits]) != STILL]


def _read(run: Path) -> list | None:
    path = run / NAME
    if not path.is_file():
        return None
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))["train"]
        return [[str(name), int(start), int(stop), str(digests)] for name, start, stop, digests in parts]
    except DAMAGE as error:
        raise InputError(f"{path} is damaged ({error}); remove it: what was trained on is then unknown") from None

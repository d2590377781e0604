"""The picture of ``docs/answers/faithfulness.md``: curves of deletion and insertion, creatures.

python benchmarks/faithful_picture.py
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks.faithful import of_creatures
from explgraph.answers.faithfulness import faithfulness

PLACE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "faithful.png"


def main() -> None:
    one = of_creatures(small=False)
    found = faithfulness(one.model, one.graph, one.images, one.classes, first=3)
    found.write(PLACE)
    print(f"{found.told}\n{PLACE}")


if __name__ == "__main__":
    main()

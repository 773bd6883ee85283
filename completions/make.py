"""Write what is made from the options: completions, the man page, and the README's command reference.

python completions/make.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compresskit.cli import reference

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- made by completions/make.py: begin -->\n", "<!-- end -->\n"
FILES: dict[str, Callable[[], str]] = {
    "compresskit.bash": reference.bash,
    "_compresskit": reference.zsh,
    "compresskit.fish": reference.fish,
    "compresskit.1": reference.man_page,
}


def readme(text: str) -> str:
    """`text` with what lies between the two marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in reference.EXIT_CODES)
    return f"{before}{BEGIN}\n{reference.markdown()}\n### Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n\n{END}{after}"


if __name__ == "__main__":
    for name, make in FILES.items():
        (FOLDER / name).write_text(make())
    README.write_text(readme(README.read_text()))

"""Tables of text, numbers to the right."""

from collections.abc import Sequence


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell in ("", "-")


def render(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as text; a column whose cells are all numbers is set to the right."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    right = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        set_cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(set_cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([title, line(header), rule, *map(line, rows), ""])


def ms(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}x" if theirs else "-"

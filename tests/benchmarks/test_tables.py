from __future__ import annotations

import json
from pathlib import Path

from benchmarks.tables import Table, write

TABLE = Table("Times", "In seconds.", ("who", "seconds", "ratio"), [["we", 0.123456, 1.0], ["they", 12345.6, None]])


def test_numbers_are_rounded_and_missing_values_are_dashes() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[0] == "## Times"
    assert lines[2] == "In seconds."
    assert [cell.strip() for cell in lines[6].strip("|").split("|")] == ["we", "0.1235", "1.0000"]
    assert [cell.strip() for cell in lines[7].strip("|").split("|")] == ["they", "12346", "—"]


def test_the_files_contain_the_table_and_the_command(tmp_path: Path) -> None:
    write([TABLE], "# Heading\n", tmp_path / "new", {"command": "python -m benchmarks"})
    content = json.loads((tmp_path / "new" / "report.json").read_text())
    assert content["command"] == "python -m benchmarks"
    assert content["tables"][0]["rows"][1] == {"who": "they", "seconds": 12345.6, "ratio": None}
    assert (tmp_path / "new" / "report.md").read_text() == f"# Heading\n\n{TABLE.markdown()}"

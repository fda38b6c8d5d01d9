"""Every test case of the ONNX standard that has a meaning here passes, and the table in docs says so."""

from __future__ import annotations

import pytest
from onnx_conformance import TABLE, outcomes, table


@pytest.mark.slow
def test_every_case_in_scope_passes_and_the_table_is_current() -> None:
    found = outcomes()
    assert [(o.case.name, o.failure) for o in found if o.failure] == []
    assert sum(not o.reason for o in found) >= 1300
    assert TABLE.read_text(encoding="utf-8") == table(found)

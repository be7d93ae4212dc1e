from __future__ import annotations

import pytest

from records import json_text


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, "[1,]", "nul"]
)
def test_whatever_is_no_json_is_a_value_error(data: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        json_text.parse(data)


def test_json_is_read_from_bytes_and_text() -> None:
    assert json_text.parse(b'{"a": [1, null]}') == json_text.parse('{"a": [1, null]}') == {"a": [1, None]}

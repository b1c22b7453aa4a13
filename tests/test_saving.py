"""Personas in a file: the same after a round trip, byte for byte, and refused when they are not what was saved."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import ibis
import numpy as np
import pandas as pd
import pytest
from test_markov import Journey
from test_personas import lay_out, name_customer, store

from journeylab.errors import RuleError, SchemaError
from journeylab.personas import Personas, fit_personas, saving
from journeylab.personas.saving import load_personas, save_personas


@dataclass(frozen=True)
class FirstEvent:
    """A model of the smallest kind: a persona is an event that customers begin with."""

    events: tuple[str, ...]
    certainty: tuple[float, ...]
    method: str = "first event"

    def assign(self, steps: ibis.Table, journeys: ibis.Table | None = None) -> pd.DataFrame:
        first = steps.filter(steps.step == 1).group_by("customer_id").agg(event=steps.event.min()).execute()
        place = first["event"].map(self.events.index)
        table = pd.DataFrame(
            {
                "customer_id": first["customer_id"],
                "persona": place + 1,
                "probability": place.map(self.certainty.__getitem__),
                "is_atypical": False,
                "n_unknown": 0,
            }
        )
        return table.sort_values("customer_id").reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        return {"events": list(self.events), "certainty": list(self.certainty)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FirstEvent:
        return cls(tuple(data["events"]), tuple(data["certainty"]))


EVERYTHING = pd.DataFrame(
    {
        "persona": [1, 2, 3],
        "n": pd.array([9_007_199_254_740_993, None, -1], dtype="Int64"),
        "share": [0.1 + 0.2, np.nan, np.inf],
        "name": pd.Series(["zażółć", None, "$x$ \u2028 </script>"], dtype="str"),
        "event": pd.Series([None, np.nan, "a"], dtype="object"),
        "way": pd.Series([("a", "b"), ["c"], {"d": 1, 2: -np.inf}], dtype="object"),
        "chosen": [True, False, True],
        "is_new": pd.array([True, None, False], dtype="boolean"),
        "since": pd.to_datetime(["2026-01-01 00:00:00.000001", None, "2026-02-01"], format="ISO8601").astype(
            "datetime64[us]"
        ),
        "until": pd.to_datetime([None, None, None]).astype("datetime64[ns]"),
        "tiny": [5e-324, -0.0, 1.7976931348623157e308],
    }
)


@pytest.fixture(scope="module")
def tables() -> tuple[ibis.Table, ibis.Table]:
    ways = (0, 2, 3, 2, 3), (1, 4, 5, 4, 5)
    return store(*lay_out([Journey(c, ways[c % 2][: 3 + c % 3]) for c in range(40)]))


@pytest.fixture
def personas(monkeypatch: pytest.MonkeyPatch) -> Personas:
    """Every field holds something, whatever the fields are."""
    monkeypatch.setitem(saving._MODELS, "first event", ("test_saving", "FirstEvent"))
    model = FirstEvent(("event 00", "event 01"), (0.1 + 0.2, 1 / 3))
    values = {each.name: EVERYTHING.iloc[:0] for each in fields(Personas)}
    return Personas(**values | {"k_search": EVERYTHING, "model": model, "journeys": None, "members": None})  # type: ignore[arg-type]


def compare(found: object, expected: object) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    else:
        assert found == expected


@pytest.mark.parametrize("name", ["personas.json", "personas.json.gz"])
def test_everything_comes_back(personas: Personas, tmp_path: Path, name: str) -> None:
    path = save_personas(personas, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    loaded = load_personas(path)
    for each in fields(Personas):
        compare(getattr(loaded, each.name), getattr(personas, each.name))


def test_frames_keep_their_types_and_what_is_missing(personas: Personas, tmp_path: Path) -> None:
    frame = load_personas(save_personas(personas, tmp_path / "p.json")).k_search
    assert frame is not None
    pd.testing.assert_frame_equal(frame, EVERYTHING, check_exact=True)
    assert frame["event"].tolist()[0] is None
    assert np.isnan(frame["event"].tolist()[1])
    assert frame["way"].tolist() == [("a", "b"), ["c"], {"d": 1, 2: -np.inf}]
    assert str(np.signbit(frame["tiny"][1])) == "True"


@pytest.mark.parametrize(
    "frame",
    [
        EVERYTHING.iloc[:0],
        EVERYTHING[[]],
        EVERYTHING.iloc[1:],
        EVERYTHING[["share"]].set_axis(pd.Index(["x", "y", "z"], name="event", dtype="str")),
    ],
)
def test_frames_of_any_shape(personas: Personas, tmp_path: Path, frame: pd.DataFrame) -> None:
    loaded = load_personas(save_personas(replace(personas, k_search=frame), tmp_path / "p.json"))
    pd.testing.assert_frame_equal(loaded.k_search, frame, check_exact=True, check_column_type=False)


def test_assigns_as_before(personas: Personas, tables: tuple[ibis.Table, ibis.Table], tmp_path: Path) -> None:
    loaded = load_personas(save_personas(personas, tmp_path / "p.json"))
    before, after = personas.model.assign(tables[0]), loaded.model.assign(tables[0])
    pd.testing.assert_frame_equal(after, before, check_exact=True)
    assert set(after["persona"]) == {1, 2}


@pytest.mark.parametrize("method", ["markov", "features", "sequence"])
def test_personas_of_every_method_come_back(
    tables: tuple[ibis.Table, ibis.Table], tmp_path: Path, method: Literal["markov", "features", "sequence"]
) -> None:
    personas = fit_personas(*tables, k=2, method=method)
    path = save_personas(personas, tmp_path / "p.json")
    loaded = load_personas(path)
    for each in fields(Personas):
        if each.name not in {"model", "journeys", "members"}:
            compare(getattr(loaded, each.name), getattr(personas, each.name))
    pd.testing.assert_frame_equal(loaded.assign(*tables), personas.assign(*tables), check_exact=True)
    pd.testing.assert_frame_equal(loaded.assign(tables[0]), personas.model.assign(tables[0]), check_exact=True)
    assert save_personas(loaded, tmp_path / "again.json").read_bytes() == path.read_bytes()
    text = path.read_text(encoding="utf-8")
    assert not any(name_customer(c) in text for c in range(40))
    assert "j00000" not in text


@pytest.mark.parametrize("name", ["personas.json", "personas.json.gz"])
def test_same_personas_same_bytes(personas: Personas, tmp_path: Path, name: str) -> None:
    first = save_personas(personas, tmp_path / name).read_bytes()
    again = save_personas(load_personas(tmp_path / name), tmp_path / f"again-{name}").read_bytes()
    assert again == first


def test_the_file_is_plain_json(personas: Personas, tmp_path: Path) -> None:
    whole = json.loads(save_personas(personas, tmp_path / "p.json").read_text(encoding="utf-8"))
    assert whole["format"] == 1
    assert whole["content"]["model"] == {
        "method": "first event",
        "content": {"events": ["event 00", "event 01"], "certainty": [0.30000000000000004, 0.3333333333333333]},
    }


def test_no_customer_is_in_the_file(personas: Personas, tmp_path: Path) -> None:
    seen = EVERYTHING.assign(customer_id=[name_customer(c) for c in range(3)], journey_id="j000001")
    path = save_personas(replace(personas, k_search=seen), tmp_path / "p.json")
    text = path.read_text(encoding="utf-8")
    assert "j00000" not in text
    assert not any(name_customer(c) in text for c in range(40))
    frame = load_personas(path).k_search
    assert frame is not None
    assert frame["customer_id"].isna().all()


def test_an_earlier_file_stays_until_the_new_one_is_whole(
    personas: Personas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_personas(personas, tmp_path / "p.json")
    before = path.read_bytes()

    def fill_the_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_personas(personas, path)
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["p.json", "p.json.gz"])
def test_any_damage_is_noticed(personas: Personas, tmp_path: Path, name: str) -> None:
    path = save_personas(personas, tmp_path / name)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(12, len(whole), size=60):  # after gzip's header, where a byte may change nothing
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(0, 7))
        path.write_bytes(damaged)
        with pytest.raises(SchemaError, match=rf"{name} "):
            load_personas(path)


@pytest.mark.parametrize("name", ["p.json", "p.json.gz"])
@pytest.mark.parametrize("left", [0.0, 0.3, 0.99])
def test_a_file_cut_off_is_refused(personas: Personas, tmp_path: Path, name: str, left: float) -> None:
    path = save_personas(personas, tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(
        SchemaError, match=rf"{name} is damaged or cut off .*; take another copy of it, or fit and save"
    ):
        load_personas(path)


def edit(path: Path, **changes: object) -> None:
    """Change a file the way somebody would who knows how it is made."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    del whole["checksum"]
    whole |= changes
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    whole["checksum"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    path.write_text(json.dumps(whole), encoding="utf-8")


def test_an_edit_without_a_checksum_is_refused(personas: Personas, tmp_path: Path) -> None:
    path = save_personas(personas, tmp_path / "p.json")
    path.write_text(path.read_text(encoding="utf-8").replace('"event 00"', '"event 0"', 1), encoding="utf-8")
    with pytest.raises(SchemaError) as error:
        load_personas(path)
    assert str(error.value) == (
        "p.json is damaged or cut off: its content does not match its checksum; take another copy of it, or fit and "
        "save again"
    )


def test_a_newer_format_is_refused(personas: Personas, tmp_path: Path) -> None:
    path = save_personas(personas, tmp_path / "p.json")
    edit(path, format=2, journeylab="9.0")
    with pytest.raises(SchemaError) as error:
        load_personas(path)
    assert str(error.value) == (
        "p.json has format 2 (journeylab 9.0), and this journeylab reads format 1; update journeylab, or save the "
        "personas again with this one"
    )


def test_what_is_not_known_is_refused(personas: Personas, tmp_path: Path) -> None:
    path = save_personas(personas, tmp_path / "p.json")
    content = json.loads(path.read_text(encoding="utf-8"))["content"]
    for changes, said in (
        ({"mood": "good"}, "p.json has mood beside its content"),
        ({"content": {**content, "mood": "good"}}, "p.json: the content has mood, unknown here"),
        (
            {"content": {name: value for name, value in content.items() if name != "summary"}},
            "p.json: the content lacks summary",
        ),
        (
            {"content": {**content, "model": {"method": "markow", "content": {}}}},
            'p.json: .*method "markow" is not known; .* Did you mean "markov"',
        ),
        (
            {"content": {**content, "k_search": {"$": "pickle", "value": "cos"}}},
            'p.json: .*"pickle" is no kind of value',
        ),
        (
            {"content": {**content, "k_search": {"$": "frame", "n_rows": 1}}},
            "p.json: the content cannot be read",
        ),
        (
            {"content": {**content, "k_search": frame_of("complex128", [1])}},
            'p.json: .*column x is of type "complex128", which is not known',
        ),
        ({"content": {**content, "k_search": frame_of("int64", [1, 2])}}, "p.json: .* has 2 of 1 rows"),
        ({"content": {**content, "k_search": frame_of("int64", ["a"])}}, "p.json: the content cannot be read"),
    ):
        edit(save_personas(personas, path), **changes)
        with pytest.raises(SchemaError, match=said):
            load_personas(path)


def frame_of(kind: str, values: list[object]) -> dict[str, object]:
    return {"$": "frame", "n_rows": 1, "columns": [{"name": "x", "type": kind, "values": values}]}


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"kind": "something else", "format": 1}'])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError) as error:
        load_personas(path)
    assert str(error.value) == "other.json is no file of save_personas; give the path that it returned"


def test_no_such_file_and_no_such_folder(personas: Personas, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"no file at .*nothing\.json"):
        load_personas(tmp_path / "nothing.json")
    with pytest.raises(RuleError, match=r"no folder .*nowhere to save personas in; make it first"):
        save_personas(personas, tmp_path / "nowhere" / "p.json")


def test_what_cannot_be_saved_is_named(personas: Personas, tmp_path: Path) -> None:
    odd = EVERYTHING.assign(size=pd.Categorical(["a", "b", "a"]))
    with pytest.raises(RuleError, match="k_search, column size is of type category, which cannot be saved"):
        save_personas(replace(personas, k_search=odd), tmp_path / "p.json")
    odd = EVERYTHING.assign(way=[1 + 2j, 1, 2])
    with pytest.raises(RuleError, match="k_search, column way is of type complex128"):
        save_personas(replace(personas, k_search=odd), tmp_path / "p.json")
    assert not list(tmp_path.iterdir())


def test_a_renamed_compressed_file_is_read(personas: Personas, tmp_path: Path) -> None:
    path = save_personas(personas, tmp_path / "p.json.gz")
    assert gzip.decompress(path.read_bytes()).startswith(b"{")
    load_personas(path.rename(tmp_path / "p.json"))

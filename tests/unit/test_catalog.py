"""Finding models by name, path and id from the heads of their files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hvcodec import catalog
from hvcodec.errors import ModelError
from hvcodec.profiles import Effect, Knot, Measured, Profile


def model_file(path: Path, number: int, **changes: object) -> Path:
    """A file with the head of a model and nothing behind it."""
    config = {"stages": [{"stride": 64, "layers": 1}, {"stride": 32, "layers": 2}]}
    metadata = {"format": catalog.FORMAT, "id": f"{number:012x}", "config": json.dumps(config), **changes}
    head = json.dumps({"__metadata__": metadata}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    return path


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two models in two folders."""
    paths = (
        model_file(tmp_path / "1" / "first.safetensors", 1),
        model_file(tmp_path / "2" / "second.safetensors", 2),
    )
    monkeypatch.setenv(catalog.SEARCH_PATH_VARIABLE, os.pathsep.join(str(path.parent) for path in paths))
    monkeypatch.delenv(catalog.DEFAULT_VARIABLE, raising=False)
    return paths


def test_models_are_found_in_all_folders(two: tuple[Path, Path]) -> None:
    assert [entry.path for entry in catalog.installed() if entry.path.parent != catalog.PACKAGED] == list(two)
    assert catalog.find("first") == two[0]
    assert catalog.find("second") == two[1]
    assert catalog.find(two[1]) == catalog.find(str(two[1])) == two[1]
    assert catalog.find_by_id(bytes.fromhex("000000000002")) == two[1]
    assert catalog.read_entry(two[0]) == catalog.Entry("first", two[0], bytes(5) + b"\x01", (64, 32, 32), 2)


def test_the_default_can_be_chosen(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, "second")
    assert catalog.find("default") == two[1]
    other = model_file(two[0].parent.parent / "other.safetensors", 3)
    with pytest.raises(ModelError):
        catalog.find_by_id(bytes.fromhex("000000000003"))
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, str(other))
    assert catalog.find("default") == other
    assert catalog.find_by_id(bytes.fromhex("000000000003")) == other


def test_a_profile_belongs_to_the_default_model_or_to_another(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PACKAGED", two[0].parent)
    default = model_file(two[0].parent / "default.safetensors", 3)
    path = (Knot(0, (0, 0)), Knot(100, (63, 63)))
    for file, names in ((default, ("psnr", "both")), (two[1], ("both", "look"))):
        for name in names:
            catalog.store_profile(catalog.profiles_file(file), Profile(name, "", path))
    assert [catalog.find_for(name) for name in ("psnr", "both", "look")] == [default, default, two[1]]
    assert catalog.find_for(None) == catalog.find_for("equal") == catalog.find_for("nix") == default
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, "first")  # what the user chose is never passed over
    assert catalog.find_for("look") == two[0]


def test_damaged_profiles_hide_those_of_no_other_model(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "PACKAGED", two[0].parent)
    default = model_file(two[0].parent / "default.safetensors", 3)
    catalog.profiles_file(two[0]).write_text('[{"x": 1}]')
    path = (Knot(0, (0, 0)), Knot(100, (63, 63)))
    catalog.store_profile(catalog.profiles_file(two[1]), Profile("look", "", path))
    assert catalog.find_for("look") == two[1]
    assert catalog.find_for("nix") == default
    assert catalog.other_profiles({"equal"}) == {"second": ["look"]}
    with pytest.raises(ModelError, match="damaged"):
        catalog.profile_names(catalog.read_entry(two[0]))


def test_a_default_that_lies_where_models_are_looked_for_is_listed_once(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, str(two[1]))
    assert [entry.name for entry in catalog.installed()].count("second") == 1
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, "third")
    with pytest.raises(ModelError, match=r"no model named third \(HVCODEC_MODEL names it\)"):
        catalog.find("default")


def test_what_is_not_there_is_told_with_what_is(two: tuple[Path, Path]) -> None:
    with pytest.raises(ModelError, match=r"no model named third; installed: .*first, second") as refused:
        catalog.find("third")
    assert refused.value.needed == "third"
    with pytest.raises(ModelError, match=r"no model file nix\.safetensors"):
        catalog.find("nix.safetensors")
    with pytest.raises(ModelError, match=r"needs model 0000000000ff; installed: .*000000000001 \(first\)") as refused:
        catalog.find_by_id(bytes(5) + b"\xff")
    assert refused.value.needed == "0000000000ff"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read as a model"),
        (b"\x05\0\0\0\0\0\0\0[1,", "cannot be read as a model"),
        (b"\x03\0\0\0\0\0\0\0\xff\xfe\xfd", "cannot be read as a model"),
        (b"\x03\0\0\0\0\0\0\0[1]", "is not an hvcodec model"),
        (b"\x02\0\0\0\0\0\0\0{}", "is not an hvcodec model"),
        (b"\xff" * 64, "is not an hvcodec model"),
        ((60_000).to_bytes(8, "little") + b"[" * 60_000, "cannot be read as a model"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"odd.safetensors {told}"):
        catalog.read_entry(path)


def stages(stride: object = 64, layers: object = 1, count: int = 1) -> dict[str, object]:
    return {"config": json.dumps({"stages": [{"stride": stride, "layers": layers}] * count})}


@pytest.mark.parametrize(
    "changes",
    [
        *({"id": "xyz"}, {"id": 7}, {"id": "0011223344"}, {"id": "00112233445566"}),
        *({"config": config} for config in ("{}", "[", "[]", "[" * 60_000, '{"stages": "ab"}')),
        *(stages(layers=layers) for layers in (65, 10**7, 0, -1, True, 1.0, "1", None)),
        *(stages(stride=stride) for stride in (128, 0, -4, 4.0, "4", [4])),
        stages(count=9),
    ],
)
def test_a_damaged_head_is_told(tmp_path: Path, changes: dict[str, object]) -> None:
    path = model_file(tmp_path / "odd.safetensors", 1, **changes)
    with pytest.raises(ModelError, match=r"the head of odd\.safetensors is damaged"):
        catalog.read_entry(path)


def test_files_that_are_no_models_hide_none(two: tuple[Path, Path]) -> None:
    junk, cut, folder = (two[0].with_name(f"{name}.safetensors") for name in ("checkpoint", "cut", "a-folder"))
    head = json.dumps({"__metadata__": {"step": "71"}}).encode()
    junk.write_bytes(len(head).to_bytes(8, "little") + head)
    cut.write_bytes(two[0].read_bytes()[:50])
    folder.mkdir()
    assert [catalog.find(name) for name in ("first", "second")] == list(two)
    assert catalog.find_by_id(bytes.fromhex("000000000002")) == two[1]
    assert [entry.name for entry in catalog.installed()][-2:] == ["first", "second"]
    assert list(catalog.passed_over()) == [folder, junk, cut]
    for refused in (lambda: catalog.find("third"), lambda: catalog.find_by_id(bytes(6))):
        with pytest.raises(ModelError, match=r"passed over: .*checkpoint\.safetensors is not an hvcodec model"):
            refused()
    with pytest.raises(ModelError, match=r"cut\.safetensors cannot be read as a model"):
        catalog.read_entry(catalog.find(cut))


def test_a_folder_that_is_not_there_is_told(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    gone = two[0].parent / "gone"
    monkeypatch.setenv(catalog.SEARCH_PATH_VARIABLE, os.pathsep.join([str(gone), str(two[0].parent)]))
    assert catalog.find("first") == two[0]
    assert list(catalog.passed_over()) == [gone]
    with pytest.raises(ModelError, match=r"passed over: HVCODEC_MODELS lists .*gone, which is no folder"):
        catalog.find("third")


def test_profiles_lie_beside_the_weights(two: tuple[Path, Path]) -> None:
    assert list(catalog.load_profiles(two[0], 5)) == ["equal"]
    stored = two[0].with_suffix(".profiles.json")
    path = [{"position": 0, "rho": [1, 2]}, {"position": 100, "rho": [3, 4]}]
    stored.write_text(json.dumps([{"name": "mine", "purpose": "tests", "path": path, "measured": []}]))
    profiles = catalog.load_profiles(two[0], 2)
    assert list(profiles) == ["equal", "mine"]
    assert profiles["mine"].rho(0) == (1, 2)
    with pytest.raises(ModelError, match=r"first\.profiles\.json belongs to another model: .*for 2 .* not for 5"):
        catalog.load_profiles(two[0], 5)
    for damage in (
        "{",
        "[1]",
        '[{"name": "mine"}]',
        "[" * 60_000,
        json.dumps([{"name": "n", "purpose": "p", "path": [{"position": 10**400, "rho": [1, 2]}], "measured": []}]),
        json.dumps([{"name": "n", "purpose": "p", "path": [], "measured": []}]),
    ):
        stored.write_text(damage)
        with pytest.raises(ModelError, match=r"first\.profiles\.json is damaged"):
            catalog.load_profiles(two[0], 2)


def test_stored_profiles_replace_those_of_their_name(tmp_path: Path) -> None:
    stored = tmp_path / "any.profiles.json"
    assert catalog.read_profiles(stored) == []
    effect = Effect(1 / 3, (0.1, 0.2))
    rows = tuple(Measured(position, effect, effect, effect, effect) for position in (0.0, 100.0))
    ends = (Knot(0.0, (0.0, 1.0)), Knot(100.0, (30.0, 40.0)))
    first, second = Profile("first", "old", ends), Profile("second", "kept", ends)
    newer = Profile("first", "new", ends, rows)
    for profile in (first, second, newer):
        catalog.store_profile(stored, profile)
    found = catalog.read_profiles(stored)
    assert [profile.name for profile in found] == ["first", "second"]
    assert found[1] == second
    assert (found[0].purpose, found[0].path) == ("new", ends)
    assert found[0].measured[1].psnr_db == Effect(0.333333, (0.1, 0.2))
    assert list(tmp_path.iterdir()) == [stored]
    stored.write_text("{")
    with pytest.raises(ModelError, match="is damaged"):
        catalog.store_profile(stored, first)
    assert stored.read_text() == "{"

import re
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from kd_cli.cli import (
    job,  # noqa: F401  registers the schemas
    schema,
)
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.spelling import is_override, sorted_out
from kd_cli.errors import ConfigError
from kd_cli.targets import soft_targets


@pytest.fixture(autouse=True)
def composing() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def test_targets_are_stored_in_the_types_that_may_be_typed() -> None:
    assert set(schema.DTYPES) == set(soft_targets.DTYPES)


def config(*overrides: str) -> DictConfig:
    return compose("distill", overrides=list(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("temperature=0.01",),
        ("soft_weight=0",),
        ("hard_weight=0",),
        ("seed=7", "teacher.seed=${seed}"),
        ("transfer.augment=null",),
        ("augment@transfer.augment=jitter",),
        ("device=cuda",),
        ("precision=16-mixed",),
    ],
)
def test_what_is_right_passes(overrides: tuple[str, ...]) -> None:
    schema.check("distill", config(*overrides))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("output_dir=", "output_dir"),
        ("temperature=-0.0", "temperature"),
        ("temperature=-inf", "temperature"),
        ("hard_weight=inf", "hard_weight"),
        ("teacher.seed=true", "teacher.seed"),
        ("teacher.seed=1.0", "teacher.seed"),
        ("student.train.scheduler=cosine", "student.train.scheduler"),
        ("student.train=fast", "student.train"),
        ("precision=64", "precision"),
    ],
)
def test_a_refusal_begins_with_the_key(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)} must be "):
        schema.check("distill", config(override))


def test_a_seed_that_refers_to_a_wrong_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^seed must be a whole number ≥ 0, got -2"):
        schema.check("distill", config("seed=-2", "teacher.seed=${seed}"))


@pytest.mark.parametrize(
    ("text", "name"), [("temperature-4_seed-0", "temperature-4_seed-0"), ("", "job"), ("a.b-C_9", "a.b-C_9")]
)
def test_a_plain_name_stays(text: str, name: str) -> None:
    assert schema.slug(text) == name


@given(st.text(max_size=300))
def test_a_slug_can_be_pasted_into_a_command(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,107}", schema.slug(text))


@given(st.text(max_size=150), st.text(max_size=150))
def test_slugs_are_told_apart(one: str, other: str) -> None:
    if one and other:
        assert (schema.slug(one) == schema.slug(other)) == (one == other)


@pytest.mark.parametrize(
    ("word", "override"),
    [
        ("a=1", True),
        ("~a", True),
        ("+a=1", True),
        ("++a.b=1", True),
        ("'a b'=1", True),
        ("--cfg", False),
        ("job", False),
        ("-m", False),
        ("--config-dir=x", False),
        ("~/x", False),
        ("=", False),
        ("--lr=3", False),
    ],
)
def test_which_words_are_overrides(word: str, override: bool) -> None:
    assert is_override(word) is override


def test_overrides_come_before_flags_and_a_flags_value_stays_with_it() -> None:
    words = ["--config-dir", "a=b", "x=1", "--cfg", "job", "y=2", "--multirun"]
    assert sorted_out(words) == (["x=1", "y=2"], ["--config-dir", "a=b", "--cfg", "job", "--multirun"], [])
    words = ["--info", "config", "--lr", "0.1", "a=b", "--cfg=job", "-m", "--", "~/x", "-1"]
    assert sorted_out(words) == (["a=b"], ["--info", "config", "--cfg=job", "-m"], ["--lr", "0.1", "~/x", "-1"])


@pytest.mark.parametrize(("budget", "epochs"), [((), 40), (("budget=full",), 40), (("budget=short",), 10)])
def test_an_experiment_says_what_it_makes_of_the_budget(budget: tuple[str, ...], epochs: int) -> None:
    cfg = config("experiment=temperature_by_width", *budget)
    schema.check("distill", cfg)
    assert cfg.student.train.epochs == epochs
    assert config("experiment=temperature_by_width", *budget, "student.train.epochs=3").student.train.epochs == 3


@pytest.mark.parametrize(("fraction", "epochs"), [("1.0", 5), ("0.1", 50), ("0.003", 1667)])
def test_a_part_of_the_transfer_set_is_shown_for_as_many_steps_as_the_whole(fraction: str, epochs: int) -> None:
    cfg = config("experiment=regularisers", "budget=short", f"transfer.fraction={fraction}", "seed=2")
    assert (cfg.student.train.epochs, cfg.transfer.seed) == (epochs, 2)


def test_plus_adds_to_a_seed() -> None:
    cfg = OmegaConf.create({"seed": 12, "before": "seed-${plus:seed,-10}"})
    assert cfg.before == "seed-2"

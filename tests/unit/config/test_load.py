"""Four layers, one tree; every mistake with its place and its fix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pileus.config.load import Loaded, load_settings, mistaken, validate_options
from pileus.config.settings import Deployment, Settings
from pileus.core.errors import ConfigError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Puts a text into `pileus.toml` of the current folder; gives the name as an operator would."""
    monkeypatch.chdir(tmp_path)

    def put(text: str) -> Path:
        Path("pileus.toml").write_text(text, encoding="utf-8")
        return Path("pileus.toml")

    return put


def mistakes(
    file: Path | None, environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ or {}, flags or {})
    return caught.value.message.splitlines()


def origin(loaded: Loaded, key: str) -> str:
    return loaded.origin[key]


def test_without_anything_the_default_model_is_served_from_this_machine_only() -> None:
    settings = load_settings(None, {}, {}).settings
    assert settings.server.host == "127.0.0.1"
    assert settings.deployment[0].name == "smollm2-135m"
    assert settings.deployment[0].aliases == ("default",)


def test_each_layer_is_stronger_than_the_one_below_and_says_where_it_stands(write: Write) -> None:
    file = write("[server]\nport = 1\nhost = 'a'\ndrain_s = 5\n")
    loaded = load_settings(file, {"PILEUS_SERVER__PORT": "2", "PILEUS_SERVER__HOST": "b"}, {"server.port": 3})
    assert (loaded.settings.server.port, loaded.settings.server.host, loaded.settings.server.drain_s) == (3, "b", 5.0)
    assert origin(loaded, "server.port") == "flag"
    assert origin(loaded, "server.host") == "PILEUS_SERVER__HOST"
    assert origin(loaded, "server.drain_s") == "pileus.toml:4"
    assert origin(loaded, "server.max_body_bytes") == "default"


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    assert load_settings(None, {}, {"server.port": None}).settings == Settings()


def test_every_setting_has_a_row_with_its_origin(write: Write) -> None:
    file = write('[[deployment]]\nname = "qwen2.5"\nmodel = "m"\noptions = { kv_gb = 2 }\n')
    rows = {key: (value, place) for key, value, place in load_settings(file, {}, {}).rows()}
    assert rows["deployment.qwen2.5.options.kv_gb"] == (2, "pileus.toml:4")
    assert rows["deployment.qwen2.5.replicas"] == (1, "default")
    assert rows["queue.max_requests"] == (1024, "default")


def test_a_variable_is_read_as_toml_where_it_is_toml() -> None:
    environ = {
        "PILEUS_MODELS__SOURCES": '["hub", "cache"]',
        "PILEUS_MODELS__OFFLINE": "true",
        "PILEUS_LOG__LEVEL": "debug",
        "PILEUS_DEPLOYMENT": '[{name = "x", model = "m"}]',
    }
    settings = load_settings(None, environ, {}).settings
    assert settings.models.sources == ("hub", "cache")
    assert settings.models.offline is True
    assert settings.log.level == "debug"
    assert [deployment.name for deployment in settings.deployment] == ["x"]


def test_a_variable_that_replaces_a_list_of_the_file_forgets_the_files_lines(write: Write) -> None:
    file = write('[[deployment]]\nname = "a"\nmodel = "m"\nreplicas = 2\n')
    loaded = load_settings(file, {"PILEUS_DEPLOYMENT": '[{name = "a", model = "n"}]'}, {})
    assert origin(loaded, "deployment.a.model") == "PILEUS_DEPLOYMENT"
    assert origin(loaded, "deployment.a.replicas") == "default"


def test_variables_of_the_command_line_and_of_tests_are_not_settings() -> None:
    environ = {"PILEUS_API_KEY": "sk", "PILEUS_URL": "http://x", "PILEUS_CONFIG": "f", "PILEUS_TEST_MODELS": "d"}
    assert load_settings(None, environ, {}).settings == Settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\n\nprot = 1\n", "pileus.toml:3: server.prot: unknown setting; did you mean `port`?"),
        ("[sever]\nport = 1\n", "pileus.toml:1: sever: unknown setting; did you mean `server`?"),
        ('# x\n[server]\nport = "80"\n', "pileus.toml:3: server.port: must be a whole number, not '80'"),
        ("[server]\nport = true\n", "pileus.toml:2: server.port: must be a whole number, not true"),
        ("server.port = 70000\n", "pileus.toml:1: server.port: must be at most 65535, not 70000"),
        ("[queue]\nmax_wait_s = 0\n", "pileus.toml:2: queue.max_wait_s: must be more than 0, not 0"),
        ("[queue]\nmax_wait_s = inf\n", "pileus.toml:2: queue.max_wait_s: must be a finite number, not inf"),
        ("server = 3\n", "pileus.toml:1: server: must be a table, not 3"),
        ("deployment = 3\n", "pileus.toml:1: deployment: must be a list, as in `[...]`, not 3"),
        ("deployment = []\n", "pileus.toml:1: deployment: must be a list of at least 1, not []"),
        ("data_dir = 3\n", "pileus.toml:1: data_dir: must be a path in quotes, not 3"),
        (
            '[log]\nlevel = "inof"\n',
            "pileus.toml:2: log.level: must be 'debug', 'info', 'warning' or 'error', not 'inof'; did you mean 'info'?",
        ),
        (
            '[models]\nsources = [\n  "cache",\n  "hubb",\n]\n',
            "pileus.toml:2: models.sources.1: must be 'cache', 'hub' or 'pypi', not 'hubb'; did you mean 'hub'?",
        ),
        (
            '[[deployment]]\nname = "a"\n',
            "pileus.toml:1: deployment.0.model: is missing; add `model = ...`",
        ),
        (
            '[models]\nhub_url = "hub"\n',
            "pileus.toml:2: models.hub_url: must be an address that begins with http:// or https://, not 'hub'",
        ),
        (
            '[[deployment]]\nname = "a"\nmodel = "m"\n[[deployment]]\nname = "b"\nmodel = "m"\naliases = ["x", "a"]\n',
            "pileus.toml:7: deployment.1.aliases.1: `a` already names a deployment; choose another",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_its_fix(write: Write, text: str, told: str) -> None:
    assert mistakes(write(text)) == [told]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(write: Write) -> None:
    file = write('[queue]\nmax_requests = 0\n[server]\nport = "x"\n[[deployment]]\nname = "a b"\nmodel = "m"\n')
    places = [line.split(": ")[0] for line in mistakes(file, {"PILEUS_SEVER__PORT": "1"}, {"server.host": ""})]
    assert places == ["pileus.toml:2", "pileus.toml:4", "pileus.toml:6", "PILEUS_SEVER__PORT", "flag"]


def test_a_mistake_in_a_variable_or_a_flag_names_it() -> None:
    assert mistakes(None, {"PILEUS_SERVER__PORT": "many"}) == [
        "PILEUS_SERVER__PORT: server.port: must be a whole number, not 'many'"
    ]
    assert mistakes(None, {}, {"server.port": -1}) == ["flag: server.port: must be at least 0, not -1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nport = \n", "pileus.toml:2: not valid TOML: invalid value"),
        ("[server]\nport = 1\nport = 2\n", "pileus.toml:3: not valid TOML: cannot overwrite a value"),
        ('a = """\nx\n', "pileus.toml:3: not valid TOML: "),
    ],
)
def test_broken_toml_is_told_with_its_line(write: Write, text: str, told: str) -> None:
    (line,) = mistakes(write(text))
    assert line.startswith(told)


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path / "none.toml")
    assert line == f"{tmp_path}/none.toml: cannot be read: No such file or directory; give another file with --config"
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe4'")
    (line,) = mistakes(tmp_path / "latin.toml")
    assert line.endswith("is not UTF-8 text; save it as UTF-8")


class EngineOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kv_gb: float = Field(2.0, gt=0)
    group: int


def test_an_engines_options_become_its_own_type() -> None:
    deployment = Deployment(name="a", model="m", options={"kv_gb": 3.0, "group": 64})
    assert validate_options(EngineOptions, deployment, {}) == EngineOptions(kv_gb=3.0, group=64)


def test_a_mistake_in_an_engines_options_is_told_with_its_line(write: Write) -> None:
    file = write(
        '[[deployment]]\nname = "a"\nmodel = "m"\nengine = "native"\n[deployment.options]\nkv_gb = 0\nkv_bg = 1\n'
    )
    loaded = load_settings(file, {}, {})
    with pytest.raises(ConfigError) as caught:
        validate_options(EngineOptions, loaded.settings.deployment[0], loaded.origin)
    assert caught.value.message.splitlines() == [
        "pileus.toml:6: deployment.a.options.kv_gb: must be more than 0, not 0 (engine `native`)",
        "pileus.toml:5: deployment.a.options.group: is missing; add `group = ...` (engine `native`)",
        "pileus.toml:7: deployment.a.options.kv_bg: unknown setting; did you mean `kv_gb`? (engine `native`)",
    ]


def test_what_cannot_run_is_told_with_the_line_of_its_field_or_its_table(write: Write) -> None:
    file = write('[[deployment]]\nname = "a"\nmodel = "m"\nengine = "nativ"\n')
    loaded = load_settings(file, {}, {})
    told = [mistaken(loaded.settings.deployment[0], field, "no", loaded.origin).message for field in ("engine", "more")]
    assert told == ["pileus.toml:4: deployment.a.engine: no", "pileus.toml:1: deployment.a.more: no"]


def test_a_tilde_in_the_data_folder_is_the_home_folder() -> None:
    assert load_settings(None, {"PILEUS_DATA_DIR": "~/pileus"}, {}).settings.data_dir == Path.home() / "pileus"


def test_a_relative_data_folder_is_one_of_where_the_command_was_given() -> None:
    """Jobs and converters run in folders of their own."""
    assert load_settings(None, {}, {"data_dir": Path("here")}).settings.data_dir == Path.cwd() / "here"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1

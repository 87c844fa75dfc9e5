import pytest

from holdfast.cli.new import LANGUAGES, TEMPLATES, entry, with_entry
from holdfast.cli.store import DESCRIPTIONS, SAMPLES
from holdfast.errors import DeploymentError
from holdfast.provider.deployments import HANDLER_STYLES
from holdfast.stack import read_stack

STACK = """version: 1.0   # of the format
provider: {name: openfaas}
functions:
  # greets
  hello:
    lang: python3-http
    handler: ./hello
    environment_file: [secret.yml]
    environment:
      key: ${KEY}"""
NEW = entry("count", "dockerfile", "count", "count:latest")


def test_a_function_is_added_and_the_rest_stays_as_it_is() -> None:
    assert with_entry(STACK, "stack.yml", "count", NEW) == (
        f"{STACK}\n"
        "  count:\n    lang: dockerfile\n    handler: ./count\n    image: count:latest\n    fprocess: sh handler.sh\n"
    )
    assert with_entry("functions:\n", "s", "count", NEW).startswith("functions:\n  count:\n")


@pytest.mark.parametrize(
    "text",
    [
        f"{STACK}\nconfiguration:\n  templates: []\n",
        "functions: {hello: {fprocess: cat}}\n",
        "functions:\n    hello:\n        fprocess: cat\n",
    ],
)
def test_a_file_that_cannot_be_added_to_is_left_and_the_lines_are_told(text: str) -> None:
    with pytest.raises(DeploymentError, match="put this below its functions:\n  count:\n    lang: dockerfile"):
        with_entry(text, "stack.yml", "count", NEW)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(DeploymentError, match="a function of that name already"):
        with_entry(STACK, "stack.yml", "hello", entry("hello", "python3", "x", "y"))


def test_every_language_has_a_template_and_every_handler_style_of_ours_is_known() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir() if path.is_dir()) == sorted(LANGUAGES)
    for language in LANGUAGES:
        is_handler = (TEMPLATES / language / "handler.py").is_file()
        assert is_handler == (language in HANDLER_STYLES)
        assert is_handler or any(line.startswith("fprocess: ") for line in LANGUAGES[language][1])


def test_every_sample_is_described() -> None:
    assert sorted(DESCRIPTIONS) == sorted(sample.ref.name for sample in read_stack(SAMPLES, {}).deployments)

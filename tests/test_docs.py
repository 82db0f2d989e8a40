"""Every example in the README, the documentation and the docstrings runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import flask_reqsession
from tests.markdown import blocks_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
MODULES = [
    flask_reqsession.__name__,
    *(
        module.name
        for module in pkgutil.walk_packages(
            flask_reqsession.__path__, prefix=f"{flask_reqsession.__name__}."
        )
    ),
]
ANY_BLOCK = re.compile(r"^\s*```\s*\{?\.?(?:python|pycon|py)\b", re.MULTILINE)


def run_page(path: Path, module: ModuleType) -> None:
    """Run the examples of a page one after the other, as one module."""
    for block in blocks_of(path.read_text(encoding="utf-8")):
        if block.reason is not None:
            continue
        if block.language == "pycon":
            parsed = doctest.DocTestParser().get_doctest(
                block.code, vars(module), path.name, str(path), block.line
            )
            run_doctest(parsed)
            vars(module).update(parsed.globs)
        else:
            # The empty lines give tracebacks the line numbers of the page.
            source = "\n" * block.line + block.code
            exec(compile(source, path, "exec", dont_inherit=True), vars(module))  # noqa: S102


def run_doctest(example: doctest.DocTest) -> None:
    """Run one docstring's examples; fail with doctest's own report."""
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)


@pytest.fixture
def page_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module that a page's code is the body of; its folder is the current one."""
    module = ModuleType("page")
    module.__file__ = str(tmp_path / "page.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    return module


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_page_run(path: Path, page_module: ModuleType) -> None:
    """A reader who types a page's examples in order meets no error."""
    run_page(path, page_module)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_example_is_skipped_without_a_reason(path: Path) -> None:
    """Every Python block is found, and one that is not run says why."""
    page = path.read_text(encoding="utf-8")
    blocks = list(blocks_of(page))

    assert len(blocks) == len(ANY_BLOCK.findall(page))
    assert [block.line for block in blocks if block.reason is not None and not block.reason] == []


@pytest.mark.parametrize("name", MODULES)
def test_the_docstrings_of_a_module_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``help()`` shows works as shown."""
    monkeypatch.chdir(tmp_path)
    for example in doctest.DocTestFinder().find(importlib.import_module(name)):
        run_doctest(example)


def test_every_error_code_has_a_paragraph() -> None:
    """The code of an error leads to a paragraph of ``docs/errors.md``."""
    described = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    codes = {
        error.code
        for error in vars(flask_reqsession).values()
        if isinstance(error, type) and issubclass(error, flask_reqsession.ReqSessionError)
    }

    assert {code for code in codes if f"`{code}`" not in described} == set()


PAGE = """\
```python
answer = 6 * 7
```
<!-- not run: it would wipe the disk -->
```python
raise SystemExit
```
```pycon
>>> answer
42
>>> double = answer * 2
```
```python
{code}
```
"""


def test_the_blocks_of_a_page_share_a_namespace(tmp_path: Path, page_module: ModuleType) -> None:
    """Later blocks see the names of the earlier ones; a block with a reason is left out."""
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(code="result = double"), encoding="utf-8")

    run_page(path, page_module)

    assert page_module.result == 84


@pytest.mark.parametrize("code", ["assert answer == 41", "```\n```pycon\n>>> answer\n41"])
def test_a_wrong_example_fails(tmp_path: Path, page_module: ModuleType, code: str) -> None:
    """An example that does not hold is an error of the page."""
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(code=code), encoding="utf-8")

    with pytest.raises(AssertionError):
        run_page(path, page_module)

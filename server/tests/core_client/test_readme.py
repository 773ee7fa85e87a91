"""The README's pages of curl and its lines for Lago's client, run as they stand there."""

import asyncio
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from fuzz.served import COMMAND, Served

_REPOSITORY = Path(__file__).parents[3]
_PAGES = ("The first page of curl", "Credits", "Entitlements and margins", "Billing")


def _page(title: str, language: str) -> str:
    """The first block of code in that language under a heading of the README."""
    text = (_REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return section.split(f"```{language}\n", 1)[1].split("```", 1)[0]


async def _run(command: tuple[str, ...], environment: dict[str, str], folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-3000:]
    return out.decode()


@pytest.mark.database
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
async def test_every_command_of_the_readme_works_as_it_is_written(served: Served, tmp_path: Path):
    tenant = await served.new_tenant()
    keys = {
        "NOZLE_URL": served.url,
        "NOZLE_SECRET_KEY": tenant.secret,
        "NOZLE_PUBLISHABLE_KEY": tenant.publishable,
        "NOZLE_ORGANIZATION_ID": tenant.id,
    }
    (tmp_path / ".nozle").mkdir()
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in keys.items()]
    (tmp_path / ".nozle" / "dev.env").write_text("".join(lines), encoding="utf-8")
    example = str(_REPOSITORY / "examples" / "ai-saas.yaml")
    await _run((*COMMAND, "apply", example), {**served.environment, **keys}, tmp_path)

    # A refusal ends the script here; for a reader curl shows it and goes on.
    script = "".join(_page(title, "sh") for title in _PAGES).replace("curl -sS", "curl -sS --fail-with-body")
    script = script.replace("./nozle run nozle-server", shlex.join(COMMAND))
    environment = {**os.environ, **served.environment}
    told = await _run(("bash", "-e", "-o", "pipefail", "-c", script), environment, tmp_path)

    assert '"budget":{"entity_id":"agent","interval":"hour","limit":20,"used":15' in told
    assert '"settled":12.345' in told
    assert '"mode":"deny"' in told
    assert re.search(r'"held":\{"chat":\{"hold_id":"hold_\w+","credits":5,', told)
    assert "From 101 on: 30 units at 0.02 EUR each: 0.60 EUR." in told
    assert "Now it comes to 6.00 EUR; 5.60 EUR was billed for it before: 0.40 EUR." in told
    assert (tmp_path / "invoice.pdf").read_bytes().startswith(b"%PDF-")
    listed = await _run((sys.executable, "-c", _page("Billing", "python")), {**os.environ, **keys}, tmp_path)
    assert len(listed.splitlines()) == 4

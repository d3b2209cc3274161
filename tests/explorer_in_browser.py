"""The explorer in Chromium, by script and without a driver: python -m pytest tests/explorer_in_browser.py

A page uses the explorer as a reader would and writes what it finds into itself; Chromium prints it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from nclib.chapters import explorer
from nclib.paths import PACKAGE

STATIC = PACKAGE / "chapters"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
USE = """
const find = (name) => document.querySelector(".explorer-" + name);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const until = async (holds) => {
  for (let i = 0; i < 80 && !holds(); i++) await wait(100);
  return holds();
};
const press = (key) => find("canvas").dispatchEvent(new KeyboardEvent("keydown", {key}));
const pixels = () => find("canvas").toDataURL();
window.addEventListener("load", async () => {
  const out = {};
  await wait(100);
  out.ready = document.querySelector(".explorer").classList.contains("explorer-ready");
  out.epoch = find("epoch").textContent;
  press("Home");
  out.first = find("live").textContent;
  press("ArrowRight");
  out.right = find("live").textContent;
  const thumb = () => find("thumb").getContext("2d").getImageData(0, 0, 32, 32).data;
  out.image = await until(() => thumb().some((v) => v > 0 && v < 255));
  press("Escape");
  out.escaped = !find("help").hidden && find("details").hidden;
  const before = pixels();
  find("slider").value = "0";
  find("slider").dispatchEvent(new Event("input"));
  out.start = find("epoch").textContent;
  out.moved = await until(() => pixels() !== before);
  const marks = find("legend").textContent;
  const colour = document.querySelectorAll(".explorer-select")[1];
  colour.value = "4";
  colour.dispatchEvent(new Event("change"));
  out.legend = [marks, find("legend").textContent];
  find("play").click();
  out.played = await until(() => find("epoch").textContent !== out.start);
  find("play").click();
  out.paused = find("play").textContent;
  out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  out.static = getComputedStyle(find("static").firstElementChild).display;
  const report = {id: "out", textContent: JSON.stringify(out)};
  document.body.append(Object.assign(document.createElement("pre"), report));
});
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 500])
def test_it_works_by_keyboard_slider_and_button(tmp_path, width):
    page, data = tmp_path / "page.html", explorer.browser_data(explorer.FOLDER, 50)
    page.write_text(
        f"""<!doctype html><meta charset=utf-8><style>{(STATIC / "explorer.css").read_text("utf-8")}</style>
        <div class="explorer"><figure class="explorer-static"><p>picture</p></figure>
        <script type="application/json" class="explorer-data">{data}</script>
        </div><script>{(STATIC / "explorer.js").read_text("utf-8")}</script><script>{USE}</script>""",
        "utf-8",
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=40000", "--dump-dom")
    command = [CHROMIUM, *flags, f"--window-size={width},900", f"--user-data-dir={tmp_path}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    out = json.loads(re.search(r'<pre id="out">(.*?)</pre>', dom).group(1))
    assert out["ready"]
    assert out["epoch"] == "epoch 30 of 30"
    assert "test image 3." in out["first"]
    assert "Class: airplane" in out["first"]
    assert out["right"] != out["first"]
    assert out["image"]
    assert out["escaped"]
    assert out["start"] == "epoch 0 of 30"
    assert out["moved"]
    assert out["legend"] == ["airplanedog", "rightwrong"]
    assert out["played"]
    assert out["paused"] == "Play"
    assert out["wide"] <= 0
    assert out["static"] == "none"

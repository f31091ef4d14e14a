"""The script of `serve`'s page, run by node in as much of a browser as it touches (`browser.js`)."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made import REPO

PAGE = REPO / "cry_lightning/serving/templates/page.js"


@pytest.fixture
def in_page():
    """Runs a scenario on the page; what it returns."""
    if shutil.which("node") is None:
        pytest.skip("no node")

    def run(scenario: str):
        command = ["node", str(Path(__file__).with_name("browser.js")), str(PAGE)]
        done = subprocess.run(command, input=scenario, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_page_hands_the_script_all_of_its_words():
    names = re.findall(r"words\.(\w+)", PAGE.read_text())
    template = PAGE.with_name("page.html").read_text()
    (listed,) = re.findall(r"for name in \((.*?)\)", template, re.DOTALL)
    handed = {*re.findall(r"[\w-]+", listed.replace("_", "-")), *re.findall(r"data-([\w-]+)=", template)}
    assert {re.sub("([A-Z])", r"-\1", name).lower() for name in names} <= handed


def test_a_recording_that_failed_hides_the_result_of_another(in_page):
    first, second = in_page("""
      const seen = () => [at("status").text, document.activeElement.id, at("result").innerHTML, at("player").hidden];
      drop("cry7.wav"); await idle();
      const first = seen();
      drop("broken.wav"); await idle();
      return [first, seen()];
    """)
    assert first == ["done.", "result", "<h3>cry7.wav</h3>", False]
    assert second == ["1 of 1 unusable.", "errors", "", True]


def test_of_a_batch_the_first_that_can_be_used_is_shown_and_stays(in_page):
    found = in_page("""
      drop("broken.wav", "a.wav", "b.wav"); await idle();
      return [at("result").innerHTML, lines(), at("status").text, document.activeElement.id];
    """)
    assert found == ["<h3>a.wav</h3>", ["failed: broken.wav: broken"], "1 of 3 unusable.", "errors"]


def test_what_a_person_chose_to_see_stays(in_page):
    found = in_page("""
      drop("a.wav"); await idle();
      drop("b.wav");
      at("history").querySelector("tbody").children[0].children.at(-1).children[0].click(); // Show
      await idle();
      return [at("result").innerHTML, at("history").querySelector("tbody").children.length];
    """)
    assert found == ["<h3>a.wav</h3>", 2]


MICROPHONE = """
  let asked = 0;
  const live = new Set();
  navigator.mediaDevices = { getUserMedia: async () => {
    const stream = { number: ++asked, getTracks: () => [{ stop: () => live.delete(stream.number) }] };
    live.add(stream.number);
    await rest(20);
    return stream;
  } };
  globalThis.MediaRecorder = class extends Element {
    constructor() { super(); this.mimeType = "audio/webm"; this.state = "inactive"; }
    start() { this.state = "recording"; }
    stop() {
      if (this.state === "inactive") throw new Error("inactive");
      this.state = "inactive";
      setTimeout(() => { this.dispatch("dataavailable", { data: "sound" }); this.dispatch("stop"); });
    }
  };
"""


def test_a_double_click_asks_for_one_microphone_and_leaves_it_off(in_page):
    found = in_page(f"""
      {MICROPHONE}
      at("record").click(); at("record").click();
      await rest(1100);
      const during = [asked, live.size, at("record").text];
      at("record").click(); at("record").click();
      await rest(20); await idle();
      return [during, asked, live.size, at("record").text, sent.length];
    """)
    assert found == [[1, 1, "stop (1 s)"], 1, 0, "record", 1]


def test_errors_stay_until_all_that_was_dropped_is_done_and_the_box_counts_as_it_was(in_page):
    running, after, asked = in_page("""
      at("detect").checked = true;
      drop("broken.wav", "a.wav"); await rest(1);
      drop("b.wav"); at("detect").checked = false;
      await rest(100); await idle();
      const running = lines();
      drop("c.wav"); await idle();
      return [running, lines(), sent.map(([address]) => address.split("detect=")[1])];
    """)
    assert running == ["failed: broken.wav: broken"] and after == []
    assert asked == ["true", "true", "true", "false"]


def test_each_recording_is_a_row_and_those_of_one_name_have_numbers(in_page):
    recordings, rows, leaving = in_page("""
      URL.revokeObjectURL = () => {};
      const leaving = [page.dispatch("beforeunload").prevented ?? false];
      drop("a.wav", "a.wav"); await idle();
      leaving.push(page.dispatch("beforeunload").prevented);
      at("recordings").click(); await rest(10);
      at("rows").click(); await rest(10);
      return [...sent.slice(-2).map(([address, rows]) => rows), leaving];
    """)
    assert recordings == [{"number": n, "path": "a.wav", "windows": 1} for n in (1, 2)]
    assert rows == [{"number": n, "path": "a.wav", "start_s": 0} for n in (1, 2)]
    assert leaving == [False, True]


def test_what_the_browser_cannot_read_is_no_fault_of_the_server(in_page):
    found = in_page("""
      const folder = file("folder");
      folder.slice = () => ({ arrayBuffer: () => Promise.reject(new Error("NotFoundError")) });
      document.dispatch("drop", { dataTransfer: { files: [folder] } }); await idle();
      return [lines(), sent.length];
    """)
    assert found == [["failed: folder: unreadable"], 0]


def test_without_a_microphone_and_of_too_short_a_recording_the_page_says_why(in_page):
    assert in_page('at("record").click(); await rest(); return lines();') == ["failed: recordingName: insecure"]
    told = f'{MICROPHONE} at("record").click(); await rest(50); at("record").click(); await rest(20);'
    found = in_page(f"{told} return [lines(), at('status').text, sent.length, live.size];")
    assert found == [["failed: recordingName: tooShort"], "", 0, 0]


def test_a_new_result_shows_its_saliency_and_nothing_is_left_when_the_history_is_cleared(in_page):
    found = in_page("""
      drop("a.wav"); await idle();
      at("result").dispatch("change", { target: { matches: () => true, checked: false } });
      const unchecked = at("result").classes.has("no-saliency");
      drop("broken.wav", "b.wav"); await idle();
      const shown = [unchecked, at("result").classes.has("no-saliency"), lines().length];
      at("clear").click();
      return [shown, lines(), at("status").text, at("result").innerHTML, at("rows").disabled, at("history").hidden];
    """)
    assert found == [[True, False, 1], [], "", "", True, True]


def test_closed_tables_are_on_paper(in_page):
    assert in_page("""
      const details = { open: false };
      document.querySelectorAll = (name) => (name === "details" ? [details] : []);
      page.dispatch("beforeprint");
      return details.open;
    """)


def test_what_is_recorded_or_on_its_way_is_not_left_without_a_question(in_page):
    found = in_page(f"""
      {MICROPHONE}
      const asks = () => page.dispatch("beforeunload").prevented ?? false;
      const found = [asks()];
      at("record").click(); await rest(600);
      found.push(asks());
      URL.createObjectURL = () => "blob:";
      globalThis.fetch = async () => {{ throw new Error("Failed to fetch"); }};
      at("record").click(); await rest(20); await idle();
      const kept = at("unsaved").children[0];
      found.push(asks());
      drop("offline.wav"); await idle(); // takes away other errors alone
      const line = kept.text, link = kept.children.at(-1);
      link.click();
      return [found, at("unsaved").children.length, line.replace(/[0-9-]+[.]/, "T."), link.href, asks()];
    """)
    assert found == [[False, True, True], 1, "failed: recordingName T.webm: unreachable save", "blob:", False]


def test_an_answer_of_a_proxy_stops_no_batch_that_follows(in_page):
    found = in_page("""
      drop("odd.wav"); await idle();
      drop("b.wav"); await idle();
      return [lines(), at("result").innerHTML, at("status").text];
    """)
    assert found == [[], "<h3>b.wav</h3>", "done."]


def test_a_recorder_that_fails_counts_no_seconds(in_page):
    found = in_page(f"""
      {MICROPHONE}
      MediaRecorder.prototype.start = () => {{ throw new Error("busy"); }};
      at("record").click(); await rest(700);
      return [at("record").text, lines(), live.size];
    """)
    assert found == ["", ["failed: recordingName: noMicrophonebusy"], 0]


def test_what_was_cleared_does_not_come_back(in_page):
    found = in_page("""
      URL.revokeObjectURL = () => {};
      drop("first.wav"); await idle();
      drop("a.wav", "b.wav"); await rest(1);
      at("clear").click(); await rest(100);
      const rows = at("history").querySelector("tbody").children;
      return [rows.length, at("result").innerHTML, at("status").text, at("player").paused];
    """)
    assert found == [0, "", "", True]

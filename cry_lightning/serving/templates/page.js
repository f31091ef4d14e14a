// The page sends each sound to the server and shows what comes back; what it knows is gone when it is closed.
"use strict";

const words = document.body.dataset;
const at = (id) => document.getElementById(id);
const history = []; // {name, said, html, rows, recording, url} of each answer
const RETRIES = 60;
const SHORTEST_MS = 500; // of what is recorded: what is shorter may have no sound at all
const nothing = at("result").innerHTML; // as long as there is no result
const recorded = new WeakSet(); // files of this page's microphone
let unsaved = 0; // of these, those that could not be used

function say(text) { at("status").textContent = text; }

function complain(name, reason, language = words.language, recorded = null) {
  const line = document.createElement("li");
  const text = document.createElement("span");
  text.lang = language;
  text.textContent = reason;
  line.append(`${words.failed}: ${reason.startsWith(name) ? "" : `${name}: `}`, text);
  if (recorded) { // of a microphone, it lies nowhere else
    unsaved += 1;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(recorded);
    link.download = name;
    link.textContent = words.save;
    link.addEventListener("click", () => { unsaved -= 1; }, { once: true });
    line.append(" ", link);
  }
  at(recorded ? "unsaved" : "errors").append(line);
}

async function send(file, detect) {
  const form = new FormData();
  form.append("file", file, file.name);
  const width = Math.round(at("result").clientWidth);
  const query = new URLSearchParams({ language: words.language, width, detect });
  for (let tries = 0; ; tries += 1) {
    const response = await fetch(`page/result?${query}`, { method: "POST", body: form });
    if (![429, 503].includes(response.status) || tries === RETRIES) return response;
    say(`${words.busy} ...`);
    const wait = Number(response.headers.get("retry-after")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
  }
}

async function canBeRead(file) { // which a folder, or a file that is gone by now, cannot
  return file.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

async function judge(file, detect) { // its answer; without one, the page says why
  const fail = (reason, language) => complain(file.name, reason, language, recorded.has(file) ? file : null);
  if (file.size > Number(words.mostBytes)) return fail(words.tooLarge);
  if (!await canBeRead(file)) return fail(words.unreadable);
  let response, answer;
  try {
    response = await send(file, detect);
    answer = await response.json();
  } catch {
    return fail(words.unreachable);
  }
  if (response.ok) return { ...answer, url: URL.createObjectURL(file) };
  return answer?.detail ? fail(answer.detail, "en") : fail(words.unreachable); // in English as all of the server's
}

let queue = Promise.resolve(); // one after the other, whatever is dropped meanwhile
let waiting = 0; // batches that are not done
let chosen = 0; // how often a person asked for a result, which then stays
let cleared = 0; // how often the history was cleared, and with it what was still to come

function judgeAll(files) {
  const before = [chosen, cleared], detect = at("detect").checked; // as they are now, when it is dropped
  if (!waiting) at("errors").replaceChildren();
  waiting += 1;
  queue = queue.then(() => judgeEach(files, detect, ...before)).finally(() => { waiting -= 1; });
}

async function judgeEach(files, detect, chosenBefore, clearedBefore) {
  let usable = 0;
  for (const [place, file] of files.entries()) {
    if (cleared !== clearedBefore) return;
    say(`${words.working}: ${place + 1} ${words.of} ${files.length} ...`);
    const answer = await judge(file, detect);
    if (cleared !== clearedBefore) return say("");
    if (!answer) continue;
    usable += 1;
    history.push(answer);
    addToHistory(answer);
    if (usable === 1 && chosen === chosenBefore) { // of several, the first stays while it is read
      show(answer);
      at("result").focus({ preventScroll: files.length > 1 });
    }
  }
  if (usable === files.length) return say(`${words.done}.`);
  say(`${files.length - usable} ${words.of} ${files.length} ${words.unusable}.`);
  if (chosen !== chosenBefore) return;
  if (!usable) hideResult(); // it is of another recording; the history has it
  at(at("errors").children.length ? "errors" : "unsaved").focus();
}

function show(answer) {
  at("result").innerHTML = answer.html; // escaped by the server
  at("result").classList.remove("no-saliency"); // its box is checked
  at("player").src = answer.url;
  at("player").hidden = false;
  at("unplayable").hidden = true;
}

function hideResult() {
  at("result").innerHTML = nothing;
  at("player").pause();
  at("player").hidden = at("unplayable").hidden = true;
  at("player").removeAttribute("src");
}

at("player").addEventListener("error", () => { // 3GP, for one, is decoded by the server alone
  at("player").hidden = true;
  at("unplayable").hidden = false;
});

function addToHistory(answer) {
  const row = at("history").querySelector("tbody").insertRow();
  row.insertCell().textContent = history.length; // as in the tables: two may have one name
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = answer.name;
  row.append(name);
  row.insertCell().textContent = answer.said;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words.show;
  button.setAttribute("aria-label", `${words.show}: ${answer.name}`);
  button.addEventListener("click", () => { chosen += 1; show(answer); at("result").focus(); });
  row.insertCell().append(button);
  at("history").hidden = false;
  enable(true);
}

function enable(on) {
  for (const id of ["recordings", "rows", "clear"]) at(id).disabled = !on;
}

at("files").addEventListener("change", (event) => {
  judgeAll([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) judgeAll([...event.dataTransfer.files]);
});

at("result").addEventListener("change", (event) => {
  if (event.target.matches(".show-saliency")) at("result").classList.toggle("no-saliency", !event.target.checked);
});

async function download(name, rows) {
  const headers = { "content-type": "application/json" };
  try {
    const response = await fetch("api/csv", { method: "POST", headers, body: JSON.stringify(rows) });
    if (!response.ok) return complain("CSV", (await response.json()).detail, "en");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  } catch {
    complain("CSV", words.unreachable);
  }
}

at("recordings").addEventListener("click", () => {
  download("recordings.csv", history.map(({ recording }, place) => ({ number: place + 1, ...recording })));
});
at("rows").addEventListener("click", () => {
  download("rows.csv", history.flatMap(({ rows }, place) => rows.map((row) => ({ number: place + 1, ...row }))));
});

at("clear").addEventListener("click", () => {
  cleared += 1;
  history.splice(0).forEach((answer) => URL.revokeObjectURL(answer.url));
  at("history").querySelector("tbody").replaceChildren();
  hideResult();
  at("history").hidden = true;
  at("errors").replaceChildren();
  say("");
  enable(false);
  at("files").focus();
});

addEventListener("beforeunload", (event) => { // the other language is another page, too
  if (history.length || waiting || recorder || unsaved) event.preventDefault();
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));

// Recording.
let recorder = null;
let asking = false; // for the microphone, which takes as long as a person takes to allow it

function recordingName(type) {
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  return `${words.recordingName} ${time}.${type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm"}`;
}

async function startRecording() {
  if (!navigator.mediaDevices) return complain(words.recordingName, words.insecure);
  asking = true;
  let stream;
  try {
    // What browsers do for speech would change the cry.
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    record(stream);
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    complain(words.recordingName, words.noMicrophone + (error.message || error.name));
  } finally {
    asking = false;
  }
}

function record(stream) {
  const pieces = [];
  const own = new MediaRecorder(stream);
  own.addEventListener("dataavailable", (event) => pieces.push(event.data));
  own.addEventListener("stop", () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    at("record").setAttribute("aria-pressed", "false");
    at("record").textContent = words.record;
    if (!waiting) say("");
    if (Date.now() - began < SHORTEST_MS) return complain(words.recordingName, words.tooShort);
    const type = own.mimeType;
    const file = new File(pieces, recordingName(type), { type });
    recorded.add(file);
    judgeAll([file]);
  });
  own.start();
  recorder = own;
  const began = Date.now();
  const timer = setInterval(() => {
    const seconds = Math.round((Date.now() - began) / 1000);
    at("record").textContent = `${words.stop} (${seconds} s)`;
    if (seconds >= Number(words.longest) - 1) stop(own);
  }, 500);
  at("record").setAttribute("aria-pressed", "true");
  at("record").textContent = words.stop;
  if (!waiting) say(`${words.recording} ...`);
}

function stop(one) { if (one.state === "recording") one.stop(); }

at("record").addEventListener("click", () => {
  if (recorder) stop(recorder);
  else if (!asking) startRecording();
});

// The page sends each sound to the server and shows what comes back; what it knows is gone when it is closed.
"use strict";

const words = document.body.dataset;
const at = (id) => document.getElementById(id);
const history = []; // {name, html, rows, decision, url} of each answer
const RETRIES = 60;

function say(text) { at("status").textContent = text; }

function complain(name, reason, language = words.language) {
  const line = document.createElement("li");
  const text = document.createElement("span");
  text.lang = language;
  text.textContent = reason;
  line.append(`${words.failed}: ${reason.startsWith(name) ? "" : `${name}: `}`, text);
  at("errors").append(line);
}

async function send(file, name) {
  const form = new FormData();
  form.append("file", file, name);
  const width = Math.round(at("result").clientWidth);
  const query = new URLSearchParams({ language: words.language, width, detect: at("detect").checked });
  for (let tries = 0; ; tries += 1) {
    const response = await fetch(`page/result?${query}`, { method: "POST", body: form });
    if (![429, 503].includes(response.status) || tries === RETRIES) return response;
    say(`${words.busy} ...`);
    const wait = Number(response.headers.get("retry-after")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
  }
}

async function judge(file, name) {
  if (file.size > Number(words.mostBytes)) return complain(name, words.tooLarge);
  let response, answer;
  try {
    response = await send(file, name);
    answer = await response.json();
  } catch {
    return complain(name, words.unreachable);
  }
  if (!response.ok) return complain(name, answer.detail, "en"); // as all messages of the server
  answer.url = URL.createObjectURL(file);
  history.push(answer);
  addToHistory(answer);
  show(answer);
}

let queue = Promise.resolve(); // one after the other, whatever is dropped meanwhile

function judgeAll(files) {
  queue = queue.then(async () => {
    at("errors").replaceChildren();
    for (const [place, file] of files.entries()) {
      say(`${words.working}: ${place + 1} ${words.of} ${files.length} ...`);
      await judge(file, file.name);
    }
    say(`${words.done}.`);
    at("result").focus({ preventScroll: files.length > 1 });
  });
}

function show(answer) {
  at("result").innerHTML = answer.html; // escaped by the server
  at("player").src = answer.url;
  at("player").hidden = false;
  at("unplayable").hidden = true;
}

at("player").addEventListener("error", () => { // 3GP, for one, is decoded by the server alone
  at("player").hidden = true;
  at("unplayable").hidden = false;
});

function addToHistory(answer) {
  const row = at("history").querySelector("tbody").insertRow();
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = answer.name;
  row.append(name);
  row.insertCell().textContent = answer.said;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words.show;
  button.setAttribute("aria-label", `${words.show}: ${answer.name}`);
  button.addEventListener("click", () => { show(answer); at("result").focus(); });
  row.insertCell().append(button);
  at("history").hidden = at("download").disabled = at("clear").disabled = false;
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

at("download").addEventListener("click", async () => {
  const rows = history.flatMap((answer) => answer.rows);
  const headers = { "content-type": "application/json" };
  try {
    const response = await fetch("api/csv", { method: "POST", headers, body: JSON.stringify(rows) });
    if (!response.ok) return complain("CSV", (await response.json()).detail, "en");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = "cries.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  } catch {
    complain("CSV", words.unreachable);
  }
});

at("clear").addEventListener("click", () => {
  history.splice(0).forEach((answer) => URL.revokeObjectURL(answer.url));
  at("history").querySelector("tbody").replaceChildren();
  at("result").replaceChildren();
  at("player").hidden = at("unplayable").hidden = at("history").hidden = at("download").disabled = at("clear").disabled = true;
  at("player").removeAttribute("src");
  at("files").focus();
});

// Recording.
let recorder = null;

function recordingName(type) {
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  return `${words.recording} ${time}.${type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm"}`;
}

async function startRecording() {
  let stream;
  try {
    // What browsers do for speech would change the cry.
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
  } catch (error) {
    return complain(words.recording, words.noMicrophone + (error.message || error.name));
  }
  const pieces = [];
  const began = Date.now();
  recorder = new MediaRecorder(stream);
  const timer = setInterval(() => {
    const seconds = Math.round((Date.now() - began) / 1000);
    at("record").textContent = `${words.stop} (${seconds} s)`;
    if (seconds >= Number(words.longest) - 1) recorder.stop();
  }, 500);
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  recorder.addEventListener("stop", () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    const type = recorder.mimeType;
    recorder = null;
    at("record").setAttribute("aria-pressed", "false");
    at("record").textContent = words.record;
    judgeAll([new File(pieces, recordingName(type), { type })]);
  });
  recorder.start();
  at("record").setAttribute("aria-pressed", "true");
  at("record").textContent = words.stop;
  say(`${words.recording} ...`);
}

at("record").addEventListener("click", () => (recorder ? recorder.stop() : startRecording()));

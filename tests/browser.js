// As much of a browser as page.js touches: `node browser.js page.js < scenario.js` prints what the scenario returns.
"use strict";
const { readFileSync } = require("node:fs");
const vm = require("node:vm");

class Element {
  constructor() {
    Object.assign(this, { children: [], dataset: {}, heard: {}, found: {}, classes: new Set() });
    Object.assign(this, { hidden: false, disabled: false, innerHTML: "", textContent: "", clientWidth: 700 });
    const classes = this.classes;
    this.classList = {
      add: (name) => classes.add(name),
      remove: (name) => classes.delete(name),
      toggle: (name, on) => (on ? classes.add(name) : classes.delete(name)),
    };
  }
  get text() { return this.textContent + this.children.map((one) => one.text ?? one).join(""); }
  append(...some) { this.children.push(...some); }
  replaceChildren(...some) { this.children = some; this.innerHTML = this.textContent = ""; }
  addEventListener(kind, listener) { (this.heard[kind] ??= []).push(listener); }
  dispatch(kind, event = {}) {
    event = { target: this, preventDefault() { event.prevented = true; }, ...event };
    (this.heard[kind] ?? []).forEach((listener) => listener(event));
    return event;
  }
  click() { this.dispatch("click"); }
  focus() { document.activeElement = this; }
  pause() { this.paused = true; }
  matches() { return true; }
  setAttribute(name, value) { this[name] = value; }
  removeAttribute(name) { delete this[name]; }
  querySelector(name) { return (this.found[name] ??= new Element()); }
  insertRow() { return this.insertCell(); }
  insertCell() { const cell = new Element(); this.append(cell); return cell; }
}

const elements = {};
const at = (id) => (elements[id] ??= Object.assign(new Element(), { id }));
const named = new Proxy({ language: "en", mostBytes: "1000", longest: "60" }, { get: (own, name) => own[name] ?? name });
const page = new Element(); // its window
globalThis.document = Object.assign(new Element(), {
  body: { dataset: named },
  getElementById: at,
  createElement: () => new Element(),
  querySelectorAll: () => [],
});
globalThis.addEventListener = (kind, listener) => page.addEventListener(kind, listener);
Object.defineProperty(globalThis, "navigator", { value: {}, writable: true });
const sent = []; // addresses of requests, and JSON bodies
globalThis.fetch = async (address, { body }) => {
  const name = typeof body === "string" ? "" : body.get("file").name;
  sent.push([address, name || JSON.parse(body)]);
  await rest();
  if (name.includes("offline")) throw new Error("Failed to fetch");
  const ok = !/broken|odd/.test(name);
  const recording = { path: name, windows: 1 };
  const judged = { name, said: "low", html: `<h3>${name}</h3>`, rows: [{ path: name, start_s: 0 }], recording };
  const json = async () => (ok ? judged : name.includes("odd") ? { message: "no" } : { detail: `${name}: broken` });
  return { ok, status: ok ? 200 : 422, headers: new Headers(), json, blob: async () => new Blob([]) };
};
const rest = (ms = 0) => new Promise((resolve) => setTimeout(resolve, ms));
const file = (name) => new File(["sound"], name);
const drop = (...names) => document.dispatch("drop", { dataTransfer: { files: names.map(file) } });
const lines = () => at("errors").children.map((one) => one.text);
const idle = async () => { do await rest(5); while (at("status").textContent.startsWith("working")); };

vm.runInThisContext(readFileSync(process.argv[2], "utf8"));
eval(`(async () => { ${readFileSync(0, "utf8")} })()`).then((found) => {
  process.stdout.write(JSON.stringify(found));
  process.exit();
});

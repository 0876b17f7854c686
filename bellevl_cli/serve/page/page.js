"use strict";

/* The page: pictures, a dialogue about each, and the server's stream. Talks to its own server only. */

const $ = (id) => document.getElementById(id);
const LARGEST = 64 * 2 ** 20;

const threads = []; // {id, name, url, data, width, height, turns: [{question, raw, state, ...}], draft}
let current = null, running = null, shownTurn = null, about = null;

/* ---- what is kept between visits: settings, language, theme; never a picture or a word of a dialogue */

const settings = JSON.parse(localStorage.getItem("settings") || "{}");
const token = (() => {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
})();

function headers(more = {}) {
  return token ? {...more, Authorization: `Bearer ${token}`} : more;
}

/* ---- pictures */

async function addFiles(files) {
  for (const file of files) {
    if (file.size > LARGEST) tell(say("tooLarge", {name: file.name}));
    else await addPicture(file);
  }
}

async function addPicture(file) {
  const thread = {id: crypto.randomUUID?.() || String(Math.random()), name: file.name || say("picture"), turns: [], draft: ""};
  try {
    thread.data = await dataUrl(file);
    thread.url = URL.createObjectURL(file);
    let size = await sizeOf(thread.url);
    if (!size) {
      const made = await fetch("api/preview", {method: "POST", headers: headers(), body: file});
      if (!made.ok) throw new Error((await made.json()).error.message);
      thread.url = URL.createObjectURL(await made.blob());
      size = await sizeOf(thread.url);
    }
    [thread.width, thread.height] = size;
  } catch (error) {
    tell(say("notPicture", {name: thread.name, reason: error instanceof TypeError ? say("gone") : error.message}));
    return;
  }
  threads.push(thread);
  show(thread);
  $("question").focus();
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.replace(/^data:[^,]*,/, "data:image/*;base64,"));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function sizeOf(url) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
    image.onerror = () => resolve(null);
    image.src = url;
  });
}

function remove(thread) {
  if (running?.thread === thread) stop();
  const at = threads.indexOf(thread);
  threads.splice(at, 1);
  if (thread.url) URL.revokeObjectURL(thread.url);
  if (thread === current) show(threads[Math.min(at, threads.length - 1)] || null);
  else showThreads();
}

/* ---- what is shown */

function show(thread) {
  if (current) current.draft = $("question").value;
  current = thread;
  shownTurn = thread ? thread.turns.findLast((turn) => boxesOf(turn).length) || null : null;
  $("question").value = thread?.draft || "";
  grow();
  showThreads();
  showPicture();
  showDialogue();
}

function showThreads() {
  const items = threads.map((thread, at) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.className = "thumb";
    button.title = thread.name || say("noPicture");
    button.setAttribute("aria-label", `${at + 1}: ${button.title}`);
    button.setAttribute("aria-current", String(thread === current));
    const face = document.createElement(thread.url ? "img" : "span");
    if (thread.url) Object.assign(face, {src: thread.url, alt: ""});
    else face.textContent = "“";
    button.append(face);
    button.addEventListener("click", () => show(thread));
    const close = document.createElement("button");
    Object.assign(close, {type: "button", className: "close", textContent: "×", title: say("close")});
    close.setAttribute("aria-label", `${say("close")}: ${button.title}`);
    close.addEventListener("click", () => remove(thread));
    item.append(button, close);
    return item;
  });
  $("threads").replaceChildren(...items);
  document.querySelector(".rail").classList.toggle("alone", !threads.length);
}

function showPicture() {
  const there = Boolean(current?.url);
  $("empty").hidden = there;
  $("frame").hidden = $("caption").hidden = !there;
  $("question").placeholder = say(there ? "ask" : "askText");
  if (!there) return;
  if ($("shown").src !== current.url) $("shown").src = current.url;
  $("shown").alt = current.name;
  fit();
  showBoxes();
}

/* The picture as large as the room allows, at most twice its own size. */
function fit() {
  if (!current?.url) return;
  const stage = $("stage"), style = getComputedStyle(stage);
  const across = stage.clientWidth - parseFloat(style.paddingLeft) * 2;
  const down = stage.clientHeight - parseFloat(style.paddingTop) * 2 - $("caption").offsetHeight - 12;
  const scale = Math.min(across / current.width, down / current.height, 2);
  $("frame").style.width = `${Math.max(40, Math.round(current.width * scale))}px`;
  $("frame").style.height = `${Math.max(40, Math.round(current.height * scale))}px`;
}

function boxesOf(turn) {
  return turn.raw ? readAnswer(turn.raw, turn.state !== "running").boxes : [];
}

function showBoxes(chosen = null) {
  const boxes = shownTurn ? boxesOf(shownTurn) : [];
  $("boxes").classList.toggle("some", chosen !== null);
  $("boxes").replaceChildren(...boxes.map((box, at) => {
    const element = document.createElement("div"), label = document.createElement("span");
    const [x1, y1, x2, y2] = box.norm;
    element.className = `box${y1 < 60 ? " low" : ""}${x1 > 700 ? " right" : ""}${chosen === at + 1 ? " this" : ""}`;
    element.style.cssText = `left:${x1 / 10}%;top:${y1 / 10}%;width:${(x2 - x1) / 10}%;height:${(y2 - y1) / 10}%`;
    element.style.setProperty("--colour", box.colour);
    label.textContent = box.label ? `${box.label} ${at + 1}` : at + 1;
    element.append(label);
    return element;
  }));
  if (current?.url) {
    const size = `${current.name} · ${current.width}×${current.height}`;
    $("caption").textContent = boxes.length ? `${size} · ${say("boxes", {n: boxes.length})}` : size;
  }
}

function showDialogue() {
  const turns = current?.turns || [];
  $("log").replaceChildren(...(turns.length ? turns.map(turnElement) : [line("welcome", say("welcome"))]));
  $("log").scrollTop = $("log").scrollHeight;
  showIdeas();
  showSend();
}

function showIdeas() {
  const ideas = current?.url && !current.turns.length ? ["ideaDescribe", "ideaText", "ideaBox"] : [];
  $("ideas").replaceChildren(...ideas.map((id) => {
    const button = document.createElement("button");
    Object.assign(button, {type: "button", textContent: say(id)});
    button.addEventListener("click", () => ask(say(id)));
    return button;
  }));
}

function showSend() {
  const busy = running !== null && running.thread === current;
  $("send").classList.toggle("busy", busy);
  $("send").disabled = !busy && (running !== null || !$("question").value.trim());
  $("send").title = say(busy ? "stop" : "send");
  $("send").setAttribute("aria-label", $("send").title);
}

function turnElement(turn) {
  const element = document.createElement("article"), asked = document.createElement("p");
  element.className = "turn";
  asked.className = "asked";
  asked.textContent = turn.question;
  element.append(asked, document.createElement("div"));
  turn.element = element;
  showTurn(turn);
  return element;
}

/* An answer as far as it came. */
function showTurn(turn) {
  const place = turn.element.lastElementChild, over = turn.state !== "running";
  turn.element.classList.toggle("running", !over && Boolean(turn.raw));
  const read = readAnswer(turn.raw, over), parts = [];
  if (read.text.trim()) {
    const answer = document.createElement("div");
    answer.className = "answer";
    answer.append(answerElements(read.text, read.boxes, (number) => point(turn, number)));
    parts.push(answer);
  }
  if (!over && !turn.raw) parts.push(stateElement(turn));
  if (turn.error) parts.push(line("wrong", turn.error));
  for (const note of turn.notes || []) parts.push(line("note", note));
  if (over) parts.push(metaElement(turn));
  place.replaceChildren(...parts);
}

function line(kind, text) {
  const element = document.createElement("p");
  Object.assign(element, {className: kind, textContent: text});
  return element;
}

function stateElement(turn) {
  const element = document.createElement("div"), word = document.createElement("span");
  element.className = "state";
  const seconds = Math.round((Date.now() - turn.began) / 1000);
  const doing = turn.ahead ? say("waiting", {n: turn.ahead}) : say(current?.url && current.turns.length === 1 ? "looking" : "thinking");
  word.textContent = seconds >= 2 ? `${doing} · ${seconds} s` : doing;
  element.append(document.createElement("i"), word);
  return element;
}

function metaElement(turn) {
  const element = document.createElement("div");
  element.className = "meta";
  if (turn.raw) element.append(quiet("copy", () => copy(plainAnswer(turn.raw))));
  if (turn === current?.turns.at(-1)) element.append(quiet("retry", () => again(turn)));
  if (turn.usage && turn.seconds) {
    const figures = document.createElement("span");
    figures.textContent = say("speed", {tokens: turn.usage.completion_tokens, seconds: turn.seconds.toFixed(1)});
    element.append(figures);
  }
  return element;
}

function quiet(id, action) {
  const button = document.createElement("button");
  Object.assign(button, {type: "button", className: "quiet", textContent: say(id)});
  button.addEventListener("click", action);
  return button;
}

/* Points at one box of an answer in the picture; null: at all of them. */
function point(turn, number) {
  if (!current?.turns.includes(turn)) return; // a button that goes loses the focus, and says so
  shownTurn = turn;
  showBoxes(number);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  tell(say("copied"));
}

let toastTimer = 0;
function tell(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, Math.max(1500, 90 * text.length));
}

/* ---- keys, mouse, files */

function grow() {
  const area = $("question");
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
  showSend();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running && running.thread === current) stop();
  else ask($("question").value);
});
$("question").addEventListener("input", grow);
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  if (!running) ask($("question").value);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !$("dialog").open) stop();
  if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown") && threads.length) {
    event.preventDefault();
    const at = threads.indexOf(current) + (event.key === "ArrowDown" ? 1 : -1);
    show(threads[(at + threads.length) % threads.length]);
  }
});
for (const id of ["add", "choose"]) $(id).addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const files = [...$("file").files];
  $("file").value = "";
  await addFiles(files);
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files || [])];
  if (files.length) {
    event.preventDefault();
    addFiles(files);
  }
});
let inside = 0;
const carriesFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
document.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { inside += 1; $("veil").hidden = false; } });
document.addEventListener("dragleave", (event) => { if (carriesFiles(event)) { inside -= 1; $("veil").hidden = inside > 0 ? false : true; } });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("veil").hidden = true;
  addFiles([...(event.dataTransfer?.files || [])]);
});
new ResizeObserver(fit).observe($("stage"));

/* ---- language, theme, settings */

const dark = matchMedia("(prefers-color-scheme: dark)");
function paint() {
  const chosen = localStorage.getItem("theme");
  document.documentElement.dataset.theme = chosen || (dark.matches ? "dark" : "light");
}
dark.addEventListener("change", paint);
$("theme").addEventListener("click", () => {
  localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  paint();
});
$("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  speak();
});

function speak() {
  translate();
  $("language").textContent = say("otherLanguage");
  $("foot").textContent = say("foot");
  if (about) $("model").textContent = [about.model, about.quantization, about.embedded && say("embedded")].filter(Boolean).join(" · ");
  showThreads();
  showPicture();
  showDialogue();
}

function fill() {
  $("max-tokens").value = settings.maxTokens ?? "";
  $("max-tokens").placeholder = about?.max_tokens ?? "";
  $("temperature").value = settings.temperature ?? "";
  $("system").value = settings.system ?? "";
}
$("settings").addEventListener("click", () => { fill(); $("dialog").showModal(); });
$("reset").addEventListener("click", () => { for (const name of Object.keys(settings)) delete settings[name]; fill(); });
$("dialog").addEventListener("close", () => {
  const number = (id) => ($(id).value.trim() === "" || !$(id).checkValidity() ? null : Number($(id).value));
  Object.assign(settings, {maxTokens: number("max-tokens"), temperature: number("temperature"), system: $("system").value.trim() || null});
  localStorage.setItem("settings", JSON.stringify(settings));
});

paint();
speak();
fetch("api/status", {headers: headers()}).then(async (answer) => {
  if (answer.status === 401) tell(say("tokenNeeded"));
  else {
    about = await answer.json();
    speak();
  }
}, () => tell(say("gone")));

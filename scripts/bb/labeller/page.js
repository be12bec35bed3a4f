"use strict";
const $ = (id) => document.getElementById(id);
const own = sessionStorage.getItem("bb-window") || crypto.randomUUID();
sessionStorage.setItem("bb-window", own);
const SHEET = 12;  // images on a sheet
let tiles = [], asked = null, sheet = false, state = null, busy = false, polling = false;

async function ask(path, how = {}) {
  const answer = await fetch(path, how).catch(() => {
    throw new Error("bb label does not answer; the last answer may not be saved. Start it again in the terminal.");
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const call = (verb, given = {}) => ask("call/" + verb, { method: "POST",
  headers: { "content-type": "application/json" }, body: JSON.stringify({ window: own, ...given }) });

function make(tag, text, parent) {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
}

const percent = (x) => (100 * x).toFixed(0) + "%";
const interval = (p) => `${percent(p.value)} (${percent(p.low)} to ${percent(p.high)})`;

function draw() {
  const box = $("curve"), points = state.curve, ahead = state.forecast;
  box.replaceChildren();
  $("forecast").textContent = "";
  if (!points.length) {
    $("accuracy").textContent = "Shown after 20 labels of at least two classes" +
      (state.labelled > state.fitted ? `; the last fit had ${state.fitted}.` : ".");
    return;
  }
  const last = points.at(-1), far = ahead.at(-1) || last;
  $("accuracy").textContent =
    `${interval(last)} when trained on ${last.labels} labels and tested on other images: ${state.curve_of}`;
  if (ahead.length) {
    $("forecast").textContent = `Orange: ${state.further} further ${state.further === 1 ? "label" : "labels"}: ${interval(far)}`;
  }
  const X = (n) => 34 + 300 * n / far.labels, Y = (v) => 10 + 130 * (1 - v);
  const svg = (tag, given, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(given)) made.setAttribute(k, v);
    made.textContent = text;
    return made;
  };
  const root = svg("svg", { viewBox: "0 0 350 165", role: "img", "aria-label": "Accuracy over the number of labels" });
  for (const v of [0, 0.5, 1]) root.append(svg("line", { class: "grid", x1: 34, x2: 345, y1: Y(v), y2: Y(v) }));
  const at = (key) => points.map((p) => `${X(p.labels)},${Y(p[key])}`);
  root.append(svg("polygon", { class: "band", points: [...at("high"), ...at("low").reverse()].join(" ") }));
  root.append(svg("polyline", { class: "line", points: at("value").join(" ") }));
  for (const p of ahead) {
    root.append(svg("line", { class: "ahead", x1: X(p.labels), x2: X(p.labels), y1: Y(p.low), y2: Y(p.high) }));
    root.append(svg("circle", { class: "dot", cx: X(p.labels), cy: Y(p.value), r: 4 }));
  }
  for (const v of [0, 0.5, 1]) root.append(svg("text", { x: 0, y: Y(v) + 4 }, percent(v)));
  root.append(svg("text", { x: 345, y: 158, "text-anchor": "end" }, `${far.labels} labels`));
  if (X(last.labels) < 250) {
    root.append(svg("text", { x: X(last.labels), y: 158, "text-anchor": "middle" }, String(last.labels)));
  }
  box.append(root);
}

function show() {
  $("title").textContent = state.title || $("title").textContent;
  $("status").textContent = `${state.labelled} of ${state.images} labelled, ${state.skipped} skipped` +
    (state.fitting ? ", fitting…" : `, next fit after ${state.until_fit} ${state.until_fit === 1 ? "answer" : "answers"}`);
  if (state.failure) $("error").textContent = state.failure;
  $("classes").replaceChildren();
  state.classes.forEach(([name, n], i) => {
    const button = make("button", "", $("classes"));
    if (i < 9) make("kbd", String(i + 1), button);
    button.append((i < 9 ? " " : "") + `${name} (${n})`);
    button.addEventListener("click", () => answer(name));
  });
  draw();
  $("near").replaceChildren();
  document.body.dataset.image = asked ? asked.image : "";
  $("guess").textContent = asked ? asked.guesses[0] || "none yet" : "";
  $("name").textContent = asked ? asked.id : (state.fitting ? "Choosing images…" : "No image is left.");
  $("image").hidden = !asked || sheet;
  $("sheet").replaceChildren();
  $("sheet").hidden = $("all").hidden = !sheet;
  $("mode").firstChild.textContent = sheet ? "One image " : "Sheet ";
  if (!asked) return;
  if (sheet) {
    for (const each of tiles) {
      const tile = make("button", "", $("sheet")), picture = make("img", "", tile);
      picture.src = `image/${each.image}/small`;
      picture.alt = each.id;
      make("span", each.guesses[0] || "?", tile);
      if (each === asked) tile.setAttribute("aria-current", "true");
      tile.addEventListener("click", () => { asked = each; show(); });
    }
  } else $("image").src = `image/${asked.image}/large`;
  for (const each of asked.neighbours) {
    const figure = make("figure", "", $("near")), picture = make("img", "", figure);
    picture.src = `image/${each.image}/small`;
    picture.alt = each.label;
    make("figcaption", each.label, figure);
  }
}

async function poll() {
  if (polling) return;
  polling = true;
  try {
    while (state.fitting) {
      await new Promise((done) => setTimeout(done, 300));
      state = await ask("state");
      if (!state.fitting && !asked && !busy) await next();
      if (state.failure) break;
    }
    if (!busy) show();
  } catch (error) { $("error").textContent = error.message; } finally { polling = false; }
}

async function next() {
  const got = await call("next", { n: sheet ? SHEET : 1 });
  tiles = got.done;
  asked = tiles[0] || null;
  state = { ...state, ...got.state };
}

async function settle(verb, given = {}) {
  const got = await call(verb, { image: asked.image, ...given }), at = tiles.indexOf(asked);
  state = { ...state, ...got.state };
  tiles.splice(at, 1);
  asked = tiles[Math.min(at, tiles.length - 1)] || null;
}

async function act(work) {
  if (busy) return;
  busy = true;
  document.body.ariaBusy = "true";
  $("error").textContent = "";
  let failure = "";
  try { await work(); } catch (error) { failure = error.message; }
  try { if (state) show(); } finally {
    if (failure) $("error").textContent = failure;
    busy = false;
    document.body.ariaBusy = "false";
  }
  if (state && state.fitting) poll();
}

const answer = (label) => act(async () => {
  if (!asked || !label) return;
  await settle("answer", { label });
  $("typed").value = "";
  $("typed").blur();
  if (!asked) await next();
});
const acceptAll = () => act(async () => {
  for (const each of tiles.filter((tile) => tile.guesses.length)) {
    asked = each;
    await settle("answer", { label: each.guesses[0] });
  }
  if (!asked) await next();
});
const skip = () => act(async () => { if (asked) { await settle("skip"); if (!asked) await next(); } });
const undo = () => act(async () => {
  const got = await call("undo");
  asked = got.done;
  tiles = sheet ? [asked, ...tiles.filter((each) => each.image !== asked.image)] : [asked];
  state = { ...state, ...got.state };
});
const mode = () => act(async () => { sheet = !sheet; await next(); });
function move(by) {
  if (!sheet || !asked) return;
  asked = tiles[Math.max(0, Math.min(tiles.length - 1, tiles.indexOf(asked) + by))];
  show();
}
const accept = () => asked && asked.guesses.length && answer(asked.guesses[0]);

$("accept").addEventListener("click", accept);
$("all").addEventListener("click", acceptAll);
$("mode").addEventListener("click", mode);
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("other").addEventListener("submit", (event) => { event.preventDefault(); answer($("typed").value.trim()); });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target === $("typed")) { if (event.key === "Escape") $("typed").blur(); return; }
  const key = event.key.toLowerCase(), number = "123456789".indexOf(key);
  if (key === "enter" && event.target.tagName !== "BUTTON") accept();
  else if (number >= 0 && state && state.classes[number]) answer(state.classes[number][0]);
  else if (key === "arrowright" || key === "arrowdown") move(1);
  else if (key === "arrowleft" || key === "arrowup") move(-1);
  else if (key === "a" && sheet) acceptAll();
  else if (key === "g") mode();
  else if (key === "s") skip();
  else if (key === "u") undo();
  else if (key === "n") $("typed").focus();
  else return;
  event.preventDefault();
});
act(async () => { state = await ask("state"); await next(); });

// Connects the pad, the gateway and the view.

import * as gateway from "./gateway.js";
import { Pad } from "./pad.js";
import { load } from "./picture.js";
import { Recogniser } from "./recogniser.js";
import { inWords, setTask, task, texts } from "./task.js";
import * as view from "./view.js";

const SLOW = 800; // milliseconds until the page shows that it waits
const RETRY = 2000; // milliseconds between checks of an endpoint with a problem
const REFRESH = 10_000; // milliseconds between checks of a ready endpoint, whose release may change

const $ = (id) => document.getElementById(id);
const pad = new Pad($("pad"), $("pen"));
let endpoint = new URLSearchParams(location.search).get("endpoint") ?? "";
let corrections = false;
let penUp = true;
let answered = null; // the last settled answer with its drawing, for corrections; one object per drawing
let checkTimer = 0;
let changes = 0; // of the pad; a picture that is loaded after a change is dropped

const recogniser = new Recogniser({
  settled: () => penUp,
  async request(signal) {
    const slow = setTimeout(() => view.showState("waiting"), SLOW);
    try {
      const drawing = pad.png();
      return { drawing, ...(await gateway.recognise(endpoint, drawing, signal)) };
    } finally {
      clearTimeout(slow);
      if ($("state").dataset.state === "waiting") view.showState("");
    }
  },
  show(answer, settled) {
    view.showState("");
    if (answer.digits.some(isForeign)) return check();
    if (pad.hasPicture && answer.verdict.state === "empty") answer.verdict.text = texts().none;
    view.showAnswer(answer, settled);
    const parts = answer.digits.filter(({ box }) => box.join() !== "0,0,1,1"); // not the whole picture
    view.showBoxes(pad.hasPicture || answer.digits.length > 1 ? parts : [], (box) => pad.place(box));
    answered = settled && answer.digits.length ? Object.assign(answered ?? {}, answer) : null;
    view.showCorrection(corrections && answered !== null);
  },
  fail(error) {
    answered = null;
    showNothing("No answer.");
    view.showCorrection(false);
    view.showState(error.state, error.message);
    clearTimeout(checkTimer);
    checkTimer = setTimeout(check, RETRY); // not immediately, because an endpoint that rejects requests may report ready
  },
});

/** Return whether a digit of an answer is of another task than the page's. */
function isForeign({ class: index, label, picture }) {
  return task.labels[index] !== label || atob(picture).length !== task.height * task.width * task.channels;
}

/** Check the endpoint, repeatedly while the page is visible; when it is ready again, recognise the drawing. */
async function check() {
  clearTimeout(checkTimer);
  if (document.hidden) return;
  const before = endpoint;
  let name = endpoint;
  let another = false;
  let result;
  try {
    another = await list();
    name = endpoint;
    result = await gateway.model(name);
  } catch ({ state, message }) {
    result = { state, message };
  }
  if (name !== endpoint) return;
  const hadProblem = view.hasProblem();
  if (result.state === "ready") {
    if ($("state").dataset.state !== "waiting") view.showState("");
    corrections = result.feedback;
    another = follow(result.task) || another || name !== before;
    view.showModel(result.model);
    if ((hadProblem || another) && !pad.empty) recogniser.now();
  } else {
    view.showState(result.state, result.message);
  }
  clearTimeout(checkTimer); // two checks may have run concurrently
  checkTimer = setTimeout(check, result.state === "ready" ? REFRESH : RETRY);
}

/**
 * Take over the gateway's endpoints, which are others after it was started again with others.
 * Return whether the page shows another task than before.
 */
async function list() {
  const { endpoints, feedback, task: own } = await gateway.endpoints();
  const choice = $("endpoint");
  if (JSON.stringify(endpoints) === JSON.stringify(Array.from(choice.options, ({ value }) => value))) return false;
  corrections = feedback;
  const another = follow(own);
  if (!endpoints.includes(endpoint)) endpoint = endpoints[0];
  choice.replaceChildren(...endpoints.map((name) => new Option(name, name, false, name === endpoint)));
  $("choice").hidden = endpoints.length < 2;
  return another;
}

/** Adapt the page to the task that is recognised. Return whether it is another one than before. */
function follow(next) {
  if (!setTask(next)) return false;
  answered = null;
  recogniser.cancel();
  view.showTask();
  showNothing();
  view.showCorrection(false);
  pad.drawable = task.drawn;
  return true;
}

function showNothing(text) {
  view.showNothing(text);
  view.showBoxes([]);
}

/** Show a picture file on the pad. */
async function take(file) {
  if (!file) return;
  const before = ++changes;
  const [picture, why] = await load(file).then((loaded) => [loaded], (error) => [null, error.message]);
  if (before !== changes) return;
  pad.show(picture);
  if (why) showNothing(why);
}

/** Show the picture that was dropped or pasted. `text` is whether text was meant. */
function takeFrom({ files: [file] }, text = false) {
  if (file) take(file);
  else if (pad.empty && !text) showNothing("That is no file. Save the picture, and drop or choose the file.");
}

function refresh() {
  changes++;
  $("hint").hidden = !pad.empty;
  $("undo").disabled = $("clear").disabled = pad.empty;
}

pad.addEventListener("start", () => {
  penUp = false;
  view.showBoxes([]);
  answered = null;
  recogniser.cancel();
  view.showCorrection(false);
  refresh();
});
pad.addEventListener("move", () => {
  if (!view.hasProblem()) recogniser.soon(); // an endpoint with a problem gets requests only when it is ready again
});
pad.addEventListener("end", () => {
  penUp = true;
  recogniser.now();
});
pad.addEventListener("change", () => {
  penUp = true;
  answered = null;
  recogniser.cancel();
  view.showCorrection(false);
  refresh();
  if (pad.empty) showNothing();
  else recogniser.now();
});
pad.addEventListener("detect", () => recogniser.now());
$("detect").addEventListener("click", () => recogniser.now());
document.addEventListener("visibilitychange", check);
for (const [button, input] of [["choose", "file"], ["camera", "photo"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
document.addEventListener("paste", (event) => takeFrom(event.clipboardData, event.target === $("number")));
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // otherwise the browser opens the file instead of the page
    $("pad").classList.toggle("target", type === "dragover");
    if (type === "drop") takeFrom(event.dataTransfer);
  });
}
$("pad").addEventListener("click", () => !task.drawn && $("file").click());
$("undo").addEventListener("click", () => pad.undo());
$("clear").addEventListener("click", () => pad.clear());
$("endpoint").addEventListener("change", async (event) => {
  endpoint = event.target.value;
  recogniser.cancel();
  await check();
  if (!pad.empty) recogniser.now();
});

view.onCorrection(async (label) => {
  if (!answered) return;
  const current = answered;
  const { drawing, model, number: answer } = current;
  const result = await gateway.correct(endpoint, drawing, { label, answer, release: model.release }).then(
    () => [label, `Thank you. Stored as ${inWords(label)}; the next run learns from it.`],
    (error) => [null, `Not confirmed: ${error.message}`], // after a timeout it may be stored nevertheless
  );
  if (answered === current) view.showCorrection(true, ...result);
});

view.showTask();
refresh();
check();

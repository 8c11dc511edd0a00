// Wires the pad, the gateway and the view together.

import * as gateway from "./gateway.js";
import { Pad } from "./pad.js";
import { Recogniser } from "./recogniser.js";
import * as view from "./view.js";

const SLOW = 800; // milliseconds after which the page says that it waits
const AGAIN = 2000; // milliseconds between looks at an endpoint in trouble
const STILL = 10_000; // milliseconds between looks at a ready one, which may serve another release by then

const $ = (id) => document.getElementById(id);
const pad = new Pad($("pad"));
let endpoint = new URLSearchParams(location.search).get("endpoint") ?? "";
let corrections = false;
let penUp = true;
let answered = null; // the last settled answer with its drawing: what a correction is about; one object for one drawing
let looking = 0;

const recogniser = new Recogniser({
  settled: () => penUp,
  async ask(signal) {
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
    view.showAnswer(answer, settled);
    answered = settled && answer.probabilities ? Object.assign(answered ?? {}, answer) : null;
    view.showCorrection(corrections && answered !== null);
  },
  fail(error) {
    answered = null;
    view.showNothing("No answer.");
    view.showCorrection(false);
    view.showState(error.state, error.message);
    clearTimeout(looking);
    looking = setTimeout(look, AGAIN); // not at once: an endpoint that refuses this may still call itself ready
  },
});

/** Look at the endpoint, again and again while the page is seen; once it is back, ask about what is drawn. */
async function look() {
  clearTimeout(looking);
  if (document.hidden) return;
  const asked = endpoint;
  const found = await gateway.model(asked).catch((error) => ({ state: error.state, message: error.message }));
  if (asked !== endpoint) return;
  const waited = view.troubled();
  if (found.state === "ready") {
    if ($("state").dataset.state !== "waiting") view.showState("");
    view.showModel(found.model);
    if (waited && !pad.empty) recogniser.now();
  } else {
    view.showState(found.state, found.message);
  }
  clearTimeout(looking); // two looks may have been under way
  looking = setTimeout(look, found.state === "ready" ? STILL : AGAIN);
}

function refresh() {
  $("hint").hidden = !pad.empty;
  $("undo").disabled = $("clear").disabled = pad.empty;
}

pad.addEventListener("start", () => {
  penUp = false;
  answered = null;
  recogniser.drop();
  view.showCorrection(false);
  refresh();
});
pad.addEventListener("move", () => {
  if (!view.troubled()) recogniser.soon(); // an endpoint in trouble is asked when it is back, not at every move
});
pad.addEventListener("end", () => {
  penUp = true;
  recogniser.now();
});
pad.addEventListener("change", () => {
  penUp = true;
  answered = null;
  recogniser.drop();
  view.showCorrection(false);
  refresh();
  if (pad.empty) view.showNothing();
  else recogniser.now();
});
pad.addEventListener("detect", () => recogniser.now());
$("detect").addEventListener("click", () => recogniser.now());
document.addEventListener("visibilitychange", look);
$("undo").addEventListener("click", () => pad.undo());
$("clear").addEventListener("click", () => pad.clear());
$("pen").addEventListener("input", (event) => (pad.penWidth = event.target.valueAsNumber / 100));
$("endpoint").addEventListener("change", (event) => {
  endpoint = event.target.value;
  recogniser.drop();
  look();
  if (!pad.empty) recogniser.now();
});

view.makeLabels(async (label) => {
  if (!answered) return;
  const about = answered;
  const { drawing, model, class: answer } = about;
  const said = await gateway.correct(endpoint, drawing, { label, answer, release: model.release }).then(
    () => [label, `Thank you. Stored as ${view.named(label)}; the next run learns from it.`],
    (error) => [null, `Not confirmed: ${error.message}`], // whoever gives up waiting knows no more
  );
  if (answered === about) view.showCorrection(true, ...said);
});

async function start() {
  try {
    const known = await gateway.endpoints();
    corrections = known.feedback;
    if (!known.endpoints.includes(endpoint)) endpoint = known.endpoints[0];
    $("endpoint").replaceChildren(...known.endpoints.map((name) => new Option(name, name, false, name === endpoint)));
    $("choice").hidden = known.endpoints.length < 2;
  } catch (error) {
    view.showState(error.state, error.message);
    setTimeout(start, AGAIN);
    return;
  }
  look();
}

refresh();
start();

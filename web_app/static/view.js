// The page's output. Text is inserted as text, never as markup.

import { inWords, task, texts } from "./task.js";

const $ = (id) => document.getElementById(id);
const MANY = 10; // labels that are shown without scrolling
const SHORT = 4; // digits of a number that is shown next to its verdict
const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)}%`;

const STATES = {
  starting: "The model is starting. This page tries again automatically.",
  unreachable: "The model cannot be reached. This page keeps trying.",
  busy: "The model is overloaded. This page tries again in a moment.",
  "wrong model": "This endpoint serves a model that this page cannot use.",
  "gateway unreachable": "The server of this page does not answer. This page keeps trying.",
  waiting: "Waiting for the model …",
};

let rows = []; // one per label
let choose = () => {}; // called with the right label

/** Show what the task needs: its texts, a row and a button for each label, and the pen only where one can draw. */
export function showTask() {
  const { title, lead, hint, choose: choice, bars } = texts();
  document.title = $("title").textContent = title;
  $("lead").textContent = lead;
  $("hint").firstElementChild.innerText = hint;
  $("choose").textContent = choice;
  $("choose").className = task.drawn ? "" : "main";
  $("bars").setAttribute("aria-label", bars);
  document.body.dataset.kind = task.number ? "number" : "labels";
  for (const id of ["undo", "pen-width", "detect", "keys"]) $(id).hidden = !task.drawn;
  $("drawing").setAttribute("aria-label", task.drawn ? "Drawing" : "Picture");
  const pad = { role: "application", tabindex: "0", "aria-label": "Drawing pad", "aria-describedby": "keys" };
  if (!task.drawn) Object.assign(pad, { role: "img", tabindex: null, "aria-label": "The picture", "aria-describedby": null });
  for (const [name, value] of Object.entries(pad)) {
    if (value === null) $("pad").removeAttribute(name);
    else $("pad").setAttribute(name, value);
  }
  rows = task.labels.map(makeRow);
  $("bars").setAttribute("tabindex", "0"); // to scroll by keyboard
  if (task.labels.length <= MANY) $("bars").removeAttribute("tabindex");
  $("bars").replaceChildren(...rows.map(({ row }) => row));
  $("labels").replaceChildren(...task.labels.map(makeLabel));
  [$("seen").width, $("seen").height] = [task.width, task.height];
}

function makeRow(label) {
  const row = document.createElement("li");
  const [name, track, bar, share] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
  name.textContent = label;
  track.className = "track";
  bar.className = "bar";
  share.className = "share";
  share.textContent = "–";
  track.append(bar);
  row.append(name, track, share);
  return { row, bar, share };
}

function makeLabel(label) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.setAttribute("aria-label", `That was ${inWords(label)}`);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => choose(label));
  return button;
}

export const hasProblem = () => $("state").dataset.state !== "";

export function showState(state, detail = "") {
  // Never hidden, because screen readers skip a live region that appears together with its text.
  $("state").dataset.state = state;
  const text = state ? (STATES[state] ?? detail) : "";
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").title = detail;
}

let digits = []; // of the answer shown
let selected = 0; // the one whose bars are shown

export function showAnswer(answer, settled) {
  const { state, text } = answer.verdict;
  if (answer.digits.length !== digits.length) selected = 0;
  digits = answer.digits;
  $("digit").textContent = answer.number;
  $("digit").dataset.state = state;
  $("digit").dataset.class = answer.number;
  $("digit").style.setProperty("--letters", answer.number.length);
  document.querySelector(".read").classList.toggle("long", !task.number || answer.number.length > SHORT);
  $("verdict").textContent = settled ? text : "Recognising …";
  if (settled) $("announced").textContent = text; // only then, so that a screen reader is quiet while drawing
  $("time").textContent = answer.number ? `${answer.milliseconds.toFixed(answer.milliseconds < 10 ? 1 : 0)} ms` : "";
  showParts();
  showDigit();
  if (answer.model) showModel(answer.model);
}

/** Show the picture and the probabilities of the selected digit. */
function showDigit() {
  const digit = digits[selected];
  paint($("seen"), digit?.picture ?? "");
  $("seen").setAttribute("aria-label", `What the model sees: ${digit ? `${task.width} by ${task.height} pixels` : "nothing yet"}`);
  rows.forEach(({ row, bar, share }, value) => {
    const probability = digit?.probabilities[value];
    bar.style.transform = `scaleX(${probability ?? 0})`;
    share.textContent = digit ? percent(probability) : "–";
    row.className = digit && value === digit.class ? "best" : "";
  });
  if (!task.number && digit) {
    const order = [...rows.keys()].sort((a, b) => digit.probabilities[b] - digit.probabilities[a]);
    $("bars").replaceChildren(...order.map((value) => rows[value].row));
    $("bars").scrollTop = 0;
  }
  [...$("parts").children].forEach((part, n) => part.setAttribute("aria-pressed", String(n === selected)));
}

/** Show the digits of a number: what the model sees of each, its answer and its probability. */
function showParts() {
  const several = digits.length > 1;
  $("parts").hidden = !several;
  if (!several) return $("parts").replaceChildren();
  while ($("parts").children.length > digits.length) $("parts").lastChild.remove();
  while ($("parts").children.length < digits.length) {
    const [button, canvas, name] = ["button", "canvas", "span"].map((tag) => document.createElement(tag));
    const n = $("parts").children.length;
    button.type = "button";
    [canvas.width, canvas.height] = [task.width, task.height];
    button.append(canvas, name);
    button.addEventListener("click", () => {
      selected = n;
      showDigit();
    });
    $("parts").append(button);
  }
  digits.forEach(({ picture, class: digit, probabilities, verdict }, n) => {
    const part = $("parts").children[n];
    paint(part.firstChild, picture);
    part.lastChild.textContent = `${digit}${verdict === "sure" ? "" : "?"} ${percent(probabilities[digit], 0)}`;
    part.dataset.verdict = verdict;
  });
}

/** Mark the digits on the pad. `place` converts a box of the picture to one of the pad: left, top, right, bottom in 0..1. */
export function showBoxes(marked, place) {
  $("boxes").replaceChildren(
    ...marked.map(({ box, verdict }) => {
      const mark = document.createElement("span");
      const [left, top, right, bottom] = place(box);
      mark.dataset.verdict = verdict;
      const sides = { left, top, right: 1 - right, bottom: 1 - bottom };
      for (const [side, share] of Object.entries(sides)) mark.style[side] = `calc(${share * 100}% - 4px)`;
      return mark;
    }),
  );
}

export function showNothing(text = texts().nothing) {
  showAnswer({ verdict: { state: "empty", text }, number: "", digits: [], milliseconds: 0 }, true);
}

function paint(canvas, encoded) {
  const context = canvas.getContext("2d");
  const pixels = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const image = context.createImageData(canvas.width, canvas.height);
  const { channels } = task;
  for (let i = 0; i * channels < pixels.length; i++) {
    const [red, green = red, blue = red] = pixels.subarray(i * channels, (i + 1) * channels);
    image.data.set([red, green, blue, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

export function showModel(model) {
  const known = { mnist: "MNIST's test set", "sklearn-digits": "scikit-learn's digits (not MNIST)" };
  const data = task.name === "digits" ? known[model.dataset] : "its test set";
  const facts = [
    ["Model", [model.name, model.release].filter(Boolean).join(" ")],
    ["Digest", model.digest && `sha256:${model.digest.slice(0, 16)}…`], // longer than the release's name, which is a prefix of the digest
    ["Accuracy", model.accuracy != null && `${percent(model.accuracy, 2)}${data ? ` on ${data}` : ""}`],
    ["MLflow run", model.mlflow_run?.slice(0, 8)],
  ];
  $("model").replaceChildren(
    ...facts.filter(([, fact]) => fact).map(([term, fact]) => {
      const pair = document.createElement("div");
      const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
      dt.textContent = term;
      dd.textContent = fact;
      pair.append(dt, dd);
      return pair;
    }),
  );
}

/** Call `correct(label)` with the right label, or the right number, when the user chooses it. */
export function onCorrection(correct) {
  choose = correct;
  $("whole").addEventListener("submit", (event) => {
    event.preventDefault();
    choose($("number").value);
  });
}

export function showCorrection(offered, chosen = null, text = "") {
  $("correction").hidden = !offered;
  $("labels").hidden = digits.length > 1;
  $("whole").hidden = digits.length < 2;
  $("number").value = chosen ?? digits.map((digit) => digit.class).join("");
  $("thanks").textContent = text;
  [...$("labels").children].forEach((button, n) => button.setAttribute("aria-pressed", String(task.labels[n] === chosen)));
}

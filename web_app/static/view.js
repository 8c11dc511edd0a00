// The page's output. Text is inserted as text, never as markup.

const $ = (id) => document.getElementById(id);
export const withArticle = (number) => (String(number).length > 1 ? number : `${number === 8 ? "an" : "a"} ${number}`);
const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)}%`;

const STATES = {
  starting: "The model is starting. This page tries again automatically.",
  unreachable: "The model cannot be reached. This page keeps trying.",
  busy: "The model is overloaded. This page tries again in a moment.",
  "wrong model": "This endpoint serves a model that is not for digits.",
  "gateway unreachable": "The server of this page does not answer. This page keeps trying.",
  waiting: "Waiting for the model …",
};

const rows = Array.from({ length: 10 }, (_, digit) => {
  const row = document.createElement("li");
  const [name, track, bar, share] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
  name.textContent = digit;
  track.className = "track";
  bar.className = "bar";
  share.className = "share";
  share.textContent = "–";
  track.append(bar);
  row.append(name, track, share);
  $("bars").append(row);
  return { row, bar, share };
});

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
  $("seen").setAttribute("aria-label", `What the model sees: ${digit ? "28 by 28 pixels" : "nothing yet"}`);
  rows.forEach(({ row, bar, share }, value) => {
    const probability = digit?.probabilities[value];
    bar.style.transform = `scaleX(${probability ?? 0})`;
    share.textContent = digit ? percent(probability) : "–";
    row.className = digit && value === digit.class ? "best" : "";
  });
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
    canvas.width = canvas.height = 28;
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

export function showNothing(text = "Nothing is drawn yet.") {
  showAnswer({ verdict: { state: "empty", text }, number: "", digits: [], milliseconds: 0 }, true);
}

function paint(canvas, encoded) {
  const context = canvas.getContext("2d");
  const pixels = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const image = context.createImageData(28, 28);
  pixels.forEach((level, i) => image.data.set([level, level, level, 255], 4 * i));
  context.putImageData(image, 0, 0);
}

export function showModel(model) {
  const data = { mnist: "MNIST's test set", "sklearn-digits": "scikit-learn's digits (not MNIST)" }[model.dataset];
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

/** Offer a button for each digit, and a field for a number; `choose(label)` is called with the right one. */
export function makeLabels(choose) {
  $("whole").addEventListener("submit", (event) => {
    event.preventDefault();
    choose($("number").value);
  });
  for (let digit = 0; digit < 10; digit++) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = digit;
    button.setAttribute("aria-label", `That was ${withArticle(digit)}`);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => choose(digit));
    $("labels").append(button);
  }
}

export function showCorrection(offered, chosen = null, text = "") {
  $("correction").hidden = !offered;
  $("labels").hidden = digits.length > 1;
  $("whole").hidden = digits.length < 2;
  $("number").value = chosen ?? digits.map((digit) => digit.class).join("");
  $("thanks").textContent = text;
  [...$("labels").children].forEach((button, digit) => button.setAttribute("aria-pressed", String(digit === chosen)));
}

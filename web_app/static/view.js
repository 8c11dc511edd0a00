// The page's output. Text is inserted as text, never as markup.

const $ = (id) => document.getElementById(id);
export const withArticle = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;
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

export function showAnswer(answer, settled) {
  const { state, text } = answer.verdict;
  const known = state === "sure" || state === "unsure";
  $("digit").textContent = known ? answer.class : state === "several" ? "?" : "";
  $("digit").dataset.state = state;
  $("digit").dataset.class = answer.class ?? "";
  $("verdict").textContent = settled ? text : "Recognising …";
  if (settled) $("announced").textContent = text; // only then, so that a screen reader is quiet while drawing
  $("time").textContent = answer.probabilities ? `${answer.milliseconds.toFixed(answer.milliseconds < 10 ? 1 : 0)} ms` : "";
  showPicture(answer.picture, answer.class);
  rows.forEach(({ row, bar, share }, digit) => {
    const value = answer.probabilities?.[digit];
    bar.style.transform = `scaleX(${value ?? 0})`;
    share.textContent = value === undefined ? "–" : percent(value);
    row.className = value !== undefined && digit === answer.class ? "best" : "";
  });
  if (answer.model) showModel(answer.model);
}

export function showNothing(text = "Nothing is drawn yet.") {
  showAnswer({ verdict: { state: "empty", text }, class: null, probabilities: null, picture: "", milliseconds: 0 }, true);
}

function showPicture(encoded, digit) {
  const context = $("seen").getContext("2d");
  const pixels = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const image = context.createImageData(28, 28);
  pixels.forEach((level, i) => image.data.set([level, level, level, 255], 4 * i));
  context.putImageData(image, 0, 0);
  $("seen").setAttribute("aria-label", `What the model sees: ${digit === null ? "nothing yet" : "28 by 28 pixels"}`);
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

export function makeLabels(choose) {
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
  $("thanks").textContent = text;
  [...$("labels").children].forEach((button, digit) => button.setAttribute("aria-pressed", String(digit === chosen)));
}

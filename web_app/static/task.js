// What the endpoint recognises, and the page's texts about it.

export let task = {
  name: "digits",
  labels: [..."0123456789"],
  height: 28,
  width: 28,
  channels: 1,
  reading: "pen",
  drawn: true,
  number: true,
};

/** Take another task, and return whether it differs. */
export function setTask(next) {
  const differs = JSON.stringify(next) !== JSON.stringify(task);
  task = next;
  return differs;
}

/** Return a label for use in a sentence: "a 7", "an 8", "407", "tulip". */
export const inWords = (label) => (task.number && label.length === 1 ? `${label === "8" ? "an" : "a"} ${label}` : label);

export function texts() {
  const { labels, drawn, number } = task;
  const name = task.name.replaceAll("-", " ");
  const all = `${labels.slice(0, -1).join(", ")} or ${labels.at(-1)}`;
  const which = all.length > 100 ? `one of ${labels.length} classes` : all;
  const drawing = "The model recognises it while you draw.";
  return {
    title: name[0].toUpperCase() + name.slice(1),
    lead: number
      ? `Draw a digit or a number, or choose a picture of one. ${drawing}`
      : drawn
        ? `Draw ${which}, or choose a picture. ${drawing}`
        : `Choose a picture, and the model recognises what it shows: ${which}.`,
    hint: drawn ? "Draw here,\nor drop or paste a picture" : "Choose a picture,\nor drop or paste one here",
    choose: drawn ? "Picture" : "Choose a picture",
    nothing: drawn ? "Nothing is drawn yet." : "No picture is chosen yet.",
    none: `No ${number ? "digit" : "drawing"} is found in this picture.`,
    bars: `Probability of each ${number ? "digit" : "class"}`,
  };
}

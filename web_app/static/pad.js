// The drawing pad, which shows a drawing or a picture. Strokes are in 0..1 of its side, so that they survive a resize; the
// paper of a drawing is transparent.

import { toPng } from "./picture.js";

const SENT_SIDE = 280; // pixels of the image sent to the gateway: enough for any task, and fast to encode
const MAX_SIDE = 1000; // pixels of the canvas, also on a high-density screen
const STEP = 1 / 32; // of the side, per press of an arrow key

export class Pad extends EventTarget {
  #strokes = [];
  #picture = null; // { canvas, png }, instead of strokes
  #replaced = null; // the picture that the current stroke replaced
  #current = null;
  #pointer = null;
  #cursor = null; // the keyboard's pen: [x, y], shown while the pad is used by keyboard
  #down = false;
  #drawable = true;

  /** @param pen - the slider of the pen's width, in percent of the pad's side */
  constructor(canvas, pen) {
    super();
    this.canvas = canvas;
    this.pen = pen;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.scratch = document.createElement("canvas");
    this.scratch.width = this.scratch.height = SENT_SIDE;
    this.scratchContext = this.scratch.getContext("2d", { willReadFrequently: true });
    this.marker = document.createElement("span");
    canvas.addEventListener("pointerdown", (event) => this.#pressed(event));
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    canvas.addEventListener("pointerup", (event) => this.#lifted(event));
    canvas.addEventListener("pointercancel", (event) => this.#withdrawn(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#leave());
    new ResizeObserver(() => this.#fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
    this.#fit();
  }

  get empty() {
    return this.#strokes.length === 0 && !this.#picture;
  }

  /** Whether one can draw, or only show a picture. */
  set drawable(drawable) {
    this.#drawable = drawable;
    if (!drawable && !this.#picture && this.#strokes.length) this.clear();
  }

  get hasPicture() {
    return this.#picture !== null;
  }

  undo() {
    if (this.#picture) this.#picture = null;
    else this.#strokes.pop();
    this.#changed();
  }

  clear() {
    this.show(null);
  }

  /** Show a picture, { canvas, png }, or nothing, instead of the drawing. */
  show(picture) {
    this.#strokes = [];
    this.#picture = picture;
    this.#changed();
  }

  /** Return where a box of the picture, [left, top, right, bottom] in 0..1, is on the pad. */
  place(box) {
    const { width = 1, height = 1 } = this.#picture?.canvas ?? {};
    const longer = Math.max(width, height);
    return box.map((side, i) => 0.5 + ((side - 0.5) * (i % 2 ? height : width)) / longer);
  }

  /** Return the drawing or the picture as a PNG. */
  png() {
    if (this.#picture) return this.#picture.png;
    this.scratchContext.clearRect(0, 0, SENT_SIDE, SENT_SIDE);
    this.scratchContext.imageSmoothingQuality = "high";
    this.scratchContext.drawImage(this.canvas, 0, 0, SENT_SIDE, SENT_SIDE);
    return toPng(this.scratch);
  }

  #emit(type) {
    this.dispatchEvent(new Event(type));
  }

  #changed() {
    this.#current = this.#pointer = null;
    this.#down = false;
    this.#mark();
    this.#paint();
    this.#emit("change");
  }

  #begin(point) {
    this.#replaced = this.#picture;
    if (this.#picture) {
      this.#picture = null;
      this.#paint();
    }
    this.#current = { width: this.pen.valueAsNumber / 100, points: [point] };
    this.#strokes.push(this.#current);
    this.#line(this.#current, 0);
    this.#emit("start");
  }

  #extend(point) {
    this.#current.points.push(point);
    this.#line(this.#current, this.#current.points.length - 2);
  }

  #end() {
    this.#current = null;
    this.#emit("end");
  }

  // Input by mouse, pen or finger: one pointer at a time.

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #pressed(event) {
    if (!this.#drawable || this.#pointer !== null || event.button !== 0) return;
    this.#leave();
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointer = event.pointerId;
    this.#begin(this.#at(event));
  }

  #moved(event) {
    if (event.pointerId !== this.#pointer) return;
    if (event.buttons === 0) return this.#lifted(event); // released where the page gets no event, as in a system dialog
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#extend(this.#at(each));
    this.#emit("move");
  }

  #lifted(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#end();
  }

  /** Remove the stroke of a finger that turned out to be the first of two, which zoom. */
  #withdrawn(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#strokes.pop();
    this.#picture = this.#replaced;
    this.#changed();
  }

  // Input by keyboard.

  #key(event) {
    const step = event.shiftKey ? STEP / 4 : STEP;
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (!this.#drawable || event.ctrlKey || event.metaKey || event.altKey || this.#pointer !== null) return;
    if (way) {
      const [x, y] = this.#cursor ?? [0.5, 0.5];
      this.#cursor = [Math.min(1, Math.max(0, x + way[0])), Math.min(1, Math.max(0, y + way[1]))];
      if (this.#down) this.#extend(this.#cursor);
      this.#mark();
      if (this.#down) this.#emit("move");
    } else if (event.key === " ") {
      if (!event.repeat) this.#toggle(); // a key that is held down repeats
    } else if (event.key === "Enter") this.#emit("detect");
    else if (event.key === "Backspace") this.undo();
    else if (event.key === "Escape") this.clear();
    else return;
    event.preventDefault();
  }

  #toggle() {
    this.#cursor ??= [0.5, 0.5];
    this.#down = !this.#down;
    if (this.#down) this.#begin(this.#cursor);
    else this.#end();
    this.#mark();
  }

  #leave() {
    if (this.#down) {
      this.#down = false;
      this.#end();
    }
    this.#cursor = null;
    this.#mark();
  }

  #mark() {
    // An element next to the canvas, because the drawing sent to the model must not contain the marker.
    if (!this.marker.isConnected) this.canvas.after(this.marker);
    this.marker.className = this.#down ? "marker down" : "marker";
    this.marker.hidden = this.#cursor === null;
    if (this.#cursor) {
      this.marker.style.left = `${this.#cursor[0] * 100}%`;
      this.marker.style.top = `${this.#cursor[1] * 100}%`;
    }
  }

  // Drawing on the canvas.

  #fit() {
    const side = Math.min(MAX_SIDE, Math.round(this.canvas.clientWidth * devicePixelRatio)) || SENT_SIDE;
    if (this.canvas.width === side) return;
    this.canvas.width = this.canvas.height = side;
    this.#paint();
  }

  #paint() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.#picture) this.#paintPicture(this.#picture.canvas);
    for (const stroke of this.#strokes) this.#line(stroke, 0);
  }

  #paintPicture(picture) {
    const side = this.canvas.width;
    const scale = side / Math.max(picture.width, picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    const area = [(side - width) / 2, (side - height) / 2, width, height];
    this.context.imageSmoothingQuality = "high";
    this.context.fillStyle = "white"; // behind a transparent picture
    this.context.fillRect(...area);
    this.context.drawImage(picture, ...area);
  }

  /** Draw a stroke, starting at its point number `from`. */
  #line({ width, points }, from) {
    const side = this.canvas.width;
    const pen = this.context;
    pen.strokeStyle = getComputedStyle(this.canvas).color;
    pen.lineWidth = width * side;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(points[from][0] * side, points[from][1] * side);
    for (const [x, y] of points.slice(from)) pen.lineTo(x * side, y * side);
    pen.stroke();
  }
}

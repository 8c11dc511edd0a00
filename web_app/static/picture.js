// Reduces a picture to what the gateway accepts: a PNG of at most a million pixels and a mebibyte.

const MAX_FILE = 50e6; // bytes; the browser decodes the file
const MAX_SIDE = 1000; // pixels
const MAX_BYTES = 1e6;

/** Return the PNG of a canvas. Without toBlob, which Chromium runs when idle, up to a second later. */
export function toPng(canvas) {
  const [, encoded] = canvas.toDataURL("image/png").split(",");
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

/** Return a picture file as { canvas, png }, upright and reduced. An Error states why it cannot be read. */
export async function load(file) {
  const refuse = (why) => new Error(`${file.name || "This"} ${why}`);
  if (file.size > MAX_FILE) throw refuse(`is too large: expected at most ${MAX_FILE / 1e6} MB.`);
  const image = await createImageBitmap(file).catch(() => {
    throw refuse("is not a picture that this browser can read. Try a PNG or JPEG file.");
  });
  let scale = Math.min(1, MAX_SIDE / Math.max(image.width, image.height));
  for (;;) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.width * scale));
    canvas.height = Math.max(1, Math.round(image.height * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const png = toPng(canvas);
    if (png.size <= MAX_BYTES) return { canvas, png };
    scale *= 0.9 * Math.sqrt(MAX_BYTES / png.size);
  }
}

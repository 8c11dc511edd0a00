// The gateway's four calls. A failure is an Error whose `state` selects the page's message.

const TIMEOUT = 12_000; // milliseconds; longer than the deadlines of the gateway for the endpoint and the store

async function call(path, query, init = {}) {
  const controller = new AbortController(); // because Safari before 17.4 has no AbortSignal.any
  const timer = setTimeout(() => controller.abort(), TIMEOUT);
  init.signal?.addEventListener("abort", () => controller.abort());
  let response, content;
  try {
    response = await fetch(`${path}?${new URLSearchParams(query)}`, { ...init, signal: controller.signal });
    content = await response.json();
  } catch (cause) {
    throw Object.assign(new Error("This page's server does not answer.", { cause }), {
      state: init.signal?.aborted ? "cancelled" : "gateway unreachable",
    });
  } finally {
    clearTimeout(timer);
  }
  if (response.ok) return content;
  throw Object.assign(new Error(content.error ?? `HTTP ${response.status}`), { state: content.state ?? "rejected" });
}

const png = (body, signal) => ({ method: "POST", body, signal, headers: { "Content-Type": "image/png" } });

export const endpoints = () => call("api/endpoints", {});
export const model = (endpoint) => call("api/model", { endpoint });
export const recognise = (endpoint, drawing, signal) => call("api/recognise", { endpoint }, png(drawing, signal));
export const correct = (endpoint, drawing, correction) => call("api/feedback", { endpoint, ...correction }, png(drawing));

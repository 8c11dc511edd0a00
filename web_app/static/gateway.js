// The gateway's four calls. A failure is an Error whose `state` the page can name.

const TIMEOUT = 12_000; // milliseconds; longer than the deadlines of the gateway for the endpoint and the store

async function call(path, query, init = {}) {
  const ended = new AbortController(); // Safari before 17.4 cannot join two signals
  const late = setTimeout(() => ended.abort(), TIMEOUT);
  init.signal?.addEventListener("abort", () => ended.abort());
  let answer, content;
  try {
    answer = await fetch(`${path}?${new URLSearchParams(query)}`, { ...init, signal: ended.signal });
    content = await answer.json();
  } catch (cause) {
    throw Object.assign(new Error("This page's server does not answer.", { cause }), {
      state: init.signal?.aborted ? "dropped" : "gateway gone",
    });
  } finally {
    clearTimeout(late);
  }
  if (answer.ok) return content;
  throw Object.assign(new Error(content.error ?? `HTTP ${answer.status}`), { state: content.state ?? "refused" });
}

const png = (body, signal) => ({ method: "POST", body, signal, headers: { "Content-Type": "image/png" } });

export const endpoints = () => call("api/endpoints", {});
export const model = (endpoint) => call("api/model", { endpoint });
export const recognise = (endpoint, drawing, signal) => call("api/recognise", { endpoint }, png(drawing, signal));
export const correct = (endpoint, drawing, said) => call("api/feedback", { endpoint, ...said }, png(drawing));

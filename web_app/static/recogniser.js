// Requests predictions while the pen moves: at a limited rate, one at a time, without answers to older drawings.

const PAUSE = 120; // milliseconds between requests while drawing

export class Recogniser {
  #timer = 0;
  #busy = null; // the AbortController of the request in flight
  #pending = false; // whether another request follows the one in flight

  /**
   * `request(signal)` resolves to an answer, shown by `show(answer, settled)`, or else `fail(error)` is called.
   * `settled()` returns whether the pen is up.
   */
  constructor({ request, show, fail, settled }) {
    Object.assign(this, { request, show, fail, settled });
  }

  /** Request a prediction soon, after a small change of the drawing. */
  soon() {
    this.#timer ||= setTimeout(() => this.now(), PAUSE);
  }

  /** Request a prediction now, or when the request in flight is answered. */
  now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#pending = true;
    if (!this.#busy) this.#run();
  }

  /** Cancel all requests, because the drawing is another one. */
  cancel() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#pending = false;
    this.#busy?.abort();
  }

  async #run() {
    while (this.#pending) {
      this.#pending = false;
      const settled = this.settled();
      const controller = (this.#busy = new AbortController());
      try {
        const answer = await this.request(controller.signal);
        if (!controller.signal.aborted) this.show(answer, settled && !this.#pending);
      } catch (error) {
        if (!controller.signal.aborted) this.fail(error);
      }
    }
    this.#busy = null;
  }
}

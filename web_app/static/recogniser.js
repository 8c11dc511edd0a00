// Asks while the pen moves: not too often, one request at a time, and an answer to an older drawing is dropped.

const PAUSE = 120; // milliseconds between questions while drawing

export class Recogniser {
  #timer = 0;
  #busy = null; // the AbortController of the request in flight
  #wanted = false;

  /** `ask(signal)` resolves to an answer; `show(answer, settled)`, `fail(error)` tell of it; `settled()`: is the pen up? */
  constructor({ ask, show, fail, settled }) {
    Object.assign(this, { ask, show, fail, settled });
  }

  /** The drawing changed a little: ask soon. */
  soon() {
    this.#timer ||= setTimeout(() => this.now(), PAUSE);
  }

  /** Ask at once, or as soon as the request in flight is answered. */
  now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#wanted = true;
    if (!this.#busy) this.#run();
  }

  /** The drawing is another one: whatever was asked is of no interest. */
  drop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#wanted = false;
    this.#busy?.abort();
  }

  async #run() {
    while (this.#wanted) {
      this.#wanted = false;
      const settled = this.settled();
      const request = (this.#busy = new AbortController());
      try {
        const answer = await this.ask(request.signal);
        if (!request.signal.aborted) this.show(answer, settled && !this.#wanted);
      } catch (error) {
        if (!request.signal.aborted) this.fail(error);
      }
    }
    this.#busy = null;
  }
}

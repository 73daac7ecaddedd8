// A conversation with a model: its messages, and the one answer that may be on its way. Knows nothing of the page, so
// it goes on while another view is shown.

import { Figures, streamChat } from "./completion.js";
import { Signal } from "./signal.js";

/** A message's `state`: done | streaming | stopped | failed. */
export class Conversation {
  /** Emits after each change of the list of messages. */
  changed = new Signal();
  /** Emits a message whose text, figures or state changed. */
  grew = new Signal();
  messages = [];
  draft = ""; // written, and not yet sent
  #api;
  #stop = null;

  constructor(api) {
    this.#api = api;
  }

  get busy() {
    return this.#stop !== null;
  }

  /** Ask, with what was said before. `options` are fields of the request: model, temperature, ... and `system`. */
  send(text, options) {
    this.messages.push({ role: "user", content: text, state: "done" });
    return this.#answer(options);
  }

  /** Ask again for the last answer. */
  regenerate(options) {
    if (this.messages.at(-1)?.role === "assistant") this.messages.pop();
    return this.#answer(options);
  }

  stop() {
    this.#stop?.abort();
  }

  clear() {
    this.stop();
    this.messages = [];
    this.changed.emit();
  }

  async #answer({ system, ...options }) {
    const history = this.messages.filter(({ content }) => content).map(({ role, content }) => ({ role, content }));
    const messages = system ? [{ role: "system", content: system }, ...history] : history;
    const answer = { role: "assistant", content: "", state: "streaming", figures: new Figures(), error: null };
    this.messages.push(answer);
    const stop = (this.#stop = new AbortController());
    this.changed.emit();
    try {
      for await (const text of streamChat(this.#api, { ...options, messages }, answer.figures, stop.signal)) {
        answer.content += text;
        this.grew.emit(answer);
      }
      answer.state = "done";
    } catch (error) {
      answer.state = stop.signal.aborted ? "stopped" : "failed";
      answer.error = stop.signal.aborted ? null : error;
    } finally {
      this.#stop = this.#stop === stop ? null : this.#stop;
      this.grew.emit(answer);
    }
  }
}

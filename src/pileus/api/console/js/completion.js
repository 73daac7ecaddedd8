// One streamed chat completion, and the figures that it came with.

import { ApiError } from "./api.js";
import { serverSentEvents } from "./sse.js";

/** Where one answer's time went. TTFT and speed are as this browser saw them, queue and prefill as the server did. */
export class Figures {
  ttftMs = null;
  tokens = 0; // pieces received while it streams, the server's count once it is known
  promptTokens = null;
  cachedTokens = null;
  queueMs = null;
  prefillMs = null;
  finishReason = null;
  requestId = null;
  #startMs = performance.now();
  #firstMs = null;
  #lastMs = null;

  onHeaders(headers) {
    const figure = (name) => (headers.has(name) ? Number(headers.get(name)) : null);
    this.queueMs = figure("x-pileus-queue-ms");
    this.prefillMs = figure("x-pileus-prefill-ms");
    this.requestId = headers.get("x-request-id");
  }

  onText() {
    this.#lastMs = performance.now();
    this.#firstMs ??= this.#lastMs;
    this.ttftMs = this.#firstMs - this.#startMs;
    this.tokens += 1;
  }

  onUsage({ prompt_tokens, completion_tokens, prompt_tokens_details }) {
    this.promptTokens = prompt_tokens;
    this.cachedTokens = prompt_tokens_details?.cached_tokens ?? null;
    this.tokens = completion_tokens;
  }

  /** Of the decode phase: from the first token to the last. */
  get tokensPerSecond() {
    const seconds = (this.#lastMs - this.#firstMs) / 1000;
    return this.tokens > 1 && seconds > 0 ? (this.tokens - 1) / seconds : null;
  }
}

/** Yields pieces of the answer's text; fills `figures`. Raises ApiError, also for an error within the stream. */
export async function* streamChat(api, body, figures, signal) {
  const request = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await api.request("POST", "v1/chat/completions", { body: request, signal });
  figures.onHeaders(response.headers);
  for await (const { data } of serverSentEvents(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw broken(chunk.error, figures);
    if (chunk.usage) figures.onUsage(chunk.usage);
    const [choice] = chunk.choices;
    figures.finishReason = choice?.finish_reason ?? figures.finishReason;
    const text = choice?.delta?.content;
    if (!text) continue;
    figures.onText();
    yield text;
  }
  throw broken({ message: "The connection ended before the answer did.", code: "unreachable" }, figures);
}

function broken({ message, code, type }, { requestId }) {
  return new ApiError(message, { code: code ?? type, requestId });
}

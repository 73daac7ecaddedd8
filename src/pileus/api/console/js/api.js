// The one place that talks to the server: adds the key, and turns every failure into an `ApiError`.

import { serverSentEvents } from "./sse.js";
import { Signal } from "./signal.js";

/** What went wrong, in the API's own terms; `code` is `unreachable` where no answer came. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "error", param = null, retryAfterS = null, requestId = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfterS, requestId });
  }
}

const ROOT = new URL("../", document.baseURI); // the console lives one level below the API

export class Api {
  /** Emits the ApiError of every 401: the key is no longer good, whatever was being done. */
  refused = new Signal();
  #key;

  constructor(key) {
    this.#key = key;
  }

  async get(path, options = {}) {
    return (await this.request("GET", path, options)).json();
  }

  async post(path, body, options = {}) {
    return (await this.request("POST", path, { ...options, body })).json();
  }

  async put(path, body) {
    return (await this.request("PUT", path, { body })).json();
  }

  async patch(path, body) {
    return (await this.request("PATCH", path, { body })).json();
  }

  async delete(path) {
    return (await this.request("DELETE", path)).json();
  }

  /** Server-sent events of a long-lived GET. */
  async *events(path, { signal } = {}) {
    const response = await this.request("GET", path, { signal });
    yield* serverSentEvents(response.body);
  }

  /** The response, once it is known to be a good one. */
  async request(method, path, { body, signal } = {}) {
    const headers = { Authorization: `Bearer ${this.#key}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(new URL(path, ROOT), {
        method,
        headers,
        body: body && JSON.stringify(body),
        signal,
        cache: "no-store",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(error.message, { code: "unreachable" });
    }
    if (response.ok) return response;
    const error = await failure(response);
    if (error.status === 401) this.refused.emit(error);
    throw error;
  }
}

async function failure(response) {
  const { error = {} } = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("retry-after"));
  return new ApiError(error.message ?? `${response.status} ${response.statusText}`, {
    status: response.status,
    code: error.code ?? error.type ?? "error",
    param: error.param ?? null,
    retryAfterS: retryAfter > 0 ? retryAfter : null,
    requestId: response.headers.get("x-request-id"),
  });
}

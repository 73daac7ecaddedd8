// An error in the reader's words: what happened, and what to do about it.

const KNOWN = new Set([
  "unreachable",
  "invalid_api_key",
  "permission_denied",
  "model_not_found",
  "context_length_exceeded",
  "request_too_large",
  "insufficient_quota",
  "overloaded",
  "unavailable",
  "deadline_exceeded",
  "engine_failed",
]);

export function advice(error, { t, format }) {
  const key = KNOWN.has(error.code) ? error.code : error.status === 401 ? "invalid_api_key" : "other";
  const wait = error.retryAfterS ? ` ${t("error.retry", { wait: format.duration(error.retryAfterS) })}` : "";
  return t(`error.${key}`, { message: error.message, param: error.param ?? "" }) + wait;
}

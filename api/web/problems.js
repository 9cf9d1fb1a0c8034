// When the answer is no: at the field that is to blame, or in a notice, always with what the server said and the
// request's id, and with the seconds to wait counted down.

import { Refused, Unreachable } from "./client.js";
import { $, clock, copy } from "./dom.js";

const LONG_WAIT_S = 90; // said in minutes

let timer = null;

/**
 * Say at a field what is wrong with it.
 *
 * @param {Element} root to look in
 * @returns {Element|null} what to focus, or null if there is no field of that name
 */
export function markField(root, name, message) {
  const where = root.querySelector(`[data-error-for="${CSS.escape(name ?? "")}"]`);
  const field = where && root.querySelector(`[aria-describedby~="${where.id}"]`);
  if (!field || where.parentElement.closest("[hidden]")) return null;
  field.setAttribute("aria-invalid", "true");
  where.textContent = message;
  where.hidden = false;
  if (field.closest("details")) field.closest("details").open = true;
  // Of a sound that is chosen already, what can be done is to remove it.
  return field.offsetParent === null ? where.parentElement.querySelector("button") : field;
}

export function clearErrors(root = document) {
  if (root === document) closeNotice();
  for (const where of root.querySelectorAll("[data-error-for]")) where.hidden = true;
  for (const field of root.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

/**
 * Show an error of any kind where it belongs.
 *
 * @param {Error} error
 * @param {{title: string, again?: () => void}} of what was tried; `again` tries it once more
 * @returns {boolean} it stands at fields, all of it
 */
export function showProblem(error, { title, again = null }) {
  if (error instanceof Refused) return showRefusal(error, title, again);
  if (error instanceof Unreachable) {
    const text = "Check that it is running and that you are online, then try again.";
    showNotice("The server can not be reached", text, { again });
    return false;
  }
  showNotice("Something broke in this page", "Reload it and try again.", { code: String(error) });
  throw error;
}

function showRefusal({ status, error, retryAfter }, title, again) {
  if (status === 401) $("key").hidden = false;
  const param = status === 401 ? "api_key" : error.param;
  const found = error.details?.errors ?? [{ param, message: error.message }];
  const marked = found.map(({ param, message }) => markField($("compose"), param, message));
  marked.find(Boolean)?.focus();
  const elsewhere = found.filter((_, i) => marked[i] === null).map(({ param, message }) => named(param, message));
  const atFields = elsewhere.length === 0;
  const reset = error.details?.reset_at;
  if (reset) elsewhere.push(`That is at ${new Date(reset).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}.`);
  showNotice(atFields ? "Mend what is marked and try again" : title, elsewhere.join(" "), {
    code: [error.code, status || null].filter(Boolean).join(" · "),
    requestId: error.request_id,
    wait_s: retryAfter,
    again: error.retryable || retryAfter !== null ? again : null,
    quiet: atFields, // the field has the focus and says it
  });
  return atFields;
}

function named(param, message) {
  return param && !message.includes(param) ? `${param}: ${message}` : message;
}

/**
 * @param {{code?: string, requestId?: string, wait_s?: number|null, again?: (() => void)|null, quiet?: boolean}} more
 */
export function showNotice(title, text, { code = "", requestId = "", wait_s = null, again = null, quiet = false } = {}) {
  closeNotice();
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice-code").textContent = code;
  $("notice-id").textContent = requestId;
  $("notice-request").hidden = !requestId;
  $("notice-again").hidden = again === null;
  $("notice-again").onclick = again;
  $("notice-again").disabled = false;
  $("notice-again").textContent = "Try again";
  $("notice").hidden = false;
  if (wait_s !== null) countDown(wait_s, text);
  if (!quiet) $("notice").scrollIntoView({ block: "nearest" });
}

export function closeNotice() {
  clearInterval(timer);
  $("notice").hidden = true;
}

/** The button says how long; what is read aloud says it once. */
function countDown(wait_s, text) {
  const button = $("notice-again");
  const until = performance.now() + 1000 * wait_s;
  $("notice-text").textContent = `${text} Try again in ${inWords(wait_s)}.`;
  const show = () => {
    const left_s = Math.ceil((until - performance.now()) / 1000);
    button.disabled = left_s > 0;
    button.textContent = left_s > 0 ? `Try again in ${inWords(left_s)}` : "Try again";
    if (left_s <= 0) clearInterval(timer);
  };
  timer = setInterval(show, 250);
  show();
}

function inWords(seconds) {
  return seconds < LONG_WAIT_S ? `${seconds} s` : clock(seconds);
}

$("notice-close").addEventListener("click", closeNotice);
$("notice-copy").addEventListener("click", async () => {
  const done = await copy($("notice-id").textContent, $("notice-id"));
  $("notice-copy").textContent = done ? "Copied" : "Selected";
  setTimeout(() => ($("notice-copy").textContent = "Copy"), 2000);
});

// Requests to the manager, and what it answers.

const DEADLINE_MILLIS = 15_000;

/** Why something was not done, in words for people. */
export class Refused extends Error {
  constructor(detail, code = "", status = 0) {
    super(detail);
    this.code = code;
    this.status = status;
  }
}

/** The address of a queue, and of what belongs to it. */
export function queuePath(label, ...rest) {
  // These two are legal labels, but every browser takes them for a folder, however they are written.
  if (label === "." || label === "..") throw new Refused(`A browser cannot address a queue called “${label}”.`);
  return ["", "queues", label, ...rest].map((part) => encodeURIComponent(part)).join("/");
}

/** Asks the manager, and returns its answer or throws what it says against it. */
export async function ask(method, path, { body, headers, signal } = {}) {
  const deadline = AbortSignal.timeout(DEADLINE_MILLIS);
  let answer;
  try {
    answer = await fetch(path, {
      method,
      body,
      headers,
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(method === "GET"
      ? "The manager did not answer. Try again."
      : "The manager did not answer; whether it did what was asked is not known. Look before you try again.");
  }
  if (answer.ok) return answer;
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Something between here and the manager has answered in its stead.
  }
  throw new Refused(problem.detail || `The manager answered with ${answer.status}.`, problem.code, answer.status);
}

/** Asks and returns the JSON of the answer, or null if there is none. */
export async function askJson(method, path, options) {
  const answer = await ask(method, path, options);
  return answer.status === 204 ? null : answer.json();
}

/** The address of the next page of a list, if there is one. */
export function nextPage(answer) {
  const link = answer.headers.get("Link") ?? "";
  return /<([^>]*)>\s*;[^,]*\brel="?next"?/.exec(link)?.[1] ?? null;
}

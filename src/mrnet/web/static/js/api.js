// Talks to the server; its types are those of /openapi.json.

/** @typedef {{id: string, name: string, duration_s: number, width: number, height: number, num_bytes: number}} Video */
/** @typedef {{rank?: number, start_s: number, end_s: number, probability?: number, score?: number, source: "seen" | "said", words: string}} Moment */
/** @typedef {{video: string | null, duration_s: number, query: string, kind: "text" | "speech", moments: Moment[], best_guess: Moment | null, note: string, answered_by: string, calibrated_on: string}} Answer */
/** @typedef {{id: string, video: string, query: string, kind: "text" | "speech", state: "queued" | "running" | "done" | "failed" | "cancelled", ahead: number, share: number | null, error: string, answer: Answer | null, curve: [number, number][], none_here: boolean}} Job */
/** @typedef {{version: string, answered_by: string, hears: boolean, hears_not: string, has_library: boolean, most_upload_bytes: number, most_duration_s: number}} About */

const MOST_TRIES = 4;

/** What the server refuses, in its own words. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/**
 * Ask the server; where it is busy, again when it says.
 * @param {string} path below /api
 * @param {RequestInit} [options]
 * @returns {Promise<any>} the JSON of its answer
 */
export async function call(path, options = {}) {
  for (let attempt = 1; ; attempt += 1) {
    /** @type {Response} */
    let response;
    try {
      response = await fetch(`/api${path}`, { credentials: "same-origin", ...options });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Refusal(0, "The server does not answer. Is it still running?");
    }
    if (response.ok) return response.status === 204 ? null : response.json();
    if (response.status === 429 && attempt < MOST_TRIES) {
      await pause(1000 * Number(response.headers.get("retry-after") ?? 1));
      continue;
    }
    throw new Refusal(response.status, await detailOf(response));
  }
}

/**
 * @param {string} path
 * @param {"POST" | "PUT"} method
 * @param {unknown} body
 */
export function send(path, method, body) {
  return call(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

/**
 * Upload a video.
 * @param {File} file
 * @param {(share: number) => void} watch told what share is sent, from 0 to 1
 * @param {AbortSignal} signal
 * @returns {Promise<Video>}
 */
export function upload(file, watch, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch tells no progress of what it sends
    request.open("POST", `/api/videos?name=${encodeURIComponent(file.name)}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => watch(event.total ? event.loaded / event.total : 0);
    request.onload = () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Refusal(request.status, request.response?.detail ?? "The upload failed."));
    };
    request.onerror = () => reject(new Refusal(0, "The upload broke off. Is the server still running?"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/**
 * The moments that are at least half as likely as the best: what is less so would only be in the way.
 * @param {Moment[]} moments
 */
export function likelyOf(moments) {
  const best = Math.max(...moments.map((moment) => moment.probability ?? 0));
  return moments.filter((moment) => moment.probability === undefined || moment.probability >= best / 2);
}

/**
 * @param {number} milliseconds
 */
export function pause(milliseconds) {
  return new Promise((resolve) => window.setTimeout(resolve, milliseconds));
}

/**
 * @param {Response} response
 * @returns {Promise<string>}
 */
async function detailOf(response) {
  try {
    return String((await response.json()).detail);
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

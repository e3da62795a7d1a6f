// The library: many videos, searched together.

import { call, likelyOf, send } from "./api.js";
import { announce, byId, clock, counted, el, icon, tell, words } from "./dom.js";

/** @typedef {{id: string, path: string, name: string, duration_s: number, modified_s: number}} LibraryVideo */
/** @typedef {import("./api.js").Moment & {video: string, duration_s: number}} Hit */
/** @typedef {{query: string, hits: Hit[], best_guess: Hit | null, library: {num_videos: number, num_searched: number, exact: boolean}, note: string, answered_by: string}} Found */

const MOST_LISTED = 60;
const form = byId("search", HTMLFormElement);
const field = byId("library-query", HTMLInputElement);
const error = byId("library-error", HTMLElement);
const results = byId("hits", HTMLElement);
const folder = byId("library-folder", HTMLSelectElement);

/** @type {Map<string, LibraryVideo>} by path */
let videos = new Map();

/** Make the page ready, once. */
export function prepareLibrary() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void search();
  });
}

/** Show what is in the library. */
export async function showLibrary() {
  const listed = /** @type {LibraryVideo[]} */ (await call("/library/videos"));
  videos = new Map(listed.map((video) => [video.path, video]));
  const minutes = listed.reduce((sum, video) => sum + video.duration_s, 0) / 60;
  const length = minutes < 1 ? "less than a minute" : minutes < 60 ? counted(Math.round(minutes), "minute") : `${(minutes / 60).toFixed(1)} hours`;
  byId("library-size", HTMLElement).textContent = `${counted(listed.length, "video")}, ${length}`;
  const parents = [...new Set(listed.map((video) => parentOf(video.path)))].sort();
  folder.replaceChildren(el("option", { value: "" }, "all folders"), ...parents.map((path) => el("option", { value: path }, path)));
  byId("library-list", HTMLElement).replaceChildren(...listed.slice(0, MOST_LISTED).map(card));
  tell(byId("library-more", HTMLElement), listed.length > MOST_LISTED ? `and ${listed.length - MOST_LISTED} more` : "");
}

async function search() {
  const query = field.value.trim();
  tell(error, "");
  if (!query) {
    tell(error, "Describe what you are looking for.");
    field.focus();
    return;
  }
  const value = (/** @type {string} */ id) => byId(id, HTMLInputElement).value || null;
  form.setAttribute("aria-busy", "true");
  results.replaceChildren(el("li", { class: "wide" }, el("progress", { "aria-label": "Searching" })));
  try {
    const found = /** @type {Found} */ (
      await send("/library/search", "POST", { query, folder: folder.value || null, name: value("library-name"), since: value("library-since"), until: value("library-until") })
    );
    show(found);
  } catch (caught) {
    results.replaceChildren();
    tell(error, words(caught));
  } finally {
    form.removeAttribute("aria-busy");
  }
}

/**
 * @param {Found} found
 */
function show(found) {
  const { hits, best_guess: guess, library } = found;
  const likely = /** @type {Hit[]} */ (likelyOf(hits));
  const rest = hits.filter((hit) => !likely.includes(hit));
  const searched = library.num_searched === library.num_videos ? counted(library.num_videos, "video") : `${library.num_searched} of ${counted(library.num_videos, "video")}`;
  const head = hits.length
    ? `${likely.length === 1 ? "One moment" : `${likely.length} moments`} in ${searched}`
    : `Not in ${searched}, as far as can be told.`;
  announce(`${found.query}: ${head}`);
  const items = [el("li", { class: "wide" }, el("h2", {}, head), found.note ? el("p", { class: "note" }, found.note) : null)];
  items.push(...likely.map((hit) => hitCard(found.query, hit)));
  if (guess) items.push(el("li", { class: "wide" }, el("h3", {}, "Best guess")), hitCard(found.query, guess));
  if (rest.length) {
    items.push(el("li", { class: "wide" }, el("details", {}, el("summary", {}, `${rest.length} less likely`), el("ol", { class: "grid less" }, ...rest.map((hit) => hitCard(found.query, hit))))));
  }
  results.replaceChildren(...items);
}

/**
 * @param {string} query
 * @param {Hit} hit
 */
function hitCard(query, hit) {
  const video = videos.get(hit.video);
  const name = video?.name ?? hit.video;
  const times = `${clock(hit.start_s)} – ${clock(hit.end_s)}`;
  const middle = ((hit.start_s + hit.end_s) / 2).toFixed(2);
  const likelihood = hit.probability === undefined
    ? el("span", { class: "said" }, hit.source === "said" ? "said" : `score ${(hit.score ?? 0).toFixed(2)}`)
    : el("div", { class: "likely" }, el("meter", { min: "0", max: "1", value: hit.probability, "aria-label": "Probability" }), el("span", {}, `${Math.round(hit.probability * 100)} %`));
  return el("li", { class: "card video hue-0" },
    el("img", { src: video ? `/api/library/videos/${video.id}/still?at_s=${middle}` : null, alt: "", loading: "lazy" }),
    el("div", { class: "row" },
      el("div", { class: "grow" },
        el("button", { type: "button", class: "cover plain", title: hit.video, click: () => void open(video, query, hit.start_s) }, name),
        el("div", { class: "times" }, times), likelihood, hit.words ? el("q", { class: "words" }, hit.words) : null),
      icon("play")));
}

/**
 * @param {LibraryVideo} video
 */
function card(video) {
  return el("li", { class: "card video" },
    el("img", { src: `/api/library/videos/${video.id}/still?at_s=${(video.duration_s / 3).toFixed(1)}`, alt: "", loading: "lazy" }),
    el("div", { class: "row" },
      el("div", { class: "grow" },
        el("button", { type: "button", class: "cover plain", title: video.path, click: () => void open(video, "", 0) }, video.name),
        el("p", { class: "soft" }, `${clock(video.duration_s)} · ${new Date(1000 * video.modified_s).toLocaleDateString()}`))));
}

/**
 * Open a video, ask it what the library was asked, and go to a time.
 * @param {LibraryVideo | undefined} video
 * @param {string} query empty to ask nothing
 * @param {number} time_s
 */
async function open(video, query, time_s) {
  if (!video) {
    tell(error, "This video is new in the library: load the page again.");
    return;
  }
  try {
    const opened = await call(`/library/videos/${video.id}/open`, { method: "POST" });
    const job = query ? await send("/jobs", "POST", { video: opened.id, query }) : null;
    location.hash = `#/video/${opened.id}${job ? `/${job.id}` : ""}${time_s ? `@${time_s.toFixed(1)}` : ""}`;
  } catch (caught) {
    tell(error, words(caught));
  }
}

/**
 * @param {string} path
 */
function parentOf(path) {
  return path.slice(0, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"))) || "/";
}

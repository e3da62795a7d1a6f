// The first page: add a video, or pick one that is there.

import { call, upload } from "./api.js";
import { announce, byId, clock, el, icon, size, tell, toast, words } from "./dom.js";

/** @typedef {import("./api.js").Video} Video */
/** @typedef {import("./api.js").About} About */

const drop = byId("drop", HTMLElement);
const pick = byId("pick", HTMLInputElement);
const error = byId("start-error", HTMLElement);

/** @type {AbortController | null} */
let uploading = null;

/**
 * Make the page ready, once.
 * @param {About} about
 */
export function prepareStart(about) {
  const minutes = Math.round(about.most_duration_s / 60);
  byId("taken", HTMLElement).textContent =
    `MP4, QuickTime, WebM, Matroska, AVI and others, up to ${size(about.most_upload_bytes)} and ${minutes} minutes`;
  pick.addEventListener("change", () => {
    if (pick.files?.[0]) void take(pick.files[0]);
    pick.value = "";
  });
  byId("upload-cancel", HTMLElement).addEventListener("click", () => uploading?.abort());
  let inside = 0;
  window.addEventListener("dragenter", (event) => {
    event.preventDefault();
    inside += 1;
    drop.classList.add("over");
  });
  window.addEventListener("dragleave", () => {
    inside -= 1;
    if (inside <= 0) drop.classList.remove("over");
  });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    drop.classList.remove("over");
    const file = event.dataTransfer?.files[0];
    if (file) void take(file);
  });
}

/** Show the videos that are there. */
export async function showStart() {
  tell(error, "");
  try {
    const videos = /** @type {Video[]} */ (await call("/videos"));
    byId("recent", HTMLElement).hidden = !videos.length;
    byId("recent-list", HTMLElement).replaceChildren(...videos.map(card));
  } catch (caught) {
    tell(error, words(caught));
    throw caught;
  }
}

/**
 * Upload a file and open it.
 * @param {File} file
 */
async function take(file) {
  if (uploading) return;
  const panel = byId("upload", HTMLElement);
  const bar = byId("upload-progress", HTMLProgressElement);
  const state = byId("upload-state", HTMLElement);
  if (byId("start", HTMLElement).hidden) location.hash = "#/";
  uploading = new AbortController();
  tell(error, "");
  byId("upload-name", HTMLElement).textContent = file.name;
  state.textContent = "Sending …";
  bar.value = 0;
  panel.hidden = false;
  drop.hidden = true;
  try {
    const video = await upload(
      file,
      (share) => {
        bar.value = share;
        state.textContent = share < 1 ? `${Math.round(share * 100)} % of ${size(file.size)}` : "Looking into it …";
      },
      uploading.signal,
    );
    announce(`${video.name} is uploaded`);
    location.hash = `#/video/${video.id}`;
  } catch (caught) {
    if (!(caught instanceof DOMException)) tell(error, words(caught));
  } finally {
    uploading = null;
    panel.hidden = true;
    drop.hidden = false;
  }
}

/**
 * @param {Video} video
 */
function card(video) {
  const item = el("li", { class: "card video" });
  const remove = async () => {
    if (!window.confirm(`Remove ${video.name} and everything asked of it?`)) return;
    try {
      await call(`/videos/${video.id}`, { method: "DELETE" });
      item.remove();
      toast(`${video.name} is removed`);
      byId("start-title", HTMLElement).focus();
    } catch (caught) {
      toast(words(caught));
    }
  };
  item.append(
    el("img", { src: `/api/videos/${video.id}/still?at_s=${(video.duration_s / 3).toFixed(1)}`, alt: "", loading: "lazy" }),
    el("div", { class: "row" },
      el("div", { class: "grow" },
        el("a", { class: "cover", href: `#/video/${video.id}` }, video.name),
        el("p", { class: "soft" }, `${clock(video.duration_s)} · ${size(video.num_bytes)}`)),
      el("button", { type: "button", class: "icon", "aria-label": `Remove ${video.name}`, click: remove }, icon("trash"))),
  );
  return item;
}

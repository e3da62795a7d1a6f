// Which page is shown: the part of the address after # says.

import { call, Refusal, send } from "./api.js";
import { byId, tell, words } from "./dom.js";
import { prepareLibrary, showLibrary } from "./library.js";
import { prepareStart, showStart } from "./start.js";
import { leaveWatch, loadWatch, prepareWatch, showWatch } from "./watch.js";

const PAGES = ["start", "watch", "library", "token", "lost"];
const VIDEO = /^#\/video\/([0-9a-f]{64})(?:\/([A-Za-z0-9_,-]+))?(?:@([\d.]+))?$/;
const TOKEN = /^#token=(.+)$/;

let isPrepared = false;
let numRouted = 0;

/**
 * @param {string} name
 */
function show(name) {
  byId("loading", HTMLElement).hidden = true;
  for (const page of PAGES) byId(page, HTMLElement).hidden = page !== name;
  for (const link of document.querySelectorAll("nav [data-page]")) {
    if (link.getAttribute("data-page") === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId(`${name}-title`, HTMLElement).focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

async function route() {
  const given = TOKEN.exec(location.hash);
  const number = (numRouted += 1);
  const isStale = () => number !== numRouted; // another page is wanted by now
  try {
    if (given) {
      history.replaceState(null, "", "/"); // no token stays in the history
      await send("/session", "POST", { token: decodeURIComponent(given[1]) });
    }
    await prepare();
    const match = VIDEO.exec(location.hash);
    if (match) {
      const wanted = match[2]?.split(",") ?? [];
      const [video, jobs] = await loadWatch(match[1], wanted);
      if (isStale()) return;
      showWatch(video, jobs, match[3] ? Number(match[3]) : null, wanted.length > 0);
      show("watch");
      byId("query", HTMLInputElement).focus({ preventScroll: true });
    } else if (location.hash === "#/library") {
      leaveWatch();
      await showLibrary();
      if (isStale()) return;
      document.title = "Library – mrnet";
      show("library");
    } else {
      leaveWatch();
      await showStart();
      if (isStale()) return;
      document.title = "mrnet: find the moment";
      show("start");
    }
  } catch (error) {
    if (isStale()) return;
    if (error instanceof Refusal && error.status === 401) {
      tell(byId("token-error", HTMLElement), given ? words(error) : "");
      show("token");
      byId("token-field", HTMLInputElement).focus();
    } else {
      byId("lost-why", HTMLElement).textContent = words(error);
      show("lost");
    }
  }
}

/** What needs to be done once. */
async function prepare() {
  if (isPrepared) return;
  const about = /** @type {import("./api.js").About} */ (await call("/about"));
  isPrepared = true;
  byId("about", HTMLElement).textContent = `mrnet ${about.version} · answered by ${about.answered_by}`;
  for (const link of document.querySelectorAll('[data-page="library"]')) link.toggleAttribute("hidden", !about.has_library);
  prepareStart(about);
  prepareLibrary();
  prepareWatch(about);
}

byId("token-form", HTMLFormElement).addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await send("/session", "POST", { token: byId("token-field", HTMLInputElement).value.trim() });
    tell(byId("token-error", HTMLElement), "");
    await route();
  } catch (error) {
    tell(byId("token-error", HTMLElement), words(error));
  }
});
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // the address says which page it is
  byId("main", HTMLElement).focus();
});
window.addEventListener("hashchange", () => void route());
void route();

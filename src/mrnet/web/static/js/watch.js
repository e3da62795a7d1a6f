// The page of one video: play it, ask it, and see the answers side by side.

import { call, send } from "./api.js";
import { announce, byId, icon, tell, words } from "./dom.js";
import { Question } from "./question.js";
import { Recorder, wavOf } from "./record.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./api.js").Job} Job */
/** @typedef {import("./api.js").Moment} Moment */
/** @typedef {import("./api.js").Video} Video */

const COLORS = 6;
const EARLIER_SHOWN = 4;

const player = byId("player", HTMLVideoElement);
const playerError = byId("player-error", HTMLElement);
const form = byId("ask", HTMLFormElement);
const field = byId("query", HTMLInputElement);
const error = byId("ask-error", HTMLElement);
const answers = byId("answers", HTMLElement);
const speak = byId("speak", HTMLButtonElement);
const listening = byId("listening", HTMLElement);
const sound = byId("sound", HTMLInputElement);

/** @type {Question[]} the newest first */
let questions = [];
/** @type {Video | null} */
let video = null;
let asked = 0;
let stopAt_s = Infinity;
/** Why recordings are not taken; empty where they are. */
let hearsNot = "";

const timeline = new Timeline(byId("timeline", HTMLElement), player, play);
const recorder = new Recorder((message) => tell(listening, message));

/**
 * Make the page ready, once.
 * @param {import("./api.js").About} about
 */
export function prepareWatch(about) {
  hearsNot = about.hears_not;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void askWritten();
  });
  speak.addEventListener("click", () => void askAloud());
  sound.addEventListener("change", () => {
    if (sound.files?.[0]) void askBySound(sound.files[0]);
    sound.value = "";
  });
  player.addEventListener("timeupdate", () => {
    if (player.currentTime >= stopAt_s) {
      stopAt_s = Infinity;
      player.pause();
    }
  });
  player.addEventListener("error", () => {
    if (video && player.src.includes(`/videos/${video.id}/`)) {
      tell(playerError, "This browser cannot play the video as it is stored. Its moments play all the same: each is converted when you choose it.");
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (event.target instanceof Node && !menu.contains(event.target)) menu.removeAttribute("open");
    }
  });
}

/**
 * A video and what was asked of it.
 * @param {string} id
 * @param {string[]} wanted ids of the questions; none for the latest
 * @returns {Promise<[Video, Job[]]>}
 */
export async function loadWatch(id, wanted) {
  const found = await call(`/videos/${id}`);
  const jobs = wanted.length ? await Promise.all(wanted.map((job) => call(`/jobs/${job}`))) : (await call(`/videos/${id}/jobs`)).slice(0, EARLIER_SHOWN).reverse();
  return [found, jobs];
}

/**
 * Show a video and what was asked of it.
 * @param {Video} found
 * @param {Job[]} jobs
 * @param {number | null} time_s where to be in the video; null for the best moment, where questions are wanted
 * @param {boolean} areWanted whether these questions were named
 */
export function showWatch(found, jobs, time_s, areWanted) {
  leaveWatch();
  video = found;
  document.title = `${found.name} – mrnet`;
  byId("watch-title", HTMLElement).textContent = found.name;
  player.poster = `/api/videos/${found.id}/still?at_s=0`;
  player.src = `/api/videos/${found.id}/file`;
  timeline.show(found);
  for (const job of jobs) add(job);
  const best = areWanted ? (questions[0]?.job.answer?.moments[0] ?? null) : null;
  player.currentTime = time_s ?? best?.start_s ?? 0;
}

/** Stop whatever goes on in the page. */
export function leaveWatch() {
  for (const question of questions) question.isGone = true;
  questions = [];
  asked = 0;
  answers.replaceChildren();
  recorder.discard();
  player.pause();
  player.removeAttribute("src");
  player.load();
  video = null;
  stopAt_s = Infinity;
  tell(playerError, "");
  tell(error, "");
}

/**
 * @param {Job} job
 */
function add(job) {
  const letter = String.fromCharCode("A".charCodeAt(0) + (asked % 26));
  const question = new Question(job, letter, asked % COLORS, { play, changed: redraw, removed });
  asked += 1;
  questions.unshift(question);
  answers.prepend(question.item);
  redraw();
  void question.follow();
}

/**
 * @param {Question} question
 */
function removed(question) {
  questions = questions.filter((other) => other !== question);
  redraw();
  field.focus();
}

function redraw() {
  timeline.draw(questions.filter(({ job }) => job.answer).map(({ job, letter, color }) => ({ job, letter, color })));
}

/**
 * Play a moment, and stop at its end.
 * @param {Job} job
 * @param {Moment} moment
 */
function play(job, moment) {
  if (!playerError.hidden) {
    player.src = `/api/jobs/${job.id}/clips/${moment.rank ?? 1}?exact=true`;
    timeline.beginAt(moment.start_s);
    stopAt_s = Infinity;
  } else {
    player.currentTime = moment.start_s;
    stopAt_s = moment.end_s;
  }
  player.scrollIntoView({ block: "nearest" });
  player.play().catch(() => {}); // the error shows in the player
}

async function askWritten() {
  const query = field.value.trim();
  if (!query) {
    field.focus();
    tell(error, "Describe what you are looking for.");
    return;
  }
  const current = video;
  if (!current) return;
  await asking(() => send("/jobs", "POST", { video: current.id, query }));
  field.select();
}

async function askAloud() {
  if (hearsNot) {
    tell(error, `Spoken queries are not taken here: ${hearsNot}.`);
    return;
  }
  const current = video;
  tell(error, "");
  try {
    if (recorder.isRecording) {
      recorder.stop(); // and whoever waits for it goes on
      return;
    }
    showSpeaking(true);
    const wav = await recorder.record();
    if (wav) await askWith(wav, current);
  } catch (caught) {
    tell(error, words(caught));
  } finally {
    if (!recorder.isRecording) showSpeaking(false);
  }
}

/**
 * @param {boolean} isOn
 */
function showSpeaking(isOn) {
  speak.setAttribute("aria-pressed", String(isOn));
  speak.querySelector("svg")?.replaceWith(icon(isOn ? "stop" : "mic"));
}

/**
 * @param {File} file
 */
async function askBySound(file) {
  if (hearsNot) {
    tell(error, `Spoken queries are not taken here: ${hearsNot}.`);
    return;
  }
  const current = video;
  try {
    await askWith(await wavOf(file), current);
  } catch {
    tell(error, `${file.name}: this browser cannot read it as sound.`);
  }
}

/**
 * @param {Blob} wav
 * @param {Video | null} current that it was said to
 */
async function askWith(wav, current) {
  if (current && current === video) await asking(() => call(`/videos/${current.id}/speech`, { method: "POST", headers: { "content-type": "audio/wav" }, body: wav }));
}

/**
 * @param {() => Promise<Job>} ask
 */
async function asking(ask) {
  const current = video;
  tell(error, "");
  form.setAttribute("aria-busy", "true");
  try {
    const job = await ask();
    if (video !== current) return; // another page is open by now; it will be there when this one is opened again
    add(job);
    announce("Looking");
  } catch (caught) {
    if (video === current) tell(error, words(caught));
  } finally {
    form.removeAttribute("aria-busy");
  }
}

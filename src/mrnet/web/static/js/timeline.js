// The video from left to right: its pictures, how well each query fits, and the moments.

import { likelyOf } from "./api.js";
import { clock, el } from "./dom.js";

/** @typedef {import("./api.js").Job} Job */
/** @typedef {import("./api.js").Moment} Moment */
/** @typedef {{job: Job, letter: string, color: number}} Lane */

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const STRIP_FRAMES = 12;
const MOST_TICKS = 6;
const SVG = "http://www.w3.org/2000/svg";

export class Timeline {
  /**
   * @param {HTMLElement} place
   * @param {HTMLVideoElement} player
   * @param {(job: Job, moment: Moment) => void} play a moment that is chosen
   */
  constructor(place, player, play) {
    this.place = place;
    this.player = player;
    this.play = play;
    this.duration_s = 1;
    /** Where in the video that begins which is played: of a clip of it, at its moment. */
    this.offset_s = 0;
    this.strip = el("div", { class: "strip" }, ...Array.from({ length: STRIP_FRAMES }, () => el("span")));
    [...this.strip.children].forEach((cell, index) => /** @type {HTMLElement} */ (cell).style.setProperty("--index", String(index)));
    this.ruler = el("div", { class: "ruler", "aria-hidden": "true" });
    this.curves = document.createElementNS(SVG, "svg");
    this.curves.setAttribute("class", "curves");
    this.curves.setAttribute("viewBox", "0 0 1000 100");
    this.curves.setAttribute("preserveAspectRatio", "none");
    this.curves.setAttribute("aria-hidden", "true");
    this.lanes = el("ul", { class: "lanes", "aria-label": "Moments in order of time" });
    this.head = el("div", { class: "head", "aria-hidden": "true" });
    this.ghost = el("div", { class: "ghost-head", "aria-hidden": "true", hidden: true });
    this.slider = el("div", { class: "seek", role: "slider", tabindex: "0", "aria-label": "Position in the video",
      "aria-valuemin": "0", keydown: (/** @type {KeyboardEvent} */ event) => this.pressed(event) }, this.strip, this.curves);
    this.track = el("div", { class: "track" }, this.slider, this.lanes, this.ruler, el("div", { class: "heads" }, this.head, this.ghost));
    place.replaceChildren(this.track);
    this.slider.addEventListener("pointerdown", (event) => {
      this.slider.setPointerCapture(event.pointerId);
      this.seek(this.at(event));
    });
    this.slider.addEventListener("pointermove", (event) => {
      if (event.buttons) this.seek(this.at(event));
      this.ghost.hidden = false;
      this.ghost.style.left = `${(100 * this.at(event)) / this.duration_s}%`;
      this.ghost.dataset.time = clock(this.at(event));
    });
    this.slider.addEventListener("pointerleave", () => (this.ghost.hidden = true));
    player.addEventListener("timeupdate", () => this.follow());
    player.addEventListener("seeking", () => this.follow());
  }

  /**
   * @param {{id: string, name: string, duration_s: number}} video
   */
  show(video) {
    this.duration_s = video.duration_s;
    this.strip.style.setProperty("--strip", `url("/api/videos/${video.id}/strip")`);
    this.slider.setAttribute("aria-valuemax", video.duration_s.toFixed(0));
    const step = STEPS_S.find((seconds) => video.duration_s / seconds <= MOST_TICKS) ?? 3600;
    const ticks = [];
    for (let time = 0; time <= video.duration_s; time += step) {
      const tick = el("span", {}, clock(time));
      tick.style.left = `${(100 * time) / video.duration_s}%`;
      if (time / video.duration_s > 0.96) tick.className = "last";
      ticks.push(tick);
    }
    this.ruler.replaceChildren(...ticks);
    this.draw([]);
    this.beginAt(0);
  }

  /**
   * @param {Lane[]} lanes of questions that are answered
   */
  draw(lanes) {
    this.curves.replaceChildren(...lanes.filter(({ job }) => job.curve.length > 1).map((lane) => this.curve(lane)));
    this.curves.toggleAttribute("hidden", !this.curves.childElementCount);
    this.lanes.replaceChildren(...lanes.map((lane) => this.lane(lane)));
  }

  /**
   * @param {Lane} lane
   */
  curve({ job, color }) {
    const values = job.curve.map(([, value]) => value);
    const low = Math.min(...values);
    const range = Math.max(...values) - low || 1;
    const points = job.curve.map(
      ([time, value]) => `${((1000 * time) / this.duration_s).toFixed(1)},${(96 - (90 * (value - low)) / range).toFixed(1)}`,
    );
    const first = points[0].split(",")[0];
    const last = points[points.length - 1].split(",")[0];
    const group = document.createElementNS(SVG, "g");
    const area = document.createElementNS(SVG, "polygon");
    const line = document.createElementNS(SVG, "polyline");
    area.setAttribute("points", `${first},100 ${points.join(" ")} ${last},100`);
    line.setAttribute("points", points.join(" "));
    group.setAttribute("class", `hue-${color}`);
    group.append(area, line);
    return group;
  }

  /**
   * @param {Lane} lane
   */
  lane({ job, letter, color }) {
    const answer = job.answer;
    const moments = answer?.moments.length ? answer.moments : answer?.best_guess ? [answer.best_guess] : [];
    const likely = likelyOf(moments);
    const best = Math.max(...moments.map(scoreOf), 1e-6);
    const item = el("li", { class: `lane hue-${color}` }, el("span", { class: "letter", "aria-hidden": "true" }, letter));
    // The best one last, so that it lies on top.
    for (const moment of [...moments].reverse()) {
      const isGuess = !answer?.moments.length;
      const times = `${clock(moment.start_s)} to ${clock(moment.end_s)}`;
      const bar = el("button", {
        type: "button",
        class: `bar-moment${isGuess || job.none_here ? " guess" : likely.includes(moment) ? "" : " unlikely"}`,
        "aria-label": `${letter}, ${isGuess ? "best guess" : `moment ${moment.rank}`}, ${times}: play`,
        title: `${job.answer?.query ?? job.query}, ${times}`,
        click: () => this.play(job, moment),
      });
      bar.style.left = `${(100 * moment.start_s) / this.duration_s}%`;
      bar.style.width = `${Math.max((100 * (moment.end_s - moment.start_s)) / this.duration_s, 0.6)}%`;
      bar.style.setProperty("--strength", (scoreOf(moment) / best).toFixed(2));
      item.append(bar);
    }
    return item;
  }

  /**
   * The player has another source, which begins there in the video.
   * @param {number} time_s
   */
  beginAt(time_s) {
    this.offset_s = time_s;
    this.follow();
  }

  get time_s() {
    return this.offset_s + this.player.currentTime;
  }

  follow() {
    const time = this.time_s;
    this.head.style.left = `${Math.min((100 * time) / this.duration_s, 100)}%`;
    this.slider.setAttribute("aria-valuenow", time.toFixed(0));
    this.slider.setAttribute("aria-valuetext", `${clock(time)} of ${clock(this.duration_s)}`);
  }

  /**
   * @param {PointerEvent} event
   */
  at(event) {
    const box = this.slider.getBoundingClientRect();
    return this.duration_s * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  }

  /**
   * @param {number} time_s
   */
  seek(time_s) {
    this.player.currentTime = Math.min(Math.max(time_s, 0), this.duration_s) - this.offset_s;
    this.follow();
  }

  /**
   * @param {KeyboardEvent} event
   */
  pressed(event) {
    const step = event.shiftKey ? 10 : 1;
    const now = this.time_s;
    /** @type {Record<string, number>} */
    const targets = { ArrowLeft: now - step, ArrowDown: now - step, ArrowRight: now + step, ArrowUp: now + step, PageDown: now - 10, PageUp: now + 10, Home: 0, End: this.duration_s };
    if (event.key in targets) {
      event.preventDefault();
      this.seek(targets[event.key]);
    } else if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      if (this.player.paused) void this.player.play();
      else this.player.pause();
    }
  }
}

/**
 * @param {Moment} moment
 */
function scoreOf(moment) {
  return Math.max(moment.probability ?? moment.score ?? 0, 0);
}

// One question: its progress, its moments, and what can be done with them.

import { call, likelyOf, pause, Refusal, send } from "./api.js";
import { announce, clock, el, icon, toast, words } from "./dom.js";

/** @typedef {import("./api.js").Job} Job */
/** @typedef {import("./api.js").Moment} Moment */
/** @typedef {{play: (job: Job, moment: Moment) => void, changed: () => void, removed: (question: Question) => void}} Actions */

const FIRST_POLL_MS = 300;
const SLOWEST_POLL_MS = 2000;
const DOWNLOADS = [["vtt", "Subtitles, WebVTT"], ["srt", "Subtitles, SubRip"], ["edl", "Edit list, CMX 3600"], ["otio", "Edit list, OpenTimelineIO"], ["csv", "Table, CSV"], ["json", "All of it, JSON"]];

export class Question {
  /**
   * @param {Job} job
   * @param {string} letter that stands for it on the timeline
   * @param {number} color
   * @param {Actions} actions
   */
  constructor(job, letter, color, actions) {
    this.job = job;
    this.letter = letter;
    this.color = color;
    this.actions = actions;
    this.isGone = false;
    this.item = el("li", { class: `card answer hue-${color}`, tabindex: "-1" });
    this.draw();
  }

  get isOver() {
    return !["queued", "running"].includes(this.job.state);
  }

  get query() {
    return this.job.answer?.query || this.job.query || "What you said";
  }

  /** Ask the server how far it is, until it is done. */
  async follow() {
    let wait = FIRST_POLL_MS;
    while (!this.isOver && !this.isGone) {
      await pause(wait);
      wait = Math.min(wait * 1.2, SLOWEST_POLL_MS);
      try {
        this.update(await call(`/jobs/${this.job.id}`));
      } catch (error) {
        if (error instanceof Refusal && error.status === 404) this.leave();
        wait = SLOWEST_POLL_MS; // the server is being started anew, perhaps
      }
    }
  }

  /**
   * @param {Job} job
   */
  update(job) {
    const before = this.job;
    this.job = job;
    if (before.state === job.state && !this.isOver) {
      this.tellProgress();
      return;
    }
    const hadFocus = this.item.contains(document.activeElement);
    this.draw();
    if (hadFocus) this.item.focus();
    if (this.isOver && before.state !== job.state) announce(this.summary());
    this.actions.changed();
  }

  leave() {
    this.isGone = true;
    this.item.remove();
    this.actions.removed(this);
  }

  summary() {
    const count = this.job.answer?.moments.length ?? 0;
    if (this.job.state === "failed") return `${this.query}: ${this.job.error}`;
    if (this.job.state === "cancelled") return `${this.query}: cancelled`;
    return count ? `${this.query}: ${count === 1 ? "one moment" : `${count} moments`}` : `${this.query}: not in this video, as far as can be told`;
  }

  draw() {
    const title = el("h2", {}, el("span", { class: "letter", "aria-hidden": "true" }, this.letter), el("span", { class: "grow clamp", title: this.query }, this.query));
    const tools = el("div", { class: "tools" },
      el("button", { type: "button", class: "icon", "aria-label": `Copy a link to: ${this.query}`, title: "Copy a link", click: () => this.share() }, icon("link")),
      el("button", { type: "button", class: "icon", "aria-label": `Remove: ${this.query}`, title: "Remove", click: () => this.remove() }, icon("trash")));
    this.item.replaceChildren(el("div", { class: "row top" }, title, tools), ...this.body());
  }

  /** @returns {HTMLElement[]} */
  body() {
    const { job } = this;
    if (!this.isOver) return this.progress();
    if (job.state === "failed") return [el("p", { class: "alert" }, job.error)];
    if (job.state === "cancelled" || !job.answer) return [el("p", { class: "soft" }, "Cancelled.")];
    const { moments, best_guess: guess, note } = job.answer;
    const parts = [];
    if (note) parts.push(el("p", { class: "note" }, note));
    if (job.none_here) parts.push(el("p", { class: "verdict" }, "You said: none of these."));
    if (moments.length) {
      const likely = likelyOf(moments);
      const others = moments.filter((moment) => !likely.includes(moment));
      parts.push(this.list(likely));
      if (others.length) parts.push(el("details", { class: "others" }, el("summary", {}, `${others.length} less likely`), this.list(others)));
    } else {
      parts.push(el("p", { class: "none" }, "Not in this video, as far as can be told."));
      if (guess) parts.push(el("h3", {}, "Best guess"), this.list([guess]));
    }
    if (moments.length || guess) parts.push(this.foot());
    return parts;
  }

  /** @returns {HTMLElement[]} */
  progress() {
    this.bar = el("progress", { max: "1", "aria-label": `Progress of: ${this.query}` });
    this.said = el("span", { class: "soft grow" });
    this.tellProgress();
    return [this.bar, el("div", { class: "row" }, this.said, el("button", { type: "button", class: "ghost", click: () => this.cancel() }, "Cancel"))];
  }

  tellProgress() {
    const { state, ahead, share } = this.job;
    if (!this.bar || !this.said) return;
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
    if (state === "queued") this.said.textContent = ahead ? `Waiting: ${ahead} before it` : "Waiting …";
    else if (share === null || share >= 1) this.said.textContent = "Looking …";
    else this.said.textContent = `Watching the video, ${Math.round(share * 100)} %`;
  }

  /**
   * @param {Moment[]} moments
   */
  list(moments) {
    return el("ol", { class: "moments" }, ...moments.map((moment) => this.moment(moment)));
  }

  /**
   * @param {Moment} moment
   */
  moment(moment) {
    const rank = moment.rank ?? 1;
    const middle = (moment.start_s + moment.end_s) / 2;
    const times = `${clock(moment.start_s, 1)} – ${clock(moment.end_s, 1)}`;
    const clip = `/api/jobs/${this.job.id}/clips/${rank}`;
    const picture = el("img", { src: `/api/videos/${this.job.video}/still?at_s=${middle.toFixed(2)}`, alt: "", loading: "lazy", width: "112", height: "63" });
    const play = el("button", { type: "button", class: "thumb", "aria-label": `Play ${times}`, click: () => this.actions.play(this.job, moment) }, picture, icon("play"));
    const about = el("div", { class: "grow" }, el("div", { class: "times" }, times), this.likelihood(moment));
    if (moment.words) about.append(el("q", { class: "words" }, moment.words));
    about.append(el("div", { class: "links" },
      el("a", { href: clip, download: true, title: "As it is stored; starts at the key frame before the moment" }, "Clip"),
      el("a", { href: `${clip}?exact=true`, download: true, title: "Encoded anew; starts and ends at the very frame" }, "Exact clip")));
    return el("li", { class: "moment" }, play, about);
  }

  /**
   * @param {Moment} moment
   */
  likelihood(moment) {
    if (moment.source === "said") return el("span", { class: "said" }, "said");
    if (moment.probability === undefined) return el("span", { class: "soft" }, `score ${(moment.score ?? 0).toFixed(2)}`);
    const percent = Math.round(moment.probability * 100);
    const meter = el("meter", { min: "0", max: "1", value: moment.probability, "aria-label": "Probability" });
    return el("div", { class: "likely" }, meter, el("span", {}, `${percent} %`));
  }

  foot() {
    const { job } = this;
    const menu = el("details", { class: "menu" }, el("summary", {}, icon("down"), "Download"),
      el("ul", {}, ...DOWNLOADS.map(([form, name]) => el("li", {}, el("a", { href: `/api/jobs/${job.id}/moments.${form}`, download: true }, name)))));
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary")?.focus();
    });
    const about = el("details", { class: "how" }, el("summary", {}, "How"),
      el("p", { class: "soft" }, `Answered by ${job.answer?.answered_by ?? ""}.${job.answer?.calibrated_on ? ` Probabilities from ${job.answer.calibrated_on}.` : ""}`));
    return el("div", { class: "foot" },
      el("button", { type: "button", class: "ghost none-here", "aria-pressed": String(job.none_here), click: () => this.mark() }, "None of these"), menu, about);
  }

  async mark() {
    try {
      this.update(await send(`/jobs/${this.job.id}/feedback`, "PUT", { none_here: !this.job.none_here }));
      /** @type {HTMLElement | null} */ (this.item.querySelector(".none-here"))?.focus();
      announce(this.job.none_here ? "Noted: none of these" : "Taken back");
    } catch (error) {
      toast(words(error));
    }
  }

  async cancel() {
    try {
      this.update(await call(`/jobs/${this.job.id}/cancel`, { method: "POST" }));
    } catch (error) {
      toast(words(error));
    }
  }

  async remove() {
    try {
      await call(`/jobs/${this.job.id}`, { method: "DELETE" });
    } catch (error) {
      if (!(error instanceof Refusal && error.status === 404)) {
        toast(words(error));
        return;
      }
    }
    this.leave();
  }

  async share() {
    const link = `${location.origin}/#/video/${this.job.video}/${this.job.id}`;
    try {
      await navigator.clipboard.writeText(link);
      toast("The link is copied");
    } catch {
      window.prompt("The link to this answer", link);
    }
  }
}

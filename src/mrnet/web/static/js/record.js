// From the microphone, or a sound file, to the WAV file that the server hears: 16 kHz, mono, 16 bit.

const RATE = 16000;
const LONGEST_S = 15;

export class Recorder {
  /**
   * @param {(message: string) => void} tell what goes on; an empty message when nothing does
   */
  constructor(tell) {
    this.tell = tell;
    /** @type {MediaRecorder | null} */
    this.media = null;
    /** From the question whether the page may hear, to the end of the recording. */
    this.isRecording = false;
    this.isDiscarded = false;
  }

  /**
   * Record until `stop` is called, or for 15 seconds; one at a time.
   * @returns {Promise<Blob | null>} null where it was discarded
   */
  async record() {
    if (!navigator.mediaDevices) {
      throw new Error("The browser gives the microphone to pages on this machine or over HTTPS alone. Use a sound file.");
    }
    this.isRecording = true;
    this.isDiscarded = false;
    /** @type {Blob[]} */
    let chunks = [];
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch(() => {
        throw new Error("There is no microphone, or the browser does not give it to this page. Allow it, or use a sound file.");
      });
      try {
        if (!this.isDiscarded) chunks = await this.listen(new MediaRecorder(stream));
      } finally {
        for (const track of stream.getTracks()) track.stop();
      }
    } finally {
      this.isRecording = false;
    }
    return this.isDiscarded ? null : wavOf(new Blob(chunks));
  }

  /**
   * @param {MediaRecorder} media
   * @returns {Promise<Blob[]>} what it heard
   */
  async listen(media) {
    /** @type {Blob[]} */
    const chunks = [];
    this.media = media;
    const timer = window.setTimeout(() => this.stop(), 1000 * LONGEST_S);
    this.tell("Listening: press the button again when you have said it");
    try {
      await new Promise((resolve, reject) => {
        media.ondataavailable = (event) => chunks.push(event.data);
        media.onstop = resolve;
        media.onerror = () => reject(new Error("The recording failed."));
        media.start();
      });
    } finally {
      window.clearTimeout(timer);
      this.media = null;
      this.tell("");
    }
    return chunks;
  }

  /** End the recording; where it has not begun, as the browser still asks, there will be none. */
  stop() {
    if (this.media?.state === "recording") this.media.stop();
    else this.isDiscarded = true;
  }

  /** Stop, and keep nothing. */
  discard() {
    this.isDiscarded = true;
    this.stop();
  }
}

/**
 * A sound of any form that the browser reads, as WAV.
 * @param {Blob} sound
 */
export async function wavOf(sound) {
  const context = new AudioContext();
  try {
    const decoded = await context.decodeAudioData(await sound.arrayBuffer());
    const offline = new OfflineAudioContext(1, Math.max(Math.ceil(decoded.duration * RATE), 1), RATE);
    const source = offline.createBufferSource();
    source.buffer = decoded;
    source.connect(offline.destination);
    source.start();
    return wav((await offline.startRendering()).getChannelData(0));
  } finally {
    await context.close();
  }
}

/**
 * @param {Float32Array} samples in [-1, 1]
 */
function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (/** @type {number} */ at, /** @type {string} */ letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => view.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

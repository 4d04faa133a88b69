// Records the microphone as 16 kHz mono PCM; shared by the widgets and the Colab fallback.
import { make, openDevice, problem } from "../transport/page.js";

export const RATE_HZ = 16000; // what Whisper hears
const METER_MS = 100;
const FLOOR_DB = -60; // the empty end of the level meter, below full scale
const SPEECH_DB = -38; // louder than a quiet room; speech is at -30 to -10
const OPENS_MS = 3000; // the longest wait for a microphone that is allowed and still gives nothing
const QUIET_S = 0.5; // of a pause, from which on it is counted down to the end
const PIECE = RATE_HZ / 4; // samples that are sent at a time
const HOLD_MS = 400; // a press longer than this is "hold to speak"

const TAP = `registerProcessor("s2i-tap", class extends AudioWorkletProcessor {
  process([[channel]]) { if (channel) this.port.postMessage(channel.slice()); return true; }
});`;

// Float samples -> little-endian 16-bit PCM.
export function toPcm16(samples) {
  const pcm = new Int16Array(samples.length);
  samples.forEach((value, i) => (pcm[i] = Math.max(-1, Math.min(1, value)) * 32767));
  return new Uint8Array(pcm.buffer);
}

// Rough and at once, for what is only a draft: the mean of the samples that fall on each new one.
class Thinner {
  constructor(rate) {
    Object.assign(this, { step: rate / RATE_HZ, sum: 0, count: 0, at: 0 });
  }
  take(samples) {
    if (this.step === 1) return samples;
    const out = [];
    for (const value of samples) {
      this.sum += value;
      this.count += 1;
      this.at += 1;
      if (this.at < this.step) continue;
      out.push(this.sum / this.count);
      this.at -= this.step;
      this.sum = this.count = 0;
    }
    return Float32Array.from(out);
  }
}

async function resampleTo16k(samples, rate) {
  if (rate === RATE_HZ || !samples.length) return samples;
  const length = Math.max(1, Math.round((samples.length * RATE_HZ) / rate));
  const context = new OfflineAudioContext(1, length, RATE_HZ);
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

export class Recorder {
  // onLevel(share from 0 to 1, seconds, seconds until it stops because of silence, or null);
  // onEnd(hasGone): too long, silent after speech, or the microphone has gone. onPiece(bytes): PCM
  // of the next quarter of a second.
  constructor(say, { maxS = 60, silenceS = 0, onLevel = () => {}, onEnd = () => {}, onPiece = null }) {
    Object.assign(this, { say, maxS, silenceS, onLevel, onEnd, onPiece, parts: [], peak: 0 });
  }

  async start() {
    // As it is: what browsers do against noise for telephony takes consonants from Whisper.
    this.stream = await openDevice("microphone", {
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    }, this.say);
    try {
      const source = await this.open();
      const isOpen = new Promise((resolve) => (this.isOpen = resolve));
      this.pending = [];
      this.thinner = new Thinner(this.context.sampleRate);
      await this.tap(source);
      // Devices take a moment: what is said before the first samples come is lost.
      await Promise.race([isOpen, new Promise((resolve) => setTimeout(resolve, OPENS_MS))]);
      this.began = performance.now();
      this.watch(source);
      this.stream.getAudioTracks().forEach((track) => (track.onended = () => this.onEnd(true)));
    } catch (error) {
      this.release();
      throw error;
    }
  }

  async open() {
    const connect = async (options) => {
      this.context = new AudioContext(options);
      await this.context.resume();
      return this.context.createMediaStreamSource(this.stream);
    };
    try {
      return await connect({ sampleRate: RATE_HZ }); // the browser's own resampling
    } catch {
      await this.context?.close(); // Firefox connects no microphone of another rate
      return connect({});
    }
  }

  take(samples) {
    this.isOpen();
    this.parts.push(samples);
    if (!this.onPiece) return;
    this.pending.push(...this.thinner.take(samples));
    if (this.pending.length < PIECE) return;
    this.onPiece(toPcm16(Float32Array.from(this.pending)));
    this.pending = [];
  }

  async tap(source) {
    try {
      const url = URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }));
      await this.context.audioWorklet.addModule(url);
      URL.revokeObjectURL(url);
      const node = new AudioWorkletNode(this.context, "s2i-tap", { numberOfOutputs: 0 });
      node.port.onmessage = (event) => this.take(event.data);
      source.connect(node);
    } catch {
      // A page that forbids worklets from blobs: the old way, on the page's own thread.
      const node = this.context.createScriptProcessor(4096, 1, 1);
      node.onaudioprocess = (event) => this.take(event.inputBuffer.getChannelData(0).slice());
      source.connect(node);
      node.connect(this.context.destination);
    }
  }

  watch(source) {
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 2048;
    source.connect(analyser);
    const window = new Float32Array(analyser.fftSize);
    let lastSpeech = null;
    this.timer = setInterval(() => {
      const seconds = (performance.now() - this.began) / 1000;
      analyser.getFloatTimeDomainData(window);
      const power = window.reduce((sum, value) => sum + value * value, 0) / window.length;
      const db = 10 * Math.log10(power + 1e-10);
      const level = Math.max(0, Math.min(1, 1 - db / FLOOR_DB));
      this.peak = Math.max(this.peak, level);
      if (db > SPEECH_DB) lastSpeech = seconds;
      const isCounting = this.silenceS && lastSpeech !== null && seconds > lastSpeech + QUIET_S;
      const left = isCounting ? this.silenceS - (seconds - lastSpeech) : null;
      this.onLevel(level, seconds, left);
      if ((left !== null && left < 0) || seconds > this.maxS) this.onEnd(false);
    }, METER_MS);
  }

  // -> {bytes, seconds}: what was said, as PCM.
  async stop() {
    const rate = this.context.sampleRate;
    this.release();
    const samples = new Float32Array(this.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.parts) {
      samples.set(part, at);
      at += part.length;
    }
    const resampled = await resampleTo16k(samples, rate);
    return { bytes: toPcm16(resampled), seconds: resampled.length / RATE_HZ };
  }

  release() {
    clearInterval(this.timer);
    if (this.stream) this.stream.getTracks().forEach((track) => track.stop());
    if (this.context && this.context.state !== "closed") this.context.close();
    this.stream = null;
  }
}

// The button that records, its meter and its cancel. Press and press again, or hold and let go;
// Space and Enter do the same. Calls onRecording(bytes, seconds), onProblem(error), and where it is
// given onPiece(bytes) while it records and onCancel() when it is given up. `text` is of makeText.
export function makeRecordButton({
  lines, text, options = () => ({}), onState = () => {}, onRecording, onProblem, onPiece = null,
  onCancel = () => {},
}) {
  let recorder = null, isBusy = false, pressedBy = "", pressedAt = 0, lastSecond = -1, isGone = false;
  const label = make("span", {}, text.say("speak"));
  const button = make(
    "button",
    { type: "button", class: "s2i-main s2i-speak", "aria-pressed": "false" },
    make("span", { class: "s2i-dot", "aria-hidden": "true" }),
    label,
  );
  const cancel = make("button", { type: "button", hidden: true }, text.say("cancel"));
  const bar = make("div", {});
  const meter = make(
    "div",
    { class: "s2i-meter", role: "meter", "aria-label": text.say("level"), "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0", hidden: true },
    bar,
  );
  const time = make("span", { class: "s2i-quiet s2i-time", hidden: true }, "0:00");
  const counted = make("span", { class: "s2i-countdown", hidden: true });
  const goOn = make(
    "button",
    { type: "button", hidden: true, click: () => recorder && ((recorder.silenceS = 0), count(null)) },
    text.say("keep_listening"),
  );

  function count(left) {
    const hadFocus = goOn.getRootNode().activeElement === goOn;
    counted.hidden = goOn.hidden = left === null;
    if (left !== null) counted.textContent = text.say("countdown", { seconds: Math.max(0, left).toFixed(1) });
    else if (hadFocus) button.focus();
  }

  function show(state) {
    const isOn = state === "listening";
    if (!isOn && cancel === cancel.getRootNode().activeElement) button.focus(); // it is hidden
    button.setAttribute("aria-pressed", String(isOn));
    button.classList.toggle("s2i-stop", isOn);
    label.textContent = text.say(isOn ? "stop" : state === "opening" ? "opening" : "speak");
    cancel.hidden = meter.hidden = time.hidden = !isOn;
    count(null);
    if (!isOn) bar.style.width = "0";
    onState(state);
  }

  async function begin() {
    isBusy = true;
    lines.complain("");
    lines.say(text.say("asking"));
    show("opening");
    lastSecond = -1;
    const mine = new Recorder(text.say, {
      ...options(),
      onPiece,
      onLevel: (level, seconds, left) => {
        const percent = Math.round(100 * level);
        bar.style.width = `${percent}%`;
        meter.setAttribute("aria-valuenow", percent);
        count(left);
        if (Math.floor(seconds) === lastSecond) return;
        lastSecond = Math.floor(seconds);
        time.textContent = `${Math.floor(lastSecond / 60)}:${String(lastSecond % 60).padStart(2, "0")}`;
      },
      onEnd: end,
    });
    try {
      await mine.start();
      if (isGone) return mine.release(); // the view was closed while the browser asked
      recorder = mine;
      show("listening");
      lines.say(text.say("listening"));
    } catch (error) {
      show("error");
      lines.say("");
      lines.complain(error.message);
      onProblem(error);
    }
    isBusy = false;
  }

  async function end(hasGone = false) {
    if (isBusy || !recorder) return;
    isBusy = true;
    const mine = recorder;
    recorder = null;
    try {
      const { bytes, seconds } = await mine.stop();
      show("recorded");
      if (!bytes.length) throw new Error(text.say("nothing_recorded"));
      if (mine.peak === 0) throw problem(text.say("microphone_silent"), "silent");
      isBusy = false;
      onRecording(bytes, seconds);
      if (hasGone) lines.complain(text.say("microphone_gone"));
    } catch (error) {
      show("error");
      lines.say(""); // it listens no more
      lines.complain(error.message);
      onProblem(error);
      onCancel();
    }
    isBusy = false;
  }

  function giveUp() {
    if (!recorder) return;
    recorder.release();
    recorder = null;
    show("idle");
    lines.say(text.say("cancelled"));
    onCancel();
    button.focus();
  }

  function press(by = "") {
    if (isBusy) return;
    if (recorder) return end();
    pressedBy = by;
    pressedAt = performance.now();
    begin();
  }

  // Of the same key or pointer: where one is never let go (a question of the browser took the key,
  // the phone the finger), no press elsewhere may send what is said.
  function letGo(by) {
    if (pressedBy !== by) return;
    pressedBy = "";
    if (recorder && performance.now() - pressedAt > HOLD_MS) end();
  }
  const liftPointer = () => letGo("pointer");
  const losePointer = () => (pressedBy = "");

  const isKey = (event) => event.key === " " || event.key === "Enter";
  button.addEventListener("keydown", (event) => {
    if (event.key === "Escape") giveUp();
    if (!isKey(event)) return;
    event.preventDefault();
    if (!event.repeat) press("key");
  });
  button.addEventListener("keyup", (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    letGo("key");
  });
  button.addEventListener("pointerdown", (event) => event.button === 0 && press("pointer"));
  window.addEventListener("pointerup", liftPointer);
  window.addEventListener("pointercancel", losePointer);
  // Screen readers and voice control click without a pointer or a key.
  button.addEventListener("click", (event) => event.detail === 0 && event.isTrusted && press());
  cancel.addEventListener("click", giveUp);
  return {
    element: make("div", { class: "s2i-row s2i-record" }, button, cancel, meter, time, counted, goOn),
    button,
    close() {
      isGone = true;
      window.removeEventListener("pointerup", liftPointer);
      window.removeEventListener("pointercancel", losePointer);
      if (recorder) recorder.release();
    },
  };
}

// Records the microphone as 16 kHz mono PCM; shared by the widgets and the Colab fallback.
import { make, openDevice } from "../transport/page.js";

export const RATE_HZ = 16000; // what Whisper hears
const METER_MS = 100;
const FLOOR_DB = -60; // the empty end of the level meter, below full scale
const SPEECH_DB = -38; // louder than a quiet room; speech is at -30 to -10
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
  // onLevel(share from 0 to 1, seconds); onEnd(): too long, or silent after speech.
  constructor({ maxS = 60, silenceS = 0, onLevel = () => {}, onEnd = () => {} } = {}) {
    Object.assign(this, { maxS, silenceS, onLevel, onEnd, parts: [], peak: 0 });
  }

  async start() {
    // As it is: what browsers do against noise for telephony takes consonants from Whisper.
    this.stream = await openDevice("microphone", {
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    try {
      this.context = new AudioContext();
      await this.context.resume();
      const source = this.context.createMediaStreamSource(this.stream);
      await this.tap(source);
      this.watch(source);
    } catch (error) {
      this.release();
      throw error;
    }
    this.began = performance.now();
  }

  async tap(source) {
    const take = (samples) => this.parts.push(samples);
    try {
      const url = URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }));
      await this.context.audioWorklet.addModule(url);
      URL.revokeObjectURL(url);
      const node = new AudioWorkletNode(this.context, "s2i-tap", { numberOfOutputs: 0 });
      node.port.onmessage = (event) => take(event.data);
      source.connect(node);
    } catch {
      // A page that forbids worklets from blobs: the old way, on the page's own thread.
      const node = this.context.createScriptProcessor(4096, 1, 1);
      node.onaudioprocess = (event) => take(event.inputBuffer.getChannelData(0).slice());
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
      this.onLevel(level, seconds);
      if (db > SPEECH_DB) lastSpeech = seconds;
      const isSilent = this.silenceS && lastSpeech !== null && seconds - lastSpeech > this.silenceS;
      if (isSilent || seconds > this.maxS) this.onEnd();
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
// Space and Enter do the same. Calls onRecording(bytes, seconds), onProblem(error).
export function makeRecordButton({ lines, options = () => ({}), onState = () => {}, onRecording, onProblem }) {
  let recorder = null, isBusy = false, isPressed = false, pressedAt = 0, lastSecond = -1;
  const label = make("span", {}, "Speak");
  const button = make(
    "button",
    { type: "button", class: "s2i-main s2i-speak", "aria-pressed": "false" },
    make("span", { class: "s2i-dot", "aria-hidden": "true" }),
    label,
  );
  const cancel = make("button", { type: "button", hidden: true }, "Cancel");
  const bar = make("div", {});
  const meter = make(
    "div",
    { class: "s2i-meter", role: "meter", "aria-label": "Microphone level", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" },
    bar,
  );
  const time = make("span", { class: "s2i-quiet s2i-time" }, "0:00");

  function show(state) {
    const isOn = state === "listening";
    button.setAttribute("aria-pressed", String(isOn));
    button.classList.toggle("s2i-stop", isOn);
    label.textContent = isOn ? "Stop" : "Speak";
    cancel.hidden = !isOn;
    if (!isOn) bar.style.width = "0";
    onState(state);
  }

  async function begin() {
    isBusy = true;
    lines.complain("");
    lines.say("Asking for the microphone. The browser may ask you to allow it.");
    lastSecond = -1;
    const mine = new Recorder({
      ...options(),
      onLevel: (level, seconds) => {
        const percent = Math.round(100 * level);
        bar.style.width = `${percent}%`;
        meter.setAttribute("aria-valuenow", percent);
        if (Math.floor(seconds) === lastSecond) return;
        lastSecond = Math.floor(seconds);
        time.textContent = `${Math.floor(lastSecond / 60)}:${String(lastSecond % 60).padStart(2, "0")}`;
      },
      onEnd: () => end(),
    });
    try {
      await mine.start();
      recorder = mine;
      show("listening");
      lines.say("Listening. Press again when you have spoken; Escape cancels.");
    } catch (error) {
      show("error");
      lines.say("");
      lines.complain(error.message);
      onProblem(error);
    }
    isBusy = false;
  }

  async function end() {
    if (isBusy || !recorder) return;
    isBusy = true;
    const mine = recorder;
    recorder = null;
    try {
      const { bytes, seconds } = await mine.stop();
      show("recorded");
      if (!bytes.length) throw new Error("Nothing was recorded. Try again.");
      if (mine.peak === 0)
        throw Object.assign(
          new Error("The microphone gives only silence. Check that it is not muted, then try again."),
          { code: "silent" },
        );
      isBusy = false;
      onRecording(bytes, seconds);
    } catch (error) {
      show("error");
      lines.complain(error.message);
      onProblem(error);
    }
    isBusy = false;
  }

  function giveUp() {
    if (!recorder) return;
    recorder.release();
    recorder = null;
    show("idle");
    lines.say("Cancelled; nothing was sent.");
    button.focus();
  }

  function press() {
    if (isBusy) return;
    if (recorder) return end();
    isPressed = true;
    pressedAt = performance.now();
    begin();
  }

  function letGo() {
    if (isPressed && recorder && performance.now() - pressedAt > HOLD_MS) end();
    isPressed = false;
  }

  const isKey = (event) => event.key === " " || event.key === "Enter";
  button.addEventListener("keydown", (event) => {
    if (event.key === "Escape") giveUp();
    if (!isKey(event)) return;
    event.preventDefault();
    if (!event.repeat) press();
  });
  button.addEventListener("keyup", (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    letGo();
  });
  button.addEventListener("pointerdown", (event) => event.button === 0 && press());
  window.addEventListener("pointerup", letGo);
  // Screen readers and voice control click without a pointer or a key.
  button.addEventListener("click", (event) => event.detail === 0 && event.isTrusted && press());
  cancel.addEventListener("click", giveUp);
  return {
    element: make("div", { class: "s2i-row" }, button, cancel, meter, time),
    button,
    close() {
      window.removeEventListener("pointerup", letGo);
      if (recorder) recorder.release();
    },
  };
}

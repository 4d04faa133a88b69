// Photographs with the browser's camera. The Python half is __init__.py.
import { make, makeFrame, makeLines, openDevice } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { makeStrip } from "../photos/photos.js";

const LARGEST_PX = 4096; // "ideal", so each camera gives the most it has
const QUALITY = 0.95; // of the JPEG
const TAKE_PHOTO_MS = 4000; // some drivers never answer takePhoto

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A frame of the preview as JPEG, not mirrored.
async function frameOf(video) {
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve, reject) =>
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("The camera gave no picture."))),
      "image/jpeg",
      QUALITY,
    ),
  );
}

// The largest JPEG that the camera can make: phones give a still of more pixels than their video.
async function shoot(video, stream) {
  const frame = frameOf(video);
  const track = stream.getVideoTracks()[0];
  if (!window.ImageCapture || !track) return frame;
  try {
    const capture = new ImageCapture(track);
    const { imageWidth } = await Promise.race([capture.getPhotoCapabilities(), pause(TAKE_PHOTO_MS)]);
    if (!imageWidth || imageWidth.max <= video.videoWidth) return frame;
    const still = await Promise.race([
      capture.takePhoto({ imageWidth: imageWidth.max }),
      pause(TAKE_PHOTO_MS),
    ]);
    return still && still.type === "image/jpeg" ? still : frame;
  } catch {
    return frame; // no still mode: the frame is all there is
  }
}

function render({ model, el }) {
  const lines = makeLines();
  const transport = new Transport(model, (message) => {
    if (message.type === "complaint") lines.complain(message.text);
  });
  const strip = makeStrip(model, transport, lines);
  let stream = null, busy = false, stopBurst = false, serial = 0;

  const video = make("video", { muted: true, playsinline: true, "aria-label": "Camera preview" });
  const number = make("div", { class: "s2i-countdown", "aria-hidden": "true" });
  const stage = make("div", { class: "s2i-stage", hidden: true }, video, number);
  const which = make(
    "select",
    { "aria-label": "Which camera", change: () => stream && open() },
    make("option", { value: "user" }, "Front camera"),
    make("option", { value: "environment" }, "Back camera"),
  );
  const button = (text, click, more = {}) => make("button", { type: "button", click, ...more }, text);
  const onOff = button("Start camera", () => (stream ? close() : open()), { class: "s2i-main" });
  const take = button("Take photo", () => run(() => takeOne()), { hidden: true, class: "s2i-main" });
  const many = button("", () => run(takeMany), { hidden: true });
  const stop = button("Stop", () => (stopBurst = true), { hidden: true, class: "s2i-stop" });
  many.textContent = `${model.get("burst")} photos after ${model.get("countdown_s")} seconds`;

  function showState(state) {
    frame.dataset.state = state;
    const isLive = stream !== null;
    stage.hidden = take.hidden = many.hidden = !isLive;
    stop.hidden = state !== "burst";
    onOff.textContent = isLive ? "Stop camera" : "Start camera";
    onOff.classList.toggle("s2i-main", !isLive);
    for (const item of [take, many, onOff, which])
      item.setAttribute("aria-disabled", String(state === "burst"));
  }

  function close() {
    if (busy) return;
    release();
    showState("idle");
    lines.say("The camera is off.");
    onOff.focus();
  }

  function release() {
    if (stream) stream.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
  }

  async function open() {
    if (busy) return;
    release();
    lines.complain("");
    lines.say("Asking for the camera. The browser may ask you to allow it.");
    const isSide = ["user", "environment"].includes(which.value);
    const wanted = isSide ? { facingMode: which.value } : { deviceId: { exact: which.value } };
    try {
      stream = await openDevice("camera", {
        video: { width: { ideal: LARGEST_PX }, height: { ideal: LARGEST_PX }, ...wanted },
      });
    } catch (error) {
      showState("error");
      lines.say("");
      lines.complain(error.message);
      transport.tell("problem", { code: error.code || "other", message: error.message });
      return;
    }
    const track = stream.getVideoTracks()[0];
    track.addEventListener("ended", () => {
      release();
      showState("error");
      lines.complain("The camera was unplugged or turned off. Start it again.");
    });
    const facing = track.getSettings().facingMode || which.value;
    video.classList.toggle("s2i-mirror", facing !== "environment");
    video.srcObject = stream;
    await video.play();
    await listCameras(track.getSettings().deviceId);
    showState("live");
    lines.say(`The camera is on, ${video.videoWidth} by ${video.videoHeight} pixels.`);
    take.focus();
  }

  // Names are known only once a camera is allowed; a single one needs no choice of names.
  async function listCameras(current) {
    const devices = await navigator.mediaDevices.enumerateDevices();
    const cameras = devices.filter((device) => device.kind === "videoinput" && device.label);
    if (cameras.length < 2) return;
    [...which.options].slice(2).forEach((option) => option.remove());
    for (const { deviceId, label } of cameras)
      which.append(make("option", { value: deviceId }, label));
    if (!["user", "environment"].includes(which.value)) which.value = current;
  }

  async function run(work) {
    if (busy || !stream) return;
    busy = true;
    lines.complain("");
    try {
      await work();
    } catch (error) {
      lines.complain(error.message);
    }
    number.textContent = "";
    busy = false;
    showState(stream ? "live" : "error");
  }

  async function takeOne(label = "Photo") {
    const blob = await shoot(video, stream);
    stage.classList.add("s2i-flash");
    setTimeout(() => stage.classList.remove("s2i-flash"), 150);
    const stamp = new Date().toISOString().replace(/\.\d+Z$/, "").replace(/[-:]/g, "");
    const name = `camera_${stamp.replace("T", "_")}_${++serial}.jpg`;
    lines.say(`${label} taken, sending it.`);
    const [kept] = await transport.push(blob, { name }, {
      onProgress: (share, isWaiting) =>
        isWaiting && lines.say("Waiting for Python; a cell may be running."),
    });
    lines.say(`${label} kept as ${kept}.`);
  }

  async function takeMany() {
    stopBurst = false;
    showState("burst");
    stop.focus();
    for (let left = model.get("countdown_s"); left > 0 && !stopBurst; left--) {
      number.textContent = left;
      lines.say(`${left}`);
      await pause(1000);
    }
    number.textContent = "";
    const count = model.get("burst");
    const sending = [];
    for (let i = 1; i <= count && !stopBurst && stream; i++) {
      sending.push(takeOne(`Photo ${i} of ${count}`));
      sending.at(-1).catch(() => {}); // reported together, below
      if (i < count) await pause(1000 * model.get("pause_s"));
    }
    await Promise.all(sending);
    lines.say(stopBurst ? "Stopped." : `${count} photos taken.`);
    setTimeout(() => take.focus());
  }

  const frame = makeFrame(
    el,
    "Camera",
    make("h3", {}, "Take photos"),
    stage,
    make("div", { class: "s2i-row" }, onOff, take, many, stop, which),
    lines.status,
    lines.problem,
    strip.element,
  );
  showState("idle");
  lines.say("The camera is off.");
  return () => {
    release();
    strip.close();
    transport.close();
  };
}

export default { render };

// Photographs with the browser's camera. The Python half is __init__.py.
import { make, makeFrame, makeLines, openDevice } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { makeStrip } from "../photos/photos.js";
import { makeText } from "../texts/texts.js";

const LARGEST_PX = 4096; // "ideal", so each camera gives the most it has
const QUALITY = 0.95; // of the JPEG
const TAKE_PHOTO_MS = 4000; // some drivers never answer takePhoto

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A frame of the preview as JPEG, not mirrored.
async function frameOf(video, say) {
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve, reject) =>
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error(say("cam_no_picture")))),
      "image/jpeg",
      QUALITY,
    ),
  );
}

// The largest JPEG that the camera can make: phones give a still of more pixels than their video.
async function shoot(video, stream, say) {
  const frame = frameOf(video, say);
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
  const text = makeText(model.get("texts"));
  const { say } = text;
  const transport = new Transport(
    model,
    say,
    (message) => message.type === "complaint" && lines.complain(message.text),
    (isSilent) => lines.complainOfSilence(isSilent, say("no_python")),
  );
  const strip = makeStrip(model, transport, lines, say);
  let stream = null, busy = false, stopBurst = false, serial = 0, nSending = 0, isGone = false;

  const video = make("video", { muted: true, playsinline: true, "aria-label": say("cam_preview") });
  const number = make("div", { class: "s2i-selftimer", "aria-hidden": "true" });
  const stage = make("div", { class: "s2i-finder", hidden: true }, video, number);
  const which = make(
    "select",
    { "aria-label": say("cam_which"), change: () => stream && open() },
    make("option", { value: "user" }, say("cam_front")),
    make("option", { value: "environment" }, say("cam_back")),
  );
  const button = (words, click, more = {}) => make("button", { type: "button", click, ...more }, words);
  const onOff = button(say("cam_start"), () => (stream ? close() : open()), { class: "s2i-main" });
  const take = button(say("cam_take"), () => run(() => takeOne()), { hidden: true, class: "s2i-main" });
  const many = button("", () => run(takeMany), { hidden: true });
  const stop = button(say("cam_stop"), () => (stopBurst = true), { hidden: true, class: "s2i-stop" });
  many.textContent = say("cam_many", { count: model.get("burst"), seconds: model.get("countdown_s") });

  function showState(state) {
    const focused = frame.getRootNode().activeElement;
    frame.dataset.state = state;
    const isLive = stream !== null;
    stage.hidden = take.hidden = many.hidden = !isLive;
    stop.hidden = state !== "burst";
    onOff.textContent = say(isLive ? "cam_off_button" : "cam_start");
    onOff.classList.toggle("s2i-main", !isLive);
    for (const item of [take, many, onOff, which])
      item.setAttribute("aria-disabled", String(state === "burst"));
    if (frame.contains(focused) && focused.hidden) (isLive ? take : onOff).focus();
  }

  function close() {
    if (busy) return;
    release();
    showState("idle");
    lines.say(say("cam_off"));
    onOff.focus();
  }

  function release() {
    if (stream) stream.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
  }

  // Pressed twice, it would open two, and only one of them could be stopped.
  async function open() {
    if (busy) return;
    busy = true;
    release();
    lines.complain("");
    lines.say(say("cam_ask"));
    try {
      await openNow();
    } catch (error) {
      release();
      showState("error");
      lines.say("");
      lines.complain(error.message);
      transport.tell("problem", { code: error.code || "other", message: error.message });
    }
    busy = false;
    closeOnceSent();
  }

  async function openNow() {
    const isSide = ["user", "environment"].includes(which.value);
    const wanted = isSide ? { facingMode: which.value } : { deviceId: { exact: which.value } };
    stream = await openDevice("camera", {
      video: { width: { ideal: LARGEST_PX }, height: { ideal: LARGEST_PX }, ...wanted },
    }, say);
    if (isGone) return release(); // the view was closed while the browser asked
    const track = stream.getVideoTracks()[0];
    track.addEventListener("ended", () => {
      release();
      showState("error");
      lines.complain(say("cam_gone"));
    });
    const facing = track.getSettings().facingMode || which.value;
    video.classList.toggle("s2i-mirror", facing !== "environment");
    video.srcObject = stream;
    await video.play();
    await listCameras(track.getSettings().deviceId);
    showState("live");
    lines.say(say("cam_on", { width: video.videoWidth, height: video.videoHeight }));
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
    closeOnceSent();
  }

  // What was taken here still comes, for instance while another subject is looked at.
  function closeOnceSent() {
    if (isGone && !busy && !nSending) transport.close();
  }

  async function takeOne(photo = say("cam_one")) {
    const blob = await shoot(video, stream, say);
    stage.classList.add("s2i-flash");
    setTimeout(() => stage.classList.remove("s2i-flash"), 150);
    const stamp = new Date().toISOString().replace(/\.\d+Z$/, "").replace(/[-:]/g, "");
    const name = `camera_${stamp.replace("T", "_")}_${++serial}.jpg`;
    lines.say(say("cam_taken", { photo }));
    send(blob, name, photo); // nobody waits for it: the camera can be used, and turned off
  }

  async function send(blob, name, photo) {
    nSending += 1;
    try {
      const [kept] = await transport.push(blob, { name }, {
        onProgress: (share, isWaiting) => isWaiting && lines.say(say("waiting_python")),
      });
      lines.say(say("cam_kept", { photo, name: kept }));
    } catch (error) {
      lines.complain(error.message);
    }
    nSending -= 1;
    closeOnceSent();
  }

  async function takeMany() {
    stopBurst = false;
    showState("burst");
    stop.focus();
    for (let left = model.get("countdown_s"); left > 0 && !stopBurst && stream; left--) {
      number.textContent = left;
      lines.say(`${left}`);
      await pause(1000);
    }
    number.textContent = "";
    const count = model.get("burst");
    const shots = [];
    for (let i = 1; i <= count && !stopBurst && stream; i++) {
      shots.push(takeOne(say("cam_of", { number: i, count })));
      shots.at(-1).catch(() => {}); // reported together, below
      if (i < count) await pause(1000 * model.get("pause_s"));
    }
    await Promise.all(shots);
    lines.say(stopBurst ? say("cam_stopped") : say("cam_taken_many", { count: shots.length }));
  }

  const frame = makeFrame(
    el,
    say("camera"),
    make("h3", {}, say("cam_title")),
    stage,
    make("div", { class: "s2i-row" }, onOff, take, many, stop, which),
    lines.status,
    lines.problem,
    strip.element,
  );
  Object.assign(frame, { lang: text.lang, dir: text.dir });
  showState("idle");
  lines.say(say("cam_off"));
  return () => {
    isGone = true;
    release();
    strip.close();
    closeOnceSent();
  };
}

export default { render };

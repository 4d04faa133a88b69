// One recording for a waiting cell in Colab. The Python half is colab.py.
import { make, makeFrame, makeLines } from "../transport/page.js";
import { crc32 } from "../transport/transport.js";
import { makeText } from "../texts/texts.js";
import { makeRecordButton } from "./recorder.js";

// Resolves with {size, crc} or {code, message}; the bytes are then fetched with s2iPiece.
function recordOnce(options, style, texts) {
  return new Promise((resolve) => {
    document.head.append(make("style", {}, style));
    const lines = makeLines();
    const text = makeText(texts);
    const recordButton = makeRecordButton({
      lines,
      text,
      options: () => options,
      onProblem: (error) => resolve({ code: error.code || "other", message: error.message }),
      onRecording(bytes, seconds) {
        recordButton.close();
        recordButton.button.disabled = true;
        lines.say(text.say("arrived", { seconds: seconds.toFixed(1) }));
        window.s2iPiece = (start, length) =>
          btoa(Array.from(bytes.subarray(start, start + length), (b) => String.fromCharCode(b)).join(""));
        resolve({ size: bytes.length, crc: crc32(bytes) });
      },
    });
    const frame = makeFrame(
      document.body, text.say("microphone"), recordButton.element, lines.status, lines.problem,
    );
    Object.assign(frame, { lang: text.lang, dir: text.dir });
    lines.say(text.say("ready"));
  });
}

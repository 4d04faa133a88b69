// A button that records one utterance after another. The Python half is __init__.py.
import { makeFrame, makeLines } from "../transport/page.js";
import { Transport } from "../transport/transport.js";
import { makeText } from "../texts/texts.js";
import { RATE_HZ, makeRecordButton } from "./recorder.js";

function render({ model, el }) {
  const lines = makeLines();
  const text = makeText(model.get("texts"));
  const transport = new Transport(model, text.say);
  const recordButton = makeRecordButton({
    lines,
    text,
    options: () => ({ maxS: model.get("max_s"), silenceS: model.get("silence_s") }),
    onState: (state) => (frame.dataset.state = state),
    onProblem: (error) =>
      transport.tell("problem", { code: error.code || "other", message: error.message }),
    async onRecording(bytes, seconds) {
      lines.say(text.say("sending"));
      try {
        await transport.push(new Blob([bytes]), { kind: "speech", rate_hz: RATE_HZ });
        frame.dataset.state = "done";
        lines.say(text.say("arrived", { seconds: seconds.toFixed(1) }));
      } catch (error) {
        frame.dataset.state = "error";
        lines.complain(error.message);
      }
    },
  });
  const frame = makeFrame(
    el, text.say("microphone"), recordButton.element, lines.status, lines.problem,
  );
  Object.assign(frame, { lang: text.lang, dir: text.dir });
  frame.dataset.state = "idle";
  lines.say(text.say("ready"));
  return () => {
    recordButton.close();
    transport.close();
  };
}

export default { render };

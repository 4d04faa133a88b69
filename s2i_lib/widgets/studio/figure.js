// The figure of a picture, in a page of its own below the pictures.
import { make } from "../transport/page.js";

export function makeHeld({ model, transport, say, lines, last }) {
  // Not by its address: pages around a notebook forbid frames from elsewhere, and allow these.
  const frame = make("iframe", {
    title: say("figure"),
    allow: "xr-spatial-tracking; fullscreen; gyroscope; accelerometer",
  });
  const away = make(
    "button",
    { type: "button", click: () => (last.focus(), (element.hidden = true), transport.tell("put_down")) },
    say("put_down"),
  );
  const element = make("div", { class: "s2i-held", hidden: true }, frame, away);
  return {
    element,
    async show() {
      const { id } = model.get("held");
      element.hidden = true;
      frame.srcdoc = "";
      if (!id) return;
      try {
        const page = new TextDecoder().decode(await transport.pull(`figure:${id}`));
        if (model.get("held").id !== id) return;
        frame.srcdoc = page;
        element.hidden = false;
      } catch (error) {
        lines.complain(error.message);
      }
    },
  };
}

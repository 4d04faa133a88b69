// What stands behind "More": every setting, the prompt as it is, a recording from a file.
import { make } from "../transport/page.js";

// -> {element, show()}. `change(name, value)` is called as soon as a control says something.
export function makeControls({ model, say, change }) {
  const inputs = {};
  const control = (key, name, input) => {
    inputs[name] = input;
    return make("label", {}, make("span", {}, say(key)), input);
  };
  const choice = (key, name, options) => {
    const input = make("select", { change: () => change(name, inputs[name].value) });
    const element = control(key, name, input);
    offer(name, options);
    return element;
  };
  const offer = (name, options) =>
    inputs[name].replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  const number = (key, name, attributes) =>
    control(
      key,
      name,
      make("input", {
        type: "number",
        ...attributes,
        // As it is typed: where the notebook takes the focus and puts the field back, there is no
        // "change". What is wrong so far is said when the field is left.
        input: ({ target }) =>
          target.checkValidity() && change(name, target.value === "" ? null : Number(target.value)),
        change: ({ target }) => target.reportValidity(),
      }),
    );
  const check = (name) => {
    inputs[name] = make("input", { type: "checkbox", change: () => change(name, inputs[name].checked) });
    return make("label", {}, inputs[name], make("span", {}, say(name)));
  };
  const pairs = (names) => names.map((name) => [name, name]);
  const subjects = () => [["", say("none")], ...pairs(model.get("subjects"))];
  const models = () => pairs(model.get("models"));
  const fields = make(
    "div",
    { class: "s2i-controls" },
    choice("subject", "subject", subjects()),
    choice("model", "model", models()),
    number("n_steps", "steps", { min: "1", max: "100" }),
    number("guidance", "guidance", { min: "1", max: "50", step: "0.5" }),
    number("count", "count", { min: "1", max: "8", required: true }),
    number("seed_field", "seed", { min: "0", max: "4294967295", required: true }),
    control(
      "negative",
      "negative",
      make("input", { type: "text", change: () => change("negative", inputs.negative.value) }),
    ),
    choice("language", "language", [["", say("found_out")], ...Object.entries(model.get("languages"))]),
  );
  const checks = make(
    "div",
    { class: "s2i-row" },
    ...["is_seed_locked", "stop_on_silence", "drafts", "read_aloud", "keep_recordings", "sounds"].map(check),
  );
  return {
    element: make("div", {}, fields, checks),
    offerAgain() {
      offer("subject", subjects());
      offer("model", models());
      this.show();
      const { subject, model: chosen } = model.get("settings");
      inputs.subject.value = subject; // also where it has the focus: it lost its choice
      inputs.model.value = chosen;
    },
    show() {
      for (const [name, value] of Object.entries(model.get("settings")))
        if (inputs[name].type === "checkbox") inputs[name].checked = value;
        else if (inputs[name] !== inputs[name].getRootNode().activeElement) inputs[name].value = value ?? "";
    },
  };
}

// The three panels: their heads, which fold them, and what teaching shows.
import { make } from "../transport/page.js";

// -> {head, show(isOpen)}: the title is a button that opens and closes what belongs to it.
function makeHead({ say, tell }, part, title, number) {
  const fold = make(
    "button",
    {
      type: "button",
      class: "s2i-fold",
      "aria-expanded": "false",
      click: () => tell("open", { part, is_open: fold.getAttribute("aria-expanded") === "false" }),
    },
    make("span", { class: "s2i-number", "aria-hidden": "true" }, String(number)),
    make("span", {}, say(title)),
  );
  return {
    element: make("h3", { class: "s2i-panelhead" }, fold),
    show: (isOpen) => fold.setAttribute("aria-expanded", String(Boolean(isOpen))),
  };
}

const MOST_REASONS = 4;

export function makePhotosHead(tools) {
  const head = makeHead(tools, "photos", "app_photos", 1);
  const advice = make("ul", { class: "s2i-notes" });
  const rest = make("ul", { class: "s2i-notes" });
  const more = make("details", {}, make("summary", {}, tools.say("more")), rest);
  return {
    head: [head.element],
    body: [advice, more],
    show({ is_open, advice: said = [], left_out = [] }) {
      head.show(is_open);
      const items = [...said, ...left_out].map((words) => make("li", { dir: "auto" }, words));
      const shown = said.length + MOST_REASONS; // of forty photos, all would hide the buttons below
      advice.replaceChildren(...items.slice(0, shown));
      rest.replaceChildren(...items.slice(shown));
      advice.hidden = !is_open || !items.length;
      more.hidden = !is_open || items.length <= shown;
    },
  };
}

export function makeSpeakHead(tools) {
  const { say } = tools;
  const head = makeHead(tools, "speak", "app_speak", 3);
  const base = make("p", { class: "s2i-quiet", role: "status" });
  const unnamed = make("p", { role: "status" });
  return {
    head: [head.element],
    body: [base, unnamed],
    show(data) {
      head.show(data.is_open);
      const untaught = data.is_outdated ? "app_outdated" : "app_not_taught";
      base.textContent = data.is_taught ? "" : say(untaught, { name: data.name });
      base.hidden = !data.is_open || !base.textContent;
      unnamed.textContent = data.is_unnamed ? say("app_unnamed", { name: data.name }) : "";
      unnamed.hidden = !data.is_open || !data.is_unnamed;
    },
  };
}

export function makeTeach(tools) {
  const { say, tell } = tools;
  const head = makeHead(tools, "teach", "app_teach", 2);
  const button = (key, type, more = {}) =>
    make("button", { type: "button", click: () => tell(type), ...more }, say(key));
  const start = button("app_start", "start", { class: "s2i-main" });
  const stop = button("app_stop", "stop", { class: "s2i-stop" });
  const trainOn = button("app_train_on", "train_on");
  const bar = make("progress", { max: "1", "aria-label": say("app_progress") });
  const row = (key, of) => {
    const pictures = make("div", { class: "s2i-samples" });
    const element = make("div", {}, make("p", { class: "s2i-quiet" }, say(key)), pictures);
    return {
      element,
      show(addresses = [], name = "") {
        element.hidden = !addresses.length;
        const alt = say(of, { name });
        if (pictures.children.length !== addresses.length)
          pictures.replaceChildren(...addresses.map(() => make("img")));
        addresses.forEach((src, i) =>
          Object.assign(pictures.children[i], { src, alt: `${alt} ${i + 1}` }));
      },
    };
  };
  const rows = {
    photos: row("app_row_photos", "app_row_photos_of"),
    before: row("app_row_before", "app_row_before_of"),
    now: row("app_row_now", "app_row_now_of"),
  };
  const meter = make("meter", { min: "0", max: "1", "aria-label": say("app_likeness") });
  const likeness = make("p", { class: "s2i-likeness" }, make("span", {}, say("app_likeness")), meter);
  const percent = make("span", { class: "s2i-time" });
  likeness.append(percent);
  const choices = make("dl", { class: "s2i-choices" });
  const log = make("ul", { class: "s2i-notes s2i-quiet" });
  const more = make(
    "details",
    {},
    make("summary", {}, say("more")),
    make("p", { class: "s2i-quiet" }, say("app_chosen")),
    choices,
    log,
  );
  const buttons = make("div", { class: "s2i-row" }, start, stop, trainOn);
  const body = make(
    "div", {}, bar, buttons, likeness, ...Object.values(rows).map(({ element }) => element), more,
  );

  // A button that goes leaves the focus to the one that comes.
  function showButtons(state) {
    const focused = buttons.getRootNode().activeElement;
    const hadFocus = buttons.contains(focused);
    start.hidden = !["planning", "ready", "stopped", "failed"].includes(state);
    stop.hidden = !["training", "stopping"].includes(state); // or the focus would be nowhere
    stop.setAttribute("aria-disabled", String(state === "stopping"));
    trainOn.hidden = state !== "done";
    start.textContent = say(state === "stopped" ? "app_start_again" : "app_start");
    if (hadFocus && focused.hidden) [start, stop, trainOn].find((one) => !one.hidden)?.focus();
  }

  return {
    head: [head.element],
    body: [body],
    show(data) {
      head.show(data.is_open);
      body.hidden = !data.is_open;
      showButtons(data.state);
      bar.hidden = !["training", "stopping", "planning"].includes(data.state);
      if (data.share === null || data.share === undefined) bar.removeAttribute("value");
      else bar.value = data.share;
      const [first, best] = data.likeness || [];
      likeness.hidden = best === undefined;
      if (!likeness.hidden) {
        const inPercent = (value) => `${Math.round(100 * value)} %`;
        meter.value = best;
        percent.textContent = say("app_likeness_now", { now: inPercent(best), before: inPercent(first) });
      }
      rows.photos.show(data.photos, data.name);
      rows.before.show(data.before, data.name);
      rows.now.show(data.now, data.name);
      const chosen = Object.entries(data.chosen || {}).filter(([, value]) => value);
      choices.replaceChildren(
        ...chosen.flatMap(([key, value]) => [make("dt", {}, key.replaceAll("_", " ")), make("dd", {}, value)]),
      );
      log.replaceChildren(...(data.log || []).map((words) => make("li", {}, words)));
      log.hidden = !data.log?.length;
      more.hidden = !chosen.length && !data.log?.length;
    },
  };
}

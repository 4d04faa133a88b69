// Who it is: a row of faces, and the form for a new one.
import { make } from "../transport/page.js";
import { redraw } from "../studio/pictures.js";

const KINDS = { person: "app_person", animal: "app_animal", object: "app_object" };

export function makeFaces({ say, lang, tell, lines }) {
  const list = make("ul", { class: "s2i-faces", "aria-label": say("app_faces") });
  const name = make("input", { type: "text", size: "16", maxlength: "60", autocomplete: "off" });
  const noun = make("input", { type: "text", size: "16", maxlength: "40", autocomplete: "off" });
  const by = make("input", { type: "text", size: "24", maxlength: "80", autocomplete: "off" });
  const agrees = make("input", { type: "checkbox" });
  const field = (key, input) => make("label", { class: "s2i-field" }, make("span", {}, say(key)), input);
  const nounField = field("app_noun", noun);
  const consent = make(
    "fieldset",
    { class: "s2i-consent" },
    make("legend", {}, say("app_consent")),
    make("p", { class: "s2i-quiet" }, say("app_consent_why")),
    make("label", {}, agrees, make("span", {}, say("app_agree"))),
    field("app_by", by),
  );
  const kinds = Object.entries(KINDS).map(([kind, key]) => {
    const radio = make("input", { type: "radio", name: "s2i-kind", value: kind, change: showKind });
    return make("label", {}, radio, make("span", {}, say(key)));
  });
  const kindOf = () => kinds.map((label) => label.firstChild).find((radio) => radio.checked)?.value;
  function showKind() {
    consent.hidden = kindOf() !== "person";
    nounField.hidden = !["animal", "object"].includes(kindOf());
    noun.placeholder = say(kindOf() === "animal" ? "app_noun_animal" : "app_noun_object");
  }
  const sample = make("button", { type: "button", click: () => tell("sample") }, say("app_sample"));
  const form = make(
    "form",
    {
      class: "s2i-form",
      submit: (event) => {
        event.preventDefault();
        lines.complain("");
        const kind = kindOf();
        const lacks = !name.value.trim()
          ? "app_no_name"
          : !kind
            ? "app_no_kind"
            : kind === "person"
              ? !agrees.checked && "app_no_consent"
              : !noun.value.trim() && "app_no_noun";
        if (lacks) return lines.complain(say(lacks));
        const fields = { name: name.value, kind, noun: noun.value, by: by.value, language: lang };
        tell("subject", fields);
      },
    },
    field("app_name", name),
    make(
      "fieldset",
      { class: "s2i-kinds" },
      make("legend", {}, say("app_kind")),
      make("div", { class: "s2i-row" }, ...kinds),
    ),
    nounField,
    consent,
    make("div", { class: "s2i-row" },
      make("button", { type: "submit", class: "s2i-main" }, say("app_go_on")), sample),
  );
  const other = make("button", { type: "button", class: "s2i-face", click: () => tell("new") },
    make("span", { class: "s2i-portrait", "aria-hidden": "true" }, "+"), make("span", {}, say("app_new")));
  const otherItem = make("li", { "data-id": "+" }, other);

  function faceOf({ name: who, thumb }, chosen) {
    const portrait = thumb
      ? make("img", { class: "s2i-portrait", src: thumb, alt: "" })
      : make("span", { class: "s2i-portrait", "aria-hidden": "true" }, [...who][0]);
    const press = () => tell("choose", { name: who });
    const isChosen = String(who === chosen);
    const button = make("button", { type: "button", class: "s2i-face", "aria-pressed": isChosen, click: press },
      portrait, make("span", {}, who));
    return make("li", { "data-id": who }, button);
  }

  let was = null;
  return {
    head: [make("h3", {}, say("app_title")), list],
    body: [form],
    show({ subjects = [], chosen = "" }) {
      const focused = list.getRootNode().activeElement;
      const wasInForm = form.contains(focused), wasOnOther = other === focused;
      redraw(list, [...subjects.map((one) => faceOf(one, chosen)), otherItem], other);
      list.hidden = !subjects.length;
      form.hidden = Boolean(chosen);
      otherItem.hidden = !chosen;
      if (was !== chosen && !chosen) {
        form.reset();
        showKind();
      }
      was = chosen;
      if (wasInForm && form.hidden) list.querySelector("[aria-pressed=true]")?.focus();
      if (wasOnOther && otherItem.hidden) name.focus();
    },
  };
}

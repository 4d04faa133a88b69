// What all widgets do with the page around them.

// An element with attributes (a function is a listener) and content.
export function make(tag, attributes = {}, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...content);
  return element;
}

// The frame of a widget: named for screen readers, deaf to the notebook's own keys and drops.
export function makeFrame(host, name, ...content) {
  const frame = make(
    "section",
    { class: "s2i", "aria-label": name, "data-lm-suppress-shortcuts": "true" },
    ...content,
  );
  for (const type of ["keydown", "keyup", "keypress"])
    frame.addEventListener(type, (event) => event.stopPropagation());
  host.append(frame);
  return frame;
}

// Two lines under a widget: what goes on (polite), and what went wrong (at once).
export function makeLines() {
  const status = make("p", { class: "s2i-status", role: "status", "aria-live": "polite" });
  const problem = make("p", { class: "s2i-problem", role: "alert", dir: "auto" }); // often English
  return {
    status,
    problem,
    say(text) {
      status.textContent = text;
    },
    complain(text) {
      problem.textContent = text;
    },
    // That Python is silent is taken away when it answers; what else was complained of stays.
    complainOfSilence(isSilent, text) {
      if (isSilent) problem.textContent = text;
      else if (problem.textContent === text) problem.textContent = "";
    },
  };
}

// Why a camera or microphone did not open; each case has its own way out.
const WHY = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

// -> a word for it. `kind` is "camera" or "microphone": also the names of the permission policies.
function whyNot(error, kind) {
  const rules = document.permissionsPolicy || document.featurePolicy;
  if (!window.isSecureContext) return "insecure";
  if (!navigator.mediaDevices || (rules && !rules.allowsFeature(kind))) return "blocked";
  return WHY[error.name] || "other";
}

// An Error whose `message` is a text to show, and whose `code` is a word for Python.
export function problem(message, code) {
  return Object.assign(new Error(message), { code });
}

// Opens a device; throws a problem() in the user's language.
export async function openDevice(kind, constraints, say) {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (cause) {
    const code = whyNot(cause, kind);
    throw problem(say(`${kind}_${code}`, { why: `${cause.name}: ${cause.message}` }), code);
  }
}

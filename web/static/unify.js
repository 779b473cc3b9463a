// Improve every page; each page also works without this script. Listeners are on the document, so that parts
// which htmx swaps in later work as well. No framework, nothing inline, nothing stored in the browser.
"use strict";

(() => {
  const PRESSED = "[type=checkbox], [type=radio], [type=button], [type=submit]";
  const TYPING = `input:not(${PRESSED}), textarea, select, [contenteditable]`;
  const NOT_REACHED = "The server could not be reached. This page is unchanged: try again.";
  const NOT_DONE = "The server could not do that just now. Try again in a moment.";
  const SWAPPED = [409, 412, 422];
  const GOES_AFTER_MS = 10_000;
  const SENDS_AGAIN_MS = 10_000;
  const TWO_KEYS_MS = 1_500;
  const find = (selector, within = document) => within.querySelector(selector);
  const make = (tag, given) => Object.assign(document.createElement(tag), given);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ---------------------------------------------------------------- messages

  /** Show a message that looks like one of the server's, for something that only the browser knows. */
  function say(text, tone = "") {
    const flash = make("div", { className: `flash ${tone}` });
    flash.append(make("p", { textContent: text }));
    find("#messages").replaceChildren(flash);
  }

  /** Remove a success message without a button after a while, but not while the pointer or the focus is on it. */
  function letGo(flash) {
    if (!flash.matches(".good") || find("form", flash)) return;
    setTimeout(() => {
      if (flash.matches(":hover, :focus-within")) letGo(flash);
      else flash.remove();
    }, GOES_AFTER_MS);
  }

  /** Show a message when the server, or a proxy in front of it, has refused a request without sending one. */
  function refused(event) {
    const { status, headers } = event.detail.ctx.response;
    if (!headers.has("HX-Reswap") && !SWAPPED.includes(status)) say(NOT_DONE, "bad");
  }

  function dismiss(event, link) {
    event.preventDefault();
    link.closest(".flash").remove();
    find("#content").focus({ preventScroll: true });
  }

  // ---------------------------------------------------------------- copying

  /** Copy the text before the button, or that of the element it names. */
  async function copy(button) {
    const source = button.dataset.copy ? document.getElementById(button.dataset.copy) : button.previousElementSibling;
    const label = find("span", button) ?? button;
    const before = label.textContent;
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      label.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      label.textContent = "Press Ctrl+C";
    }
    say(label.textContent === "Copied" ? "Copied." : "The text is selected: copy it with Ctrl+C.");
    setTimeout(() => { label.textContent = before; }, 2_000);
  }

  // ---------------------------------------------------------------- forms

  /** Ignore a second press of the button while the first submission is on its way. */
  function sendOnce(event) {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (form.dataset.sending) {
      event.preventDefault();
      return;
    }
    form.dataset.sending = "yes";
    setTimeout(() => sendable([form]), SENDS_AGAIN_MS);
    for (const button of all("button", form)) if (button.type === "submit") button.setAttribute("aria-busy", "true");
  }

  /** Make forms sendable again: the page is still shown after a download, and shown again after a step back. */
  function sendable(forms) {
    for (const form of forms) {
      delete form.dataset.sending;
      for (const button of all("[aria-busy]", form)) button.removeAttribute("aria-busy");
    }
  }

  /** Ask before unsaved text is lost, in forms marked data-keep that are not being sent. */
  function warnBeforeLoss(event) {
    const changed = (area) => area.value !== area.defaultValue;
    const kept = all("form[data-keep]:not([data-sending]) :is(textarea, input[type=text])");
    if (kept.some(changed)) event.preventDefault();
  }

  function tellZone() {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    for (const field of all("input[type=hidden][name=time_zone]")) field.value = zone;
  }

  /** Use the CSRF token of the newer session, which the server sends when it has refused the old one. */
  function takeToken({ detail: { token } }) {
    for (const field of all("input[name=csrf_token]")) field.value = token;
    document.body.setAttribute("hx-headers:inherited", JSON.stringify({ "X-CSRFToken": token }));
  }

  // ---------------------------------------------------------------- keys

  const ROOMS = {
    d: "/", t: "/tasks", n: "/notes", e: "/events", c: "/categories", b: "/bin", s: "/settings", a: "/admin/",
  };
  const HELP = [
    ["?", "Show this list"], ["/", "Search everything"], ["n", "Add something on this page"],
    ["j k", "Next and previous item"], ["e", "Edit the item"], ["d", "Mark as done, or as not done"],
    ["x", "Select the item"], ["u", "Undo the last change"],
    ["g d", "Go to Today"], ["g t", "Go to Tasks"], ["g n", "Go to Notes"], ["g e", "Go to Events"],
    ["g c", "Go to Categories"], ["g b", "Go to the Bin"], ["g s", "Go to Settings"],
  ];
  let went = -Infinity;

  const row = () => document.activeElement.closest("[data-row]");
  const press = (selector) => find(selector, row() ?? undefined)?.click();

  function move(step) {
    const rows = all("[data-row]").filter((each) => each.checkVisibility());
    const at = rows.indexOf(row());
    const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1)];
    if (!next) return;
    if (!next.hasAttribute("tabindex")) next.tabIndex = -1;
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  function create() {
    const target = find("[data-new]");
    if (!target) return;
    if (target.matches("a")) return target.click();
    const folded = target.closest("details") ?? find("details", target);
    if (folded) folded.open = true;
    const first = () => find(":is(input:not([type=hidden]), textarea, select)", folded ?? target);
    (target.matches(TYPING) ? target : first())?.focus();
  }

  function help() {
    (find("#keys") ?? makeHelp()).showModal();
  }

  function makeHelp() {
    const dialog = make("dialog", { id: "keys" });
    const list = make("dl", { className: "keys" });
    for (const [keys, meaning] of HELP) {
      const term = make("dt");
      for (const key of keys.split(" ")) term.append(make("kbd", { textContent: key }), " ");
      list.append(term, make("dd", { textContent: meaning }));
    }
    const card = make("article");
    const close = make("button", { type: "button", textContent: "Close", autofocus: true });
    close.addEventListener("click", () => dialog.close());
    card.append(make("h2", { id: "keys-title", textContent: "Keyboard shortcuts" }), list, close);
    dialog.append(card);
    dialog.setAttribute("aria-labelledby", "keys-title");
    document.body.append(dialog);
    return dialog;
  }

  const KEYS = {
    "?": help,
    "/": () => find("#find")?.focus(),
    n: create,
    j: () => move(1),
    k: () => move(-1),
    e: () => row() && press("[data-edit]"),
    d: () => row() && press("[data-done]"),
    x: () => row() && press("[data-select], input[type=checkbox]:not([data-done])"),
    u: () => find("#messages [data-undo] button")?.click(),
  };

  function key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest?.(TYPING) || find("dialog[open]")) return;
    const together = event.timeStamp - went < TWO_KEYS_MS;
    went = event.key === "g" && !together ? event.timeStamp : -Infinity;
    if (together) {
      const path = ROOMS[event.key];
      const below = find(".bar .brand").getAttribute("href").replace(/\/$/, "");  // the path that Unify is served under
      const link = path && find(`.bar a[href="${below}${path}"]`);
      if (link) link.click();
      return;
    }
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  // ---------------------------------------------------------------- beginning

  function clicked(event) {
    const target = event.target.closest?.("[data-copy], [data-dismiss]");
    if (target?.hasAttribute("data-copy")) copy(target);
    else if (target) dismiss(event, target);
  }

  /** Prepare what is on the page now, or what htmx has just put there. */
  function ready() {
    for (const button of all("[data-copy][hidden]")) button.hidden = false;
    for (const flash of all("#messages .flash:not([data-seen])")) {
      flash.dataset.seen = "yes";
      letGo(flash);
    }
  }

  document.addEventListener("click", clicked);
  document.addEventListener("submit", sendOnce);
  document.addEventListener("htmx:after:swap", ready);
  document.addEventListener("unify:token", takeToken);
  document.addEventListener("htmx:error", () => say(NOT_REACHED, "bad"));
  document.addEventListener("htmx:response:error", refused);
  window.addEventListener("pageshow", () => sendable(all("form[data-sending]")));
  window.addEventListener("beforeunload", warnBeforeLoss);
  if (document.body.hasAttribute("data-shortcuts")) document.addEventListener("keydown", key);
  tellZone();
  ready();
})();

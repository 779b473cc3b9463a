// Make the list of tasks quicker to work with: dragging, Alt with the arrow keys, select all, a focus that stays.
// Everything here can also be done with the page's own buttons.
"use strict";

(() => {
  const ROW = "li.task";
  const rows = () => [...document.querySelectorAll(`#task-rows > ${ROW}`)];
  const csrf = () => document.querySelector("#acts input[name=csrf_token]").value;

  document.documentElement.classList.add("scripted");

  // ---------------------------------------------------------------- keys

  document.addEventListener("keydown", (event) => {
    const row = event.target.closest?.(ROW);
    if (!row) return;
    if (event.key === "Escape" && row.matches(".editing")) {
      event.preventDefault();
      row.querySelector("[data-cancel]").click();
    } else if (event.altKey && ["ArrowUp", "ArrowDown"].includes(event.key)) {
      const button = row.querySelector(`[data-move=${event.key === "ArrowUp" ? "up" : "down"}]`);
      if (!button) return;
      event.preventDefault();
      button.click();
    }
  });

  // ---------------------------------------------------------------- the focus after a row is gone

  let left = -1;

  document.addEventListener("htmx:before:swap", () => {
    left = rows().indexOf(document.activeElement?.closest(ROW) ?? null);
  });

  document.addEventListener("htmx:after:swap", () => {
    count();
    if (left < 0 || document.activeElement !== document.body) return;
    const remaining = rows();
    const next = remaining[Math.min(left, remaining.length - 1)];
    (next?.querySelector("[aria-invalid], input[name=title], .tick") ?? document.querySelector("main")).focus();
  });

  // ---------------------------------------------------------------- selecting

  function count() {
    const picks = [...document.querySelectorAll("[data-select]")];
    const chosen = picks.filter((each) => each.checked).length;
    const shown = document.querySelector("[data-count]");
    const all = document.querySelector("[data-all]");
    if (!shown || !all) return;
    shown.textContent = chosen ? `${chosen} selected` : "";
    all.checked = chosen > 0 && chosen === picks.length;
    all.indeterminate = chosen > 0 && chosen < picks.length;
  }

  for (const each of document.querySelectorAll(".everything")) each.hidden = false;

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const each of document.querySelectorAll("[data-select]")) each.checked = event.target.checked;
    }
    if (event.target.matches("[data-all], [data-select]")) count();
  });

  count();

  // ---------------------------------------------------------------- colour swatches

  for (const each of document.querySelectorAll(".swatches")) each.hidden = false;

  document.addEventListener("click", (event) => {
    const swatch = event.target.closest?.("[data-color]");
    if (!swatch) return;
    document.getElementById(swatch.dataset.for).value = swatch.dataset.color;
    chosen(swatch.dataset.for);
  });

  document.addEventListener("input", (event) => {
    if (event.target.matches("input[type=color]")) chosen(event.target.id);
  });

  // Picking a colour unchecks "No colour".
  function chosen(id) {
    const none = document.querySelector(`[data-none="${id}"]`);
    if (none) none.checked = false;
  }

  // ---------------------------------------------------------------- dragging by the handle, with mouse, pen or finger

  let dragged = null;

  document.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest?.("[data-handle]");
    if (!handle || event.button !== 0) return;
    event.preventDefault();
    const row = handle.closest(ROW);
    dragged = { row, next: row.nextElementSibling };
    row.classList.add("dragged");
  });

  document.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    const over = rows().find((each) => {
      const box = each.getBoundingClientRect();
      return event.clientY >= box.top && event.clientY < box.bottom;
    });
    if (!over || over === dragged.row) return;
    const box = over.getBoundingClientRect();
    if (event.clientY < box.top + box.height / 2) over.before(dragged.row);
    else over.after(dragged.row);
  });

  document.addEventListener("pointerup", () => drop(true));
  document.addEventListener("pointercancel", () => drop(false));

  function drop(done) {
    if (!dragged) return;
    const { row, next } = dragged;
    dragged = null;
    row.classList.remove("dragged");
    if (!done) row.parentElement.insertBefore(row, next);
    if (!done || row.nextElementSibling === next) return;
    send(row);
  }

  function send(row) {
    const below = row.nextElementSibling;
    const id = (each) => each.id.replace("task-", "");
    const place = below ? { before: id(below) } : { after: id(row.previousElementSibling) };
    htmx.ajax("POST", row.querySelector("[data-move]").getAttribute("formaction"), {
      source: row.querySelector("[data-move]"),
      target: "#task-rows",
      select: "#task-rows",
      selectOOB: "#messages:innerHTML",
      swap: "outerHTML",
      values: { step: "", csrf_token: csrf(), ...place },
    });
  }
})();

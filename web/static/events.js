// Turn the times of an event's form into dates while "All day" is checked. The server accepts both and ignores the
// times of all-day events, so the form also works without this. When the start changes, the end moves with it.
document.querySelectorAll("form.event").forEach((form) => {
  const allDay = form.elements.all_day;
  const times = ["starts_at", "ends_at"].map((name) => form.elements[name]).filter(Boolean);
  const kept = new Map();

  function become(control, type, value) {
    control.value = ""; // the text of one type is not a valid value of the other
    control.type = type;
    control.value = value;
  }

  function show() {
    for (const control of times) {
      const value = control.value;
      if (allDay.checked && control.type !== "date") {
        kept.set(control, value.slice(10));
        become(control, "date", value.slice(0, 10));
      } else if (!allDay.checked && control.type === "date") {
        become(control, "datetime-local", value && value + (kept.get(control) || "T00:00"));
      }
    }
  }

  /** Keep the event's duration. */
  function follow() {
    const [start, end] = times;
    if (end?.value && start.value && begun) end.valueAsNumber += start.valueAsNumber - begun;
    if (start.value) begun = start.valueAsNumber;
  }

  let begun;
  allDay.addEventListener("change", () => {
    show();
    begun = times[0].valueAsNumber;
  });
  times[0].addEventListener("change", follow);
  show();
  begun = times[0].valueAsNumber;
});

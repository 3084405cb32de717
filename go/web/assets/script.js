// Keeps the page up to date: fetches it again when something changed, and puts its parts in place. Without this script the page works, and stays as it is.
"use strict";

(() => {
  const everyMilliseconds = 5000;
  const field = document.querySelector("form.filter input");
  const stale = document.getElementById("stale");
  const told = document.getElementById("told"); // what a screen reader is told
  const kept = document.getElementById("kept"); // null where nothing is released
  let newest = 0; // number of the newest request; answers to older ones are dropped

  // Puts a part in place of an older one. What was selected stays so, and the focus stays where it was.
  function replace(part, fresh) {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const chosen = new Set([...document.querySelectorAll('#release input[name="lock"]')]
      .filter((input) => input.type === "hidden" || input.checked).map((input) => input.value));
    part.replaceChildren(...fresh.childNodes);
    if (focused) {
      const named = (one) => one.name ? `${one.name} ${one.value}` : one.getAttribute("aria-label") || one.textContent;
      const same = [...part.querySelectorAll(focused.localName)].find((one) => named(one) === named(focused));
      if (same) same.focus({ preventScroll: true });
    }
    if (part.dataset.live === "locks" && kept) select(part, chosen);
  }

  // Selects locks again. Those that the table does not show any more stay selected beside it: the next page shows each before it is released.
  function select(part, chosen) {
    for (const input of part.querySelectorAll('input[name="lock"]')) input.checked = chosen.delete(input.value);
    kept.replaceChildren(...[...chosen].map((value) => Object.assign(document.createElement("input"), { type: "hidden", name: "lock", value })));
    if (chosen.size) kept.append(`and ${chosen.size} that the table does not show now`);
  }

  // The page without its fragment, with the filter as it is typed now.
  function address() {
    const url = new URL(location.href);
    url.hash = "";
    if (field.value.trim() !== (url.searchParams.get("filter") || "")) {
      url.searchParams.delete("page");
      url.searchParams.delete("filter");
      if (field.value.trim()) url.searchParams.set("filter", field.value.trim());
    }
    return url;
  }

  async function update() {
    const number = ++newest;
    const url = address();
    try {
      const response = await fetch(url, { credentials: "same-origin" });
      if (!response.ok) throw new Error(response.statusText);
      const fetched = new DOMParser().parseFromString(await response.text(), "text/html");
      if (number !== newest) return;
      for (const part of document.querySelectorAll("[data-live]")) {
        const fresh = fetched.querySelector(`[data-live="${part.dataset.live}"]`);
        if (fresh) replace(part, fresh);
      }
      if (document.title !== fetched.title) told.textContent = document.title = fetched.title;
      history.replaceState(null, "", url.pathname + url.search + location.hash);
      stale.hidden = true;
    } catch (error) {
      if (number === newest) stale.hidden = false;
    }
  }

  // The stream says that something changed. Without one, or where it finds no place, the page asks by itself; a page that nobody sees has none.
  let stream = null;
  let isTold = false;
  let isLate = false;
  let isPressed = false;
  const isQuiet = () => !document.hidden && !isPressed && getSelection().isCollapsed; // nobody is clicking or copying
  addEventListener("pointerdown", () => { isPressed = true; });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { isPressed = false; });

  function listen() {
    if (stream || document.hidden) return;
    stream = new EventSource(location.pathname + "/events");
    stream.onopen = () => { isTold = true; };
    stream.onmessage = () => { if (isQuiet()) update(); else isLate = true; };
    stream.onerror = () => {
      isTold = false;
      if (stream && stream.readyState === EventSource.CLOSED) stream = null;
    };
  }

  function hangUp() {
    if (stream) stream.close();
    stream = null;
    isTold = false;
  }

  // Ages and the chart go on without a change, and an end of the stream that is not told is made up for.
  let ticks = 0;
  setInterval(() => {
    ticks++;
    if (ticks % 12 === 0) listen();
    if (isQuiet() && (!isTold || isLate || ticks % 6 === 0)) {
      isLate = false;
      update();
    }
  }, everyMilliseconds);

  let typing;
  field.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(update, 200);
  });
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    update();
  });
  // Another order or page of the table, without losing what is selected.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.turn");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    update();
  });
  addEventListener("popstate", update);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return hangUp();
    listen();
    update();
  });
  listen();
})();

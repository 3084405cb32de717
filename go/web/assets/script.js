// Keeps the page up to date: fetches it again and puts its parts in place. Without this script the page works, and stays as it is.
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
    if (focused && focused.name) {
      const same = [...part.querySelectorAll("input, button")].find((one) => one.name === focused.name && one.value === focused.value);
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
      url.search = field.value.trim() ? "?" + new URLSearchParams({ filter: field.value.trim() }) : "";
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
  document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
  setInterval(() => { if (!document.hidden && getSelection().isCollapsed) update(); }, everyMilliseconds);
})();

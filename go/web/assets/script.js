// Keeps the page up to date: fetches it again and puts its parts in place. Without this script the page works, and stays as it is.
"use strict";

(() => {
  const everyMilliseconds = 5000;
  const field = document.querySelector("form.filter input");
  const stale = document.getElementById("stale");
  let newest = 0; // number of the newest request; answers to older ones are dropped

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
        if (fresh) part.replaceChildren(...fresh.childNodes);
      }
      document.title = fetched.title;
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

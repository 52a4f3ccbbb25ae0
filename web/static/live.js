// Live regions: <x data-live="URL"> opens an event stream; each event is a whole region by id.
// The stream is closed while the page is hidden; a new one starts with all regions.
(() => {
  "use strict";
  const RETRY_MS = 5000;

  function put(markup) {
    const holder = document.createElement("template");
    holder.innerHTML = markup;
    const fresh = holder.content.firstElementChild;
    const old = fresh && document.getElementById(fresh.id);
    if (!old) return;
    const held = old.contains(document.activeElement) ? document.activeElement.id : "";
    for (const open of old.querySelectorAll("details[open][id]")) {
      const same = fresh.querySelector("#" + CSS.escape(open.id));
      if (same) same.open = true;
    }
    old.replaceWith(fresh);
    if (held) document.getElementById(held)?.focus({ preventScroll: true });
  }

  function follow(host) {
    let source = null;
    let timer = 0;
    let over = false;
    const stop = () => {
      clearTimeout(timer);
      if (source) source.close();
      source = null;
    };
    const start = () => {
      if (source || over || document.hidden) return;
      source = new EventSource(host.dataset.live);
      source.addEventListener("open", () => host.classList.remove("offline"));
      source.addEventListener("region", (event) => put(event.data));
      source.addEventListener("done", () => {
        over = true;
        stop();
      });
      source.addEventListener("error", () => {
        host.classList.add("offline");
        if (source && source.readyState === EventSource.CLOSED) {
          stop();
          timer = setTimeout(start, RETRY_MS);
        }
      });
    };
    document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
    window.addEventListener("pagehide", stop);
    window.addEventListener("pageshow", start);
    start();
  }

  // Counts down what the server said is left, by this browser's own clock; then asks for the page.
  function countDown() {
    for (const shown of document.querySelectorAll("[data-left-s]")) {
      shown.dueMs ??= performance.now() + Number(shown.dataset.leftS) * 1000;
      const left = Math.ceil((shown.dueMs - performance.now()) / 1000);
      if (left <= 0) return location.reload();
      // only the text's data: another node would count as something new at the kiosk
      if (shown.firstChild)
        shown.firstChild.data = Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0");
    }
    setTimeout(countDown, 500);
  }

  // A fresh order goes on to the platform's page by itself, once: coming back must not repeat it.
  // Before the load event an assign would take this page's place in the history.
  function goOn(host) {
    history.replaceState(null, "", location.pathname);
    addEventListener("load", () => setTimeout(() => location.assign(host.dataset.payUrl), 50));
  }

  for (const host of document.querySelectorAll("[data-live]")) follow(host);
  countDown();
  const paying = document.querySelector("[data-pay-url]");
  if (paying && new URLSearchParams(location.search).has("pay")) goOn(paying);
})();

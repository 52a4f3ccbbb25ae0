// The kiosk: on-screen keys, and back to the start when nobody touches it any more.
(() => {
  "use strict";
  const START = "/kiosk";
  const RETRY_MS = 10000;

  function lock(host) {
    let timer = 0;
    const limit = () =>
      Number((document.querySelector("[data-settled]") && host.dataset.idleSettledS) || host.dataset.idleS);
    const again = () => {
      clearTimeout(timer);
      timer = setTimeout(home, limit() * 1000);
    };
    // a server that is away must not leave a browser's error page on the wall
    const wait = () => (timer = setTimeout(home, RETRY_MS));
    const home = () =>
      fetch(START).then((answer) => (answer.status < 500 ? location.replace(START) : wait()), wait);
    for (const name of ["pointerdown", "keydown", "input", "scroll"]) {
      addEventListener(name, again, { passive: true });
    }
    // a settled payment needs no more time: the shorter limit counts from then on
    new MutationObserver(again).observe(host, { childList: true, subtree: true });
    again();
  }

  function keypad(pad, form) {
    const input = form.querySelector("input");
    let timer = 0;
    pad.hidden = false;
    const look = async () => {
      const answer = await fetch(START + "?q=" + encodeURIComponent(input.value));
      if (!answer.ok) return location.replace(START);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("doors");
      if (fresh) document.getElementById("doors").replaceChildren(...fresh.childNodes);
    };
    const soon = () => {
      clearTimeout(timer);
      timer = setTimeout(look, 200);
    };
    input.addEventListener("input", soon);
    pad.addEventListener("click", (event) => {
      const key = event.target.closest("[data-key]")?.dataset.key;
      if (!key) return;
      if (key === "clear") input.value = "";
      else if (key === "back") input.value = input.value.slice(0, -1);
      else if (input.value.length < input.maxLength) input.value += key;
      soon();
    });
  }

  for (const host of document.querySelectorAll("[data-idle-s]")) lock(host);
  const pad = document.querySelector("[data-keypad]");
  if (pad) keypad(pad, document.querySelector("[data-keypad-form]"));
  const printer = document.querySelector("[data-print]");
  if (printer) {
    printer.hidden = false;
    printer.addEventListener("click", () => print());
  }
})();

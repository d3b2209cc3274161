/* Shows a term's definition on hover, focus and touch. Escape, or leaving the term, closes it. */
(function () {
  "use strict";

  const notes = document.getElementById("glossary-notes");
  if (!notes) return;

  const tip = document.createElement("div");
  tip.id = "glossary-tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  let open = null; // the link whose definition is shown
  let closing; // timer: the pointer may cross from the term to the definition

  function show(link, note) {
    clearTimeout(closing);
    if (open === link) return;
    close();
    open = link;
    tip.innerHTML = note.innerHTML;
    tip.hidden = false;
    link.setAttribute("aria-describedby", tip.id);
    place(link);
    if (window.MathJax?.typesetPromise && tip.querySelector(".math")) {
      MathJax.typesetPromise([tip]).then(() => open === link && place(link));
    }
  }

  function place(link) {
    const box = link.getClientRects()[0];
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 4;
    tip.style.left = `${Math.max(8, left) + window.scrollX}px`;
    tip.style.top = `${(above > 0 ? above : box.bottom + 4) + window.scrollY}px`;
  }

  function close() {
    clearTimeout(closing);
    open?.removeAttribute("aria-describedby");
    open = null;
    tip.hidden = true;
  }

  const closeSoon = () => (closing = setTimeout(close, 200));

  for (const text of document.querySelectorAll("a .std-term")) {
    const link = text.closest("a");
    const anchor = link.hash.slice(1);
    const note = [...notes.children].find((each) => each.dataset.term === anchor);
    if (!note) continue;
    link.classList.add("glossary-term");
    link.removeAttribute("title");
    link.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(link, note));
    link.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && closeSoon());
    link.addEventListener("focus", () => link.matches(":focus-visible") && show(link, note));
    link.addEventListener("blur", close);
    // The first touch shows the definition, the second follows the link.
    let touched = false;
    link.addEventListener("pointerdown", (event) => (touched = event.pointerType === "touch" && open !== link));
    link.addEventListener("click", (event) => {
      if (!touched) return;
      event.preventDefault();
      touched = false;
      show(link, note);
    });
  }
  tip.addEventListener("pointerenter", () => clearTimeout(closing));
  tip.addEventListener("pointerleave", closeSoon);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  document.addEventListener("pointerdown", (event) => {
    if (open && !tip.contains(event.target) && !open.contains(event.target)) close();
  });
})();

// Figures open at the size of the window; what scrolls sideways can be reached with the keyboard.
(() => {
  "use strict";

  const zoom = document.createElement("dialog");
  zoom.className = "figure-zoom";
  zoom.setAttribute("aria-label", "Enlarged figure");

  function enlarge(figure) {
    const close = document.createElement("button");
    close.type = "button";
    close.className = "figure-zoom-close";
    close.textContent = "Close";
    close.addEventListener("click", () => zoom.close());
    const view = document.createElement("div");
    view.className = "figure-zoom-view";
    view.tabIndex = 0;
    view.setAttribute("role", "region");
    view.setAttribute("aria-label", "Figure; scrolls where it is larger than the window");
    const copy = figure.cloneNode(true);
    copy.querySelectorAll(".figure-enlarge").forEach((button) => button.remove());
    view.append(copy);
    zoom.replaceChildren(close, view);
    zoom.showModal();
    close.focus();
  }

  function addButton(figure) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "figure-enlarge";
    button.textContent = "Enlarge";
    button.setAttribute("aria-haspopup", "dialog");
    button.addEventListener("click", () => enlarge(figure));
    figure.prepend(button);
    figure.querySelector("svg, img")?.addEventListener("click", () => enlarge(figure));
  }

  // A region that scrolls takes the focus, and only while it does: others would be stops without use.
  function reach(box) {
    if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) {
      box.tabIndex = 0;
    } else {
      box.removeAttribute("tabindex");
    }
  }

  document.querySelectorAll("figure.nclib").forEach(addButton);
  document.body.append(zoom);
  zoom.addEventListener("click", (event) => event.target === zoom && zoom.close());

  const watch = new ResizeObserver((entries) => entries.forEach(({ target }) => reach(target)));
  const boxes = ".scrolls, article pre, div.math, .cell_output .output";
  document.querySelectorAll(boxes).forEach((box) => watch.observe(box));
  document.addEventListener("toggle", () => document.querySelectorAll(boxes).forEach(reach), true);
})();

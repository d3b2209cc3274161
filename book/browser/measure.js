// What a page shows, measured where it is shown. Each function returns plain data for visit.py.
"use strict";

window.measure = (() => {
  // A short CSS path, to find an element again.
  function name(element) {
    const parts = [];
    for (let at = element; at && at !== document.body && parts.length < 3; at = at.parentElement) {
      const kind = at.getAttribute("class")?.trim().split(/\s+/)[0];
      parts.unshift(at.localName + (at.id ? `#${at.id}` : kind ? `.${kind}` : ""));
      if (at.id) break;
    }
    return parts.join(" > ");
  }

  const all = (selector) => [...document.querySelectorAll(selector)];

  // Pictures without a pixel, drawings without a mark.
  function emptyFigures() {
    const pictures = all("article img").filter((img) => !(img.complete && img.naturalWidth));
    const drawings = all("article figure svg").filter((svg) => {
      const box = svg.getBBox();
      return !svg.querySelector("path, image, use") || !box.width || !box.height;
    });
    const figures = all("article figure.nclib").filter((figure) => !figure.querySelector("img, svg, canvas"));
    return [...pictures, ...drawings, ...figures].map(name);
  }

  function figuresWithoutText() {
    return all("article img, article figure svg[role]").filter((image) => {
      const text = image.getAttribute("alt") ?? image.getAttribute("aria-label");
      return !text?.trim();
    }).map(name);
  }

  // Markup that Sphinx left as it was; code may show some.
  function rawMarkup() {
    const raw = /```|:::\s*\{|\{(cite|math|ref|term|doc|eq|numref|exercise)(:\w+)?\}`?/;
    const walk = document.createTreeWalker(document.querySelector("article") ?? document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walk.nextNode()) {
      const node = walk.currentNode;
      if (!node.parentElement.closest("pre, code, script, style, svg") && raw.test(node.data)) {
        found.push(`${name(node.parentElement)}: ${node.data.trim().slice(0, 60)}`);
      }
    }
    return found;
  }

  // Height in pixels of the smallest writing of each drawing.
  function figureText() {
    return all("article figure.nclib svg").filter((svg) => svg.getClientRects().length).map((svg) => {
      const sizes = [...svg.querySelectorAll("text, tspan")].filter((text) => text.textContent.trim()).map((text) => {
        const { a, b } = text.getScreenCTM();
        return { size: parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b), text: text.textContent.trim() };
      });
      const least = sizes.reduce((x, y) => (y.size < x.size ? y : x), { size: Infinity, text: "" });
      return { figure: (svg.getAttribute("aria-label") ?? "").slice(0, 60), ...least };
    }).filter((found) => found.text);
  }

  // Elements that reach beyond the window, if the page scrolls sideways.
  function sideways() {
    const root = document.documentElement;
    const excess = root.scrollWidth - root.clientWidth;
    if (excess <= 0) return [];
    const inside = (element) => {  // of a region that scrolls by itself
      for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
        if (getComputedStyle(at).overflowX !== "visible") return true;
      }
      return false;
    };
    const wide = all("body *").filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1 && !inside(e));
    return [`${excess} pixels: ${wide.slice(0, 3).map(name).join("; ")}`];
  }

  function page() {
    return {
      ids: all("[id]").map((element) => element.id),
      links: all("a[href]").map((a) => a.getAttribute("href")),
      emptyFigures: emptyFigures(),
      figuresWithoutText: figuresWithoutText(),
      rawMarkup: rawMarkup(),
      moving: document.getAnimations().map((animation) => name(animation.effect.target)),
      figureText: figureText(),
      figures: all("article figure.nclib").length,
    };
  }

  // Serious and critical violations of axe-core's rules.
  async function violations(rules) {
    const options = { resultTypes: ["violations"], elementRef: false, preload: false };
    if (rules) options.runOnly = { type: "rule", values: rules };
    // A figure and a formula are images to a screen reader: their parts, half of a page's elements, are none.
    const context = { exclude: [["figure.nclib svg > *"], ["mjx-container > *"]] };
    const found = (await axe.run(context, options)).violations;
    return found.filter(({ impact }) => impact === "serious" || impact === "critical").flatMap(({ id, nodes }) =>
      nodes.map((node) => ({ rule: id, target: node.target.flat().join(" "), html: node.html.slice(0, 160),
        why: (node.any[0] ?? node.all[0] ?? node.none[0]).message })));
  }

  return { page, sideways, violations };
})();

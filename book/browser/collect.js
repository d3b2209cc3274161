// The article of a page as it stands, with names and links that hold in one document of all pages.
(home) => {
  const article = document.querySelector("article");
  const key = (path) => path.replace(home, "").replace(/\.html$/, "").replace(/[^A-Za-z0-9]+/g, "-");
  const here = key(location.pathname);

  const leftOut = ".headerlink, .figure-enlarge, .copybtn, script, details.hide:not([open]), .toggle-hidden";
  article.querySelectorAll(leftOut).forEach((element) => element.remove());
  article.querySelectorAll("img").forEach((image) => (image.src = image.src));  // absolute
  article.querySelectorAll("a[href]").forEach((link) => {
    const target = new URL(link.href);
    if (target.protocol !== "file:") return;
    link.setAttribute("href", `#${key(target.pathname)}${target.hash.replace("#", "--")}`);
  });
  // Glyphs of formulas and clips of figures keep their names, which say what they are.
  article.querySelectorAll("[id]").forEach((element) => {
    if (!element.closest("svg, mjx-container")) element.id = `${here}--${element.id}`;
  });
  const formulas = document.getElementById("MJX-SVG-styles")?.outerHTML ?? "";
  return { key: here, title: article.querySelector("h1").textContent.trim(), html: article.innerHTML, formulas };
}

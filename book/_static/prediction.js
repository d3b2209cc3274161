/* Keeps a reader's guess for this visit, and shows it beside the result. Nothing leaves the page. */
(function () {
  "use strict";

  const place = (name) => `prediction:${location.pathname}:${name}`;

  function kept(name) {
    try {
      return sessionStorage.getItem(place(name));
    } catch {
      return null; // storage is switched off
    }
  }

  function keep(name, guess) {
    try {
      sessionStorage.setItem(place(name), guess);
    } catch {
      /* the guess then lasts until the page is left */
    }
  }

  function prepare(box) {
    const name = box.dataset.prediction;
    const slider = box.querySelector("input[type=range]");
    const button = box.querySelector(".prediction-keep");
    const read = () => (slider || box.querySelector("input:checked") || {}).value;
    if (slider) {
      const show = () => (box.querySelector("output").textContent = slider.value);
      slider.addEventListener("input", show);
      slider.value = kept(name) ?? slider.value;
      show();
    } else if (kept(name) !== null) {
      const before = [...box.querySelectorAll("input")].find((input) => input.value === kept(name));
      if (before) before.checked = true;
    }
    button.hidden = false;
    button.addEventListener("click", () => {
      const guess = read();
      if (guess === undefined) {
        box.querySelector(".prediction-status").textContent = "Choose one first.";
        return;
      }
      keep(name, guess);
      compare(box, name, guess);
    });
    if (kept(name) !== null) compare(box, name, kept(name));
  }

  function compare(box, name, guess) {
    const status = box.querySelector(".prediction-status");
    const answer = document.querySelector(`[data-answer="${CSS.escape(name)}"]`);
    status.textContent = `Your guess, ${guess}, stands beside `;
    const link = document.createElement("a");
    link.href = `#answer-${name}`;
    link.textContent = "the result below";
    status.append(link, ".");
    if (!answer) return;
    answer.querySelector(".answer-guess")?.remove();
    const line = document.createElement("p");
    line.className = "answer-guess";
    line.textContent = beside(guess, answer.dataset.value);
    answer.append(line);
    if (box.querySelector("input[type=range]")) line.append(scale(box, Number(guess), Number(answer.dataset.value)));
  }

  function beside(guess, truth) {
    const shown = `You guessed ${guess}`;
    if (Number.isNaN(Number(guess))) return guess === truth ? `${shown}, as it came out.` : `${shown}; it came out otherwise.`;
    const gap = Number(guess) - Number(truth);
    const size = Number(Math.abs(gap).toPrecision(2));
    return size === 0 ? `${shown}, which is the result.` : `${shown}, which is ${size} ${gap > 0 ? "more" : "less"}.`;
  }

  /* A line with two marks; the sentence beside it says the same in words. */
  function scale(box, guess, truth) {
    const slider = box.querySelector("input[type=range]");
    const at = (value) => `${(100 * (value - slider.min)) / (slider.max - slider.min)}%`;
    const line = document.createElement("span");
    line.className = "answer-scale";
    line.setAttribute("aria-hidden", "true");
    for (const [label, value] of [["guess", guess], ["result", truth]]) {
      const mark = document.createElement("span");
      mark.className = `answer-mark answer-mark-${label}`;
      mark.style.left = at(value);
      mark.textContent = label;
      line.append(mark);
    }
    return line;
  }

  document.querySelectorAll("[data-prediction]").forEach(prepare);
})();

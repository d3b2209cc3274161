/* Checks the answers of quizzes. Without it a page shows the explanations in a <details>. */
(function () {
  "use strict";

  function prepare(quiz) {
    const options = [...quiz.querySelectorAll(".quiz-option")];
    const answers = quiz.querySelector(".quiz-answers");
    answers.querySelectorAll("dd").forEach((explanation, i) => {
      const why = document.createElement("div");
      why.className = "quiz-why";
      why.id = `${options[i].querySelector("input").id}-why`;
      why.hidden = true;
      why.append(...explanation.childNodes);
      options[i].append(why);
    });
    answers.remove();
    const button = quiz.querySelector(".quiz-check");
    button.hidden = false;
    button.addEventListener("click", () => check(quiz, options));
    quiz.addEventListener("change", () => clear(quiz, options));
  }

  function check(quiz, options) {
    const verdict = quiz.querySelector(".quiz-verdict");
    const chosen = options.filter((option) => option.querySelector("input").checked);
    clear(quiz, options);
    if (!chosen.length) {
      verdict.textContent = "Choose an answer first.";
      return;
    }
    const right = options.every((option) => chosen.includes(option) === (option.dataset.right === "true"));
    (right ? options : chosen).forEach(explain);
    const missing = chosen.every((option) => option.dataset.right === "true");
    verdict.textContent = right
      ? "That is right. Every option is now explained."
      : missing
        ? "Right so far, but an answer is missing."
        : "Not yet: the explanation stands below your choice. Try again.";
  }

  function explain(option) {
    const why = option.querySelector(".quiz-why");
    why.hidden = false;
    option.querySelector("input").setAttribute("aria-describedby", why.id);
    option.classList.add(option.dataset.right === "true" ? "quiz-right" : "quiz-wrong");
  }

  function clear(quiz, options) {
    quiz.querySelector(".quiz-verdict").textContent = "";
    options.forEach((option) => {
      option.querySelector(".quiz-why").hidden = true;
      option.querySelector("input").removeAttribute("aria-describedby");
      option.classList.remove("quiz-right", "quiz-wrong");
    });
  }

  document.querySelectorAll(".quiz").forEach(prepare);
})();

// Grades the questions of book/_ext/questions.py. A classic script, so that it works over file:// too.
(() => {
  const chosen = (question) => [...question.querySelectorAll("input:checked")].map((input) => input.value);

  // What is said above the sentences: of one right answer, or of several.
  const verdict = (picked, right, several) => {
    const hits = picked.filter((answer) => right.includes(answer)).length;
    const wrong = picked.length - hits;
    if (!picked.length) return several ? "Choose at least one answer first." : "Choose an answer first.";
    if (hits === right.length && !wrong) return several ? "All right." : "Well predicted.";
    if (!several) return "Not yet: read why, and choose again.";
    return `Not yet: ${hits} of the ${right.length} right answers chosen${wrong ? `, and ${wrong} wrong` : ""}.`;
  };

  const show = (question, picked, text) => {
    question.querySelector(".question-verdict > p").textContent = text;
    question.querySelector(".question-verdict > details").open = true;
    for (const reply of question.querySelectorAll(".question-reply")) {
      reply.classList.toggle("shown", picked.includes(reply.dataset.answer));
    }
  };

  const check = (question) => {
    const picked = chosen(question);
    const right = [...question.querySelectorAll("[data-right=true]")].map((reply) => reply.dataset.answer);
    show(question, picked, verdict(picked, right, question.classList.contains("question-checkbox")));
  };

  document.documentElement.classList.add("questions-live");
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".question-check button");
    if (button) check(button.closest(".question"));
  });
  // A verdict belongs to the choice that it was given for.
  document.addEventListener("change", (event) => {
    const question = event.target.closest?.(".question");
    if (question) show(question, [], "");
  });
})();

// Grades the questions of book/_ext/questions.py, and keeps what was answered in the page's own storage. A classic script,
// so that it works over file:// too.
(() => {
  const chosen = (question) => [...question.querySelectorAll("input:checked")].map((input) => input.value);
  const place = (question) => `answer:${location.pathname}#${question.id}`;

  // Where a browser refuses its storage, answers last as long as the page.
  const store = (use) => {
    try {
      return use(localStorage);
    } catch {
      return null;
    }
  };

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
    question.classList.toggle("answered", picked.length > 0);
    if (picked.length) store((kept) => kept.setItem(place(question), picked.join("")));
  };

  const clear = (question) => {
    for (const input of question.querySelectorAll("input")) input.checked = false;
    show(question, [], "");
    question.classList.remove("answered");
    store((kept) => kept.removeItem(place(question)));
    question.querySelector("input").focus(); // the button that was pressed is gone
  };

  const recall = (question) => {
    const picked = store((kept) => kept.getItem(place(question))) ?? "";
    for (const input of question.querySelectorAll("input")) input.checked = picked.includes(input.value);
    if (chosen(question).length) check(question);
  };

  document.documentElement.classList.add("questions-live");
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".question").forEach(recall));
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".question-check button");
    if (button) (button.name === "clear" ? clear : check)(button.closest(".question"));
  });
  // A verdict belongs to the choice that it was given for.
  document.addEventListener("change", (event) => {
    const question = event.target.closest?.(".question");
    if (question) show(question, [], "");
  });
})();

// Equations that are wider than the page scroll inside themselves: let the keyboard reach them too.
window.addEventListener("load", () => {
  window.MathJax?.startup?.promise?.then(() => {
    for (const box of document.querySelectorAll("div.math mjx-container")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    }
  });
});

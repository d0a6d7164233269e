// Equations that are wider than the page scroll inside themselves: let the keyboard reach them too.
window.addEventListener("load", () => {
  window.MathJax?.startup?.promise?.then(() => {
    for (const box of document.querySelectorAll("div.math mjx-container")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    }
  });
});

// Sphinx calls a bibliography a list, although its entries have a role of their own and are no list items.
window.addEventListener("DOMContentLoaded", () => {
  for (const entries of document.querySelectorAll(".citation-list")) entries.removeAttribute("role");
});

// The theme lets the keyboard reach boxes that scroll, but looks for them when the page is loaded or resized. What lies in a
// closed fold does not scroll before it is opened.
document.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")), true);

// A figure full of words scrolls on a narrow screen: let the keyboard reach it there.
for (const when of ["load", "resize"]) {
  window.addEventListener(when, () => {
    for (const figure of document.querySelectorAll("figure:has(> img.words)")) {
      figure.removeAttribute("tabindex");
      if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
    }
  });
}

// Paper is white, whatever the screen is.
{
  let screen = null;
  const page = document.documentElement;
  window.addEventListener("beforeprint", () => {
    screen = page.dataset.theme;
    page.dataset.theme = "light";
  });
  window.addEventListener("afterprint", () => (page.dataset.theme = screen));
}

// Before the first paint, so that nobody who chose dark sees a flash of light.
(() => {
  const chosen = localStorage.getItem("ntro.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();

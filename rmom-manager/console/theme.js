// Light or dark, as the user has chosen, before anything is drawn. Without a choice the system's wish holds.
"use strict";

try {
  const chosen = localStorage.getItem("rmom-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that stores nothing follows the system.
}

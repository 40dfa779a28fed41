// What a page can do beyond being read: name what is pointed at in a figure, sort tables, filter trials.
// Without it everything is still there.
"use strict";
(() => {
  const UNITS = { s: 1, min: 60, h: 3600, k: 1e3, M: 1e6, G: 1e9 };
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  let named = null;

  // Thin lines are hard to hit: look around the pointer as well.
  const near = (x, y) => {
    for (const [dx, dy] of [[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3], [5, 5], [-5, 5], [5, -5], [-5, -5]]) {
      const found = document.elementFromPoint(x + dx, y + dy)?.closest?.(".hover");
      if (found) return found;
    }
    return null;
  };
  const show = (event) => {
    const found = near(event.clientX, event.clientY);
    if (found !== named) {
      named?.classList.remove("named");
      found?.classList.add("named");
      named = found;
      tip.textContent = found ? found.querySelector("title").textContent : "";
      tip.hidden = !found;
    }
    if (found) {
      const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
      tip.style.transform = `translate(${Math.max(8, left)}px, ${event.clientY + 16}px)`;
    }
  };
  for (const figure of document.querySelectorAll("figure")) {
    figure.addEventListener("pointermove", show);
    figure.addEventListener("pointerdown", show);
    figure.addEventListener("pointerleave", show);
  }

  // "−9.2", "1.2 M", "7.1 min", "26.8", "<0.001", "3/5": what a cell is sorted by, null where it is no number.
  const number = (text) => {
    const found = /^[<≥]?\s*([+-]?[\d.,]+)(?:\s*(s|min|h|k|M|G)\b)?/.exec(text.trim().replace("−", "-"));
    return found ? parseFloat(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1) : null;
  };
  const compare = (one, other, down) => {
    const [a, b] = [number(one), number(other)];
    if (a !== null && b !== null && a !== b) return down ? b - a : a - b;
    if ((a === null) !== (b === null)) return a === null ? 1 : -1; // what has no value stands last, up or down
    return down ? other.localeCompare(one) : one.localeCompare(other);
  };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows];
        rows.sort((a, b) => compare(a.cells[place].textContent, b.cells[place].textContent, down));
        body.append(...rows);
      });
    });
  }

  const section = document.getElementById("trials");
  const rows = section ? [...section.querySelectorAll("tbody tr")] : [];
  if (rows.length > 1) {
    const label = document.createElement("label");
    label.className = "filter";
    label.textContent = "Filter trials ";
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "arm, seed, status, reason";
    const count = document.createElement("output");
    label.append(input, " ", count);
    section.querySelector(".scroll").before(label);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
  }
})();

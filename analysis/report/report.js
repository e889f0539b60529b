// Sorts and filters the leaderboard. Without it the table stands as it is, by rank.
"use strict";

(() => {
  const FIRST_ROWS = 50; // shown at once; a button shows the others
  const table = document.querySelector("#leaderboard table");
  if (!table) return;

  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const form = document.querySelector("#filters");
  const count = document.querySelector("#count");
  const more = document.querySelector("#more");
  const runs = [...body.rows].map((row) => ({
    row,
    text: row.textContent.toLowerCase().replace(/\s+/g, " "),
    policy: row.dataset.policy,
    state: row.dataset.state,
    values: [...row.cells].map(sortValue),
  }));
  const collator = new Intl.Collator("en", { numeric: true });
  let shownAll = false;
  let printing = false;

  // A number, a text, or null for an empty cell.
  function sortValue(cell) {
    if (cell.dataset.number !== undefined) return Number(cell.dataset.number);
    return cell.textContent || null;
  }

  // Numbers before texts, and 10 after 9 within texts too.
  function compare(a, b) {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? a - b || 0 : collator.compare(a, b); // infinity less infinity is no number
  }

  function sortBy(index, descending) {
    runs.sort((a, b) => {
      const [x, y] = [a.values[index], b.values[index]];
      if (x === null || y === null) return (x === null) - (y === null); // empty cells last, both ways
      return descending ? compare(y, x) : compare(x, y);
    });
    headers.forEach((header, i) => {
      if (i === index) header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
    body.append(...runs.map((run) => run.row));
    show();
  }

  // Every word must be somewhere in the row.
  function isAskedFor(run) {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { policy, state } = form.elements;
    return (
      (!policy.value || run.policy === policy.value) &&
      (!state.value || run.state === state.value) &&
      words.every((word) => run.text.includes(word))
    );
  }

  function show() {
    const limit = shownAll || printing ? Infinity : FIRST_ROWS;
    let found = 0;
    for (const run of runs) run.row.hidden = !isAskedFor(run) || ++found > limit;
    const shown = Math.min(found, limit);
    const matching = shown < found && found < runs.length ? `, ${found} match` : "";
    count.textContent = `${shown} of ${runs.length} ${runs.length === 1 ? "run" : "runs"} shown${matching}`;
    more.hidden = shown === found;
    more.textContent = `Show all ${found}`;
  }

  headers.forEach((header, index) => {
    // The heading becomes a button, so that the keyboard reaches it.
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(index, header.getAttribute("aria-sort") === "ascending"));
  });
  for (const event of ["input", "change"]) form.addEventListener(event, show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show)); // the fields are empty after the event
  more.addEventListener("click", () => {
    shownAll = true;
    show();
  });
  for (const [event, value] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      printing = value;
      show();
    });
  }

  // A link to a run shows its row, whatever is filtered.
  window.addEventListener("hashchange", () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (row?.tagName !== "TR") return;
    form.reset();
    shownAll = true;
    show();
    row.scrollIntoView();
  });

  headers[0].setAttribute("aria-sort", "ascending");
  form.hidden = false;
  show();
})();

// Sorting, finding, folding; and, where a server keeps the page up to date, taking over what is new.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const one = (selector, inside = document) => inside.querySelector(selector);
  const models = () => all(".list > tbody");
  const state = { sort: "metrics", direction: "ascending", only: "all", text: "" };

  // --- Show only, and find ---
  const words = new WeakMap();
  const wordsOf = (model) => {
    if (!words.has(model)) words.set(model, model.textContent.toLowerCase());
    return words.get(model);
  };
  const fits = (model) =>
    (state.only === "all" || model.dataset.kinds.split(" ").includes(state.only))
    && state.text.split(/\s+/).every((part) => wordsOf(model).includes(part));

  const filter = () => {
    const every = models();
    let shown = 0;
    for (const model of every) {
      model.hidden = !fits(model);
      shown += !model.hidden;
    }
    offer();
    one("#count").textContent = shown === every.length ? "" : `${shown} of ${every.length} shown`;
    one("#nothing").hidden = shown > 0 || every.length === 0;
    for (const tile of all("[data-only]")) {
      tile.setAttribute("aria-pressed", String(tile.dataset.only === state.only && state.only !== "all"));
    }
  };

  // --- Sort ---
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const columns = { model: "c-model", metrics: "c-metrics", last: "c-last" };
  const valueOf = (model) => {
    const cell = one(`.row > .${columns[state.sort] ?? state.sort.replaceAll("_", "-")}`, model);
    const value = cell.dataset.v;
    return state.sort === "model" ? value : value === "" ? NaN : Number(value);
  };
  const sort = () => {
    const sign = state.direction === "ascending" ? 1 : -1;
    const keyed = models().map((model, place) => ({ model, place: Number(model.dataset.place ?? place), value: valueOf(model) }));
    for (const { model, place } of keyed) model.dataset.place = place;
    keyed.sort((a, b) => {
      const lacks = Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value)); // what has no value is last
      const order = state.sort === "model" ? collator.compare(a.value, b.value) : a.value - b.value;
      return lacks || sign * (order || 0) || a.place - b.place;
    });
    one(".list").append(...keyed.map(({ model }) => model));
    for (const button of all("[data-sort]")) {
      const heading = button.closest("th");
      if (button.dataset.sort === state.sort) heading.setAttribute("aria-sort", state.direction);
      else heading.removeAttribute("aria-sort");
    }
  };
  const sortBy = (button) => {
    const first = button.dataset.first ?? "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    state.direction = state.sort === button.dataset.sort && state.direction === first ? other : first;
    state.sort = button.dataset.sort;
    sort();
  };

  // --- Fold ---
  const open = (model, wanted) => {
    model.classList.toggle("open", wanted);
    one(".fold", model).setAttribute("aria-expanded", String(wanted));
    offer();
  };
  const offer = () => {
    const shown = models().filter((each) => !each.hidden);
    const every = shown.length > 0 && shown.every((each) => each.classList.contains("open"));
    one("#unfold").setAttribute("aria-expanded", String(every));
    one("#unfold").textContent = every ? "Close all" : "Open all";
  };
  const follow = () => {
    const model = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (!model?.matches(".list > tbody")) return;
    Object.assign(state, { only: "all", text: "" });
    one("#find").value = "";
    filter();
    open(model, true);
    model.scrollIntoView();
  };

  const clicked = (event) => {
    const button = event.target.closest("button, a, .row");
    if (!button) return;
    if (button.matches(".fold, .row")) {
      if (String(getSelection())) return; // somebody copies a name
      const model = button.closest("tbody");
      open(model, !model.classList.contains("open"));
    } else if (button.matches("[data-sort]")) sortBy(button);
    else if (button.matches("[data-only]")) {
      state.only = state.only === button.dataset.only ? "all" : button.dataset.only;
      filter();
    } else if (button.matches("#unfold")) {
      const wanted = button.getAttribute("aria-expanded") !== "true";
      for (const model of models()) if (!model.hidden) open(model, wanted);
    } else if (button.hash && button.hash === location.hash) follow();
  };

  // --- How old the page is: it does not know what has happened since ---
  const age = () => {
    const minutes = (Date.now() - Date.parse(one("[data-made]").dateTime)) / 60000;
    const words = minutes < 120 ? `${Math.floor(minutes)} min` : minutes < 2880 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
    one("[data-age]").textContent = minutes < 10 ? "" : `${words} old`;
  };

  // --- Up to date ---
  const takeOver = (fresh) => {
    const focused = document.activeElement?.closest("tbody")?.id;
    const anchor = models().find((model) => !model.hidden && model.getBoundingClientRect().bottom > 0);
    const top = anchor?.getBoundingClientRect().top;
    for (const old of all("[data-live]")) {
      const now = fresh.getElementById(old.id);
      if (now && now.innerHTML !== old.innerHTML) old.replaceChildren(...now.childNodes);
    }
    for (const now of all(".tile", fresh)) {
      const old = one(`.tile.${now.classList[1]}`);
      old.replaceChildren(...now.childNodes);
      old.classList.toggle("none", now.classList.contains("none"));
    }
    const old = new Map(models().map((model) => [model.id, model]));
    const list = one(".list");
    all(".list > tbody", fresh).forEach((now, place) => {
      const before = old.get(now.id);
      old.delete(now.id);
      now.dataset.place = place;
      if (before?.classList.contains("open") || (!before && now.classList.contains("open"))) now.classList.add("open");
      else now.classList.remove("open");
      one(".fold", now).setAttribute("aria-expanded", String(now.classList.contains("open")));
      if (before && one(".c-last", before).dataset.v !== one(".c-last", now).dataset.v) now.classList.add("changed");
      if (before) before.replaceWith(now);
      else list.append(now);
    });
    for (const gone of old.values()) gone.remove();
    sort();
    filter();
    age();
    if (focused) one(`#${focused} .fold`)?.focus({ preventScroll: true });
    const still = anchor && document.getElementById(anchor.id);
    if (still && scrollY > 0) scrollBy(0, still.getBoundingClientRect().top - top);
  };
  const refresh = async () => {
    if (String(getSelection())) return; // somebody copies something
    const lost = one(".lost");
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      takeOver(new DOMParser().parseFromString(text, "text/html"));
      lost.hidden = true;
    } catch (error) {
      lost.textContent = error instanceof TypeError
        ? "The command that keeps this page up to date does not answer. What is shown may be old."
        : `The stack could not be read: ${error.message}`;
      lost.hidden = false;
      age();
    }
  };

  addEventListener("DOMContentLoaded", () => {
    document.addEventListener("click", clicked);
    one("#find").addEventListener("input", (event) => {
      state.text = event.target.value.trim().toLowerCase();
      filter();
    });
    addEventListener("keydown", (event) => {
      if (event.key === "/" && !event.target.closest("input") && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        one("#find").focus();
      }
    });
    addEventListener("hashchange", follow);
    models().forEach((model, place) => { model.dataset.place = place; });
    offer();
    follow();
    age();
    setInterval(age, 60000);
    const seconds = Number(root.dataset.refresh);
    if (seconds > 0) {
      const again = async () => {
        if (!document.hidden) await refresh();
        setTimeout(again, seconds * 1000);
      };
      setTimeout(again, seconds * 1000);
      document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
    }
  });
})();

// What can be wrong with the page as it is shown now; each list is empty if all is well.
(() => {
  const SLACK = 1.5; // pixels: lines of text are a little higher than their letters

  const isShown = (element) =>
    element.checkVisibility({ checkVisibilityCSS: true }) && !element.closest("title, style, head, .unseen");

  // Every piece of text that is seen, line by line.
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (!node.data.trim() || !isShown(element)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const drawn = element instanceof SVGElement;
    const boxes = drawn ? [element.getBoundingClientRect()] : [...range.getClientRects()];
    for (const box of boxes) {
      if (box.width > 0) texts.push({ text: node.data.trim().slice(0, 40), element, drawn, box });
    }
  }

  // --- Beyond the edge ---
  const beyond = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) beyond.push(`the page is ${root.scrollWidth} wide`);
  for (const { text, element, drawn, box } of texts) {
    const scroller = element.closest(".scroll");
    if (scroller) continue;
    const frame = drawn ? element.ownerSVGElement.getBoundingClientRect() : root.getBoundingClientRect();
    const inside = box.left >= frame.left - SLACK && box.right <= frame.right + SLACK
      && (!drawn || (box.top >= frame.top - SLACK && box.bottom <= frame.bottom + SLACK));
    if (!inside) beyond.push(text);
  }

  // --- Over one another ---
  const overlaps = [];
  texts.sort((a, b) => a.box.top - b.box.top);
  texts.forEach((a, index) => {
    for (const b of texts.slice(index + 1)) {
      if (b.box.top >= a.box.bottom) break;
      const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const high = Math.min(a.box.bottom, b.box.bottom) - b.box.top;
      if (wide > SLACK && high > 2 * SLACK) overlaps.push(`${a.text} | ${b.text}`);
    }
  });

  // --- Too faint: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio ---
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  for (const { text, element, drawn } of texts) {
    const style = getComputedStyle(element);
    const [one, other] = [drawn ? style.fill : style.color, groundOf(element)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (!(contrast >= 4.5)) faint.push(`${text}: ${contrast.toFixed(2)}`);
  }

  const scrolling = [...document.querySelectorAll("body *")]
    .filter((e) => !(e instanceof SVGElement) && isShown(e) && e.scrollWidth > e.clientWidth + 1)
    .filter((e) => getComputedStyle(e).overflowX !== "visible")
    .map((e) => e.getAttribute("aria-label") ?? e.tagName);

  // Drawings are scaled, and their letters with them.
  const sizes = texts.map(({ element, drawn }) =>
    parseFloat(getComputedStyle(element).fontSize) * (drawn ? element.getScreenCTM().a : 1));

  return {
    viewport: innerWidth,
    scheme: luminance(getComputedStyle(document.body).backgroundColor) > 0.5 ? "light" : "dark",
    charts: [...document.querySelectorAll(".chart")].filter(isShown).map((e) => e.className),
    texts: texts.length,
    smallest: Math.min(...sizes),
    beyond, overlaps, faint, scrolling,
  };
})();

"use strict";

/* From an answer as the model wrote it to what is shown: boxes found, light Markdown, never any HTML of the answer's own. */

const COLOURS = ["#d81b60", "#1e7d34", "#1a5fd0", "#b45309", "#7b2fbe", "#00707a", "#8d5524", "#4b5fc4", "#a31515", "#5b6b00"];
const TAG = /<(ref|box|quad)>([\s\S]*?)<\/\1>/g;
const BEGUN = /<(?:\/?(?:r(?:e(?:f)?)?|b(?:o(?:x)?)?|q(?:u(?:a(?:d)?)?)?)?)?$/;
const MARK = /\uE000(\d+)\uE001/;

/* {text, boxes}: boxes are {label, norm: [x1, y1, x2, y2] in thousandths, colour}; in `text` each leaves a mark. */
function readAnswer(raw, over = true) {
  raw = raw.replace(/[\uE000\uE001]/g, "");
  if (!over) {
    const open = Math.max(raw.lastIndexOf("<ref>"), raw.lastIndexOf("<box>"), raw.lastIndexOf("<quad>"));
    if (open >= 0 && !/<\/(ref|box|quad)>/.test(raw.slice(open))) raw = raw.slice(0, open);
    raw = raw.replace(BEGUN, "");
  }
  const boxes = [], colours = new Map();
  let label = "", text = "", from = 0;
  for (const found of raw.matchAll(TAG)) {
    const between = raw.slice(from, found.index);
    if (between.trim()) label = "";
    text += between;
    from = found.index + found[0].length;
    if (found[1] === "ref") {
      label = found[2].trim();
      text += label;
      continue;
    }
    const norm = corners(found[2], found[1] === "box" ? 4 : 8);
    if (!norm) continue;
    if (!colours.has(label)) colours.set(label, COLOURS[colours.size % COLOURS.length]);
    boxes.push({label, norm, colour: colours.get(label)});
    text += `\uE000${boxes.length}\uE001`;
  }
  text += raw.slice(from);
  return {text: text.replace(/<\/?(?:ref|box|quad)>/g, ""), boxes};
}

function corners(text, count) {
  const numbers = (text.normalize("NFKC").match(/\d{1,4}/g) || []).map((n) => Math.min(1000, Number(n)));
  if (numbers.length !== count) return null;
  const xs = numbers.filter((_, at) => at % 2 === 0), ys = numbers.filter((_, at) => at % 2 === 1);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/* The answer as elements: paragraphs, lists, code; **bold** and `code` in lines; marks become buttons. */
function answerElements(text, boxes, chosen) {
  const result = document.createDocumentFragment();
  let list = null, code = null, paragraph = null;
  for (const line of text.trim().split("\n")) {
    if (/^\s*```/.test(line)) {
      code = code ? null : result.appendChild(document.createElement("pre"));
      list = paragraph = null;
    } else if (code) {
      code.textContent += (code.textContent ? "\n" : "") + line.replace(new RegExp(MARK, "g"), "[$1]");
    } else if (!line.trim()) {
      list = paragraph = null;
    } else {
      const item = /^\s*(?:[-*•]|(\d+)[.、)])\s+(.*)$/.exec(line), heading = /^#{1,6}\s+(.*)$/.exec(line);
      if (item) {
        const kind = item[1] ? "OL" : "UL";
        if (!list || list.tagName !== kind) {
          list = result.appendChild(document.createElement(kind));
          if (item[1]) list.start = Number(item[1]);
        }
        inline(list.appendChild(document.createElement("li")), item[2], boxes, chosen);
        paragraph = null;
      } else {
        if (!paragraph || heading) paragraph = result.appendChild(document.createElement(heading ? "h3" : "p"));
        else paragraph.appendChild(document.createElement("br"));
        inline(paragraph, heading ? heading[1] : line, boxes, chosen);
        if (heading) paragraph = null;
        list = null;
      }
    }
  }
  return result;
}

function inline(parent, text, boxes, chosen) {
  for (const part of text.split(/(\*\*[^*]+\*\*|`[^`]+`|\uE000\d+\uE001)/)) {
    const mark = MARK.exec(part);
    if (/^\*\*.+\*\*$/.test(part)) inline(parent.appendChild(document.createElement("strong")), part.slice(2, -2), boxes, chosen);
    else if (/^`.+`$/.test(part)) parent.appendChild(document.createElement("code")).textContent = part.slice(1, -1);
    else if (mark && part === mark[0]) parent.appendChild(boxButton(Number(mark[1]), boxes[mark[1] - 1], chosen));
    else if (part) parent.appendChild(document.createTextNode(part));
  }
}

/* The number of a box behind its label; pointing at it points at the place. */
function boxButton(number, box, chosen) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "mark";
  button.textContent = number;
  button.style.setProperty("--colour", box.colour);
  button.setAttribute("aria-label", `${box.label} [${number}]`);
  for (const happening of ["mouseenter", "focus", "click"]) button.addEventListener(happening, () => chosen(number));
  for (const happening of ["mouseleave", "blur"]) button.addEventListener(happening, () => chosen(null));
  return button;
}

/* Plain text of an answer, for the clipboard. */
function plainAnswer(raw) {
  return readAnswer(raw).text.replace(new RegExp(MARK, "g"), "[$1]").trim();
}

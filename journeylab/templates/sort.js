// Sorts a table: a click on a head upwards, a second one downwards, a third one restores the order.
const lang = document.documentElement.lang;
const told = Object.entries(JSON.parse(document.body.dataset.units));
const units = new Map(told.map(([unit, seconds]) => [unit.replace(/\.$/, ""), seconds]));
const collator = new Intl.Collator(lang, { numeric: true });
const hasDecimalComma = new Intl.NumberFormat(lang).format(1.5).includes(",");
const days = new Intl.DateTimeFormat(lang, { day: "numeric", month: "short", timeZone: "UTC" });
const nameMonth = month => days.formatToParts(Date.UTC(2000, month, 15)).find(part => part.type === "month").value;
const months = Array.from({ length: 12 }, (_, month) => nameMonth(month).slice(0, 3));
const DATE = /^(\d{1,2}) (\p{L}{3})\p{L}*\.? (\d{4})\D*(?:(\d\d):(\d\d))?/u;
const NUMBER = /^<?\s*[-+]?\d+(?:\.\d+)?\s?\D{0,12}$/;

function read(cell) {
  const text = cell.textContent.replace(/[\u2066-\u2069]/g, "").replaceAll("−", "-").trim();
  const joined = text.replace(/(?<=\d)\s(?=\d{3}(?!\d))/g, "");
  return hasDecimalComma ? joined.replace(/(?<=\d),(?=\d)/g, ".") : joined.replace(/(?<=\d),(?=\d{3})/g, "");
}

function readDate(text) {
  const [, day, month, year, hour = 0, minute = 0] = DATE.exec(text) ?? [];
  const place = months.indexOf(month);
  return place < 0 ? NaN : Date.UTC(year, place, day, hour, minute);
}

// The first number of the text, with all parts of a duration: "1 min 21 s" is 81, "51.6–54.9 %" is 51.6.
function readNumber(text) {
  const [start, sign] = /^<?\s*([-+]?)/.exec(text);
  let rest = text.slice(start.length);
  let total = NaN;
  for (let part; (part = /^(\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*(\p{L}*)\.?\s*/u.exec(rest)); ) {
    const seconds = units.get(part[2]);
    if (Number.isNaN(total)) total = part[1] * (seconds ?? 1);
    else if (seconds) total += part[1] * seconds;
    if (!seconds) break;
    rest = rest.slice(part[0].length);
  }
  // "< 0.001" is before "0.001".
  return (sign === "-" ? -total : total) * (text.startsWith("<") ? 1 - 1e-9 : 1);
}

function readColumn(rows, place, isRight) {
  const texts = rows.map(row => read(row.cells[place])).map(text => (text === "–" ? "" : text));
  const present = texts.filter(Boolean);
  let key = text => text;
  if (present.every(text => !Number.isNaN(readDate(text)))) key = readDate;
  else if (present.every(text => !Number.isNaN(readNumber(text)) && (isRight || NUMBER.test(text)))) key = readNumber;
  return new Map(rows.map((row, i) => [row, texts[i] && key(texts[i])]));
}

function compare(a, b, turn) {
  if (a === "" || b === "") return (a === "") - (b === "");
  return turn * (typeof a === "number" ? a - b : collator.compare(a, b));
}

for (const table of document.querySelectorAll("table.jl-t")) {
  const rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells];
  for (const [place, head] of rows.length > 2 ? heads.entries() : []) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "sort" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = { null: "ascending", ascending: "descending" }[head.getAttribute("aria-sort")];
      for (const each of heads) each.removeAttribute("aria-sort");
      if (order) head.setAttribute("aria-sort", order);
      const column = readColumn(rows, place, head.classList.contains("r"));
      const turn = order === "descending" ? -1 : 1;
      const sorted = [...rows].sort((a, b) => compare(column.get(a), column.get(b), turn));
      table.tBodies[0].append(...(order ? sorted : rows));
    });
  }
}

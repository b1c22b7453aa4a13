// Saves a figure as a file of its own: colours as in the light theme, on white, nothing of this page needed.
const words = JSON.parse(document.body.dataset.save);
// Sharp on paper.
const SCALE = 3;

function setAll(element, values) {
  for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
}

function drawAlone(svg) {
  const box = svg.getAttribute("viewBox") ?? `0 0 ${svg.clientWidth} ${svg.clientHeight}`;
  const [x, y, width, height] = box.trim().split(/[\s,]+/).map(Number);
  const copy = svg.cloneNode(true);
  setAll(copy, { width, height, viewBox: box, style: `width:${width}px;height:${height}px` });
  // Programs other than browsers know neither themes nor variables.
  const light = new Map();
  const resolve = text => text.replace(/var\((--[\w-]+)\)/g, (whole, name) => light.get(name) ?? whole);
  for (const style of copy.querySelectorAll("style")) {
    const rules = style.textContent.replace(/@media\s*\(prefers-color-scheme:\s*dark\)\s*{[^{}]*{[^{}]*}\s*}/g, "");
    const [themed] = /{[^{}]*--[^{}]*}/.exec(rules) ?? [""];
    for (const [, name, value] of themed.matchAll(/(--[\w-]+):([^;}]+)/g)) light.set(name, value);
    style.textContent = resolve(rules);
  }
  for (const part of copy.querySelectorAll("[style]")) part.setAttribute("style", resolve(part.getAttribute("style")));
  const ground = document.createElementNS(copy.namespaceURI, "rect");
  setAll(ground, { x, y, width, height, style: "fill:#fff" });
  copy.querySelector(":scope > :not(title, desc, style, defs, metadata)")?.before(ground);
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

async function paint({ text, width, height }) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: SCALE * width, height: SCALE * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise(done => canvas.toBlob(done));
}

function save(href, name, kind) {
  const file = `${words.report} ${name}`.normalize("NFC").replace(/[^\p{L}\p{N}_]+/gu, "-").slice(0, 80);
  Object.assign(document.createElement("a"), { href, download: `${file.replace(/^-|-$/g, "")}.${kind}` }).click();
}

async function saveDrawing(svg, name, kind) {
  const alone = drawAlone(svg);
  const content = kind === "png" ? await paint(alone) : new Blob([alone.text], { type: "image/svg+xml" });
  const href = URL.createObjectURL(content);
  save(href, name, kind);
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

function addButtons(figure, name, actions) {
  const row = Object.assign(document.createElement("p"), { className: "save" });
  for (const [kind, act] of Object.entries(actions)) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: kind.toUpperCase() });
    button.setAttribute("aria-label", words[kind].replace("{figure}", () => name));
    button.addEventListener("click", act);
    row.append(button);
  }
  figure.after(row);
}

for (const svg of document.querySelectorAll("svg.jl, .plot svg")) {
  const title = svg.querySelector(":scope > title")?.textContent;
  const name = title ?? svg.closest("[aria-label]")?.ariaLabel ?? "";
  const act = kind => () => saveDrawing(svg, name, kind);
  addButtons(svg.closest(".jl-scroll, .scroll") ?? svg, name, { svg: act("svg"), png: act("png") });
}
for (const image of document.querySelectorAll(".plot img[src^='data:image/png']")) {
  addButtons(image, image.alt, { png: () => save(image.src, image.alt, "png") });
}

// The page of a web export: an image of this machine, the network's probabilities, and what follows from them.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { preprocess } from "./preprocess.js";

const THRESHOLD = "sensitivity 0.90";
const at = (id) => document.getElementById(id);

ort.env.wasm.numThreads = 1; // several need headers that a plain file server does not send
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
const ready = Promise.all([
  fetch("signature.json").then((answer) => answer.json()),
  fetch("model.onnx").then((answer) => answer.arrayBuffer()).then((bytes) => ort.InferenceSession.create(bytes)),
]);

// The bytes of a PNG or JPEG file -> calibrated probabilities in the order of the classes.
export async function predict(bytes) {
  const [signature, session] = await ready, size = signature.geometry.size;
  const pixels = await preprocess(bytes, signature.geometry, document.body.dataset.tallFirst === "true");
  const found = await session.run({ images: new ort.Tensor("uint8", pixels, [1, size, size, 3]) });
  return { pixels, probabilities: [...found.probabilities.data] };
}

function made(tag, text, attributes) {
  const found = document.createElement(tag);
  if (text !== undefined && text !== null) found.textContent = text;
  return Object.assign(found, attributes || {});
}

function say(text, error) {
  at("status").className = error ? "error" : "";
  at("status").textContent = text;
}

function entry(list, name, text, small) {
  const cell = made("dd", text);
  if (small) cell.append(made("small", small));
  list.append(made("dt", name), cell);
}

function table(signature, probabilities, most) {
  const all = made("table"), body = made("tbody");
  all.setAttribute("aria-label", "Calibrated probabilities");
  signature.class_names.forEach((name, place) => {
    const p = probabilities[place], line = made("tr", null, { className: most.includes(name) ? "most" : "" });
    const head = made("th", name), rail = made("div", null, { className: "rail" }), bar = made("span"), cell = made("td");
    head.scope = "row";
    bar.style.width = 100 * p + "%";
    rail.setAttribute("aria-hidden", "true");
    rail.append(bar);
    cell.append(rail);
    line.append(head, cell, made("td", p.toFixed(3)));
    body.append(line);
  });
  all.append(body);
  return all;
}

function decided({ class_names: names, positive_class: positive, thresholds }, probabilities) {
  const limits = names.map((name) => (thresholds[name] || {})[THRESHOLD]);
  if (limits.every((limit) => limit === undefined)) return null;
  const found = names.filter((_, place) => limits[place] != null && probabilities[place] >= limits[place]);
  return found.length || !positive ? found : [names[0]];
}

function seen(pixels, size) {
  const canvas = made("canvas", null, { width: size, height: size }), rgba = new Uint8ClampedArray(4 * size * size).fill(255);
  for (let place = 0; place < size * size; place++) rgba.set(pixels.subarray(3 * place, 3 * place + 3), 4 * place);
  canvas.getContext("2d").putImageData(new ImageData(rgba, size, size), 0, 0);
  const all = made("figure"), image = made("img", null, { src: canvas.toDataURL(), alt: "The image as the network sees it" });
  all.append(image, made("figcaption", "as the network sees it"));
  return all;
}

async function show(file) {
  if (!file) return;
  at("results").replaceChildren();
  say("Reading " + file.name + " …");
  try {
    const [signature] = await ready;
    const { pixels, probabilities } = await predict(new Uint8Array(await file.arrayBuffer()));
    const top = signature.class_names[probabilities.indexOf(Math.max(...probabilities))];
    const most = signature.task === "multilabel" ? signature.class_names.filter((_, place) => probabilities[place] >= 0.5) : [top];
    const all = made("article"), pictures = made("div", null, { className: "pictures" }), side = made("div"), facts = made("dl");
    const heading = made("h2", file.name + ": " + (most.join(", ") || "none"), { tabIndex: -1 });
    pictures.append(seen(pixels, signature.geometry.size));
    const decision = decided(signature, probabilities);
    if (decision) entry(facts, "Decision", decision.join(", ") || "none", "at the threshold of validation's " + THRESHOLD);
    side.append(made("h3", "Calibrated probabilities"), table(signature, probabilities, most), made("h3", "What follows"), facts);
    all.append(heading, pictures, side);
    at("results").replaceChildren(all);
    say("");
    heading.focus();
  } catch (error) {
    say(file.name + ": " + error.message, true);
  } finally {
    at("file").value = "";
  }
}

at("file").addEventListener("change", (event) => show(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") show(event.dataTransfer.files[0]);
  });
}

ready.then(([signature]) => {
  const network = signature.network, list = at("about");
  at("title").textContent = signature.class_names.length > 6 ? signature.class_names.length + " classes" : signature.class_names.join(" or ");
  at("made").textContent = network.name + ", " + network.strategy;
  entry(list, "Network", network.name + ", " + (network.cut === null ? "whole" : "cut at " + network.cut), network.strategy);
  entry(list, "Images", signature.geometry.size + " × " + signature.geometry.size + " px", "temperature " + signature.temperature.toFixed(3));
  entry(list, "Classes", signature.class_names.join(", "), signature.task === "multilabel" ? "each may be there or not" : "one of them");
  if (signature.positive_class) entry(list, "Positive class", signature.positive_class);
  entry(list, "Version", "ttl_jax " + signature.version);
  document.body.dataset.ready = "true";
}, (error) => say("The model cannot be loaded: " + error.message + " (open this folder through a web server, as python -m http.server)", true));

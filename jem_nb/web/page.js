// The page that jem_nb makes: one network, its energy and the gradient, run by onnxruntime-web.
'use strict';
const $ = id => document.getElementById(id);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const M = window.MODEL;
const SIDE = 112; // pixels of a drawing, before it is averaged down
let session, image = null, busy = false;

// ---- the network ----

async function start() {
  const module = new Blob([window.ORT_MODULE], {type: 'text/javascript'});
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {mjs: URL.createObjectURL(module)};
  ort.env.wasm.wasmBinary = bytes(window.ORT_WASM);
  session = await ort.InferenceSession.create(bytes(M.onnx));
}

// x: data units; label: a class, or null for all. Gives logits, E(x), and the gradient of
// E(x), or of E(x, y) with a label.
async function run(x, label = null) {
  const mask = new Float32Array(M.classes.length);
  if (label !== null) mask.fill(-1e4).fill(0, label, label + 1);
  const out = await session.run({
    x: new ort.Tensor('float32', x, [1, M.channels, M.size, M.size]),
    mask: new ort.Tensor('float32', mask, [1, mask.length]),
  });
  return {logits: out.logits.data, energy: out.energy.data[0], grad: out.grad.data};
}

function softmax(logits) {
  const scaled = Array.from(logits, v => v / M.temperature), top = Math.max(...scaled);
  const e = scaled.map(v => Math.exp(v - top)), sum = e.reduce((a, b) => a + b);
  return e.map(v => v / sum);
}

// ---- the sampler ----

function normal() { // Box and Muller's
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

const held = (v, most) => most ? Math.max(-most, Math.min(most, v)) : v;

async function chain(x, steps, label) { // all moments of one walk
  const states = [x];
  for (let k = 0; k < steps; k++) {
    const {grad} = await run(x, label);
    x = x.map((v, i) => held(
      v - M.step_size * held(grad[i], M.grad_clamp) + M.noise_scale * normal(), M.state_clamp));
    states.push(x);
  }
  return states;
}

// ---- images, prepared as Python does it: `strokes` of 57_demo, `as_bytes` of 51_your_data ----

function taps(lo, hi, n, N) { // of N results, from n inputs between lo and hi: the first, weights
  const scale = (hi - lo) / N, reach = Math.max(1, scale);
  return Array.from({length: N}, (_, i) => {
    const centre = lo + (i + .5) * scale, weights = [];
    const from = Math.max(0, Math.floor(centre - reach + .5));
    const to = Math.min(n, Math.floor(centre + reach + .5));
    for (let x = from; x < to; x++) weights.push(Math.max(0, 1 - Math.abs((x + .5 - centre) / reach)));
    const sum = weights.reduce((u, v) => u + v, 0);
    return [from, weights.map(v => v / sum)];
  });
}

function resampled(a, w, h, [x0, y0, x1, y1], W, H) { // bytes (h, w) to (H, W), as PIL's BILINEAR
  const byte = v => Math.max(0, Math.min(255, Math.floor(v + .5)));
  const across = taps(x0, x1, w, W), down = taps(y0, y1, h, H);
  const rows = new Float32Array(h * W), out = new Float32Array(H * W);
  for (let r = 0; r < h; r++) across.forEach(([from, weights], c) => {
    rows[r * W + c] = byte(weights.reduce((sum, v, i) => sum + v * a[r * w + from + i], 0));
  });
  down.forEach(([from, weights], r) => {
    for (let c = 0; c < W; c++)
      out[r * W + c] = byte(weights.reduce((sum, v, i) => sum + v * rows[(from + i) * W + c], 0));
  });
  return out;
}

function fitted(a, w, h) { // the middle square of bytes (h, w), in the size of the model
  const side = Math.min(w, h), [x, y] = [(w - side) / 2, (h - side) / 2];
  return resampled(a, w, h, [x, y, x + side, y + side], M.size, M.size);
}

function scratch(w, h) {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [w, h];
  return canvas.getContext('2d', {willReadFrequently: true});
}

function strokes() { // how dark the pen was, (112, 112), cut, scaled and centred; null: nothing
  const rgba = $('pen').getContext('2d').getImageData(0, 0, 280, 280).data;
  const pen = (r, c) => rgba[4 * (280 * r + c) + 3];
  let [top, left, bottom, right] = [280, 280, -1, -1];
  for (let r = 0; r < 280; r++) for (let c = 0; c < 280; c++) if (pen(r, c)) {
    [top, bottom] = [Math.min(top, r), Math.max(bottom, r)];
    [left, right] = [Math.min(left, c), Math.max(right, c)];
  }
  if (bottom < 0) return null;
  const [h, w] = [bottom - top + 1, right - left + 1], scale = M.box * SIDE / Math.max(h, w);
  const [H, W] = [h, w].map(v => Math.max(1, Math.round(scale * v)));
  const cut = Float32Array.from({length: h * w}, (_, i) => pen(top + Math.floor(i / w), left + i % w));
  const small = resampled(cut, w, h, [0, 0, w, h], W, H), grid = new Float32Array(SIDE * SIDE);
  let [sum, x, y] = [1e-9, 0, 0];
  small.forEach((v, i) => { sum += v; x += v * (i % W); y += v * Math.floor(i / W); });
  const at = (centre, length) => Math.min(Math.max(0, Math.round(SIDE / 2 - centre / sum)), SIDE - length);
  const [X, Y] = [at(x, W), at(y, H)];
  small.forEach((v, i) => { grid[(Y + Math.floor(i / W)) * SIDE + X + i % W] = v; });
  return grid;
}

function drawn() { // data units; null: nothing was drawn
  const grid = strokes();
  return grid && fitted(grid, SIDE, SIDE).map(v => v / 127.5 - 1);
}

function dropped(picture) { // data units; what is transparent counts as black
  const [w, h] = [picture.width, picture.height], ctx = scratch(w, h);
  ctx.drawImage(picture, 0, 0);
  const rgba = ctx.getImageData(0, 0, w, h).data;
  const channel = c => fitted(Float32Array.from({length: w * h}, (_, i) => rgba[4 * i + c]), w, h);
  const grey = () => fitted(Float32Array.from({length: w * h}, (_, i) =>
    (19595 * rgba[4 * i] + 38470 * rgba[4 * i + 1] + 7471 * rgba[4 * i + 2] + 32768) >> 16), w, h);
  const parts = M.channels === 1 ? [grey()] : [0, 1, 2].map(channel);
  return Float32Array.from(parts.flatMap(part => Array.from(part, v => v / 127.5 - 1)));
}

function paint(canvas, x) {
  const n = M.size * M.size, ctx = scratch(M.size, M.size), pixels = ctx.createImageData(M.size, M.size);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = (x[i + (M.channels === 3 ? c * n : 0)] + 1) * 127.5;
    pixels.data[4 * i + 3] = 255;
  }
  ctx.putImageData(pixels, 0, 0);
  const to = canvas.getContext('2d');
  to.imageSmoothingEnabled = false;
  to.drawImage(ctx.canvas, 0, 0, canvas.width, canvas.height);
}

// ---- what is shown ----

function showEnergies(energy) {
  const known = M.energies, [low, high] = [Math.min(...known), Math.max(...known)];
  const [from, to] = [Math.min(low, energy), Math.max(high, energy)], wide = to - from || 1;
  const counts = new Array(40).fill(0);
  known.forEach(e => counts[Math.min(39, Math.floor(40 * (e - from) / wide))]++);
  const most = Math.max(...counts), X = e => 370 * (e - from) / wide + 5;
  const line = (e, color, more) =>
    `<line x1="${X(e)}" x2="${X(e)}" y1="5" y2="85" stroke="${color}" ${more}/>`;
  const bar = (n, i) => `<rect x="${5 + i * 9.25}" y="${85 - 78 * n / most}" width="9" `
    + `height="${78 * n / most}" fill="#4f8a5b"/>`;
  $('energies').innerHTML = counts.map(bar).join('') + line(limit(), 'black', 'stroke-dasharray="4"')
    + line(energy, '#c8553d', 'stroke-width="3"') + '<text x="5" y="104" font-size="11">'
    + 'E(x), nats. Green: known images; dashed: their limit; red: this one</text>';
}

const limit = () => M.limits[$('reject').value - M.least_rate];

function say(line, more = '') { // the verdict, as text
  $('verdict').innerHTML = '<b></b><br><span></span>';
  $('verdict').firstChild.textContent = line;
  $('verdict').lastChild.textContent = more;
}

function showBars(p, order) {
  $('bars').replaceChildren(...order.slice(0, 10).map(i => {
    const bar = document.createElement('div');
    bar.className = 'bar';
    bar.innerHTML = `<span></span><i style="width:${160 * p[i]}px"></i><span>${(100 * p[i]).toFixed(1)} %</span>`;
    bar.firstChild.textContent = M.classes[i];
    return bar;
  }));
}

function showNothing(line) {
  $('bars').replaceChildren();
  $('energies').replaceChildren();
  say(line);
}

let asked = 0;
async function show() {
  const mine = ++asked;
  if (M.energies) $('rate').textContent = `${$('reject').value} %`;
  if (!session) return;
  if (!image) return showNothing(M.channels === 3 ? 'Choose a file.' : 'Draw something.');
  const {logits, energy} = await run(image);
  if (mine !== asked) return; // another image has come since
  const p = softmax(logits), order = p.map((_, i) => i).sort((a, b) => p[b] - p[a]);
  const name = `${M.classes[order[0]]} (${Math.round(100 * p[order[0]])} %)`;
  const known = M.energies ? energy <= limit() : true;
  const more = M.energies ? `; known up to ${limit().toFixed(2)}` : '';
  say(known ? name : `I do not know. If I had to say: ${name}`, `E(x) = ${energy.toFixed(2)}${more}`);
  showBars(p, order);
  if (M.energies) showEnergies(energy);
}

let states = [];
async function showFrame() {
  const k = +$('frame').value, x = states[k];
  if (!x) return;
  paint($('film'), x);
  const {energy} = await run(x.map(v => held(v, 1)));
  if (states[k] === x) $('moment').textContent = `step ${k}, E = ${energy.toFixed(2)}`;
}

async function film(x, label) {
  if (busy) return;
  busy = true;
  try {
    const steps = Math.max(1, Math.min(1000, +$('steps').value || 1));
    states = await chain(x, steps, label);
    $('frame').max = states.length - 1;
    $('frame').value = states.length - 1;
    await showFrame();
  } finally { busy = false; }
}

// ---- the controls ----

function listenToPen() {
  const pen = $('pen').getContext('2d', {willReadFrequently: true});
  Object.assign(pen, {lineWidth: 20, lineCap: 'round', lineJoin: 'round'});
  let down = false;
  $('pen').onpointerdown = e => {
    if (painted) clear(); // a stroke over a picture would be read as the picture's frame
    down = true;
    $('pen').setPointerCapture(e.pointerId);
    pen.beginPath();
    pen.moveTo(e.offsetX, e.offsetY);
    pen.lineTo(e.offsetX, e.offsetY);
    pen.stroke();
  };
  $('pen').onpointermove = e => { if (down) { pen.lineTo(e.offsetX, e.offsetY); pen.stroke(); } };
  $('pen').onpointerup = () => { down = false; image = drawn(); show(); };
}

let painted = false; // whether a picture, not strokes, is on the canvas
function clear() {
  $('pen').getContext('2d').clearRect(0, 0, 280, 280);
  image = null;
  painted = false;
}

async function choose(file) {
  clear();
  try { image = dropped(await createImageBitmap(file)); }
  catch { return showNothing(`${file.name} is no image that this browser reads.`); }
  paint($('pen'), image);
  painted = true;
  await show();
}

function listen() {
  if (M.channels === 1) listenToPen();
  $('clear').onclick = () => { clear(); show(); };
  $('reject').oninput = show;
  $('file').onchange = e => {
    const [file] = e.target.files;
    if (file) choose(file).finally(() => { e.target.value = ''; }); // the same once more is a change
  };
  $('frame').oninput = showFrame;
  $('walk').onclick = () => image ? film(image, null) : show();
  $('draw').onclick = () => {
    const of = M.starts[$('class').value];
    const raw = bytes(of[Math.floor(Math.random() * of.length)]);
    film(Float32Array.from(raw, v => v / 127.5 - 1), +$('class').value);
  };
}

function describe() { // the model, and what this page cannot ask of it
  M.classes.forEach((name, i) => $('class').add(new Option(name, i)));
  const words = [`The model: ${M.name}.`];
  if (M.channels === 3) words.push('It reads colour images: choose a file.');
  if (!M.starts) words.push('It is a plain classifier and does not draw.');
  if (!M.energies) words.push('No images that it knows came with it, so it never says "I do not know".');
  $('about').textContent = words.join(' ');
  $('draw').disabled = !M.starts;
  $('reject').disabled = !M.energies;
  if (M.energies) Object.assign($('reject'), {min: M.least_rate, max: M.least_rate + M.limits.length - 1,
                                              value: Math.max(5, M.least_rate)});
}

window.onunhandledrejection = e => say('This failed.', e.reason.message);
describe();
listen();
start().then(show, e => say('The network did not start.', e.message));
window.jem = {run, chain, strokes, drawn, dropped, softmax};

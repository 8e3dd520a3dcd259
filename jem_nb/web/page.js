// The page that jem_nb makes: one network, its energy and the gradient, run by onnxruntime-web.
'use strict';
const $ = id => document.getElementById(id);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const M = window.MODEL;
const N = M.channels * M.size * M.size;
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

// ---- images ----

function averaged(grid, side) { // side×side numbers to size×size, by area
  const out = new Float32Array(M.size * M.size), k = side / M.size;
  for (let r = 0; r < M.size; r++) for (let c = 0; c < M.size; c++) {
    let sum = 0;
    for (let i = 0; i < k; i++) for (let j = 0; j < k; j++) sum += grid[(r * k + i) * side + c * k + j];
    out[r * M.size + c] = sum / (k * k);
  }
  return out;
}

function scratch(side) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = side;
  return canvas.getContext('2d', {willReadFrequently: true});
}

function drawn() { // the strokes as the digits of the data set were prepared; null: none
  const pen = $('pen').getContext('2d').getImageData(0, 0, 280, 280).data;
  let [top, left, bottom, right] = [280, 280, -1, -1];
  for (let r = 0; r < 280; r++) for (let c = 0; c < 280; c++) if (pen[4 * (280 * r + c) + 3]) {
    top = Math.min(top, r); bottom = Math.max(bottom, r);
    left = Math.min(left, c); right = Math.max(right, c);
  }
  if (bottom < 0) return null;
  const [h, w] = [bottom - top + 1, right - left + 1], scale = M.box * SIDE / Math.max(h, w);
  const place = (dx, dy) => {
    const ctx = scratch(SIDE);
    ctx.imageSmoothingQuality = 'high';
    ctx.drawImage($('pen'), left, top, w, h, dx, dy, w * scale, h * scale);
    const rgba = ctx.getImageData(0, 0, SIDE, SIDE).data;
    return Float32Array.from({length: SIDE * SIDE}, (_, i) => rgba[4 * i + 3] / 255);
  };
  const corner = place(0, 0);
  let [sum, x, y] = [0, 0, 0];
  corner.forEach((v, i) => { sum += v; x += v * (i % SIDE); y += v * Math.floor(i / SIDE); });
  const at = (centre, length) => Math.max(0, Math.min(SIDE - length, SIDE / 2 - centre));
  const grid = place(at(x / sum, w * scale), at(y / sum, h * scale));
  return averaged(grid, SIDE).map(v => 2 * v - 1);
}

function dropped(picture) { // an image file, scaled to the size of the model
  const ctx = scratch(M.size);
  ctx.imageSmoothingQuality = 'high';
  ctx.drawImage(picture, 0, 0, M.size, M.size);
  const rgba = ctx.getImageData(0, 0, M.size, M.size).data, n = M.size * M.size;
  const grey = i => (.299 * rgba[4 * i] + .587 * rgba[4 * i + 1] + .114 * rgba[4 * i + 2]);
  const of = i => M.channels === 1 ? grey(i) : rgba[4 * (i % n) + Math.floor(i / n)];
  return Float32Array.from({length: N}, (_, i) => of(i) / 127.5 - 1);
}

function paint(canvas, x) {
  const n = M.size * M.size, ctx = scratch(M.size), pixels = ctx.createImageData(M.size, M.size);
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
  const line = (e, color, more) => `<line x1="${X(e)}" x2="${X(e)}" y1="5" y2="85" stroke="${color}" ${more}/>`;
  const bar = (n, i) => `<rect x="${5 + i * 9.25}" y="${85 - 78 * n / most}" width="9" height="${78 * n / most}" fill="#4f8a5b"/>`;
  $('energies').innerHTML = counts.map(bar).join('') + line(limit(), 'black', 'stroke-dasharray="4"')
    + line(energy, '#c8553d', 'stroke-width="3"')
    + '<text x="5" y="104" font-size="11">E(x), nats. Green: known images; dashed: their limit; red: this one</text>';
}

const limit = () => M.limits[$('reject').value - 1];

async function show() {
  $('rate').textContent = `${$('reject').value} %`;
  if (!session) return;
  $('bars').innerHTML = $('energies').innerHTML = '';
  if (!image) { $('verdict').textContent = 'Draw something.'; return; }
  const {logits, energy} = await run(image), p = softmax(logits);
  const order = p.map((_, i) => i).sort((a, b) => p[b] - p[a]), best = order[0];
  const name = `${M.classes[best]} (${Math.round(100 * p[best])} %)`;
  const known = M.energies ? energy <= limit() : true;
  const lines = [known ? name : `I do not know. If I had to say: ${name}`, `E(x) = ${energy.toFixed(2)}`];
  if (M.energies) lines[1] += `; known up to ${limit().toFixed(2)}`;
  $('verdict').innerHTML = '<b></b><br><span></span>';
  $('verdict').firstChild.textContent = lines[0];
  $('verdict').lastChild.textContent = lines[1];
  for (const i of order.slice(0, 10)) {
    const bar = document.createElement('div');
    bar.className = 'bar';
    bar.innerHTML = `<span></span><i style="width:${160 * p[i]}px"></i><span>${(100 * p[i]).toFixed(1)} %</span>`;
    bar.firstChild.textContent = M.classes[i];
    $('bars').append(bar);
  }
  if (M.energies) showEnergies(energy);
}

let states = [];
async function showFrame() {
  const k = +$('frame').value, x = states[k];
  if (!x) return;
  paint($('film'), x);
  const {energy} = await run(x.map(v => held(v, 1)));
  $('moment').textContent = `step ${k}, E = ${energy.toFixed(2)}`;
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

function listen() {
  const pen = $('pen').getContext('2d', {willReadFrequently: true});
  Object.assign(pen, {lineWidth: 20, lineCap: 'round', lineJoin: 'round'});
  const at = e => [e.offsetX, e.offsetY];
  let down = false;
  $('pen').onpointerdown = e => {
    down = true;
    $('pen').setPointerCapture(e.pointerId);
    pen.beginPath(); pen.moveTo(...at(e)); pen.lineTo(...at(e)); pen.stroke();
  };
  $('pen').onpointermove = e => { if (down) { pen.lineTo(...at(e)); pen.stroke(); } };
  $('pen').onpointerup = () => { down = false; image = drawn(); show(); };
  const clear = () => { pen.clearRect(0, 0, 280, 280); image = null; };
  $('clear').onclick = () => { clear(); show(); };
  $('reject').oninput = show;
  $('file').onchange = async e => {
    const file = e.target.files[0];
    if (!file) return;
    try { image = dropped(await createImageBitmap(file)); }
    catch { $('verdict').textContent = `${file.name} is no image that this browser reads.`; return; }
    pen.clearRect(0, 0, 280, 280);
    paint($('pen'), image);
    show();
  };
  $('frame').oninput = showFrame;
  $('walk').onclick = () => image ? film(image, null) : show();
  $('draw').onclick = () => {
    const of = M.starts[$('class').value];
    const raw = bytes(of[Math.floor(Math.random() * of.length)]);
    film(Float32Array.from(raw, v => v / 127.5 - 1), +$('class').value);
  };
  M.classes.forEach((name, i) => $('class').add(new Option(name, i)));
  if (!M.starts) $('draw').disabled = true;
  if (M.channels === 3) $('about').textContent = 'This model reads colour images: choose a file.';
}

listen();
start().then(show, e => { $('verdict').textContent = `The network did not start: ${e.message}`; });
window.jem = {run, chain, drawn};

// From a PNG or JPEG file to the bytes that the network takes, by the rules of ttl_jax/data/images/decode.py.
//
// PNG is decoded here, since a canvas cuts 16 bits to 8 and multiplies colours by their alpha: the result is that
// of Pillow bit for bit. JPEG is decoded by the browser, without its colour management.

const MOST_PIXELS = 178956970; // as Pillow

// geometry: that of signature.json; tallFirst: whether Pillow is of a version that may scale the height first.
export async function preprocess(bytes, geometry, tallFirst) {
  return fit(await decode(bytes, geometry.pad_value), geometry, tallFirst);
}

export async function decode(bytes, background) {
  if (bytes[0] === 0x89 && bytes[1] === 0x50) return decodePng(bytes, background);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return decodeJpeg(bytes);
  throw new Error("is neither PNG nor JPEG, which this page reads");
}

async function decodeJpeg(bytes) {
  if (componentsOfJpeg(bytes) === 4) throw new Error("is a CMYK JPEG: save it as RGB");
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }), { colorSpaceConversion: "none" });
  } catch {
    throw new Error("cannot be decoded");
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error("has too many pixels");
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const pixels = new Uint8Array(3 * width * height);
  for (let place = 0; place < width * height; place++) {
    for (let channel = 0; channel < 3; channel++) pixels[3 * place + channel] = rgba[4 * place + channel];
  }
  return { width, height, pixels };
}

function componentsOfJpeg(bytes) {
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return bytes[at + 9];
    at += 2 + 256 * bytes[at + 2] + bytes[at + 3];
  }
  return 3;
}

// PNG (ISO/IEC 15948) ------------------------------------------------------------------------------------------

const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const WHOLE = [[0, 0, 1, 1]];
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

async function decodePng(bytes, background) {
  const chunks = chunksOf(bytes), header = chunks.find((chunk) => chunk.type === "IHDR");
  if (!header || header.data.length < 13) throw new Error("is a damaged PNG: it has no header");
  const view = new DataView(header.data.buffer, header.data.byteOffset);
  const width = view.getUint32(0), height = view.getUint32(4), depth = view.getUint8(8), kind = view.getUint8(9);
  if (!width || !height || !CHANNELS[kind] || ![1, 2, 4, 8, 16].includes(depth)) throw new Error("is a damaged PNG");
  if (width * height > MOST_PIXELS) throw new Error("has too many pixels");
  const text = (data) => String.fromCharCode(...data.subarray(0, 4000));
  const turned = (chunk) => chunk.type === "eXIf" || /Raw profile type|tiff:Orientation/.test(text(chunk.data));
  if (chunks.some(turned)) throw new Error("has EXIF data, which this page reads in JPEG alone: save it without");
  const see = chunks.find((chunk) => chunk.type === "tRNS"), palette = chunks.find((chunk) => chunk.type === "PLTE");
  if (see && ((kind === 0 && depth < 8) || (kind === 2 && depth > 8))) {
    throw new Error("has a transparent colour that this page does not read: save it as RGBA");
  }
  const passes = view.getUint8(12) ? ADAM7 : WHOLE, channels = CHANNELS[kind];
  const raw = await inflate(chunks.filter((chunk) => chunk.type === "IDAT").map((chunk) => chunk.data),
    sizeOf(passes, width, height, channels * depth));
  const samples = samplesOf(raw, passes, width, height, channels, depth);
  if (kind === 0 && depth === 16) return { width, height, pixels: tripled(stretched(samples)) };
  return { width, height, pixels: coloured(samples, kind, depth, palette, see, background) };
}

function chunksOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), found = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) throw new Error("is a damaged PNG: it ends early");
    found.push({ type, data: bytes.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
    if (type === "IEND") break;
  }
  return found;
}

const along = (size, start, step) => Math.max(0, Math.ceil((size - start) / step));

function sizeOf(passes, width, height, bits) {
  let size = 0;
  for (const [left, top, across, down] of passes) {
    const columns = along(width, left, across);
    if (columns) size += along(height, top, down) * (1 + Math.ceil((columns * bits) / 8));
  }
  return size;
}

async function inflate(parts, size) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const all = new Uint8Array(size), reader = stream.getReader();
  let filled = 0;
  try {
    while (filled < size) {
      const { done, value } = await reader.read();
      if (done) break;
      all.set(value.subarray(0, size - filled), filled);
      filled += value.length;
    }
  } catch {
    filled = 0;
  }
  reader.cancel().catch(() => {});
  if (filled < size) throw new Error("is a damaged PNG: its pixels cannot be read");
  return all;
}

function samplesOf(raw, passes, width, height, channels, depth) {
  const samples = new (depth === 16 ? Uint16Array : Uint8Array)(width * height * channels);
  const back = Math.max(1, (channels * depth) >> 3);
  let at = 0;
  for (const [left, top, across, down] of passes) {
    const columns = along(width, left, across), rows = along(height, top, down);
    if (!columns) continue;
    const length = Math.ceil((columns * channels * depth) / 8);
    let above = new Uint8Array(length);
    for (let row = 0; row < rows; row++) {
      const line = raw.subarray(at + 1, at + 1 + length);
      unfilter(raw[at], line, above, back);
      for (let sample = 0; sample < columns * channels; sample++) {
        const column = Math.floor(sample / channels);
        const place = (top + row * down) * width + left + column * across;
        samples[place * channels + (sample % channels)] = sampleOf(line, sample, depth);
      }
      above = line;
      at += 1 + length;
    }
  }
  return samples;
}

function sampleOf(line, number, depth) {
  if (depth === 8) return line[number];
  if (depth === 16) return 256 * line[2 * number] + line[2 * number + 1];
  const bit = number * depth;
  return (line[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

function unfilter(kind, line, above, back) {
  if (kind > 4) throw new Error("is a damaged PNG: a row has no known filter");
  for (let at = 0; at < line.length; at++) {
    const left = at < back ? 0 : line[at - back], up = above[at], corner = at < back ? 0 : above[at - back];
    const expected = [0, left, up, (left + up) >> 1][kind];
    line[at] += expected === undefined ? paeth(left, up, corner) : expected;
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner, a = Math.abs(guess - left), b = Math.abs(guess - up), c = Math.abs(guess - corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

// 16 bits from their own minimum and maximum to 0 and 255, rounded half to even.
function stretched(samples) {
  let low = 65535, high = 0;
  for (const each of samples) {
    if (each < low) low = each;
    if (each > high) high = each;
  }
  const scale = high > low ? 255 / (high - low) : 0;
  return Uint8Array.from(samples, (each) => even((each - low) * scale));
}

function even(value) {
  const down = Math.floor(value), rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}

function tripled(gray) {
  const pixels = new Uint8Array(3 * gray.length);
  for (let place = 0; place < gray.length; place++) pixels.fill(gray[place], 3 * place, 3 * place + 3);
  return pixels;
}

function coloured(samples, kind, depth, palette, see, background) {
  const channels = CHANNELS[kind], count = samples.length / channels, pixels = new Uint8Array(3 * count);
  const eight = depth === 16 ? (value) => value >> 8 : kind === 3 ? (value) => value
    : (value) => (value * 255) / ((1 << depth) - 1);
  const clear = see && kind !== 3 ? Array.from({ length: see.data.length / 2 }, (_, at) => 256 * see.data[2 * at] + see.data[2 * at + 1]) : null;
  for (let place = 0; place < count; place++) {
    const own = samples.subarray(place * channels, (place + 1) * channels);
    let colour, alpha = 255;
    if (kind === 3) {
      const entry = own[0];
      colour = palette && 3 * entry + 2 < palette.data.length ? palette.data.subarray(3 * entry, 3 * entry + 3) : [0, 0, 0];
      if (see && entry < see.data.length) alpha = see.data[entry];
    } else {
      colour = channels < 3 ? [eight(own[0]), eight(own[0]), eight(own[0])] : [eight(own[0]), eight(own[1]), eight(own[2])];
      if (kind === 4 || kind === 6) alpha = eight(own[channels - 1]);
      if (clear && clear.every((value, channel) => value === own[channel])) alpha = 0;
    }
    for (let channel = 0; channel < 3; channel++) {
      pixels[3 * place + channel] = alpha === 255 ? colour[channel] : over(colour[channel], alpha, background);
    }
  }
  return pixels;
}

// Pillow's alpha_composite on an opaque background.
function over(value, alpha, background) {
  if (alpha === 0) return background;
  const share = alpha * 128, sum = value * share + background * (255 * 128 - share) + 128 * 128;
  return (((sum >> 8) + sum) >> 8) >> 7;
}

// Scaling, as Pillow's Image.resize with BILINEAR ------------------------------------------------------------------

export function fit(image, geometry, tallFirst) {
  const { width, height } = image, size = geometry.size;
  if (geometry.resize === "squash" || width === height) return scaled(image, size, size, [0, 0, width, height], tallFirst);
  if (geometry.resize === "crop") {
    const side = Math.min(width, height), left = (width - side) / 2, top = (height - side) / 2;
    return scaled(image, size, size, [left, top, left + side, top + side], tallFirst);
  }
  const scale = size / Math.max(width, height);
  const across = Math.max(1, even(width * scale)), down = Math.max(1, even(height * scale));
  const inner = scaled(image, across, down, [0, 0, width, height], tallFirst);
  const canvas = new Uint8Array(3 * size * size).fill(geometry.pad_value);
  const left = Math.floor((size - across) / 2), top = Math.floor((size - down) / 2);
  for (let row = 0; row < down; row++) {
    canvas.set(inner.subarray(3 * row * across, 3 * (row + 1) * across), 3 * ((top + row) * size + left));
  }
  return canvas;
}

function scaled({ width, height, pixels }, across, down, [left, top, right, bottom], tallFirst) {
  const horizontal = (found, rows) => across === width && left === 0 && right === width ? found
    : pass(found, rows, weights(width, left, right, across), 3 * width, 3, 3 * across, 3);
  const vertical = (found, columns) => down === height && top === 0 && bottom === height ? found
    : pass(found, columns, weights(height, top, bottom, down), 3, 3 * columns, 3, 3 * columns);
  // Pillow 13 begins with the height where it shrinks by more than twice as many pixels as the width.
  if (tallFirst && across !== width && height > down && height - down > 2 * (width - across)) {
    return horizontal(vertical(pixels, width), down);
  }
  return vertical(horizontal(pixels, height), across);
}

// One direction: each of some lines gets a new place for each kernel; steps are those in bytes.
function pass(pixels, lines, kernels, lineStep, step, newLineStep, newStep) {
  const wanted = kernels.length, found = new Uint8Array(3 * lines * wanted);
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < wanted; place++) {
      const { first, kernel } = kernels[place];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << 21;
        for (let tap = 0; tap < kernel.length; tap++) {
          sum += pixels[line * lineStep + (first + tap) * step + channel] * kernel[tap];
        }
        found[line * newLineStep + place * newStep + channel] = Math.max(0, Math.min(255, sum >> 22));
      }
    }
  }
  return found;
}

// The weights of each new place, in whole numbers of 2^-22.
function weights(count, from, to, wanted) {
  const scale = (to - from) / wanted, wide = Math.max(scale, 1), kernels = [];
  for (let place = 0; place < wanted; place++) {
    const centre = from + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - wide + 0.5));
    const last = Math.min(count, Math.trunc(centre + wide + 0.5));
    const kernel = [];
    let total = 0;
    for (let tap = 0; tap < last - first; tap++) {
      const far = Math.abs((tap + first - centre + 0.5) * (1.0 / wide));
      kernel.push(far < 1 ? 1 - far : 0);
      total += kernel[tap];
    }
    kernels.push({ first, kernel: kernel.map((each) => Math.trunc(0.5 + (total ? each / total : 0) * (1 << 22))) });
  }
  return kernels;
}

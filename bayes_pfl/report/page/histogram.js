// Scores as bars, the threshold as a line over them, and the counts on both sides of it.
// EDGE: half the width of the slider's thumb, so that the thumb is right below the line.
const BINS = 40, EDGE = 8, HIGH = 160, FOOT = 164;
const svg = byId('histogram'), slider = byId('threshold'), figure = byId('threshold-number');
const labelled = scored.some((row) => row.truth !== null);

function range() {
  const values = scored.map((row) => row.score);
  if (state.threshold !== null) values.push(state.threshold);
  if (!values.length) return [0, 1];
  const least = values.reduce((a, b) => Math.min(a, b)), most = values.reduce((a, b) => Math.max(a, b));
  const low = Math.floor(least * 20 - 0.05) / 20, high = Math.ceil(most * 20 + 0.05) / 20;
  return [low, Math.max(high, low + 0.05)];
}
const [LOW, TOP] = range();
let wide = 1000;
const at = (value) => EDGE + (wide - 2 * EDGE) * (value - LOW) / (TOP - LOW);

function binned(test) {
  const bins = new Array(BINS).fill(0);
  for (const row of scored) {
    if (test(row)) bins[Math.min(BINS - 1, Math.floor(BINS * (row.score - LOW) / (TOP - LOW)))] += 1;
  }
  return bins;
}

function bars() {
  const second = labelled ? (row) => row.truth === 1 : flagged;
  const [below, above] = [binned((row) => !second(row)), binned(second)];
  const most = Math.max(1, ...below.map((value, bin) => value + above[bin]));
  const width = (wide - 2 * EDGE) / BINS;
  below.forEach((value, bin) => {
    const heights = [HIGH * value / most, HIGH * above[bin] / most];
    heights.forEach((height, part) => {
      if (!height) return;
      const y = HIGH - height - (part ? heights[0] : 0);
      const kind = part ? 'fill-flag' : 'fill-normal';
      svg.append(draw('rect', {x: EDGE + bin * width + 1, y, width: width - 2, height, class: kind}));
    });
  });
}

function axis() {
  svg.append(draw('line', {x1: EDGE, x2: wide - EDGE, y1: HIGH, y2: HIGH, class: 'axis'}));
  const step = TOP - LOW > 0.5 ? 0.1 : 0.05;
  for (let tick = Math.ceil(LOW / step - 1e-9); tick * step <= TOP + 1e-9; tick += 1) {
    const x = at(tick * step);
    const anchor = x < 20 ? 'start' : x > wide - 20 ? 'end' : 'middle';
    svg.append(draw('text', {x, y: FOOT + 16, 'text-anchor': anchor}, (tick * step).toFixed(2)));
  }
}

function drawHistogram() {
  svg.replaceChildren();
  if (!scored.length) return;
  wide = Math.max(200, svg.clientWidth);
  svg.setAttribute('viewBox', `0 0 ${wide} 190`);
  const x = at(state.threshold);
  svg.append(draw('rect', {x, y: 0, width: Math.max(0, wide - EDGE - x), height: HIGH, class: 'beyond'}));
  bars();
  axis();
  svg.append(draw('line', {x1: x, x2: x, y1: 0, y2: HIGH + 4, class: 'limit'}));
  svg.setAttribute('aria-label', `Histogram of ${scored.length} scores; threshold `
    + `${three(state.threshold)}: ${count(flagged)} at or above it`);
}

function share(part, whole) {
  return whole ? `${(100 * part / whole).toFixed(1)}% (${part} of ${whole})` : '–';
}

function drawCounts() {
  const items = [['flag', count(flagged), `${BAD}: at or above the threshold`],
    ['', scored.length - count(flagged), `${GOOD}: below it`]];
  if (known.review) items.push(['', count(doubtful), "to review: just below the run's threshold"]);
  if (labelled) {
    const [found, bad] = [count((row) => row.truth === 1 && flagged(row)), count((row) => row.truth === 1)];
    const [alarms, good] = [count(SHOWN.alarms[1]), count((row) => row.truth === 0)];
    items.push(['', share(found, bad), `TPR: anomalous images that are ${BAD}`]);
    items.push(['', share(alarms, good), `FPR: normal images that are ${BAD}`]);
    items.push(['', bad - found, `missed: anomalous images that are ${GOOD}`]);
  }
  const failed = count((row) => Boolean(row.error));
  if (failed) items.push(['', failed, 'with a problem']);
  byId('counts').replaceChildren(...items.map(([kind, value, text]) => make('li', {className: kind},
    make('b', {}, String(value)), make('span', {}, text))));
}

function drawThreshold(typing) {
  slider.value = state.threshold;
  slider.setAttribute('aria-valuetext', `${three(state.threshold)}, ${count(flagged)} ${BAD}`);
  if (!typing) figure.value = Number(state.threshold.toFixed(4));
}

let waiting = false;
function setThreshold(value, typing = false) {
  if (!Number.isFinite(value)) return;
  state.threshold = value;
  drawThreshold(typing);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawHistogram(); drawCounts(); thresholdMoved(); });
}

function startHistogram() {
  const names = labelled ? ['normal', 'anomalous'] : [GOOD, BAD];
  byId('legend').replaceChildren(...names.map((name, part) => make('li', {},
    make('i', {className: part ? 'fill-flag' : 'fill-normal'}), name)));
  drawHistogram();
  drawCounts();
  if (!scored.length) { byId('scores').querySelector('.threshold').hidden = true; return; }
  Object.assign(slider, {min: LOW, max: TOP});
  byId('threshold-start').textContent = three(data.threshold);
  drawThreshold(false);
  slider.addEventListener('input', () => setThreshold(Number(slider.value)));
  figure.addEventListener('input', () => figure.value && setThreshold(Number(figure.value), true));
  byId('threshold-reset').addEventListener('click', () => setThreshold(data.threshold));
  new ResizeObserver(drawHistogram).observe(svg);
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const place = (event.clientX - box.left - EDGE) / (box.width - 2 * EDGE);
    const part = Math.min(1, Math.max(0, place));
    setThreshold(Math.round(1000 * (LOW + part * (TOP - LOW))) / 1000);
  };
  svg.addEventListener('pointerdown', (event) => { svg.setPointerCapture(event.pointerId); point(event); });
  svg.addEventListener('pointermove', (event) => { if (event.buttons & 1) point(event); });
}

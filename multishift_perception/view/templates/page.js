// SPDX-License-Identifier: Apache-2.0
// Asks for the state twice a second, and shows a stream for each tile that is seen.
'use strict';

const KINDS = ['overlay', 'labels', 'score', 'mask'];
const POLL_MS = 500;
const RETRY_MS = 1000;
// Browsers open six connections to a server. Further tiles take single pictures in turn, so that
// the state, the slider and another window get through.
const MOST_STREAMS = 4;
// What the server says of the threshold is older than what was set so long ago.
const SETTLE_MS = 1500;

const byId = (id) => document.getElementById(id);
const tiles = new Map();
let connected = false;
let listsAreFree = false;

class Tile {
  constructor(name) {
    this.name = name;
    this.element = byId('tile').content.firstElementChild.cloneNode(true);
    this.image = this.find('img');
    this.box = this.find('rect');
    this.find('h2').textContent = name;
    this.element.setAttribute('aria-label', `camera ${name}`);
    this.kind = localStorage.getItem(`kind ${name}`) || 'overlay';
    this.visible = false;
    this.loading = '';
    this.asked = 0;
    this.addKinds();
    this.find('.anomalies').open = listsAreFree;
    const picture = this.find('.picture');
    picture.addEventListener('click', () => {
      picture.setAttribute('aria-pressed', this.element.classList.toggle('wide'));
    });
    this.image.addEventListener('load', () => this.loading === 'jpg' && this.load());
    this.image.addEventListener('error', () => this.loading && setTimeout(() => this.again(), RETRY_MS));
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  addKinds() {
    for (const kind of KINDS) {
      const label = document.createElement('label');
      const input = document.createElement('input');
      Object.assign(input, { type: 'radio', name: `kind ${this.name}`, value: kind, checked: kind === this.kind });
      input.addEventListener('change', () => {
        this.kind = kind;
        localStorage.setItem(`kind ${this.name}`, kind);
        this.again();
      });
      const text = document.createElement('span');
      text.textContent = kind[0].toUpperCase() + kind.slice(1);
      label.append(input, text);
      this.find('.kinds').append(label);
    }
  }

  // Look at the picture in this way, 'mjpg' or 'jpg', or '' for not at all.
  look(way) {
    if (way === this.loading) return;
    this.loading = way;
    this.load();
  }

  again() {
    if (this.loading) this.load();
  }

  load() {
    this.image.alt = `${this.kind} of camera ${this.name}`;
    if (!this.loading) {
      this.image.removeAttribute('src');
      return;
    }
    this.asked += 1;
    const name = encodeURIComponent(this.name);
    this.image.src = `cameras/${name}/${this.kind}.${this.loading}?n=${this.asked}`;
  }

  show(camera) {
    const level = this.find('.level');
    level.dataset.level = camera.level;
    level.textContent = camera.level;
    this.find('.message').textContent = camera.message;
    const age = this.find('.age');
    age.textContent = seconds(camera.age);
    age.classList.toggle('old', camera.age > 1);
    this.find('.rate').textContent = `${camera.rate.toFixed(1)} Hz`;
    this.find('.processed').textContent = camera.processed.toLocaleString('en');
    this.showDropped(camera.dropped);
    this.showShift(camera.shift);
    this.showRegions(camera);
  }

  showShift({ covariate, semantic }) {
    const look = this.find('.covariate');
    look.parentElement.hidden = covariate === null;
    look.classList.toggle('old', covariate > 1);
    look.textContent = covariate?.toFixed(2) ?? '';
    const ground = this.find('.semantic');
    ground.parentElement.hidden = semantic === null;
    ground.textContent = semantic === null ? '' : `${(100 * semantic).toFixed(1)} %`;
  }

  showDropped(dropped) {
    const causes = Object.entries(dropped);
    const total = causes.reduce((sum, [, count]) => sum + count, 0);
    const text = document.createElement('small');
    text.textContent = causes.map(([cause, count]) => ` ${count.toLocaleString('en')} ${cause}`).join(',');
    this.find('.dropped').replaceChildren(total.toLocaleString('en'), text);
  }

  showRegions(camera) {
    const regions = camera.regions || [];
    this.find('.count').textContent = camera.region_count ?? '';
    if (!camera.size) return;
    this.find('svg').setAttribute('viewBox', `0 0 ${camera.size.join(' ')}`);
    const rows = this.find('tbody');
    while (rows.rows.length > regions.length) rows.lastElementChild.remove();
    while (rows.rows.length < regions.length) rows.append(this.newRow());
    regions.forEach((region, index) => fill(rows.rows[index], region));
    // What is pointed at may be another region now, or none.
    this.outline(rows.querySelector('tr:focus, tr:hover'));
  }

  newRow() {
    const row = document.createElement('tr');
    row.tabIndex = 0;
    const score = row.insertCell();
    score.append(Object.assign(document.createElement('meter'), { max: 1 }), '');
    for (let i = 0; i < 4; i += 1) row.insertCell();
    for (const event of ['mouseenter', 'focus']) row.addEventListener(event, () => this.outline(row));
    for (const event of ['mouseleave', 'blur']) row.addEventListener(event, () => this.outline(null));
    return row;
  }

  outline(row) {
    const [x, y, width, height] = row ? row.box : [0, 0, 0, 0];
    for (const [name, value] of Object.entries({ x, y, width, height })) this.box.setAttribute(name, value);
    this.box.style.visibility = row ? 'visible' : 'hidden';
  }
}

function fill(row, region) {
  const [left, top, width, height] = region.box;
  row.box = region.box;
  const [score, mean, size, place, area] = row.cells;
  score.firstChild.value = region.max_score;
  score.lastChild.data = region.max_score.toFixed(2);
  mean.textContent = region.mean_score.toFixed(2);
  size.textContent = `${width} × ${height}`;
  place.textContent = `${left}, ${top}`;
  area.textContent = region.area.toLocaleString('en');
}

function seconds(age) {
  if (age === null) return '–';
  return age < 1 ? `${Math.round(1000 * age)} ms` : `${age.toFixed(1)} s`;
}

function say(level, text) {
  byId('notice').dataset.level = level;
  byId('notice').textContent = text;
}

// Only what is on the screen is looked at.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) tiles.get(entry.target.dataset.name).visible = entry.isIntersecting;
  lookAround();
}, { rootMargin: '100px' });

function lookAround() {
  let streams = 0;
  for (const tile of tiles.values()) {
    if (!tile.visible || document.hidden || !connected) tile.look('');
    else tile.look(streams++ < MOST_STREAMS ? 'mjpg' : 'jpg');
  }
}

function showClasses(classes) {
  const list = byId('classes');
  const text = JSON.stringify(classes);
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(...[...classes, { name: 'anomalous' }].map(({ name, color }) => {
    const item = document.createElement('li');
    const swatch = document.createElement('i');
    if (color) swatch.style.background = `rgb(${color.join(' ')})`;
    item.append(swatch, name);
    return item;
  }));
}

function showCameras(cameras) {
  for (const camera of cameras) {
    if (!tiles.has(camera.name)) {
      const tile = new Tile(camera.name);
      tile.element.dataset.name = camera.name;
      tiles.set(camera.name, tile);
      byId('tiles').append(tile.element);
      seen.observe(tile.element.querySelector('.picture').parentElement);
    }
    tiles.get(camera.name).show(camera);
  }
  for (const [name, tile] of tiles) {
    if (cameras.some((camera) => camera.name === name)) continue;
    tile.look('');
    seen.unobserve(tile.element);
    tile.element.remove();
    tiles.delete(name);
  }
}

async function poll() {
  if (!document.hidden) {
    const open = [...tiles.values()].filter((tile) => tile.visible && tile.find('.anomalies').open);
    const query = new URLSearchParams(open.map((tile) => ['list', tile.name]));
    try {
      const answer = await fetch(`state?${query}`, { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(await answer.text());
      const state = await answer.json();
      connected = true;
      listsAreFree = state.lists_are_free;
      document.title = `${state.title} · multishift view`;
      byId('title').textContent = state.title;
      showClasses(state.classes);
      threshold.follow(state.threshold);
      if (!threshold.refused) say(state.level, state.message);
      showCameras(state.cameras);
    } catch (error) {
      connected = false;
      say('ERROR', `no answer from multishift view: ${error.message}`);
    }
    lookAround();
  }
  setTimeout(poll, POLL_MS);
}

// Sends the newest value alone, and waits for an answer before the next.
const threshold = {
  slider: byId('threshold'),
  value: byId('value'),
  waiting: null,
  isSending: false,
  changed: -Infinity,
  refused: false,

  follow(value) {
    this.slider.disabled = value === null;
    if (this.isSending || performance.now() - this.changed < SETTLE_MS) return;
    if (value !== null) this.slider.value = value;
    this.value.textContent = value === null ? '–' : value.toFixed(2);
  },

  async send() {
    this.waiting = this.slider.valueAsNumber;
    this.value.textContent = this.waiting.toFixed(2);
    this.changed = performance.now();
    if (this.isSending) return;
    this.isSending = true;
    while (this.waiting !== null) {
      const body = JSON.stringify({ threshold: this.waiting });
      this.waiting = null;
      try {
        const headers = { 'Content-Type': 'application/json' };
        const answer = await fetch('threshold', { method: 'POST', headers, body });
        this.refused = !answer.ok;
        if (this.refused) say('ERROR', await answer.text());
      } catch (error) {
        this.refused = false;
      }
    }
    this.isSending = false;
    if (this.refused) {
      this.changed = -Infinity;
      setTimeout(() => { this.refused = false; }, 4000);
    }
  },
};

threshold.slider.addEventListener('input', () => threshold.send());
document.addEventListener('visibilitychange', lookAround);
poll();

'use strict';
const byId = (id) => document.getElementById(id);

// Enlarges a picture; the arrow keys go through the parts of its frame.
const zoom = byId('zoom');
let enlarged = null;
function enlarge(part) {
  enlarged = part;
  const image = zoom.querySelector('img');
  image.src = part.querySelector('img').src;
  image.alt = zoom.querySelector('p').textContent = part.dataset.what;
  if (!zoom.open) zoom.showModal();
}
document.addEventListener('click', (event) => {
  const part = event.target.closest('.part');
  if (part) enlarge(part);
  else if (event.target === zoom) zoom.close();
});
byId('close').addEventListener('click', () => zoom.close());
zoom.addEventListener('keydown', (event) => {
  const step = { ArrowLeft: 'previousElementSibling', ArrowRight: 'nextElementSibling' }[event.key];
  const next = step && enlarged[step];
  if (!next) return;
  enlarge(next);
  event.preventDefault();
});
// A picture of the slider may have been changed for another meanwhile.
zoom.addEventListener('close', () => enlarged.focus());

// Steps through the frames of the drive.
const stills = [...document.querySelectorAll('.still')];
if (stills.length) {
  const slider = byId('slider'), camera = byId('camera'), play = byId('play');
  const timeline = byId('timeline'), cursor = byId('cursor');
  const { left, right, start, end } = Object.fromEntries(
    Object.entries(timeline.dataset).map(([key, value]) => [key, Number(value)]));
  let shown = stills[0], ours = [], timer = null;

  const time = (still) => Number(still.dataset.time);
  function show(number) {
    shown.hidden = true;
    shown = ours[Math.min(Math.max(number, 0), ours.length - 1)];
    shown.hidden = false;
    slider.value = ours.indexOf(shown);
    slider.setAttribute('aria-valuetext', shown.querySelector('figcaption').textContent.trim());
    const place = left + (right - left) * (time(shown) - start) / (end - start);
    cursor.style.left = `${100 * place}%`;
    cursor.hidden = false;
  }
  function showAt(seconds) {
    const distances = ours.map((still) => Math.abs(time(still) - seconds));
    show(distances.indexOf(Math.min(...distances)));
  }
  function take() {
    ours = stills.filter((still) => !camera || still.dataset.camera === camera.value);
    slider.max = ours.length - 1;
    showAt(time(shown));
  }
  function run(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => {
      if (ours.indexOf(shown) === ours.length - 1) run(false);
      else show(ours.indexOf(shown) + 1);
    }, 250) : null;
    play.textContent = on ? 'Pause' : 'Play';
    play.setAttribute('aria-label', play.textContent);
    play.setAttribute('aria-pressed', on);
  }

  slider.addEventListener('input', () => { run(false); show(Number(slider.value)); });
  byId('back').addEventListener('click', () => { run(false); show(ours.indexOf(shown) - 1); });
  byId('forth').addEventListener('click', () => { run(false); show(ours.indexOf(shown) + 1); });
  play.addEventListener('click', () => {
    if (timer === null && ours.indexOf(shown) === ours.length - 1) show(0);
    run(timer === null);
  });
  timeline.addEventListener('click', (event) => {
    const box = timeline.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    run(false);
    showAt(start + share * (end - start));
  });
  if (camera) camera.addEventListener('change', take);
  take();
}

import { element, events, featurePath, model, number, post, recorded, search, shaded, visible } from '/api.js';
import { exercises } from '/exercises.js';

const $ = id => document.getElementById(id);
const CHOICES = [
  ['Scripture that says “thou” and “thy”', true, 'Right. Nine tenths of its activation lie in scripture, on and around “thou”, “thee” and “thy”.'],
  ['Old names', false, 'Not quite: “Moses” stands in the last example and it hardly fires there.'],
  ['Prayers', false, 'Partly: prayers say “thou” often. But it fires in commands and stories too, wherever “thou” is.'],
  ['Questions', false, 'No: the third example is a question, and it does not fire there.'],
];
const KEY = 'kernelscope.steps';

let served, source, largestTask = 0, running;

start().catch(error => { $('about').textContent = `The server does not answer as expected: ${error.message}`; });

async function start() {
  served = await model();
  const sources = served.sourceSets.flatMap(s => s.sources.map(x => x.id));
  source = new URLSearchParams(location.search).get('source') ?? sources.find(s => s === '3-demo-res-2k__l0-19') ?? sources[0];
  $('about').textContent = `Model ${served.id}, ${served.layers} layers. Source: ${source}.`;
  $('task-link').href = featurePath(served.id, source, exercises.task);
  search(served.id);
  steps();
  microscope();
  analyze();
  await steering();
  if (recorded) {
    for (const input of document.querySelectorAll('main textarea, #steer-feature, #strength'))
      input.disabled = true;
  }
  $('command').textContent = `kernelscope features "She loved the river more than anything."\nkernelscope generate "Once upon a time there lived a miller who had a child called" --sae res.3.2k.l0_19 --steer 69=+10 --baseline\nkernelscope dash --features 1738,320 --text-file demo --html page.html`;
  $('curl').textContent = `curl ${recorded ? 'http://127.0.0.1:3000' : location.origin}/api/search-topk-by-token -H 'Content-Type: application/json' \\\n  -d '{"modelId":"${served.id}","source":"${source}","text":"She loved the river."}'`;
}

function steps() {
  const open = new Set(JSON.parse(sessionStorage.getItem(KEY) ?? '[]'));
  for (const id of open)
    $(id)?.removeAttribute('hidden');
  for (const button of document.querySelectorAll('[data-next]')) {
    button.addEventListener('click', () => {
      const next = $(button.dataset.next);
      open.add(next.id);
      sessionStorage.setItem(KEY, JSON.stringify([...open]));
      next.hidden = false;
      const heading = next.querySelector('h2');
      heading.tabIndex = -1;
      heading.focus();
      next.scrollIntoView();
    });
  }
}

// ---- 1
function microscope() {
  for (const [name, text] of [...exercises.themes, ...(recorded ? exercises.recorded : []), ['Any', null]])
    $('themes').append(element('button', { type: 'button', onclick: () => look(text ?? exercises.themes[Math.floor(Math.random() * exercises.themes.length)][1]) }, name));
  $('own').addEventListener('submit', event => { event.preventDefault(); look($('text').value); });
  $('dense').addEventListener('change', () => look($('text').value));
  look(exercises.themes[0][1]);
}

async function look(text) {
  if (!text.trim())
    return;
  $('text').value = text;
  $('microscope-status').textContent = 'Reading…';
  running?.abort();
  running = new AbortController();
  try {
    const started = performance.now();
    const answer = await post('/api/search-topk-by-token', { modelId: served.id, source, text, numResults: 5, ignoreBos: true, densityThreshold: $('dense').checked ? -1 : exercises.dense }, running.signal);
    $('microscope-status').textContent = `${answer.results.length} tokens, ${Math.round(performance.now() - started)} ms`;
    showTokens(answer.results, text);
    await task(text);
  } catch (error) {
    if (error.name !== 'AbortError')
      $('microscope-status').textContent = error.message;
  }
}

function showTokens(results, text) {
  const most = Math.max(...results.map(r => r.topFeatures[0]?.activationValue ?? 0));
  const buttons = results.map(result => {
    const button = element('button', { type: 'button', class: 'tok', 'aria-pressed': 'false' }, visible(result.token));
    button.style.setProperty('--a', (result.topFeatures[0]?.activationValue ?? 0) / most * .5);
    const choose = () => {
      for (const other of buttons)
        other.setAttribute('aria-pressed', String(other === button));
      showFeatures(result, text, buttons);
    };
    button.addEventListener('click', choose);
    button.addEventListener('mouseenter', choose);
    button.addEventListener('focus', choose);
    return button;
  });
  $('microscope-tokens').replaceChildren(...buttons);
  // The page begins with something to read: the token most of whose features have labels, the strongest of such.
  const labels = r => r.topFeatures.filter(f => f.feature?.explanations?.length > 0).length;
  const order = results.map((r, i) => [labels(r), r.topFeatures[0]?.activationValue ?? 0, i]).sort((a, b) => b[0] - a[0] || b[1] - a[1]);
  if (order[0]?.[1] > 0)
    buttons[order[0][2]].dispatchEvent(new Event('mouseenter'));
  else
    $('microscope-features').replaceChildren(element('p', { class: 'dim' }, 'No feature fires here.'));
}

function showFeatures(result, text, buttons) {
  const rows = result.topFeatures.map(f => featureRow(f.featureIndex, f.activationValue, result.topFeatures[0].activationValue, f.feature?.explanations?.[0]?.description, async () => {
    const answer = await post('/api/activation/new', { feature: { modelId: served.id, layer: source, index: String(f.featureIndex) }, customText: text });
    const most = Math.max(answer.maxValue, 1e-9);
    buttons.forEach((b, i) => { b.style.setProperty('--a', answer.values[i] / most * .75); b.title = number(answer.values[i] ?? 0); });
  }));
  $('microscope-features').replaceChildren(element('p', {}, 'Features on “', element('strong', {}, visible(result.token)), '”:'), element('ul', { class: 'features' }, ...rows));
}

function featureRow(index, value, most, label, show) {
  const bar = element('span', { class: 'bar' });
  bar.style.setProperty('--w', Math.min(1, value / most));
  const row = element('li', {}, element('a', { href: featurePath(served.id, source, index) }, String(index)),
    element('span', { class: 'what' }, element('span', { class: 'num' }, number(value)), ` ${label ?? ''}`), bar);
  if (show)
    row.append(element('button', { type: 'button', class: 'tok', onclick: show, onfocus: show, onmouseenter: show }, 'show in the text'));
  return row;
}

async function task(text) {
  const answer = await post('/api/activation/new', { feature: { modelId: served.id, layer: source, index: String(exercises.task) }, customText: text });
  largestTask = Math.max(largestTask, answer.maxValue);
  $('task').className = largestTask > 10 ? 'good' : '';
  $('task').textContent = `Its value on this text: ${number(answer.maxValue)}; the largest so far: ${number(largestTask)}${largestTask > 10 ? '. Done!' : '.'}`;
}

// ---- 2
async function analyze() {
  $('choices').replaceChildren(...CHOICES.map(([text, right, why]) => element('button', { type: 'button', class: 'choice', onclick: event => {
    for (const other of $('choices').children)
      other.setAttribute('aria-pressed', String(other === event.currentTarget));
    $('answer').className = right ? 'good' : 'note';
    $('answer').textContent = why;
  } }, text)));
  $('puzzles').replaceChildren(...exercises.puzzles.map(([index, text]) => puzzle(index, text)));
  try {
    await shade($('analyze-examples'), exercises.analyze.feature, exercises.analyze.texts);
    await shade($('wrong'), exercises.wrong.feature, exercises.wrong.texts);
    $('wrong').append(element('p', {}, 'The hero of the second tale is a boy, and “anything” fires all the same: the feature also marks this turn of a tale, whoever its hero is.'));
  } catch (error) {
    $('analyze-examples').textContent = error.message;
  }
}

async function shade(place, index, texts) {
  const answers = await post('/api/activation/new', { feature: { modelId: served.id, layer: source, index: String(index) }, customText: texts });
  const most = Math.max(...answers.map(a => a.maxValue), 1e-9);
  place.replaceChildren(...answers.map(a => element('p', { class: 'tokens' }, element('small', {}, `${number(a.maxValue)}  `), ...shaded(a.tokens, a.values, most))));
}

function puzzle(index, text) {
  const input = element('textarea', { id: `puzzle-${index}`, rows: 2, maxlength: 250 });
  input.value = text;
  const output = element('div', { 'aria-live': 'polite' }), label = element('p', { role: 'status' });
  return element('div', {},
    element('label', { for: `puzzle-${index}` }, 'Feature ', element('a', { href: featurePath(served.id, source, index) }, String(index))),
    input,
    element('div', { class: 'row' },
      element('button', { type: 'button', onclick: () => shade(output, index, [input.value]).catch(e => { output.textContent = e.message; }) }, 'Test'),
      element('button', { type: 'button', onclick: async () => {
        const row = await post('/api/features', [{ modelId: served.id, layer: source, index: String(index) }]);
        label.textContent = row[0].explanations[0]?.description ?? 'Nobody has labelled it.';
      } }, 'Reveal the label')),
    output, label);
}

// ---- 3
async function steering() {
  const presets = await post('/api/steer/presets', { modelId: served.id });
  const set = preset => {
    $('prompt').value = preset.prompt;
    $('steer-feature').value = preset.features[0].index;
    $('strength').value = preset.features[0].strength;
    $('strength').dispatchEvent(new Event('input'));
  };
  $('strength').addEventListener('input', () => { $('strength-out').textContent = $('strength').value; });
  $('presets').append(...presets.map(p => element('button', { type: 'button', onclick: () => set(p) }, p.name)));
  set(presets[0] ?? { prompt: 'Once upon a time', features: [{ index: 0, strength: 10 }] });
  const asked = new URLSearchParams(location.search).get('steer');
  if (asked) {
    $('steer-feature').value = asked;
    $('steer').hidden = false;
    $('steer').scrollIntoView();
  }
  let writing;
  $('stop').addEventListener('click', () => writing?.abort());
  addEventListener('pagehide', () => writing?.abort());
  $('steer-form').addEventListener('submit', async event => {
    event.preventDefault();
    writing?.abort();
    writing = new AbortController();
    const mine = writing;
    $('stop').disabled = false;
    $('steer-status').textContent = 'Writing…';
    $('broken').hidden = true;
    const edit = { sae: source, feature: Number($('steer-feature').value), mode: 'steer', value: Number($('strength').value), at: 'all_but_bos' };
    try {
      await Promise.all([write('plain-text', [], mine.signal), write('steered-text', [edit], mine.signal)]);
      $('steer-status').textContent = 'Done.';
    } catch (error) {
      $('steer-status').textContent = error.name === 'AbortError' ? 'Stopped.' : error.message;
    } finally {
      if (mine === writing)
        $('stop').disabled = true;
    }
  });
}

async function write(place, edits, signal) {
  const steers = edits.length > 0;
  $(place).textContent = '';
  const body = { model: served.id, prompt: $('prompt').value, max_tokens: exercises.new_tokens, temperature: 0, stream: true, kernelscope: { edits, features: { sae: source, top: 5 } } };
  for await (const chunk of events('/v1/completions', body, signal)) {
    if (chunk.error)
      throw new Error(chunk.error.message);
    const choice = chunk.choices[0];
    $(place).textContent += choice.text;
    const features = choice.kernelscope?.features?.[0]?.features;
    if (steers && features?.length > 0)
      $('live').replaceChildren(...features.map(f => featureRow(f.index, f.activation, features[0].activation, f.label)));
  }
  if (steers)
    $('broken').hidden = !repeats($(place).textContent);
}

/** Whether the end of a text says one word, or one group of up to eight, three times. */
function repeats(text) {
  const words = text.trim().split(/\s+/);
  for (let size = 1; size <= 8; size++) {
    const end = words.slice(-size).join(' ');
    if (words.length >= 3 * size && words.slice(-2 * size, -size).join(' ') === end && words.slice(-3 * size, -2 * size).join(' ') === end)
      return true;
  }
  return false;
}

// Answers that were recorded when this copy was made, in the place of a server. Scripts bring them, because pages from files may load nothing else.
globalThis.KernelScopeRecorded = (() => {
  'use strict';
  const MISSING = 'This copy has recorded answers only. “kernelscope serve” answers anything, on your own machine.';
  const features = new Map();
  let ready, read = new Promise(resolve => { ready = resolve; });
  document.documentElement.classList.add('recorded');
  addEventListener('hashchange', () => location.reload());

  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
    return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text());
  }

  const fold = text => text.toLowerCase().normalize('NFD').replace(/\p{M}/gu, '');

  /** Labels that have all words of a query. */
  function search(labels, query) {
    const words = fold(query).split(/\s+/).filter(w => w.length > 0);
    const results = labels.filter(l => words.every(w => fold(l.description).includes(w)));
    return { resultsCount: results.length, results };
  }

  async function recorded(path, body) {
    const { answers, labels } = await read;
    if (path === '/api/explanation/search')
      return search(labels, body.query);
    const answer = answers[`${path} ${JSON.stringify(body)}`];
    if (answer === undefined)
      throw new Error(MISSING);
    return answer;
  }

  return {
    load(packed) { unpack(packed).then(ready); },
    feature(name, packed) { features.set(name, packed); },
    post: recorded,
    /** The features that have a page here, ascending. */
    features: async () => (await read).features,
    /** The row of /api/feature/{model}/{source}/{index}. */
    get(path) {
      const name = path.split('/').slice(-2).map(decodeURIComponent).join('/');
      return new Promise((resolve, reject) => {
        const script = document.createElement('script');
        script.src = `data/${name}.js`;
        script.onload = () => unpack(features.get(name)).then(resolve, reject);
        script.onerror = () => reject(new Error(`This copy has no page of feature ${name}. “kernelscope serve” shows every feature.`));
        document.head.append(script);
      });
    },
    async *events(path, body, signal) {
      for (const frame of await recorded(path, body)) {
        await new Promise(resolve => setTimeout(resolve, 25));
        signal?.throwIfAborted();
        yield frame;
      }
    },
  };
})();

// A browser starts no worker from a disk, and the theme searches in one. From a disk a hidden frame
// of the same origin runs the worker's script instead. The theme's plugin "offline" would fetch such
// a file from another machine; it takes this one, by its name (mkdocs.yml).
if (location.protocol === 'file:') {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.ready = new Promise((done, failed) => {
        const frame = document.createElement('iframe');
        frame.hidden = true;
        frame.addEventListener('load', () => {
          const inside = frame.contentWindow;
          const script = inside.document.createElement('script');
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent('message', { data }));
          script.onload = () => done(inside);
          script.onerror = failed;
          script.src = url;
          inside.document.body.append(script);
        }, { once: true });
        document.body.append(frame);
      });
    }

    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent('message', { data })));
    }
  };
}

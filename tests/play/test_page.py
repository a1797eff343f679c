"""The page in a browser: it draws, reacts, plays and guides; it keeps what it is given to itself,
and shows hostile text as text.
"""

import base64
import json

import pytest

PRESETS = ["optimum", "hacking", "runaway", "displacement", "loud", "length"]
WATCH = (
    "[...document.querySelectorAll('svg.plot')].map((one) => one.closest('section').id +"
    " one.innerHTML)"
)


def table(page):
    """The numbers that the page shows: {column: {row's first letter: text}}."""
    page.run("document.querySelector('#numbers').open = true")
    page.until("document.querySelector('#numbers table') !== null")
    rows = page.run(
        "[...document.querySelectorAll('#numbers tr')].map((row) => [...row.children].map((cell) =>"
        " cell.textContent))"
    )
    head, *body = rows
    return {name: {row[0][:4].strip(): row[k] for row in body} for k, name in enumerate(head) if k}


def move(page, panel, name, value):
    """Drag a slider of a panel, or set its box, as a reader does; value in 0 … 400 for sliders."""
    page.run(
        f"""(() => {{
        const panel = document.querySelector('#panel-{panel}');
        const input = panel.querySelector('.{name} input, .toggle input');
        if (input.type === 'checkbox') input.click();
        else {{
          input.value = {value};
          input.dispatchEvent(new Event('input')); input.dispatchEvent(new Event('change'));
        }} }})()"""
    )


def frames(page, count=2):
    page.run(
        f"(async () => {{ for (let k = 0; k < {count}; k++) await new"
        " Promise(requestAnimationFrame); })()"
    )


def whole(page):
    """All panels in view at once, so that all are drawn."""
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=1440,
        height=6000,
        deviceScaleFactor=1,
        mobile=False,
    )
    page.until("[...document.querySelectorAll('svg.plot')].every((one) => one.children.length > 0)")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_opens_from_its_link(page, preset):
    shown = page(f"#preset={preset}")
    assert (
        shown.run("document.querySelector('#presets [aria-pressed=true]').dataset.preset") == preset
    )
    assert len(shown.run("document.querySelector('#claim').textContent")) > 40


def test_inside_another_page_the_header_gives_way(browser, built, tmp_path):
    """A page of the documentation has its own heading; the presets and the panels stay."""
    around = tmp_path / "around.html"
    frame = built.read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
    around.write_text(f'<!doctype html><meta charset="utf-8"><iframe srcdoc="{frame}"></iframe>')
    browser.call("Page.navigate", url=around.as_uri())
    inside = "document.querySelector('iframe')?.contentDocument"
    browser.until(f"{inside}?.querySelector('#story')?.textContent.length > 0")
    hidden = f"getComputedStyle({inside}.querySelector('%s')).display === 'none'"
    assert browser.run(hidden % "header") and not browser.run(hidden % "nav")


def test_what_the_page_shows_is_what_was_computed(page):
    """Displacement, seen: DPO says C 100 % of the time; at π* it would be 0."""
    found = table(page("#preset=displacement"))
    assert (found["DPO"]["C Ye"], found["DPO"]["A No"], found["π*"]["C Ye"]) == (
        "100 %",
        "0 %",
        "0 %",
    )
    found = table(page(""))
    assert found["DPO"]["A Fr"] == found["RLHF"]["A Fr"] == found["π*"]["A Fr"] == "64 %"


# panel: its slider, and how the panels must answer; every panel is moved by something
REACTS = {
    "comparisons": ("noise", 300, {"learned", "pull", "policies", "plane"}),
    "learned": ("comparisons", 60, {"learned", "hacking", "policies"}),
    "hacking": (
        "beta",
        100,
        {"policies", "plane", "pull", "margins", "kto", "hacking", "learned", "displacement"},
    ),
    "margins": ("deterministic", 0, {"margins", "learned", "policies"}),
    "kink": ("dpopPenalty", 380, {"kink"}),
    "kto": ("lambdaU", 350, {"kto", "policies", "plane"}),
    "odds": ("orpoWeight", 350, {"odds", "policies", "lengths"}),
    "boundaries": ("gammaRatio", 200, {"boundaries", "policies", "lengths"}),
    "lengths": ("lengthBias", 380, {"lengths", "policies", "learned"}),
    "world": ("rate", 300, {"policies", "plane", "displacement"}),
}


@pytest.mark.parametrize("panel", REACTS)
def test_every_panel_answers(page, panel):
    name, value, moved = REACTS[panel]
    shown = page("")
    whole(shown)
    before = shown.run(WATCH)
    move(shown, panel, name, value)
    frames(shown)
    after = shown.run(WATCH)
    changed = {
        new.split("<")[0].removeprefix("panel-")
        for old, new in zip(before, after, strict=True)
        if old != new
    }
    assert moved <= changed


def test_undo_a_link_and_a_left_out_pair(page):
    shown = page("")
    whole(shown)
    start = shown.run(WATCH)
    shown.run("document.querySelector('.matrix button').click()")
    frames(shown)
    assert (
        shown.run("document.querySelector('.matrix button').getAttribute('aria-pressed')")
        == "false"
    )
    assert shown.run(WATCH) != start and shown.run("location.hash").startswith("#s=")
    changed = shown.run(WATCH)
    link = shown.run("location.hash")
    shown.call("Input.dispatchKeyEvent", type="keyDown", key="z", modifiers=2)
    frames(shown)
    assert shown.run(WATCH) == start and shown.run("location.hash") == "#preset=optimum"
    again = page(link)
    whole(again)
    assert again.run(WATCH) == changed


def test_the_world_can_be_changed(page):
    """Text, numbers, one answer more and one less; the letters follow."""
    shown = page("")
    shown.run("document.querySelector('#panel-world').scrollIntoView()")
    shown.until("document.querySelectorAll('#panel-world tbody tr').length === 5")
    shown.run(
        """(() => { const set = (key, value) => {
          const input = document.querySelector(`#panel-world [data-key=${key}]`);
          input.value = value;
          input.dispatchEvent(new Event('input')); input.dispatchEvent(new Event('change'));
        };
        set('text', '<b>bold</b>'); set('reward', '-4'); })()"""
    )
    frames(shown)
    found = table(shown)
    assert (
        "A <b" in found["reward"]
        and found["reward"]["A <b"] == "−4"
        and found["DPO"]["A <b"] in ("0 %", "0.1 %")
    )
    shown.run("[...document.querySelectorAll('#panel-world button')].at(-1).click()")
    shown.until("document.querySelectorAll('#panel-world tbody tr').length === 6")
    shown.run("document.querySelector('#panel-world .quiet').click()")
    shown.until("document.querySelectorAll('#panel-world tbody tr').length === 5")
    assert "A Us" in table(shown)["reward"]


def test_play_pause_and_step(page):
    """Space plays from the start; arrows go one step; at the end it stops. Motion that is unwelcome
    becomes eight pictures.
    """
    shown = page("", still=False)
    key = lambda name, **k: shown.call("Input.dispatchKeyEvent", type="keyDown", key=name, **k)  # noqa: E731
    at = lambda: int(shown.run("document.querySelector('.scrub input').value"))  # noqa: E731
    assert at() == 300
    key("ArrowLeft")
    frames(shown)
    assert at() == 299
    key("ArrowRight")
    frames(shown)
    key(" ", text=" ")
    shown.until(
        "Number(document.querySelector('.scrub input').value) < 200 &&"
        " document.querySelector('#play').textContent.includes('Pause')"
    )
    key(" ", text=" ")
    frames(shown)
    assert "Play" in shown.run("document.querySelector('#play').textContent") and at() < 300
    key(" ", text=" ")
    shown.until("document.querySelector('#play').textContent.includes('Play')")
    frames(shown)  # the button changes before the last frame moves the scrub bar
    assert at() == 300


def test_reduced_motion_jumps(page):
    shown = page("", still=True)
    seen = shown.run(
        """new Promise((done) => { const seen = new Set(); const look = () => {
          seen.add(document.querySelector('.scrub input').value);
          const playing = document.querySelector('#play').textContent.includes('Pause');
          if (playing) requestAnimationFrame(look); else done([...seen]); };
        document.querySelector('#play').click(); requestAnimationFrame(look); })"""
    )
    frames(shown)
    assert (
        6 <= len(seen) <= 10 and shown.run("document.querySelector('.scrub input').value") == "300"
    )


def test_the_tour_asks_before_it_shows(page):
    shown = page("")
    shown.run("document.querySelector('#tour-start').click()")
    for step in range(6):
        frames(shown, 3)
        assert f"Step {step + 1} of 6" in shown.run("document.querySelector('#tour').textContent")
        assert (
            shown.run("document.querySelector('.ask').textContent").strip()
            and shown.run("document.querySelector('.scrub input').value") == "0"
        )
        assert shown.run("document.querySelectorAll('.card.look').length") == 1
        shown.run("document.querySelector('#tour .buttons button').click()")
        verdict = shown.run("document.querySelector('.verdict').textContent")
        assert (
            verdict.startswith(("Yes. ", "No. "))
            and shown.run("document.querySelectorAll('#tour .right').length") == 1
        )
        shown.run("document.querySelector('#tour .next').click()")
    assert shown.run("document.querySelector('#tour').hidden") is True


# ---------------------------------------------------------------- a stranger's files

EVIL = (
    "<img src=x"
    ' onerror="window.owned=1"><script>window.owned=2</script>javascript:alert(1)\u202e\x00'
)


def give(page, name, text):
    """Choose a file, as a reader does."""
    data = base64.b64encode(text.encode()).decode()
    page.run("document.querySelector('#panel-own-run').scrollIntoView()")
    page.run(
        f"""(() => {{ const bytes = Uint8Array.from(atob('{data}'), (c) => c.charCodeAt(0));
        const bag = new DataTransfer();
        bag.items.add(new File([bytes], {json.dumps(name)}));
        const input = document.querySelector('input[type=file]'); input.files = bag.files;
        document.querySelector('#panel-own-run .note').textContent = '';
        input.dispatchEvent(new Event('change')); }})()"""
    )
    page.until("document.querySelector('#panel-own-run .note').textContent.length > 0")


def test_hostile_text_is_inert(page):
    shown = page("")
    token = {"text": EVIL, "change": 1.0}
    give(
        shown,
        EVIL,
        json.dumps({"step": 1, "loss": 0.5, EVIL: EVIL})
        + "\n"
        + json.dumps({"step": 2, "loss": 0.4, "rewards/margins": 1.0}),
    )
    give(
        shown,
        "samples.jsonl",
        json.dumps({"step": 0, "prompt": EVIL, "asked": EVIL, "text": EVIL, "tokens": 3}),
    )
    give(
        shown,
        "pairs.json",
        json.dumps(
            {
                "improved": [
                    {
                        "gain": 1,
                        "prompt": [{"content": EVIL}],
                        "chosen": [token],
                        "rejected": [token],
                    }
                ]
            }
        ),
    )
    frames(shown)
    assert (
        shown.run(
            "document.querySelectorAll('.run img, .run script, .run a, #panel-own-run [role=status]"
            " *').length"
        )
        == 0
    )
    assert shown.run("window.owned") is None
    assert shown.run("document.querySelector('.run .pairs .heat.up2').textContent").startswith(
        "<img src=x"
    )


def test_a_runs_path_appears_on_the_same_plots(page):
    """Accuracy against KL in the plane, its margin beside the methods', its log-probs beside the
    probabilities; a bad file is said.
    """
    shown = page("")
    whole(shown)
    rows = [
        {
            "step": s,
            "loss": 0.5,
            "diag/samples_kl": s / 10,
            "eval_rewards/accuracies": 0.5 + s / 50,
            "eval_rewards/margins": s / 10,
            "diag/eval_log_ratio/chosen": -s / 10,
            "diag/eval_log_ratio/rejected": -2 * s / 10,
            "diag/eval_log_ratio_token/chosen": -s / 300,
            "diag/eval_log_ratio_token/rejected": -2 * s / 300,
        }
        for s in (0, 5, 10)
    ]
    give(shown, "metrics.jsonl", "\n".join(map(json.dumps, rows)))
    frames(shown)
    for panel in ("plane", "margins", "displacement"):
        assert "your run" in shown.run(
            f"document.querySelector('#panel-{panel} svg').textContent"
        ), panel
    assert shown.run("document.querySelectorAll('.run .charts svg').length") == 3
    give(shown, "notes.txt", "hello")
    assert "notes.txt" in shown.run("document.querySelector('#panel-own-run .note').textContent")


def test_the_picture_and_the_state_are_files(page, tmp_path):
    shown = page("#preset=displacement", dark=True)
    shown.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    shown.run("document.querySelector('#picture').click()")
    wait_for(shown, tmp_path / "dpo-vs-rlhf.png")
    data = (tmp_path / "dpo-vs-rlhf.png").read_bytes()
    assert (
        data[:8] == b"\x89PNG\r\n\x1a\n"
        and int.from_bytes(data[16:20], "big") == 2400
        and len(data) > 30_000
    )
    shown.run("document.querySelector('#save').click()")
    wait_for(shown, tmp_path / "playground.json")
    saved = json.loads((tmp_path / "playground.json").read_text(encoding="utf-8"))
    assert (
        saved["policies"]["dpo"][2] == pytest.approx(1, abs=1e-3) and saved["state"]["beta"] == 0.5
    )


def wait_for(page, file):
    for _ in range(600):
        if file.is_file():
            return
        page.run("new Promise((done) => setTimeout(done, 50))")
    raise AssertionError(f"{file.name} was never written")


# ---------------------------------------------------------------- for everyone

CONTRAST = """(() => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 })
    .getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
    .reduce((t, v, k) => t + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (!element.checkVisibility() || !texts.length) continue;
    if (element.disabled || element.matches('script, style, title, option, .letter')) continue;
    const style = getComputedStyle(element);
    const ink = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5 || Number(style.opacity) < 1) {
      const text = element.textContent.slice(0, 30);
      poor.push([text, element.getAttribute('class'), ratio.toFixed(2), style.opacity]);
    }
  }
  return poor;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_enough_to_read(page, dark):
    """WCAG 2.2 AA, 4.5 : 1, of every text on the page, tour and all."""
    shown = page("", dark=dark)
    whole(shown)
    shown.run("document.querySelector('#tour-start').click()")
    frames(shown)
    assert shown.run(CONTRAST) == []


def test_everything_has_a_name(page):
    shown = page("")
    whole(shown)
    nameless = shown.run(
        """[...document.querySelectorAll('button, input, select, svg[role=img], section')]
        .filter((e) => !(e.getAttribute('aria-label') || e.closest('label')?.textContent.trim()
        || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent
        || e.textContent.trim())).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    ids = shown.run("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert "percent" in shown.run(
        "document.querySelector('#panel-policies svg').getAttribute('aria-label')"
    )
    assert shown.run("document.querySelector('#story').textContent").startswith(
        "After 300 steps: RLHF says A 64 %"
    )


@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_screens_do_not_scroll_sideways(page, width):
    shown = page("#preset=optimum", width=width, height=800)
    assert shown.run("document.documentElement.scrollWidth") <= width


def test_eight_answers_and_no_method(page):
    """The most that fits, and the least."""
    shown = page("")
    for _ in range(3):
        shown.run("[...document.querySelectorAll('#panel-world button')].at(-1).click()")
        frames(shown)
    whole(shown)
    assert (
        shown.run("[...document.querySelectorAll('#panel-world button')].at(-1).disabled") is True
    )
    assert shown.run("document.querySelectorAll('#panel-policies .badge').length") == 8
    for _ in range(6):
        shown.run("document.querySelector('#methods [aria-pressed=true]').click()")
        frames(shown)
    assert shown.run("document.querySelectorAll('#methods [aria-pressed=true]').length") == 0

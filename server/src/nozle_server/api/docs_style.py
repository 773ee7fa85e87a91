"""The style sheet of the reading view."""

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --text: #1c2330; --quiet: #5b6575; --line: #dfe3ea; --panel: #f5f7fa;
  --page: #fff; --accent: #3451b2; --get: #18794e; --post: #3451b2; --put: #8d5a00; --delete: #b42318; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ef; --quiet: #9aa4b5; --line: #2c3442;
  --panel: #1a202b; --page: #12161d; --accent: #9db2ff; --get: #5fcf9a; --post: #9db2ff; --put: #f0b357;
  --delete: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; display: flex; color: var(--text); background: var(--page);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
nav { position: sticky; top: 0; flex: 0 0 19rem; height: 100vh; overflow-y: auto; padding: 1.5rem 1rem;
  border-right: 1px solid var(--line); background: var(--panel); font-size: .8rem; }
nav .home { font-weight: 700; font-size: 1.05rem; }
nav .home { display: block; margin-bottom: 1rem; }
nav summary { padding: .3rem 0; font-size: .88rem; font-weight: 600; cursor: pointer; }
nav .count, .core { color: var(--quiet); font-weight: 400; }
nav ul { list-style: none; margin: 0 0 .6rem; padding: 0 0 0 .9rem; }
nav li a { display: block; padding: .12rem 0; color: var(--text); overflow-wrap: anywhere; }
main { flex: 1; min-width: 0; max-width: 56rem; padding: 2rem 2.5rem 6rem; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
h1 { margin: 0 0 1rem; font-size: 2rem; }
.glance { list-style: none; margin: 1rem 0; padding: 0; font-size: .88rem; }
.glance li { padding: .15rem 0; }
.glance a { margin-right: .6rem; }
section > h2 { margin: 3rem 0 0; padding-bottom: .4rem; border-bottom: 1px solid var(--line); }
article { padding: 1.4rem 0; border-bottom: 1px solid var(--line); scroll-margin-top: 1rem; }
article h3 { margin: 0 0 .4rem; font-size: 1.15rem; }
article:target h3 { color: var(--accent); }
code, pre { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
.route code { margin-right: .5rem; padding: .1rem .35rem; border-radius: 4px; background: var(--panel); }
.verb { font: 600 .78em/1 ui-monospace, SFMono-Regular, Menlo, monospace; color: var(--accent); }
.verb.get { color: var(--get); } .verb.post { color: var(--post); }
.verb.put { color: var(--put); } .verb.delete { color: var(--delete); }
.scope { padding: .1rem .5rem; border: 1px solid var(--line); border-radius: 1rem; font-size: .75rem;
  color: var(--quiet); white-space: nowrap; }
.scope.secret { border-color: var(--delete); color: var(--delete); }
table { width: 100%; border-collapse: collapse; margin: .8rem 0; font-size: .88rem; }
th { text-align: left; color: var(--quiet); font-weight: 600; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
figure { margin: .8rem 0; }
figcaption { font-size: .78rem; color: var(--quiet); }
pre { margin: .2rem 0 0; padding: .8rem 1rem; border-radius: 6px; background: var(--panel);
  overflow: auto; max-height: 26rem; }
.errors { font-size: .85rem; color: var(--quiet); }
@media (max-width: 60rem) { body { display: block; } main { padding: 1.2rem; }
  nav { position: static; height: auto; max-height: 40vh; border-right: 0;
    border-bottom: 1px solid var(--line); } }
"""

STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

"""The style of a journey map on a screen, on a phone and on paper."""

from __future__ import annotations

from journeylab.map_curve import CURVE_STYLE

# Widths of the names of lanes, and of a stage at least.
_LANE, _STAGE, _SHEET = 124, 148, 1480
_WORDS = (
    ".jl .jl-map{container-type:inline-size;overflow-wrap:anywhere}.jl .jl-map *{box-sizing:border-box}"
    "figure.jl .jl-map p,figure.jl .jl-map ul{margin:0;padding:0;list-style:none;color:inherit}"
    ".jl .jl-v{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}"
    ".jl .jl-map .jl-title{font-size:22px;font-weight:650;line-height:1.25;letter-spacing:-.01em}"
    ".jl .jl-map .jl-base{color:var(--mute);font-size:13px;margin-top:2px}"
    ".jl .jl-map .jl-found{margin:10px 0 4px;max-width:64rem;font-size:15px;line-height:1.5}"
    ".jl .jl-found li{padding-left:14px;border-left:3px solid var(--line);margin:0 0 4px}"
    ".jl .jl-found li:first-child{border-color:var(--ink)}"
    ".jl .jl-map .jl-key{display:flex;flex-wrap:wrap;gap:2px 18px;font-size:12px;color:var(--mute);margin:12px 0 8px}"
    ".jl .jl-tops{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:20px 40px}"
    ".jl .jl-key li{display:flex;align-items:center;gap:6px;margin:0}"
    ".jl .jl-map .jl-how{max-width:72rem;margin-top:10px;color:var(--mute)}"
    ".jl .jl-badge{display:inline-block;min-width:1.5em;text-align:center;border:2px solid var(--c);border-radius:4px;"
    "font-size:12px;line-height:1.35;margin-right:6px;font-weight:650}"
)
# The grade of evidence by its shape: full, half, hollow, a dash.
_MARKS = (
    ".jl .jl-e{display:inline-block;flex:none;width:10px;height:10px;border:1.5px solid var(--ink);border-radius:50%;"
    "background:var(--bg);forced-color-adjust:none}"
    ".jl .jl-e.measured{background:var(--ink)}"
    ".jl .jl-e.stated{background:linear-gradient(90deg,var(--ink) 50%,var(--bg) 50%)}"
    ".jl .jl-e.unknown{height:0;border-width:1.5px 0 0;border-radius:0;border-color:var(--mute)}"
    ".jl .jl-ring{display:inline-block;flex:none;width:12px;height:12px;border:2px solid var(--ink);border-radius:50%;"
    "position:relative;vertical-align:-2px}"
    ".jl .jl-ring::after{content:'';position:absolute;inset:2px;border-radius:50%;background:var(--ink)}"
)
_FRAME = (
    ".jl .jl-pane{overflow:auto;max-height:94vh;max-width:100%}.jl .jl-pane:focus-visible,.jl .jl-strip:focus-visible"
    "{outline:2px solid #2698f0;outline-offset:2px}"
    ".jl table.jl-m{border-collapse:separate;border-spacing:0;table-layout:fixed;width:100%;margin:0;font-size:13px;"
    f"line-height:1.35;min-width:calc({_LANE}px + var(--stages)*{_STAGE}px);color:var(--ink)}}"
    ".jl .jl-m caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}"
    ".jl table.jl-m tbody tr,.jl table.jl-m tbody tr:hover,.jl table.jl-m thead tr"
    "{background:var(--bg)}"
    ".jl table.jl-m th,.jl table.jl-m td{border:0;text-align:left;vertical-align:top;padding:9px 10px 10px;"
    "font-weight:400;color:var(--ink);white-space:normal;max-width:none;position:relative}"
    ".jl table.jl-m tbody th,.jl table.jl-m tbody td{border-top:1px solid var(--line)}"
    ".jl table.jl-m tr.jl-b>*{border-top:1px dotted var(--line)}"
    ".jl table.jl-m tbody td+td{border-left:1px solid color-mix(in srgb,var(--line) 55%,transparent)}"
    ".jl table.jl-m tbody tr>th{position:sticky;left:0;z-index:2;background:var(--bg);font-weight:600;"
    "padding-left:2px}"
    f".jl table.jl-m .jl-c{{width:{_LANE}px;left:0;z-index:4}}"
    ".jl table.jl-m thead th{position:sticky;top:0;z-index:3;background:var(--bg);padding:0 0 8px}"
)
_HEADS = (
    ".jl .jl-m .jl-h{background:color-mix(in srgb,var(--c) 16%,var(--bg));border-top:4px solid var(--c);"
    "min-height:calc(40px + 20px*var(--marks));"
    "padding:9px 20px 8px;clip-path:polygon(0 0,calc(100% - 12px) 0,100% 50%,calc(100% - 12px) 100%,0 100%,12px 50%);"
    "height:100%}"
    ".jl .jl-m th:nth-child(2) .jl-h{clip-path:polygon(0 0,calc(100% - 12px) 0,100% 50%,calc(100% - 12px) 100%,0 100%);"
    "padding-left:10px}"
    ".jl .jl-s{display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;overflow:hidden;font-weight:650;"
    "font-size:15px;line-height:1.25}"
    ".jl .jl-mm{display:flex;align-items:center;gap:5px;font-size:12px;margin-top:3px;color:var(--ink)}"
    ".jl .jl-mm .jl-badge{margin:0;font-size:10px}"
)
_CELLS = (
    ".jl .jl-i li{margin:0 0 6px}.jl .jl-i li>div{display:flex;gap:8px;align-items:center}"
    ".jl .jl-i li>div:first-child{align-items:start;justify-content:space-between}"
    ".jl .jl-i .jl-bar{flex:1}.jl .jl-i b{font-weight:600;white-space:nowrap}"
    ".jl .jl-t{display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;overflow:hidden}"
    ".jl .jl-m small{font-size:12px;color:var(--mute);white-space:nowrap}"
    ".jl .lane-quick_wins .jl-i li>div{display:block}.jl .lane-quick_wins .jl-bar{margin:3px 0}"
    ".jl .jl-bar{display:block;height:5px;border-radius:3px;background:linear-gradient(90deg,var(--c) var(--v),"
    "color-mix(in srgb,var(--lost) 55%,transparent) var(--v));position:relative;min-width:0}"
    ".jl .jl-bar::after{content:'';position:absolute;left:var(--l);width:max(2px,calc(var(--h) - var(--l)));top:1px;"
    "bottom:1px;background:var(--ink);opacity:.55}"
    ".jl .jl-m td>.jl-bar{height:9px;margin:3px 0 6px}.jl .jl-m td>.jl-bar::after{top:3px;bottom:3px}"
    ".jl .jl-n{font-size:18px;white-space:nowrap;"
    "font-weight:650;line-height:1.2;margin-right:7px;letter-spacing:-.01em}"
    ".jl .jl-m .jl-f{display:flex;gap:6px;font-size:12px;color:var(--mute);margin-top:3px;align-items:baseline}"
    ".jl .jl-m .jl-f .jl-e{width:8px;height:8px}.jl .jl-m .jl-note{font-size:12px;color:var(--mute);margin:1px 0 0}"
    ".jl .jl-w li{display:grid;grid-template-columns:10px minmax(0,1fr);gap:0 7px;align-items:baseline;margin:0 0 4px}"
    ".jl .jl-w small{grid-column:2;white-space:normal}.jl .jl-w span,.jl .jl-w small,.jl .jl-i .jl-note"
    "{display:-webkit-box;-webkit-line-clamp:6;-webkit-box-orient:vertical;overflow:hidden}"
    ".jl table.jl-m td.jl-u{color:var(--mute);background:color-mix(in srgb,var(--lost) 16%,transparent)}"
    ".jl .jl-m .jl-why{display:flex;gap:6px;align-items:center;font-size:12px;font-weight:600;margin-top:5px;"
    "line-height:1.25}"
    ".jl .jl-alone .lane-feeling .jl-why{display:none}"
    ".jl table.jl-m td.jl-mo{box-shadow:inset 0 0 0 2px var(--ink)}"
    ".jl table.jl-m .lane-reach td{padding-top:64px;border-left-color:transparent}"
    ".jl .jl-band{position:absolute;left:-1px;top:8px;width:calc(100% + 2px);max-width:none;height:50px}"
    ".jl .jl-m td:last-child .jl-band{width:calc(100% + 1px)}"
    ".jl .jl-band path{fill:color-mix(in srgb,var(--c) 75%,var(--bg))}"
    ".jl table.jl-m .jl-curve td{padding:0;border-left:0}.jl .jl-curve svg{display:block;width:100%;height:auto}"
    ".jl .jl-curve th>span{position:absolute;left:2px;transform:translateY(-50%);display:flex;align-items:center;"
    "gap:5px;font-size:12px;font-weight:400;color:var(--mute)}.jl table.jl-m .jl-curve th svg{width:20px;flex:none}"
    ".jl table.jl-m .jl-curve+tr>*{border-top:0}"
    ".jl .jl-strip{display:none;overflow-x:auto}"
    ".jl table.jl-m .jl-none>*{padding-top:8px;padding-bottom:8px;color:var(--mute);font-size:12px;"
    "border-bottom:1px solid var(--line)}.jl .jl-none .jl-e{vertical-align:3px;margin-right:6px}"
    ".jl table.jl-m .jl-none b{color:var(--ink);font-weight:600;margin-right:6px}"
    ".jl table.jl-m .jl-line th{padding:18px 0 0 2px;border-top:0}.jl .jl-line div{display:flex;gap:24px;padding:5px 0;"
    "justify-content:space-between;border-top:2px dashed var(--mute);font-size:12px}"
    ".jl .jl-line em{font-style:normal;font-weight:400;color:var(--mute)}"
    ".jl .jl-line span{font-weight:650;letter-spacing:.06em;text-transform:uppercase}"
    ".jl .jl-m thead+tbody .jl-line div{border:0}"
)
# On a phone each stage is a card of its own, one below the other: its lanes are put in order behind its head.
_PHONE = (
    "@container(max-width:640px){.jl table.jl-m{display:flex;flex-direction:column;min-width:0}"
    ".jl .jl-pane{overflow:visible;max-height:none}"
    ".jl .jl-m thead,.jl .jl-m tbody,.jl .jl-m tr{display:contents}.jl .jl-m th,.jl .jl-m td{order:var(--o)}"
    ".jl table.jl-m tbody tr>th,.jl table.jl-m .jl-c,.jl table.jl-m td.jl-u"
    "{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);padding:0;border:0}"
    ".jl table.jl-m thead th{padding:22px 0 0;background:none}"
    ".jl .jl-m th .jl-h,.jl .jl-m th:nth-child(2) .jl-h{clip-path:none;min-height:0;padding:8px 12px;display:flex;"
    "flex-wrap:wrap;gap:0 14px;align-items:center}"
    ".jl .jl-m .lane-feeling .jl-why{display:flex!important}.jl .jl-s{font-size:17px}.jl .jl-mm{margin:0}"
    ".jl table.jl-m tbody td{border-left:0;padding:8px 12px 10px;border-top:1px solid var(--line)}"
    ".jl table.jl-m tbody td+td{border-left:0}"
    ".jl .jl-m td[data-lane]::before{content:attr(data-lane);display:block;font-size:12px;font-weight:650;"
    "color:var(--mute);margin-bottom:4px}"
    ".jl table.jl-m .lane-reach td{padding-top:8px}.jl .jl-band{display:none}"
    ".jl .jl-wide{display:none!important}.jl .jl-strip{display:block}"
    ".jl .jl-curve .jl-strip svg{width:auto;max-width:none}"
    ".jl table.jl-m .jl-curve td{order:0}.jl table.jl-m .jl-none td{order:999999;margin-top:22px;padding:10px 0}"
    "}"
)
# A page of its own kind, so that the rest of a report keeps its size.
_PAPER = (
    "@page journeymap{size:A3 landscape;margin:10mm}@media print{.jl .jl-map{page:journeymap}"
    ".jl,.jl *{print-color-adjust:exact;-webkit-print-color-adjust:exact}"
    ".jl .jl-map{zoom:var(--shrink);container-type:normal}.jl .jl-pane{overflow:visible;max-height:none}"
    ".jl table.jl-m{min-width:0}.jl table.jl-m th,.jl table.jl-m td{position:relative!important}"
    ".jl .jl-m tr{break-inside:avoid}.jl .jl-curve{break-after:avoid}.jl .jl-line{break-after:avoid}"
    ".jl .jl-strip{display:none}.jl .jl-top,.jl .jl-key{break-inside:avoid}}"
)
_STYLE = CURVE_STYLE + _WORDS + _MARKS + _FRAME + _HEADS + _CELLS + _PHONE + _PAPER


def style_map(n_stages: int) -> str:
    """Style a map of so many stages.

    Where there is room for all of them the page scrolls, and the heads stick to its window; elsewhere the map scrolls
    in a pane of its own.
    """
    broad = f"@container(min-width:{_LANE + _STAGE * n_stages}px)"
    return f"{_STYLE}{broad}{{.jl .jl-pane-{n_stages}{{overflow:visible;max-height:none}}}}"


def shrink_map(n_stages: int) -> float:
    """How much smaller must the map be for a sheet of A3 across?"""
    return min(1.0, _SHEET / (_LANE + _STAGE * n_stages))

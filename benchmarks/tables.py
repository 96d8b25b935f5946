"""Markdown tables of the documentation, made from result files; None where the results do not exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median

from . import anchors, curves, store
from .curves import Curve

REFERENCES = {
    "psnr_db": ("published/vtm-18.0", "avif-s4-psnr", "jxl-e7", "webp-m6", "jpeg-420"),
    "ssimulacra2": ("measured/vvenc-slow-420-10b", "measured/avif-s4-default", "jxl-e7", "webp-m6", "jpeg-420"),
}
RATES_BPP = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0)
GAIN_RATES_BPP = (0.2, 1.0)
EFFORT_METRICS = {"psnr": "psnr_db", "perceptual": "ssimulacra2", "preview": "psnr_db"}
METRIC_TITLES = {"psnr_db": "PSNR", "ms_ssim_db": "MS-SSIM", "ssimulacra2": "SSIMULACRA2"}


def bd_rates(results: Path) -> str | None:
    """BD-rates in PSNR of every curve that we measured, against the usual references."""
    return _bd_rates(results, "psnr_db")


def bd_rates_ssimulacra2(results: Path) -> str | None:
    """The same in SSIMULACRA2."""
    return _bd_rates(results, "ssimulacra2")


def _bd_rates(results: Path, metric: str) -> str | None:
    own = curves.of_set(results)
    if not own:
        return None
    known = {curve.name: curve for curve in [*own, *anchors.beside(results)]}
    references = [known[name] for name in REFERENCES[metric] if name in known and metric in known[name].quality]
    rows = []
    for curve in own:
        rates = [curves.bd_rate(reference, curve, metric) for reference in references]
        rows.append([curve.title, *("–" if rate is None else f"{rate:+.1f} %" for rate in rates)])
    return markdown([f"BD-rate, {METRIC_TITLES[metric]}", *(f"vs {r.title}" for r in references)], rows)


def quality_at_rates(results: Path) -> str | None:
    """PSNR of hvcodec and the common codecs at round rates."""
    own = curves.of_set(results)
    if not own:
        return None
    return markdown(["PSNR in dB at", *(f"{rate} bpp" for rate in RATES_BPP)], [_at_rates(c) for c in own])


def _at_rates(curve: Curve) -> list[str]:
    values = [curves.quality_at(curve, "psnr_db", rate) for rate in RATES_BPP]
    return [curve.title, *("–" if value is None else f"{value:.2f}" for value in values)]


def hvcodec_points(results: Path) -> str | None:
    """The points of the default profile."""
    return _points(results, "psnr")


def perceptual_points(results: Path) -> str | None:
    """Those of the perceptual one."""
    return _points(results, "perceptual")


def _points(results: Path, profile: str) -> str | None:
    """Settings, rates and the three metrics."""
    path = results / f"hvcodec-{profile}-e1.json"
    if not path.is_file():
        return None
    rows = [
        [
            f"{row['setting']:g}",
            f"{row['bpp']:.3f}",
            f"{row['psnr_db']:.2f}",
            f"{row['ms_ssim']:.4f}",
            f"{row['ssimulacra2']:.1f}",
        ]
        for row in store.read(path)["averages"]
    ]
    return markdown(["quality", "bpp", "PSNR, dB", "MS-SSIM", "SSIMULACRA2"], rows)


def speed(results: Path) -> str | None:
    """Warm times, cold times and memory of every codec at every size."""
    study = store.read_study(results, "speed")
    if study is None:
        return None
    rows = []
    for row in study["rows"]:
        cells = [f"{row['megapixels']:g}", row["label"]]
        if row.get("skipped"):
            rows.append([*cells, row["skipped"], "", "", "", ""])
            continue
        times = [row.get(name) for name in ("encode_s", "decode_s", "encode_cold_s", "decode_cold_s")]
        memory = row.get("peak_rss_mb")
        rows.append([*cells, *(seconds(value) for value in times), "–" if memory is None else f"{memory:,} MB"])
    head = ["MP", "codec", "encode", "decode", "encode, cold", "decode, cold", "peak memory"]
    return f"{study['environment']['cpu']}.\n\n{markdown(head, rows)}"


def stages(results: Path) -> str | None:
    """Milliseconds of each stage."""
    study = store.read_study(results, "stages")
    if study is None:
        return None
    rows = [[run["title"], *(seconds(value) for value in run["times_s"])] for run in study["runs"]]
    return markdown(["", *study["stages"]], rows)


def training(results: Path) -> str | None:
    """Crops per second of training, and the milliseconds of each part of a step."""
    path = results.parent / "training.json"
    if not path.is_file():
        return None
    study = store.read(path)
    names = list(study["rows"][0]["parts_ms"])
    rows = [
        [
            f"{row['batch']} crops, {row['threads']} thread{'s' if row['threads'] > 1 else ''}",
            f"{row['crops_per_s']:.1f}",
            *(seconds(row["parts_ms"].get(name, 0.0) / 1000) for name in names),
        ]
        for row in study["rows"]
    ]
    machine = study["environment"]
    bf16 = " and ".join(machine["cpu_bf16"]) or "no units for bfloat16"
    where = machine["gpu"] if study["device"] == "cuda" else f"{machine['cpu']} with {bf16}"
    return f"{where}.\n\n{markdown(['a step of', 'crops/s', *names], rows)}"


def training_kernels(results: Path) -> str | None:
    """The kernels that take most of a training step."""
    path = results.parent / "training.json"
    if not path.is_file():
        return None
    rows = [
        [f"`{row['name']}`", f"{100 * row['share']:.1f} %", seconds(row["ms"] / 1000), f"{row['calls']:,}"]
        for row in store.read(path)["kernels"]
    ]
    return markdown(["kernel", "share of a step", "time", "calls"], rows)


def calibration(results: Path) -> str | None:
    """How far our JPEG and WebP lie from the published curves."""
    study = store.read_study(results, "calibration")
    if study is None:
        return None
    rows = [
        [
            row["anchor"].partition("/")[2],
            str(row["options"]["quality"]),
            f"{row['bpp']:.3f}",
            f"{row['psnr_db']:.2f}",
            "–" if row["difference_db"] is None else f"{row['difference_db']:+.2f}",
            "–" if row["report_difference_db"] is None else f"{row['report_difference_db']:+.2f}",
        ]
        for row in study["rows"]
    ]
    head = ["published curve", "quality", "bpp", "PSNR, dB", "same settings, dB", "our curve, dB"]
    return markdown(head, rows)


def seconds(value: float | None) -> str:
    """A time with the digits that mean something."""
    if value is None:
        return "–"
    if value >= 1:
        return f"{value:.1f} s"
    return f"{1000 * value:.0f} ms" if value >= 0.01 else f"{1000 * value:.1f} ms"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def context(results: Path) -> str | None:
    """What the second coding pass of the layers saves, by rate."""
    study = store.read_study(results, "context")
    if study is None:
        return None
    rows = [[str(row["rho"]), f"{row['saved_percent']:.2f} %"] for row in study["rows"]]
    return markdown(["ρ of all groups", "saved of all symbols' bits"], rows)


def fitted_tables(results: Path) -> str | None:
    """What frequency tables save that were fitted to real symbols, by rate."""
    study = store.read_study(results, "context")
    if study is None:
        return None
    names = ("fitted_saves_of_gaussian_percent", "fitted_saves_of_logistic_percent")
    rows = [[str(row["rho"]), *(f"{row[name]:.2f} %" for name in names)] for row in study["rows"]]
    return markdown(["ρ of all groups", "less than with Gaussian tables", "less than with logistic tables"], rows)


def targets(results: Path) -> str | None:
    """How many targets of each kind were met, and in how many encodes."""
    study = store.read_study(results, "targets")
    if study is None:
        return None
    rows = [
        [
            row["profile"],
            row["kind"],
            f"{row['met']} of {row['asked']}",
            str(row["out_of_reach"]),
            f"{row['median_encodes']:g}",
            str(row["most_encodes"]),
        ]
        for row in study["summary"]
    ]
    return markdown(["profile", "target", "met", "out of reach", "encodes, median", "encodes, most"], rows)


def designs(results: Path) -> str | None:
    """Structures and ways to train at equal time."""
    path = results.parent / "designs.json"
    if not path.is_file():
        return None
    study = store.read(path)
    levels = list(study["rows"][0]["losses"])
    rows = [
        [
            row["title"],
            *(f"{row['losses'][level]:.3f}" for level in levels),
            f"{row['crops_per_s']:.1f}",
            f"{row['megabytes']:.1f}",
            f"{row['decode_ms']:.0f} ms",
        ]
        for row in study["rows"]
    ]
    head = ["design", *(f"loss, ρ {level}" for level in levels), "crops/s", "MB", "decode"]
    about = f"{study['minutes']:g} minutes each, {study['environment']['cpu']}, {study['environment']['cores']} cores."
    return f"{about}\n\n{markdown(head, rows)}"


def efforts(results: Path) -> str | None:
    """What effort is worth."""
    study = store.read_study(results, "efforts")
    if study is None or not study["summary"]:
        return None
    rows = [
        [
            str(row["effort"]),
            f"{row['bd_rate_percent']:+.1f} %",
            f"{row['worst_percent']:+.1f} %",
            f"{row['median_encode_s']:.1f} s",
        ]
        for row in study["summary"]
    ]
    head = ["effort", "BD-rate against effort 1, mean", "worst picture", "time of an encode"]
    return f"{study['summary'][0]['pictures']} pictures.\n\n{markdown(head, rows)}"


def effort_curves(results: Path) -> str | None:
    """What effort saves along each profile, in its own metric, from the rate-distortion rows of all pictures."""
    rows = []
    for profile, metric in EFFORT_METRICS.items():
        plain, *others = (results / f"hvcodec-{profile}-e{effort}.json" for effort in range(1, 10))
        for effort, path in enumerate(others, start=2):
            if plain.is_file() and path.is_file():
                rows.append([f"`{profile}`", METRIC_TITLES[metric], str(effort), *_saved(plain, path, metric)])
    head = ["profile", "metric", "effort", "pictures", "BD-rate against effort 1, mean", "worst picture"]
    return markdown([*head, "encode, one thread"], rows) if rows else None


def _saved(plain: Path, refined: Path, metric: str) -> list[str]:
    """Pictures, mean and worst BD-rate of one file against another, and the time of an encode."""
    rows = store.read(refined)["rows"]
    rates = curves.of_pictures(store.read(plain)["rows"], rows, metric)
    seconds = median(row["encode_cpu_s"] for row in rows)
    told = [f"{fmean(rates):+.1f} %", f"{max(rates):+.1f} %"] if rates else ["–", "–"]
    return [str(len(rates)), *told, f"{seconds:.0f} s"]


def regions(results: Path) -> str | None:
    """A region of interest at equal bytes."""
    study = store.read_study(results, "regions")
    if study is None:
        return None
    rows = [
        [
            f"`{row['profile']}`",
            f"{row['bpp']:g}",
            f"{row['mean_gain_db']:+.2f} dB",
            f"{row['least_gain_db']:+.2f} dB",
            "–" if row["mean_gain_ssimulacra2"] is None else f"{row['mean_gain_ssimulacra2']:+.1f}",
            f"{row['mean_outside_db']:+.2f} dB",
            f"{row['mean_bytes_percent']:+.1f} %",
        ]
        for row in study["summary"]
    ]
    columns = ["profile", "bpp", "inside, mean", "least", "SSIMULACRA2 inside", "outside", "bytes against without mask"]
    return markdown(columns, rows)


def targeted(results: Path) -> str | None:
    """Training to a given distortion or rate."""
    path = results.parent / "targeted.json"
    if not path.is_file():
        return None
    study = store.read(path)
    rows = [
        [
            f"`{row['objective']}`",
            f"{row['minutes']:g}",
            ", ".join(f"{value:g}" for value in row["asked"]),
            ", ".join(f"{value:g}" for value in row["reached"]),
            ", ".join(f"{miss:+.1f} %" for miss in row["miss_percent"]),
        ]
        for row in study["rows"]
    ]
    about = "From the default model; error of pixels in 0..1, or bits per pixel."
    return f"{about}\n\n{markdown(['objective', 'minutes', 'asked', 'validation', 'miss'], rows)}"


def compressai_training(results: Path) -> str | None:
    """Architectures trained for the same time: rate and distortion on held-out pictures."""
    path = results.parent / "compressai.json"
    if not path.is_file():
        return None
    document = store.read(path)
    best: dict[int, float] = {}
    for row in document["rows"]:
        best[row["level"]] = min(row["loss"], best.get(row["level"], row["loss"]))
    rows = [
        [
            f"`{row['architecture']}`",
            str(row["level"]),
            f"{row['learning_rate']:g}",
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['steps']}",
            f"{row['bpp']:.3f}",
            f"{row['psnr']:.2f}",
            f"{row['loss']:.3f}",
            f"{100 * (row['loss'] / best[row['level']] - 1):+.0f} %",
        ]
        for row in document["rows"]
    ]
    minutes, threads = document["config"]["schedule"]["minutes"], document["threads"]
    told = f"{minutes:g} minutes each on {threads} thread{'s' if threads > 1 else ''}."
    head = ["architecture", "ρ", "learning rate", "parameters", "steps", "bpp", "PSNR, dB", "R + λ·D", "above best"]
    return f"{told}\n\n{markdown(head, rows)}"


def response(results: Path) -> str | None:
    """Monotone steps of single groups, and the estimated against the real rate."""
    study = store.read_study(results, "response")
    if study is None:
        return None
    told = study["summary"]
    rows = [
        ["steps up of one group's ρ that give it at least as many bytes", f"{told['monotone_percent']:.1f} %"],
        ["real bytes over the estimate, all files together", f"{told['real_over_estimated_percent']:+.2f} %"],
        ["the same, worst file", f"{told['worst_percent']:+.2f} %"],
    ]
    return markdown(["", "measured"], rows)


def profile_gains(results: Path) -> str | None:
    """What profiles and effort give over the default profile at equal bytes, 0.2 to 1.0 bpp."""
    known = {curve.name: curve for curve in curves.of_set(results) if curve.group == "hvcodec"}
    base = known.get("hvcodec-psnr-e1")
    others = [curve for curve in known.values() if curve is not base]
    if base is None or not others:
        return None
    rows = []
    for curve in others:
        gains = [_mean_gain(base, curve, metric) for metric in METRIC_TITLES]
        rate = curves.bd_rate(base, curve, "psnr_db")
        cells = ["–" if gain is None else f"{gain:+.2f}" for gain in gains]
        rows.append([curve.title, *cells, "–" if rate is None else f"{rate:+.1f} %"])
    head = ["against the default at equal bytes", "PSNR, dB", "MS-SSIM, dB", "SSIMULACRA2", "BD-rate, PSNR"]
    return markdown(head, rows)


def _mean_gain(base: Curve, other: Curve, metric: str) -> float | None:
    gains = []
    for step in range(17):
        rate = GAIN_RATES_BPP[0] * (GAIN_RATES_BPP[1] / GAIN_RATES_BPP[0]) ** (step / 16)
        a, b = curves.quality_at(base, metric, rate), curves.quality_at(other, metric, rate)
        if a is None or b is None:
            return None
        gains.append(b - a)
    return sum(gains) / len(gains)


TABLES: dict[str, Callable[[Path], str | None]] = {
    "bd-rates": bd_rates,
    "bd-rates-ssimulacra2": bd_rates_ssimulacra2,
    "quality-at-rates": quality_at_rates,
    "hvcodec-points": hvcodec_points,
    "perceptual-points": perceptual_points,
    "speed": speed,
    "stages": stages,
    "training": training,
    "training-kernels": training_kernels,
    "calibration": calibration,
    "context": context,
    "fitted-tables": fitted_tables,
    "targets": targets,
    "response": response,
    "designs": designs,
    "targeted": targeted,
    "compressai-training": compressai_training,
    "regions": regions,
    "efforts": efforts,
    "effort-curves": effort_curves,
    "profile-gains": profile_gains,
}

"""Results of benchmarks as rows for a screen or a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from resflow.bench import device_page, seed_counts

COLUMNS = ("", "")
Rows = list[list[str]]
NAMES = {
    "keras": "stock Keras",
    "keras_dataset": "Keras fed by tf.data without autotuning",
    "keras_without_onednn": "Keras where TensorFlow leaves oneDNN off",
    "keras_jit": "Keras compiled by XLA",
    "keras_without_jit": "Keras without XLA",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch, channels last",
    "torch_compile": "PyTorch, torch.compile",
    "torch_cuda_graphs": "PyTorch, torch.compile with CUDA graphs",
    "torch_loader": "PyTorch with a DataLoader",
    "torch_on_device": "PyTorch with data on the device",
    "torch_on_device_cuda_graphs": "PyTorch with data on the device and CUDA graphs",
    "resflow": "resflow",
    "resflow_stepwise": "resflow, batches from the host",
    "resflow_unrepeatable": "resflow, free to differ in its last bits",
    "resflow_on_device": "resflow, images on the device",
}


def title(result: Mapping[str, Any]) -> str:
    """Return the title of a result: the thing that was measured, in a line."""
    settings = result["settings"]
    if result["benchmark"] == "study":
        where = f"{len(settings['arms'])} arms × {len(settings['seeds'])} seeds, {settings['recipe']['epochs']} epochs"
        return f"Study: {', '.join(settings['arms'])}; {where}, width {settings['network']['width']:g}"
    if result["benchmark"] == "frozen":
        net, size = settings["network"], settings["data"]["image_size"]
        where = f"{len(settings['seeds'])} seeds, {settings['recipe']['epochs']} epochs"
        return (
            f"Head study: {len(settings['arms'])} heads × {where}, on a frozen ResNet-{net['depth']} at {size}×{size}"
        )
    if result["benchmark"] == "convolution":
        return f"Convolutions, forward and backward: batch {settings['batch_size']}, {settings['threads']} threads"
    if result["benchmark"] == "coverage":
        return f"Coverage: {settings['draws']:,} simulated studies of each kind, or as many as a row names"
    if result["benchmark"] == "chaos":
        runs = f"{result['runs']} runs of {settings['trials']} trials"
        return f"Reliability: {result['interruptions']} disturbances of {runs}"
    if result["benchmark"] == "damage":
        return "Damage: files that are not what was written"
    if result["benchmark"] == "scale":
        return f"Scale: the bookkeeping of {settings['trials']:,} trials of {settings['epochs']} epochs"
    if result["benchmark"] in device_page.TITLES:
        return device_page.TITLES[result["benchmark"]](settings)
    if result["benchmark"] == "worker":
        return f"Worker: {settings['trials']} trials of {result['arms']} arms in one process"
    size = f"{settings['image_size']}×{settings['image_size']}"
    if result["benchmark"] == "input":
        return f"Input: augmented batches at {size}, {device_page.place(settings)}"
    return f"Step: {device_page.network(settings)}"


def rows(result: Mapping[str, Any]) -> Rows:
    """Return a row for each figure: its name, and the figure with its unit."""
    return {
        "step": _step,
        "input": _input,
        "study": _study,
        "frozen": _frozen,
        "convolution": _convolution,
        "worker": _worker,
        "scale": _scale,
        "chaos": _chaos,
        "coverage": _coverage,
        "damage": _damage,
        "epoch": lambda epochs: device_page.list_epoch(epochs, NAMES),
        "packing": device_page.list_packing,
        "repeat": device_page.list_repeat,
    }[result["benchmark"]](result)


def _step(result: Mapping[str, Any]) -> Rows:
    lines = _speeds(result)
    lines += [
        ["resflow against stock Keras", device_page.times(result["ratio_vs_keras"])],
        ["resflow against PyTorch", _times(result["ratio_vs_torch"])],
        *(
            [f"resflow against {NAMES[name]}", f"{times:.2f} ×"]
            for name in ("keras_dataset", "keras_without_onednn")
            if (times := result.get(f"ratio_vs_{name}"))
        ),
        ["part of a large matrix product's speed", f"{result['fraction_of_gemm_peak']:.1%}"],
        ["that matrix product", f"{result['gemm_gflops']:,.0f} GFLOP/s"],
        *device_page.list_peak(result),
    ]
    lines += device_page.list_failed(result)
    return lines + [[f"first step of {NAMES[n]}", f"{s:.1f} s more"] for n, s in result["compile_s"].items()]


def _speeds(result: Mapping[str, Any]) -> Rows:
    return [
        [NAMES[name], "not installed" if speed is None else f"{speed:,.1f} images/s"]
        for name, speed in result["images_per_s"].items()
    ]


def _times(ratio: float | None) -> str:
    return "PyTorch is not installed" if ratio is None else f"{ratio:.2f} ×"


def _input(result: Mapping[str, Any]) -> Rows:
    lines = [[name.replace("stock Keras", "Keras' ImageDataGenerator"), speed] for name, speed in _speeds(result)]
    return [
        *lines,
        ["resflow against ImageDataGenerator", f"{result['ratio_vs_keras']:.2f} ×"],
        ["resflow's ResNet-18 at this size consumes", f"{result['resnet18_images_per_s']:,.1f} images/s"],
        ["resflow's input against that", f"{result['ratio_vs_resnet18']:.1f} ×"],
        *([["part of its time that it would wait", f"{result['input_wait']:.0%}"]] if "input_wait" in result else []),
    ]


def _study(result: Mapping[str, Any]) -> Rows:
    pair = "{resflow:.1f} s against {script:.1f} s".format_map
    lines = [
        ["resflow study against the script", pair(result["wall_s"])],
        ["ratio", f"{result['ratio_vs_script']:.2f} ×"],
        *[[f"  of it {cause.replace('_', ' ')}", pair(seconds)] for cause, seconds in result["causes_s"].items()],
        ["trials at a time", f"{result['trials_at_a_time']:.2f}"],
    ]
    for part, seconds in result["one_trial"].items():
        lines.append(
            [f"one trial alone, {part} of an epoch", "{resflow:.2f} s against {script:.2f} s".format_map(seconds)]
        )
    for arm, top1 in result["final_test_top1"].items():
        text = "{resflow:.1%} against {script:.1%}, seeds spread over {spread:.1%}".format_map(top1)
        lines.append([f"test top-1 of {arm}", text])
    return [
        *lines,
        ["difference of the first steps' losses, at most", f"{max(result['first_steps_loss_difference']):.1e}"],
        ["difference of the first epoch's loss, at most", f"{result['first_epoch_loss_difference']:.1e}"],
        ["  the same, resflow with its weights' last bits changed", f"{result['first_epoch_loss_noise']:.1e}"],
        ["resflow's trial against a bare loop", f"{result['harness_overhead']:+.1%}"],
    ]


CAUSES = {
    "sharing_features": "sharing features among heads, seeds and epochs",
    "training_heads": "training heads on features, in one process",
    "start_and_building": "start, building and compiling",
    "forward_pass": "resflow's forward pass, in one process",
    "trials_at_a_time": "trials at a time",
}


def _frozen(result: Mapping[str, Any]) -> Rows:
    """Return a block of rows with augmentation, one without, and a row of the part of the script that was timed."""
    lines: Rows = []
    for variant, label in (("augmented", "with augmentation"), ("clean", "without augmentation")):
        wall, passes = result["wall_s"][variant], result["images_through_the_backbone"][variant]
        without = result["ratio_without_training_evaluation"][variant]
        differences = result["first_epoch_loss_difference"][variant]
        lines += [
            [f"{label}: resflow study against the script", "{resflow:,.1f} s against {script:,.0f} s".format_map(wall)],
            ["ratio", f"{result['ratio_vs_script'][variant]:.1f} ×"],
            *[[f"  of it {CAUSES[cause]}", f"{times:.2f} ×"] for cause, times in result["causes"][variant].items()],
            ["  ratio where the script never evaluates training images", f"{without:.1f} ×"],
            ["images through the backbone", "{resflow:,} against {script:,}".format_map(passes)],
            ["resflow study again, all features there", f"{wall['resflow_again']:,.1f} s"],
            ["difference of the first epoch's losses, at most", f"{max(differences.values()):.1e}"],
        ]
    part = result["script_timed"]
    timed = "{trials} of {of_trials} trials, {epochs} of {of_epochs} epochs; the rest is scaled".format_map(part)
    return [*lines, ["timed of the script", timed]]


def _convolution(result: Mapping[str, Any]) -> Rows:
    return [
        [
            f"{s['kernel']}x{s['kernel']} stride {s['stride']}, {s['channels']} to {s['filters']}, map {s['map']}",
            "native {native:.0f}, product {product:.0f} GFLOP/s".format_map(s["gflops"]) + f": {s['chosen']}",
        ]
        for s in result["shapes"]
    ]


def _worker(result: Mapping[str, Any]) -> Rows:
    memory, seconds = result["rss_mb"], result["seconds"]
    numbers = sorted({1, 2, 5, *range(10, len(memory) + 1, 10), len(memory)} & set(range(1, len(memory) + 1)))
    times = {
        used: [t for t, u in zip(seconds, result["used_graph"], strict=True) if u is used] for used in (False, True)
    }
    return [[f"resident memory after trial {n}", f"{memory[n - 1]:,} MB"] for n in numbers] + [
        [f"median seconds of the {len(times[used])} trials on {what}", f"{statistics.median(times[used]):.2f} s"]
        for used, what in ((False, "a graph of their own"), (True, "the graph of the one before"))
        if times[used]
    ]


def _scale(result: Mapping[str, Any]) -> Rows:
    settings = result["settings"]
    return [
        [f"a plan of {settings['trials']:,} trials", f"{result['plan_s']:.2f} s"],
        [f"a report on as many records of {settings['epochs']} epochs", f"{result['report_s']:.1f} s"],
        ["  its memory at most", f"{result['report_rss_mb']:,} MB"],
        ["  its page", f"{result['report_page_mb']:.1f} MB"],
        [f"scheduling {settings['idle_trials']:,} trials that do nothing", f"{result['s_per_trial']:.3f} s a trial"],
        ["  until the first has ended", f"{result['first_trial_s']:.1f} s"],
        ["  the driver's memory after the last", f"{result['driver_rss_mb']:,} MB"],
        ["  more than after the first tenth", f"{result['driver_rss_growth_mb']:,.1f} MB"],
    ]


def _chaos(result: Mapping[str, Any]) -> Rows:
    return [
        ["disturbances", f"{result['interruptions']}"],
        *[[f"  {kind}", f"{times}"] for kind, times in result["by_kind"].items()],
        *[[f"  {kind}, not tried", why] for kind, why in result["not_tried"].items()],
        ["trials that had to end with the undisturbed run's records", f"{result['trials']}"],
        ["records lost", f"{result['lost']}"],
        ["records made twice", f"{result['duplicated']}"],
        ["records that differ", f"{result['differing']}"],
        ["commands that were stuck", f"{result['stuck']}"],
        ["processes that outlived their driver by ten seconds", f"{result['left_behind']}"],
        *(["  after", line] for line in result.get("left_behind_after", ())),
        ["time", f"{result['wall_s'] / 60:.0f} min"],
    ]


def _damage(result: Mapping[str, Any]) -> Rows:
    return [
        [
            f"{row['what']}: {row['damage']}, {row['times']:,} times",
            ", ".join(f"{count:,} {outcome}" for outcome, count in row["outcomes"].items()),
        ]
        for row in result["damages"]
    ]


def _coverage(result: Mapping[str, Any]) -> Rows:
    settings, lines = result["settings"], []
    for row in result["over_seeds"]:
        lines.append(
            [
                f"{row['differences']} differences, {row['seeds']} seeds",
                f"t interval covers {row['t_interval_covers']:.1%}, t test wrong {row['t_test_wrong']:.1%}, sign-flip "
                f"wrong {row['sign_flip_wrong']:.1%} at {row['sign_flip_level']:.3g}, TOST wrong at the margin "
                f"{row['tost_wrong_at_margin']:.1%}, any false verdict of six {row['any_false_verdict']:.1%}"
                + (
                    f", any false equivalence {row['any_false_equivalent']:.1%}"
                    if "any_false_equivalent" in row
                    else ""
                )
                + (f", the spread's interval {row['deviation_covers']:.1%}" if "deviation_covers" in row else ""),
            ]
        )
    for row in result["mixed_model"]:
        text = f"interval covers {row['covers']:.1%}, converged in {row['converged']:.1%}"
        what = f"mixed model, {row['seeds']} seeds, two trials missing ({settings['mixed_draws']:,} studies)"
        lines.append([what, text])
    for row in result.get("accuracies", []):
        what = f"an arm's accuracy, {row['accuracy']:.0%}, {row['seeds']} seeds"
        lines.append([what, f"interval covers {row['covers']:.1%} at {100 * row['width']:.2f} points"])
    for row in result["over_images"]:
        text = f"Wilson covers {row['wilson_covers']:.1%}, McNemar wrong {row['mcnemar_wrong']:.1%}"
        lines.append([f"{row['images']:,} images", text])
    for row in result.get("over_images_of_one_seed", []):
        text = f"interval over images covers {row['covers']:.1%} at {100 * row['width']:.2f} points"
        lines.append([f"one seed, {_drawn(row, settings)}", text])
    for row in result.get("over_both", []):
        lines.append(
            [
                f"{row['seeds']} seeds, spread {row['spread']:g}, {_drawn(row, settings)}",
                f"over both covers {row['both_covers']:.1%} at {100 * row['width']:.2f} points; over seeds alone "
                f"{row['seeds_covers']:.1%}, over images alone {row['images_covers']:.1%}",
            ]
        )
    return lines + seed_counts.rows(result)


def _drawn(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Name a simulation of two arms on images, and how many studies it had."""
    studies = settings["crossed_draws"][str(row["images"])]
    pair = f"{row['accuracy']:.0%} against {row['reference']:.0%}"
    return f"{row['images']:,} images, {pair} ({studies:,} studies)"

# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad detect``: photographs in, verdicts out; exported models need neither PyTorch nor anomalib.

With ``--report`` the folder gets results.jsonl and results.csv, an overlay for each image and report.html, a gallery in
one file that opens from disk. The same command again skips images that have not changed, also after an interruption;
with other photographs, another model or other options it replaces what the folder held, and says so. Images that cannot
be read are listed with the reason and stop nothing.

Exit status: 0 if there is nothing to report, 1 if the command failed, 2 if its arguments are wrong, 3 if an image is
anomalous, 4 if one could not be read and it is not 3; ``--fail-on`` says which of the last two count. If no image at
all could be read, it is 4 unless ``--fail-on never``. 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

HELP = "score photographs with a trained model; tables, overlays and an HTML report"
ANOMALOUS, UNREADABLE = 3, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("photos", type=Path, help="a folder, searched with all below it, or one image")
    parser.add_argument(
        "--model", type=Path, required=True, help="model.xml, model.onnx, adapter.safetensors, .ckpt or .pt"
    )
    parser.add_argument("--report", type=Path, help="folder to write to; without it, a line for each image is printed")
    parser.add_argument(
        "--threshold", type=float, help="score above which an image is anomalous (default: the model's)"
    )
    parser.add_argument(
        "--pixel-threshold",
        type=float,
        help="score above which a pixel is, in regions and outlines (default: the model's)",
    )
    parser.add_argument("--pretrained", help="CLIP's weights for an adapter or a checkpoint: file or open_clip's tag")
    parser.add_argument("--device", default="CPU", help="where to compute (default: %(default)s)")
    parser.add_argument(
        "--precision", default="f32", help="OpenVINO's arithmetic: f32, bf16, f16 (default: %(default)s)"
    )
    parser.add_argument(
        "--gallery", type=int, default=1000, help="images in the report, of the highest scores (default: %(default)s)"
    )
    parser.add_argument(
        "--fail-on",
        nargs="+",
        choices=("anomalous", "unreadable", "never"),
        default=["anomalous"],
        help="what makes the exit status other than 0 (default: anomalous); one or more: PHOTOS stands before it, or "
        "after --",
    )
    parser.set_defaults(run=_detect)


def _detect(options: argparse.Namespace) -> int:
    # Nothing goes out from the factory: OpenVINO, which reports its import, does without a telemetry that is not there.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    from anomalib_zsad.deploy import Detector
    from anomalib_zsad.deploy.inspection import fingerprint, images_of, inspect

    if options.report is not None and options.report.resolve() == options.photos.resolve():
        msg = "--report must be another folder than that of the photographs."
        raise ValueError(msg)
    if options.gallery < 0:
        msg = f"--gallery must be 0 (no images in the report) or more, got {options.gallery}."
        raise ValueError(msg)
    images = images_of(options.photos, options.report)
    detector = Detector(
        options.model,
        device=options.device,
        precision=options.precision,
        threshold=options.threshold,
        pixel_threshold=options.pixel_threshold,
        throughput=len(images) > 1,
        **({} if options.pretrained is None else {"pretrained": options.pretrained}),
    )
    if options.report is None:
        verdicts = _print_lines(detector, images)
    else:
        run = {
            "photos": str(options.photos.resolve()),
            "model": fingerprint(options.model),
            "threshold": detector.threshold,
            "pixel_threshold": detector.pixel_threshold,
            "precision": options.precision,
            "device": options.device.upper(),
        }
        try:
            verdicts = inspect(detector, images, options.report, run, options.gallery, ProgressBar(sys.stderr))
        except KeyboardInterrupt as interruption:
            msg = "The same command goes on where this one stopped."
            raise KeyboardInterrupt(msg) from interruption
        counts = ", ".join(f"{verdicts[name]} {name}" for name in ("anomalous", "normal", "unreadable"))
        print(f"{len(images)} images: {counts}\n{options.report / 'report.html'}")
    if verdicts["anomalous"] and "anomalous" in options.fail_on:
        return ANOMALOUS
    unseen = verdicts["unreadable"] == len(images) and "never" not in options.fail_on  # all of them: nothing was tested
    return UNREADABLE if unseen or (verdicts["unreadable"] and "unreadable" in options.fail_on) else 0


def _print_lines(detector: object, images: dict[str, Path]) -> Counter[str]:
    from anomalib_zsad.deploy.inspection import record_of

    names = {path: name for name, path in images.items()}
    verdicts: Counter[str] = Counter()
    for result in detector.scan(names):  # type: ignore[attr-defined]
        record = record_of(names[result.path], result)
        verdicts[record["verdict"]] += 1
        score = f"{record['score']:.4f}" if "score" in record else "-"
        kinds = " ".join(f"{name} {value:.2f}" for name, value in list(record.get("types", {}).items())[:3])
        about = [score, record["verdict"], printable(record["image"]), kinds, printable(record["note"])]
        print("\t".join(filter(None, about)), flush=True)
    return verdicts


def printable(text: str) -> str:
    r"""A name as one line of what a terminal shows as it is.

    Example:
        >>> print(printable("café\n1.0\x1b[2J.png"))
        café\n1.0\x1b[2J.png
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class ProgressBar:
    """Progress of images: a bar on a terminal, elsewhere a line every ten seconds.

    Args:
        stream (TextIO): Where to write.
    """

    def __init__(self, stream: object) -> None:
        self._stream = stream
        self._start = self._last = time.monotonic()
        self._skipped: int | None = None

    def __call__(self, done: int, total: int, verdicts: Counter[str]) -> None:
        """Show the state of affairs."""
        now = time.monotonic()
        terminal = self._stream.isatty()  # type: ignore[attr-defined]
        if self._skipped is None:
            self._skipped = done
        elif done < total and now - self._last < (0.1 if terminal else 10):
            return
        self._last = now
        rate = (done - self._skipped) / max(now - self._start, 1e-9)
        left = (total - done) / rate if rate else 0
        filled = round(24 * done / total)
        text = (
            f"{'█' * filled}{'·' * (24 - filled)} {done}/{total}  {verdicts['anomalous']} anomalous  "
            f"{verdicts['unreadable']} unreadable  {rate:.1f} images/s  {int(left // 60)}:{int(left % 60):02} left"
        )
        end = "\n" if done == total or not terminal else ""
        print(f"\r{text}\x1b[K" if terminal else text, end=end, file=self._stream, flush=True)  # type: ignore[call-overload]

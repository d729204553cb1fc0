"""Do people who walk stay visible and in place?

    python -m benchmarks.walkers logs/kth_laptop [--clips 72] [--horizon 30]

Predicts test clips of KTH, or of its stand-in, that show walking, jogging or running and end their context with a whole
person in view. A person is what differs from the median of the clip, in the window of 31x15 pixels that differs most;
visible, if it differs half as much as the true one; in place, if its centre is within 6 pixels of the true one's.
"""

import argparse

import cv2
import numpy as np

from htsr.data import load_clips
from htsr.runs.folder import load_model, read_run_config

NOISE = 0.06  # differences from the background that are nobody
WHOLE = 0.7  # of the usual difference of a whole person
WALKS = ("walking", "jogging", "running")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir")
    parser.add_argument("--clips", type=int, default=72)
    parser.add_argument("--horizon", type=int, default=30)
    args = parser.parse_args()
    model = load_model(args.logdir)
    data = read_run_config(args.logdir)["data"]
    context = model.registered
    data = {**data, "batch_size": 8, "seq_len": context + 100, "actions": list(WALKS)}
    clips = load_clips(split="test", **data)
    total = min(args.clips, clips.num_clips)
    chosen = np.linspace(0, clips.num_clips - 1, total).astype(int)
    frames = np.stack([clips.source.window(int(i)) for i in chosen]).astype(np.float32) / 255
    starts = range(0, total, 8)
    predicted = [model.rollout(frames[i : i + 8, :context], args.horizon, noise="mean")[0] for i in starts]
    background = np.median(frames, 1)[:, None]
    place, mass = people(np.concatenate(predicted), background)
    true_place, true_mass = people(frames, background)
    usual = np.sort(true_mass, 1)[:, -20:].mean(1)
    in_view = true_mass[:, context - 1] > WHOLE * usual
    true_place, true_mass = (x[:, context : context + args.horizon] for x in (true_place, true_mass))
    there = (true_mass > WHOLE * usual[:, None]) & in_view[:, None]
    visible = mass > 0.5 * true_mass
    near = np.linalg.norm(place - true_place, axis=-1) < 6
    print(f"{in_view.sum()} of {total} clips end their context with a person in view")
    for lead in (lead for lead in (1, 2, 5, 10, 15, 20, 30) if lead <= args.horizon):
        of = there[:, lead - 1]
        shares = (x[of, lead - 1].mean() for x in (visible, near, visible & near))
        print(f"frame {lead}: of {of.sum()} people visible {{:.0%}}, in place {{:.0%}}, both {{:.0%}}".format(*shares))
    good = ((visible & near) | ~there)[in_view, : min(20, args.horizon)].all(1).mean()
    print(f"both in each of the first 20 frames in which they are in view: {good:.0%} of the clips")


def people(frames, background) -> tuple[np.ndarray, np.ndarray]:
    """Where somebody is, (y, x), and how much that differs from the background, of every frame."""
    apart = np.abs(np.clip(frames, 0, 1) - background).mean(-1)
    apart = np.where(apart > NOISE, apart, 0).astype(np.float32)
    places, masses = np.zeros((*apart.shape[:2], 2)), np.zeros(apart.shape[:2])
    for index in np.ndindex(masses.shape):
        picture = apart[index]
        summed = cv2.boxFilter(picture, -1, (15, 31), normalize=False, borderType=cv2.BORDER_CONSTANT)
        y, x = np.unravel_index(summed.argmax(), summed.shape)
        top, left = max(0, y - 15), max(0, x - 7)
        part = picture[top : y + 16, left : x + 8]
        masses[index] = part.sum()
        rows, columns = np.arange(part.shape[0]), np.arange(part.shape[1])
        centre = (part.sum(1) @ rows, part.sum(0) @ columns) / (masses[index] + 1e-9)
        places[index] = centre + np.array([top, left])
    return places, masses


if __name__ == "__main__":
    main()

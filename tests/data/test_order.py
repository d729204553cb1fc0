"""The order of pictures by their names: numbers with signs and fractions, and what is refused as doubtful."""

import random

import pytest

from htsr.data.video.order import Doubtful, in_order

QUARTERS = [n / 4 for n in range(12)]


def check(names, remark):
    mixed = list(names)
    random.Random(0).shuffle(mixed)
    found = in_order(mixed)
    assert found.names == list(names)
    assert found.remark == remark


@pytest.mark.parametrize(
    ("names", "remark"),
    [
        ([f"frame_{n}.png" for n in range(12)], None),
        ([f"frame-{n}.png" for n in range(1, 12)], None),  # a hyphen, no minus
        ([f"img ({n}).JPG" for n in range(1, 12)], None),
        ([f"{n:06}_{1403636579763555584 + 50 * n}.png" for n in range(1, 12)], None),
        (["f0.jpg", "f1.JPEG", "f2.jpg"], None),
        ([f"f1.{n}.png" for n in range(1, 12)], None),  # 1.9 and 1.10: no fractions
        ([f"u_{n:g}.png" for n in QUARTERS], "is in the order u_0.png, u_0.25.png, … u_2.75.png"),
        ([f"u_{n}.png" for n in QUARTERS], "is in the order u_0.0.png, u_0.25.png, … u_2.75.png"),
        ([f"step_{n}.png" for n in range(-6, 6)], "is in the order step_-6.png, step_-5.png, … step_5.png"),
        ([f"step_{n}.png" for n in range(-6, 0)], "is in the order step_-6.png, step_-5.png, … step_-1.png"),
        ([f"{n}.png" for n in range(-6, 0)], "is in the order -6.png, -5.png, … -1.png"),
        (["x=-2.5.png", "x=-1.png", "x=+0.5.png"], "is in the order x=-2.5.png, x=-1.png, … x=+0.5.png"),
        (["t1e-05.png", "t0.0003.png", "t2.png"], "is in the order t1e-05.png, t0.0003.png, … t2.png"),
        (["24.1.31.png", "24.2.1.png", "24.10.1.png"], "is in the order 24.1.31.png, 24.2.1.png, … 24.10.1.png"),
        (["9h59.png", "10h00.png", "10h01.png"], "is in the order 9h59.png, 10h00.png, … 10h01.png"),
        (["01-02_12-55.png", "01-11_12-00.png"], "is in the order 01-02_12-55.png and 01-11_12-00.png"),
        (["a.png", "b.png", "c.png"], "is in the order a.png, b.png, … c.png"),
        (["f1.png", "f2.png", "f3.png", "f7.png", "f8.png"], "jumps from f3.png to f7.png"),
        (["only.png"], None),
        ([], None),
    ],
)  # fmt: skip
def test_orders(names, remark):
    check(names, remark)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["f0.png", "f0.jpg", "f1.png", "f1.jpg"], "holds .jpg and .png files, such as f0.jpg and f0.png"),
        (["f0.png", "f1.bmp"], "holds .png and .bmp files"),
        (["f0.png", "f0_mask.png"], "holds names of 2 kinds, such as f0.png and f0_mask.png"),
        (["left1.png", "right1.png", "top1.png"], "holds names of 3 kinds, such as left1.png and right1.png"),
        (["f1.png", "f2.png", "cover.png"], "holds names of 2 kinds, such as cover.png and f1.png"),
        (["a1e5b.png", "1f.png"], "holds names of 2 kinds"),
        (["f1.png", "f01.png"], "has two files of the same number, f01.png and f1.png"),
        (["u_0.png", "u_-0.0.png"], "has two files of the same number"),
    ],
)
def test_doubtful_names_are_refused(names, why):
    with pytest.raises(Doubtful, match=f"^{why}"):
        in_order(names)


def test_very_long_names():
    names = [f"{'9' * 60_000}{n}.png" for n in range(3)]
    assert in_order(names[::-1]).names == names

"""Public data sets as pairs with ground truth, each read from the layout it is published in.

A reader takes the folder of the data set and yields an `UnreadPair` after another. The target is
the image at whose pixels the ground truth is given. Suffixes of files may be in capital letters.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from tfdense.errors import InputError
from tfdense.evaluation.pairs import UnreadPair
from tfdense.evaluation.readers.flow import (
    kitti_pairs,
    middlebury_flow_pairs,
    sintel_pairs,
    sintel_sample_pairs,
    stored_flow_pairs,
    tss_pairs,
)
from tfdense.evaluation.readers.folders import any_case
from tfdense.evaluation.readers.frames import (
    flying_chairs_pairs,
    flying_things_pairs,
    hd1k_pairs,
    listed_flow_pairs,
    spring_pairs,
    viper_pairs,
)
from tfdense.evaluation.readers.homography import hpatches_pairs, stored_homography_pairs
from tfdense.evaluation.readers.points import stored_points_pairs, table_pairs
from tfdense.evaluation.readers.pose import camera_pairs, listed_pairs
from tfdense.evaluation.readers.stereo import middlebury_2014_pairs, middlebury_stereo_pairs
from tfdense.evaluation.readers.tracks import eth3d_pairs


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set's reader and what it expects.

    Attributes:
        read: yields the pairs below a folder.
        marker: a pattern, relative to the folder, of which at least one file exists.
        layout: of the folder, for people.
        any_photo: whether every photo below the folder belongs to the data set.
    """

    read: Callable[[Path], Iterator[UnreadPair]]
    marker: str
    layout: str
    any_photo: bool = False


def find(datasets: Mapping[str, Dataset], name: str, folder: str | Path) -> Iterator[UnreadPair]:
    """Checks the folder of a data set and lists its pairs.

    Args:
        datasets: by name.
        name: one of theirs.
        folder: where the data set is.

    Returns:
        An iterator over the pairs, in a fixed order.

    Raises:
        InputError: if there is no such data set, the folder has another layout, or, while
            iterating, the list of the pairs is broken.
    """
    if name not in datasets:
        raise InputError(f"There is no data set {name!r}. Expected one of {', '.join(datasets)}.")
    dataset, folder = datasets[name], Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Expected {dataset.layout}.")
    if not any(folder.glob(any_case(dataset.marker))):
        raise InputError(
            f"{folder} holds no {dataset.marker}. Expected for {name}: {dataset.layout}."
        )
    return dataset.read(folder)


_IMAGES = "PAIR/source.jpg, target.jpg (or .png)"
_ROWS = "rows name two images, relative to this folder or to one in it, and"

STORED = {
    "homography": Dataset(
        stored_homography_pairs,
        "*/H_target_to_source.txt",
        f"{_IMAGES}, H_target_to_source.txt (3 rows of 3)",
    ),
    **{
        name: Dataset(
            partial(hpatches_pairs, side=side),
            "v_*/1.*",
            "v_SCENE/1.ppm to 6.ppm (or another format) and H_1_2 to H_1_6 (or H1to2p; .txt)",
        )
        for name, side in (("hpatches", None), ("hpatches-240", 240))
    },
    "flow": Dataset(
        stored_flow_pairs,
        "*/flow.*",
        f"{_IMAGES}, flow.flo, .flo5, .pfm, .npy or .png (16 bits, as KITTI's), and perhaps "
        "valid.png, white where the flow is true",
    ),
    "middlebury-flow": Dataset(
        middlebury_flow_pairs, "*/flow10.flo", "SCENE/frame10.png, frame11.png, flow10.flo"
    ),
    **{
        f"sintel-{rendering}": Dataset(
            partial(sintel_pairs, rendering=rendering),
            "flow/*/frame_*.flo",
            f"the training folder with {rendering}/SCENE/frame_NNNN.png, flow/SCENE/*.flo and "
            "invalid/SCENE/*.png",
        )
        for rendering in ("clean", "final")
    },
    "sintel-sample": Dataset(
        sintel_sample_pairs,
        "*/gt/frame_*.flo",
        "SCENE/frame_NNNN.png and gt/frame_NNNN.flo, gt/invalid/frame_NNNN.png and "
        "gt/occlusions/frame_NNNN.png, which is left out too; as OpenCV's samples have it",
    ),
    **{
        name: Dataset(
            partial(kitti_pairs, images=images),
            "flow_occ/*_10.png",
            f"the training folder with {images}/NNNNNN_10.png, NNNNNN_11.png and "
            "flow_occ/NNNNNN_10.png",
        )
        for name, images in (("kitti-2012", "colored_0"), ("kitti-2015", "image_2"))
    },
    "flow-list": Dataset(
        listed_flow_pairs,
        "pairs.csv",
        "pairs.csv, which begins with source,target,flow or source,target,flow,valid and names "
        "files relative to the folder, a pair a row",
    ),
    "flying-chairs": Dataset(
        flying_chairs_pairs, "data/*_flow.flo", "data/NNNNN_img1.ppm, _img2.ppm and _flow.flo"
    ),
    **{
        f"flying-things-{rendering}": Dataset(
            partial(flying_things_pairs, rendering=rendering),
            "flow/*/into_*/*.flo",
            f"the train or val folder of the subset with image_{rendering}/SIDE/NNNNNNN.png and "
            "flow/SIDE/into_future (and into_past)/NNNNNNN.flo",
        )
        for rendering in ("clean", "final")
    },
    "hd1k": Dataset(
        hd1k_pairs,
        "hd1k_flow_gt/flow_occ/*_*.png",
        "hd1k_input/image_2/SSSSSS_NNNN.png and hd1k_flow_gt/flow_occ/SSSSSS_NNNN.png",
    ),
    "viper": Dataset(
        viper_pairs,
        "flow/*/*_*.npz",
        "the train or val folder with img/SSS/SSS_NNNNN.jpg (or .png) and flow/SSS/SSS_NNNNN.npz",
    ),
    "spring": Dataset(
        spring_pairs,
        "*/flow_?W_*/*.flo5",
        "the train folder with SCENE/frame_SIDE/frame_SIDE_NNNN.png and "
        "SCENE/flow_FW_SIDE/flow_FW_SIDE_NNNN.flo5 (and flow_BW)",
    ),
    "tss": Dataset(
        tss_pairs,
        "*/*/flow[12].flo",
        "FG3DCar, JODS and PASCAL with PAIR/imageN.png, maskN.png, flowN.flo for N of 1 and 2",
    ),
    "middlebury-stereo": Dataset(
        middlebury_stereo_pairs,
        "*/disp2.png",
        "SCENE/im2.png, im6.png, disp2.png (four times the disparity)",
    ),
    "middlebury-2014": Dataset(
        middlebury_2014_pairs, "*/disp0.pfm", "SCENE/im0.png, im1.png, disp0.pfm"
    ),
    "points": Dataset(
        stored_points_pairs,
        "*/points.txt",
        f"{_IMAGES}, points.txt (rows of target x, y, source x, y, and perhaps a weight)",
    ),
    **{
        name: Dataset(
            partial(table_pairs, table=table), table, f"{table}, whose {_ROWS} their matches"
        )
        for name, table in (("megadepth-1600", "test1600Pairs.csv"), ("robotcar", "test6511.csv"))
    },
    **{
        f"eth3d-{interval}": Dataset(
            partial(eth3d_pairs, interval=interval),
            "*/rig_calibration_undistorted/images.txt",
            "SCENE/rig_calibration_undistorted/images.txt and SCENE/images/CAMERA/*.png of the "
            "low-resolution many-view scenes",
        )
        for interval in range(3, 16, 2)
    },
    "cameras": Dataset(
        camera_pairs,
        "*/*.camera.txt",
        "SCENE/VIEW.jpg (or .png) and VIEW.camera.txt (three rows of K, three of R, from camera to "
        "world, and the camera's centre)",
    ),
    **{
        name: Dataset(
            partial(listed_pairs, pairs=pairs), pairs, f"{pairs}, whose {_ROWS} their cameras"
        )
        for name, pairs in (
            ("yfcc100m", "yfcc_test_pairs_with_gt.txt"),
            ("scannet", "scannet_test_pairs_with_gt.txt"),
        )
    },
}

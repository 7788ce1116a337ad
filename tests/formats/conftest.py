"""A scene whose matches are known: views of a wavy surface, without any network."""

from typing import NamedTuple

import numpy as np
import pytest

from tfdense.results.match import Match

_HEIGHT, _WIDTH = 96, 128


class Views(NamedTuple):
    """Views of a surface ``z = height(x, y)`` from above.

    Attributes:
        camera: intrinsic matrix of all.
        rotations: from the world to each camera, [3, 3] each.
        centres: of the cameras in the world, [3] each.
    """

    camera: np.ndarray
    rotations: list
    centres: list

    def match(self, source: int, target: int, noise: float = 0.0, both_ways: bool = False) -> Match:
        """Returns the match of two views, with noise in px; what is not in view is not trusted."""
        random = np.random.default_rng([source, target])
        grid = np.dstack(np.meshgrid(np.arange(_WIDTH), np.arange(_HEIGHT))).astype(float)
        places = self.project(source, self.surface(target, grid))
        inside = ((places >= 0) & (places <= [_WIDTH - 1, _HEIGHT - 1])).all(axis=-1)
        confidence = np.where(inside, random.uniform(0.2, 0.57, inside.shape), 0.01)
        unknown = np.zeros((_HEIGHT, _WIDTH, 1), np.float32)
        return Match(
            flow=(places - grid + random.normal(0, 1, grid.shape) * noise).astype(np.float32),
            confidence=confidence.astype(np.float32),
            log_variance=unknown,
            logits=unknown,
            radius=1.0,
            source=np.full((_HEIGHT, _WIDTH, 3), source, np.uint8),
            target=np.full((_HEIGHT, _WIDTH, 3), target, np.uint8),
            reverse=self.match(target, source, noise) if both_ways else None,
        )

    def surface(self, view: int, pixels: np.ndarray) -> np.ndarray:
        """Returns the point of the world that a view shows at pixels (x, y), [..., 3]."""
        rays = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
        rays = rays @ np.linalg.inv(self.camera).T @ self.rotations[view]
        depth = np.full(pixels.shape[:-1], 5.0)
        for _ in range(30):
            point = self.centres[view] + depth[..., None] * rays
            depth = depth + (_height(point) - point[..., 2]) / rays[..., 2]
        return self.centres[view] + depth[..., None] * rays

    def project(self, view: int, points: np.ndarray) -> np.ndarray:
        """Returns where a view shows points of the world, (x, y) [..., 2]."""
        seen = (points - self.centres[view]) @ self.rotations[view].T @ self.camera.T
        return seen[..., :2] / seen[..., 2:]


def _height(points: np.ndarray) -> np.ndarray:
    x, y, _ = np.moveaxis(points, -1, 0)
    return 5 + 0.4 * np.sin(1.7 * x) * np.cos(1.3 * y) + 0.2 * np.sin(3 * x + 1)


@pytest.fixture(scope="session")
def views() -> Views:
    """Four views along an arc, which look at the middle."""
    rotations, centres = [], []
    for x, y in ((-1.2, 0.3), (-0.4, -0.2), (0.4, 0.1), (1.2, -0.3)):
        centre = np.array([x, y, 0.1 * x])
        forward = np.array([0, 0, 5.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross([0, 1.0, 0], forward)
        right /= np.linalg.norm(right)
        rotations.append(np.stack([right, np.cross(forward, right), forward]))
        centres.append(centre)
    camera = np.array([[140.0, 0, 63.5], [0, 140, 47.5], [0, 0, 1]])
    return Views(camera, rotations, centres)

"""Runs shown in trackers while they go on: TensorBoard, MLflow, Weights & Biases."""

from analysis.following.loop import TRACKERS as TRACKERS, connect as connect, follow as follow
from analysis.following.runs import labels_of as labels_of, snapshots as snapshots
from analysis.following.tensorboard import EVENTS as EVENTS, TensorBoard as TensorBoard

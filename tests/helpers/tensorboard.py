"""What TensorBoard shows."""

import json

from tests.contracts.logger import Logged


def read_events(folder):
    """Through TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    size = {"scalars": 0, "images": 0, "tensors": 0}
    found = EventAccumulator(str(folder), size_guidance=size).Reload()
    tags = found.Tags()
    configs = [found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"] if tag == "config"]
    return Logged(
        {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags["scalars"]},
        {(tag, event.step): event.encoded_image_string for tag in tags["images"] for event in found.Images(tag)},
        json.loads(configs[0].removeprefix("```json\n").removesuffix("\n```")) if configs else None,
    )

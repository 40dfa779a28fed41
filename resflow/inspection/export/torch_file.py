"""A trained network in PyTorch: what torchvision calls it, and a module of its own that loads its safetensors file."""

from __future__ import annotations

from math import ceil

from resflow import __version__, architectures
from resflow.architectures import Architecture, Block, blocks
from resflow.inspection.export.rendering import render
from resflow.weights.description import TrainedNetwork

FAMILY = "imagenet"  # torchvision's


def torchvision_name(network: TrainedNetwork) -> str | None:
    """Return what torchvision and timm call a network, such as resnet50; None where they have no such one."""
    arch = network.architecture
    if arch.family != FAMILY:
        return None
    basic = architectures.stages(arch.family, arch.depth)[0] == "basic"
    variant = "v1" if basic and arch.variant == "v1" else "v1.5"  # one network of basic blocks under two names
    public = Architecture(FAMILY, arch.depth, "projection", variant, 1.0, "imagenet", arch.zero_gamma)
    is_public = arch == public and network.head.pooling == "gap" and not network.head.hidden
    return f"resnet{arch.depth}" if is_public else None


def write_definition(network: TrainedNetwork) -> str:
    """Write the network as a PyTorch module that loads model.safetensors and takes pixels of 0..255."""
    arch, head = network.architecture, network.head
    first_blocks = [block for block in blocks(arch) if block.name.endswith("_block1")]
    _, counts = architectures.stages(arch.family, arch.depth)
    stages = [
        (block.convs[0].inputs, block.convs[0].outputs, count, block.stride)
        for block, count in zip(first_blocks, counts, strict=True)
    ]
    stem, convs = architectures.stem_conv(arch), _write_convs(first_blocks[-1])
    channels = architectures.feature_channels(arch)
    pixels = architectures.map_size(arch, network.image_size) ** 2 if head.pooling == "flatten" else 1
    return render(
        "model.py.j2",
        version=__version__,
        arch=arch,
        head=head,
        size=network.image_size,
        classes=len(network.classes),
        mean=network.normalisation.mean,
        deviation=network.normalisation.deviation,
        stem=stem,
        pool_before=architectures.pool_padding(arch.stem_pool, ceil(network.image_size / stem.stride)),
        stages=stages,
        convs=convs,
        outputs=convs[-1][1],
        channels=channels,
        features=channels * pixels,
    )


def _write_convs(block: Block) -> list[tuple[str, str, int, str]]:
    """Write the convolutions of a block in terms of what a block is made with: inputs, outputs, kernel, stride.

    The block is the first of the last stage, whose inputs, filters and outputs are different numbers.
    """
    inputs, filters = block.convs[0].inputs, block.convs[0].outputs
    expansion = architectures.BOTTLENECK_EXPANSION
    words = {inputs: "inputs", filters: "filters", expansion * filters: f"{expansion} * filters"}
    return [
        (words[conv.inputs], words[conv.outputs], conv.kernel, "stride" if conv.stride > 1 else "1")
        for conv in block.convs
    ]

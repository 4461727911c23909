"""Module paths of ours -> those of the code that came with a paper, as data (see torchvision.py)."""

from __future__ import annotations

Rules = tuple[tuple[str, str], ...]

# sun-umn/TTL, utils/CBR.py
CBR: Rules = (
    (r"stage(\d+)/conv", "CBR{1}.conv"),
    (r"stage(\d+)/norm", "CBR{1}.bn"),
    (r"head", "fc"),
)

# timm's resnetv2_50x1_bit and resnetv2_50x3_bit (once called ..._bitm)
BIT: Rules = (
    (r"stem/conv", "stem.conv"),
    (r"stage(\d+)/block(\d+)/(conv|norm)(\d)", "stages.{1-1}.blocks.{2-1}.{3}{4}"),
    (r"stage(\d+)/block(\d+)/shortcut", "stages.{1-1}.blocks.{2-1}.downsample.conv"),
    (r"norm", "norm"),
    (r"head", "head.fc"),
)

# openai/CLIP, clip/model.py. The tower has no classifier: "fc" is our name for a linear probe on it.
CLIP: Rules = (
    (r"stem/conv(\d)", "visual.conv{1}"),
    (r"stem/norm(\d)", "visual.bn{1}"),
    (r"stage(\d+)/block(\d+)/conv(\d)", "visual.layer{1}.{2-1}.conv{3}"),
    (r"stage(\d+)/block(\d+)/norm(\d)", "visual.layer{1}.{2-1}.bn{3}"),
    (r"stage(\d+)/block(\d+)/shortcut/conv", "visual.layer{1}.{2-1}.downsample.0"),
    (r"stage(\d+)/block(\d+)/shortcut/norm", "visual.layer{1}.{2-1}.downsample.1"),
    (r"attention", "visual.attnpool"),
    (r"attention/query", "visual.attnpool.q_proj"),
    (r"attention/key", "visual.attnpool.k_proj"),
    (r"attention/value", "visual.attnpool.v_proj"),
    (r"attention/out", "visual.attnpool.c_proj"),
    (r"head", "fc"),
)

# marshuang80/penet, models/penet_classifier.py
PENET: Rules = (
    (r"stem/conv", "in_conv.0"),
    (r"stem/norm", "in_conv.1"),
    (r"stage(\d+)/block(\d+)/(conv|norm)(\d)", "encoders.{1-1}.penet_blocks.{2-1}.{3}{4}"),
    (r"stage(\d+)/block(\d+)/shortcut/conv", "encoders.{1-1}.penet_blocks.{2-1}.down_sample.0"),
    (r"stage(\d+)/block(\d+)/shortcut/norm", "encoders.{1-1}.penet_blocks.{2-1}.down_sample.1"),
    (r"stage(\d+)/block(\d+)/squeeze_excite/reduce", "encoders.{1-1}.penet_blocks.{2-1}.se_block.excite.0"),
    (r"stage(\d+)/block(\d+)/squeeze_excite/expand", "encoders.{1-1}.penet_blocks.{2-1}.se_block.excite.2"),
    (r"head", "classifier.fc"),
)

PAPERS: dict[str, Rules] = {
    **dict.fromkeys(("cbr_larget", "cbr_largew", "cbr_small", "cbr_tiny"), CBR),
    **dict.fromkeys(("bit_r50x1", "bit_r50x3"), BIT),
    "clip_resnet50": CLIP,
    "penet": PENET,
}
